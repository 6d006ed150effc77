"""A tidy table → one figure. ``ax=None`` in, axes out; nothing is computed here but means and intervals."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from dsdlib.curves import CLEAR

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
            errorbar=interval,
            ax=ax,
        )
    sparsity_axis(ax, table["sparsity"].max())
    ax.margins(y=0.1)  # room for a name below the lowest point
    measure_axis(ax)
    return ax


def curves(
    table: pd.DataFrame,
    hue: str,
    measure: str = "test_accuracy",
    label: str = "Test accuracy (%)",
    x: str = "sparsity",
    ax: Axes | None = None,
) -> Axes:
    """One measure against ``sparsity`` or ``remaining_weights``, a curve for each value of ``hue``, mean and 95%
    interval over seeds. Numbers get shades of one colour, names a colour each."""
    ax = ax or plt.subplots()[1]
    palette = sns.color_palette(PALETTE if _ordered(table[hue]) else "deep", table[hue].nunique())
    sns.lineplot(table, x=x, y=measure, hue=hue, palette=palette, errorbar=interval, ax=ax)
    title = hue.replace("_", " ").capitalize()
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=title, alignment="left")
    if x == "sparsity":
        sparsity_axis(ax, table["sparsity"].max())
    else:
        weights_axis(ax)
    measure_axis(ax, label)
    return ax


def _ordered(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column)


def depths(
    valleys: pd.DataFrame, x: str, hue: str | None = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Depth of the valley, with its interval, for each value of ``x``; a line for each value of ``hue``."""
    ax = ax or plt.subplots()[1]
    values = sorted(valleys[x].unique()) if _ordered(valleys[x]) else list(valleys[x].unique())
    groups = list(valleys.groupby(hue, sort=False)) if hue else [(None, valleys)]
    for (value, group), colour in zip(groups, sns.color_palette(PALETTE, len(groups)), strict=True):
        at = [values.index(v) for v in group[x]]
        bars = np.abs(group[["low", "high"]].to_numpy().T - group["depth"].to_numpy())
        style = "o-" if _ordered(valleys[x]) else "o"
        ax.errorbar(at, group["depth"], bars, fmt=style, capsize=4, color=colour, label=value)
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    ax.set_xticks(range(len(values)), names, **({} if _ordered(valleys[x]) else {"rotation": 30, "ha": "right"}))
    ax.set_xlabel(x.replace("_", " ").capitalize() if label is None else label)
    measure_axis(ax, "Depth of the valley (points)")
    ax.axhline(0, color=MUTED, lw=1)
    if hue:
        ax.legend(title=hue.replace("_", " ").capitalize())
    return ax


def places(valleys: pd.DataFrame, x: str, ax: Axes | None = None) -> Axes:
    """Where the mean curve's valley and second peak lie, for each value of ``x`` whose valley is clear."""
    ax = ax or plt.subplots()[1]
    values = sorted(valleys[x].unique())
    at = [values.index(v) for v in valleys[x]]
    for name, label, colour in (("bottom", "Valley", TEST), ("peak", "Second peak", TRAIN)):
        ax.plot(at, 100 * valleys[f"{name}_sparsity"].where(valleys["depth"] > CLEAR), "o-", color=colour, label=label)
    ax.set_xticks(range(len(values)), [str(value) for value in values])
    ax.set_xlabel(x.replace("_", " ").capitalize())
    ax.set_ylabel("Sparsity (%)")
    ax.legend()
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
    ax.set_yticks(range(len(values)), [f"{100 * v:g}%" if isinstance(v, float) else str(v) for v in values])
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


