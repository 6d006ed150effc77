"""Many seeds: depths against simulated curves and by hand, pairs of groups, and the tables made of them."""

import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsdlib import analysis
from dsdlib.analysis.curves import moving_average
from dsdlib.analysis.valley_depth import window

simulate = runpy.run_path(str(Path(__file__).with_name("simulate_depth.py")))["simulate"]
NAN = float("nan")


def a_table(test, train=None):
    """Tidy rows of made-up curves: (seeds, rounds)."""
    test = np.asarray(test, dtype=float)
    train = test if train is None else np.asarray(train, dtype=float)
    rows = [
        {
            "seed": s,
            "round": r,
            "sparsity": 1 - 0.8**r,
            "remaining_weights": round(10_000 * 0.8**r),
            "test_accuracy": test[s, r],
            "train_accuracy": train[s, r],
        }
        for s in range(test.shape[0])
        for r in range(test.shape[1])
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)  # the rows' order does not matter


# The rule of the depth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 5, 10])
@pytest.mark.parametrize("seeds", [5, 10, 20])
def test_the_depth_is_unbiased_within_a_point_and_its_interval_covers_it(depth, seeds):
    bias, _, coverage = simulate(depth, seeds, 400, np.random.default_rng(depth + seeds))
    assert abs(bias) < 1
    assert coverage >= 0.9


def by_hand(curves, window):
    """The depth of each seed, place by place: the rule as it is stated."""
    smooth = np.stack([moving_average(curve, window) for curve in curves])

    def place(mean):
        heights = {
            (i, low, j): min(mean[i], mean[j]) - mean[low]
            for low in range(1, len(mean) - 1)
            for i in range(low)
            for j in range(low + 1, len(mean))
        }
        i, low, j = max(heights, key=heights.get)
        return (i if mean[i] <= mean[j] else j), low

    depths = []
    for seed, curve in enumerate(curves):
        others = np.delete(smooth, seed, axis=0).mean(0)
        read = [curve[side] - curve[low] for side, low in (place(smooth.mean(0)), place(others))]
        depths.append(np.mean(read))
    return depths


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_depth_is_read_half_at_all_seeds_places_and_half_at_the_others(seed, window):
    curves = np.array([3, 3, 2, 0, 1, 2, 3, 2, 0]) + np.random.default_rng(seed).normal(size=(4, 9))
    assert analysis.depths_by_seed(curves, window) == pytest.approx(by_hand(curves, window))


@given(st.lists(st.lists(st.integers(0, 20), min_size=6, max_size=6), min_size=2, max_size=6), st.sampled_from([1, 3]))
@settings(max_examples=100, deadline=None)
def test_depths_do_not_depend_on_the_unit_even_if_there_are_ties(counts, window):
    counts = np.array(counts, dtype=float)
    fractions = counts / 450
    expected = analysis.depths_by_seed(counts, window)
    assert 450 * analysis.depths_by_seed(fractions, window) == pytest.approx(expected, abs=1e-9)
    assert 4.5 * analysis.depths_by_seed(100 * fractions, window) == pytest.approx(expected, abs=1e-9)


def test_two_sides_of_one_height_are_told_apart_by_order_in_any_unit():
    """After averaging, rounds 1 and 6 of the mean are equally high, but for rounding."""
    counts = np.array([[2.0, 0, 4, 1, 4, 5, 5], [2, 3, 5, 0, 2, 1, 4], [5, 2, 2, 4, 1, 1, 0]])
    expected = analysis.depths_by_seed(counts, 3)
    for scale in (1 / 450, 100 / 450, 1 / 7, 1 / 3):
        assert analysis.depths_by_seed(scale * counts, 3) / scale == pytest.approx(expected)


def test_one_seed_and_two_seeds_have_a_depth_without_an_interval():
    dip = [0.6, 0.6, 0.5, 0.4, 0.5, 0.6, 0.6, 0.5]
    one, two = analysis.depth(a_table([dip])), analysis.depth(a_table([dip, np.add(dip, 0.1)]))
    assert one.value == pytest.approx(20) and two.value == pytest.approx(20)
    assert np.isnan([one.low, one.high, two.low, two.high]).all()
    assert (one.reason, two.reason) == ("too few seeds", "too few seeds") and (
        one.seeds,
        two.seeds,
    ) == (1, 2)


