"""Effects of claims with their intervals, a row for each statement."""

from textwrap import shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsdlib.analysis.claims import ABSENT, CONTRADICTED, NOTHING_TO_JUDGE, SUPPORTED, UNDECIDED
from dsdlib.plots.axes import axes
from dsdlib.plots.data import record
from dsdlib.plots.style import GREEN, GREY, MUTED, ORANGE, VERMILION

VERDICT_STYLES = {
    SUPPORTED: (GREEN, "o"),
    ABSENT: (VERMILION, "X"),
    CONTRADICTED: (VERMILION, "X"),
    UNDECIDED: (ORANGE, "D"),
    NOTHING_TO_JUDGE: (GREY, "."),
}


def forest(claims: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Effects in one unit with their 95% intervals, a row for each ``statement``, coloured and marked by ``verdict``.

    ``claims`` has the columns ``statement``, ``effect``, ``low``, ``high``, ``threshold`` (a number), ``unit`` and
    ``verdict``. A statement's effects lie one below another in its row; a short line marks the threshold.
    """
    ax, statements = axes(ax), list(dict.fromkeys(claims["statement"]))
    record(ax, claims)
    for row, statement in enumerate(statements):
        own = claims[claims["statement"] == statement]
        places = row + np.linspace(-0.3, 0.3, len(own)) if len(own) > 1 else [row]
        for place, claim in zip(places, own.itertuples(), strict=True):
            colour, marker = VERDICT_STYLES[claim.verdict]
            ax.plot([claim.low, claim.high], [place, place], color=colour, lw=1.2)
            ax.plot(claim.effect, place, marker, color=colour, ms=5, mec="white", mew=0.5)
        for threshold in own["threshold"].dropna().unique():
            ax.plot([threshold, threshold], [row - 0.42, row + 0.42], color=MUTED, lw=1.2, ls=":")
    ax.axvline(0, color=MUTED, lw=0.8)
    ax.set_yticks(range(len(statements)), [shorten(text, 90, placeholder="…") for text in statements], size="small")
    ax.set_ylim(len(statements) - 0.4, -0.6)
    ax.set_xlabel(claims["unit"].iloc[0] or "no unit")
    return ax


def forests(claims: pd.DataFrame) -> Figure:
    """`forest` for each unit, one above another, the unit with the most statements first, and a legend of verdicts."""
    sizes = claims.groupby("unit", sort=False)["statement"].nunique().sort_values(ascending=False, kind="stable")
    heights = [size + 1.6 for size in sizes]
    figure, rows = plt.subplots(
        len(sizes), 1, figsize=(11, 0.3 * sum(heights) + 0.4), height_ratios=heights, squeeze=False
    )
    for ax, unit in zip(rows[:, 0], sizes.index, strict=True):
        forest(claims[claims["unit"] == unit], ax)
    present = [verdict for verdict in VERDICT_STYLES if verdict in set(claims["verdict"])]
    dots = [plt.Line2D([], [], ls="-", color=c, marker=m) for c, m in (VERDICT_STYLES[name] for name in present)]
    figure.legend(dots, present, loc="outside upper center", ncols=len(present), fontsize="small")
    return figure
