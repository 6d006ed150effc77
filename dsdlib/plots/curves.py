"""A tidy table → one figure. ``ax=None`` in, axes out; nothing is computed here but means and intervals."""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, MaxNLocator

from dsdlib.analysis.curves import CLEAR
from dsdlib.plots.style import (
    INK,
    MARKERS,
    MEANS,
    MUTED,
    PALETTE,
    PARTS,
    PHASE_COLOURS,
    TEST,
    TRAIN,
    interval,
    is_ordered,
    measure_axis,
    reach,
    sparsity_axis,
    weights_axis,
)


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
    palette = sns.color_palette(PALETTE if is_ordered(table[hue]) else "deep", table[hue].nunique())
    sns.lineplot(table, x=x, y=measure, hue=hue, palette=palette, errorbar=interval, ax=ax)
    title = hue.replace("_", " ").capitalize()
    sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=title, alignment="left")
    if x == "sparsity":
        sparsity_axis(ax, table["sparsity"].max())
    else:
        weights_axis(ax)
    measure_axis(ax, label)
    return ax


def depths(
    valleys: pd.DataFrame, x: str, hue: str | None = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """Depth of the valley, with its interval, for each value of ``x``; a line for each value of ``hue``."""
    ax = ax or plt.subplots()[1]
    values = sorted(valleys[x].unique()) if is_ordered(valleys[x]) else list(valleys[x].unique())
    groups = list(valleys.groupby(hue, sort=False)) if hue else [(None, valleys)]
    for (value, group), colour in zip(groups, sns.color_palette(PALETTE, len(groups)), strict=True):
        at = [values.index(v) for v in group[x]]
        bars = np.abs(group[["low", "high"]].to_numpy().T - group["depth"].to_numpy())
        style = "o-" if is_ordered(valleys[x]) else "o"
        ax.errorbar(at, group["depth"], bars, fmt=style, capsize=4, color=colour, label=value)
    names = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
    ax.set_xticks(range(len(values)), names, **({} if is_ordered(valleys[x]) else {"rotation": 30, "ha": "right"}))
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
        ax.errorbar(flops.mean(), accuracy.mean(), reach(accuracy), reach(flops), **style)
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
        palette = sns.color_palette(PALETTE if is_ordered(table[hue]) else "deep", table[hue].nunique())
        sns.lineplot(table, x=x, y=y, hue=hue, palette=palette, ax=ax, **MEANS)
        sns.move_legend(ax, "upper left", bbox_to_anchor=(1, 1), title=hue, alignment="left")
    ax.set_xlabel(xlabel)
    measure_axis(ax, ylabel)
    return ax


def lines(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """A measure along a dense ``x``, a line for each value of ``hue``, mean and 95% interval over the rest."""
    ax = ax or plt.subplots()[1]
    palette = sns.color_palette(PALETTE if is_ordered(table[hue]) else "deep", table[hue].nunique())
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
