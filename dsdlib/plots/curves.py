"""Measures against sparsity: mean curves, their phases, and published points over them."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from dsdlib.plots.axes import axes, draw_by, draw_means, legend_right, measure_axis, sparsity_axis, weights_axis
from dsdlib.plots.data import record
from dsdlib.plots.series import DASHED, PARTS, SeriesStyle, series_style
from dsdlib.plots.style import INK, MUTED, PHASE_COLOURS


def parts(table: pd.DataFrame, series: dict[str, SeriesStyle] = PARTS, ax: Axes | None = None) -> Axes:
    """Several measures of runs that differ only in their seed, against sparsity: means and 95% intervals over seeds.

    ``series`` maps each column that is drawn to its style.
    """
    ax = axes(ax)
    draw_means(ax, [(table, "sparsity", column, own) for column, own in series.items()])
    sparsity_axis(ax, table["sparsity"].max())
    ax.margins(y=0.1)  # room for a name below the lowest point
    measure_axis(ax)
    ax.legend()
    return ax


def curves(
    table: pd.DataFrame,
    hue: str,
    measure: str = "test_accuracy",
    label: str = "Test accuracy (%)",
    x: str = "sparsity",
    ax: Axes | None = None,
) -> Axes:
    """A measure against ``sparsity`` or ``remaining_weights``, a curve for each value of the column ``hue``.

    Curves are means with 95% intervals over seeds. A series of `dsdlib.plots.SERIES` has the same name and style in
    every figure; numbers have shades of one colour.
    """
    ax = axes(ax)
    draw_by(ax, table, x, measure, hue)
    if x == "sparsity":
        sparsity_axis(ax, table["sparsity"].max())
    else:
        weights_axis(ax)
    measure_axis(ax, label)
    return ax


def entropies(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The mean entropy of each layer's neurons against sparsity, and the mean over layers as a dashed line."""
    layers = [column for column in table if column.removeprefix("entropy_").isdigit()]
    tidy = table[["sparsity", "seed", *layers]].melt(["sparsity", "seed"], var_name="Layer", value_name="entropy")
    tidy["Layer"] = tidy["Layer"].str.removeprefix("entropy_").astype(int)
    mean = table.groupby("sparsity")["entropy"].mean()
    ax = axes(ax)
    record(ax, mean.rename("mean").reset_index(), series="mean", measure="entropy")
    ax.plot(mean.index, mean, color=INK, linestyle=DASHED, label="mean")
    return curves(tidy, "Layer", "entropy", "Entropy of the neurons (bits)", ax=ax)


def phase_spans(sparsities: Sequence[float], phases: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """The sparsities at which each phase begins and ends, and its middle. Borders lie half way between rounds, as
    distances are on `sparsity_axis`."""
    edges = [0, *(1 - np.sqrt((1 - a) * (1 - b)) for a, b in pairwise(sparsities)), sparsities[-1]]
    spans = {}
    for phase in dict.fromkeys(phases):
        rounds = [r for r, name in enumerate(phases) if name == phase]
        low, high = edges[rounds[0]], edges[rounds[-1] + 1]
        spans[phase] = low, high, 1 - np.sqrt((1 - low) * (1 - high))
    return spans


def shade_phases(ax: Axes, sparsities: Sequence[float], phases: Sequence[str]) -> None:
    """Shade the phases of the rounds as bands across the axes, and name them at the top."""
    for phase, (low, high, middle) in phase_spans(sparsities, phases).items():
        ax.axvspan(low, high, color=PHASE_COLOURS[phase], zorder=-1, lw=0)
        ax.text(middle, 1.01, phase, transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=MUTED)


def mark(ax: Axes, sparsity: float, accuracy: float, text: str, above: bool) -> None:
    """Mark a point of a curve, with a ``text`` above or below it."""
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
    """Draw published points over our curves, hollow, with their reading errors.

    ``points`` is a `dsdlib.analysis.published.figure` whose axis is ``x``. ``colours`` maps each series that is drawn
    to its colour, or to the name of the series of ours whose colour it takes. The x axis is extended to the last point.
    """
    for series, colour in colours.items():
        part, own = points[points["series"] == series], series_style(colour)
        style = {"fmt": "o", "mfc": "white", "ms": 5, "lw": 1, "capsize": 2, "zorder": 4, "clip_on": False}
        style["color"] = own.colour if own else colour
        record(ax, part[[x, "value", "reading_error"]].rename(columns={"value": "mean"}), series=f"Published: {series}")
        ax.errorbar(part[x], part["value"], part["reading_error"], label=f"Published: {series}", **style)
        if x == "sparsity" and len(part):
            ax.set_xlim(right=max(ax.get_xlim()[1], part[x].max()))
    legend_right(ax)
