"""Runs of many seeds: their curves, and differences between groups of runs.

A table here is a tidy table with a row for each run and round. Differences of accuracies are in points. Intervals are
95% intervals over seeds.
"""

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from dsdlib.analysis.curves import fitting_rounds
from dsdlib.analysis.intervals import NOTHING, Interval, nothing, over_seeds


def by_seed(table: pd.DataFrame, measure: str = "test_accuracy") -> np.ndarray:
    """A measure of runs that differ only in their seed, (seeds, rounds), in ascending order of seeds."""
    return table.pivot(index="seed", columns="round", values=measure).to_numpy(dtype=float)


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


def largest_lead(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points ``one`` exceeds ``other`` in the round in which it does so most, paired by seed.

    The round is chosen by the mean over one half of the seeds and the lead is read off the other half, so that chance
    makes no lead: where the two are equally good in every round, the lead is 0 on average.
    """
    one, other = with_shared_seeds(one, other)
    return NOTHING if one.empty else over_seeds(_at_the_largest(100 * (by_seed(one) - by_seed(other))))


def _at_the_largest(leads: np.ndarray) -> np.ndarray:
    """For each seed of ``leads`` (seeds, rounds), its lead in the round in which the other half's mean is largest."""
    read = np.empty(len(leads))
    for own, others in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        half = leads[others] if len(leads) > 1 else leads
        read[own] = leads[own, np.argmax(np.round(half.mean(0), 9))]
    return read


def mean_lead(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points ``one`` exceeds ``other`` at equal sparsity, on average over rounds, paired by seed."""
    one, other = with_shared_seeds(one, other)
    return NOTHING if one.empty else over_seeds(100 * (by_seed(one) - by_seed(other)).mean(1))


def final_ascent_grows(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points the best pruned network's lead over the dense one is larger in ``one``, paired by seed.

    The lead is what test error ascends by when the best network is made larger, up to the dense one. The best round is
    chosen as in `largest_lead`. There is nothing to measure if the dense network is the best in both.
    """
    one, other = with_shared_seeds(one, other)
    if one.empty:
        return NOTHING
    curves = (100 * by_seed(table) for table in (one, other))
    grown, base = (_at_the_largest(curve - curve[:, :1]) for curve in curves)
    return over_seeds(grown - base) if grown.any() or base.any() else nothing("no final ascent")


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


def best_of_each_round(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """The rows with the value of ``column`` that has the best mean validation accuracy in their round.

    The runs of the table differ only in ``column`` and in their seed.
    """
    mean = table.groupby(["round", column])["validation_accuracy"].mean().unstack()
    return table[table[column] == table["round"].map(mean.idxmax(axis=1))]


def fall_to_best(table: pd.DataFrame, measure: str) -> Interval:
    """By how many points a ``measure`` falls from the dense network to the pruned one of best validation accuracy.

    The runs differ only in their seed. The pruned network is chosen for each seed, and its ``measure`` has no part in
    the choice unless it is of the validation data. There is nothing to measure without validation data.
    """
    if table.empty:
        return NOTHING
    validation, curves = by_seed(table, "validation_accuracy")[:, 1:], 100 * by_seed(table, measure)
    if np.isnan(validation).all() or validation.shape[1] == 0:
        return nothing("no validation data")
    best = 1 + np.nanargmax(validation, axis=1)
    return over_seeds(curves[:, 0] - curves[np.arange(len(curves)), best])


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
