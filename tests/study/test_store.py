"""The store: damage noticed and set aside, which weights stay, and the table that is read back."""

import errno
import itertools
import os
import random
import re
import resource
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pandas as pd
import pytest
import torch

from dsdlib import ConfigError, RunConfig, load_history, load_model, sweep
from dsdlib.study.files import read_rows, save_tensors, write_rows
from dsdlib.study.provenance import PROJECT
from dsdlib.study.store import REWIND, Store, best_round

DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "truncated": lambda content: content[: len(content) // 2],
    "emptied": lambda content: b"",
    "zeroed": lambda content: bytes(len(content)),
    "one byte flipped": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
}


@pytest.fixture(scope="module")
def stopped(run: RunConfig, tmp_path_factory: pytest.TempPathFactory, stop_after: Callable) -> Path:
    """A store with the same run, stopped after round 2."""
    root = tmp_path_factory.mktemp("stopped")
    stop_after(3, root, run)
    assert Store(root).rounds_done(run) == 3
    return root


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns="seconds")


def weights_kept(root: Path, config: RunConfig) -> set[int]:
    return {int(path.stem[-3:]) for path in Store(root).folder(config).glob("round_*")}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("name", ["config.json", "rounds.parquet", REWIND, "dense", "best", "last"])
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_damaged_run_is_set_aside_and_computed_anew(
    state: str, name: str, how: str, run: RunConfig, finished: Path, stopped: Path, results: Path
) -> None:
    shutil.copytree(finished if state == "finished" else stopped, results)
    store = Store(results)
    rows, folder = store.rows(run), store.folder(run)
    number = {"dense": 0, "best": best_round(rows), "last": len(rows) - 1}.get(name)
    file = folder / name if number is None else store.tensor_file(run, number)
    file.write_bytes(DAMAGE[how](file.read_bytes()))

    damaged = file.read_bytes()

    with pytest.warns(UserWarning, match=f"run {run.key} is damaged: {file.name}"):
        table = sweep([run], progress=False)
    assert (results / f"{run.key}.damaged-1" / file.name).read_bytes() == damaged
    pd.testing.assert_frame_equal(numbers(table), numbers(Store(finished).table([run])), check_exact=True)


@pytest.mark.parametrize("content", [b"", b"[", b"\xff", b"[]", b"{}", b"[1]", b'[{"started": "today"}]', None])
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_damaged_provenance_is_named_and_the_run_set_aside(
    state: str, content: bytes | None, run: RunConfig, finished: Path, stopped: Path, results: Path
) -> None:
    shutil.copytree(finished if state == "finished" else stopped, results)
    file = results / run.key / "provenance.json"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"run {run.key} is damaged: provenance\.json (cannot be read|is absent)"):
        table = sweep([run], progress=False)
    pd.testing.assert_frame_equal(numbers(table), numbers(Store(finished).table([run])), check_exact=True)
    assert len(Store(results).provenance(run)) == 1


@pytest.mark.parametrize("name", ["rounds.parquet", "round_000.safetensors", REWIND])
def test_another_runs_file_is_noticed(name: str, run: RunConfig, finished: Path, results: Path) -> None:
    shutil.copytree(finished, results)
    other = run.vary(seed=1)
    sweep([other], progress=False)
    shutil.copy(results / other.key / name, results / run.key / name)
    with pytest.warns(UserWarning, match=rf"run {run.key} is damaged: {name} .*belongs to .*run {other.key}"):
        table = sweep([run], progress=False)
    pd.testing.assert_frame_equal(numbers(table), numbers(Store(finished).table([run])), check_exact=True)


HISTORIES: dict[str, Callable[[list, list], list]] = {
    "a row less": lambda rows, _: rows[:3] + rows[4:],
    "a row twice": lambda rows, _: rows[:3] + rows[2:],
    "rows in another order": lambda rows, _: rows[::-1],
    "another run's rows": lambda _, others: others,
}


@pytest.mark.parametrize("how", HISTORIES)
def test_a_history_that_is_not_the_runs_own_is_set_aside_and_computed_anew(
    how: str, tiny: RunConfig, results: Path
) -> None:
    run = tiny.vary(epochs=2)
    sweep([run, run.vary(seed=1)], keep=["history"], progress=False)
    written, files = load_history([run]), [results / key / "history.parquet" for key in (run.key, run.vary(seed=1).key)]
    write_rows(files[0], HISTORIES[how](*map(read_rows, files)))
    with pytest.warns(UserWarning, match=rf"run {run.key} has a damaged file: history\.parquet (does not|belongs to)"):
        sweep([run], keep=["history"], progress=False)
    pd.testing.assert_frame_equal(load_history([run]), written, check_exact=True)


