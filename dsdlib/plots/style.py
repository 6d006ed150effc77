"""A tidy table → one figure. ``ax=None`` in, axes out; nothing is computed here but means and intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter

INK, MUTED = "#22262b", "#6b7280"


PALETTE = "flare"


MARKERS = ("o", "D", "^", "P")


PHASE_COLOURS = {"light": "#ffffff", "critical": "#fbe6df", "sweet": "#e0f2e5", "collapsed": "#eeeff1"}


TEST, TRAIN = "#c2452d", "#3b6ea5"


PARTS = {"test_accuracy": ("Test", TEST, "-"), "train_accuracy": ("Train (noisy labels)", TRAIN, "--")}


MEMORISED = {
    "train_accuracy_clean": ("Clean labels, learned", TRAIN, "-"),
    "train_accuracy_corrupted": ("Corrupted labels, memorised", TEST, "-"),
}


TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


FEW_TICKS = (0, 0.8, 0.95, 0.99, 0.998, 0.9998)


def interval(values: pd.Series) -> np.ndarray:
    """Both ends of the 95% bootstrap interval of a mean. The very resamples of seaborn's own, all drawn at once."""
    chosen = np.random.default_rng(0).integers(len(values), size=(1000, len(values)))
    return np.percentile(values.to_numpy()[chosen].mean(axis=1), [2.5, 97.5])


# Means with their 95% intervals as bars: the style of points at a few places.
MEANS = {"marker": "o", "errorbar": interval, "err_style": "bars", "err_kws": {"capsize": 3, "lw": 1}}


def set_theme() -> None:
    """The study's look, for all figures of a notebook."""
    sns.set_theme(
        context="notebook",
        style="ticks",
        rc={
            "figure.figsize": (8, 4.8),
            "figure.constrained_layout.use": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.edgecolor": MUTED,
            "axes.labelcolor": INK,
            "axes.titlelocation": "left",
            "axes.titleweight": "bold",
            "text.color": INK,
            "xtick.color": MUTED,
            "ytick.color": MUTED,
            "grid.color": "#eceef0",
            "axes.grid": True,
            "axes.axisbelow": True,
            "legend.frameon": False,
            "lines.linewidth": 2,
        },
    )


def sparsity_axis(ax: Axes, sparsest: float, ticks: Sequence[float] = TICKS) -> None:
    """Sparsity in percent, spread out where the weights run out: even steps of pruning are even on the axis."""
    ax.set_xscale("function", functions=(lambda s: -np.log1p(-np.minimum(s, 1 - 1e-9)), lambda t: -np.expm1(-t)))
    ax.set_xlim(0, sparsest or 0.5)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in ticks if tick <= sparsest]))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{100 * s:g}"))
    ax.set_xlabel("Sparsity (% of prunable weights that are zero)")


def weights_axis(ax: Axes) -> None:
    """Remaining weights, fewer to the right: networks of different sizes on one axis."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    ax.set_xlabel("Prunable weights left")


def measure_axis(ax: Axes, label: str = "Accuracy (%)") -> None:
    """The y axis; fractions whose unit is % or points are shown in hundredths."""
    if label.endswith(("(%)", "(points)")):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{100 * fraction:g}"))
    ax.set_ylabel(label)


def is_ordered(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def reach(values: pd.Series) -> np.ndarray:
    """From the mean down and up to the ends of its 95% interval, (2, 1)."""
    return np.abs(interval(values) - values.mean()).reshape(2, 1)


def shades(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name: ink for the first, a shade of one colour for each of the others."""
    return dict(zip(names, [INK, *sns.color_palette(PALETTE, len(names) - 1).as_hex()], strict=True))


ESTIMATORS = {
    "dense": MUTED,
    "magnitude": TEST,
    "magnitude, retrained": "#e8a08f",
    "Hessian": TRAIN,
    "Hessian, retrained": "#93b7dc",
    "oracle": "#3f8f6b",
    "informative features only": "#7d4f9e",
    "as few features": "#7d4f9e",
}
