"""The published archive: what is written is read back, numbers never change silently, damage is named."""

import shutil
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.study.__main__ import main
from dsdlib.study.archive import Archive, publish
from dsdlib.study.repeat import repeat
from dsdlib.study.store import Store


@pytest.fixture
def runs(tiny: RunConfig) -> list[RunConfig]:
    """Two kinds of runs: the second one has another number of layers, so other columns."""
    return [tiny, tiny.vary(seed=1), tiny.vary(model_args={"depth": 2, "width": 8})]


@pytest.fixture
def published(runs: list[RunConfig], results: Path, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """The table of runs that were trained, published, and removed from the store."""
    monkeypatch.delenv("DSDLIB_FRESH")
    table = sweep(runs, progress=False)
    assert main(["publish", "tiny"]) == 0
    for run in runs:
        shutil.rmtree(results / run.key)
    return table


def test_a_published_table_is_the_trained_one_and_needs_no_data(published, runs, monkeypatch, tmp_path):
    monkeypatch.setattr("dsdlib.study.worker.run_rounds", lambda *_: pytest.fail("something is trained"))
    monkeypatch.setattr("dsdlib.engine.build.load_dataset", lambda _: pytest.fail("data are loaded"))
    again = sweep(runs, progress=False)
    pd.testing.assert_frame_equal(again, published, check_exact=True)


def test_a_published_run_has_the_measures_that_it_was_trained_with_and_no_other_runs(published, runs):
    layers = [{name for name in Store().rows(run)[0] if name.startswith("learning_distance_")} for run in runs]
    two = {"learning_distance_1", "learning_distance_2"}
    assert layers == [two, two, two | {"learning_distance_3"}]


def test_a_run_that_is_not_published_is_trained_beside_the_published_ones(published, runs, results):
    other = runs[0].vary(seed=9)
    table = sweep([*runs, other], progress=False)
    assert {path.name for path in results.iterdir() if len(path.name) == 16} == {other.key}
    assert set(table["key"]) == {run.key for run in [*runs, other]}


def test_fresh_ignores_the_archive(published, runs, results, monkeypatch):
    monkeypatch.setenv("DSDLIB_FRESH", "1")
    sweep(runs[:1], progress=False)
    assert (results / runs[0].key / "rounds.parquet").exists()


def test_what_was_not_published_is_trained(published, runs, results):
    table = sweep(runs[:1], keep=[1, "history"], progress=False)
    assert (results / runs[0].key / "history.parquet").exists()
    first = published[published["key"] == runs[0].key].reset_index(drop=True)
    pd.testing.assert_frame_equal(table.drop(columns="seconds")[["test_accuracy"]], first[["test_accuracy"]])


def test_provenance_tells_what_was_published(published, runs):
    (session,) = Store().provenance(runs[0])
    assert session["published"] == "tiny.parquet" and session["versions"]["torch"]


def test_other_numbers_are_refused_unless_replaced(published, runs, results):
    file = results / "published" / "tiny.parquet"
    rows = Archive([file.parent]).rows(runs[0])
    before = file.read_bytes()
    changed = [*rows[:-1], rows[-1] | {"test_accuracy": 0.5}]
    with pytest.raises(ConfigError, match=rf"holds run {runs[0].key} with other numbers \(test_accuracy in round 2"):
        publish(file, {runs[0]: (changed, [])})
    assert file.read_bytes() == before
    slower = [row | {"seconds": 99.0} for row in rows]
    assert publish(file, {runs[0]: (slower, [])}) == 0
    assert publish(file, {runs[0]: (changed, [])}, replace=True) == 0
    assert Archive([file.parent]).rows(runs[0])[-1]["test_accuracy"] == 0.5
    assert Archive([file.parent]).rows(runs[1])[0].keys() == rows[0].keys()


def test_unfinished_runs_are_refused(published, runs, results):
    rows = Archive([results / "published"]).rows(runs[0])
    with pytest.raises(ConfigError, match="has 2 of 3 rounds; only finished runs are published"):
        publish(results / "published" / "tiny.parquet", {runs[0]: (rows[:2], [])})


@pytest.mark.parametrize("damage", ["bytes", "values", "empty"])
def test_a_damaged_archive_is_named(published, runs, results, damage):
    file = results / "published" / "tiny.parquet"
    if damage == "values":
        table = pq.read_table(file)
        place = table.column_names.index("round")
        wrong = table.set_column(place, "round", table["round"].take(list(reversed(range(len(table))))))
        pq.write_table(wrong.replace_schema_metadata(table.schema.metadata), file)
    else:
        content = file.read_bytes()
        file.write_bytes(b"" if damage == "empty" else content[:300] + bytes(20) + content[320:])
    with pytest.raises(ConfigError, match=r"tiny\.parquet: the published archive cannot be read"):
        sweep(runs, progress=False)


def test_a_repeat_on_this_machine_gives_the_published_numbers(published, runs, capsys, monkeypatch):
    monkeypatch.setenv("DSDLIB_FRESH", "1")  # the command reads the archive in any case
    assert main(["repeat", "tiny", "--key", runs[1].key[:6]]) == 0
    told = capsys.readouterr().out
    assert f"run {runs[1].key}, {runs[1].model} on digits" in told
    cells = [line.split() for line in told.splitlines()[-3:]]
    assert [row[0] for row in cells] == ["0", "1", "2"]
    assert all(float(cell) == 0 for row in cells for cell in row[2:])


def test_a_repeat_says_how_far_other_numbers_are(published, runs, results):
    rows = Archive([results / "published"]).rows(runs[0])
    rows[1] = {**rows[1], "test_loss": rows[1]["test_loss"] + 0.25}
    apart = repeat(runs[0], rows, rounds=1)
    assert apart["round"].tolist() == [0, 1]
    assert apart["test_loss"].tolist() == pytest.approx([0, 0.25], abs=1e-6)


def test_a_repeat_of_what_is_not_published_is_refused(published, capsys):
    assert main(["repeat", "nosuch"]) == 2
    assert "no published runs of 'nosuch'; there are: " in capsys.readouterr().err
    assert main(["repeat", "tiny", "--key", "zzz"]) == 2
    assert "key = 'zzz': 0 published runs begin so" in capsys.readouterr().err
    assert main(["repeat", "tiny", "--rounds", "9"]) == 2
    assert "rounds = 9: the run has 0 to 2" in capsys.readouterr().err
