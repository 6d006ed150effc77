"""Sweeps: no work twice, stacks that keep workers busy, refusals before any training, and progress."""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dsdlib import ConfigError, RunConfig, data, load_history, load_model, sweep
from dsdlib.engine.build import stack_shape, training_cost
from dsdlib.study.store import Store
from dsdlib.study.sweep import _stacks, _time, with_best_epoch

FLAT = {"model": "users_own:flat", "model_args": {}}


LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})


# No work twice ------------------------------------------------------------------------------------------------------


def test_finished_runs_are_not_trained_again(tiny: RunConfig, stacks: list) -> None:
    runs = tiny.grid(seed=[0, 1])
    table = sweep(runs, progress=False)
    pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)
    assert stacks == [[*runs]]
    sweep(tiny.grid(seed=[0, 1, 2]), progress=False)
    assert stacks[1:] == [[tiny.vary(seed=2)]]


def test_runs_that_do_not_name_their_best_epoch_are_trained_again_and_no_others(tiny: RunConfig, stacks: list) -> None:
    one, two = tiny.grid(seed=[0, 1])
    sweep([one], progress=False)
    sweep([two], keep=["history"], progress=False)
    table = with_best_epoch([one, two], progress=False)
    assert stacks == [[one], [two], [one]] and not table["best_epoch"].isna().any()
    history = load_history([one]).query("round == 2")
    best = history.loc[history["validation_accuracy"].idxmax()]
    row = table[(table["key"] == one.key) & (table["round"] == 2)].iloc[0]
    assert (row["best_epoch"], row["best_epoch_test_accuracy"]) == (best["epoch"], best["test_accuracy"])
    with_best_epoch([one, two], progress=False)
    assert len(stacks) == 3
    with pytest.raises(ConfigError, match="has no validation data to choose an epoch by"):
        with_best_epoch([one.vary(validation_fraction=0)])


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
    tiny: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stacks: Any
) -> None:
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "here"))
    write_photos(tmp_path / "here" / "photos")
    runs = tiny.grid(dataset=["folder:photos", "digits"], batch_size=[8])
    table = sweep(runs, progress=False)
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "nowhere"))  # under this name nothing was loaded before
    stacks.clear()
    with monkeypatch.context() as patch, warnings.catch_warnings(action="error"):
        patch.setattr("dsdlib.engine.build.check", lambda _: pytest.fail("a finished run is checked"))
        pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)
    assert stacks == []
    for unfinished in (runs[0].vary(seed=1), runs[0].vary(rounds=3)):
        with pytest.raises(ConfigError, match=r"'folder:photos': no folder .*nowhere.photos.train"):
            sweep([*runs, unfinished], progress=False)
    with pytest.raises(ConfigError, match="'folder:photos'"):
        sweep(runs, keep=[1], progress=False)  # its weights would have to be trained again
    pd.testing.assert_frame_equal(sweep(runs, progress=False), table, check_exact=True)


def test_a_run_without_its_weights_stands_until_they_are_wanted(
    tiny: RunConfig, results: Path, alike: Any, stacks: list
) -> None:
    table = sweep([tiny], progress=False)
    for file in results.rglob("*.safetensors"):
        file.unlink()
    left = {"config.json", "rounds.parquet", "provenance.json"}
    pd.testing.assert_frame_equal(sweep([tiny], progress=False), table, check_exact=True)
    assert {path.name for path in (results / tiny.key).iterdir()} == left and stacks == [[tiny]]
    alike(sweep([tiny], keep=["best"], progress=False), table)
    assert load_model(tiny, "best", results)
    sweep([tiny], keep=["best"], progress=False)
    assert stacks == [[tiny], [tiny]]


# Stacks -------------------------------------------------------------------------------------------------------------


def spread(groups: list[list[RunConfig]], jobs: int, stack_size: int = 16) -> list[list[RunConfig]]:
    return _stacks([run for group in groups for run in group], jobs, stack_size)


