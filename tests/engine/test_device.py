"""Engines by name, and the arithmetic of the fast one on a CPU."""

import shutil
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsdlib.analysis.seeds import by_seed
from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.device import FAST, PLAIN, Engine, resolve_device, resolve_engine, settings
from dsdlib.engine.stack import Stack
from dsdlib.study.performance import engines

CPU = torch.device("cpu")
VGG = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 4}, epochs=3, milestones=(), lr=0.02, rounds=2)

compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


def trained(config, engine):
    """The stack, and its state after the dense round."""
    stack = Stack([config], CPU, engine=engine)
    return stack, stack.advance(stack.fresh(), 0)


def test_an_engine_is_chosen_by_name_or_by_the_device(monkeypatch):
    monkeypatch.setattr("dsdlib.engine.device._has_bfloat16", lambda device: True)
    assert resolve_engine("auto", CPU) == resolve_engine("plain", CPU) == PLAIN
    assert resolve_engine("auto", torch.device("cuda")) == resolve_engine("fast", CPU) == FAST
    with pytest.raises(ConfigError, match="engine = 'quick': unknown; allowed: plain, fast, auto"):
        resolve_engine("quick", CPU)


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(monkeypatch):
    """As a V100 does: `torch.cuda.is_bf16_supported` says yes unless it is asked to leave emulation out."""
    asked = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(asked.append(device)))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    with pytest.warns(UserWarning, match="cuda:1 has no bfloat16 arithmetic: the fast engine computes in float32"):
        engine = resolve_engine("auto", torch.device("cuda:1"))
    assert engine == replace(FAST, bfloat16=False) and asked == [torch.device("cuda:1")]
    assert (
        engine.described(True, torch.device("cuda:1")) == engine.described(False, torch.device("cuda:1")) == "float32"
    )


@pytest.mark.parametrize(("engine", "fast"), [(FAST, True), (PLAIN, False)])
def test_on_a_gpu_the_fast_engine_takes_tensorfloat32_and_the_fastest_convolutions(engine, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", nullcontext)
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark
    with settings(torch.device("cuda"), engine):
        assert torch.get_float32_matmul_precision() == ("high" if fast else "highest")
        assert cudnn.allow_tf32 is cudnn.benchmark is fast
    assert (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark) == before


def test_a_device_that_this_machine_lacks_is_refused_by_name():
    assert resolve_device("cpu") == CPU
    with pytest.raises(ConfigError, match="device = 'cuda:99': not on this machine; allowed: auto, cpu"):
        resolve_device("cuda:99")


def test_bfloat16_rounds_activations_and_leaves_the_weights_in_float32():
    (stack, plain), (_, rounded) = (trained(VGG, engine) for engine in (PLAIN, Engine(bfloat16=True)))
    assert rounded.weights.dtype == torch.float32
    gap = (plain.weights - rounded.weights).abs().max()
    moved = (plain.weights - stack.initial).abs().max()
    assert 0 < gap < moved / 2
    assert (rounded.weights.bfloat16().float() != rounded.weights).float().mean() > 0.9


@compiler
@pytest.mark.filterwarnings("ignore")
def test_the_fast_engines_mean_curve_lies_among_the_plain_ones_seeds():
    table = engines(VGG.vary(noise_rate=0.3).grid(seed=list(range(5))), CPU)
    plain, fast = (by_seed(table[table["engine"] == name]) for name in ("plain", "fast"))
    assert plain.shape == fast.shape == (5, 3)
    assert not np.array_equal(plain, fast)
    assert (plain.min(0) <= fast.mean(0)).all() and (fast.mean(0) <= plain.max(0)).all()
    assert (plain.max(0) - plain.min(0)).max() < 0.2  # so that lying between them says something


@compiler
@pytest.mark.filterwarnings("ignore")
def test_compiled_code_trains_as_eager_code_does():
    config = VGG.vary(epochs=1)
    (stack, eager), (_, compiled) = (trained(config, engine) for engine in (PLAIN, Engine(compiled=True)))
    moved = (eager.weights - stack.initial).abs().max()
    assert (eager.weights - compiled.weights).abs().max() < 0.05 * moved
    for name, buffer in eager.buffers.items():
        torch.testing.assert_close(buffer, compiled.buffers[name], atol=0.01, rtol=0.05)