@pytest.mark.parametrize(("source", "target"), [(0, 4), (4, 0)])
def test_another_rounds_weights_are_noticed(
    source: int, target: int, run: RunConfig, finished: Path, results: Path
) -> None:
    shutil.copytree(finished, results)
    store = Store(results)
    shutil.copy(store.tensor_file(run, source), store.tensor_file(run, target))
    with pytest.raises(ValueError, match=f"round_00{target}.safetensors .* belongs to round {source} of"):
        load_model(run, target)
    with pytest.warns(UserWarning, match=f"run {run.key} is damaged: round_00{target}.safetensors .*round {source} of"):
        sweep([run], progress=False)


@pytest.mark.parametrize("kind", ["folder", "link"])
@pytest.mark.parametrize("name", ["config.json", "provenance.json", "rounds.parquet", "round_000.safetensors", REWIND])
@pytest.mark.parametrize("state", ["finished", "stopped"])
def test_a_folder_or_a_dangling_link_in_a_files_place_is_named(
    state: str, name: str, kind: str, run: RunConfig, finished: Path, stopped: Path, results: Path
) -> None:
    shutil.copytree(finished if state == "finished" else stopped, results)
    file = results / run.key / name
    file.unlink()
    file.mkdir() if kind == "folder" else file.symlink_to("absent")
    why = "is not a file" if kind == "folder" else "is a link to an absent file"
    with pytest.warns(UserWarning, match=rf"run {run.key} is damaged: {name} {why}"):
        table = sweep([run], progress=False)
    pd.testing.assert_frame_equal(numbers(table), numbers(Store(finished).table([run])), check_exact=True)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_file_or_a_dangling_link_in_the_folders_place_is_named(kind: str, tiny: RunConfig, results: Path) -> None:
    results.mkdir()
    place = results / tiny.key
    place.write_text("mine") if kind == "file" else place.symlink_to("absent")
    with pytest.warns(UserWarning, match=rf"run {tiny.key} is damaged: {tiny.key} is not a folder"):
        assert len(sweep([tiny], progress=False)) == 3
    assert (results / f"{tiny.key}.damaged-1").is_symlink() == (kind == "link")


@pytest.mark.parametrize("name", ["round_abc.safetensors", "round_1.safetensors", "round_[0] (copy).safetensors"])
def test_a_file_that_belongs_to_no_round_is_set_aside_by_itself(
    name: str, run: RunConfig, stopped: Path, results: Path
) -> None:
    shutil.copytree(stopped, results)
    (results / run.key / name).write_text("mine")
    message = re.escape(f"run {run.key} has a damaged file: {name} is no file of a run")
    assert Store(results).rounds_kept(run) == {0, 1, 2}
    with pytest.warns(UserWarning, match=message):
        assert len(sweep([run], keep=["best"], progress=False)) == 5
    assert (results / f"{run.key}.{name}.damaged-1").read_text() == "mine" and (results / run.key).is_dir()


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda tensors: tensors.pop("1.weight"), r"1\.weight is absent, not torch\.float32 \(8, 64\)"),
        (lambda tensors: tensors.pop("1.bias"), r"1\.bias is absent"),
        (lambda tensors: tensors.update({"9.bias": torch.zeros(3)}), r"9\.bias is torch\.float32 \(3,\), not absent"),
        (lambda tensors: tensors.update({"1.bias": tensors["1.bias"].double()}), r"1\.bias is torch\.float64"),
        (lambda tensors: tensors.update({"1.weight": tensors["1.weight"].mT}), r"1\.weight is .* \(64, 8\), not"),
    ],
)
def test_weights_that_do_not_fit_their_network_are_named(
    change: Callable, wrong: str, run: RunConfig, stopped: Path, results: Path
) -> None:
    shutil.copytree(stopped, results)
    store = Store(results)
    tensors = store.tensors(run, 2)
    change(tensors)
    save_tensors(store.tensor_file(run, 2), tensors, run.key, 2)
    for use in (lambda: load_model(run, 2), lambda: sweep([run], progress=False)):
        with pytest.raises(ValueError, match=f"round 2 of run {run.key} do not fit its network: {wrong}"):
            use()