def test_stacks_hold_every_run_once_and_only_runs_of_one_shape() -> None:
    groups = [LENET.vary(model_args={"width": w}).grid(seed=list(range(5))) for w in (0.1, 0.5)]
    vgg = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 2}).grid(seed=[0, 1])
    for jobs, stack_size in ((1, 16), (2, 16), (3, 2)):
        stacks = spread([*groups, vgg], jobs, stack_size)
        assert sorted(run.key for stack in stacks for run in stack) == sorted(r.key for g in [*groups, vgg] for r in g)
        assert all(len({stack_shape(run) for run in stack}) == 1 for stack in stacks)
        assert max(map(len, stacks)) <= stack_size
        assert all(len(stack) == 1 for stack in stacks if stack[0].model == "vgg_like")
        lengths = [training_cost(stack[0]) * (len(stack) + 1) for stack in stacks]
        assert lengths == sorted(lengths, reverse=True)


def test_one_worker_gets_whole_stacks_and_several_get_equal_shares() -> None:
    runs = LENET.grid(seed=list(range(15)))
    assert [len(stack) for stack in spread([runs], 1)] == [15]
    assert [len(stack) for stack in spread([runs], 2)] == [8, 7]
    assert [len(stack) for stack in spread([runs], 1, 4)] == [4, 4, 4, 3]


@pytest.mark.parametrize(
    ("lengths", "workers", "time"), [([3, 2, 2], 2, 4), ([5.0], 3, 5), ([], 2, 0), ([1] * 5, 2, 3)]
)
def test_workers_take_the_next_piece_when_they_are_done(lengths: list[float], workers: int, time: float) -> None:
    assert _time(lengths, workers) == time


# Refusals -----------------------------------------------------------------------------------------------------------


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
        (
            {"model": "users_own:too_many", "model_args": {}, "dataset": "users_own:two", "batch_size": 8},
            r"\(2, 3\) for 2 images of 2 classes",
        ),
        ({"batch_size": 5000}, "batch_size = 5000: the data has only 1037 training images"),
        ({"rounds": 99}, r"rounds = 99: round \d+ would .*allowed here: at most \d+"),
        ({"prunable": "conv"}, "prunable = 'conv': this network has no such layer"),
        ({"retraining": "weight_rewinding", "rewind_iteration": 17}, "rewind_iteration = 17: .* 17 iterations"),
        (
            {"teacher": {"dataset": "users_own:three", "batch_size": 8, "rounds": 1}},
            "teacher: knows 3 classes .* its student learns 10",
        ),
        ({"teacher": {"batch_size": 5000}}, "batch_size = 5000"),
        ({"start": {"model": "mlp", "rounds": 1}}, "start: run .* is another network, mlp; its weights do not fit"),
        ({"start": {"model": "vgg_like", "model_args": {"depth": 2, "width": 2}}}, "start: run .* vgg_like"),
        ({"start": {"model": "mlp", "model_args": {"depth": 1, "width": 9}}}, "start: run .* is another network"),
        ({"model": "users_own:normed", "model_args": {}, "start": {"model": "users_own:plain"}}, "start: run .* is"),
        ({"start": {"dataset": "users_own:nonesuch"}}, "users_own:nonesuch"),
    ],
)
@pytest.mark.usefixtures("users_own")
def test_an_impossible_run_is_refused_before_any_training(
    changes: dict[str, Any],
    message: str,
    tiny: RunConfig,
    results: Path,
    tmp_path: Path,
    monkeypatch: Any,
    stacks: list,
) -> None:
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        sweep([tiny, tiny.vary(**changes)])
    assert stacks == [] and [path.name for path in results.rglob("*")] == [".locks"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "jobs = 0"),
        ({"executor": 3}, "executor = 3: unknown; allowed: an executor of concurrent.futures, local, dask:ADDRESS"),
        ({"jobs": 2.5}, "jobs = 2.5: a whole number"),
        ({"jobs": True}, "jobs = True: a whole number"),
        ({"jobs": -2}, "jobs = -2: a whole number from 1, or -1"),
        ({"keep": None}, "keep = None: a list"),
        ({"keep": 3}, "keep = 3: a list"),
        ({"keep": "best"}, "keep = 'best': a list"),
        ({"keep": [True]}, r"keep = \[True\]: unknown"),
        ({"keep": [[1]]}, r"keep = \[\[1\]\]: unknown"),
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


