"""Measures against anything but sparsity: a few values, a dense axis, sizes, widths."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, FuncFormatter

from dsdlib.plots.axes import axes, draw_by, draw_means, legend_right, measure_axis, plain_ticks
from dsdlib.plots.series import SOLID, SeriesStyle, series_style
from dsdlib.plots.style import MUTED, TRAIN


def against(
    table: pd.DataFrame, x: str, y: str, hue: str | None, xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:
    """A measure at a few values of ``x``, a line for each value of ``hue``: means with 95% intervals as error bars."""
    ax = axes(ax)
    if hue is None:
        draw_means(ax, [(table, x, y, SeriesStyle("", TRAIN))], bars=True)
    else:
        draw_by(ax, table, x, y, hue, bars=True)
    ax.set_xlabel(xlabel)
    measure_axis(ax, ylabel)
    return ax


def lines(table: pd.DataFrame, x: str, y: str, hue: str, xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """A measure along a dense ``x``, a line for each value of ``hue``: means with 95% intervals as bands."""
    ax = axes(ax)
    draw_by(ax, table, x, y, hue)
    ax.set_xlabel(xlabel)
    measure_axis(ax, ylabel)
    return ax


def timings(
    table: pd.DataFrame, x: str, y: str, hue: str | None, xlabel: str, unit: str, ax: Axes | None = None
) -> Axes:
    """`against` for seconds or rates, in ``unit`` with a prefix, over sizes or densities on a logarithmic axis."""
    ax = against(table, x, y, hue, xlabel, {"s": "Seconds a run and epoch"}.get(unit, unit), ax)
    ax.set_xscale("log")
    plain_ticks(ax.xaxis, sorted(table[x].unique()))
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
    """A measure against ``width``, a line for each ``series`` of the table that ``colours`` maps to its colour."""
    ax = axes(ax)
    lines = {name: own.line if (own := series_style(name)) else SOLID for name in colours}
    series = [(name, SeriesStyle(name, colour, lines[name])) for name, colour in colours.items()]
    draw_means(ax, [(table[table["series"] == name], "width", measure, own) for name, own in series], bars=True)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda width, _: f"{width:g}"))
    ax.set_xlabel("Width of the dense network")
    measure_axis(ax, label)
    legend_right(ax)
    return ax


def mark_width(ax: Axes, width: float, text: str) -> None:
    """Mark a width by a line across the axes, with a ``text`` at its top."""
    ax.axvline(width, color=MUTED, lw=1, ls=":", zorder=0)
    ax.text(width, 1.01, text, transform=ax.get_xaxis_transform(), ha="center", va="bottom", color=MUTED)
