"""Valleys against their definition, intervals over seeds, phases, and the verdicts drawn from them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib import analysis
from dsdlib.analysis.claims import judge
from dsdlib.analysis.curves import PHASES, Valley, fall_while_fitting, phases, valley
from dsdlib.analysis.seeds import Interval, over_seeds

WHOLE = st.lists(st.integers(0, 12), min_size=1, max_size=25)
# Published: MNIST, CIFAR-10 and CIFAR-100 with a fifth of the labels noisy (He et al. 2022, figure 1).
PUBLISHED = [([83.4, 76.4, 95.3], 7.0), ([83.2, 78.0, 87.6], 5.2), ([60.4, 54.0, 59.9], 5.9)]


def brute_force_depth(curve):
    """The deepest i's climb: to the lower of the highest points on its left and right. Over all triples."""
    n = len(curve)
    climbs = [min(max(curve[:i]), max(curve[i + 1 :])) - curve[i] for i in range(1, n - 1)]
    return max([0, *climbs])


@given(WHOLE)
@settings(max_examples=200, deadline=None)
def test_depth_is_the_largest_climb_out_on_both_sides(curve):
    found = valley(np.array(curve))
    assert found.depth == brute_force_depth(curve)
    if found.depth == 0:
        assert found == Valley(0.0)
    else:
        assert found.shoulder < found.bottom < found.peak
        assert found.depth == min(curve[found.shoulder], curve[found.peak]) - curve[found.bottom]
        assert curve[found.bottom] == min(curve[found.shoulder : found.peak + 1])


@given(WHOLE, st.integers(-20, 20))
@settings(max_examples=50, deadline=None)
def test_a_constant_moves_no_valley_and_a_scale_scales_it(curve, constant):
    curve = np.array(curve)
    assert valley(curve + constant) == valley(curve)
    assert valley(4.0 * curve).depth == 4 * valley(curve).depth


@given(WHOLE, st.sampled_from([1, -1]))
@settings(max_examples=50, deadline=None)
def test_monotone_curves_have_no_valley(curve, direction):
    assert valley(np.sort(curve)[::direction]) == Valley(0.0)


@pytest.mark.parametrize(
    ("curve", "depth"), [([62, 46, 59, 34], 13), ([62, 46, 70, 34], 16), ([5, 2, 2, 4], 2), *PUBLISHED]
)
def test_valleys_by_hand(curve, depth):
    assert valley(np.array(curve)).depth == pytest.approx(depth)


def test_a_valleys_places_by_hand():
    assert valley(np.array([60, 62, 50, 46, 52, 59, 40, 34])) == Valley(13.0, bottom=3, shoulder=1, peak=5)


@given(st.integers(3, 6), WHOLE)
@settings(max_examples=15, deadline=None)
def test_identical_seeds_give_an_interval_of_no_width(seeds, curve):
    found = over_seeds(np.tile(np.array(curve, dtype=float), (seeds, 1)), lambda mean: valley(mean).depth)
    assert found.low == pytest.approx(found.value) == found.high


def test_an_interval_is_the_percentile_bootstrap_of_the_seeds_mean():
    values = np.array([[0.0], [1.0], [5.0], [6.0], [8.0]])
    found = over_seeds(values, lambda mean: mean[0])
    rng = np.random.default_rng(1)
    means = values[rng.integers(0, 5, (20_000, 5)), 0].mean(1)
    assert found.value == 4
    assert (found.low, found.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.35)
    assert over_seeds(values, lambda mean: mean[0]) == found
    assert found.low < found.value < found.high


def test_one_seed_has_a_value_but_no_interval():
    found = over_seeds(np.array([[3.0, 1.0, 2.0]]), lambda mean: valley(mean).depth)
    assert found.value == 1
    assert np.isnan([found.low, found.high]).all()


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


def test_a_seeds_depth_is_read_where_the_other_seeds_have_their_valley():
    dip, later = [0.6, 0.4, 0.6, 0.6], [0.6, 0.6, 0.4, 0.6]
    assert analysis.depths_by_seed(np.array([dip, later])) == pytest.approx([-0.2, -0.2])  # no common valley
    assert analysis.depths_by_seed(np.array([dip, dip, later])) == pytest.approx([0, 0, -0.2], abs=0.21)
    assert analysis.depths_by_seed(np.array([dip])) == pytest.approx([0.2])
    assert analysis.depths_by_seed(np.add([dip, dip, dip], [[0], [0.1], [0.2]])) == pytest.approx([0.2, 0.2, 0.2])
    found = analysis.depth(a_table([dip, dip, dip]))
    assert (found.value, found.low, found.high) == pytest.approx((20, 20, 20))
    assert np.isnan(analysis.depth(a_table([dip]).iloc[:0]).value)


