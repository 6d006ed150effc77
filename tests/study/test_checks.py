"""The checks of an engine: they pass where it is right, and fail where it is not."""

import importlib.util
import re
import time
from pathlib import Path

import pytest
import torch

from dsdlib import ConfigError, RunConfig
from dsdlib.engine.device import FAST, PLAIN, Engine
from dsdlib.engine.step import Step
from dsdlib.study import checks

SPEC = importlib.util.spec_from_file_location("tape", Path(__file__).parents[1] / "engine" / "tape.py")
tape = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tape)

CPU = torch.device("cpu")
VGG = RunConfig(
    model="vgg_like", model_args={"depth": 2, "width": 8}, epochs=160, rounds=2, batch_size=100, augment=True
)
TAUGHT = VGG.vary(teacher=VGG.vary(seed=1))
LENET = RunConfig(model_args={"width": 0.1}, epochs=160, rounds=2, retraining="weight_rewinding", rewind_iteration=50)


@pytest.mark.parametrize("config", [VGG, TAUGHT, LENET], ids=["vgg", "taught", "lenet"])
def test_bfloat16_gradients_agree_with_float32s(config: RunConfig) -> None:
    said = checks.gradients_agree(config, CPU, Engine(bfloat16=True))
    cosine = float(re.search(r"is (\d\.\d+)$", said).group(1))
    assert cosine == 1 if config is LENET else 0.99 < cosine < 1


def test_a_wrong_gradient_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Step.gradient

    def wrong(step: Step, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gradient, logits = real(step, batch)
        return gradient.roll(1) if step.trainer.engine.bfloat16 else gradient, logits

    monkeypatch.setattr(Step, "gradient", wrong)
    with pytest.raises(ConfigError, match=r"cosine of its gradient .* --engine plain"):
        checks.gradients_agree(VGG, CPU, Engine(bfloat16=True))


@pytest.mark.parametrize("config", [VGG, LENET], ids=["vgg", "lenet"])
def test_replayed_steps_agree_with_executed_ones(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    tape.simulate(monkeypatch)
    said = checks.replays_agree(config, CPU, Engine(graphed=True))
    assert said == "20 replayed steps end 0.000% of their way from executed ones, a repetition 0.000%"
    assert checks.replays_agree(config, CPU, PLAIN) == "nothing is replayed"


def test_a_wrong_replay_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tape.simulate(monkeypatch)
    monkeypatch.setattr(tape.Tape, "replay", lambda recorded: None)
    with pytest.raises(ConfigError, match=r"20 replayed steps end .* elsewhere"):
        checks.replays_agree(LENET, CPU, Engine(graphed=True))


def test_a_forecast_leaves_the_compilation_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Step.__call__, []

    def compiling(step: Step, batch: torch.Tensor) -> torch.Tensor:
        calls.append(time.sleep(1.0 if not calls else 0.001))
        return real(step, batch)

    monkeypatch.setattr(Step, "__call__", compiling)
    said = checks.speed(LENET, CPU, PLAIN)
    step, epoch, minutes = (float(number) for number in re.findall(r"(\d+\.\d+) ", said))
    assert len(calls) == 3 * 17 and 1 <= step < 50 and 0.01 <= epoch < 1
    assert minutes == pytest.approx(epoch * 160 * 3 / 60, abs=0.1)
    assert said.endswith("for 3 rounds")


gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]
RESNET = VGG.vary(model="resnet18", model_args={})


@pytest.mark.parametrize("check", checks.CHECKS.values(), ids=checks.CHECKS)
@pytest.mark.parametrize("config", [VGG, TAUGHT, LENET, RESNET], ids=["vgg", "taught", "lenet", "resnet"])
@pytest.mark.parametrize("engine", [FAST, PLAIN], ids=["fast", "plain"])
@pytest.mark.parametrize("where", [pytest.param("cuda", marks=gpu)])
def test_a_gpu_passes(where: str, engine: Engine, config: RunConfig, check) -> None:
    assert check(config, torch.device(where), engine)


@pytest.mark.parametrize("where", [pytest.param("cuda", marks=gpu)])
def test_a_step_that_waits_for_a_gpu_is_refused(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Step.gradient
    monkeypatch.setattr(Step, "gradient", lambda step, batch: (batch.sum().item(), real(step, batch))[1])
    with pytest.raises(RuntimeError, match="synchroniz"):
        checks.no_waits(VGG, torch.device(where), PLAIN)
