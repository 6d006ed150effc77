"""What a pruning curve does, from the tidy table alone: its valley, its second peak, its phases, over seeds."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy.stats import DegenerateDataWarning, bootstrap, spearmanr

from dsdlib.analysis.curves import CLEAR, fall_while_fitting, phases, valley

FEWEST_SEEDS = 3  # that make an interval


@dataclass(frozen=True)
class Interval:
    """A value over seeds and its 95% bootstrap interval; bounds are nan with too few seeds for one."""

    value: float
    low: float
    high: float


NOTHING = Interval(np.nan, np.nan, np.nan)


def by_seed(table: pd.DataFrame, measure: str = "test_accuracy") -> np.ndarray:
    """One measure of runs that differ in their seed alone, (seeds, rounds)."""
    return table.pivot(index="seed", columns="round", values=measure).to_numpy(dtype=float)


def over_seeds(curves: np.ndarray, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic of the seeds' mean curve, with the percentile bootstrap interval of resampled seeds.

    ``curves`` is (seeds, …). With a handful of seeds such an interval is somewhat too narrow.
    """
    value = float(statistic(curves.mean(0)))
    if len(curves) < FEWEST_SEEDS or np.isnan(value):
        return Interval(value, np.nan, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DegenerateDataWarning)  # a resample without the place looked for: no bounds
        resampled = bootstrap(
            (np.arange(len(curves)),),
            lambda chosen, axis: np.array([float(statistic(mean)) for mean in curves[chosen].mean(1)]),
            vectorized=True,
            n_resamples=1000,
            method="percentile",
            rng=np.random.default_rng(0),
        )
    return Interval(value, float(resampled.confidence_interval.low), float(resampled.confidence_interval.high))


def depths_by_seed(curves: np.ndarray) -> np.ndarray:
    """Each seed's depth of valley, (seeds,): shoulder, bottom and peak are placed by the *other* seeds' mean curve, so
    that a curve which merely wiggles has none, or less, on average. A single curve's is its own prominence."""
    if len(curves) < 2:
        return np.array([valley(curve).depth for curve in curves])
    depths = np.zeros(len(curves))
    for seed, curve in enumerate(curves):
        found = valley(np.delete(curves, seed, axis=0).mean(0))
        if found.bottom is not None:
            depths[seed] = min(curve[found.shoulder], curve[found.peak]) - curve[found.bottom]
    return depths


def depth_over_seeds(curves: np.ndarray) -> Interval:
    """The depth of the valley of curves (seeds, rounds): the mean of `depths_by_seed`, with an interval.

    Where seeds have their valleys in different rounds that mean is too small. So the interval's upper end is never
    below that of the seeds' own prominences, which is too large, as wiggles add to it.
    """
    common = over_seeds(depths_by_seed(curves), float)
    own = over_seeds(np.array([valley(curve).depth for curve in curves]), float)
    return replace(common, high=max(common.high, own.high))


def depth(table: pd.DataFrame) -> Interval:
    """`depth_over_seeds` of the test curve's valley in points, of runs that differ in their seed alone."""
    if table.empty:
        return NOTHING
    return depth_over_seeds(100 * by_seed(table))


def fall(table: pd.DataFrame) -> Interval:
    """`fall_while_fitting` in points, of runs that differ in their seed alone."""
    if table.empty:
        return NOTHING
    curves = np.stack([by_seed(table, "train_accuracy"), by_seed(table, "test_accuracy")], axis=1)
    return over_seeds(curves, lambda mean: 100 * fall_while_fitting(*mean))


