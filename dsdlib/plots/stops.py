"""Where stopping rules stop: test accuracy against the training paid for."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, MaxNLocator

from dsdlib.analysis.intervals import means
from dsdlib.plots.axes import axes, legend_right, measure_axis, note_few
from dsdlib.plots.data import record
from dsdlib.plots.series import series_styles, spoken
from dsdlib.plots.style import INK, MUTED


def stops(outcomes: pd.DataFrame, hue: str, ax: Axes | None = None) -> Axes:
    """Test accuracy against the training FLOPs until the stop, a point for each rule and value of ``hue``.

    ``outcomes`` are those of `dsdlib.analysis.stopping`. Each value of ``hue`` has a colour and each rule a marker.
    Points are means with 95% intervals over seeds in both directions.
    """
    ax, series, rules = axes(ax), series_styles(outcomes[hue]), series_styles(outcomes["rule"])
    accuracy, flops = (means(outcomes, [hue, "rule"], y) for y in ("test_accuracy", "train_flops"))
    for found, measure in ((accuracy, "test_accuracy"), (flops, "train_flops")):
        record(ax, found, measure=measure)
    for up, across in zip(accuracy.itertuples(index=False), flops.itertuples(index=False), strict=True):
        style = {"fmt": rules[up.rule].marker, "color": series[up[0]].colour, "ms": 9, "lw": 1, "mec": "white"}
        reach = [np.atleast_1d(found.high - found.mean) for found in (up, across)]
        ax.errorbar(across.mean, up.mean, *reach, **style)
    for title, own, styled in ((spoken(hue), series, False), ("Rule", rules, True)):
        ax.plot([], [], " ", label=title)
        for each in own.values():
            ax.plot([], [], each.marker if styled else "s", color=MUTED if styled else each.colour, label=each.label)
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.xaxis.set_major_formatter(EngFormatter("FLOP"))
    ax.set_xlabel("Training up to the stop")
    measure_axis(ax, "Test accuracy (%)")
    note_few(ax, accuracy["count"].max(), "seed")
    legend_right(ax)
    return ax


def stops_beside(ax: Axes, points: pd.DataFrame) -> None:
    """Draw published stops over ours, hollow and named.

    ``points`` is a `dsdlib.analysis.published.figure` whose axis is ``train_pflops``.
    """
    record(ax, points[["series", "train_pflops", "value"]].rename(columns={"value": "mean"}), measure="published")
    ax.plot(1e15 * points["train_pflops"], points["value"], "o", mfc="white", color=INK, ms=9, label="Published")
    for point in points.itertuples():
        where = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "size": "small"}
        ax.annotate(point.series, (1e15 * point.train_pflops, point.value), **where)
    legend_right(ax)
