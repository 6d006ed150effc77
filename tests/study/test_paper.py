"""The papers' scale in pieces: what comes first, what is checked, and that later calls look and go on."""

import json
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from dsdlib import ConfigError, RunConfig
from dsdlib.study import checks, paper
from dsdlib.study.archive import packed
from dsdlib.study.store import Store

FIELDS = {"model": "mlp", "model_args": "{width: 8}", "dataset": "digits", "augment": "false", "epochs": "2"}
FIELDS |= {"milestones": "[]", "rounds": "1", "rewind_iteration": "0", "validation_fraction": "0.2"}
SMALL = [text for name, value in FIELDS.items() for text in ("-p", name, value)]


def test_the_plan_is_the_papers_runs_with_larger_pruning_steps() -> None:
    (teacher,), vgg, (taught,), (he,) = paper.plan({}).values()
    assert (teacher.model, teacher.model_args, teacher.rounds) == ("resnet18", {"maxpool": True}, 0)
    assert [run.seed for run in vgg] == [0, 1] and taught == vgg[0].vary(teacher=teacher)
    assert (taught.model, taught.model_args) == ("vgg_like", {"depth": 5, "width": 32})
    assert (taught.noise_kind, taught.noise_rate, taught.rounds) == ("symmetric", 0.5, 17)
    assert (he.model, he.model_args, he.noise_kind, he.noise_rate) == ("resnet18", {"maxpool": False}, "uniform", 0.2)
    assert (he.retraining, he.rewind_iteration, he.rounds) == ("weight_rewinding", 1000, 9)
    assert all((run.dataset, run.epochs, run.batch_size) == ("cifar10", 160, 128) for run in (teacher, *vgg, he))
    assert 1 - taught.amount == pytest.approx((1 - RunConfig().amount) ** 2)  # DSD2's and He et al.'s is 20%
    assert 1 - he.amount == pytest.approx((1 - RunConfig().amount) ** 3)


def test_the_plan_is_listed_without_a_gpu_and_without_data(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert paper.main(["--list"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("check, for each of the following: waits, gradients, replays, speed\ntrain ResNet-18, dense")
    assert "2 × 18 × 160 epochs of cifar10, 36.0% pruned in a round" in said and not results.exists()


def small() -> dict[str, list[RunConfig]]:
    return {"one": [RunConfig(model="mlp", model_args={"width": 8}, epochs=1, milestones=[], rounds=1)]}


def test_what_was_checked_is_kept_and_not_checked_again(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def stopped(*_: object) -> str:
        calls.append("stopped")
        if len(calls) == 2:
            raise KeyboardInterrupt
        return "well"

    made = {"first": lambda *_: calls.append("first") or "good", "second": stopped}
    monkeypatch.setattr(checks, "CHECKS", made)
    store = Store(results)
    (results / "paper").mkdir(parents=True)
    assert paper.work(small(), store, "cpu", "auto") == 3
    assert json.loads((results / "paper" / "checks.json").read_text())["one"] == {"first": "good"}
    assert paper.work(small(), store, "cpu", "auto") == 0
    assert calls == ["first", "stopped", "stopped"]
    assert len(store.rows(small()["one"][0])) == 2


def test_nothing_is_trained_with_an_engine_that_fails_a_check(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> str:
        raise ConfigError("wrong gradients")

    monkeypatch.setattr(checks, "CHECKS", {"gradients": fails})
    (results / "paper").mkdir(parents=True)
    assert paper.work(small(), Store(results), "cpu", "auto") == 1
    assert "paper: wrong gradients" in capsys.readouterr().out
    assert not list(results.glob("*/rounds.parquet"))


def test_calls_look_at_work_that_goes_on_and_pack_what_is_finished(
    results: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    call = [*SMALL, "--pack", str(tmp_path / "out")]
    assert paper.main([*call, "--minutes", "0"]) == 3
    assert "the same command looks again" in capfd.readouterr().out
    with FileLock(results / "paper" / "lock"):  # until the work is done
        pass
    assert paper.main([*call, "--minutes", "5"]) == 0
    log = (results / "paper" / "log.txt").read_text()
    assert log.count("All is done.") >= 1 and "gradients: the cosine" in log and "ms a step" in log
    assert len(packed(tmp_path / "out" / "tables.parquet")) == 5
    assert len(pd.read_csv(tmp_path / "out" / "rounds.csv")) == 1 + 4 * 2


def test_it_refuses_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert paper.main(["-p", "epoch", "3"]) == 2
    assert "paper: unknown field 'epoch' (did you mean 'epochs'?)" in capsys.readouterr().err
