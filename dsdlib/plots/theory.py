"""A tidy table → one figure. ``ax=None`` in, axes out; nothing is computed here but means and intervals."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator

from dsdlib.plots.style import ESTIMATORS, INK, MUTED, PALETTE, interval, measure_axis


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
    ax.text(1.02, 0.01, "p = n", transform=ax.get_xaxis_transform(), ha="left", va="bottom", color=MUTED)


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
