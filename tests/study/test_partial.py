"""Rounds that stop half way go on to the same last bits, whatever a training consists of."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dsdlib import RunConfig, load_history, sweep
from dsdlib.engine.step import Step
from dsdlib.study.files import load_tensors
from dsdlib.study.partial import save
from dsdlib.study.store import PARTIAL, Store

NETWORK = """
from torch import nn


def convolutional(input_shape, classes):
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.RReLU(), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(144, classes)
    return nn.Sequential(*layers)
"""

MLP = RunConfig(
    model="mlp",
    model_args={"depth": 1, "width": 8},
    epochs=3,
    milestones=(2,),
    rounds=1,
    noise_rate=0.2,
    batch_size=400,
)
VGG = MLP.vary(model="vgg_like", model_args={"depth": 1, "width": 2})
THIN = MLP.vary(model="lenet_300_100", model_args={}, amount=0.97, epochs=2, milestones=())
REWOUND = {"retraining": "weight_rewinding", "rewind_iteration": 4}

KINDS = {
    "a stack": MLP.grid(lr=[0.05, 0.1], seed=[0, 1]),
    "augmented, BatchNorm, Adam": [VGG.vary(augment=True, optimizer="adam", lr=0.001)],
    "a stack with Adam, reinitialised": MLP.vary(optimizer="adam", lr=0.001, retraining="reinit").grid(seed=[0, 1]),
    "distilled": MLP.vary(teacher=MLP.vary(rounds=0, seed=5)).grid(alpha=[0.3, 0.9]),
    "distilled, augmented": [VGG.vary(augment=True, teacher=VGG.vary(rounds=0, seed=5))],
    "rewound": MLP.vary(**REWOUND).grid(seed=[0, 1]),
    "BatchNorm, rewound": [VGG.vary(**REWOUND)],
    "dropout": [MLP.vary(model="partial_networks:convolutional", model_args={})],
    "sparse and dense, one shot": [THIN.vary(schedule="one_shot"), THIN, THIN.vary(control="dense")],
    "a start": [MLP.vary(start=MLP.vary(seed=3), start_round=1, criterion="gradient")],
}


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


@pytest.fixture(scope="module", autouse=True)
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("networks")
    (folder / "partial_networks.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@contextmanager
def stopped_at(number: int | None = None) -> Iterator[list[Step]]:
    """Write a partial state after every epoch; stop before step ``number``. Yields the steps taken, as they are."""
    step, taken = Step.__call__, []

    def counted(self: Step, batch: Any) -> Any:
        if len(taken) == number:
            raise Stop
        taken.append(self)
        return step(self, batch)

    with pytest.MonkeyPatch.context() as patch, nullcontext() if number is None else pytest.raises(Stop):
        patch.setattr(Step, "__call__", counted)
        patch.setattr("dsdlib.study.worker.EVERY", 0)
        yield taken


def swept(kind: str, root: Path) -> pd.DataFrame:
    return sweep(KINDS[kind], results=root, keep=["history", 0, 1], progress=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, int, pd.DataFrame]]:
    """A function that sweeps runs of a kind once, undisturbed: their store, the number of steps, and the table."""

    @cache
    def of(kind: str) -> tuple[Path, int, pd.DataFrame]:
        root = tmp_path_factory.mktemp("undisturbed")
        with stopped_at() as taken:
            table = swept(kind, root)
        return root, len(taken), table

    return of


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=2, deadline=None, phases=[Phase.generate], suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(moment=st.floats(0, 1, exclude_max=True))
def test_stopped_at_any_step_a_training_ends_with_the_same_bits(
    kind: str, moment: float, undisturbed: Any, alike: Any, same_weights: Any
) -> None:
    before, steps, table = undisturbed(kind)
    stop = 3 + int(moment * (steps - 3))  # after the first epoch
    with TemporaryDirectory() as folder:
        root = Path(folder)
        with stopped_at(stop):
            swept(kind, root)
        with stopped_at() as taken:
            alike(swept(kind, root), table)
        assert len(taken) <= steps - stop + 3, "more than an epoch was trained again"
        alike(load_history(KINDS[kind], root), load_history(KINDS[kind], before))
        for run in KINDS[kind]:
            same_weights(run, root, before)
            assert not (root / run.key / PARTIAL).exists()


def test_runs_that_wait_for_the_end_of_their_round_are_stored_with_those_in_training(results: Path) -> None:
    """In round 1 the pruned run is trained first, by sparse products, for 6 steps, and then the dense one."""
    runs = [THIN, THIN.vary(control="dense")]
    with stopped_at(16) as taken, pytest.MonkeyPatch.context() as patch:  # which ends before `stopped_at` does
        patch.setattr("dsdlib.study.worker.EVERY", 120)
        clock = SimpleNamespace(monotonic=lambda: 0 if len(taken) < 13 else 1000)
        patch.setattr("dsdlib.study.worker.time", clock)
        sweep(runs, progress=False)
    assert taken[6] is not taken[12]
    epochs = [int(load_tensors(results / run.key / PARTIAL, run.key, "partial")["epoch"]) for run in runs]
    assert epochs == [2, 1]
    with stopped_at() as taken:
        sweep(runs, progress=False)
    assert len(taken) == 3


def test_a_partial_state_is_written_every_two_minutes(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock by which every reading takes 50 seconds: after three epochs, in the second round too."""
    clock = iter(range(0, 10**6, 50))
    monkeypatch.setattr("dsdlib.study.worker.time", SimpleNamespace(monotonic=lambda: next(clock)))
    written = []
    monkeypatch.setattr("dsdlib.study.worker.save", lambda *arguments: written.append(int(arguments[3]["epoch"])))
    sweep(MLP.vary(epochs=8, milestones=()), progress=False)
    assert written == [3, 6] * 2


