"""The linear theory's risks: against the model's size or the features' correlation, as a map, and beside simulation."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator

from dsdlib.analysis.intervals import means
from dsdlib.plots.axes import axes, draw_by, legend_right, measure_axis, plain_ticks
from dsdlib.plots.data import record
from dsdlib.plots.series import SeriesStyle, series_styles
from dsdlib.plots.style import INK, MUTED


def risks(
    theory: pd.DataFrame,
    simulated: pd.DataFrame,
    x: str,
    xlabel: str,
    hue: str = "estimator",
    names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Test ``risk`` against ``x``, a colour for each value of ``hue``: theory as lines, simulation as points.

    ``names`` are the values of ``hue`` that are drawn, by default all that were simulated. Points have 95% intervals
    over repeats. Where there is no theory, dots join the points; a risk that does not vary with ``x`` has a band.
    Against ``ratio`` (p/n), lines break at the interpolation threshold, which is marked.
    """
    ax = axes(ax)
    shown = simulated[simulated[hue].isin(names)] if names else simulated
    series = series_styles(shown[hue])
    for name in names or series:
        line, points = (table[table[hue] == name].sort_values(x) for table in (theory, simulated))
        _risk(ax, line, points, x, series[name])
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda risk, _: f"{risk:g}"))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    if x == "ratio":
        _ratio_axis(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel("Test risk")
    legend_right(ax)
    return ax


def _risk(ax: Axes, line: pd.DataFrame, points: pd.DataFrame, x: str, style: SeriesStyle) -> None:
    """The theory and the simulation of one estimator, and its entry in the legend."""
    found = means(points, [x], "risk")
    record(ax, line[[x, "risk"]].rename(columns={"risk": "mean"}), series=f"{style.label}, theory", measure="risk")
    record(ax, found, series=f"{style.label}, simulation", measure="risk")
    flat = points.groupby("repeat")["risk"].nunique().max() == 1
    if flat:
        ax.plot(line[x], line["risk"], color=style.colour, lw=1.8)
        ax.plot(found[x], found["mean"], color=style.colour, lw=1)
        ax.fill_between(found[x], found["low"], found["high"], color=style.colour, alpha=0.2, lw=0)
    else:
        joined = ":" if line.empty else "none"
        for part in _sides(line, x):
            ax.plot(part[x], part["risk"], color=style.colour, lw=1.8)
        for part in _sides(found, x):
            dots = {"marker": style.marker, "ls": joined, "ms": 5, "mew": 0, "lw": 1, "color": style.colour}
            ax.errorbar(part[x], part["mean"], part["high"] - part["mean"], **dots)
    shown, label = ":" if line.empty else "-", style.label[:1].upper() + style.label[1:]
    ax.plot([], [], color=style.colour, ls=shown, marker="" if flat else style.marker, ms=5, lw=1.8, label=label)


def _sides(table: pd.DataFrame, x: str) -> list[pd.DataFrame]:
    """The parts left and right of p = n, if ``x`` is p/n."""
    return [table[table[x] < 1], table[table[x] > 1]] if x == "ratio" else [table]


def _ratio_axis(ax: Axes) -> None:
    """A logarithmic axis of p/n, on which the interpolation threshold p = n is marked."""
    ax.set_xscale("log")
    plain_ticks(ax.xaxis, [0.2, 0.5, 1, 2, 5, 10, 20])
    ax.axvline(1, color=MUTED, lw=1.2, ls="--", zorder=1)
    ax.text(1.02, 0.01, "p = n", transform=ax.get_xaxis_transform(), ha="left", va="bottom", color=MUTED)


def advantages(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """A map of where pruning a large fit is better than the small model, from `dsdlib.theory.advantage`.

    The axes are the numbers of features kept and used for each sample; the border is where both risks are equal.
    """
    ax = axes(ax)
    record(ax, table)
    values = table.pivot(index="ratio", columns="kept_ratio", values="advantage")
    levels = np.linspace(-2, 2, 33)
    filled = ax.contourf(values.columns, values.index, values, levels, cmap="RdBu", extend="both")
    border = ax.contour(values.columns, values.index, values, [0], colors=INK, linewidths=1.8)
    ax.clabel(border, fmt={0: "equal"}, fontsize="small")
    bar = ax.figure.colorbar(filled, ax=ax, ticks=[-2, -1, 0, 1, 2], label="Small model's risk over the pruned fit's")
    bar.ax.set_yticklabels(["¼", "½", "1", "2", "4"])
    ax.set_yscale("log")
    plain_ticks(ax.yaxis, [1, 2, 5, 10, 20])
    ax.set_xlabel("Features kept for each sample, s/n")
    ax.set_ylabel("Features used for each sample, p/n")
    ax.grid(False)
    return ax


def agreement(table: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The ``distance`` of simulation from theory against the number of ``features``, a line for each ``estimator``."""
    ax = axes(ax)
    draw_by(ax, table, "features", "distance", "estimator", bars=True)
    ax.set(xscale="log", yscale="log", xlabel="Features p")
    plain_ticks(ax.xaxis, sorted(table["features"].unique()))
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_minor_locator(FixedLocator([]))
    measure_axis(ax, "Distance from theory (%)")
    return ax
