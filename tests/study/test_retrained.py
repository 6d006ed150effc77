"""Retrained runs take the old ones' places, and what killed processes leave behind is put in order."""

import json
import shutil
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dsdlib import RunConfig, load_history, load_model, sweep
from dsdlib.engine.build import identity
from dsdlib.study.archive import publish
from dsdlib.study.runs import kept
from dsdlib.study.store import Store


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


def swept(*configs: RunConfig, keep: Any = (), **options: Any) -> Any:
    return sweep(configs, keep=keep, progress=False, **options)


def again(results):
    return [path.name for path in (results / ".again").iterdir() if path.name != ".locks"]


def test_a_complete_run_stays_as_it_is_until_it_has_been_trained_again(tiny, results, monkeypatch, alike):
    """Another notebook may be reading it; what was kept of it before is kept again."""
    run = tiny.vary(rounds=3)
    table, store = swept(run, keep=[1, "history"]), Store(results)
    history, seen = load_history([run]), []
    real = Store.save_round

    def watched(self, *arguments):
        seen.append((len(store.rows(run)), store.tensors(run, 1).keys(), len(store.history(run))))
        return real(self, *arguments)

    monkeypatch.setattr(Store, "save_round", watched)
    alike(swept(run, keep=[2]), table)
    assert len(seen) == 4 and {(rows, epochs) for rows, _, epochs in seen} == {(4, 4)}
    assert {1, 2} <= kept(store, run) and "history" in kept(store, run)
    alike(load_history([run]), history)
    assert again(results) == []


def test_a_run_stopped_while_it_is_trained_again_goes_on_and_keeps_the_old_one_meanwhile(
    tiny, results, begun, alike, stop_after
):
    run = tiny.vary(rounds=3)
    table = swept(run, keep=())
    stop_after(2, results, run, keep=[1])
    begun.clear()
    alike(swept(run, keep=()), table)  # nothing is wanted that it lacks
    assert begun == []
    alike(swept(run, keep=[1]), table)
    assert 1 in kept(Store(results), run)
    assert len(begun) == 2, "the rounds that were stored are not trained again"


@pytest.mark.parametrize("moved", [0, 1, 3, 5])
def test_a_kill_while_a_run_takes_the_old_ones_place_loses_nothing(moved, tiny, results, stacks, monkeypatch, alike):
    """Killed after so many of its files were moved."""
    run = tiny.vary(rounds=3)
    table = swept(run, keep=())
    real, done = Path.replace, []

    def replace(self, target):
        if self.parent.parent.name == ".again" and not self.name.endswith(".part"):
            if len(done) == moved:
                raise Stop
            done.append(self)
        return real(self, target)

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Path, "replace", replace)
        swept(run, keep=[1, "history"])
    stacks.clear()
    alike(swept(run, keep=[1, "history"]), table)
    assert stacks == [] and again(results) == []
    store = Store(results)
    assert {1, "history"} <= kept(store, run)
    assert len(load_history([run])) == 4
    assert load_model(run, 1) is not None


def test_what_was_begun_again_with_other_data_is_not_gone_on_with(tiny, results, stop_after):
    run = tiny.vary(rounds=3)
    swept(run, keep=())
    stop_after(2, results, run, keep=[1])
    file = results / ".again" / run.key / "provenance.json"
    file.write_text(json.dumps([json.loads(file.read_text())[0] | {"data_sha256": "another"}]))
    with pytest.warns(UserWarning, match="data_sha256 is no longer what it was"):
        swept(run, keep=[1])
    assert 1 in kept(Store(results), run)


def test_a_run_that_goes_on_keeps_what_was_kept_of_it(tiny, results, stop_after):
    run = tiny.vary(rounds=3)
    stop_after(3, results, run, keep=[1, "history"])
    swept(run, keep=())
    assert {1, "history"} <= kept(Store(results), run)


@pytest.mark.parametrize("rounds", [4, 2])
def test_a_retrained_version_is_adopted_where_the_old_one_is_gone(rounds, tiny, results, begun, alike, stop_after):
    """Whole, or stopped after two of its four rounds."""
    run = tiny.vary(rounds=3)
    table = swept(run, keep=())
    if rounds == 2:
        stop_after(2, results, run, keep=[1])
    else:
        (results / ".again").mkdir()
        shutil.copytree(results / run.key, results / ".again" / run.key)
    shutil.rmtree(results / run.key)
    begun.clear()
    alike(swept(run), table)
    assert len(begun) == 4 - rounds and again(results) == []


@pytest.mark.parametrize("content", ["nothing", "no round", "fewer rounds than a stopped run"])
def test_a_retrained_version_that_is_of_no_use_is_removed(content, tiny, results, alike, stop_after):
    run = tiny.vary(rounds=3)
    table = swept(run, results=results.parent / "whole")
    stop_after(2, results, run)
    fresh = results / ".again" / run.key
    if content == "nothing":
        fresh.mkdir(parents=True)
    elif content == "no round":
        shutil.copytree(results / run.key, fresh, ignore=shutil.ignore_patterns("rounds.parquet"))
    else:
        stop_after(1, results / ".again", run)
    alike(swept(run), table)
    assert again(results) == []


def test_a_measurement_on_the_old_weights_does_not_stay(tiny, results):
    swept(tiny)
    store = Store(results)
    store.save_measured(tiny, "path-9", [{"alpha": 0.5}])
    swept(tiny, keep=["history"])
    assert store.measured(tiny, "path-9") == [] and store.history(tiny)


def test_temporary_files_of_a_killed_process_are_removed(tiny, results):
    swept(tiny)
    for name in ("rounds.parquet.part", "path-100.parquet.part", "round_007.safetensors.part"):
        (results / tiny.key / name).write_bytes(b"half")
    with warnings.catch_warnings(action="error"):
        swept(tiny)
    assert not list((results / tiny.key).glob("*.part"))


def test_nothing_is_removed_while_another_process_works_on_the_run(tiny, results):
    swept(tiny)
    part, fresh = results / tiny.key / "history.parquet.part", results / ".again" / tiny.key
    part.write_bytes(b"half")
    fresh.mkdir(parents=True)
    with ThreadPoolExecutor() as other, Store(results).locked([tiny]):  # to a lock, another thread is another process
        other.submit(swept, tiny).result()
        assert part.exists() and fresh.exists()
    swept(tiny)
    assert not part.exists() and not fresh.exists()


def test_a_published_run_on_other_data_stays_and_can_be_retrained(tiny, results, monkeypatch):
    swept(tiny)
    store = Store(results)
    publish(results / "published" / "tiny.parquet", {tiny: (store.rows(tiny), store.provenance(tiny))})
    shutil.rmtree(results / tiny.key)
    monkeypatch.delenv("DSDLIB_FRESH")
    monkeypatch.setattr("dsdlib.study.worker.identity", lambda config: identity(config) | {"data_sha256": "another"})
    with warnings.catch_warnings(action="error"):
        assert len(swept(tiny, keep=["history"])) == 3
    assert len(load_history([tiny])) == 3 and Store(results).provenance(tiny)[0]["data_sha256"] == "another"
