"""Advice on curves whose truth is known, and on tables that lack something."""

import numpy as np
import pandas as pd
import pytest

from dsdlib.analysis import advise, depth, stopping
from dsdlib.analysis.advice import BEST_DENSE_EPOCH, BEST_EPOCHS
from dsdlib.config import ConfigError

ROUNDS = np.arange(30)


def dip(bottom, depth, width):
    return depth * np.exp(-(((ROUNDS - bottom) / width) ** 2))


COLLAPSE = 35 / (1 + np.exp(2 * (27 - ROUNDS)))
TRUTH = {  # expected test accuracy in percent, at 20% pruned in each round
    "monotone": 70 - 0.3 * ROUNDS - COLLAPSE,
    "one valley": 62 - dip(12, 10, 4) - COLLAPSE,
    "noise only": np.full(30, 62.0),
    "two valleys": 70 - dip(6, 12, 2) - dip(18, 18, 3) - COLLAPSE,
}


def simulated(truth, seeds=5, draw=0):
    """A table whose curves are the truth, a shift of each seed, and noise of 1 point."""
    rng, rows = np.random.default_rng(draw), []
    for seed in range(seeds):
        test, validation = truth + rng.normal(size=(2, 1)) + rng.normal(size=(2, len(truth)))
        train = 100 - np.maximum(0, ROUNDS[: len(truth)] - 13) * 3
        columns = {"test_accuracy": test, "validation_accuracy": validation, "train_accuracy": train}
        rows.append(pd.DataFrame({"seed": seed, "sparsity": 1 - 0.8 ** ROUNDS[: len(truth)]} | columns))
    return pd.concat(rows)


def draws(name, number=30):
    return [advise(simulated(TRUTH[name], draw=draw)) for draw in range(number)]


@pytest.mark.parametrize(("name", "answer"), [("monotone", "no"), ("one valley", "yes"), ("two valleys", "yes")])
def test_the_answer_is_the_truth(name, answer):
    answers = [found.double_descent for found in draws(name)]
    assert answers.count(answer) >= 24 and not {"yes", "no"} - {answer} & set(answers)


def test_noise_alone_is_no_double_descent():
    answers = [found.double_descent for found in draws("noise only")]
    assert "yes" not in answers and answers.count("no") >= 15


def test_one_valley_has_its_depth_its_place_and_its_phases():
    found = advise(simulated(TRUTH["one valley"]))
    assert found.depth.value == pytest.approx(10, abs=1.5) and found.depth.low > 2
    assert abs(found.valley.bottom - 12) <= 1
    phase = dict(zip(ROUNDS, found.phases["phase"], strict=True))
    assert [phase[r] for r in (0, 4, 12, 20, 29)] == ["light", "light", "critical", "sweet", "collapsed"]
    assert (found.phases["agreement"].iloc[[0, 12, 20, 29]] == 1).all()
    assert found.phases["phase"][found.stop] == "sweet"
    text = str(found)
    for part in ("Yes.", f"{found.depth:.1f} points deep (5 seeds)", "In which phase", "Critical:", "Where should one"):
        assert part in text and part in found._repr_html_()


def test_a_second_valley_is_named_and_a_single_one_has_none():
    for found in draws("two valleys", 10):
        (sparsity,) = found.further
        assert 0.8**8 < 1 - sparsity < 0.8**4 and abs(found.valley.bottom - 18) <= 1
        assert found.further[sparsity].value == pytest.approx(12, abs=3)
        assert f"Another valley has its bottom at {sparsity:.2%} sparsity" in str(found)
    assert not any(found.further for name in ("one valley", "noise only") for found in draws(name, 10))


def test_one_seed_answers_what_it_can_and_says_what_it_cannot():
    found = advise(simulated(TRUTH["one valley"], seeds=1).drop(columns="seed"))
    assert found.double_descent == "unknown" and np.isnan(found.depth.low) and found.depth.value > 5
    assert "the table has 1 seed, and a verdict needs 5" in str(found)
    assert "How sure that is cannot be known from one seed." in str(found) and "agree" not in str(found)
    assert set(found.phases["phase"]) == {"light", "critical", "sweet", "collapsed"}


@pytest.mark.parametrize("seeds", [3, 4])
def test_three_seeds_have_an_interval_but_no_verdict(seeds):
    found = advise(simulated(TRUTH["one valley"], seeds))
    assert found.double_descent == "unknown" and found.depth.low > 2


