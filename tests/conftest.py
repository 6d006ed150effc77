"""What several test files share."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from matplotlib import pyplot as plt

from dsdlib import RunConfig


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a results folder of its own, and does not see the published runs."""
    folder = tmp_path / "results"
    monkeypatch.setenv("DSDLIB_FRESH", "1")
    monkeypatch.setenv("DSDLIB_RESULTS", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny() -> RunConfig:
    """A run of a few hundredths of a second."""
    return RunConfig(
        model="mlp", model_args={"depth": 1, "width": 8}, epochs=1, milestones=[], rounds=2, noise_rate=0.2
    )


@pytest.fixture
def closed_figures() -> Iterator[None]:
    """Nothing is opened on a screen, and no figure stays open."""
    mpl.use("Agg")
    with mpl.rc_context():
        yield
    plt.close("all")


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