def test_a_partial_state_of_other_data_or_of_another_run_is_not_used(results: Path, alike: Any) -> None:
    run, other = MLP.grid(seed=[0, 1])
    with stopped_at() as steps:
        table = sweep(run, results=results / "undisturbed", progress=False)
    for damage in ("other data", "another run", "half a file"):
        root = results / damage
        with stopped_at(len(steps) - 1):
            sweep(run, results=root, progress=False)
        file = root / run.key / PARTIAL
        if damage == "another run":
            with stopped_at(len(steps) - 1):
                sweep(other, results=root, progress=False)
            file.write_bytes((root / other.key / PARTIAL).read_bytes())
        elif damage == "half a file":
            file.write_bytes(file.read_bytes()[:-100])
        else:
            provenance = {"data_sha256": "0", "network_sha256": "0", "logits_sha256": "0"}
            found = load_tensors(file, run.key, "partial")
            save(Store(root), run, 1, found, provenance, None)
        warned = nullcontext() if damage == "other data" else pytest.warns(UserWarning, match=PARTIAL)
        with stopped_at() as taken, warned:
            alike(sweep(run, results=root, progress=False), table)
        assert len(taken) == len(steps) // 2, "the second round was not trained from its beginning"


SCRIPT = """
from pathlib import Path
from dsdlib import RunConfig, sweep
sweep(RunConfig.model_validate_json(Path("run.json").read_text()), results="results", progress=False)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_a_process_stores_the_epoch_and_ends(number: int, tmp_path: Path) -> None:
    run = MLP.vary(epochs=100_000, milestones=(), rounds=0)  # minutes
    (tmp_path / "run.json").write_text(run.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "results" / run.key / "provenance.json").exists():
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert process.returncode and "KeyboardInterrupt" in said
    store = Store(tmp_path / "results")
    epoch = int(load_tensors(store.folder(run) / PARTIAL, run.key, "partial")["epoch"])
    with stopped_at(1) as taken:
        sweep(run, results=store.root, progress=False)
    assert epoch > 0 and taken[0].recipe.first_step == 3 * epoch