@pytest.mark.parametrize(("jobs", "workers"), [(-1, 1), (2, 2)])
def test_on_a_gpu_every_core_means_one_process(
    jobs: int, workers: int, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr("dsdlib.engine.device.resolve_device", lambda device: torch.device("cuda"))
    monkeypatch.setattr("dsdlib.engine.device._has_bfloat16", lambda device: True)
    monkeypatch.setattr("dsdlib.study.parallel.joblib.cpu_count", lambda: 4)
    monkeypatch.setattr(
        "dsdlib.study.sweep._train", lambda levels, task, executor, workers, progress: seen.append(workers)
    )
    sweep([tiny], jobs=jobs, progress=False)
    assert seen == [workers]


@pytest.mark.parametrize("runs", [None, 3, "digits", [{"seed": 1}], [None], {"seed": 1}])
def test_what_is_no_run_is_refused(runs: Any, results: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs: .* is not a RunConfig"):
        sweep(runs)
    assert not results.exists()


def test_a_single_run_is_a_list_of_one(tiny: RunConfig) -> None:
    assert sweep(tiny, progress=False)["key"].unique().tolist() == [tiny.key]
    assert sweep((run for run in [tiny]), progress=False)["round"].tolist() == [0, 1, 2]


# Data and networks of the user's own --------------------------------------------------------------------------------


@pytest.mark.usefixtures("users_own")
def test_a_users_own_data_and_network_are_swept(tiny: RunConfig) -> None:
    run = tiny.vary(dataset="users_own:three", batch_size=8, **FLAT)
    assert sweep([run], progress=False)["remaining_weights"].tolist() == [12, 10, 8]


@pytest.fixture
def changed_data(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], data.Dataset]:
    """A function that changes a data set under its name."""

    def change(name: str) -> data.Dataset:
        loaded = data.load(name)
        changed = replace(loaded, train_x=-loaded.train_x)
        for room in ("build", "stack"):
            monkeypatch.setattr(f"dsdlib.engine.{room}.load_dataset", lambda name: changed)
        return changed

    return change


@pytest.mark.usefixtures("users_own")
def test_a_run_whose_data_changed_under_the_same_name_is_set_aside_and_trained_anew(
    tiny: RunConfig, results: Path, changed_data: Callable
) -> None:
    run = tiny.vary(dataset="users_own:three", batch_size=8, **FLAT)
    sweep([run], progress=False)
    changed = changed_data(run.dataset)
    with pytest.warns(UserWarning, match="data_sha256 is no longer what it was"):
        sweep([run], progress=False)
    assert Store(results).provenance(run)[0]["data_sha256"] == changed.checksum()


def test_of_runs_whose_data_changed_each_is_set_aside_even_beside_a_damaged_one(
    tiny: RunConfig, results: Path, changed_data: Callable
) -> None:
    first, *others = runs = tiny.grid(seed=[0, 1, 2])
    sweep(runs, progress=False)
    changed_data(tiny.dataset)
    (results / first.key / "provenance.json").write_text("[")
    with pytest.warns(UserWarning) as warned:
        sweep(runs, progress=False)
    said = [str(warning.message) for warning in warned]
    assert len(said) == 3 and any(
        f"run {first.key} is damaged: provenance.json cannot be read" in text for text in said
    )
    assert all(any(f"run {r.key} is damaged: data_sha256 is no longer" in text for text in said) for r in others)
    assert len(list(results.glob("*.damaged-1"))) == 3


@pytest.mark.usefixtures("users_own")
@pytest.mark.parametrize(("error", "told"), [(OSError("no disk"), False), (RuntimeError("not found"), True)])
def test_a_loader_that_fails_leaves_finished_runs_as_they_are(
    error: Exception, told: bool, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny.vary(dataset="users_own:three", batch_size=8, **FLAT)
    table = sweep([run], progress=False)

    def fail(name: str) -> None:
        raise error

    monkeypatch.setattr("dsdlib.engine.build.load_dataset", fail)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        pd.testing.assert_frame_equal(sweep([run], progress=False), table, check_exact=True)
    expected = f"run {run.key} was not compared with users_own:three, which raised RuntimeError('not found')"
    assert [str(warning.message) for warning in warned] == [expected] * told


# Progress -----------------------------------------------------------------------------------------------------------


def test_one_bar_counts_all_rounds(tiny: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    sweep([tiny.vary(teacher=tiny)], progress=True)
    said = capsys.readouterr()
    assert re.search(r"2 runs: 100%.* 6/6 ", said.out.split("\r")[-1]) and said.err == ""
    sweep([tiny.vary(teacher=tiny)], progress=True)  # all is there already
    sweep([tiny.vary(seed=1)], progress=False)
    assert capsys.readouterr() == ("", "")
