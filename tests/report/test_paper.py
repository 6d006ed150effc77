"""The papers' scale in pieces: what comes first, what is checked, and that a second call goes on."""

import json
import shutil
from pathlib import Path

import pytest

from dsdlib.report import command, paper

ROOT = Path(__file__).parents[2]
SMALL = ["-p", "model", "mlp", "-p", "model_args", "{width: 8}", "-p", "dataset", "digits", "-p", "augment", "false"]
SMALL += ["-p", "epochs", "3", "-p", "milestones", "[]", "-p", "rounds", "2", "-p", "rewind_iteration", "0"]


def test_what_comes_first_are_runs_of_the_cifar10_profile() -> None:
    chains = {name: paper.chain(ROOT, "cifar10", name, first) for name, first in paper.FIRST}
    he, dsd2, noise = chains["01_phenomenon"], chains["03_distillation"], chains["06_label_noise"]
    assert (he.model, he.model_args, he.noise_rate, he.rewind_iteration) == ("resnet18", {"maxpool": False}, 0.2, 1000)
    assert (dsd2.model, dsd2.model_args, dsd2.noise_rate) == ("vgg_like", {"depth": 5, "width": 32}, 0.5)
    assert (noise.model, noise.noise_rate) == ("resnet18", 0.5)
    assert all(run.epochs == 160 and run.batch_size == 128 and run.seed == 0 for run in chains.values())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The study with the phenomenon alone, at the cifar10 profile."""
    for folder in ("notebooks", "parameters/cifar10"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / "notebooks" / "01_phenomenon.ipynb", tmp_path / "notebooks")
    shutil.copy(ROOT / "parameters" / "cifar10" / "01_phenomenon.yaml", tmp_path / "parameters" / "cifar10")
    return tmp_path


def test_it_checks_once_runs_the_first_and_then_the_whole(
    project: Path, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(paper, "FIRST", paper.FIRST[:1])
    monkeypatch.setattr(paper, "agreement", lambda config, device: "they agree")
    asked, real = [], command.main
    monkeypatch.setattr("dsdlib.report.command.main", lambda argv, root: asked.append(argv) or real(argv, root))
    assert paper.main(["--minutes", "5", *SMALL], project) == 0
    found = json.loads((project / "reports" / "cifar10-check.json").read_text())
    (title,) = (key for key in found if key != "machine")
    assert title.startswith("01_phenomenon: mlp") and "for 3 rounds of 3 epochs" in found[title]["time"]
    assert "s an epoch" in capsys.readouterr().out
    assert "seeds" in asked[0] and "seeds" not in asked[1]
    assert len(list(results.glob("*/rounds.parquet"))) == 6  # two noise rates, three seeds
    monkeypatch.setattr(paper, "check", lambda *_: pytest.fail("checked twice"))
    monkeypatch.setattr("dsdlib.study.worker.run_rounds", lambda *_: pytest.fail("trained twice"))
    assert paper.main(["--minutes", "5", *SMALL], project) == 0


def test_it_stops_when_the_time_is_over(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paper, "FIRST", paper.FIRST[:1])
    monkeypatch.setattr(paper, "check", lambda *_: {})
    assert paper.main(["--minutes", "0.02", *SMALL], project) == 3


def test_it_refuses_by_name(project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert paper.main(["--profile", "huge"], project) == 2
    assert "paper: unknown profile 'huge'; the profiles are: cifar10" in capsys.readouterr().err
    monkeypatch.setattr(paper, "FIRST", paper.FIRST[:1])
    assert paper.main(["-p", "dataset", "folder:nowhere"], project) == 2
    assert "folder:nowhere" in capsys.readouterr().err
