"""Tables of other programs: names of columns, units, epochs and seeds, read without a guess or refused by name."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsdlib.analysis.tables import read_table
from dsdlib.config import ConfigError

TEST, VALIDATION, TRAIN = [0.9, 0.8, 0.85, 0.3], [0.88, 0.79, 0.86, 0.31], [0.99, 0.97, 0.9, 0.3]
SPARSITY = [0.0, 0.5, 0.75, 0.875]


def in_percent(values):
    return [100 * value for value in values]


@pytest.mark.parametrize(
    "table",
    [
        {"sparsity": SPARSITY, "test_accuracy": TEST},
        {"Sparsity (%)": in_percent(SPARSITY), "Test Acc (%)": in_percent(TEST)},
        {"density": [1, 0.5, 0.25, 0.125], "accuracy": TEST},
        {"Weights left": [100, 50, 25, 12.5], "top-1 accuracy": in_percent(TEST)},
        {"percent_remaining": [100, 50, 25, 12.5], "test_top1": in_percent(TEST)},
        {"remaining_weights": [26_000, 13_000, 6_500, 3_250], "testAcc": TEST},
        {"nparams": [0.8, 0.4, 0.2, 0.1], "acc@1": [f"{value:.0%}" for value in TEST]},
        {"pruned": SPARSITY, "acc": TEST, "loss": [1, 2, 3, 4], "macs": [4, 3, 2, 1]},
    ],
    ids=lambda table: " ".join(list(table)[:2]),
)
def test_names_and_units_are_recognised(table):
    found = read_table(pd.DataFrame(table))
    np.testing.assert_allclose(found["sparsity"], SPARSITY)
    np.testing.assert_allclose(found["test_accuracy"], TEST)
    assert found["round"].tolist() == [0, 1, 2, 3] and found["seed"].nunique() == 1


def test_all_accuracies_are_read():
    columns = {"sparsity": SPARSITY, "accuracy": TEST, "val_acc": VALIDATION, "Training accuracy": TRAIN}
    found = read_table(pd.DataFrame(columns))
    assert found["validation_accuracy"].tolist() == VALIDATION and found["train_accuracy"].tolist() == TRAIN


@settings(max_examples=50, deadline=None)
@given(st.permutations(range(8)), st.booleans())
def test_the_order_of_rows_and_the_unit_do_not_matter(order, percent):
    rows = [(seed, s, t + seed / 100) for seed in (3, 7) for s, t in zip(SPARSITY, TEST, strict=True)]
    table = pd.DataFrame([rows[at] for at in order], columns=["seed", "sparsity", "test_accuracy"])
    table["test_accuracy"] *= 100 if percent else 1
    found = read_table(table)
    assert found["seed"].tolist() == [3] * 4 + [7] * 4 and found["round"].tolist() == [0, 1, 2, 3] * 2
    np.testing.assert_allclose(found["test_accuracy"], [t + seed / 100 for seed in (3, 7) for t in TEST])


def test_percent_says_which_columns_are_in_percent():
    table = pd.DataFrame({"sparsity": [0, 0.5, 1], "accuracy": [0.9, 0.8, 0.1]})
    assert read_table(table, percent=["sparsity"])["sparsity"].tolist() == [0, 0.005, 0.01]
    assert read_table(table, percent=True)["test_accuracy"].tolist() == pytest.approx([0.009, 0.008, 0.001])
    table = pd.DataFrame({"sparsity": [0, 50, 95], "accuracy": [0.9, 0.8, 1]})
    assert read_table(table, percent=["sparsity"])["test_accuracy"].tolist() == [0.9, 0.8, 1]


def test_an_accuracy_of_exactly_1_has_the_unit_of_the_other_accuracies():
    table = pd.DataFrame({"sparsity": SPARSITY, "test_accuracy": TEST, "train_accuracy": [1, 0.9, 0.8, 0.3]})
    assert read_table(table)["train_accuracy"].tolist() == [1, 0.9, 0.8, 0.3]
    table["test_accuracy"] = in_percent(TEST)
    assert read_table(table)["train_accuracy"].tolist() == pytest.approx([0.01, 0.009, 0.008, 0.003])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"loss": [1], "step": [2]}, "no column of sparsity; found: loss, step; accepted: sparsity .pruned"),
        ({"sparsity": [0, 0.5], "loss": [1, 2]}, "no column of test accuracy; found: sparsity, loss"),
        ({"pruning_ratio": [0, 0.5], "acc": [0.1, 0.2]}, "no column of sparsity"),  # a share of channels, not weights
        (
            {"sparsity": [0, 0.5], "acc": [0.1, 0.2], "Accuracy": [0.3, 0.4]},
            "'acc', 'Accuracy'. could all be the test_a",
        ),
        ({"params": [5, 1], "pruned": [0, 0.5], "acc": [0.1, 0.2]}, "'pruned', 'params'. could all be the sparsity"),
        ({"sparsity": [0, 0.5], "accuracy": [0.1, 0.2], "val_accuracy": [0.1, 0.2]}, "'accuracy' could be train or te"),
        ({"sparsity": [0, 0.5, 1], "acc": [0.9, 0.8, 0.1]}, "column 'sparsity': its largest value is 1, which is 100%"),
        ({"sparsity": [0, 50, 95], "acc": [0.9, 0.8, 1]}, "column 'acc': its largest value is 1, which is 100%"),
        ({"weights left": [60, 40, 20], "acc": [0.1, 0.2, 0.3]}, "60 could be a number of weights or a percentage"),
        ({"sparsity": [0, 150], "acc": [0.1, 0.2]}, "column 'sparsity': 150 is not a fraction or a percentage"),
        ({"sparsity": [0, 0.5], "acc": [0.1, -0.2]}, "column 'acc': -0.2 is not a fraction or a percentage"),
        ({"sparsity (fraction)": [0, 50], "acc": [0.1, 0.2]}, "50 is not a fraction"),
        ({"sparsity": [0, 0.5], "acc": [0.1, "high"]}, "column 'acc': 'high' is not a number"),
        ({"sparsity": [0, 50, 100], "acc": [0.1, 0.2, 0.3]}, "sparsity 100%: no weight would be left"),
        (
            {"sparsity": [0, 0.5], "acc": [0.1, None]},
            "test_accuracy: the value of seed 0 at 50.00% sparsity is missing",
        ),
        ({"seed": [0, None], "sparsity": [0, 0.5], "acc": [0.1, 0.2]}, "column 'seed': a value is missing in row 1"),
        (
            {"sparsity": [0, 0, 0.5], "acc": [0.1, 0.1, 0.3], "λ": [1, 2, 1]},
            "2 rows of seed 0 at 0.00% sparsity; they differ in: λ. Give one setting at a time",
        ),
        (
            {"seed": [0, 0, 4], "sparsity": [0, 0.5, 0], "acc": [0.1, 0.2, 0.3]},
            "seed 4 has 1 sparsities and seed 0 has 2; seed 4 has none at 50.00%",
        ),
        (
            {"seed": [0, 0, 1, 1], "sparsity": [0, 0.5, 0.6, 0.8], "acc": [0.1, 0.2, 0.3, 0.4]},
            "round 0 is at up to 60.00% sparsity, and round 1 of another seed at 50.00%",
        ),
        ({"sparsity": [], "acc": []}, "table: it has no rows"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_would_be_a_guess_is_refused_by_name(table, message):
    with pytest.raises(ConfigError, match=message):
        read_table(pd.DataFrame(table))


def test_an_unknown_column_in_percent_is_refused():
    with pytest.raises(ConfigError, match=r"percent = \['accuracy'\]: no such column; found: sparsity, acc"):
        read_table(pd.DataFrame({"sparsity": [0, 0.5], "acc": [0.1, 0.2]}), percent=["accuracy"])


def test_seeds_whose_sparsities_differ_a_little_share_their_mean():
    """Structured pruning leaves each seed another number of weights."""
    table = {"seed": [0, 0, 1, 1], "params": [1000, 500, 1000, 480], "acc": [0.1, 0.2, 0.3, 0.4]}
    assert read_table(pd.DataFrame(table))["sparsity"].tolist() == [0, 0.51, 0, 0.51]


def test_of_several_epochs_the_last_counts_and_the_best_by_validation_is_named():
    epochs = [(s, e, t, v) for s in (0.0, 0.5, 0.9) for e, (t, v) in enumerate([(0.4, 0.5), (0.6, 0.7), (0.5, 0.7)])]
    table = pd.DataFrame(epochs[::-1], columns=["sparsity", "epoch", "test_acc", "val_acc"])
    found = read_table(table)
    assert found["test_accuracy"].tolist() == [0.5] * 3 and found["validation_accuracy"].tolist() == [0.7] * 3
    assert found["best_epoch"].tolist() == [1] * 3 and found["best_epoch_test_accuracy"].tolist() == [0.6] * 3
    assert "best_epoch" not in read_table(table.drop(columns="val_acc"))
    one_each = read_table(table[table["epoch"] == 2])
    assert "best_epoch" not in one_each and "epoch" not in one_each


@pytest.mark.parametrize("name", ["run.csv", "run.tsv", "run.parquet"])
def test_files_are_read(name, tmp_path):
    table = pd.DataFrame({"sparsity": SPARSITY, "test_accuracy": TEST})
    write = {"csv": table.to_csv, "tsv": lambda path, index: table.to_csv(path, index=index, sep="\t")}
    write.get(name.rpartition(".")[2], table.to_parquet)(tmp_path / name, index=False)
    assert read_table(tmp_path / name)["test_accuracy"].tolist() == TEST


def test_files_that_cannot_be_read_are_named(tmp_path):
    for name, message in (("a.xlsx", "allowed: .csv, .tsv, .parquet"), ("a.csv", "there is no such file")):
        with pytest.raises(ConfigError, match=message):
            read_table(tmp_path / name)
    (tmp_path / "b.parquet").write_bytes(b"no table")
    with pytest.raises(ConfigError, match=r"b.parquet': cannot be read"):
        read_table(tmp_path / "b.parquet")
