"""Diverged runs in the table: marked, without accuracies, and named by every sweep that returns them."""

import math

import pytest

from dsdlib import RunConfig, load_model, sweep
from dsdlib.study.files import read_rows, write_rows
from dsdlib.study.store import Store

WILD = RunConfig(model="mlp", model_args={"depth": 1, "width": 8}, epochs=2, milestones=[], rounds=2, lr=1e12)


def test_a_diverged_run_is_named_again_when_it_is_read():
    tame, table = WILD.vary(lr=0.05), None
    for _ in range(2):  # trained, then read
        with pytest.warns(UserWarning) as warned:
            table = sweep([WILD, tame], progress=False)
        assert [str(w.message) for w in warned] == [f"run {WILD.key} diverged in round 0 (lr = 1000000000000.0)"]
    assert table["diverged"].dtype == bool
    assert table["diverged"].tolist() == [True] * 3 + [False] * 3
    assert table["test_accuracy"].isna().tolist() == table["diverged"].tolist()
    assert len(table[["validation_accuracy", "test_accuracy"]].dropna()) == 3


def test_rows_of_an_earlier_version_are_marked_when_they_are_read(results):
    tame = WILD.vary(lr=0.05, seed=1)
    table = sweep([tame], progress=False)
    rows = read_rows(results / tame.key / "rounds.parquet")
    for row in rows:
        del row["diverged"]
    rows[1]["train_loss"] = math.nan
    write_rows(results / tame.key / "rounds.parquet", rows)
    with pytest.warns(UserWarning, match=f"run {tame.key} diverged in round 1"):
        again = sweep([tame], progress=False)
    assert again["diverged"].tolist() == [False, True, True]
    assert again["test_accuracy"][0] == table["test_accuracy"][0] and again["test_accuracy"][1:].isna().all()


def test_the_best_round_of_a_run_that_diverges_is_one_before(results, monkeypatch):
    """With reinitialisation, a later round can be finite again."""
    run = WILD.vary(lr=0.05, retraining="reinit", rounds=3)
    real = Store.save_round

    def diverge(self, config, rows, *more):
        if rows[-1]["round"] == 2:
            rows[-1]["train_loss"] = math.nan
        return real(self, config, rows, *more)

    monkeypatch.setattr(Store, "save_round", diverge)
    with pytest.warns(UserWarning, match=f"run {run.key} diverged in round 2"):
        table = sweep([run], progress=False)
    assert table["diverged"].tolist() == [False, False, True, True]
    assert load_model(run, "best", results) is not None