def test_a_curve_that_only_falls_has_depth_0_and_its_raw_depth_is_kept():
    falling = [[0.9 - 0.1 * r - 0.02 * r * s for r in range(6)] for s in range(5)]
    found = analysis.depth(a_table(falling))
    assert (found.value, found.low, found.high) == (0, 0, 0)
    (row,) = analysis.valleys(a_table(falling).assign(all=0), ["all"]).to_dict("records")
    assert (row["depth"], row["low"], row["high"]) == (0, 0, 0) and row["raw_depth"] < -0.1
    assert np.isnan(row["bottom_sparsity"])


def test_the_depth_in_a_table_is_the_depth_that_is_judged():
    table = a_table(0.6 + 0.05 * np.random.default_rng(3).normal(size=(6, 12))).assign(kind="a")
    (row,) = analysis.valleys(table, ["kind"]).to_dict("records")
    found = analysis.depth(table)
    assert [100 * row[name] for name in ("depth", "low", "high")] == pytest.approx([found.value, found.low, found.high])
    found = analysis.mean_valley(table)
    sparsity = 1 - 0.8 ** np.arange(12)
    for name in ("shoulder", "bottom", "peak"):
        assert row[f"{name}_sparsity"] == pytest.approx(sparsity[getattr(found, name)])


def test_nothing_is_said_of_runs_that_were_not_made():
    empty = a_table([[0.6, 0.4, 0.6]]).iloc[:0]
    full = a_table([[0.6, 0.4, 0.6]])
    found = [analysis.depth(empty), analysis.fall(empty), analysis.depth_difference(full, empty)]
    found += [analysis.largest_lead(empty, full), analysis.rise(empty, "test_accuracy")]
    found += [analysis.rise_beyond_depth(empty, "test_accuracy"), analysis.fall_to_best(empty, "test_accuracy")]
    assert all(np.isnan(each.value) and each.reason == "not run" for each in found)


def test_rounds_are_averaged_as_their_pruning_steps_ask():
    table = a_table([[0.5] * 10])
    assert window(table) == 3 and window(table[table["round"] % 2 == 0]) == 1


# Two groups ----------------------------------------------------------------------------------------------------------


def pair(seeds=12, gain=0.01):
    """Two groups whose seeds differ much, while the groups differ by ``gain`` in each seed, give or take a little."""
    rng = np.random.default_rng(0)
    dip = 0.5 - 0.1 * np.exp(-((np.arange(12) - 5) ** 2) / 4)
    base = dip + 0.1 * rng.normal(size=(seeds, 1)) + 0.001 * rng.normal(size=(seeds, 12))
    return a_table(base + gain), a_table(base), gain


def test_a_difference_of_depths_is_paired_by_seed():
    rng = np.random.default_rng(1)
    rounds, depths = np.arange(12), 0.2 + 0.05 * rng.normal(size=(8, 1))
    shape = np.exp(-((rounds - 5) ** 2) / 4)
    deep, shallow = a_table(0.6 - depths * shape), a_table(0.6 - (depths - 0.03) * shape)
    found = analysis.depth_difference(deep, shallow)
    assert found.value == pytest.approx(3, abs=0.1) and found.high - found.low < 0.1
    one, other = (analysis.depth(table) for table in (deep, shallow))
    assert found.value == pytest.approx(one.value - other.value)
    assert one.high - one.low > 5  # so an unpaired difference would be wide


def test_pairs_are_made_of_the_seeds_that_both_groups_have():
    one, other, gain = pair()
    fewer = other[other["seed"] >= 4]
    for work in (analysis.depth_difference, analysis.largest_lead, analysis.mean_lead):
        found, expected = work(one, fewer), work(one[one["seed"] >= 4], fewer)
        assert found == expected and found.seeds == 8
    assert analysis.largest_lead(one, fewer).value == pytest.approx(100 * gain)
    assert len(analysis.rounds_won(one, fewer)) == 12 and analysis.rounds_won(fewer, one) == []


def test_the_largest_lead_is_unbiased_where_there_is_none():
    rng = np.random.default_rng(0)
    found = [
        analysis.largest_lead(a_table(rng.normal(0, 0.02, (8, 15))), a_table(rng.normal(0, 0.02, (8, 15))))
        for _ in range(100)
    ]
    assert abs(np.mean([each.value for each in found])) < 0.4  # the largest mean difference is 1.7 on average
    assert np.mean([each.low > 0 for each in found]) < 0.08


