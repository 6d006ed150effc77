"""Published curves as they were read off, and their distance from made-up tables that lie where we put them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib.analysis import published
from dsdlib.config import ConfigError
from dsdlib.pruning import remaining_weights

MNIST = "he2022sparse/Fig. 1/mnist"
ALLOWED = [
    *(f"he2022sparse/Fig. 1/{name}" for name in ("cifar10", "cifar100", "mnist")),
    "quetu2024dsd2/Fig. 1 left/cifar10",
]


@pytest.mark.parametrize(
    ("name", "noise_rate", "place", "counts"),
    [
        (MNIST, 0.2, "sparsity", {"test": 25, "train": 25}),
        ("he2022sparse/Fig. 1/cifar10", 0.2, "sparsity", {"test": 28}),
        ("he2022sparse/Fig. 1/cifar100", 0.2, "sparsity", {"test": 26}),
        ("quetu2024dsd2/Fig. 1 left/cifar10", 0.5, "sparsity", {"distilled": 29, "vanilla": 29}),
    ],
)
def test_a_figures_points(name, noise_rate, place, counts):
    points = published.figure(name)
    assert points.groupby("series").size().to_dict() == counts
    assert (points["noise_rate"] == noise_rate).all()
    assert points[place].between(0, 1, inclusive="left").all() and points["value"].between(0.3, 1).all()
    for series, part in points.groupby("series"):
        assert part[place].to_numpy() == pytest.approx(1 - 0.8 ** np.arange(counts[series]), abs=6e-7)
        assert set(part["measure"]) == {"train_accuracy" if series == "train" else "test_accuracy"}


def test_points_by_hand():
    first, *_, last = published.figure(MNIST).to_dict("records")
    about = {"noise_rate": 0.2}
    test = {"series": "test", "measure": "test_accuracy", "sparsity": 0, "value": 0.834, "reading_error": 0.003}
    train = {"series": "train", "measure": "train_accuracy", "sparsity": 0.995278, "value": 0.717}
    assert first == pytest.approx(about | test) and last == pytest.approx(about | train | {"reading_error": 0.005})
    costs = published.figure("quetu2024dsd2/Fig. 1 right/cifar10", axis="train_pflops")
    assert costs["train_pflops"].tolist() == [19.54, 22.79, 40.7, 48.84]
    assert costs["value"].tolist() == pytest.approx([0.45, 0.642, 0.4765, 0.4765])


@pytest.mark.parametrize(
    ("name", "how", "dense"), [("Fig. 1", "retrained", 15), ("Fig. 5b", "no retraining", 0)], ids=["1", "5b"]
)
def test_errors_over_width_are_fractions_as_they_were_read(name, how, dense):
    points = published.figure(f"chang2021provable/{name}/cifar10", axis="width")
    counts = {f"pruned s={s}, {how}": n for s, n in ((5, 14), (8, 13), (10, 12))} | ({"dense": dense} if dense else {})
    assert points.groupby("series").size().to_dict() == counts
    assert set(points["measure"]) == {"test_error"} and (points["noise_rate"] == 0).all()
    assert points["value"].between(0.1, 0.75).all() and (points["reading_error"] == 0.005).all()
    at_five = points[points["series"] == f"pruned s=5, {how}"].set_index("width")["value"]
    assert at_five[5] == 0.25 and at_five[16] == (0.29 if dense else 0.72)
    assert at_five.index.tolist() == [5, 8, 10, 12, 14, 16, 18, 20, 25, 30, 35, 40, 45, 50]


@pytest.mark.parametrize(
    "name", ["mnist", "quetu2024dsd2/Fig. 1 right/cifar10", "chang2021provable/Fig. 1/cifar10", ""]
)
def test_an_unknown_figure_is_refused_and_the_known_ones_named(name):
    with pytest.raises(ConfigError) as refused:
        published.figure(name)
    assert str(refused.value) == f"published figure {name!r}: unknown; allowed: {', '.join(ALLOWED)}"


def test_a_figure_without_the_wanted_series_is_refused():
    with pytest.raises(ConfigError, match="shows test, train; wanted: vanilla, distilled"):
        published.figure(MNIST, series=("vanilla", "distilled"))


def some_points(sparsity, value, series="test", measure="test_accuracy", reading_error=0.003):
    columns = {"series": series, "measure": measure, "sparsity": sparsity, "value": value}
    return pd.DataFrame(columns | {"reading_error": reading_error})


def a_table(sparsity, test, train=0.9):
    """Tidy rows of three seeds, whose mean is as given."""
    round_ = {"round": range(len(sparsity)), "sparsity": sparsity}
    return pd.concat(
        pd.DataFrame(round_ | {"seed": s, "test_accuracy": np.add(test, off), "train_accuracy": np.add(train, off)})
        for s, off in enumerate((-0.02, -0.01, 0.03))
    ).sample(frac=1, random_state=0)


@given(st.lists(st.floats(0.2, 0.8), min_size=1, max_size=20), st.floats(-0.2, 0.2))
@settings(max_examples=50, deadline=None)
def test_a_constant_shift_is_the_mean_and_the_largest_distance(curve, shift):
    sparsity = 1 - 0.8 ** np.arange(len(curve))
    compared = published.compare(a_table(sparsity, np.add(curve, shift)), some_points(sparsity, curve))
    assert compared["distance"].to_numpy() == pytest.approx(shift)
    (row,) = published.agreement(compared).to_dict("records")
    assert (row["mean_distance"], row["largest_distance"]) == pytest.approx((abs(shift), abs(shift)))
    assert (row["points"], row["reading_error"]) == (len(curve), 0.003)


def test_points_between_our_rounds_are_read_off_in_steps_of_pruning_and_beyond_the_last_not_at_all():
    table = a_table([0, 0.36, 0.84], [0.8, 0.6, 0.5])  # weights left: 1, 0.8² and 0.4²
    points = some_points([0.2, 0.36, 0.68, 0.9, 0.0], [0.65, 0.6, 0.6, 0.1, 0.9])
    compared = published.compare(table, points)
    assert compared["ours"].to_numpy() == pytest.approx([0.7, 0.6, 0.55, np.nan, 0.8], nan_ok=True)
    assert compared["distance"].to_numpy() == pytest.approx([0.05, 0, -0.05, np.nan, -0.1], nan_ok=True)
    pd.testing.assert_frame_equal(compared.drop(columns=["ours", "distance"]), points)
    (row,) = published.agreement(compared).to_dict("records")
    assert row["points"] == 4  # the one beyond our last round does not count
    assert (row["mean_distance"], row["largest_distance"], row["at_sparsity"]) == pytest.approx((0.05, 0.1, 0))


def test_each_series_is_compared_with_its_own_measure():
    sparsity = [0, 0.36, 0.5904, 0.738]  # steps of 36%, whose curves are not averaged
    test = some_points(sparsity, [0.5, 0.5, 0.5, 0.5])
    train = some_points(sparsity, [0.9, 0.6, 0.8, 0.7], "train", "train_accuracy", 0.005)
    mixed = pd.concat([test, train]).sort_values("sparsity", kind="stable").reset_index(drop=True)
    compared = published.compare(a_table(sparsity, [0.6, 0.4, 0.7, 0.42], [0.9, 0.8, 0.5, 0.7]), mixed)
    assert compared["series"].tolist() == ["test", "train"] * 4
    assert compared["ours"].tolist() == pytest.approx([0.6, 0.9, 0.4, 0.8, 0.7, 0.5, 0.42, 0.7])
    distances = ("mean_distance", "largest_distance", "at_sparsity")
    first, second = published.agreement(compared).to_dict("records")
    assert (first["series"], first["points"], first["reading_error"]) == ("test", 4, 0.003)
    assert [first[name] for name in distances] == pytest.approx([0.12, 0.2, 0.5904])
    assert (first["valley_ours"], first["peak_ours"]) == (0.36, 0.5904)
    assert np.isnan([first["valley_published"], first["peak_published"]]).all()
    assert [second[name] for name in distances] == pytest.approx([0.125, 0.3, 0.5904])
    assert (second["valley_published"], second["peak_published"]) == (0.36, 0.5904)
    assert (second["valley_ours"], second["peak_ours"]) == (0.5904, 0.738)
    assert published.in_words(compared) == (
        "Distance from the published curve: test 12.0 points on average, 20.0 at most (at 59.0% sparsity), "
        "read to within 0.3; train 12.5 points on average, 30.0 at most (at 59.0% sparsity), read to within 0.5."
    )


def test_the_published_valley_of_mnist_lies_where_the_paper_has_it():
    points = published.figure(MNIST)
    test, train = (points.loc[points["series"] == name, ["sparsity", "value"]] for name in ("test", "train"))
    table = a_table(test["sparsity"], test["value"].to_numpy(), train["value"].to_numpy())
    found = published.agreement(published.compare(table, points)).set_index("series")
    assert found["points"].tolist() == [25, 25]
    assert found["largest_distance"].to_numpy() == pytest.approx(0)
    for whose in ("published", "ours"):
        assert found.loc["test", f"valley_{whose}"] == 0.892626
        assert found.loc["test", f"peak_{whose}"] in (0.985588, 0.988471)
        assert np.isnan(found.loc["train", f"valley_{whose}"])  # it only falls


def test_a_run_with_exactly_the_papers_rounds_is_compared_to_its_last_point():
    left = remaining_weights(266_200, 0.2, 24)
    table = pd.DataFrame({"sparsity": [1 - n / left[0] for n in left], "test_accuracy": 0.9, "train_accuracy": 0.9})
    compared = published.compare(table, published.figure(MNIST))
    assert compared["ours"].notna().all() and len(compared) == 50
    shorter = published.compare(table.iloc[:-1], published.figure(MNIST))
    assert shorter["ours"].isna().sum() == 2  # one in each series


def test_nothing_to_compare_is_said():
    points = published.figure(MNIST)
    table = pd.DataFrame({"sparsity": [0.1, 0.15], "test_accuracy": 0.9, "train_accuracy": 0.9})
    assert published.in_words(published.compare(table, points)).endswith("no point to compare.")
