"""Networks of one size cut from wider ones: which rows make a line, and what the lines say, on tables made by hand."""

import numpy as np
import pandas as pd
import pytest

from dsdlib.analysis import published, width

WIDTHS, SIZES, SEEDS = (4, 8, 16), (4, 8), (0, 1)


def run(k, seed, **more):
    """Rows of a run of width k: of its dense network and, if it has a second round, of the pruned one."""
    rounds = more.get("rounds", 0)
    row = {"width": k, "seed": seed, "rounds": rounds, "criterion": "magnitude"} | more
    accuracies = [0.5 + k / 100 + seed / 1000, 0.6 + k / 100 + seed / 1000]
    return [
        row | {"round": n, "test_accuracy": accuracies[n], "train_accuracy": 1.0, "pruned_test_accuracy": 0.1 + k / 100}
        for n in range(rounds + 1)
    ]


@pytest.fixture
def table():
    rows = [row for k in WIDTHS for seed in SEEDS for row in run(k, seed, key=f"dense {k} {seed}")]
    for s, k, seed, criterion in [(s, k, n, c) for s in SIZES for k in WIDTHS if k > s for n in SEEDS for c in "mr"]:
        name = {"m": "magnitude", "r": "random"}[criterion]
        rows += run(k, seed, key=f"{s} {k} {seed} {name}", rounds=1, criterion=name)
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.fixture
def series(table):
    return width.series(table, {key: int(key.split()[0]) for key in table["key"] if not key.startswith("dense")})


def test_a_line_of_one_size_begins_with_the_dense_network(series):
    widths = {name: sorted(part["width"].tolist()) for name, part in series.groupby("series")}
    expected = {"dense": [4, 4, 8, 8, 16, 16]}
    for way in ("retrained", "no retraining", "random, retrained"):
        expected |= {f"pruned s=4, {way}": [4, 4, 8, 8, 16, 16], f"pruned s=8, {way}": [8, 8, 16, 16]}
    assert widths == expected
    first = series[(series["series"] == "pruned s=8, random, retrained") & (series["width"] == 8)]
    assert set(first["key"]) == {"dense 8 0", "dense 8 1"} and set(first["round"]) == {0}


def test_errors_are_those_after_retraining_or_before(series):
    at = series[(series["width"] == 16) & (series["seed"] == 1)].set_index("series")["test_error"]
    assert at["dense"] == pytest.approx(1 - 0.661)
    assert at["pruned s=4, retrained"] == at["pruned s=4, random, retrained"] == pytest.approx(1 - 0.761)
    assert at["pruned s=4, no retraining"] == pytest.approx(1 - 0.26)
    keys = series[series["width"] == 16].groupby("way")["key"].agg(lambda keys: {key.split()[-1] for key in keys})
    assert keys["retrained"] == keys["no retraining"] == {"magnitude"} and keys["random, retrained"] == {"random"}


def test_names_are_those_of_the_published_figures(series):
    points = published.figure("chang2021provable/Fig. 1/cifar10", axis="width")
    named = {"dense", "pruned s=8, retrained"}
    assert named <= set(points["series"]) and named <= set(series["series"])
    points = points[points["series"].isin(named)]
    compared = width.compare(series, points)
    assert len(compared) == len(points) and compared["series"].tolist() == points["series"].tolist()
    known = compared.dropna(subset="ours").set_index(["series", "width"])
    assert set(known.index) == {("dense", 8), ("dense", 16)} | {("pruned s=8, retrained", k) for k in (8, 16)}
    ours = {("dense", 16): 1 - 0.6605, ("pruned s=8, retrained", 16): 1 - 0.7605}
    for place, error in ours.items():
        assert known.loc[place, "ours"] == pytest.approx(error)
        assert known.loc[place, "distance"] == pytest.approx(error - known.loc[place, "value"])
    assert compared.loc[compared["ours"].isna(), "distance"].isna().all()


@pytest.mark.parametrize(
    ("accuracies", "first"),
    [
        ({4: 0.7, 8: 0.995, 16: 1.0}, 8),
        ({4: 0.995, 8: 0.98, 16: 1.0}, 16),
        ({4: 1.0, 8: 1.0, 16: 0.9}, None),
        ({4: 0.99, 8: 0.99}, 4),
    ],
)
def test_the_first_fit_is_the_width_from_which_on_all_fit(accuracies, first):
    rows = [
        {"width": k, "seed": n, "train_accuracy": mean + sign * 0.004}
        for k, mean in accuracies.items()
        for n, sign in enumerate((1, -1))
    ]
    assert width.first_fit(pd.DataFrame(rows)) == first


def errors(*curves):
    return pd.DataFrame(curves, columns=[2**n for n in range(len(curves[0]))])


def test_a_bump_is_what_the_error_rises_and_falls_again():
    same = errors(*[[0.5, 0.2, 0.3, 0.1]] * 5)
    found = width.bump(same)
    assert found.value == pytest.approx(10) and found.seeds == 5
    apart = width.bump(same + np.linspace(0, 0.1, 5)[:, None] * [0, 1, 2, 0])
    assert apart.value == pytest.approx(15) and 10 < apart.low < 15 < apart.high < 20
    assert width.in_words(same) == "from 20.0% (width 2) up to 30.0% (width 4) and down to 10.0% (width 8)"


@pytest.mark.parametrize("curve", [[0.5, 0.4, 0.3], [0.1, 0.2, 0.3], [0.5, 0.2, 0.215, 0.2]])
def test_a_slight_bump_is_none(curve):
    assert width.bump(errors(curve, curve, curve)).value == pytest.approx(1.5 if len(curve) == 4 else 0)
    assert width.in_words(errors(curve, curve)) == "none of more than 2 points"


def test_two_widths_show_no_bump():
    found = width.bump(errors([0.5, 0.2], [0.4, 0.3], [0.4, 0.3]))
    assert np.isnan(found.value) and found.reason == "fewer than three widths"