def test_the_largest_lead_is_read_off_the_seeds_that_did_not_choose_its_round():
    leads = np.array([[0.1, 0.0, 0.02], [0.0, 0.3, 0.01], [0.1, 0.0, 0.02], [0.0, 0.3, 0.01]])
    found = analysis.largest_lead(a_table(0.5 + leads), a_table(np.full((4, 3), 0.5)))
    assert found.value == pytest.approx(0)  # even seeds choose round 0, where odd ones lead by 0, and the other way


def test_the_mean_lead_is_over_rounds_at_equal_sparsity():
    one, other, gain = pair()
    for lead in (analysis.mean_lead(one, other), analysis.largest_lead(one, other)):
        assert lead.value == pytest.approx(100 * gain)
        assert lead.high - lead.low < 0.1  # though the seeds of a group lie 10 points apart
    leads = np.array([[0.1, 0.3], [0.0, 0.2], [0.0, 0.0]])
    found = analysis.mean_lead(a_table(0.5 + leads), a_table(np.full((3, 2), 0.5)))
    own = analysis.over_seeds(np.array([20.0, 10.0, 0.0]))
    assert (found.value, found.low, found.high) == pytest.approx((own.value, own.low, own.high))


def test_the_final_ascent_is_from_the_best_network_up_to_the_dense_one():
    """By hand: the best pruned network leads the dense one by 10 points in one group and by 4 in the other."""
    one = np.array([0.5, 0.4, 0.6, 0.2]) + np.array([[0.0], [0.01], [0.02], [0.03]])  # shifts of all rounds do nothing
    other = np.array([0.6, 0.5, 0.5, 0.64]) + np.array([[0.01], [0.0], [0.05], [0.03]])
    found = analysis.final_ascent_grows(a_table(one), a_table(other))
    assert (found.value, found.low, found.high) == pytest.approx((6, 6, 6))
    only_falls = np.tile([0.6, 0.5, 0.4, 0.3], (4, 1))
    assert analysis.final_ascent_grows(a_table(only_falls), a_table(other)).value == pytest.approx(-4)
    assert analysis.final_ascent_grows(a_table(only_falls), a_table(only_falls)).reason == "no final ascent"


def test_the_best_setting_of_each_round_is_chosen_by_mean_validation_accuracy():
    rows = [
        {"λ": decay, "seed": seed, "round": r, "validation_accuracy": v, "test_accuracy": 1 - v}
        for decay, runs in {0.0: [[0.9, 0.1, 0.5], [0.1, 0.2, 0.4]], 0.1: [[0.4, 0.3, 0.2], [0.5, 0.4, 0.6]]}.items()
        for seed, run in enumerate(runs)
        for r, v in enumerate(run)
    ]
    found = analysis.best_of_each_round(pd.DataFrame(rows).sample(frac=1, random_state=0), "λ")
    assert sorted(zip(found["round"], found["seed"], found["λ"], strict=True)) == [
        (r, seed, [0.0, 0.1, 0.0][r]) for r in range(3) for seed in range(2)
    ]


def test_rounds_won_are_those_whose_interval_excludes_zero():
    base = np.tile([0.5, 0.5, 0.5], (5, 1))
    gains = np.array([[0.01, 0.02, 0.03, 0.02, 0.01], [0.1, -0.1, 0.1, -0.1, 0.1], [-0.1] * 5]).T
    assert analysis.rounds_won(a_table(base + gains), a_table(base)) == [0]
    assert analysis.rounds_won(a_table(base), a_table(base + gains)) == [2]


def valleys_at(centres, rounds=24, noise=0.001, seed=0):
    """A table with a seed for each of the ``centres``, whose curve has its bottom there."""
    rng, at = np.random.default_rng(seed), np.arange(rounds)
    return a_table([0.6 - 0.1 * np.exp(-((at - c) ** 2) / 9) + rng.normal(0, noise, rounds) for c in centres])


def test_how_much_earlier_a_place_is_reached_is_read_off_each_seed_to_a_fraction_of_a_round():
    centres, moves = np.array([6, 7, 8.4, 6.2, 7.1]), np.array([3, 2.5, 3.5, 2.8, 3.2])
    early, late = valleys_at(centres), valleys_at(centres + moves)
    found = analysis.earlier(early, late, "bottom")
    assert found.value == pytest.approx(moves.mean(), abs=0.1)
    half = stats.t.ppf(0.975, 4) * moves.std(ddof=1) / np.sqrt(5)
    assert found.high - found.value == pytest.approx(half, rel=0.3)
    assert analysis.earlier(late, early, "bottom").value == -found.value
    fewer = late[late["seed"] > 1]  # places are compared with those of the same seeds
    assert analysis.earlier(early, fewer, "bottom").value == pytest.approx(moves[2:].mean(), abs=0.1)


