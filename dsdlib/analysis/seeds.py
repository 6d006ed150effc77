"""Many seeds: the depth and places of their valleys, differences between groups, and tables of both.

A table here is a tidy table with a row for each run and round. Depths and differences of accuracies are in points where
a function takes a table. Intervals are 95% intervals over seeds.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dsdlib.analysis.curves import (
    CLEAR,
    Valley,
    fitting_rounds,
    moving_average,
    phases,
    side_and_bottom,
    smoothing_window,
    valley,
)
from dsdlib.analysis.intervals import NOTHING, Interval, nothing, over_seeds

NO_VALLEY = nothing("no clear valley")


def by_seed(table: pd.DataFrame, measure: str = "test_accuracy") -> np.ndarray:
    """A measure of runs that differ only in their seed, (seeds, rounds), in ascending order of seeds."""
    return table.pivot(index="seed", columns="round", values=measure).to_numpy(dtype=float)


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

    Numbers below 0 are given as 0, the depth of a curve that only falls.
    """
    found = over_seeds(depths_by_seed(curves, window))
    return replace(found, **{name: max(getattr(found, name), 0.0) for name in ("value", "low", "high")})  # nan stays


def depth(table: pd.DataFrame) -> Interval:
    """The depth of the test curve's valley, in points, of runs that differ only in their seed."""
    return NOTHING if table.empty else depth_over_seeds(100 * by_seed(table), window(table))


def fall(table: pd.DataFrame) -> Interval:
    """By how many points test accuracy falls over the rounds that fit the training labels.

    The runs differ only in their seed. `fitting_rounds` of the mean train curve are the rounds that count.
    """
    if table.empty:
        return NOTHING
    if (rounds := fitting_rounds(by_seed(table, "train_accuracy").mean(0))) is None:
        return nothing("labels not fitted")
    first, last = rounds
    test = 100 * by_seed(table)
    return over_seeds(test[:, first] - test[:, last])


def with_shared_seeds(*tables: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each table whose seeds are in all of the tables."""
    shared = set.intersection(*(set(table["seed"]) for table in tables))
    return [table[table["seed"].isin(shared)] for table in tables]


def paired(one: pd.DataFrame, other: pd.DataFrame, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
    """A ``statistic`` of two groups' mean test curves, each (rounds,), paired by seed.

    The bootstrap resamples the seeds of both groups together, because runs that share a seed share initialisation, data
    order and noise. Seeds that are not in both groups are left out.
    """
    one, other = with_shared_seeds(one, other)
    if one.empty:
        return NOTHING
    return over_seeds(np.stack([by_seed(one), by_seed(other)], axis=1), lambda mean: float(statistic(*mean)))


def depth_difference(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points the valley of ``one`` is deeper than that of ``other``, paired by seed."""
    one, other = with_shared_seeds(one, other)
    if one.empty:
        return NOTHING
    first, second = (depths_by_seed(100 * by_seed(table), window(table)) for table in (one, other))
    return over_seeds(first - second)


def largest_lead(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points ``one`` exceeds ``other`` in the round in which it does so most, paired by seed.

    The round is chosen by the mean over one half of the seeds and the lead is read off the other half, so that chance
    makes no lead: where the two are equally good in every round, the lead is 0 on average.
    """
    one, other = with_shared_seeds(one, other)
    if one.empty:
        return NOTHING
    leads = 100 * (by_seed(one) - by_seed(other))
    halves = [leads[::2], leads[1::2]] if len(leads) > 1 else [leads, leads]
    rounds = [np.argmax(np.round(half.mean(0), 9)) for half in halves]
    return over_seeds(np.concatenate([halves[0][:, rounds[1]], halves[1][:, rounds[0]]])[: len(leads)])


def earlier(one: pd.DataFrame, other: pd.DataFrame, place: str) -> Interval:
    """How many rounds before ``other`` the curve ``one`` reaches a ``place`` of its valley, ``bottom`` or ``peak``.

    There is nothing to measure unless both mean curves have a clear valley.
    """
    if any(mean_valley(table).depth <= CLEAR for table in (one, other)):
        return NO_VALLEY
    windows = [window(table) for table in (one, other)]

    def rounds(*curves: np.ndarray) -> float:
        places = [getattr(valley(*both), place) for both in zip(curves, windows, strict=True)]
        return np.nan if None in places else places[1] - places[0]

    return paired(one, other, rounds)


def rounds_won(one: pd.DataFrame, other: pd.DataFrame) -> list[int]:
    """The rounds in which ``one`` has the higher test accuracy, by an interval over shared seeds that excludes 0."""
    one, other = with_shared_seeds(one, other)
    gains = by_seed(one) - by_seed(other)
    return [r for r in range(gains.shape[1]) if over_seeds(gains[:, r]).low > 0]


def difference(table: pd.DataFrame, column: str, reference: object) -> pd.DataFrame:
    """The table with a column ``difference``: test accuracy less that of the run with ``column`` at ``reference``.

    The two runs have the same seed and are compared in the same round. The runs of the table differ only in ``column``
    and in their seed.
    """
    base = table[table[column] == reference].set_index(["seed", "round"])["test_accuracy"]
    at = pd.MultiIndex.from_frame(table[["seed", "round"]])
    return table.assign(difference=table["test_accuracy"].to_numpy() - base.reindex(at).to_numpy())


def best_setting(table: pd.DataFrame, column: str) -> object:
    """The value of ``column`` whose runs' best validation accuracy, over their rounds, is highest on average."""
    best = table.groupby([column, "seed"])["validation_accuracy"].max()
    return best.groupby(column).mean().idxmax()


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


def turn_from_peak(table: pd.DataFrame, measure: str = "learning_distance") -> Interval:
    """How many rounds lie between the bottom of the test curve's valley and the highest point of a ``measure``.

    Both are places in mean curves. There is nothing to measure unless the mean test curve has a clear valley.
    """
    if table.empty:
        return NOTHING
    if mean_valley(table).depth <= CLEAR:
        return NO_VALLEY
    width = window(table)

    def rounds(mean: np.ndarray) -> float:
        bottom = valley(mean[0], width).bottom
        return np.nan if bottom is None else abs(bottom - int(np.argmax(mean[1])))

    return over_seeds(np.stack([by_seed(table), by_seed(table, measure)], axis=1), rounds)


def rank_correlation(table: pd.DataFrame, one: str, other: str, size: bool = False) -> Interval:
    """Spearman's rank correlation, over rounds, of the mean curves of two measures; with ``size``, its absolute value.

    The interval is over seeds. It takes the rounds as given, although neighbouring rounds are not independent. There is
    nothing to measure with fewer than four rounds.
    """
    if table.empty:
        return NOTHING
    if table["round"].nunique() < 4:
        return nothing("too few rounds")
    both = np.stack([by_seed(table, one), by_seed(table, other)], axis=1)

    def correlation(mean: np.ndarray) -> float:
        found = float(spearmanr(*mean).statistic)
        return abs(found) if size else found

    return over_seeds(both, correlation)


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


def how_many_clear(valleys: pd.DataFrame) -> str:
    """How many of the rows of `valleys` have a depth whose whole interval exceeds 2 points, in words."""
    if valleys["low"].isna().all():
        return "too few seeds to say"
    return f"{(valleys['low'] > CLEAR).sum()} of {len(valleys)}, by intervals over seeds"
