"""When to stop pruning: rules that see validation accuracy and the neurons' entropy, what they find and what they cost.

Pruning goes on round by round until a rule says stop; of the networks trained by then one takes the sparsest whose
validation accuracy lies within a tolerance of the best. DSD2 publishes no rule; these are our reading of it.
"""

import numpy as np
import pandas as pd

from dsdlib.analysis.curves import CLEAR, valley
from dsdlib.analysis.seeds import Interval, by_seed, over_seeds
from dsdlib.config import ConfigError

EARLY, ARMED, NEVER, ORACLE = "early stop", "entropy-armed stop", "no stop", "oracle"


RULES = (EARLY, ARMED, NEVER, ORACLE)


def check(tolerance: float, level: float, validation_fraction: float) -> None:
    """Raises `ConfigError`, before any training, for rules that cannot decide."""
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance = {tolerance}: a share of the validation data, from 0 to less than 1")
    if not 0 < level <= 1:
        raise ConfigError(f"level = {level}: a share of the dense network's entropy, above 0 and at most 1")
    if validation_fraction == 0:
        raise ConfigError("validation_fraction = 0: stopping rules decide by validation accuracy; hold some data out")


def early_stop(accuracy: np.ndarray, tolerance: float) -> int:
    """The usual early stop: the first round whose accuracy lies more than ``tolerance`` below the dense network's.

    ``accuracy`` is (rounds,). Without such a round, the last.
    """
    return _first(accuracy < accuracy[0] - tolerance)


def entropy_armed_stop(accuracy: np.ndarray, entropy: np.ndarray, tolerance: float, level: float) -> int:
    """The same stop, deaf until it is armed: then, the first round whose accuracy lies more than ``tolerance`` below
    the best since. `arming_round` arms it; what is never armed goes on to the last round."""
    start = arming_round(entropy, level)
    if start is None:
        return len(accuracy) - 1
    since = accuracy[start:]
    return start + _first(since < np.maximum.accumulate(since) - tolerance)


def arming_round(entropy: np.ndarray, level: float) -> int | None:
    """The first round whose entropy, (rounds,), lies below ``level`` times the dense network's, if there is one."""
    below = entropy < level * entropy[0]
    return int(np.argmax(below)) if below.any() else None


def arming_gap(table: pd.DataFrame, level: float) -> Interval:
    """How many rounds lie between `arming_round` and the bottom of the test curve's valley, on the mean curves of runs
    that differ in their seed alone; not a number without a clear valley or where nothing is armed."""

    def gap(mean: np.ndarray) -> float:
        entropy, test = mean
        found, armed = valley(test), arming_round(entropy, level)
        return np.nan if found.depth <= CLEAR or armed is None else abs(armed - found.bottom)

    return over_seeds(np.stack([by_seed(table, "entropy"), by_seed(table)], axis=1), gap)


def taken(accuracy: np.ndarray, last: int, tolerance: float) -> int:
    """Of the rounds up to ``last``, the sparsest whose accuracy lies within ``tolerance`` of the best of them."""
    trained = accuracy[: last + 1]
    return int(np.flatnonzero(trained >= trained.max() - tolerance)[-1])


def _first(where: np.ndarray) -> int:
    return int(np.argmax(where)) if where.any() else len(where) - 1


def outcomes(table: pd.DataFrame, tolerance: float, level: float) -> pd.DataFrame:
    """A row for each run of the tidy table and each rule: the run's configuration, ``rule``, ``trainings`` it paid for,
    ``round`` it took, with its ``sparsity`` and ``test_accuracy``; ``train_flops`` and ``train_flops_sparse`` up to the
    stop; ``regret``, the test accuracy missed; ``beyond``, by how much the best test accuracy after the stop exceeds
    the accuracy taken (0 where nothing comes after).

    A network without ReLU neurons has no entropy, and no row for the rule that needs it. The oracle sees the test set:
    it takes the sparsest round within ``tolerance`` of the best and stops there. Regret is measured from the best's.
    """
    rows = []
    for _, run in table.sort_values("round", kind="stable").groupby("key", sort=False):
        validation, test = run["validation_accuracy"].to_numpy(), run["test_accuracy"].to_numpy()
        best = taken(test, len(test) - 1, tolerance)
        stops = {EARLY: early_stop(validation, tolerance)}
        if "entropy" in run:
            stops[ARMED] = entropy_armed_stop(validation, run["entropy"].to_numpy(), tolerance, level)
        stops |= {NEVER: len(test) - 1, ORACLE: best}
        for rule, last in stops.items():
            chosen = best if rule == ORACLE else taken(validation, last, tolerance)
            paid = run[["train_flops", "train_flops_sparse"]].iloc[: last + 1].sum()
            found = {"rule": rule, "trainings": last + 1, **paid, "regret": test.max() - test[chosen]}
            found["beyond"] = test[last + 1 :].max() - test[chosen] if last + 1 < len(test) else 0.0
            rows.append(run.iloc[chosen].to_dict() | found)
    return pd.DataFrame(rows)


def summary(outcomes: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means over seeds, a row for each value of the columns ``by`` and each rule."""
    measures = ["trainings", "sparsity", "test_accuracy", "regret", "train_flops", "train_flops_sparse"]
    return outcomes.groupby([*by, "rule"], sort=False)[measures].mean().reset_index()


def advantage(one: pd.DataFrame, other: pd.DataFrame, measure: str, relative: bool = False) -> Interval:
    """By how much the outcomes ``one`` exceed ``other`` in a measure, in hundredths (accuracies: points) or, when
    ``relative``, in percent of the other; mean over seeds, which both share, and its interval."""
    a, b = (part.set_index("seed")[measure].sort_index() for part in (one, other))
    return over_seeds(100 * ((a / b - 1) if relative else (a - b)).to_numpy(), float)
