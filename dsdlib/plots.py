"""A tidy table → one figure. ``ax=None`` in, axes out; nothing is computed here but means and intervals."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, PercentFormatter

INK, MUTED = "#22262b", "#6b7280"
PALETTE = "flare"
PHASE_COLOURS = {"light": "#ffffff", "critical": "#fbe6df", "sweet": "#e0f2e5", "collapsed": "#eeeff1"}
PARTS = {"test_accuracy": ("Test", "#c2452d", "-"), "train_accuracy": ("Train (noisy labels)", "#3b6ea5", "--")}
MEMORISED = {
    "train_accuracy_clean": ("Clean labels, learned", "#3b6ea5", "-"),
    "train_accuracy_corrupted": ("Corrupted labels, memorised", "#c2452d", "-"),
}
TICKS = (0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9998, 0.9999)


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


def sparsity_axis(ax: Axes, sparsest: float) -> None:
    """Sparsity in percent, spread out where the weights run out: even steps of pruning are even on the axis."""
    ax.set_xscale("function", functions=(lambda s: -np.log1p(-np.minimum(s, 1 - 1e-9)), lambda t: -np.expm1(-t)))
    ax.set_xlim(0, sparsest)
    ax.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if tick <= sparsest]))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{100 * s:g}"))
    ax.set_xlabel("Sparsity (% of prunable weights that are zero)")


def accuracy_axis(ax: Axes, label: str = "Accuracy (%)") -> None:
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, symbol=""))
    ax.set_ylabel(label)


def parts(table: pd.DataFrame, series: dict[str, tuple[str, str, str]] = PARTS, ax: Axes | None = None) -> Axes:
    """Several measures of runs that differ in their seed alone, against sparsity, mean and 95% interval over seeds.

    ``series`` maps a column to its label, colour and line style.
    """
    ax = ax or plt.subplots()[1]
    for column, (label, colour, style) in series.items():
        sns.lineplot(
            table,
            x="sparsity",
            y=column,
            label=label,
            color=colour,
            linestyle=style,
            errorbar=("ci", 95),
            seed=0,
            ax=ax,
        )
    sparsity_axis(ax, table["sparsity"].max())
    accuracy_axis(ax)
    return ax


def curves(
    table: pd.DataFrame,
    hue: str,
    measure: str = "test_accuracy",
    label: str = "Test accuracy (%)",
    ax: Axes | None = None,
) -> Axes:
    """One measure against sparsity, a curve for each value of ``hue``, mean and 95% interval over seeds.

    Numbers get shades of one colour, names a colour each.
    """
    ax = ax or plt.subplots()[1]
    ordered = pd.api.types.is_numeric_dtype(table[hue])
    palette = sns.color_palette(PALETTE if ordered else "deep", table[hue].nunique())
    sns.lineplot(table, x="sparsity", y=measure, hue=hue, palette=palette, errorbar=("ci", 95), seed=0, ax=ax)
    title = hue.replace("_", " ").capitalize()
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=title, alignment="left")
    sparsity_axis(ax, table["sparsity"].max())
    accuracy_axis(ax, label)
    return ax


def depths(valleys: pd.DataFrame, x: str, hue: str | None = None, label: str = "", ax: Axes | None = None) -> Axes:
    """Depth of the valley, with its interval, for each value of ``x``; a line for each value of ``hue``."""
    ax = ax or plt.subplots()[1]
    values = sorted(valleys[x].unique())
    groups = list(valleys.groupby(hue)) if hue else [(None, valleys)]
    for (value, group), colour in zip(groups, sns.color_palette(PALETTE, len(groups)), strict=True):
        at = [values.index(v) for v in group[x]]
        bars = np.abs(group[["low", "high"]].to_numpy().T - group["depth"].to_numpy())
        ax.errorbar(at, group["depth"], bars, fmt="o-", capsize=4, color=colour, label=value)
    ax.set_xticks(range(len(values)), [f"{v:g}" if isinstance(v, float) else str(v) for v in values])
    ax.set_xlabel(label or x)
    accuracy_axis(ax, "Depth of the valley (points)")
    ax.axhline(0, color=MUTED, lw=1)
    if hue:
        ax.legend(title=hue.replace("_", " ").capitalize())
    return ax


def phase_map(phases: pd.DataFrame, by: str, label: str, ax: Axes | None = None) -> Axes:
    """A bar along the sparsity axis for each value of ``by``, coloured by phase; ``phases`` is a `phase_table`."""
    ax = ax or plt.subplots()[1]
    values = sorted(phases[by].unique())
    for phase, colour in PHASE_COLOURS.items():
        part = phases[phases["phase"] == phase]
        at = [values.index(value) for value in part[by]]
        ax.barh(at, part["ends"] - part["begins"], left=part["begins"], color=colour, ec=MUTED, label=phase, lw=0.6)
    sparsity_axis(ax, phases["ends"].max())
    ax.set_yticks(range(len(values)), [f"{v:.0%}" if isinstance(v, float) else str(v) for v in values])
    ax.set_ylabel(label)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(PHASE_COLOURS))
    return ax


def shade_phases(ax: Axes, sparsities: Sequence[float], phases: Sequence[str]) -> None:
    """The rounds' phases as shaded bands, named at the top."""
    edges = [
        0,
        *(1 - np.sqrt((1 - a) * (1 - b)) for a, b in pairwise(sparsities)),
        sparsities[-1],
    ]
    for phase, colour in PHASE_COLOURS.items():
        rounds = [r for r, name in enumerate(phases) if name == phase]
        if not rounds:
            continue
        low, high = edges[rounds[0]], edges[rounds[-1] + 1]
        ax.axvspan(low, high, color=colour, zorder=-1, lw=0)
        middle = 1 - np.sqrt((1 - low) * (1 - high))
        ax.text(middle, 1.01, phase, transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=MUTED)


def mark(ax: Axes, sparsity: float, accuracy: float, text: str, above: bool) -> None:
    """A point of a curve, named beside it."""
    ax.plot(sparsity, accuracy, "o", color=INK, ms=6, zorder=5)
    ax.annotate(
        text,
        (sparsity, accuracy),
        xytext=(0, 14 if above else -14),
        textcoords="offset points",
        ha="center",
        va="bottom" if above else "top",
        weight="bold",
    )
