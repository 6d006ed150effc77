"""A small store that the explorer's tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsdlib import RunConfig, sweep
from dsdlib.explorer import Explorer, explore
from dsdlib.explorer.runs import Runs, finished_runs
from dsdlib.study.store import Store


@pytest.fixture(scope="session")
def base(tiny: RunConfig) -> RunConfig:
    return tiny.vary(rounds=4, epochs=2)


@pytest.fixture(scope="session")
def stored(base: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three noise rates with three seeds; at 20% noise another λ, random pruning and a teacher with two seeds each.

    The runs at 20% noise with λ 0.0001 have a history and the weights of rounds 0, 2 and 4.
    """
    root = tmp_path_factory.mktemp("stored")
    noisy = base.vary(noise_rate=0.2)
    sweep(noisy.grid(seed=[0, 1, 2]), keep=["history", 0, 2, 4], results=root, progress=False)
    runs = base.grid(noise_rate=[0.0, 0.5], seed=[0, 1, 2])
    for seed in (0, 1):
        run = noisy.vary(seed=seed)
        runs += [run.vary(weight_decay=0.01), run.vary(criterion="random"), run.vary(teacher=run)]
    sweep(runs, results=root, progress=False)
    return root


@pytest.fixture
def store(stored: Path, tmp_path: Path) -> Store:
    """A copy of the store, to change."""
    shutil.copytree(stored, tmp_path / "copy", ignore=shutil.ignore_patterns(".explorer.parquet"))
    return Store(tmp_path / "copy")


@pytest.fixture
def runs(store: Store) -> Runs:
    return finished_runs(store)


@pytest.fixture
def explorer(store: Store, closed_figures: None) -> Iterator[Explorer]:
    made = explore(store.root)
    yield made
    if made.form.training is not None and made.form.training.running:
        made.form.training.stop()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that are started import this copy of the package."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
