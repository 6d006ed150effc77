"""What is compiled, and how often; and a machine on which nothing can be compiled."""

import os
import subprocess
import sys

import pytest
import torch

from dsdlib.config import RunConfig
from dsdlib.engine import device
from dsdlib.engine.build import build
from dsdlib.engine.device import Engine
from dsdlib.engine.loop import Callbacks, evaluate
from dsdlib.engine.network import compiled
from dsdlib.engine.stack import Stack

CPU = torch.device("cpu")
# 1,037 training images: the last batch of an epoch has 37. 260 validation images: the last batch has 68.
VGG = RunConfig(
    model="vgg_like", model_args={"depth": 1, "width": 4}, epochs=2, milestones=(), batch_size=100, rounds=1
)
COMPILED = Engine(compiled=True)


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that are compiled from now on, by a compiler that leaves them as they are."""
    made, compile_ = [], torch.compile

    def keep(graph, inputs):
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", lambda module, **options: compile_(module, **options, backend=keep))
    monkeypatch.setattr(device, "_compiler_fault", lambda kind: "")
    torch.compiler.reset()
    yield made
    torch.compiler.reset()


def trained(config, engine, teachers=()):
    """The weights after all rounds, and the logits of the test images after every epoch."""
    stack, logits = Stack([config], CPU, teachers, engine), []

    def after_epoch(epoch, runs, forward, *_):
        x, rows, labels = stack.tests()
        evaluate(lambda images: logits.append(forward(images)) or logits[-1], x, rows, labels)

    state = stack.fresh()
    for round_ in range(config.rounds + 1):
        state = stack.advance(state, round_, Callbacks(after_epoch=after_epoch))
    return state.weights, torch.cat(logits, 1)


def test_two_rounds_of_two_seeds_compile_once_to_train_and_once_to_evaluate(graphs):
    for seed in range(2):
        config = VGG.vary(seed=seed)
        for now, plainly in zip(trained(config, COMPILED), trained(config, Engine()), strict=True):
            torch.testing.assert_close(now, plainly, atol=1e-3, rtol=1e-3)
        assert len(graphs) == 2


def test_a_teacher_of_augmented_images_is_compiled_once(graphs):
    config = VGG.vary(augment=True, teacher=VGG, alpha=0.8)
    teachers = [build(VGG.vary(seed=seed, model_args={"depth": 1, "width": 6})) for seed in range(2)]
    for seed, teacher in enumerate(teachers):
        mine = config.vary(seed=seed)
        weights, _ = trained(mine, COMPILED, [teacher])
        torch.testing.assert_close(weights, trained(mine, Engine(), [teacher])[0], atol=1e-3, rtol=1e-3)
        assert len(graphs) == 3  # student, evaluation, teacher


def test_each_of_many_networks_of_one_class_is_compiled(graphs):
    for width in range(1, 21):
        run = compiled(torch.nn.Sequential(torch.nn.Linear(2, width)), 3)
        run(torch.ones(3, 2))
        assert len(graphs) == width


def test_teachers_round_to_bfloat16_in_the_fast_engine_alone():
    stacks = [
        Stack([VGG.vary(augment=True, teacher=VGG)], CPU, [build(VGG)], engine)
        for engine in (Engine(), Engine(bfloat16=True))
    ]
    x = stacks[0].data.x[:5].unsqueeze(0)
    plain, rounded = (stack.data.teacher_logits(torch.zeros(1, 5, dtype=torch.long), x) for stack in stacks)
    assert torch.equal(plain[0], build(VGG).eval()(x[0]))
    assert rounded.dtype == torch.float32 and torch.equal(rounded, rounded.bfloat16().float())
    torch.testing.assert_close(plain, rounded, atol=0.05, rtol=0.05)


NOTHING = """
import torch, warnings
from dsdlib.config import RunConfig
from dsdlib.engine.device import Engine
from dsdlib.engine.stack import Stack
config = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 4}, epochs=1, milestones=(), rounds=0)
weights = []
for engine in (Engine(), Engine(compiled=True)):
    stack = Stack([config], torch.device("cpu"), engine=engine)
    weights.append(stack.advance(stack.fresh(), 0).weights)
assert torch.equal(*weights)
print(stack.engine)
"""


def test_without_a_compiler_training_goes_on_uncompiled_with_a_warning(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("CC", "CXX")}
    environment |= {"PATH": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", NOTHING], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "compiled=False" in done.stdout
    assert "nothing can be compiled for cpu, training is slower without: " in done.stderr
