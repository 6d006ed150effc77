"""Sweeps: no work twice, the same numbers in any company, killed and resumed, and refusals before any training."""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from PIL import Image

from dsdlib import ConfigError, RunConfig, data, load_model, sweep
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.study.files import write_whole
from dsdlib.study.store import Store, best_round

USERS = """
import torch
from torch import nn


def made(n, classes):
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
    return x, torch.arange(n) % classes, x, torch.arange(n) % classes


def two():
    return made(40, 2)


def three():
    return made(40, 3)


def three_numbers():
    return 1, 2, 3


def flat(input_shape, classes):
    return nn.Sequential(nn.Linear(4, classes + 1), nn.ReLU())
"""

FLAT = {"model": "users_own:flat", "model_args": {}}

SCRIPT = """
import sys
from pathlib import Path

from dsdlib import RunConfig, sweep

if __name__ == "__main__":
    runs = [RunConfig.model_validate_json(line) for line in Path(sys.argv[1]).read_text().splitlines()]
    sweep(runs, jobs=int(sys.argv[2]), stack_size=2, results=sys.argv[3])
"""


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


def alike(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """The same numbers to the last bit, in whatever order; only the time may differ."""
    tables = [t.drop(columns="seconds").sort_values(["key", "round"], ignore_index=True) for t in (one, other)]
    pd.testing.assert_frame_equal(*tables, check_exact=True, check_like=True, check_dtype=False)


def forbid_training(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("dsdlib.study.worker.run_rounds", lambda *_: pytest.fail("something is trained"))


def watch_training(patch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The runs that are trained from now on, as they come."""
    trained, real = [], run_rounds

    def counting(stack: Stack, *more: Any) -> None:
        trained.extend(stack.configs)
        real(stack, *more)

    patch.setattr("dsdlib.study.worker.run_rounds", counting)
    return trained


# No work twice ----------------------------------------------------------------------------------------------------


def test_finished_runs_are_not_trained_again(tiny: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tiny.grid(seed=[0, 1])
    table = sweep(runs, progress=False)
    trained = watch_training(monkeypatch)
    pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)
    assert trained == []
    sweep(tiny.grid(seed=[0, 1, 2]), progress=False)
    assert trained == [tiny.vary(seed=2)]


def test_the_same_run_twice_is_trained_and_listed_once(tiny: RunConfig) -> None:
    assert len(sweep([tiny, tiny.vary()], progress=False)) == 3


def write_photos(folder: Path) -> None:
    """An image folder: 20 training and 2 test images of each of two classes."""
    shades = np.random.default_rng(0).integers(0, 256, (2, 22, 4, 4, 3), dtype=np.uint8)
    for name, images in zip(("cat", "dog"), shades, strict=True):
        for number, image in enumerate(images):
            part = folder / ("train" if number < 20 else "test") / name
            part.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(part / f"{number:02}.png")


def test_finished_runs_are_read_where_their_data_set_is_absent(
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "here"))
    write_photos(tmp_path / "here" / "photos")
    runs = tiny.grid(dataset=["folder:photos", "digits"], batch_size=[8])
    table = sweep(runs, progress=False)
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "nowhere"))  # under this name nothing was loaded before
    with monkeypatch.context() as patch, warnings.catch_warnings(action="error"):
        forbid_training(patch)
        patch.setattr("dsdlib.study.sweep.check", lambda _: pytest.fail("a finished run is checked"))
        pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)
    for unfinished in (runs[0].vary(seed=1), runs[0].vary(rounds=3)):
        with pytest.raises(ConfigError, match=r"'folder:photos': no folder .*nowhere.photos.train"):
            sweep([*runs, unfinished], progress=False)
    with pytest.raises(ConfigError, match="'folder:photos'"):
        sweep(runs, keep=[1], progress=False)  # its weights would have to be trained again
    pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)


def test_a_run_without_its_weights_stands_until_they_are_wanted(
    tiny: RunConfig, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = sweep([tiny], progress=False)
    for file in results.rglob("*.safetensors"):
        file.unlink()
    left = {"config.json", "rounds.parquet", "provenance.json"}
    trained = watch_training(monkeypatch)
    pd.testing.assert_frame_equal(sweep([tiny], progress=False), table, check_exact=True)
    assert {path.name for path in (results / tiny.key).iterdir()} == left and trained == []
    alike(sweep([tiny], keep=["best"], progress=False), table)
    assert trained == [tiny]
    assert load_model(tiny, "best", results)
    sweep([tiny], keep=["best"], progress=False)
    assert trained == [tiny]


# The same numbers in any company ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def company(tiny: RunConfig) -> list[RunConfig]:
    runs = tiny.grid(noise_rate=[0.0, 0.5], seed=[0, 1]) + tiny.grid(weight_decay=[0.0], lr=[0.01, 0.2])
    runs += tiny.grid(retraining=["weight_rewinding"], rewind_iteration=[5], seed=[0, 1])
    runs += tiny.grid(teacher=[tiny.vary(seed=9)], alpha=[0.3, 0.9])
    return [*runs, tiny.vary(rounds=1), tiny.vary(criterion="gradient"), tiny.vary(retraining="reinit")]


@pytest.fixture(scope="module")
def alone(company: list[RunConfig], tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Each run for itself, in a store of its own."""
    return pd.concat([sweep([run], results=tmp_path_factory.mktemp("alone"), progress=False) for run in company])


@pytest.mark.parametrize(("jobs", "stack_size"), [(1, 16), (1, 3), (2, 2), (-1, 16)])
def test_a_table_is_the_union_of_its_runs_alone(
    jobs: int, stack_size: int, company: list[RunConfig], alone: pd.DataFrame
) -> None:
    shuffled = random.Random(jobs).sample(company, len(company))
    table = sweep(shuffled, jobs=jobs, stack_size=stack_size, progress=False)
    assert list(table["key"].unique()) == [run.key for run in shuffled]
    alike(table, alone)


def test_a_diverging_run_is_named_and_harms_no_partner(tiny: RunConfig, tmp_path: Path) -> None:
    wild, *tame = runs = tiny.vary(rounds=0).grid(lr=[1e12, 0.05, 0.1])
    with pytest.warns(UserWarning) as warned:
        table = sweep(runs, progress=False)
    assert [str(w.message) for w in warned] == [f"run {wild.key} diverged in round 0 (lr = 1000000000000.0)"]
    alike(table[table["key"] != wild.key], sweep(tame, results=tmp_path / "tame", progress=False))
    assert (table["key"] == wild.key).sum() == 1


# Teachers ---------------------------------------------------------------------------------------------------------


def test_teachers_come_first_even_a_teachers_teacher(tiny: RunConfig) -> None:
    grandmother = tiny.vary(seed=1)
    mother = tiny.vary(seed=2, teacher=grandmother, teacher_round="best")
    child = tiny.vary(seed=3, teacher=mother, teacher_round=1)
    table = sweep([child], progress=False)
    assert table["key"].unique().tolist() == [child.key]
    assert [Store().rounds_done(run) for run in (grandmother, mother, child)] == [3, 3, 3]
    assert load_model(mother, 1)


def test_the_teachers_round_is_the_one_that_teaches(tiny: RunConfig) -> None:
    teacher = tiny.vary(seed=1)
    students = tiny.grid(teacher=[teacher], teacher_round=["dense", "best", 0, 1, 2])
    table = sweep(students, progress=False)
    dense, best, *numbered = (table.loc[table["key"] == s.key, "train_loss"].tolist() for s in students)
    assert dense == numbered[0] and best == numbered[best_round(Store().rows(teacher))]
    assert len({tuple(losses) for losses in numbered}) == 3


def test_a_finished_teacher_is_trained_again_when_the_round_that_teaches_was_not_kept(tiny: RunConfig) -> None:
    teacher = tiny.vary(seed=1, rounds=3)
    sweep([teacher], progress=False)
    gone = next(r for r in range(4) if not Store().tensor_file(teacher, r).exists())
    assert len(sweep([tiny.vary(teacher=teacher, teacher_round=gone)], progress=False)) == 3


def test_only_an_unfinished_student_needs_its_teacher(
    tiny: RunConfig, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grandmother, other = tiny.vary(seed=1), tiny.vary(seed=2)
    mother = tiny.vary(seed=3, teacher=grandmother)
    child, stepchild = tiny.vary(seed=4, teacher=mother), tiny.vary(seed=4, teacher=other)
    table = sweep([child, stepchild], progress=False)
    for teacher in (grandmother, mother, other):
        shutil.rmtree(results / teacher.key)
    trained = watch_training(monkeypatch)
    pd.testing.assert_frame_equal(sweep([child, stepchild], progress=False), table, check_exact=True)
    assert trained == []
    assert not any((results / teacher.key).exists() for teacher in (grandmother, mother, other))
    late = stepchild.vary(seed=5)
    assert sweep([child, stepchild, late], progress=False)["key"].unique().tolist() == [
        run.key for run in (child, stepchild, late)
    ]
    assert trained == [other, late]  # no more than the unfinished student's own teacher, and that one first
    shutil.rmtree(results / child.key)
    alike(sweep([child], progress=False), table[table["key"] == child.key])
    assert trained[2:] == [grandmother, mother, child]
    trained.clear()
    shutil.rmtree(results / grandmother.key)
    sweep([child.vary(seed=6)], progress=False)
    assert trained == [child.vary(seed=6)]  # a finished teacher needs none of its own


# Killed and resumed -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("changes", [{"retraining": "weight_rewinding", "rewind_iteration": 5}, {}])
def test_stopped_at_any_write_a_sweep_goes_on_to_the_same_table(
    changes: dict[str, Any], moment: str, tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tiny.vary(**changes).grid(seed=[0, 1])
    undisturbed = sweep(runs, results=tmp_path / "undisturbed", progress=False)
    write, countdown, written = write_whole, 0, []

    def write_or_stop(path: Path, how: Any) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and moment == "before":
            raise Stop
        write(path, how)
        written.append(path.name)
        if countdown == 0:
            raise Stop

    for room in ("files", "store"):
        monkeypatch.setattr(f"dsdlib.study.{room}.write_whole", write_or_stop)
    for number in range(1, 99):
        countdown, store = number, tmp_path / f"stopped-{number}"
        try:
            sweep(runs, results=store, progress=False)
        except Stop:
            done = sum(Store(store).rounds_done(run) for run in runs)
            written.clear()
            with warnings.catch_warnings(action="error"):
                alike(sweep(runs, results=store, progress=False), undisturbed)
            assert written.count("rounds.parquet") == len(undisturbed) - done, "no round is trained twice"
        else:
            break
    assert number == 1 + 2 * (2 + 2 * 3 + ("rewind_iteration" in changes))


@pytest.fixture(scope="module")
def slow(tiny: RunConfig) -> RunConfig:
    """A run of some tenths of a second a round."""
    return tiny.vary(model_args={"depth": 2, "width": 100}, epochs=8, rounds=7)


def start(runs: list[RunConfig], jobs: int, store: Path) -> subprocess.Popen:
    """A process of its own, leader of a group, that sweeps these runs."""
    script, lines = store.parent / "script.py", store.parent / "runs.jsonl"
    script.write_text(SCRIPT)
    lines.write_text("\n".join(run.model_dump_json() for run in runs))
    command = [sys.executable, script, lines, str(jobs), store]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("changes", "jobs", "kills"),
    [
        ({"retraining": "weight_rewinding", "rewind_iteration": 9}, 1, 2),
        ({"retraining": "lr_rewinding"}, 1, 2),
        ({"retraining": "finetune"}, 2, 1),
    ],
)
def test_killed_a_sweep_goes_on_to_the_same_table(
    changes: dict[str, Any], jobs: int, kills: int, slow: RunConfig, results: Path, tmp_path: Path
) -> None:
    runs = slow.vary(**changes).grid(seed=[0, 1, 2, 3])
    store, done, total = Store(results), 0, len(runs) * (slow.rounds + 1)
    for _ in range(kills):
        process, before = start(runs, jobs, results), done
        while done < before + 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
            done = sum(store.rounds_done(run) for run in runs)
        time.sleep(random.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with warnings.catch_warnings(action="error"):
            done = len(store.table(runs))
        assert before + 2 <= done < total
    with warnings.catch_warnings(action="error"):
        table = sweep(runs, progress=False)
    alike(table, sweep(runs, results=tmp_path / "undisturbed", progress=False))
    assert not list(results.glob("*damaged*"))


def test_workers_do_not_outlive_their_sweep_by_more_than_a_round(slow: RunConfig, results: Path) -> None:
    runs = slow.vary(epochs=60, rounds=9).grid(seed=[0, 1, 2, 3])
    store, process = Store(results), start(runs, 2, results)
    while sum(store.rounds_done(run) for run in runs) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    workers = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)  # the sweep alone
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=60)
    assert len(gone) >= 2 and not alive
    assert sum(store.rounds_done(run) for run in runs) < len(runs) * 10


def test_two_processes_may_sweep_the_same_runs_at_once(tiny: RunConfig, results: Path, tmp_path: Path) -> None:
    runs = tiny.grid(seed=range(6))
    processes = [start(order, 1, results) for order in (runs, runs)]
    assert [process.wait(timeout=100) for process in processes] == [0, 0]
    with pytest.MonkeyPatch.context() as patch:
        forbid_training(patch)
        table = sweep(runs, progress=False)
    alike(table, sweep(runs, results=tmp_path / "undisturbed", progress=False))


# Refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "nonesuch"}, "dataset = 'nonesuch': unknown; allowed: digits, mnist"),
        ({"dataset": "users_own:nonesuch"}, "dataset = 'users_own:nonesuch': cannot be imported"),
        ({"dataset": "users_own:three_numbers"}, "must return four tensors"),
        ({"dataset": "mnist"}, r"not found in .*nowhere.*python -m dsdlib.data mnist.*DSDLIB_DATA"),
        ({"dataset": "folder:photos"}, r"no folder .*nowhere.photos.train; put train/<class>/"),
        ({"noise_kind": "human", "noise_rate": 0, "noise_labels": "a.npz:b"}, r"no file .*nowhere.a\.npz"),
        (
            {"dataset": "users_own:two", "batch_size": 8, "noise_kind": "asymmetric"},
            "no confusions are known .* users_own:two",
        ),
        ({"model": "nonesuch"}, "model = 'nonesuch': unknown; allowed: lenet_300_100, mlp"),
        ({"model_args": {"breadth": 3}}, "model_args = {'breadth': 3}: mlp does not take them"),
        (FLAT, "model = 'users_own:flat': cannot take .*8, 8"),
        (FLAT | {"dataset": "users_own:two", "batch_size": 8}, r"answers \(2, 3\) for 2 images of 2 classes"),
        ({"batch_size": 5000}, "batch_size = 5000: the data has only 1037 training images"),
        ({"rounds": 99}, r"rounds = 99: round \d+ would .*allowed here: at most \d+"),
        ({"prunable": "conv"}, "prunable = 'conv': this network has no such layer"),
        ({"retraining": "weight_rewinding", "rewind_iteration": 17}, "rewind_iteration = 17: .* 17 iterations"),
        (
            {"teacher": {"dataset": "users_own:three", "batch_size": 8, "rounds": 1}},
            "teacher: knows 3 classes .* its student learns 10",
        ),
        ({"teacher": {"batch_size": 5000}}, "batch_size = 5000"),
    ],
)
def test_an_impossible_run_is_refused_before_any_training(
    changes: dict[str, Any], message: str, tiny: RunConfig, results: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "users_own.py").write_text(USERS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "nowhere"))
    forbid_training(monkeypatch)
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        sweep([tiny, tiny.vary(**changes)])
    assert [path.name for path in results.rglob("*")] == [".locks"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs = 0"),
        ({"stack_size": 0}, "stack_size = 0"),
        ({"jobs": 2.5}, "jobs = 2.5: whole numbers"),
        ({"keep": ["bset"]}, "keep = \\['bset'\\]: unknown; allowed: dense, best"),
        ({"device": "abacus"}, "device = 'abacus': not on this machine; allowed: auto, cpu"),
        ({"device": "cuda"}, "device = 'cuda': not on this machine"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], message: str, tiny: RunConfig, results: Path) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match=message):
        sweep([tiny], **options)
    assert not results.exists()


