"""What a pruning curve does, from the tidy table alone: its valley, its second peak, its phases, over seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import find_peaks
from scipy.stats import bootstrap

PHASES = ("light", "critical", "sweet", "collapsed")
CLEAR = 0.02  # a valley less deep than this is not told from the wiggles of a curve


@dataclass(frozen=True)
class Valley:
    """The deepest fall from which a curve recovers. Places are rounds, None where there is none."""

    depth: float
    bottom: int | None = None
    shoulder: int | None = None  # the highest point before it
    peak: int | None = None  # the highest point after it


@dataclass(frozen=True)
class Interval:
    """A value over seeds and its 95% bootstrap interval; bounds are nan with fewer than two seeds."""

    value: float
    low: float
    high: float


def valley(accuracy: np.ndarray) -> Valley:
    """The valley of a curve (rounds,), by topographic prominence: how far one must climb from the bottom before one
    can go anywhere lower (or off the edge). A monotone curve has depth 0; a final collapse alone is no valley."""
    bottoms, found = find_peaks(-np.asarray(accuracy, dtype=float), prominence=0)
    if len(bottoms) == 0:
        return Valley(0.0)
    deepest = int(np.argmax(found["prominences"]))
    places = (bottoms[deepest], found["left_bases"][deepest], found["right_bases"][deepest])
    return Valley(float(found["prominences"][deepest]), *map(int, places))


def by_seed(table: pd.DataFrame, measure: str = "test_accuracy") -> np.ndarray:
    """One measure of runs that differ in their seed alone, (seeds, rounds)."""
    return table.pivot(index="seed", columns="round", values=measure).to_numpy(dtype=float)


def over_seeds(curves: np.ndarray, statistic: Callable[[np.ndarray], float]) -> Interval:
    """A statistic of the seeds' mean curve, with the percentile bootstrap interval of resampled seeds.

    ``curves`` is (seeds, …). With a handful of seeds such an interval is somewhat too narrow.
    """
    value = float(statistic(curves.mean(0)))
    if len(curves) < 2:
        return Interval(value, np.nan, np.nan)
    resampled = bootstrap(
        (np.arange(len(curves)),),
        lambda chosen: float(statistic(curves[chosen].mean(0))),
        vectorized=False,
        n_resamples=1000,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    return Interval(value, float(resampled.confidence_interval.low), float(resampled.confidence_interval.high))


def depth(table: pd.DataFrame) -> Interval:
    """The depth in points of the valley in the mean test curve of runs that differ in their seed alone."""
    return _points(table, ("test_accuracy",), lambda test: valley(test).depth)


def fall(table: pd.DataFrame) -> Interval:
    """`fall_while_fitting` in points, of runs that differ in their seed alone."""
    return _points(table, ("train_accuracy", "test_accuracy"), fall_while_fitting)


def _points(table: pd.DataFrame, measures: tuple[str, ...], statistic: Callable[..., float]) -> Interval:
    if table.empty:
        return Interval(np.nan, np.nan, np.nan)
    curves = np.stack([by_seed(table, measure) for measure in measures], axis=1)
    return over_seeds(curves, lambda mean: 100 * statistic(*mean))


def paired(one: pd.DataFrame, other: pd.DataFrame, statistic: Callable[[np.ndarray, np.ndarray], float]) -> Interval:
    """A statistic of two mean test curves whose runs share their seeds: both are resampled together."""
    return over_seeds(np.stack([by_seed(one), by_seed(other)], axis=1), lambda mean: statistic(*mean))


def depth_difference(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points the valley of ``one`` is deeper than that of ``other``."""
    return paired(one, other, lambda a, b: 100 * (valley(a).depth - valley(b).depth))


def largest_lead(one: pd.DataFrame, other: pd.DataFrame) -> Interval:
    """By how many points ``one`` beats ``other`` in the round where it does so most."""
    return paired(one, other, lambda a, b: 100 * float((a - b).max()))


