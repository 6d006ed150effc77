"""One pruning curve: its valley, its second peak, its phases, and what it does in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

PHASES = ("light", "critical", "sweet", "collapsed")
CLEAR = 0.02  # a valley counts if it is deeper than this fraction (2 points)


@dataclass(frozen=True)
class Valley:
    """The deepest valley of a curve: its depth, and its places as rounds, which are None if there is no valley.

    ``bottom`` is the bottom, ``shoulder`` the highest point before it and ``peak`` the highest point after it.
    """

    depth: float
    bottom: int | None = None
    shoulder: int | None = None
    peak: int | None = None


def _steps(sparsities: Sequence[float]) -> float:
    density = 1 - np.asarray(sparsities, dtype=float)
    density = density[density > 0]
    return float(np.log(np.median(density[1:] / density[:-1])) / np.log(0.8)) if len(density) > 1 else 0.0


def steps_a_round(sparsities: Sequence[float]) -> float:
    """How many pruning steps of 20% a round makes, to one decimal: 1 at 20% a round, 2 at 36%.

    ``sparsities`` are those of the rounds, ascending. It is 0 where nothing is pruned.
    """
    return round(_steps(sparsities), 1)


def smoothing_window(sparsities: Sequence[float]) -> int:
    """Over how many rounds a curve is averaged before its valley is placed, an odd number.

    ``sparsities`` are those of the rounds, ascending. The window spans about three pruning steps of 20%: 3 rounds at
    20% a round, and 1 (no smoothing) at 36% or more.
    """
    steps = _steps(sparsities)
    return 1 + 2 * max(0, round((3 / steps - 1) / 2)) if steps > 0 else 1


def moving_average(curves: np.ndarray, window: int) -> np.ndarray:
    """Curves (…, rounds) averaged over ``window`` neighbouring rounds, an odd number; ends are extended."""
    ends = [(0, 0)] * (curves.ndim - 1) + [(window // 2, window // 2)]
    return sliding_window_view(np.pad(curves, ends, "edge"), window, axis=-1).mean(-1)


def deepest(curve: np.ndarray) -> tuple[int, int, int]:
    """Shoulder, bottom and peak of the deepest valley of a ``curve`` with at least three points.

    The bottom is the inner point that lies furthest below the lower of the highest points on its two sides. A curve
    without a valley has such a point as well. Numbers are compared after rounding to 1e-9, so that ties are ties in any
    unit; the first of equals is taken.
    """
    left, right = np.maximum.accumulate(curve)[:-2], np.maximum.accumulate(curve[::-1])[::-1][2:]
    bottom = 1 + _highest(np.minimum(left, right) - curve[1:-1])
    return _highest(curve[:bottom]), bottom, bottom + 1 + _highest(curve[bottom + 1 :])


def _highest(values: np.ndarray) -> int:
    return int(np.argmax(np.round(values, 9)))


def between_rounds(curve: np.ndarray, at: int) -> float:
    """The place of the extremum of a ``curve`` (rounds,) in round ``at``, to a fraction of a round.

    It is that of the parabola through the round and its two neighbours; at an end of the curve it is ``at`` itself.
    """
    if not 0 < at < len(curve) - 1:
        return float(at)
    before, here, after = curve[at - 1 : at + 2]
    bend = before - 2 * here + after
    return at + float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend else float(at)


def side_and_bottom(curve: np.ndarray) -> tuple[int, int]:
    """The lower of the two sides of the deepest valley, and its bottom: the valley is as deep as their difference."""
    shoulder, bottom, peak = deepest(curve)
    return (shoulder if round(curve[shoulder] - curve[peak], 9) <= 0 else peak), bottom


def valley(curve: np.ndarray, window: int = 1) -> Valley:
    """The valley of a ``curve`` (rounds,), by topographic prominence.

    The depth is how far one must climb from the bottom before one can reach a lower point or the edge. A curve that
    only falls has depth 0, so a final collapse is no valley. The places are those of the curve's moving average over
    ``window`` rounds; the depth is read off the curve itself.
    """
    if len(curve) < 3:
        return Valley(0.0)
    curve = np.asarray(curve, dtype=float)
    smooth = moving_average(curve, window)
    side, bottom = side_and_bottom(smooth)
    if round(smooth[side] - smooth[bottom], 9) <= 0:
        return Valley(0.0)
    shoulder, _, peak = deepest(smooth)
    return Valley(max(0.0, float(curve[side] - curve[bottom])), bottom, shoulder, peak)


def in_words(sparsities: Sequence[float], test: np.ndarray) -> str:
    """What a test curve (rounds,) does, as a clause that contains its numbers."""
    found = valley(test, smoothing_window(sparsities))
    if found.depth <= CLEAR:
        return (
            f"test accuracy goes from {test[0]:.1%} dense to {test[-1]:.1%} at {sparsities[-1]:.2%} sparsity, "
            "without a valley"
        )
    places = [(test[at], sparsities[at]) for at in (found.shoulder, found.bottom, found.peak)]
    high, low, again = (f"{accuracy:.1%} at {sparsity:.1%} sparsity" for accuracy, sparsity in places)
    high = f"the dense network's {test[0]:.1%}" if found.shoulder == 0 else high
    return f"test accuracy falls from {high} to {low}, rises to {again} and ends at {test[-1]:.1%}"


def stays_below(sparsities: Sequence[float], curve: np.ndarray, level: float) -> str:
    """The sparsity from which a ``curve`` (rounds,) stays below a ``level``, in words."""
    first = 1 + max(np.flatnonzero(np.asarray(curve) >= level), default=-1)
    return f"from {sparsities[first]:.1%} sparsity on" if first < len(curve) else "in no last stretch of rounds"


def phases(train: np.ndarray, test: np.ndarray, clear: float = CLEAR, window: int = 1) -> list[str]:
    """The phase of each round (He et al. 2022, section 4), from mean train and test accuracy, each (rounds,).

    With a valley deeper than ``clear``, a round is light until test accuracy has fallen half way to the valley's
    bottom, critical until it has risen half way to the second peak, sweet until it is below that level again, and then
    collapsed. Without a valley, it is light until train and test accuracy are more than 0.05 below the dense network's,
    and then collapsed. The paper draws the borders by eye; these thresholds are ours. ``window`` is `valley`'s.
    """
    found, rounds = valley(test, window), np.arange(len(test))
    if found.depth <= clear:
        fallen = (train < train[0] - 0.05) & (test < test[0] - 0.05)
        end = int(np.argmax(fallen)) if fallen.any() else len(test)
        return ["light" if r < end else "collapsed" for r in rounds]
    down, up = ((test[found.bottom] + test[high]) / 2 for high in (found.shoulder, found.peak))
    falling = (rounds > found.shoulder) & (test < down)
    climbed = (rounds > found.bottom) & (test >= up)
    lost = (rounds > found.peak) & (test < up)
    borders = [int(np.argmax(c)) if c.any() else len(test) for c in (falling, climbed, lost)]
    return [PHASES[sum(r >= border for border in borders)] for r in rounds]


def fitting_rounds(train: np.ndarray, margin: float = 0.01) -> tuple[int, int] | None:
    """The first and the last of the rounds in a row that fit the training labels, from train accuracy (rounds,).

    A round fits the labels if its train accuracy is within ``margin`` of the best of any round. None if no round fits
    95% of the labels.
    """
    if train.max() < 0.95:
        return None
    fits = train >= train.max() - margin
    first = int(np.argmax(fits))
    return first, first + int(np.cumprod(fits[first:]).sum()) - 1


def amid(phases: Sequence[str], rounds: Sequence[int]) -> dict[str, int]:
    """For each phase, the one of the ``rounds`` that is nearest to the phase's middle, and the earlier of two.

    ``phases`` has the phase of every round. A phase that has none of the ``rounds`` is left out.
    """
    found = {}
    for phase in dict.fromkeys(phases):
        own = [r for r, name in enumerate(phases) if name == phase]
        if there := [r for r in rounds if r in own]:
            found[phase] = min(there, key=lambda r, middle=(own[0] + own[-1]) / 2: abs(r - middle))
    return found


def best_epochs(history: pd.DataFrame, by: str) -> pd.DataFrame:
    """For each run and round of a ``history`` (`dsdlib.load_history`), the row of the epoch with the highest ``by``.

    Of equal epochs it is the first. A round without such a value, as a diverged one, has no row.
    """
    known = history.dropna(subset=by)
    return known.loc[known.groupby(["key", "round"])[by].idxmax()]


def climbs(paths: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The largest rise of the train loss along each path of ``paths`` (`dsdlib.study.landscape.paths`).

    A row for each value of the columns ``by``, with the rise as ``climb``: how far the loss ever lies above an earlier
    point of the path, which is 0 if it only falls.
    """
    rows = []
    for value, path in paths.groupby(list(by), sort=False):
        losses = path.sort_values("alpha")["train_loss"].to_numpy()
        climb = float((losses - np.minimum.accumulate(losses)).max())
        rows.append({**dict(zip(by, value, strict=True)), "climb": climb})
    return pd.DataFrame(rows)