def test_valleys_in_different_places_are_neither_found_nor_denied():
    """Each seed has a valley of ten points, in a round of its own."""
    rounds = np.arange(25)
    apart = np.stack([0.6 - 0.1 * np.exp(-((rounds - place) ** 2)) for place in (6, 11, 16)])
    found = analysis.depth_over_seeds(100 * apart)
    assert found.value < 2 < found.high and found.high >= 9.9
    said = judge("", paper="", dataset="", measured="", effect=found, expected="above", threshold=2)
    assert said.verdict == "inconclusive"
    together = analysis.depth_over_seeds(100 * np.stack([apart[0], apart[0] + 0.1, apart[0] - 0.1]))
    assert (together.value, together.low, together.high) == pytest.approx((10, 10, 10))
    falling = analysis.depth_over_seeds(np.stack([np.linspace(90, 10, 9)] * 3))
    assert (falling.value, falling.low, falling.high) == (0, 0, 0)


def test_a_difference_of_depths_is_not_made_by_where_the_valleys_are():
    rounds = np.arange(25)
    apart = a_table([list(0.6 - 0.1 * np.exp(-((rounds - place) ** 2))) for place in (6, 11, 16)])
    together = a_table([list(0.6 - 0.1 * np.exp(-((rounds - 11) ** 2)))] * 3)
    found = analysis.depth_difference(together, apart)
    assert found.value > 2 and found.low <= 0.01 and found.high >= found.value
    same = analysis.depth_difference(together, together)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_wiggles_alone_are_not_taken_for_a_valley():
    rng = np.random.default_rng(0)
    flat_then_falling = np.r_[np.full(22, 0.6), np.linspace(0.58, 0.2, 8)]
    depths = [
        analysis.over_seeds(analysis.depths_by_seed(flat_then_falling + rng.normal(0, 0.02, (5, 30))), float)
        for _ in range(40)
    ]
    assert sum(depth.low > analysis.CLEAR for depth in depths) <= 4
    assert np.mean([depth.value for depth in depths]) <= 0  # the valley itself errs the other way


def test_valleys_gives_a_row_per_value_with_places_as_sparsities():
    dipping, falling = a_table([[0.62, 0.46, 0.59, 0.34]] * 3), a_table([[0.9, 0.8, 0.7, 0.6]] * 3)
    both = pd.concat([dipping.assign(noise_rate=0.4), falling.assign(noise_rate=0.0)])
    deep, none = analysis.valleys(both.sort_values("noise_rate", ascending=False), ["noise_rate"]).to_dict("records")
    assert (deep["noise_rate"], deep["seeds"]) == (0.4, 3)
    assert deep["depth"] == pytest.approx(0.13)
    assert [deep[f"{n}_sparsity"] for n in ("shoulder", "bottom", "peak")] == pytest.approx([0, 0.2, 0.36])
    assert [deep[f"{n}_accuracy"] for n in ("shoulder", "bottom", "peak")] == pytest.approx([0.62, 0.46, 0.59])
    assert deep["bottom_weights"] == 8000 and pd.isna(none["bottom_weights"])
    assert (none["noise_rate"], none["seeds"], none["depth"]) == (0.0, 3, 0)
    assert np.isnan([none["bottom_sparsity"], none["peak_accuracy"]]).all()


CURVE = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(CURVE, CURVE)
@settings(max_examples=200, deadline=None)
def test_phases_come_in_order(train, test):
    size = min(len(train), len(test))
    found = phases(np.array(train[:size]), np.array(test[:size]))
    assert len(found) == size
    places = [PHASES.index(name) for name in found]
    assert places == sorted(places)
    if valley(np.array(test[:size])).depth <= analysis.CLEAR:
        assert set(found) <= {"light", "collapsed"}
        assert found[0] == "light"