def test_a_mask_that_is_absent_is_named(run: RunConfig, stopped: Path, results: Path) -> None:
    shutil.copytree(stopped, results)
    store = Store(results)
    tensors = {name: t for name, t in store.tensors(run, 2).items() if name != "mask.1.weight"}
    save_tensors(store.tensor_file(run, 2), tensors, run.key, 2)
    with pytest.raises(ValueError, match=r"do not fit its network: mask\.1\.weight is absent"):
        sweep([run], progress=False)


def test_the_next_damaged_run_takes_the_next_number(run: RunConfig, finished: Path, results: Path) -> None:
    shutil.copytree(finished, results)
    for number in (1, 2, 3):
        if number == 3:
            shutil.rmtree(results / f"{run.key}.damaged-1")
        (results / run.key / "rounds.parquet").write_bytes(b"")
        with pytest.warns(UserWarning, match=rf"{run.key}\.damaged-{number}; it is computed anew"):
            sweep([run], progress=False)


@pytest.mark.parametrize("name", ["config.json", "rounds.parquet", "round_000.safetensors"])
@pytest.mark.filterwarnings("ignore:run .* is damaged")
def test_no_flipped_bit_goes_unnoticed_that_changes_a_number(
    name: str, run: RunConfig, finished: Path, results: Path
) -> None:
    store, rng = Store(results), random.Random(0)
    table, tensors = Store(finished).table([run]), Store(finished).tensors(run, 0)
    content = (finished / run.key / name).read_bytes()
    noticed = 0
    for position in rng.sample(range(len(content)), 150):
        shutil.copytree(finished / run.key, results / run.key, dirs_exist_ok=True)
        flipped = bytes([content[position] ^ 1 << rng.randrange(8)])
        (results / run.key / name).write_bytes(content[:position] + flipped + content[position + 1 :])
        if not store.rows(run) or not store.holds(run, {0}):
            noticed += 1
            continue
        pd.testing.assert_frame_equal(store.table([run]), table, check_exact=True)
        assert all(torch.equal(tensor, tensors[n]) for n, tensor in store.tensors(run, 0).items())
    assert noticed > 20


def test_a_run_can_be_read_while_it_is_trained(run: RunConfig, finished: Path, results: Path) -> None:
    """A tight reader beside a writer that replaces the table again and again, with one to five rounds."""
    shutil.copytree(finished, results)
    store, stop = Store(results), threading.Event()
    rows, counts = store.rows(run), set()

    def write() -> None:
        with store.locked([run]):
            for number in itertools.takewhile(lambda _: not stop.is_set(), itertools.count()):
                write_rows(store.folder(run) / "rounds.parquet", rows[: 1 + number % 5])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with warnings.catch_warnings(action="error"):
            for _ in range(500):
                counts.add(len(Store(results).rows(run)))
    finally:
        stop.set()
        writer.join()
    assert counts == {1, 2, 3, 4, 5} and not list(results.glob("*damaged*"))


def test_a_run_that_another_process_works_on_is_not_set_aside(run: RunConfig, finished: Path, results: Path) -> None:
    shutil.copytree(finished, results)
    store = Store(results)
    (results / run.key / "rounds.parquet").write_bytes(b"")
    with ThreadPoolExecutor() as other, store.locked([run]):  # to a lock, another thread is another process
        with pytest.warns(UserWarning, match=f"run {run.key} is in use by another process, and rounds.parquet cannot"):
            assert other.submit(Store(results).rows, run).result() == []
        assert (results / run.key).is_dir() and not list(results.glob("*damaged*"))
    with pytest.warns(UserWarning, match=f"run {run.key} is damaged: rounds.parquet cannot be read"):
        assert store.rows(run) == []
    assert (results / f"{run.key}.damaged-1").is_dir() and not (results / run.key).exists()


@pytest.mark.parametrize("read", [Store.rows, lambda store, run: store.holds(run, {0}), Store.history])
def test_a_lack_of_file_handles_is_no_damage(read: Callable, run: RunConfig, finished: Path, results: Path) -> None:
    shutil.copytree(finished, results)
    store, limits = Store(results), resource.getrlimit(resource.RLIMIT_NOFILE)
    read(store, run)
    with ExitStack() as files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[0], 300), limits[1]))
        files.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        with suppress(OSError):
            while True:
                files.enter_context(open("/dev/null"))
        with pytest.raises(OSError, match=r"Too many open files: .*results"):
            read(store, run)
    assert (results / run.key).is_dir() and not list(results.glob("*damaged*"))


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOMEM, errno.EIO, errno.ESTALE])
def test_no_error_of_the_system_is_taken_for_damage(
    number: int, run: RunConfig, finished: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, results)

    def refuse(path: Path) -> bytes:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    for read in (lambda: Store(results).rows(run), lambda: sweep([run], progress=False)):
        with pytest.raises(OSError, match=rf"{os.strerror(number)}: .*rounds\.parquet"):
            read()
    assert (results / run.key).is_dir() and not list(results.glob("*damaged*"))