def beside(ax: Axes, points: pd.DataFrame, colours: dict[str, str], x: str = "sparsity") -> None:
    """A published curve's points (`dsdlib.published.figure`) over ours, hollow, with their reading errors; ``colours``
    maps each series that is drawn to its colour, ``x`` is the points' axis."""
    for series, colour in colours.items():
        part = points[points["series"] == series]
        style = {"fmt": "o", "mfc": "white", "ms": 5, "lw": 1, "capsize": 2, "zorder": 4}
        ax.errorbar(part[x], part["value"], part["reading_error"], color=colour, label=f"Published: {series}", **style)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def entropies(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The mean entropy of each layer's neurons against sparsity, and the mean of the layers, over seeds."""
    layers = [column for column in table if column.removeprefix("entropy_").isdigit()]
    tidy = table[["sparsity", *layers]].melt("sparsity", var_name="Layer", value_name="entropy")
    tidy["Layer"] = tidy["Layer"].str.removeprefix("entropy_").astype(int)
    mean = table.groupby("sparsity")["entropy"].mean()
    ax = ax or plt.subplots()[1]
    ax.plot(mean.index, mean, color=INK, linestyle="--", label="mean")
    return curves(tidy, "Layer", "entropy", "Entropy of the neurons (bits)", ax=ax)


def stops(outcomes: pd.DataFrame, hue: str, ax: Axes | None = None) -> Axes:
    """Test accuracy against the training paid for it, where each rule stops: a colour for each value of ``hue``, a
    marker a rule, mean and 95% interval over seeds in both directions."""
    ax = ax or plt.subplots()[1]
    series, rules = outcomes[hue].unique(), outcomes["rule"].unique()
    colours = dict(zip(series, sns.color_palette("deep", len(series)), strict=True))
    for (value, rule), part in outcomes.groupby([hue, "rule"], sort=False):
        flops, accuracy = part["train_flops"], part["test_accuracy"]
        style = {"fmt": MARKERS[list(rules).index(rule)], "color": colours[value], "ms": 9, "lw": 1, "mec": "white"}
        ax.errorbar(flops.mean(), accuracy.mean(), _reach(accuracy), _reach(flops), **style)
    ax.plot([], [], " ", label=hue)
    for name, colour in colours.items():
        ax.plot([], [], "s", color=colour, label=str(name))
    ax.plot([], [], " ", label="Rule")
    for rule, marker in zip(rules, MARKERS, strict=False):
        ax.plot([], [], marker, color=MUTED, label=rule)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter("FLOP"))
    ax.set_xlabel("Training up to the stop")
    measure_axis(ax, "Test accuracy (%)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def stops_beside(ax: Axes, points: pd.DataFrame) -> None:
    """Published stops (`dsdlib.published.figure` with the axis ``train_pflops``) over ours, hollow and named."""
    ax.plot(1e15 * points["train_pflops"], points["value"], "o", mfc="white", color=INK, ms=9, label="Published")
    for point in points.itertuples():
        where = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "size": "small"}
        ax.annotate(point.series, (1e15 * point.train_pflops, point.value), **where)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))


def against(
    table: pd.DataFrame, x: str, y: str, hue: str | None, xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:
    """A measure at a few values of ``x``, a line for each value of ``hue``, mean and 95% interval over the rest."""
    ax = ax or plt.subplots()[1]
    if hue is None:
        sns.lineplot(table, x=x, y=y, color=TRAIN, ax=ax, **MEANS)
    else:
        palette = sns.color_palette(PALETTE if _ordered(table[hue]) else "deep", table[hue].nunique())
        sns.lineplot(table, x=x, y=y, hue=hue, palette=palette, ax=ax, **MEANS)
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=hue, alignment="left")
    ax.set_xlabel(xlabel)
    measure_axis(ax, ylabel)
    return ax


def lines(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """A measure along a dense ``x``, a line for each value of ``hue``, mean and 95% interval over the rest."""
    ax = ax or plt.subplots()[1]
    palette = sns.color_palette(PALETTE if _ordered(table[hue]) else "deep", table[hue].nunique())
    sns.lineplot(table, x=x, y=y, hue=hue, palette=palette, errorbar=interval, ax=ax)
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=hue, alignment="left")
    ax.set_xlabel(xlabel)
    measure_axis(ax, ylabel)
    return ax


def timings(
    table: pd.DataFrame, x: str, y: str, hue: str | None, xlabel: str, unit: str, ax: Axes | None = None
) -> Axes:
    """The same for seconds or rates, in ``unit`` with its prefix, over sizes or densities that grow by factors."""
    ax = against(table, x, y, hue, xlabel, {"s": "Seconds a run and epoch"}.get(unit, unit), ax)
    values = sorted(table[x].unique())
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_major_formatter(EngFormatter(unit))
    ax.set_ylim(bottom=0)
    return ax


def _reach(values: pd.Series) -> np.ndarray:
    """From the mean down and up to the ends of its 95% interval, (2, 1)."""
    return np.abs(interval(values) - values.mean()).reshape(2, 1)