def test_phases_by_hand():
    test = np.array([0.80, 0.80, 0.78, 0.69, 0.60, 0.65, 0.76, 0.80, 0.72, 0.65, 0.30])
    train = np.array([1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.3])
    # From 0.80 to 0.60 and back: critical below 0.70, sweet again from there, collapsed once below it.
    expected = ["light"] * 3 + ["critical"] * 3 + ["sweet"] * 3 + ["collapsed"] * 2
    assert phases(train, test) == expected
    falling = np.array([0.9, 0.86, 0.84, 0.5])
    assert phases(np.array([1.0, 0.96, 0.94, 1.0]), falling) == ["light"] * 2 + ["collapsed"] * 2
    assert phases(np.ones(4), falling) == ["light"] * 4  # train accuracy holds
    assert phases(falling, np.array([0.6, 0.7, 0.8, 0.9])) == ["light"] * 4  # test accuracy rises
    assert phases(np.ones(3), np.full(3, 0.9)) == ["light"] * 3


@pytest.mark.parametrize(
    ("train", "test", "fall"),
    [
        ([1.0, 0.995, 0.992, 0.98, 1.0], [0.9, 0.8, 0.7, 0.6, 0.5], 0.2),  # held to round 2, not again at 4
        ([0.6, 0.995, 1.0, 0.5], [0.9, 0.8, 0.7, 0.6], 0.1),  # fits from round 1 on, holds to round 2
        ([1.0, 1.0, 1.0], [0.7, 0.8, 0.9], -0.2),
        ([1.0, 0.5, 1.0], [0.9, 0.1, 0.1], 0.0),
        ([0.9, 0.9, 0.5], [0.9, 0.1, 0.1], np.nan),  # never fits
    ],
)
def test_fall_while_fitting_by_hand(train, test, fall):
    assert fall_while_fitting(np.array(train), np.array(test)) == pytest.approx(fall, nan_ok=True)
    points = analysis.fall(a_table([test] * 3, [train] * 3))
    assert (points.value, points.low, points.high) == pytest.approx((100 * fall,) * 3, nan_ok=True)


def test_words_carry_the_curves_own_numbers():
    sparsities = [0, 0.2, 0.36, 0.488]
    falling = analysis.in_words(sparsities, np.array([0.62, 0.46, 0.59, 0.34]))
    assert falling == (
        "test accuracy falls from the dense network's 62.0% to 46.0% at 20.0% sparsity, "
        "rises to 59.0% at 36.0% sparsity and ends at 34.0%"
    )
    flat = analysis.in_words(sparsities, np.array([0.62, 0.61, 0.62, 0.34]))
    assert flat == "test accuracy goes from 62.0% dense to 34.0% at 48.80% sparsity, no valley"
    assert analysis.stays_below(sparsities, np.array([1, 0.8, 0.95, 0.5]), 0.9) == "from 48.8% sparsity on"
    assert analysis.stays_below(sparsities, np.array([0.5, 0.5, 0.5, 0.5]), 0.9) == "from 0.0% sparsity on"
    assert analysis.stays_below(sparsities, np.array([1, 0.5, 0.5, 0.95]), 0.9) == "at no sparsity to the end"


NAN = float("nan")


@pytest.mark.parametrize(
    ("effect", "above", "below"),
    [
        (Interval(5, 3, 7), "supported", "contradicted"),
        (Interval(0.5, 0.1, 0.9), "contradicted", "supported"),
        (Interval(2, 0.5, 3), "inconclusive", "inconclusive"),
        (Interval(2, 1, 3), "inconclusive", "inconclusive"),  # the bound on the threshold itself
        (Interval(0.5, 0, 1), "inconclusive", "inconclusive"),
        (Interval(5, NAN, NAN), "inconclusive", "inconclusive"),
        (Interval(NAN, NAN, NAN), "not measured", "not measured"),
        (Interval(NAN, 3, 7), "not measured", "not measured"),
    ],
)
def test_verdicts(effect, above, below):
    for expected, verdict in (("above", above), ("below", below)):
        claim = judge("s", paper="p", dataset="d", measured="m", effect=effect, expected=expected, threshold=1)
        assert claim.verdict == verdict
        assert claim.threshold == f"{expected} 1 points"
        row = claim.as_dict()
        numbers = [row[name] for name in ("effect", "low", "high")]
        assert numbers == [None if n != n else n for n in (effect.value, effect.low, effect.high)]


def test_how_many_valleys_are_certainly_clear():
    valleys = pd.DataFrame({"low": [0.03, 0.02, NAN]})
    assert analysis.how_many_clear(valleys) == "1 of 3, by intervals over seeds"
    assert analysis.how_many_clear(valleys[2:]) == "too few seeds to say"
