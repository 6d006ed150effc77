"""Axes: their scales, ticks and labels, and lines of means with intervals on them."""

from collections.abc import Callable, Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import EngFormatter, FixedLocator, FuncFormatter, Locator

from dsdlib.analysis.intervals import FEWEST_SEEDS, means, unit
from dsdlib.plots.data import record
from dsdlib.plots.series import SeriesStyle, series_styles, spoken
from dsdlib.plots.style import MUTED

# Sparsities and numbers of weights that may have a tick, the most important ones first.
SPARSITIES = (0, 0.9, 0.99, 0.999, 0.9999, 0.5, 0.95, 0.995, 0.9995, 0.8, 0.98, 0.998, 0.9998)
WEIGHTS = tuple(first * 10**power for first in (1, 3, 2, 5) for power in range(9))


def axes(ax: Axes | None) -> Axes:
    """The given axes, or those of a new figure."""
    return ax or plt.subplots()[1]


def draw_means(ax: Axes, lines: Iterable[tuple[pd.DataFrame, str, str, SeriesStyle]], bars: bool = False) -> None:
    """Draw lines of means over seeds with 95% intervals, as bands or as error bars.

    Each line is a table, its columns for x and y, and its style. If no point has enough seeds for an interval, the axes
    say so.
    """
    most, name = 0, None
    for table, x, y, own in lines:
        found, name = means(table, [x], y), unit(table)
        record(ax, found, series=own.label, measure=y)
        style = {"color": own.colour, "linestyle": own.line, "label": own.label}
        if bars:
            reach = found["high"] - found["mean"]
            dots = {"marker": own.marker, "ms": 6, "mec": "white", "capsize": 3, "elinewidth": 1}
            ax.errorbar(found[x], found["mean"], reach, **dots, **style)
        else:
            ax.plot(found[x], found["mean"], **style)
            ax.fill_between(found[x], found["low"], found["high"], color=own.colour, alpha=0.2, lw=0)
        most = max(most, found["count"].max())
    note_few(ax, most, name)


def draw_by(ax: Axes, table: pd.DataFrame, x: str, y: str, hue: str, bars: bool = False) -> None:
    """`draw_means` with a line for each value of ``hue``, and a legend to the right."""
    draw_means(ax, [(table[table[hue] == value], x, y, own) for value, own in series_styles(table[hue]).items()], bars)
    legend_right(ax, spoken(hue))


def note_few(ax: Axes, count: int, name: str | None) -> None:
    """Say in the axes' lower left corner that there are too few seeds (or repeats) for an interval, if so."""
    if name and 0 < count < FEWEST_SEEDS:
        text = f"one {name}, no interval" if count == 1 else f"two {name}s, no interval"
        ax.text(0.015, 0.02, text, transform=ax.transAxes, color=MUTED, size="small")


def legend_right(ax: Axes, title: str | None = None) -> None:
    """A legend outside the axes, at their upper right."""
    ax.legend(title=title, loc="upper left", bbox_to_anchor=(1, 1), alignment="left")


class RoomyLocator(Locator):
    """Ticks on an x axis at as many of the ``places`` as have room for their labels, the first ones first.

    ``write`` makes a label of a place.
    """

    def __init__(self, places: Sequence[float], write: Callable[[float], str]) -> None:
        self.places, self.write = places, write

    def __call__(self) -> list[float]:
        return self.tick_values(*sorted(self.axis.get_view_interval()))

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        ax = self.axis.axes
        size = FontProperties(size=plt.rcParams["xtick.labelsize"]).get_size_in_points() * ax.figure.dpi / 72
        kept: dict[float, tuple[float, float]] = {}  # a tick's place and half the width of its label, in pixels
        for tick in (tick for tick in self.places if vmin <= tick <= vmax):
            place, half = ax.transData.transform((tick, 1))[0], (0.3 * len(self.write(tick)) + 0.25) * size
            if all(abs(place - other) >= half + width for other, width in kept.values()):
                kept[tick] = (place, half)
        return sorted(kept)


def _roomy_ticks(ax: Axes, places: Sequence[float], write: Callable[[float], str]) -> None:
    ax.xaxis.set_major_locator(RoomyLocator(places, write))
    ax.xaxis.set_minor_locator(FixedLocator([]))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def sparsity_axis(ax: Axes, sparsest: float) -> None:
    """An x axis of sparsity in percent, up to ``sparsest``, on which even steps of pruning are even distances.

    It has as many ticks as its width leaves room for.
    """
    ax.set_xscale("function", functions=(lambda s: -np.log1p(-np.minimum(s, 1 - 1e-9)), lambda t: -np.expm1(-t)))
    ax.set_xlim(0, sparsest or 0.5)
    _roomy_ticks(ax, SPARSITIES, lambda sparsity: f"{100 * sparsity:g}")
    ax.set_xlabel("Sparsity (% of prunable weights that are zero)")


def weights_axis(ax: Axes) -> None:
    """A logarithmic x axis of the weights left, with fewer to the right, for networks of different sizes."""
    ax.set_xscale("log")
    ax.xaxis.set_inverted(True)
    _roomy_ticks(ax, WEIGHTS, EngFormatter(sep=""))
    ax.set_xlabel("Prunable weights left")


def measure_axis(ax: Axes, label: str = "Accuracy (%)") -> None:
    """A y axis for fractions. If the ``label`` ends in (%) or (points), they are shown in hundredths."""
    if label.endswith(("(%)", "(points)")):
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}".replace("-", "−")))
    ax.set_ylabel(label)


def plain_ticks(axis: object, places: Iterable[float]) -> None:
    """Ticks at the given ``places`` of an axis only, as plain numbers; for logarithmic scales."""
    axis.set_major_locator(FixedLocator(list(places)))
    axis.set_minor_locator(FixedLocator([]))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