def shades(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name: ink for the first, a shade of one colour for each of the others."""
    return dict(zip(names, [INK, *sns.color_palette(PALETTE, len(names) - 1).as_hex()], strict=True))


def widths(
    table: pd.DataFrame,
    colours: dict[str, str],
    measure: str = "test_error",
    label: str = "Test error (%)",
    ax: Axes | None = None,
) -> Axes:
    """A measure against ``width``, mean and 95% interval over seeds: a line for each ``series`` of the table that
    ``colours`` names."""
    ax = ax or plt.subplots()[1]
    for series, colour in colours.items():
        part = table[table["series"] == series]
        sns.lineplot(part, x="width", y=measure, label=series, color=colour, ax=ax, **MEANS)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda width, _: f"{width:g}"))
    ax.set_xlabel("Width of the dense network")
    measure_axis(ax, label)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def mark_width(ax: Axes, width: float, text: str) -> None:
    """A width, as a line across the figure, named at its top."""
    ax.axvline(width, color=MUTED, lw=1, ls=":", zorder=0)
    ax.text(width, 1.01, text, transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=MUTED)


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


def risks(
    theory: pd.DataFrame,
    simulated: pd.DataFrame,
    x: str,
    xlabel: str,
    hue: str = "estimator",
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Test ``risk`` against ``x``, a colour for each value of ``hue`` (those in ``names``, else all that were
    simulated): theory as a line, simulation as points with 95% intervals over repeats. Without theory, dots join the
    points; a risk that does not vary with ``x`` has a band. Against ``ratio`` (p/n), lines break at the interpolation
    threshold, which is marked."""
    ax = ax or plt.subplots()[1]
    names = list(names or dict.fromkeys(simulated[hue]))
    for name, shade in zip(names, sns.color_palette(PALETTE, len(names)), strict=True):
        colour = ESTIMATORS.get(name, shade)
        line, points = (table[table[hue] == name].sort_values(x) for table in (theory, simulated))
        flat = points.groupby("repeat")["risk"].nunique().max() == 1
        style, joined = "" if flat else "o", ":" if line.empty else "-"
        for part in [line] if flat else _sides(line, x):
            ax.plot(part[x], part["risk"], color=colour, lw=1.8)
        for part in [points] if flat else _sides(points, x):
            _simulated(part, x, colour, style, joined if joined == ":" else "", ax)
        label = name[0].upper() + name[1:] if isinstance(name, str) else f"{name:g}"
        ax.plot([], [], style + joined, color=colour, ms=5, lw=1.8, label=label)
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda risk, _: f"{risk:g}"))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    if x == "ratio":
        _ratio_axis(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Test risk")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def _sides(table: pd.DataFrame, x: str) -> list[pd.DataFrame]:
    """What lies left and right of p = n, where ``x`` is p/n."""
    return [table[table[x] < 1], table[table[x] > 1]] if x == "ratio" else [table]


def _simulated(points: pd.DataFrame, x: str, colour: str, marker: str, join: str, ax: Axes) -> None:
    style = {"color": colour, "marker": marker, "ls": join, "ms": 5, "mew": 0, "lw": 1, "errorbar": interval}
    bars = {"err_style": "bars", "err_kws": {"lw": 1}} if marker else {"err_style": "band"}
    sns.lineplot(points, x=x, y="risk", legend=False, ax=ax, **style, **bars)


def _ratio_axis(ax: Axes) -> None:
    """p/n, by factors, with the interpolation threshold p = n."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([0.2, 0.5, 1, 2, 5, 10, 20]))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    ax.axvline(1, color=MUTED, lw=1.2, ls="--", zorder=1)
    ax.text(1, 1.01, "p = n", transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=MUTED)


def advantages(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Where pruning a large fit beats the small model, from `dsdlib.theory.advantage`: a filled map over the features
    kept and seen for each sample, with the border where both are equal."""
    ax = ax or plt.subplots()[1]
    values = table.pivot(index="ratio", columns="kept_ratio", values="advantage")
    levels = np.linspace(-2, 2, 33)
    filled = ax.contourf(values.columns, values.index, values, levels, cmap="RdBu", extend="both")
    border = ax.contour(values.columns, values.index, values, [0], colors=INK, linewidths=1.8)
    ax.clabel(border, fmt={0: "equal"}, fontsize="small")
    bar = ax.figure.colorbar(filled, ax=ax, ticks=[-2, -1, 0, 1, 2], label="Small model's risk over the pruned fit's")
    bar.ax.set_yticklabels(["¼", "½", "1", "2", "4"])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20]))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda ratio, _: f"{ratio:g}"))
    ax.set_xlabel("Features kept for each sample, s/n")
    ax.set_ylabel("Features seen for each sample, p/n")
    ax.grid(False)
    return ax


def agreement(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """`against` for the ``distance`` of theory and simulation over the number of ``features``, by factors on both axes,
    in each estimator's own colour."""
    ax = ax or plt.subplots()[1]
    for name, part in table.groupby("estimator", sort=False):
        style = {"marker": "o", "mew": 0, "errorbar": interval, "err_style": "bars", "err_kws": {"lw": 1}}
        label, colour = name[0].upper() + name[1:], ESTIMATORS[name]
        sns.lineplot(part, x="features", y="distance", color=colour, label=label, ax=ax, **style)
    ax.set(xscale="log", yscale="log", xlabel="Features p")
    ax.xaxis.set_major_locator(FixedLocator(sorted(table["features"].unique())))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda features, _: f"{features:g}"))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_minor_locator(FixedLocator([]))
    measure_axis(ax, "Distance from theory (%)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax
