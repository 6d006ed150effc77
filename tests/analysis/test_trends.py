"""Trends over noise rates and sizes, and where curves of different sizes coincide, on tables whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from dsdlib import analysis
from dsdlib.analysis.trends import _where_memorising_ends

ROUNDS, AMOUNT = 15, 0.36
LEFT = (1 - AMOUNT) ** np.arange(ROUNDS)


def runs(size, dense_weights, test, corrupted=None, train=None, seeds=5):
    """Rows of the runs of one size: ``test`` and ``corrupted`` map weights left (rounds,) to accuracies."""
    rows = []
    for seed in range(seeds):
        weights = np.round(dense_weights * LEFT)
        accuracy, memorised = test(weights, seed), (corrupted or test)(weights, seed)
        rows.append(
            pd.DataFrame(
                {
                    "key": f"{size} {seed}",
                    "size": size,
                    "seed": seed,
                    "round": range(ROUNDS),
                    "remaining_weights": weights.astype(int),
                    "sparsity": 1 - LEFT,
                    "test_accuracy": accuracy,
                    "train_accuracy": 1.0 if train is None else train,
                    "train_accuracy_corrupted": memorised,
                }
            )
        )
    return pd.concat(rows)


def bump(place):
    """A curve whose second peak is where ``place`` weights are left, a little off for each seed, after one valley."""
    return lambda weights, seed: (
        0.5 + 0.3 * np.cos(np.clip(1.5 * (np.log(weights / place) + 0.02 * seed), -np.pi, 2 * np.pi))
    )


def step(place):
    """A curve that falls through one half where ``place`` weights are left."""
    return lambda weights, seed: 1 / (1 + np.exp(-np.log(weights / place) - 0.02 * seed))


SIZES = {10: 6_000, 30: 20_000, 100: 90_000}


def networks(place):
    """Runs of three sizes whose curves have their places where ``place`` of the dense weights are left."""
    parts = [runs(size, dense, bump(place(dense)), step(place(dense))) for size, dense in SIZES.items()]
    return pd.concat(parts).sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    ("place", "expected"),
    [(lambda dense: 300, 0), (lambda dense: dense / 20, 1), (lambda dense: 3 * dense**0.5, 0.5)],
    ids=["weights decide", "sparsity decides", "square root"],
)
def test_the_exponent_tells_weights_from_sparsity(place, expected):
    table = networks(place)
    for places in analysis.weights_at_places(table).values():
        assert places.shape == (5, 3) and places.columns.tolist() == list(SIZES.values())
        assert places.mean().to_list() == pytest.approx([place(dense) for dense in SIZES.values()], rel=0.1)
        assert analysis.exponent(places).value == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("place", "closer"), [(lambda dense: 300, "weights"), (lambda dense: dense / 20, "sparsity")])
def test_curves_coincide_where_they_should(place, closer):
    found = analysis.distances_of_curves(networks(place), "size")
    assert found.index.tolist() == list(range(5))
    other = {"weights": "sparsity", "sparsity": "weights"}[closer]
    assert found[closer].max() < 1 and found[other].min() > 10


def test_distances_are_of_the_rounds_in_which_the_larger_network_is_no_larger():
    """By hand: two rounds of the larger network have at most the smaller one's four weights."""
    columns = {"seed": 0, "round": [0, 1, 2, 3], "train_accuracy": 1.0}
    small = pd.DataFrame(
        {**columns, "size": 1, "remaining_weights": [4, 2, 1, 1], "test_accuracy": [0.9, 0.7, 0.4, 0.4]}
    )
    small = small[small["round"] < 3]
    large = pd.DataFrame(
        {**columns, "size": 2, "remaining_weights": [16, 8, 4, 2], "test_accuracy": [0.1, 0.2, 0.8, 0.5]}
    )
    (row,) = analysis.distances_of_curves(pd.concat([small, large]), "size").to_dict("records")
    assert row["weights"] == pytest.approx(100 * (abs(0.8 - 0.9) + abs(0.5 - 0.7)) / 2)
    assert row["sparsity"] == pytest.approx(100 * (abs(0.8 - 0.4) + abs(0.5 - 0.4)) / 2)


