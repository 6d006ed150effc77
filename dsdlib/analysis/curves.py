"""What a pruning curve does, from the tidy table alone: its valley, its second peak, its phases, over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.signal import find_peaks

PHASES = ("light", "critical", "sweet", "collapsed")


CLEAR = 0.02  # a valley less deep than this is not told from the wiggles of a curve


@dataclass(frozen=True)
class Valley:
    """The deepest fall from which a curve recovers. Places are rounds, None where there is none."""

    depth: float
    bottom: int | None = None
    shoulder: int | None = None  # the highest point before it
    peak: int | None = None  # the highest point after it


def valley(accuracy: np.ndarray) -> Valley:
    """The valley of a curve (rounds,), by topographic prominence: how far one must climb from the bottom before one
    can go anywhere lower (or off the edge). A monotone curve has depth 0; a final collapse alone is no valley."""
    bottoms, found = find_peaks(-np.asarray(accuracy, dtype=float), prominence=0)
    if len(bottoms) == 0:
        return Valley(0.0)
    deepest = int(np.argmax(found["prominences"]))
    places = (bottoms[deepest], found["left_bases"][deepest], found["right_bases"][deepest])
    return Valley(float(found["prominences"][deepest]), *map(int, places))


def in_words(sparsities: Sequence[float], test: np.ndarray) -> str:
    """What a test curve does, as a clause whose numbers are the curve's own."""
    found = valley(test)
    if found.depth <= CLEAR:
        return (
            f"test accuracy goes from {test[0]:.1%} dense to {test[-1]:.1%} at {sparsities[-1]:.2%} sparsity, no valley"
        )
    places = [(test[at], sparsities[at]) for at in (found.shoulder, found.bottom, found.peak)]
    high, low, again = (f"{accuracy:.1%} at {sparsity:.1%} sparsity" for accuracy, sparsity in places)
    high = f"the dense network's {test[0]:.1%}" if found.shoulder == 0 else high
    return f"test accuracy falls from {high} to {low}, rises to {again} and ends at {test[-1]:.1%}"


def stays_below(sparsities: Sequence[float], curve: np.ndarray, level: float) -> str:
    """From where on a curve stays below a level, in words."""
    first = 1 + max(np.flatnonzero(np.asarray(curve) >= level), default=-1)
    return f"from {sparsities[first]:.1%} sparsity on" if first < len(curve) else "at no sparsity to the end"


def phases(train: np.ndarray, test: np.ndarray, clear: float = CLEAR) -> list[str]:
    """The phase of each round (He et al. 2022, section 4), from mean train and test accuracy, each (rounds,).

    With a valley deeper than ``clear``: light until test accuracy is half way down to the valley's bottom, critical
    until it is half way up to the second peak, sweet until it is below that again, then collapsed. Without one: light
    until train and test accuracy are more than 0.05 below the dense network's, then collapsed. The paper draws the
    borders by eye; these thresholds are ours.
    """
    found, rounds = valley(test), np.arange(len(test))
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


def fall_while_fitting(train: np.ndarray, test: np.ndarray, margin: float = 0.01) -> float:
    """How far test accuracy falls while train accuracy holds; both (rounds,).

    From the first round that fits the training labels, to within ``margin`` of the best that any round does, to the
    last round before train accuracy leaves that margin. Not a number where no round fits 95% of the labels.
    """
    if train.max() < 0.95:
        return np.nan
    fits = train >= train.max() - margin
    first = int(np.argmax(fits))
    last = first + int(np.cumprod(fits[first:]).sum()) - 1
    return float(test[first] - test[last])


def amid(phases: Sequence[str], rounds: Sequence[int]) -> dict[str, int]:
    """Of each phase that has any of these ``rounds``, the one nearest to its middle, the earlier of two."""
    found = {}
    for phase in dict.fromkeys(phases):
        own = [r for r, name in enumerate(phases) if name == phase]
        if there := [r for r in rounds if r in own]:
            found[phase] = min(there, key=lambda r, middle=(own[0] + own[-1]) / 2: abs(r - middle))
    return found


def best_epochs(history: pd.DataFrame, by: str) -> pd.DataFrame:
    """Of a history (`load_history`), for each run and round the row of the epoch with the highest ``by``, the first of
    equals."""
    return history.loc[history.groupby(["key", "round"])[by].idxmax()]


def climbs(paths: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The largest ``climb`` of the train loss along each path (`dsdlib.landscape.paths`): how far it ever stands above
    a point that came before; 0 where it only falls."""
    rows = []
    for value, path in paths.groupby(list(by), sort=False):
        losses = path.sort_values("alpha")["train_loss"].to_numpy()
        rows.append(
            {**dict(zip(by, value, strict=True)), "climb": float((losses - np.minimum.accumulate(losses)).max())}
        )
    return pd.DataFrame(rows)