def earlier(one: pd.DataFrame, other: pd.DataFrame, place: str) -> Interval:
    """How many rounds ``one`` comes to its valley's ``bottom`` or second ``peak`` before ``other``; not a number where
    either mean curve has no clear valley."""
    for table in (one, other):
        if valley(by_seed(table).mean(0)).depth <= CLEAR:
            return Interval(np.nan, np.nan, np.nan)

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
    """A row for each value of the columns ``by``: depth of the mean test curve's valley with its interval over seeds,
    and sparsity and accuracy at its shoulder, its bottom and its second peak."""
    rows = []
    for value, group in table.groupby(by):
        curves, sparsity = by_seed(group), sorted(group["sparsity"].unique())
        mean, depth = curves.mean(0), over_seeds(curves, lambda curve: valley(curve).depth)
        found = valley(mean)
        row = {
            **dict(zip(by, value, strict=True)),
            "seeds": len(curves),
            "depth": depth.value,
            "low": depth.low,
            "high": depth.high,
        }
        for name in ("shoulder", "bottom", "peak"):
            at = getattr(found, name)
            row[f"{name}_sparsity"] = np.nan if at is None else sparsity[at]
            row[f"{name}_accuracy"] = np.nan if at is None else mean[at]
        rows.append(row)
    return pd.DataFrame(rows)


def in_words(sparsities: Sequence[float], test: np.ndarray) -> str:
    """What a test curve does, as a clause whose numbers are the curve's own."""
    found = valley(test)
    if found.depth <= CLEAR:
        return (
            f"test accuracy goes from {test[0]:.1%} dense to {test[-1]:.1%} at {sparsities[-1]:.2%} sparsity, no valley"
        )
    places = {at: f"at {sparsities[at]:.1%} sparsity" for at in (found.shoulder, found.bottom, found.peak)}
    places[0] = "of the dense network"
    high, low, again = (f"{test[at]:.1%} {places[at]}" for at in (found.shoulder, found.bottom, found.peak))
    return f"test accuracy falls from {high} to {low}, rises to {again} and ends at {test[-1]:.1%}"


def first_below(sparsities: Sequence[float], curve: np.ndarray, level: float) -> str:
    """From where a curve lies below a level, in words."""
    below = np.flatnonzero(np.asarray(curve) < level)
    return f"from {sparsities[below[0]]:.1%} sparsity on" if len(below) else "at no sparsity"


def phases(train: np.ndarray, test: np.ndarray, clear: float = CLEAR) -> list[str]:
    """The phase of each round (He et al. 2022, section 4), from mean train and test accuracy, each (rounds,).

    With a valley deeper than ``clear``: light until test accuracy is half way down to the valley's bottom, critical
    until it is half way up to the second peak, sweet until it is below that again, then collapsed. Without one: light
    until train or test accuracy is more than 0.05 below the dense network's, then collapsed. The paper draws the
    borders by eye; these thresholds are ours.
    """
    found, rounds = valley(test), np.arange(len(test))
    if found.depth <= clear:
        fallen = (train < train[0] - 0.05) | (test < test[0] - 0.05)
        end = int(np.argmax(fallen)) if fallen.any() else len(test)
        return ["light" if r < end else "collapsed" for r in rounds]
    down, up = ((test[found.bottom] + test[high]) / 2 for high in (found.shoulder, found.peak))
    falling = (rounds > found.shoulder) & (test < down)
    climbed = (rounds > found.bottom) & (test >= up)
    lost = (rounds > found.peak) & (test < up)
    borders = [int(np.argmax(c)) if c.any() else len(test) for c in (falling, climbed, lost)]
    return [PHASES[sum(r >= border for border in borders)] for r in rounds]


def fall_while_fitting(train: np.ndarray, test: np.ndarray, margin: float = 0.01) -> float:
    """How far test accuracy has fallen from the dense network's by the sparsest round up to which train accuracy has
    stayed within ``margin`` of the dense network's; both (rounds,)."""
    held = np.cumprod(train >= train[0] - margin).sum()
    return float(test[0] - test[held - 1])


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