def test_nothing_is_compared_where_no_sizes_meet():
    table = pd.concat([runs(1, 500, bump(5)), runs(2, 5_000_000, bump(5))])
    assert analysis.distances_of_curves(table, "size").empty
    assert analysis.distances_of_curves(table[table["size"] == 1], "size").empty


def test_a_seed_that_memorises_to_the_end_or_never_has_no_end_of_it():
    ends = [_where_memorising_ends(runs(1, 1000, bump(5), step(p), seeds=1)) for p in (1e-3, 30, 1e9)]
    assert np.isnan([ends[0], ends[2]]).all() and ends[1] == pytest.approx(30, rel=0.05)
    table = pd.concat([runs(1, 1000, bump(5), step(30)), runs(2, 2000, bump(5), step(30), seeds=3)])
    places = analysis.weights_at_places(table)["Memorising ends"]
    assert places.index.tolist() == [0, 1, 2]  # the seeds that both sizes have
    never = pd.concat([runs(1, 1000, bump(5), step(30)), runs(2, 2000, bump(5), step(1e9))])
    assert analysis.exponent(analysis.weights_at_places(never)["Memorising ends"]).reason == "not measured"


def test_memorising_ends_where_it_falls_below_one_half_for_the_last_time():
    """Half way between the rounds with 400 and 200 of 1000 weights, though it was below one half before."""
    table = pd.DataFrame({"seed": 0, "round": range(5), "remaining_weights": [1000, 700, 400, 200, 100]})
    table["train_accuracy_corrupted"] = [0.9, 0.4, 0.6, 0.4, 0.1]
    assert _where_memorising_ends(table) == pytest.approx([np.sqrt(400 * 200)])


def test_a_second_peak_needs_a_clear_valley():
    falling = runs(1, 1000, lambda weights, seed: weights / 1000, step(30))
    places = analysis.weights_at_places(falling)
    assert places["Second peak"].empty and places["Memorising ends"].shape == (5, 1)


def test_a_trend_is_the_change_along_a_line_through_all_values():
    values = pd.DataFrame({0.0: [1.0, 2.0], 0.2: [2.0, 2.0], 0.8: [3.0, 6.0]})
    x = np.array(values.columns)
    by_hand = [np.cov(x, row)[0, 1] / x.var(ddof=1) * 0.8 for row in values.to_numpy()]
    assert analysis.trend(values).value == pytest.approx(np.mean(by_hand))
    doubling = pd.DataFrame({1: [5.0] * 5, 2: [6.0] * 5, 4: [7.0] * 5, 8: [8.0] * 5}) + np.arange(5)[:, None]
    assert analysis.trend(doubling, log=True).value == pytest.approx(3)
    assert analysis.trend(values[[0.2]]).reason == "fewer than two to compare"


def test_only_sizes_that_fit_or_have_a_valley_are_kept():
    valley = 0.6 - 0.2 * np.exp(-((np.arange(ROUNDS) - 6) ** 2) / 4)
    late = np.where(np.arange(ROUNDS) == 2, 0.97, 0.8)  # the dense network does not fit its labels, a later one does
    table = pd.concat(
        [
            runs(1, 1000, lambda w, s: valley + s / 100, train=0.94),
            runs(2, 2000, lambda w, s: valley + s / 100, train=late),
            runs(3, 3000, lambda w, s: np.linspace(0.9, 0.1, ROUNDS) + s / 100),
        ]
    )
    assert analysis.fitting(table, "size")["size"].unique().tolist() == [2, 3]
    assert analysis.with_clear_valley(table, "size")["size"].unique().tolist() == [1, 2]
    none = analysis.fitting(table[table["size"] == 1], "size")
    assert none.empty
    for places in analysis.weights_at_places(none).values():
        assert analysis.exponent(places).reason == "fewer than two to compare"
