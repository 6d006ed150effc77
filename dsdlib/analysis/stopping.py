"""When to stop pruning: rules that use validation accuracy and the neurons' entropy, with what they find and cost.

A rule prunes round by round until it stops. Of the networks trained so far it takes the sparsest one whose validation
accuracy is within a tolerance of the best. The tolerance is in accuracy on the true labels; `noise_factor` converts it
to accuracy on labels as noisy as the validation data's. Quétu & Tartaglione (2024) publish no such rule; these are our
reading.
"""

import numpy as np
import pandas as pd

from dsdlib.analysis.intervals import Interval, nothing, over_seeds
from dsdlib.analysis.valley_depth import steps_from_bottom
from dsdlib.config import ConfigError

EARLY, ARMED, NEVER, ORACLE = "early stop", "entropy-armed stop", "no stop", "oracle"
EPOCH = "best epoch"  # of the dense network, which is not pruned
RULES = (EARLY, ARMED, NEVER, ORACLE)


def check(tolerance: float, level: float, validation_fraction: float, classes: int | None = None) -> None:
    """Check the settings of the rules before anything is trained. Raises `ConfigError` for values that cannot work."""
    if not 0 <= tolerance < 1:
        raise ConfigError(f"tolerance = {tolerance}: a difference of accuracies; allowed: 0 to less than 1")
    if not 0 < level <= 1:
        raise ConfigError(f"level = {level}: a fraction of the dense network's entropy; allowed: above 0, at most 1")
    if classes is not None and classes < 2:
        raise ConfigError(f"classes = {classes}: the data set's number of classes; allowed: 2 or more")
    if validation_fraction == 0:
        raise ConfigError("validation_fraction = 0: the stopping rules need validation accuracy; allowed: above 0")


def noise_factor(wrong: float, classes: int) -> float:
    """How many points of accuracy on noisy labels one point of accuracy on the true labels makes.

    ``wrong`` is the share of labels that are wrong. The factor is 1 − wrong·C/(C − 1) for C ``classes``, if the
    network's errors fall on all other classes alike: a wrong answer then meets a wrong label with probability
    1/(C − 1). With 50% symmetric noise and 10 classes it is 0.44. Raises `ConfigError` where it is not above 0, since
    accuracy on such labels says nothing.
    """
    factor = 1 - wrong * classes / (classes - 1)
    if factor <= 0:
        raise ConfigError(f"{wrong:.0%} of the labels are wrong: with {classes} classes no choice can be made by them")
    return factor


def early_stop(accuracy: np.ndarray, tolerance: float) -> int:
    """The usual early stop: the first round whose accuracy is more than ``tolerance`` below the first network's.

    ``accuracy`` is (rounds,). If there is no such round, it is the last one.
    """
    return _first(accuracy < accuracy[0] - tolerance)


def entropy_armed_stop(accuracy: np.ndarray, entropy: np.ndarray, tolerance: float, level: float) -> int:
    """The `early_stop` that begins at `arming_round`, with that round's network as its first; both are (rounds,).

    The valley lies below the dense network, so that a stop that compared with it would end where it is armed. If it is
    never armed, it stops at the last round.
    """
    start = arming_round(entropy, level)
    return len(accuracy) - 1 if start is None else start + early_stop(accuracy[start:], tolerance)


def arming_round(entropy: np.ndarray, level: float) -> int | None:
    """The first round whose ``entropy`` (rounds,) is below ``level`` times the dense network's, or None."""
    below = entropy < level * entropy[0]
    return int(np.argmax(below)) if below.any() else None


def arming_gap(table: pd.DataFrame, level: float) -> Interval:
    """`steps_from_bottom` of `arming_round`, if the mean entropy falls below ``level``."""
    found = steps_from_bottom(table, "entropy", lambda mean: arming_round(mean, level))
    return nothing("never armed") if found.reason == "not measured" else found


def taken(accuracy: np.ndarray, last: int, tolerance: float) -> int:
    """The last of the rounds up to ``last`` whose accuracy is within ``tolerance`` of the best of them."""
    trained = accuracy[: last + 1]
    return int(np.flatnonzero(trained >= trained.max() - tolerance)[-1])