def test_there_is_no_place_to_compare_without_a_clear_valley():
    flat = a_table(0.6 - 0.01 * np.tile(np.arange(24), (5, 1)))
    assert analysis.earlier(valleys_at([6] * 5), flat, "bottom").reason == "no clear valley"


def test_the_interval_of_a_move_covers_it_with_five_seeds():
    """Noise as in digits runs: the mean curve's place would need ten seeds and a bootstrap."""
    rng, covered, found = np.random.default_rng(0), 0, []
    for study in range(100):
        early, late = (
            valleys_at(c + rng.normal(0, 0.5, 5), noise=0.02, seed=2 * study + n) for n, c in enumerate((8, 11))
        )
        found.append(analysis.earlier(early, late, "bottom"))
        covered += found[-1].low <= 3 <= found[-1].high
    assert np.mean([each.value for each in found]) == pytest.approx(3, abs=0.15) and covered >= 88


# Measures and tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "test", "fall"),
    [
        ([1.0, 0.995, 0.992, 0.98, 1.0], [0.9, 0.8, 0.7, 0.6, 0.5], 20),
        ([0.6, 0.995, 1.0, 0.5], [0.9, 0.8, 0.7, 0.6], 10),
        ([1.0, 1.0, 1.0], [0.7, 0.8, 0.9], -20),
        ([1.0, 0.5, 1.0], [0.9, 0.1, 0.1], 0),
    ],
)
def test_a_fall_is_that_over_the_rounds_that_fit(train, test, fall):
    found = analysis.fall(a_table([test] * 3, [train] * 3))
    assert (found.value, found.low, found.high) == pytest.approx((fall,) * 3)
    apart = a_table(np.add([test] * 3, [[0.0], [0.05], [0.1]]), [train] * 3)
    assert analysis.fall(apart).value == pytest.approx(fall)


def test_the_fall_to_the_best_pruned_network_is_chosen_on_validation_data():
    ece = np.add([[0.4, 0.3, 0.1, 0.2]] * 3, [[0.0], [0.01], [0.02]])
    validation = [[0.99, 0.5, 0.6, 0.55], [0.99, 0.5, 0.6, 0.7], [0.1, 0.8, 0.2, 0.2]]
    table = a_table(ece, validation).rename(
        columns={"test_accuracy": "test_ece", "train_accuracy": "validation_accuracy"}
    )
    found = analysis.fall_to_best(table, "test_ece")
    assert found.value == pytest.approx((30 + 20 + 10) / 3) and found.seeds == 3
    nowhere = table.assign(validation_accuracy=NAN)
    assert analysis.fall_to_best(nowhere, "test_ece").reason == "no validation data"


def test_a_measure_that_rises_and_falls_is_a_valley_upside_down():
    rng = np.random.default_rng(0)
    curves = 0.6 - 0.2 * np.exp(-((np.arange(20) - 8) ** 2) / 9) + 0.01 * rng.normal(size=(5, 20))
    table = a_table(curves, 0.2 + 1.5 * (1 - curves)).rename(columns={"train_accuracy": "test_ece"})
    depth, rise = analysis.depth(table), analysis.rise(table, "test_ece")
    assert rise.value == pytest.approx(1.5 * depth.value) and rise.low == pytest.approx(1.5 * depth.low)
    assert analysis.rise(table, "test_ece", scale=1).value == pytest.approx(rise.value / 100)
    beyond = analysis.rise_beyond_depth(table, "test_ece")
    assert beyond.value == pytest.approx(rise.value - depth.value)
    assert beyond.high - beyond.low == pytest.approx((depth.high - depth.low) / 2)  # the same seeds and places


def test_seeds_that_are_all_alike_have_no_interval():
    found = analysis.depth(a_table([[0.1] * 8] * 5))
    assert found.value == 0 and np.isnan([found.low, found.high]).all() and found.reason == "all seeds alike"


def test_a_network_that_does_not_fit_its_labels_has_no_fall():
    found = analysis.fall(a_table([[0.9, 0.1, 0.1]] * 5, [[0.9, 0.9, 0.5]] * 5))
    assert np.isnan(found.value) and found.reason == "labels not fitted"


