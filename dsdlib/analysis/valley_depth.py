"""Valleys over many seeds: how deep they are, with an interval, where they lie, and tables of both.

A table here is a tidy table with a row for each run and round. Depths are in points where a function takes a table.
Intervals are 95% intervals over seeds.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import (
    CLEAR,
    Valley,
    between_rounds,
    deepest,
    moving_average,
    phases,
    side_and_bottom,
    smoothing_window,
    steps_a_round,
    valley,
)
from dsdlib.analysis.intervals import NOTHING, Interval, nothing, over_seeds
from dsdlib.analysis.seeds import by_seed, rank_correlation, with_shared_seeds

NO_VALLEY = nothing("no clear valley")


def window(table: pd.DataFrame) -> int:
    """`smoothing_window` for the rounds of a table."""
    return smoothing_window(sorted(table["sparsity"].unique()))


def mean_valley(table: pd.DataFrame) -> Valley:
    """The valley of the mean test curve of runs that differ only in their seed, placed as everywhere else."""
    return valley(by_seed(table).mean(0), window(table))


def mean_phases(table: pd.DataFrame) -> list[str]:
    """The phase of each round, from the mean curves of runs that differ only in their seed."""
    train, test = (by_seed(table, measure).mean(0) for measure in ("train_accuracy", "test_accuracy"))
    return phases(train, test, window=window(table))


def depths_by_seed(curves: np.ndarray, window: int = 1) -> np.ndarray:
    """The depth of the valley of each of the ``curves`` (seeds, rounds), as an array (seeds,).

    Side and bottom of the valley are placed by the moving average over ``window`` rounds of a mean curve, and the depth
    is read off each seed's own curve. Read at the place in the mean of all seeds, depths are too large on average,
    because that mean includes the seed itself; read at the place in the mean of the other seeds, they are too small.
    The result is the average of both. It is below 0 where a seed's curve has no valley there.
    """
    seeds, rounds = curves.shape
    if rounds < 3:
        return np.zeros(seeds)
    smooth = moving_average(curves, window)
    side, bottom = side_and_bottom(smooth.mean(0))
    at_common = curves[:, side] - curves[:, bottom]
    if seeds == 1:
        return at_common
    others = np.array([side_and_bottom(np.delete(smooth, seed, 0).mean(0)) for seed in range(seeds)])
    each = np.arange(seeds)
    return (at_common + curves[each, others[:, 0]] - curves[each, others[:, 1]]) / 2


def depth_over_seeds(curves: np.ndarray, window: int = 1) -> Interval:
    """The depth of the valley of ``curves`` (seeds, rounds): the mean of `depths_by_seed`, with its interval.

    Numbers below 0 are given as 0, the depth of a curve that only falls. If all seeds have the same depth, as networks
    that only guess have, nothing is known of how depths vary, and there is no interval.
    """
    found = over_seeds(depths_by_seed(curves, window))
    if found.error == 0:
        found = replace(found, low=np.nan, high=np.nan, reason="all seeds alike")
    return replace(found, **{name: max(getattr(found, name), 0.0) for name in ("value", "low", "high")})  # nan stays


def depth(table: pd.DataFrame) -> Interval:
    """The depth of the test curve's valley, in points, of runs that differ only in their seed."""
    return NOTHING if table.empty else depth_over_seeds(100 * by_seed(table), window(table))


def seed_depths(table: pd.DataFrame) -> np.ndarray:
    """`depths_by_seed` of the test curves of runs that differ only in their seed, in points, (seeds,)."""
    return depths_by_seed(100 * by_seed(table), window(table))


