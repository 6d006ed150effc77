"""Intervals against scipy's, and where there are none."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dsdlib import analysis
from dsdlib.analysis.intervals import Interval, half_width, least_certain, means, nothing, repeat_probability


@given(st.lists(st.floats(-100, 100), min_size=3, max_size=12))
@settings(max_examples=50, deadline=None)
def test_the_interval_of_a_mean_is_students(values):
    values = np.array(values)
    found = analysis.over_seeds(values)
    own = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(own), abs=1e-6)
    assert found.seeds == len(values) and found.error == pytest.approx(stats.sem(values), abs=1e-9)


def test_the_interval_of_any_other_statistic_is_a_percentile_bootstrap_from_ten_seeds_up():
    curves = np.random.default_rng(0).normal(size=(12, 4))
    found = analysis.over_seeds(curves, np.max)
    rng = np.random.default_rng(1)
    resampled = curves[rng.integers(0, 12, (20_000, 12))].mean(1).max(1)
    assert found.value == curves.mean(0).max()
    assert (found.low, found.high) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.05)
    assert found.error == pytest.approx(resampled.std(), rel=0.1)
    assert analysis.over_seeds(curves, np.max) == found
    few = analysis.over_seeds(curves[:9], np.max)
    assert few.value == curves[:9].mean(0).max() and np.isnan(few.low) and few.reason == "too few seeds: 10 are needed"


def test_a_resample_without_a_value_leaves_no_interval():
    curves = np.r_[np.zeros((9, 1)), np.ones((1, 1))]
    found = analysis.over_seeds(curves, lambda mean: float(mean[0]) if mean[0] > 0 else np.nan)
    assert found.value == 0.1 and np.isnan([found.low, found.high]).all() and found.reason


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_fewer_than_three_seeds_have_no_interval(seeds):
    found = analysis.over_seeds(np.arange(seeds) + 5.0)
    assert np.isnan([found.low, found.high]).all() and found.reason == ("too few seeds" if seeds else "not measured")
    assert np.isnan(found.value) if seeds == 0 else found.value == 5 + (seeds - 1) / 2


def test_a_missing_value_is_no_number():
    assert np.isnan(analysis.over_seeds(np.array([1.0, np.nan, 2.0])).value)


def test_an_interval_is_written_with_its_bounds_if_it_has_any():
    assert f"{analysis.Interval(-0.25, -1.0, 0.5):.2f}" == "−0.25 [−1.00, 0.50]"
    assert f"{analysis.over_seeds(np.array([1.0, 2.0])):.1f}" == "1.5"
    assert f"{analysis.NOTHING:.1f}" == "–"


def test_half_widths_are_computed_at_once():
    counts, std = np.array([1, 2, 3, 10]), np.array([np.nan, 1.0, 1.0, 2.0])
    expected = [np.nan, np.nan, stats.t.ppf(0.975, 2) / 3**0.5, stats.t.ppf(0.975, 9) * 2 / 10**0.5]
    assert half_width(std, counts) == pytest.approx(expected, nan_ok=True)


def test_means_are_over_seeds_with_the_rows_of_a_seed_averaged_first():
    rng = np.random.default_rng(0)
    rows = [
        {"kind": kind, "x": x, "seed": seed, "value": rng.normal() + seed}
        for kind in "ab"
        for x in (0.5, 0.1)
        for seed in range(4)
        for _ in range(3)  # three directions, say, of each seed
    ]
    table = pd.DataFrame(rows).sample(frac=1, random_state=0)
    found = means(table, ["kind", "x"], "value")
    assert found[["kind", "x"]].to_numpy().tolist() == [["a", 0.1], ["a", 0.5], ["b", 0.1], ["b", 0.5]]
    for row in found.itertuples():
        part = table[(table["kind"] == row.kind) & (table["x"] == row.x)]
        expected = analysis.over_seeds(part.groupby("seed")["value"].mean().to_numpy())
        assert (row.mean, row.low, row.high, row.count) == pytest.approx(
            (expected.value, expected.low, expected.high, 4)
        )


def test_means_leave_missing_values_out_and_need_no_seed():
    table = pd.DataFrame({"x": [0, 0, 0, 0, 1], "value": [1.0, 2.0, 6.0, np.nan, 5.0]})
    found = means(table, ["x"], "value")
    assert found["mean"].tolist() == [3, 5] and found["count"].tolist() == [3, 1]
    assert found["high"][0] - 3 == pytest.approx(stats.t.ppf(0.975, 2) * stats.sem([1, 2, 6]))
    assert np.isnan(found["low"][1])


def test_a_speed_up_is_the_mean_ratio_of_times_of_the_same_repeat():
    slow, fast = [8.0, 9.0, 30.0], [2.0, 3.0, 6.0]  # the machine was busy in the last repeat
    rows = [{"way": "slow", "repeat": r, "seconds": s} for r, s in enumerate(slow)]
    rows += [{"way": "fast", "repeat": r, "seconds": s} for r, s in enumerate(fast)]
    found = analysis.speed_up(pd.DataFrame(rows).sample(frac=1, random_state=0), "slow", "fast")
    own = stats.ttest_1samp([4, 3, 5], 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((4, *own))


@pytest.mark.parametrize(
    ("readings", "chosen"),
    [
        ([(5, 4, 6), (3, 2.5, 3.5), (9, 1.2, 12)], 2),  # all above: the one whose lower end is nearest
        ([(-5, -6, -4), (0, -1, 0.9)], 1),  # all below
        ([(5, 4, 6), (2, 0, 4), (3, 0.9, 9)], 1),  # undecided, and further so than the other
        ([(5, 4, 6), (0.8, 0.2, 1.4), (2, 1.5, 2.5)], 1),
        ([(5, 4, 6), (0.5, 0.4, 0.6)], None),  # above and below
        ([(5, 4, 6), (2, float("nan"), float("nan"))], 1),  # too few seeds
    ],
)
def test_the_least_certain_of_several_readings(readings, chosen):
    found = [Interval(*reading, seeds=5) for reading in readings]
    least = least_certain(found, 1)
    assert least is found[chosen] if chosen is not None else least.reason == "the readings contradict each other"


@pytest.mark.parametrize(("seeds", "distance"), [(5, 2.0), (5, 0.6), (12, 1.0)])
def test_the_probability_of_a_repeat_is_how_often_simulated_repeats_agree(seeds, distance):
    """Drawn by hand: the true variance, the true mean, then a repeat's seeds, for what one set of seeds has shown."""
    rng, free, draws = np.random.default_rng(2), seeds - 1, 40_000
    shown = rng.normal(size=seeds)
    shown = (shown - shown.mean()) / shown.std(ddof=1) + distance
    true_std = np.sqrt(free / rng.chisquare(free, draws))
    true_mean = distance + true_std * rng.normal(size=draws) / np.sqrt(seeds)
    repeats = true_mean + true_std * rng.normal(size=(seeds, draws))
    half = stats.t.ppf(0.975, free) * repeats.std(0, ddof=1) / np.sqrt(seeds)
    agree = np.mean(repeats.mean(0) - half > 0)
    found = analysis.over_seeds(shown)
    assert repeat_probability(found, 0) == pytest.approx(agree if found.low > 0 else 0, abs=0.01)


def test_an_effect_is_measured_only_where_the_valley_is_certain():
    found = analysis.over_seeds(np.array([4.0, 5.0, 6.0, 5.5, 4.5]))
    unsure, sure = (Interval(5, low, 5 + 5 - low, 5, (5 - low) / 2.776) for low in (1.9, 3.0))
    assert analysis.where_certain(found, unsure, "no valley").reason == "no valley"
    assert analysis.where_certain(found, nothing("not run"), "no valley").reason == "no valley"
    kept = analysis.where_certain(found, sure, "no valley")
    assert (kept.value, kept.low) == (found.value, found.low) and kept.gate == repeat_probability(sure, 2)
    assert repeat_probability(kept, 0) == pytest.approx(kept.gate * repeat_probability(found, 0))
    assert 0.5 < kept.gate < 0.95
