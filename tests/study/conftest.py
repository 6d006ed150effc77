"""What the study's tests share."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from dsdlib import RunConfig, sweep
from dsdlib.engine.loop import train
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.study.store import Store

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
    return nn.Sequential(nn.Linear(4, classes), nn.ReLU())


def too_many(input_shape, classes):
    return nn.Sequential(nn.Linear(4, classes + 1), nn.ReLU())


def plain(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, classes))


def normed(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.Linear(8, classes))
"""


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


@pytest.fixture(scope="module")
def run(tiny: RunConfig) -> RunConfig:
    """A run with everything that is stored: five rounds and a rewinding point."""
    return tiny.vary(retraining="weight_rewinding", rewind_iteration=3, rounds=4, epochs=2, amount=0.6)


@pytest.fixture(scope="module")
def finished(run: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one run."""
    root = tmp_path_factory.mktemp("finished")
    sweep([run], results=root, progress=False)
    return root


@pytest.fixture
def users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own module with data sets and networks, `users_own`."""
    (tmp_path / "users_own.py").write_text(USERS)
    monkeypatch.setitem(sys.modules, "users_own", None)  # so that it is forgotten afterwards
    monkeypatch.delitem(sys.modules, "users_own")
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(scope="session")
def alike() -> Callable[[pd.DataFrame, pd.DataFrame], None]:
    """Assert that two tables hold the same numbers to the last bit, in whatever order.

    Only the time may differ, and only one of them may have columns of a history.
    """

    def check(one: pd.DataFrame, other: pd.DataFrame) -> None:
        dropped = ["seconds", *(name for name in {*one} ^ {*other} if name.startswith("best_epoch"))]
        tables = [table.drop(columns=dropped, errors="ignore") for table in (one, other)]
        keys = [name for name in ("key", "round", "epoch") if name in one]
        sorted_ = (table.sort_values(keys, ignore_index=True) for table in tables)
        pd.testing.assert_frame_equal(*sorted_, check_exact=True, check_like=True, check_dtype=False)

    return check


@pytest.fixture(scope="session")
def same_weights() -> Callable[[RunConfig, Path, Path], None]:
    """Assert that two stores hold the same weights, masks and BatchNorm statistics of every round of a run."""

    def check(config: RunConfig, one: Path, other: Path) -> None:
        for round_ in range(config.rounds + 1):
            a, b = (Store(root).tensors(config, round_) for root in (one, other))
            assert a.keys() == b.keys() and all(torch.equal(part, b[name]) for name, part in a.items())

    return check


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[list[RunConfig]]:
    """The stacks that are trained from now on, each as its runs."""
    trained = []

    def counting(stack: Stack, *more: Any) -> None:
        trained.append(list(stack.configs))
        run_rounds(stack, *more)

    monkeypatch.setattr("dsdlib.study.worker.run_rounds", counting)
    return trained


@pytest.fixture(scope="session")
def stop_after() -> Callable[..., None]:
    """Sweep runs until that many rounds of one of them have been stored, then stop as if the process were killed."""

    def stop(rounds: int, root: Path, *configs: RunConfig, **options: Any) -> None:
        save = Store.save_round

        def save_or_stop(store: Store, config: RunConfig, rows: list[dict], *more: object) -> None:
            if len(rows) > rounds:
                raise Stop
            save(store, config, rows, *more)

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
            patch.setattr(Store, "save_round", save_or_stop)
            sweep(configs, results=root, progress=False, **options)

    return stop


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What every training from now on begins with: weights, masks, buffers, recipe and number of steps."""
    calls = []

    def spy(network: Any, weights: Any, masks: Any, data: Any, recipe: Any, *more: Any) -> Any:
        calls.append({"weights": weights * masks, "masks": masks, "buffers": network.buffers(), "recipe": recipe})
        calls[-1]["start"] = recipe.first_step
        return train(network, weights, masks, data, recipe, *more)

    monkeypatch.setattr("dsdlib.engine.stack.train", spy)
    return calls
