"""The engine on tensors that PyTorch takes for a GPU's: their shapes and devices are computed, their values are not.

Where a value decides, it is given. Without CUDA, PyTorch cannot run autograd's backward pass for such tensors, so that
a module's gradients are replaced by zeros.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from dsdlib.config import RunConfig
from dsdlib.data import load
from dsdlib.engine.build import build, pruning_plan
from dsdlib.engine.device import Engine
from dsdlib.engine.loop import Callbacks, evaluate
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Step
from dsdlib.noise import labels_for

GPU = torch.device("cuda")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1}, weight_decay=0.01)
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256, augment=True)
CONFIGS = {
    "lenet": [LENET.vary(seed=seed) for seed in range(2)],
    "augmented lenet": [LENET.vary(seed=seed, augment=True, optimizer="adam") for seed in range(2)],
    "vgg": [VGG.vary(retraining="weight_rewinding", rewind_iteration=3)],
    "taught vgg": [VGG.vary(teacher=LENET)],
}


class Given(TorchDispatchMode):
    """Gives values where Python asks for them: the same truth everywhere, and 1 for numbers."""

    def __init__(self, truth):
        super().__init__()
        self.truth = truth

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is torch.ops.aten._local_scalar_dense.default:
            return self.truth if arguments[0].dtype == torch.bool else 1
        return function(*arguments, **(keywords or {}))


def moved(module, device):
    """What `nn.Module.to` does; it cannot exchange such parameters in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(parameter.detach().to(device))
        part._buffers.update({name: buffer.to(device) for name, buffer in part._buffers.items()})
    return module


@pytest.fixture
def fake(monkeypatch):
    """A function that makes a stack on a GPU, of an engine; data and the pruning plan are those of a CPU."""

    def stack_of(configs, engine):
        return Stack(configs, GPU, [build(VGG.vary(seed=9)) for c in configs if c.teacher], engine)

    def known(function):
        found = {config.key: function(config) for configs in CONFIGS.values() for config in configs}
        return lambda config, *_: found[config.key]

    monkeypatch.setattr("dsdlib.engine.stack.labels_for", known(lambda config: labels_for(config, load("digits"))))
    monkeypatch.setattr("dsdlib.engine.stack.pruning_plan", known(lambda config: pruning_plan(config, build(config))))
    monkeypatch.setattr("dsdlib.engine.stack.prune", lambda scores, masks, group, count: masks * (scores + group > 0))
    monkeypatch.setattr(nn.Module, "to", moved)
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.zeros(1))
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    monkeypatch.setattr(
        torch.autograd, "grad", lambda outputs, inputs, *_, **more: [i.new_zeros(i.shape) for i in inputs]
    )
    return stack_of


@pytest.mark.parametrize("truth", [True, False], ids=["dense", "masked"])
@pytest.mark.parametrize("engine", [Engine(), Engine(bfloat16=True)], ids=["plain", "bfloat16"])
@pytest.mark.parametrize("configs", CONFIGS.values(), ids=CONFIGS)
def test_a_stack_keeps_everything_on_the_gpu(configs, engine, truth, fake):
    shapes = []

    def after_epoch(epoch, runs, forward, logits, labels):
        losses, _, _ = evaluate(forward, *stack.tests())
        shapes.append((losses.shape, logits.shape, labels.shape))

    with FakeTensorMode(allow_non_fake_inputs=True), Given(truth):
        stack = fake(configs, engine)
        state = stack.fresh()
        for round_ in range(2):
            state = stack.advance(state, round_, Callbacks(after_epoch=after_epoch))
            assert {part.device.type for part in (state.weights, state.masks, *state.buffers.values())} == {"cuda"}
            assert state.weights.shape == stack.initial.shape and state.weights.dtype == torch.float32
    runs = len(configs)
    assert len(shapes) == 4 and shapes[1] == ((runs, 500), (runs, 1037, 10), (runs, 1037))


def test_a_tensor_that_was_left_on_the_cpu_is_noticed(fake, monkeypatch):
    real = Step.begin_epoch
    monkeypatch.setattr(Step, "begin_epoch", lambda step, *more: [batch.cpu() for batch in real(step, *more)])
    with FakeTensorMode(allow_non_fake_inputs=True), Given(True):
        stack = fake(CONFIGS["vgg"], Engine())
        with pytest.raises(RuntimeError, match="at least two devices, cuda:0 and cpu"):
            stack.advance(stack.fresh(), 0)
