"""The cached table of all finished runs: complete, current, and read from the cache only if nothing has changed."""

import os
from pathlib import Path

import pandas as pd
import pytest

from dsdlib import RunConfig, sweep
from dsdlib.explorer import runs as room
from dsdlib.explorer.runs import CACHE, finished_runs
from dsdlib.study.archive import publish
from dsdlib.study.files import write_rows
from dsdlib.study.store import Store


@pytest.fixture
def read_again(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of the runs whose rows are read from now on."""
    keys, rows = [], Store.rows

    def reading(store: Store, config: RunConfig) -> list[dict]:
        keys.append(config.key)
        return rows(store, config)

    monkeypatch.setattr(Store, "rows", reading)
    return keys


def test_it_holds_every_finished_run_and_the_measures_of_the_store(store: Store) -> None:
    found = finished_runs(store)
    configs = store.configs()
    assert found.configs == {config.key: config for config in configs} and len(configs) == 15
    whole = store.table(configs).set_index(["key", "round"]).sort_index()
    own = found.table.set_index(["key", "round"]).sort_index()
    assert len(own) == len(whole) == 75
    pd.testing.assert_frame_equal(own, whole[own.columns], check_dtype=False)
    assert own.columns.intersection(["test_accuracy", "sparsity", "entropy", "seconds"]).size == 4


def test_the_second_time_nothing_is_read_but_the_cache(store: Store, read_again: list[str]) -> None:
    first = finished_runs(store)
    assert len(set(read_again)) == 15
    read_again.clear()
    second = finished_runs(store)
    assert read_again == [] and second.configs == first.configs
    pd.testing.assert_frame_equal(second.table, first.table)


def test_only_what_changed_is_read_again(store: Store, base: RunConfig, read_again: list[str]) -> None:
    before = finished_runs(store)
    new, old = base.vary(noise_rate=0.2, seed=7), base.vary(noise_rate=0.5)
    sweep(new, results=store.root, progress=False)
    later = store.folder(old) / "rounds.parquet"
    os.utime(later, (1, 1))
    read_again.clear()
    now = finished_runs(store)
    assert set(read_again) == {new.key, old.key}
    assert now.configs.keys() - before.configs.keys() == {new.key}
    assert len(now.table) == len(before.table) + 5


def test_a_removed_run_is_forgotten_and_an_unfinished_one_left_out(store: Store, base: RunConfig) -> None:
    gone, begun = base.vary(noise_rate=0.5), base.vary(noise_rate=0.5, seed=1)
    finished_runs(store)
    (store.folder(gone) / "rounds.parquet").unlink()
    rows = store.rows(begun)
    write_rows(store.folder(begun) / "rounds.parquet", rows[:3])
    now = finished_runs(store)
    assert gone.key not in now.configs and begun.key not in now.configs and len(now.configs) == 13
    assert set(now.table["key"]) == now.configs.keys()


@pytest.mark.parametrize("content", [b"", b"no parquet", None])
def test_a_damaged_or_foreign_cache_is_made_anew(store: Store, content: bytes | None) -> None:
    first = finished_runs(store)
    file = store.root / CACHE
    if content is None:
        first.table.to_parquet(file)
    else:
        file.write_bytes(content)
    assert finished_runs(store).configs == first.configs


def test_a_cache_that_cannot_be_written_does_no_harm(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(room, "write_whole", refuse)
    assert len(finished_runs(store).configs) == 15 and not (store.root / CACHE).exists()


def test_published_runs_are_there_and_the_stores_own_come_first(
    store: Store, base: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DSDLIB_FRESH")
    monkeypatch.setattr("dsdlib.study.store.PROJECT", tmp_path)
    both, only = base.vary(noise_rate=0.5), base.vary(noise_rate=0.0)
    changed = [{**row, "test_accuracy": 0.123} for row in store.rows(both)]
    published = {both: (changed, store.provenance(both)), only: (store.rows(only), store.provenance(only))}
    publish(store.root / "published" / "some.parquet", published)
    expected = pd.DataFrame(store.rows(only))["test_accuracy"].tolist()
    for file in store.folder(only).iterdir():
        file.unlink()
    store.folder(only).rmdir()
    for _ in range(2):  # from the files, then from the cache
        found = finished_runs(Store(store.root))
        assert len(found.configs) == 15 and len(found.table) == 75
        assert found.rows([only.key])["test_accuracy"].tolist() == expected
        assert 0.123 not in found.rows([both.key])["test_accuracy"].tolist()


def test_an_empty_store_has_no_runs(tmp_path: Path) -> None:
    assert finished_runs(Store(tmp_path)).configs == {}


def test_rows_are_those_of_the_keys(store: Store, base: RunConfig) -> None:
    found = finished_runs(store)
    keys = [base.vary(seed=seed).key for seed in (2, 0)]
    rows = found.rows(keys)
    assert set(rows["key"]) == set(keys) and len(rows) == 10 and found.rows([]).empty