def depth_difference(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points the valley of ``one`` is deeper than that of ``other``, paired by seed."""
    one, other = with_shared_seeds(one, other)
    if one.empty:
        return NOTHING
    return over_seeds(seed_depths(one) - seed_depths(other))


def places_by_seed(table: pd.DataFrame, place: str) -> np.ndarray:
    """The round of a ``place`` of each seed's valley, ``bottom`` or ``peak``, to a fraction of a round, (seeds,).

    The mean curve says which valley is meant: a seed's bottom is its lowest point between the shoulder and the peak of
    the mean curve, and its peak is its highest point after the bottom of the mean curve. Curves are moving averages.
    The mean over seeds scatters less than the place in the mean curve, and it has a t-interval.
    """
    curves = moving_average(by_seed(table), window(table))
    shoulder, bottom, peak = deepest(curves.mean(0))
    first, last, sign = {"bottom": (shoulder, peak, -1), "peak": (bottom, curves.shape[1] - 1, 1)}[place]
    found = first + np.argmax(np.round(sign * curves[:, first : last + 1], 9), axis=1)
    return np.array([between_rounds(curve, at) for curve, at in zip(curves, found, strict=True)])


def earlier(one: pd.DataFrame, other: pd.DataFrame, place: str) -> Interval:
    """How many rounds before ``other`` the runs ``one`` reach a ``place`` of their valley, paired by seed.

    Places are those of `places_by_seed`. There is nothing to measure unless both mean curves have a clear valley.
    """
    if one.empty or other.empty:
        return NOTHING
    if any(mean_valley(table).depth <= CLEAR for table in (one, other)):
        return NO_VALLEY
    one, other = with_shared_seeds(one, other)
    return over_seeds(places_by_seed(other, place) - places_by_seed(one, place)) if len(one) else NOTHING


def rise(table: pd.DataFrame, measure: str, scale: float = 100) -> Interval:
    """By how much a ``measure``, times ``scale``, rises and falls again as the network is pruned.

    This is the depth of the valley of −``measure``. The runs differ only in their seed.
    """
    return NOTHING if table.empty else depth_over_seeds(-scale * by_seed(table, measure), window(table))


def rise_beyond_depth(table: pd.DataFrame, measure: str) -> Interval:
    """By how many points a ``measure`` rises and falls again, less the depth of the test curve's valley, in points.

    The runs differ only in their seed. Each of the two is placed by its own mean curve and read off each seed.
    """
    if table.empty:
        return NOTHING
    return over_seeds(depths_by_seed(-100 * by_seed(table, measure), window(table)) - seed_depths(table))


def valleys(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """The valley of the test curve, a row for each value of the columns ``by``.

    ``depth``, ``low`` and ``high`` are those of `depth`, as fractions. The sparsity and accuracy of ``shoulder``,
    ``bottom`` and ``peak`` and the ``bottom_weights`` are those of the mean curve. ``raw_depth`` is the depth before
    numbers below 0 are set to 0.
    """
    rows = [
        {**dict(zip(by, value, strict=True)), **_valley_row(group)} for value, group in table.groupby(by, sort=False)
    ]
    return pd.DataFrame(rows).astype({"bottom_weights": "Int64"})


def _valley_row(table: pd.DataFrame) -> dict[str, float | int | None]:
    curves, found, deep = by_seed(table), mean_valley(table), depth(table)
    row = {"seeds": len(curves), "depth": deep.value / 100, "low": deep.low / 100, "high": deep.high / 100}
    mean, sparsity = curves.mean(0), sorted(table["sparsity"].unique())
    for name in ("shoulder", "bottom", "peak"):
        at = getattr(found, name)
        row[f"{name}_sparsity"] = np.nan if at is None else sparsity[at]
        row[f"{name}_accuracy"] = np.nan if at is None else mean[at]
    weights = sorted(table["remaining_weights"].unique(), reverse=True)
    row["bottom_weights"] = None if found.bottom is None else weights[found.bottom]
    return row | {"raw_depth": float(depths_by_seed(curves, window(table)).mean())}


def steps_from_bottom(table: pd.DataFrame, measure: str, place: Callable[[np.ndarray], int | None]) -> Interval:
    """How many pruning steps of 20% lie between the bottom of the test curve's valley and a ``place`` of a ``measure``.

    Both are in mean curves, and ``place`` takes that of the measure, (rounds,). There is nothing to measure unless the
    mean test curve has a clear valley.
    """
    if table.empty:
        return NOTHING
    if mean_valley(table).depth <= CLEAR:
        return NO_VALLEY
    width, a_round = window(table), steps_a_round(sorted(table["sparsity"].unique()))

    def steps(mean: np.ndarray) -> float:
        bottom, at = valley(mean[0], width).bottom, place(mean[1])
        return np.nan if bottom is None or at is None else a_round * abs(bottom - at)

    return over_seeds(np.stack([by_seed(table), by_seed(table, measure)], axis=1), steps)


def turn_from_peak(table: pd.DataFrame, measure: str = "learning_distance") -> Interval:
    """`steps_from_bottom` of the peak of a ``measure``."""
    return steps_from_bottom(table, measure, lambda mean: int(np.argmax(mean)))


def correlation_to_peak(table: pd.DataFrame, one: str, other: str) -> Interval:
    """`rank_correlation` of two measures over the rounds up to the second peak of the mean test curve.

    There is nothing to measure unless the mean test curve has a clear valley.
    """
    if table.empty:
        return NOTHING
    found = mean_valley(table)
    if found.depth <= CLEAR:
        return NO_VALLEY
    return rank_correlation(table[table["round"] <= found.peak], one, other)


def phase_table(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """A row for each phase of each value of ``by``: the sparsities at which it ``begins`` and ``ends``."""
    rows = []
    for value, group in table.groupby(by):
        sparsity, names = sorted(group["sparsity"].unique()), mean_phases(group)
        for phase in dict.fromkeys(names):
            first, last = names.index(phase), len(names) - 1 - names[::-1].index(phase)
            end = sparsity[min(last + 1, len(names) - 1)]
            rows.append({by: value, "phase": phase, "begins": sparsity[first], "ends": end})
    return pd.DataFrame(rows)


def how_many_clear(valleys: pd.DataFrame, what: str) -> str:
    """How many of the rows of `valleys` have a depth whose whole interval exceeds 2 points, in words.

    ``what`` says what the rows are: "4 of 8 networks have a valley whose whole 95% interval exceeds 2 points".
    """
    if valleys["low"].isna().all():
        return f"there are too few seeds to say how many {what} have a certain valley"
    count = (valleys["low"] > CLEAR).sum()
    verb = "has" if count == 1 else "have"
    return f"{count} of {len(valleys)} {what} {verb} a valley whose whole 95% interval exceeds 2 points"


def depth_in_words(table: pd.DataFrame) -> str:
    """How deep the valley of the test curve is, and how far a repeat with as many other seeds may differ.

    The depth in a repeat has an error of its own, so that in 95% of repeats it differs by less than √2 half-widths of
    the interval. The text is "" without a clear valley or without an interval.
    """
    found = depth(table)
    if not found.value > 100 * CLEAR or np.isnan(found.high):
        return ""
    reach = np.sqrt(2) * (found.high - found.value)
    return f" The valley is {found:.1f} points deep; with other seeds this may change by ±{reach:.1f} points."