@pytest.mark.parametrize("size", [False, True])
def test_rank_correlation_is_spearmans_of_the_mean_curves(size):
    rng = np.random.default_rng(0)
    test, train = rng.normal(size=(2, 12, 9)) + np.arange(9) * [[[0.3]], [[-0.2]]]
    found = analysis.rank_correlation(a_table(test, train), "test_accuracy", "train_accuracy", size)
    ranks = [np.argsort(np.argsort(curves.mean(0))) for curves in (test, train)]
    expected = np.corrcoef(*ranks)[0, 1]
    assert expected < 0 and found.value == pytest.approx(abs(expected) if size else expected)
    assert -1 <= found.low < found.value < found.high <= 1
    few = a_table(test, train).query("round < 3")
    assert analysis.rank_correlation(few, "test_accuracy", "train_accuracy").reason == "too few rounds"


def test_the_turn_is_counted_from_the_valleys_bottom_to_the_measures_peak():
    rounds = np.arange(15)
    noise = np.random.default_rng(0).normal(0, 0.001, (10, 15))
    test = 0.6 - 0.1 * np.exp(-((rounds - 8) ** 2) / 9) + noise
    table = a_table(test, np.exp(-((rounds - 5) ** 2) / 9) + noise)
    found = analysis.turn_from_peak(table, "train_accuracy")
    assert (found.value, found.low, found.high) == (3, 3, 3)
    twice = analysis.turn_from_peak(table.assign(sparsity=1 - 0.64 ** table["round"]), "train_accuracy")
    assert (twice.value, twice.low, twice.high) == (6, 6, 6)  # a round of 36% is two steps of 20%
    assert analysis.turn_from_peak(a_table(0.9 - 0.01 * np.tile(rounds, (10, 1)))).reason == "no clear valley"


def test_the_correlation_up_to_the_second_peak_leaves_out_the_collapse():
    """Both measures collapse after the peak at round 10; before it they mirror each other."""
    rounds, noise = np.arange(15), np.random.default_rng(0).normal(0, 0.001, (10, 15))
    test = np.where(rounds <= 10, 0.5 + 0.01 * np.abs(rounds - 5), 0.4 - 0.05 * (rounds - 11)) + noise
    distance = np.where(rounds <= 10, 9 - np.abs(rounds - 5), 3 - 0.5 * (rounds - 11)) + noise
    table = a_table(test, distance)
    found = analysis.correlation_to_peak(table, "test_accuracy", "train_accuracy")
    assert found.value < -0.9 and analysis.rank_correlation(table, "test_accuracy", "train_accuracy").value > -0.3
    falls = a_table(0.9 - 0.01 * np.tile(rounds, (10, 1)))
    assert analysis.correlation_to_peak(falls, "test_accuracy", "train_accuracy").reason == "no clear valley"


def test_phases_of_a_table_are_those_of_its_mean_curves():
    rounds = np.arange(20)
    mean = 0.6 - 0.2 * np.exp(-((rounds - 8) ** 2) / 9)
    table = a_table(np.add([mean] * 3, [[-0.1], [0], [0.1]])).assign(kind="a")
    assert analysis.mean_phases(table) == analysis.phases(mean, mean, window=3)
    found = analysis.phase_table(table, "kind")
    assert found["phase"].tolist() == ["light", "critical", "sweet"]
    assert found["begins"].iloc[0] == 0 and found["ends"].iloc[-1] == pytest.approx(1 - 0.8**19)
    assert found["begins"].tolist()[1:] == found["ends"].tolist()[:-1]


def test_valleys_gives_a_row_per_value_with_places_as_sparsities():
    dip = [0.62, 0.62, 0.54, 0.46, 0.54, 0.59, 0.59, 0.34]
    dipping, falling = a_table([dip] * 3), a_table([np.linspace(0.9, 0.2, 8)] * 3)
    both = pd.concat([dipping.assign(noise_rate=0.4), falling.assign(noise_rate=0.0)])
    deep, none = analysis.valleys(both.sort_values("noise_rate", ascending=False), ["noise_rate"]).to_dict("records")
    assert (deep["noise_rate"], deep["seeds"]) == (0.4, 3)
    assert deep["depth"] == pytest.approx(0.13)
    assert [deep[f"{n}_sparsity"] for n in ("shoulder", "bottom", "peak")] == pytest.approx([0, 1 - 0.8**3, 1 - 0.8**5])
    assert [deep[f"{n}_accuracy"] for n in ("shoulder", "bottom", "peak")] == pytest.approx([0.62, 0.46, 0.59])
    assert deep["bottom_weights"] == 5120 and pd.isna(none["bottom_weights"])
    assert (none["noise_rate"], none["seeds"], none["depth"]) == (0.0, 3, 0)
    assert np.isnan([none["bottom_sparsity"], none["peak_accuracy"]]).all()