def _first(where: np.ndarray) -> int:
    """The first round where the condition (rounds,) holds, or the last round."""
    return int(np.argmax(where)) if where.any() else len(where) - 1


def outcomes(table: pd.DataFrame, tolerance: float, level: float, classes: int | None = None) -> pd.DataFrame:
    """What each rule finds and costs, a row for each run of the tidy table and each rule.

    A row is the run's row of the round that the rule takes, with ``rule``; ``trainings``, the number of rounds trained
    until the stop; ``train_flops`` and ``train_flops_sparse`` summed until the stop; ``regret``, the best test accuracy
    of any round less the accuracy taken; and ``beyond``, by how much the best test accuracy after the stop exceeds the
    accuracy taken (0 if the rule stops at the last round).

    ``tolerance`` is in accuracy on the true labels. For the validation labels, which are as noisy as the training
    labels, it is multiplied by `noise_factor`, with the share of the training labels that are wrong. Without the number
    of ``classes`` they are taken to be the true ones.

    A network without ReLU neurons has no entropy, and no row for the entropy-armed stop. A table that another program
    wrote may lack the FLOPs. The oracle uses the test set: it takes the sparsest round whose test accuracy is within
    ``tolerance`` of the best, and stops there.
    """
    rows = []
    for _, run in table.sort_values("round", kind="stable").groupby("key", sort=False):
        validation, test = run["validation_accuracy"].to_numpy(), run["test_accuracy"].to_numpy()
        best = taken(test, len(test) - 1, tolerance)
        noisy = tolerance * (noise_factor(run["corrupted_fraction"].iloc[0], classes) if classes else 1)
        stops = {EARLY: early_stop(validation, noisy)}
        if "entropy" in run and run["entropy"].notna().any():
            stops[ARMED] = entropy_armed_stop(validation, run["entropy"].to_numpy(), noisy, level)
        stops |= {NEVER: len(test) - 1, ORACLE: best}
        for rule, last in stops.items():
            chosen = best if rule == ORACLE else taken(validation, last, noisy)
            cost = run.filter(["train_flops", "train_flops_sparse"]).iloc[: last + 1].sum()
            found = {"rule": rule, "trainings": last + 1, **cost, "regret": test.max() - test[chosen]}
            found["beyond"] = test[last + 1 :].max() - test[chosen] if last + 1 < len(test) else 0.0
            rows.append(run.iloc[chosen].to_dict() | found)
    return pd.DataFrame(rows)


def best_epoch(dense: pd.DataFrame) -> pd.DataFrame:
    """The rows of `outcomes` of stopping by epochs: the dense network at its epoch of best validation accuracy.

    ``dense`` are rows of dense networks that name their best epoch (`dsdlib.study.sweep.with_best_epoch`). The cost is
    that of a whole training, because the best epoch is known only at the end.
    """
    return dense.assign(rule=EPOCH, test_accuracy=dense["best_epoch_test_accuracy"], trainings=1, regret=np.nan)


def summary(outcomes: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means of `outcomes` over seeds, a row for each value of the columns ``by`` and each rule."""
    measures = ["trainings", "sparsity", "remaining_weights", "test_accuracy", "regret"]
    found = outcomes.groupby([*by, "rule"], sort=False)[[*measures, "train_flops", "train_flops_sparse"]].mean()
    return found.reset_index().astype({"remaining_weights": int})


def advantage(one: pd.DataFrame, other: pd.DataFrame, measure: str, relative: bool = False) -> Interval:
    """By how much the outcomes ``one`` exceed ``other`` in a ``measure``, paired by seed: the mean over shared seeds.

    The unit is hundredths (for accuracies: points) or, if ``relative``, percent of the other's.
    """
    series = [part.set_index("seed")[measure] for part in (one, other)]
    a, b = pd.concat(series, axis=1, join="inner").to_numpy(dtype=float).T
    return over_seeds(100 * ((a / b - 1) if relative else (a - b)))
