"""One curve: its valley against the definition by brute force, its places, its phases, and what is said of it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib import analysis
from dsdlib.analysis.curves import (
    PHASES,
    Valley,
    fitting_rounds,
    moving_average,
    phases,
    smoothing_window,
    steps_a_round,
    valley,
)

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


@given(st.lists(st.integers(0, 450), min_size=3, max_size=25), st.sampled_from([1, 3]))
@settings(max_examples=200, deadline=None)
def test_a_valley_is_in_the_same_place_in_any_unit_even_if_there_are_ties(counts, window):
    """Right answers of 450, as fractions, in percent, and as means of three seeds with sums in different orders."""
    counts = np.array(counts, dtype=float)
    in_fractions, in_percent = valley(counts / 450, window), valley(100 * (counts / 450), window)
    assert in_percent.depth == pytest.approx(100 * in_fractions.depth)
    mean = np.stack([counts / 450 + shift for shift in (0.1, 0.2, -0.3)]).mean(0)  # the same but for rounding
    for other in (in_percent, valley(counts, window), valley(mean, window)):
        assert (other.bottom, other.shoulder, other.peak) == (
            in_fractions.bottom,
            in_fractions.shoulder,
            in_fractions.peak,
        )


def test_ties_are_broken_by_order_not_by_rounding():
    curve = np.array([0.1 + 0.2, 0.1, 0.3, 0.1, 0.3])  # 0.1 + 0.2 is a little more than 0.3
    assert valley(curve) == Valley(pytest.approx(0.2), bottom=1, shoulder=0, peak=2)
    assert valley(np.array([0.7, 0.4, 0.7, 0.3, 0.6])).bottom == 1  # both are 0.3 deep
    assert valley(np.array([70, 40, 70, 30, 60])).bottom == 1


def test_places_are_those_of_the_moving_average():
    """A dip in one round does not hide a wide valley; the depth is still read off the curve itself."""
    curve = np.array([9.0, 9, 8, 1, 8, 9, 7, 5, 4, 5, 7, 9, 9, 2])
    assert valley(curve) == Valley(8.0, bottom=3, shoulder=0, peak=5)
    assert valley(curve, 3) == Valley(5.0, bottom=8, shoulder=0, peak=11)
    assert valley(np.array([9.0, 8, 8.5, 7, 6, 5]), 3) == Valley(0.0)  # the average only falls


@pytest.mark.parametrize("window", [1, 3, 5])
def test_a_moving_average_extends_the_ends(window):
    curves = np.random.default_rng(0).normal(size=(2, 8))
    ends = window // 2
    for curve, smooth in zip(curves, moving_average(curves, window), strict=True):
        for at in range(8):
            around = [curve[min(max(r, 0), 7)] for r in range(at - ends, at + ends + 1)]
            assert smooth[at] == pytest.approx(np.mean(around))


@pytest.mark.parametrize(("amount", "window"), [(0.1, 7), (0.2, 3), (0.25, 3), (0.36, 1), (0.5, 1), (0.9, 1)], ids=str)
def test_a_curve_is_averaged_over_about_three_steps_of_a_fifth(amount, window):
    assert smoothing_window(1 - (1 - amount) ** np.arange(20)) == window
    weights = np.round(266_200 * (1 - amount) ** np.arange(12))
    assert smoothing_window(1 - weights / weights[0]) == window


@pytest.mark.parametrize(("amount", "steps"), [(0.2, 1), (0.36, 2), (0.488, 3), (0.105573, 0.5)])
def test_a_round_is_counted_in_steps_of_a_fifth(amount, steps):
    weights = np.round(266_200 * (1 - amount) ** np.arange(12))
    assert steps_a_round(1 - weights / weights[0]) == steps
    assert steps_a_round([0, 1.0]) == 0


@pytest.mark.parametrize("sparsities", [[], [0], [0, 1.0], [0, 0]])
def test_too_few_rounds_are_not_averaged(sparsities):
    assert smoothing_window(sparsities) == 1


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
    # The second peak is higher than the first: critical below 0.70, sweet from 0.75, collapsed below 0.75.
    higher = np.array([0.80, 0.80, 0.60, 0.75, 0.90, 0.74, 0.65])
    assert phases(np.ones(7), higher) == ["light"] * 2 + ["critical"] + ["sweet"] * 2 + ["collapsed"] * 2
    falling = np.array([0.9, 0.86, 0.84, 0.5])
    assert phases(np.array([1.0, 0.96, 0.94, 1.0]), falling) == ["light"] * 2 + ["collapsed"] * 2
    assert phases(np.ones(4), falling) == ["light"] * 4  # train accuracy holds
    assert phases(falling, np.array([0.6, 0.7, 0.8, 0.9])) == ["light"] * 4  # test accuracy rises
    assert phases(np.ones(3), np.full(3, 0.9)) == ["light"] * 3


@pytest.mark.parametrize(
    ("train", "rounds"),
    [
        ([1.0, 0.995, 0.992, 0.98, 1.0], (0, 2)),  # round 4 fits again, but is not in a row with the others
        ([0.6, 0.995, 1.0, 0.5], (1, 2)),
        ([1.0, 1.0, 1.0], (0, 2)),
        ([1.0, 0.5, 1.0], (0, 0)),
        ([0.9, 0.9, 0.5], None),
    ],
)
def test_fitting_rounds_by_hand(train, rounds):
    assert fitting_rounds(np.array(train)) == rounds


def test_words_carry_the_curves_own_numbers():
    sparsities = [0, 0.36, 0.5904, 0.738]  # steps of 36%, whose curves are not averaged
    falling = analysis.in_words(sparsities, np.array([0.62, 0.46, 0.59, 0.34]))
    assert falling == (
        "test accuracy falls from the dense network's 62.0% to 46.0% at 36.0% sparsity, "
        "rises to 59.0% at 59.0% sparsity and ends at 34.0%"
    )
    flat = analysis.in_words(sparsities, np.array([0.62, 0.61, 0.62, 0.34]))
    assert flat == "test accuracy goes from 62.0% dense to 34.0% at 73.80% sparsity, without a valley"
    assert analysis.stays_below(sparsities, np.array([1, 0.8, 0.95, 0.5]), 0.9) == "from 73.8% sparsity on"
    assert analysis.stays_below(sparsities, np.array([0.5, 0.5, 0.5, 0.5]), 0.9) == "from 0.0% sparsity on"
    assert analysis.stays_below(sparsities, np.array([1, 0.5, 0.5, 0.95]), 0.9) == "in no last stretch of rounds"