def test_how_many_valleys_are_certainly_clear():
    valleys = pd.DataFrame({"low": [0.03, 0.02, NAN]})
    assert analysis.how_many_clear(valleys, "x") == "1 of 3 x has a valley whose whole 95% interval exceeds 2 points"
    assert analysis.how_many_clear(valleys.assign(low=0.03), "nets").startswith("3 of 3 nets have a valley")
    assert "too few seeds" in analysis.how_many_clear(valleys[2:], "nets")


def test_a_depth_in_words_says_what_a_repeat_may_change():
    """Depths of 10 ± 1 points: the half-width is that of Student's t, and two such means differ by √2 times as much."""
    dips = [0.1, 0.09, 0.11, 0.1, 0.1]
    rows = [
        {"seed": seed, "round": r, "sparsity": 1 - 0.5**r, "test_accuracy": accuracy}
        for seed, dip in enumerate(dips)
        for r, accuracy in enumerate([0.8, 0.8 - dip, 0.8, 0.3])
    ]
    half = stats.t.ppf(0.975, 4) * 100 * np.std(dips, ddof=1) / np.sqrt(5)
    text = analysis.depth_in_words(pd.DataFrame(rows))
    assert text.startswith(f" The valley is 10.0 [{10 - half:.1f}, {10 + half:.1f}] points deep")
    assert text.endswith(f"±{np.sqrt(2) * half:.1f} points.")
    falling = pd.DataFrame(rows).assign(test_accuracy=lambda table: 0.8 - 0.1 * table["round"])
    assert analysis.depth_in_words(falling) == analysis.depth_in_words(pd.DataFrame(rows[:4])) == ""


def test_a_climb_is_the_largest_rise_above_what_came_before() -> None:
    losses = {"down": [3, 2, 1, 0.5], "bump": [3, 1, 1.5, 0], "up": [1, 2, 3, 4], "late": [4, 1, 1.2, 1.1]}
    rows = [
        {"seed": 0, "start": name, "alpha": alpha, "train_loss": loss}
        for name, curve in losses.items()
        for alpha, loss in reversed(list(enumerate(curve)))
    ]
    found = analysis.climbs(pd.DataFrame(rows), ["seed", "start"]).set_index("start")["climb"]
    assert found.to_dict() == pytest.approx({"down": 0, "bump": 0.5, "up": 3, "late": 0.2})


def test_the_round_amid_a_phase_is_the_nearest_of_those_that_there_are() -> None:
    names = ["light"] * 5 + ["critical"] * 4 + ["collapsed"]
    assert analysis.amid(names, range(10)) == {"light": 2, "critical": 6, "collapsed": 9}
    assert analysis.amid(names, [0, 4, 8]) == {"light": 0, "critical": 8}


def test_the_best_epoch_is_the_first_of_the_highest_in_each_round_of_each_run() -> None:
    rows = [
        {"key": key, "round": round_, "epoch": epoch, "validation_accuracy": v, "test_accuracy": epoch / 10}
        for key, validation in {"a": [[0.1, 0.5, 0.5], [0.9, 0.2, 0.3]], "b": [[0, 0, 0], [0, 0.1, 0.2]]}.items()
        for round_, curve in enumerate(validation)
        for epoch, v in enumerate(curve)
    ]
    best = analysis.best_epochs(pd.DataFrame(rows), "validation_accuracy")
    assert best.set_index(["key", "round"])["epoch"].to_dict() == {("a", 0): 1, ("a", 1): 0, ("b", 0): 0, ("b", 1): 2}


def test_runs_that_do_not_exist_are_not_taken_for_runs_without_a_valley():
    table = a_table(0.9 - 0.01 * np.tile(np.arange(6), (10, 1)))
    none = table[:0]
    assert analysis.earlier(none, table, "bottom").reason == analysis.earlier(table, none, "bottom").reason == "not run"
    assert analysis.correlation_to_peak(none, "test_accuracy", "train_accuracy").reason == "not run"


def test_a_diverged_round_has_no_best_epoch():
    history = pd.DataFrame(
        {"key": "a", "round": [0, 0, 1], "epoch": [0, 1, 0], "validation_accuracy": [0.2, 0.4, np.nan]}
    )
    best = analysis.best_epochs(history, "validation_accuracy")
    assert best[["round", "epoch"]].to_numpy().tolist() == [[0, 1]]