def test_a_run_whose_folder_was_only_just_made_is_not_damaged(run: RunConfig, results: Path) -> None:
    Store(results).folder(run).mkdir(parents=True)
    assert Store(results).rows(run) == [] and Store(results).rounds_done(run) == 0


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, tiny: RunConfig) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match=f"results = '{folder}': cannot be written"):
            sweep([tiny], results=folder, progress=False)


@contextmanager
def without_rights(folder: Path) -> Iterator[None]:
    """As a user who may read everything in a folder and write nothing."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    me = os.geteuid()
    if me == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(me)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def public(finished: Path, run: RunConfig) -> Iterator[Path]:
    """A copy of the finished store, with a history, in a folder that every user may enter."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    sweep([run], keep=["history"], results=folder, progress=False)
    yield folder
    shutil.rmtree(folder)


def test_a_finished_store_can_be_read_where_nothing_can_be_written(run: RunConfig, public: Path) -> None:
    table, history = sweep([run], results=public, progress=False), load_history([run], public)
    (public / run.key / "rounds.parquet.part").touch()
    with without_rights(public):
        pd.testing.assert_frame_equal(sweep([run], keep=["history"], results=public, progress=False), table)
        pd.testing.assert_frame_equal(load_history([run], public), history)
        assert load_model(run, "best", public)
        with pytest.raises(ConfigError, match=f"results = '{public}': cannot be written"):
            sweep([run.vary(seed=9)], results=public, progress=False)


def test_damage_where_nothing_can_be_written_is_named(run: RunConfig, public: Path) -> None:
    (public / run.key / "rounds.parquet").write_bytes(b"")
    message = f"run {run.key} is damaged: rounds.parquet cannot be read .*cannot be set aside: .*Permission denied"
    with without_rights(public), pytest.raises(ConfigError, match=message):
        sweep([run], results=public, progress=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user")
def test_another_users_lock_is_named(run: RunConfig, public: Path) -> None:
    other = run.vary(seed=9)
    for path in (public, public / ".locks"):
        path.chmod(0o777)
    with Store(public).locked([other]):
        pass
    os.seteuid(65534)
    try:
        with pytest.raises(ConfigError, match=f"run {other.key} cannot be locked .*Permission denied"):
            sweep([other], results=public, progress=False)
    finally:
        os.seteuid(0)


def test_a_folder_named_like_a_lock_is_named(tiny: RunConfig, results: Path) -> None:
    (results / ".locks" / f"{tiny.key}.lock").mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"run {tiny.key} cannot be locked .*directory"):
        sweep([tiny], progress=False)


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_files_have_the_permissions_of_the_umask(mask: int, run: RunConfig, results: Path) -> None:
    before = os.umask(mask)
    try:
        sweep([run], keep=["history"], progress=False)
    finally:
        os.umask(before)
    assert {file.stat().st_mode & 0o777 for file in (results / run.key).iterdir()} == {0o666 & ~mask}


def test_stores_are_checked_at_once_by_processes_of_one_number(results: Path) -> None:
    """In two containers, processes may have the same number."""
    with ThreadPoolExecutor(4) as threads:
        for checked in [threads.submit(Store(results).check_writable) for _ in range(400)]:
            checked.result()
    assert list((results / ".locks").iterdir()) == []


