"""Stopping rules against a loop that prunes round by round, what they find and pay by hand, and DSD2's own figure."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsdlib.analysis import published, stopping
from dsdlib.analysis.stopping import ARMED, EARLY, NEVER, ORACLE, RULES
from dsdlib.config import ConfigError
from dsdlib.noise import corrupt

NAN = float("nan")
HONEST = [EARLY, ARMED, NEVER]
FRACTION = st.integers(0, 16).map(lambda n: n / 16)  # exact, so that a tie is one
RUN = st.lists(st.tuples(FRACTION, FRACTION, FRACTION), min_size=1, max_size=12)
RUN = RUN.map(lambda rounds: tuple(np.array(rounds).T))  # validation, test, entropy
TOLERANCE = st.integers(0, 15).map(lambda n: n / 16)
LEVEL = st.integers(1, 16).map(lambda n: n / 16)


def prune_until_told(validation, entropy, tolerance, level):
    """The armed stop as one would live through it; ``level`` None: it is armed from the start."""
    mark = validation[0] if level is None else None
    for round_, (accuracy, bits) in enumerate(zip(validation, entropy, strict=True)):
        if mark is None and bits < level * entropy[0]:
            mark = accuracy
        if mark is not None and accuracy < mark - tolerance:
            return round_
    return len(validation) - 1


@given(RUN, TOLERANCE, LEVEL)
@settings(max_examples=200, deadline=None)
def test_the_stops_are_those_of_a_loop_that_cannot_look_ahead(run, tolerance, level):
    validation, _, entropy = run
    early = stopping.early_stop(validation, tolerance)
    armed = stopping.entropy_armed_stop(validation, entropy, tolerance, level)
    assert early == prune_until_told(validation, entropy, tolerance, None)
    assert armed == prune_until_told(validation, entropy, tolerance, level)
    assert stopping.early_stop(validation[: early + 1], tolerance) == early
    assert stopping.entropy_armed_stop(validation[: armed + 1], entropy[: armed + 1], tolerance, level) == armed
    assert armed >= (stopping.arming_round(entropy, level) or 0)


@pytest.mark.parametrize(
    ("accuracy", "entropy", "early", "arms", "armed"),
    [
        # A dip of 0.2, a second peak at round 4 and collapse; the entropy is below half after the dip, or in it.
        ([0.6, 0.55, 0.4, 0.5, 0.7, 0.65, 0.3], [0.8, 0.7, 0.41, 0.3, 0.2, 0.1, 0.1], 2, 3, 6),
        ([0.6, 0.55, 0.4, 0.5, 0.7, 0.65, 0.3], [0.8, 0.7, 0.39, 0.3, 0.2, 0.1, 0.1], 2, 2, 6),
        # Armed at once, it would have stopped in the dip; armed too late, at the last round, it stops there.
        ([0.6, 0.55, 0.4, 0.5, 0.7, 0.65, 0.3], [0.8, 0.3, 0.3, 0.3, 0.2, 0.1, 0.1], 2, 1, 2),
        ([0.6, 0.55, 0.4, 0.7, 0.5, 0.2, 0.1], [0.8, 0.7, 0.3, 0.3, 0.2, 0.1, 0.1], 2, 2, 5),  # 0.5 is above 0.4
        ([0.6, 0.55, 0.4, 0.5, 0.7, 0.65, 0.3], [0.8, 0.7, 0.6, 0.5, 0.5, 0.5, 0.3], 2, 6, 6),
        ([0.75, 0.625, 0.75, 0.5], [0.8, 0.4, 0.3, 0.2], 3, 2, 3),  # exactly the tolerance, exactly the level: not yet
        ([0.6, 0.7, 0.8], [0.8, 0.8, 0.9], 2, None, 2),  # never armed, it never stops
        ([0.6], [0.8], 0, None, 0),
    ],
)
def test_stops_by_hand(accuracy, entropy, early, arms, armed):
    accuracy, entropy = np.array(accuracy), np.array(entropy)
    assert stopping.early_stop(accuracy, 0.125) == early
    assert stopping.arming_round(entropy, 0.5) == arms
    assert stopping.entropy_armed_stop(accuracy, entropy, 0.125, 0.5) == armed


@given(RUN, TOLERANCE, st.data())
@settings(max_examples=100, deadline=None)
def test_the_sparsest_round_near_the_best_is_taken(run, tolerance, draw):
    validation, *_ = run
    last = draw.draw(st.integers(0, len(validation) - 1))
    near = [r for r in range(last + 1) if all(validation[r] >= other - tolerance for other in validation[: last + 1])]
    assert stopping.taken(validation, last, tolerance) == max(near)


def a_table(runs, **columns):
    """Tidy rows of made-up runs (validation, test, entropy), a seed each; round r of seed s costs 10s + r + 1."""
    rows = [
        {
            "key": f"run {seed}",
            "seed": seed,
            "round": r,
            "sparsity": 1 - 0.8**r,
            "validation_accuracy": validation[r],
            "test_accuracy": test[r],
            "entropy": entropy[r],
            "corrupted_fraction": 0.0,
            "remaining_weights": 100 - r,
            "train_flops": 10.0 * seed + r + 1,
            "train_flops_sparse": (10.0 * seed + r + 1) / 2,
            **columns,
        }
        for seed, (validation, test, entropy) in enumerate(runs)
        for r in range(len(validation))
    ]
    return pd.DataFrame(rows)


@given(st.lists(RUN, min_size=1, max_size=3), TOLERANCE, LEVEL)
@settings(max_examples=100, deadline=None)
def test_what_holds_of_every_outcome(runs, tolerance, level):
    table = a_table(runs)
    found = stopping.outcomes(table, tolerance, level, 10)
    assert list(zip(found["key"], found["rule"], strict=True)) == list(product(table["key"].unique(), RULES))
    for row in found.itertuples():
        validation, test, _ = runs[row.seed]
        assert row.test_accuracy == test[row.round] <= max(test)
        assert row.regret == max(test) - test[row.round] >= 0
        assert row.sparsity == 1 - 0.8**row.round
        assert row.round < row.trainings <= len(test)
        assert row.train_flops == sum(10 * row.seed + r for r in range(1, row.trainings + 1))
        assert row.train_flops_sparse == row.train_flops / 2
        if row.rule == NEVER:
            assert row.trainings == len(test)
        if row.rule == ORACLE:
            assert row.regret <= tolerance
            assert row.trainings == row.round + 1  # it pays for nothing after what it takes
            assert all(later < max(test) - tolerance for later in test[row.round + 1 :])
        else:
            assert validation[row.round] >= max(validation[: row.trainings]) - tolerance


@given(RUN, TOLERANCE, LEVEL, st.randoms())
@settings(max_examples=50, deadline=None)
def test_honest_rules_never_look_at_the_test_data(run, tolerance, level, random):
    validation, test, entropy = run
    other = np.array(random.sample(list(test), len(test)))
    tables = [a_table([(validation, seen, entropy)]) for seen in (test, other)]
    one, two = (stopping.outcomes(t, tolerance, level, 10).set_index("rule").loc[HONEST] for t in tables)
    unseen = ["test_accuracy", "regret", "beyond"]
    pd.testing.assert_frame_equal(one.drop(columns=unseen), two.drop(columns=unseen))
    assert two["test_accuracy"].tolist() == [other[r] for r in one["round"]]


@given(st.lists(RUN, min_size=1, max_size=3), TOLERANCE, LEVEL, st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_the_tables_row_order_does_not_matter(runs, tolerance, level, seed):
    table = a_table(runs)
    shuffled = table.sample(frac=1, random_state=seed)
    one, two = (stopping.outcomes(t, tolerance, level, 10).sort_values(["key", "rule"]) for t in (table, shuffled))
    pd.testing.assert_frame_equal(one.reset_index(drop=True), two.reset_index(drop=True))


# Validation dips to 0.4 and climbs to 0.7; test does so a round later. Costs: 1, 2, 3 …, and from 11 for the second.
DIP = ([0.6, 0.5, 0.4, 0.7, 0.65, 0.2], [0.6, 0.55, 0.45, 0.5, 0.8, 0.3], [0.8, 0.6, 0.5, 0.3, 0.1, 0.1])
FLAT = ([0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.5, 0.6, 0.6, 0.6, 0.6, 0.5], [0.8, 0.8, 0.8, 0.8, 0.8, 0.8])


def test_outcomes_by_hand():
    found = stopping.outcomes(a_table([DIP, FLAT], λ=0.1), 0.06, 0.5, 10)
    names = ["rule", "trainings", "round", "test_accuracy", "regret", "train_flops"]
    assert found[names].to_numpy().tolist() == [
        [EARLY, 2, 0, 0.6, pytest.approx(0.2), 3],
        [ARMED, 6, 4, 0.8, 0, 21],
        [NEVER, 6, 4, 0.8, 0, 21],
        [ORACLE, 5, 4, 0.8, 0, 15],
        [EARLY, 6, 5, 0.5, pytest.approx(0.1), 81],
        [ARMED, 6, 5, 0.5, pytest.approx(0.1), 81],
        [NEVER, 6, 5, 0.5, pytest.approx(0.1), 81],
        [ORACLE, 5, 4, 0.6, 0, 65],
    ]
    assert (found["λ"] == 0.1).all()  # the configuration comes along


def test_a_summary_is_the_mean_over_seeds_of_each_value_and_rule():
    weak, strong = (stopping.outcomes(a_table(runs, λ=λ), 0.06, 0.5, 10) for runs, λ in (([DIP, FLAT], 1), ([FLAT], 0)))
    found = stopping.summary(pd.concat([weak, strong]), ["λ"])
    assert found[["λ", "rule"]].to_numpy().tolist() == [[λ, rule] for λ in (1, 0) for rule in RULES]
    first = found.iloc[0]
    assert (first["trainings"], first["test_accuracy"], first["regret"]) == pytest.approx((4, 0.55, 0.15))
    assert (first["train_flops"], first["train_flops_sparse"], first["sparsity"]) == pytest.approx((42, 21, 0.33616))
    assert found["test_accuracy"].tolist()[4:] == pytest.approx([0.5, 0.5, 0.5, 0.6])


def test_an_advantage_is_paired_by_seed():
    other = pd.DataFrame({"seed": [0, 1, 2], "test_accuracy": [0.1, 0.5, 0.9], "train_flops": [100.0, 200.0, 400.0]})
    one = other.assign(test_accuracy=other["test_accuracy"] + 0.02, train_flops=[50.0, 200.0, 100.0])[::-1]
    found = stopping.advantage(one, other, "test_accuracy")
    assert (found.value, found.low, found.high) == pytest.approx((2, 2, 2))  # unpaired, the seeds' spread would show
    saved = stopping.advantage(one, other, "train_flops", relative=True)
    assert saved.value == pytest.approx((-50 + 0 - 75) / 3)
    own = stats.ttest_1samp([-50, 0, -75], 0).confidence_interval()
    assert (saved.low, saved.high) == pytest.approx(tuple(own))


def test_an_advantage_is_over_the_seeds_that_both_have():
    one = pd.DataFrame({"seed": [0, 1, 2, 3, 4], "regret": [0.1, 0.2, 0.3, 0.4, 0.9]})
    other = pd.DataFrame({"seed": [3, 2, 1, 7], "regret": [0.38, 0.27, 0.16, 0.0]})
    found = stopping.advantage(one, other, "regret")
    assert (found.value, found.seeds) == (pytest.approx(3), 3)


def test_the_arming_gap_is_counted_in_rounds_from_the_valleys_bottom():
    test = np.array([0.6, 0.6, 0.55, 0.5, 0.45, 0.5, 0.55, 0.8, 0.8, 0.3])  # the valley's bottom is round 4
    entropy = np.array([0.8, 0.7, 0.6, 0.55, 0.5, 0.45, 0.4, 0.3, 0.2, 0.1])
    runs = [([0.5] * 10, test + shift / 100, entropy) for shift in range(10)]
    for level, gap in ((0.8, 2), (0.65, 0), (0.6, 1), (0.2, 5)):
        found = stopping.arming_gap(a_table(runs).sample(frac=1, random_state=0), level)
        assert (found.value, found.low, found.high) == (gap, gap, gap)
    assert np.isnan(stopping.arming_gap(a_table(runs[:9]), 0.8).low)  # too few to resample
    assert stopping.arming_gap(a_table(runs), 0.01).reason == "never armed"
    flat = [([0.5] * 10, np.linspace(0.6, 0.3, 10), entropy)] * 3
    assert stopping.arming_gap(a_table(flat), 0.5).reason == "no clear valley"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        *(
            ({"tolerance": bad}, f"tolerance = {bad}: .* allowed: 0 to less than 1")
            for bad in (-0.01, 1, 5, float("nan"))
        ),
        *(({"level": bad}, f"level = {bad}: .* allowed: above 0, at most 1") for bad in (0, -0.5, 1.1, float("nan"))),
        ({"classes": 1}, "classes = 1: .* allowed: 2 or more"),
        ({"validation_fraction": 0}, "validation_fraction = 0: .* allowed: above 0"),
        ({"validation_fraction": 0.0}, "validation_fraction = 0: .* allowed: above 0"),
    ],
)
def test_settings_that_cannot_work_are_errors(changes, message):
    good = {"tolerance": 0, "level": 1, "classes": 2, "validation_fraction": 0.1}
    stopping.check(**good)
    with pytest.raises(ConfigError, match=message):
        stopping.check(**good | changes)


@pytest.mark.parametrize(("series", "trainings"), [("vanilla", 12), ("distilled", 14)])
def test_the_early_stop_finds_and_costs_what_dsd2s_figure_says(series, trainings):
    left = published.figure("quetu2024dsd2/Fig. 1 left/cifar10")
    right = published.figure("quetu2024dsd2/Fig. 1 right/cifar10", axis="train_pflops")
    accuracy = left.loc[left["series"] == series, "value"].to_numpy()
    stop = stopping.early_stop(accuracy, 0.01)
    said = right[right["series"] == f"{series}, early stop"].iloc[0]
    assert stop + 1 == trainings
    assert (stop + 1) * 1.62795 == pytest.approx(said["train_pflops"], abs=0.005)  # PFLOP a training
    assert accuracy[stop] == pytest.approx(said["value"])


@pytest.mark.parametrize(("kind", "rate"), [("symmetric", 0.5), ("uniform", 0.5), ("pairflip", 0.3)])
def test_a_point_of_true_accuracy_is_worth_so_much_on_noisy_labels(kind, rate):
    """Networks that are right on a share of the data and otherwise wrong at random, on labels with noise."""
    rng, truth = np.random.default_rng(0), np.repeat(np.arange(10), 20_000)
    noisy = corrupt(truth, kind, rate, 10, {}, rng)
    measured = []
    for share in (0.9, 0.4):
        right = rng.random(len(truth)) < share
        predicted = np.where(right, truth, (truth + rng.integers(1, 10, len(truth))) % 10)
        measured.append(((predicted == truth).mean(), (predicted == noisy).mean()))
    (true_one, noisy_one), (true_other, noisy_other) = measured
    factor = stopping.noise_factor((noisy != truth).mean(), 10)
    assert (noisy_one - noisy_other) / (true_one - true_other) == pytest.approx(factor, abs=0.01)


def test_labels_that_say_nothing_are_refused():
    assert stopping.noise_factor(0.5, 10) == pytest.approx(4 / 9) and stopping.noise_factor(0.0, 2) == 1
    with pytest.raises(ConfigError, match="90% of the labels are wrong: with 10 classes"):
        stopping.noise_factor(0.9, 10)


def test_the_tolerance_is_in_accuracy_on_the_true_labels():
    """5 points of true accuracy are 2.2 on labels of which half are wrong: round 1 falls by 3, and counts."""
    run = ([0.6, 0.57, 0.6, 0.5], [0.6, 0.6, 0.6, 0.5], [0.8, 0.8, 0.8, 0.8])
    for wrong, trainings in ((0.5, 2), (0.0, 4)):
        ends = stopping.outcomes(a_table([run], corrupted_fraction=wrong), 0.05, 0.5, 10).set_index("rule")
        assert ends.loc[EARLY, "trainings"] == trainings
    assert ends.loc[ORACLE, "round"] == 2  # test labels have no noise


def test_the_best_epoch_of_the_dense_network_costs_a_whole_training():
    dense = a_table([([0.5], [0.4], [0.8])], best_epoch=3, best_epoch_test_accuracy=0.9)
    (row,) = stopping.best_epoch(dense).to_dict("records")
    assert (row["rule"], row["test_accuracy"], row["trainings"]) == (stopping.EPOCH, 0.9, 1)
    assert (row["train_flops"], row["sparsity"], row["remaining_weights"]) == (1, 0, 100)


def test_what_lies_beyond_the_stop_by_hand():
    run = ([0.6, 0.5, 0.6, 0.6], [0.6, 0.4, 0.7, 0.5], [0.8, 0.8, 0.8, 0.8])
    ends = stopping.outcomes(a_table([run]), tolerance=0.05, level=0.5, classes=10).set_index("rule")
    assert ends.loc[EARLY, ["trainings", "round"]].tolist() == [2, 0]
    assert ends.loc[EARLY, "beyond"] == pytest.approx(0.1)  # 0.7 comes later, 0.6 was taken
    assert ends.loc[NEVER, "beyond"] == 0
    assert ends.loc[ORACLE, "beyond"] == pytest.approx(0.5 - 0.7)