def paired(one: pd.DataFrame, other: pd.DataFrame, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
    """A statistic of two mean test curves whose runs share their seeds: both are resampled together."""
    return over_seeds(np.stack([by_seed(one), by_seed(other)], axis=1), lambda mean: statistic(*mean))


def depth_difference(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points the valley of ``one`` is deeper than that of ``other``. The interval holds that of the seeds'
    own prominences as well, as in `depth_over_seeds`: seeds may differ in where their valleys are."""
    pair = [100 * by_seed(table) for table in (one, other)]
    common = over_seeds(depths_by_seed(pair[0]) - depths_by_seed(pair[1]), float)
    first, second = (np.array([valley(curve).depth for curve in curves]) for curves in pair)
    own = over_seeds(first - second, float)
    return replace(common, low=min(common.low, own.low), high=max(common.high, own.high))


def largest_lead(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points ``one`` beats ``other`` in the round where it does so most."""
    return paired(one, other, lambda a, b: 100 * float((a - b).max()))


def earlier(one: pd.DataFrame, other: pd.DataFrame, place: str) -> Interval:
    """How many rounds ``one`` comes to its valley's ``bottom`` or second ``peak`` before ``other``; not a number where
    either mean curve has no clear valley."""
    for table in (one, other):
        if valley(by_seed(table).mean(0)).depth <= CLEAR:
            return NOTHING

    def rounds(a: np.ndarray, b: np.ndarray) -> float:
        places = [getattr(valley(curve), place) for curve in (a, b)]
        return np.nan if None in places else places[1] - places[0]

    return paired(one, other, rounds)


def rounds_won(one: pd.DataFrame, other: pd.DataFrame) -> list[int]:
    """The rounds in which ``one`` has the higher test accuracy, by an interval over seeds that excludes 0."""
    gains = by_seed(one) - by_seed(other)
    return [r for r in range(gains.shape[1]) if over_seeds(gains[:, r], float).low > 0]


def difference(table: pd.DataFrame, column: str, reference: object) -> pd.DataFrame:
    """The table with a ``difference``: test accuracy less that of the run with ``column`` at ``reference`` and the same
    seed and round. The runs differ in ``column`` and seed alone."""
    least = table[table[column] == reference].set_index(["seed", "round"])["test_accuracy"]
    at = pd.MultiIndex.from_frame(table[["seed", "round"]])
    return table.assign(difference=table["test_accuracy"].to_numpy() - least.reindex(at).to_numpy())


def best_setting(table: pd.DataFrame, column: str) -> object:
    """The value of ``column`` whose runs' best validation accuracy, over their rounds, is highest on average."""
    best = table.groupby([column, "seed"])["validation_accuracy"].max()
    return best.groupby(column).mean().idxmax()


def valleys(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """A row for each value of the columns ``by``: depth of the test curve's valley with its interval over seeds,
    sparsity and accuracy at its shoulder, its bottom and its second peak, and the weights left at the bottom."""
    rows = []
    for value, group in table.groupby(by, sort=False):
        curves, sparsity = by_seed(group), sorted(group["sparsity"].unique())
        weights = sorted(group["remaining_weights"].unique(), reverse=True)
        mean, deep = curves.mean(0), depth_over_seeds(curves)
        found = valley(mean)
        row = {
            **dict(zip(by, value, strict=True)),
            "seeds": len(curves),
            "depth": deep.value,
            "low": deep.low,
            "high": deep.high,
        }
        for name in ("shoulder", "bottom", "peak"):
            at = getattr(found, name)
            row[f"{name}_sparsity"] = np.nan if at is None else sparsity[at]
            row[f"{name}_accuracy"] = np.nan if at is None else mean[at]
        row["bottom_weights"] = None if found.bottom is None else weights[found.bottom]
        rows.append(row)
    return pd.DataFrame(rows).astype({"bottom_weights": "Int64"})


def turn_from_peak(table: pd.DataFrame, measure: str = "learning_distance") -> Interval:
    """How many rounds lie between the bottom of the test curve's valley and the highest point of a measure, whichever
    comes first; not a number where the mean curve has no clear valley."""
    if table.empty or valley(by_seed(table).mean(0)).depth <= CLEAR:
        return NOTHING

    def rounds(mean: np.ndarray) -> float:
        bottom = valley(mean[0]).bottom
        return np.nan if bottom is None else abs(bottom - int(np.argmax(mean[1])))

    return over_seeds(np.stack([by_seed(table), by_seed(table, measure)], axis=1), rounds)


def rank_correlation(table: pd.DataFrame, one: str, other: str, size: bool = False) -> Interval:
    """Spearman's, over rounds, of two measures' mean curves, or its ``size`` alone. The interval is over seeds: rounds
    are taken as they are, and neighbouring ones are no independent witnesses."""
    if table.empty:
        return NOTHING
    both = np.stack([by_seed(table, one), by_seed(table, other)], axis=1)
    sign = abs if size else float
    return over_seeds(both, lambda mean: sign(float(spearmanr(*mean).statistic)))


def phase_table(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """A row for each phase of each value of ``by``: the rounds' sparsities at which it begins and ends."""
    rows = []
    for value, group in table.groupby(by):
        train, test = (by_seed(group, measure).mean(0) for measure in ("train_accuracy", "test_accuracy"))
        sparsity, names = sorted(group["sparsity"].unique()), phases(train, test)
        for phase in dict.fromkeys(names):
            first, last = names.index(phase), len(names) - 1 - names[::-1].index(phase)
            end = sparsity[min(last + 1, len(names) - 1)]
            rows.append({by: value, "phase": phase, "begins": sparsity[first], "ends": end})
    return pd.DataFrame(rows)


def how_many_clear(valleys: pd.DataFrame) -> str:
    """Of so many rows of `valleys`, how many valleys are certainly clear, in words."""
    if valleys["low"].isna().all():
        return "too few seeds to say"
    return f"{(valleys['low'] > CLEAR).sum()} of {len(valleys)}, by intervals over seeds"