def test_the_users_folder_is_understood(tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sweep([tiny], results="~/x", progress=False)
    assert (tmp_path / "x" / tiny.key).is_dir() and not (tmp_path / "~").exists()


def test_a_relative_folder_in_the_environment_is_one_place_from_wherever_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDLIB_RESULTS", "my/results")
    before = Store().root
    monkeypatch.chdir(tmp_path)
    assert Store().root == before == PROJECT / "my" / "results"


def test_results_go_where_the_environment_says(tiny: RunConfig, results: Path) -> None:
    sweep([tiny], progress=False)
    assert (results / tiny.key / "rounds.parquet").is_file()


@pytest.mark.parametrize("keep", [(), (1,), (1, 2, 99)])
def test_weights_of_the_dense_the_best_the_last_and_the_wanted_rounds_are_kept(
    keep: tuple[int, ...], run: RunConfig, results: Path
) -> None:
    table = sweep([run], keep=keep, progress=False)
    best = int(table["validation_accuracy"].to_numpy().argmax())
    assert weights_kept(results, run) == {0, best, 4} | {round_ for round_ in keep if round_ <= 4}


def test_asking_later_for_a_rounds_weights_computes_the_run_again(
    run: RunConfig, finished: Path, results: Path
) -> None:
    shutil.copytree(finished, results)
    gone = min(set(range(5)) - weights_kept(finished, run))
    table = sweep([run], keep=[gone], progress=False)
    assert gone in weights_kept(results, run)
    pd.testing.assert_frame_equal(numbers(table), numbers(Store(finished).table([run])), check_exact=True)


def test_what_a_killed_process_left_half_written_is_no_damage(run: RunConfig, stopped: Path, results: Path) -> None:
    shutil.copytree(stopped, results)
    for name in ("rounds.parquet", "round_003.safetensors"):
        (results / run.key / f"{name}.part").write_bytes(b"half")
    with warnings.catch_warnings(action="error"):
        sweep([run], progress=False)
    complete = {"config.json", "provenance.json", "rounds.parquet", REWIND}
    assert {path.name for path in (results / run.key).iterdir() if not path.name.startswith("round_")} == complete


def test_on_a_full_disk_the_file_is_named_and_the_sweep_goes_on_later(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: Callable
) -> None:
    undisturbed, replace = (
        sweep([tiny], keep=["history"], results=tmp_path / "undisturbed", progress=False),
        Path.replace,
    )
    names = ["config.json", "provenance.json", "round_000.safetensors", "rounds.parquet", "history.parquet"]
    for room, name in enumerate([*names, "round_001.safetensors"]):
        left, store = room, tmp_path / name

        def fill(temporary: Path, path: Path) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                os.truncate(temporary, temporary.stat().st_size // 2)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            replace(temporary, path)

        with (
            monkeypatch.context() as patch,
            pytest.raises(OSError, match=f"No space left on device: '{store}/.*{name}"),
        ):
            patch.setattr(Path, "replace", fill)
            sweep([tiny], keep=["history"], results=store, progress=False)
        assert not list(store.rglob("*.part"))
        with warnings.catch_warnings(action="error"):
            alike(sweep([tiny], keep=["history"], results=store, progress=False), undisturbed)


def test_the_best_round_is_chosen_on_validation_alone() -> None:
    def row(round_: int, validation: float, test: float) -> dict:
        return {"round": round_, "validation_accuracy": validation, "test_accuracy": test}

    assert best_round([row(0, 0.5, 0.9), row(1, 0.7, 0.1), row(2, 0.6, 1.0)]) == 1
    assert best_round([row(0, 0.5, 0.1), row(1, 0.7, 0.1), row(2, 0.7, 1.0)]) == 1
    assert best_round([row(r, float("nan"), r / 9) for r in range(9)]) == 0


def test_the_table_has_configuration_and_measures_a_row_a_run_and_round(tiny: RunConfig, results: Path) -> None:
    runs = tiny.grid(noise_rate=[0.0, 0.5], seed=[0, 1])
    table = sweep(runs, progress=False)
    assert len(table) == 4 * 3 and not table.duplicated(["key", "round"]).any()
    assert set(tiny.columns()) | {"round", "sparsity", "test_accuracy", "seconds"} <= set(table.columns)
    assert table.groupby(["noise_rate", "seed"])["round"].agg(list).tolist() == [[0, 1, 2]] * 4
    shares = [name for name in table if name.endswith("_accuracy") or name in ("sparsity", "corrupted_fraction")]
    known = table[shares].apply(lambda column: column.between(0, 1))
    known["pruned_test_accuracy"] |= table["round"] == 0  # nothing has been pruned yet
    assert known.all(axis=None)
    assert (table["corrupted_fraction"] - table["noise_rate"]).abs().max() < 0.001
    alone = pd.read_parquet(results / runs[0].key / "rounds.parquet")
    pd.testing.assert_frame_equal(alone, table[table["key"] == runs[0].key], check_dtype=False)