def test_a_users_own_data_and_network_are_swept(tiny: RunConfig, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "users_own.py").write_text(USERS.replace("classes + 1", "classes"))
    monkeypatch.setitem(sys.modules, "users_own", None)
    monkeypatch.delitem(sys.modules, "users_own")
    monkeypatch.syspath_prepend(tmp_path)
    run = tiny.vary(dataset="users_own:three", batch_size=8, **FLAT)
    assert sweep([run], progress=False)["remaining_weights"].tolist() == [12, 10, 8]


def test_a_run_whose_data_changed_under_the_same_name_is_set_aside_and_trained_anew(
    tiny: RunConfig, results: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    (tmp_path / "users_own.py").write_text(USERS.replace("classes + 1", "classes"))
    monkeypatch.delitem(sys.modules, "users_own", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    run = tiny.vary(dataset="users_own:three", batch_size=8, **FLAT)
    sweep([run], progress=False)
    loaded = data.load(run.dataset)
    changed = replace(loaded, train_x=-loaded.train_x)
    for room in ("build", "stack"):
        monkeypatch.setattr(f"dsdlib.engine.{room}.load_dataset", lambda name: changed)
    with pytest.warns(UserWarning, match="data_sha256 is no longer what it was"):
        sweep([run], progress=False)
    assert Store(results).provenance(run)[0]["data_sha256"] == changed.checksum()


# Progress ---------------------------------------------------------------------------------------------------------


def test_one_bar_counts_all_rounds(tiny: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    sweep([tiny.vary(teacher=tiny)], progress=True)
    said = capsys.readouterr()
    assert re.search(r"2 runs: 100%.* 6/6 ", said.out.split("\r")[-1]) and said.err == ""
    sweep([tiny.vary(teacher=tiny)], progress=True)  # all is there already
    sweep([tiny.vary(seed=1)], progress=False)
    assert capsys.readouterr() == ("", "")