def test_the_stop_is_chosen_without_test_accuracy():
    table = simulated(TRUTH["one valley"])
    found = advise(table)
    shuffled = np.random.default_rng(1).permutation(table["test_accuracy"])
    other = advise(table.assign(test_accuracy=shuffled))
    assert found.stop == other.stop
    rules = [advice.outcomes[["seed", "rule", "round", "trainings"]] for advice in (found, other)]
    pd.testing.assert_frame_equal(*rules)
    assert stopping.ORACLE not in set(found.outcomes["rule"])


def test_the_stop_is_the_sparsest_within_the_tolerance_of_the_best_mean_validation():
    table = simulated(TRUTH["one valley"])
    mean = table.groupby("sparsity")["validation_accuracy"].mean().to_numpy() / 100
    for tolerance in (0.0, 0.01, 0.05):
        assert advise(table, tolerance=tolerance).stop == max(np.flatnonzero(mean >= mean.max() - tolerance))


def test_without_validation_accuracy_nothing_is_chosen():
    found = advise(simulated(TRUTH["one valley"]).drop(columns="validation_accuracy"))
    assert found.stop is None and found.outcomes.empty and "Where should one stop?" not in str(found)
    assert "a rule must choose by validation accuracy, and there is none" in str(found)
    assert found.double_descent == "yes"


def test_without_train_accuracy_phases_are_those_of_the_test_curve():
    table = simulated(TRUTH["one valley"])
    found, whole = advise(table.drop(columns="train_accuracy")), advise(table)
    pd.testing.assert_frame_equal(found.phases, whole.phases)  # with a clear valley, test accuracy has the borders
    assert "there is no train accuracy" in str(found)
    flat = advise(simulated(TRUTH["monotone"]).drop(columns="train_accuracy"))
    assert set(flat.phases["phase"]) == {"light", "collapsed"}


@pytest.mark.parametrize("rounds", [1, 2])
def test_too_few_sparsities_are_named(rounds):
    found = advise(simulated(np.array([60.0, 50.0])[:rounds]))
    assert "a valley needs three" in str(found) and found.valley.bottom is None


def test_a_table_without_its_dense_network_says_so():
    table = simulated(TRUTH["one valley"])
    assert "36.0% sparsity" in advise(table[table["sparsity"] > 0.3]).unknown[0]


def test_other_runs_are_compared_by_shared_seeds():
    table = simulated(TRUTH["one valley"])
    flat = simulated(TRUTH["one valley"] + dip(12, 10, 4) + 3, draw=1)
    (change,) = advise(table, others={"λ = 0.01": flat}).changes
    assert change.shallower.value == pytest.approx(10, abs=2)
    assert change.gain.value == pytest.approx(3, abs=2) and change.gain.seeds == 5
    assert str(change).startswith("λ = 0.01: the valley is")
    assert advise(table, others={"more": table[table["seed"] < 3]}).changes[0].gain.seeds == 3
    assert np.isnan(advise(table, others={"new": table.assign(seed=table["seed"] + 9)}).changes[0].gain.value)


def test_what_stopping_by_epochs_changes_is_measured_where_there_are_epochs():
    """The last epoch of the dense networks loses 20 points that an earlier one had; pruned ones lose none."""
    last = simulated(TRUTH["monotone"]).assign(epoch=1)
    first = last.assign(epoch=0)
    dense = first["sparsity"] == 0
    first.loc[dense, ["test_accuracy", "validation_accuracy"]] += 20
    first.loc[~dense, ["test_accuracy", "validation_accuracy"]] -= 20
    found = advise(pd.concat([first, last]))
    every, only_dense = found.changes
    assert (every.name, only_dense.name) == (BEST_EPOCHS, BEST_DENSE_EPOCH)
    assert every.gain == only_dense.gain and np.isnan(only_dense.depth.value)
    taken = last[last.groupby("seed").cumcount() == found.stop].set_index("seed")["test_accuracy"]
    gain = (first[dense].set_index("seed")["test_accuracy"] - taken).mean()
    assert only_dense.gain.value == pytest.approx(gain)


def test_bad_settings_are_refused():
    with pytest.raises(ConfigError, match="tolerance = 2"):
        advise(simulated(TRUTH["monotone"]), tolerance=2)


def test_the_depth_is_that_of_the_studys_own_tables():
    table = simulated(TRUTH["one valley"])
    fractions = table.assign(round=table.groupby("seed").cumcount(), test_accuracy=table["test_accuracy"] / 100)
    assert advise(table).depth == depth(fractions)
