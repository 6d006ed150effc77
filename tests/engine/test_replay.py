"""Steps replayed as a CUDA graph replays them, on a CPU; and faults that a graph would freeze."""

import importlib.util
from pathlib import Path

import pytest
import torch

from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.device import Engine
from dsdlib.engine.network import ModuleTrainer
from dsdlib.engine.stack import Stack
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.engine.step import Replayed, Step

SPEC = importlib.util.spec_from_file_location("tape", Path(__file__).with_name("tape.py"))
tape = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tape)

CPU, DENSE = torch.device("cpu"), Engine(sparse=False)
LENET = RunConfig(epochs=6, milestones=(4,), rounds=1, noise_rate=0.2, model_args={"width": 0.1}, batch_size=100)
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, epochs=5, milestones=(3,), augment=True)
TAUGHT = VGG.vary(teacher=LENET, weight_decay=0.01)
CONFIGS = {"lenet": LENET.vary(weight_decay=0.01), "adam": LENET.vary(optimizer="adam", lr=0.001)}
CONFIGS |= {"vgg": VGG, "taught": TAUGHT}


@pytest.fixture
def tapes(monkeypatch):
    return tape.simulate(monkeypatch)


def stack_of(config):
    teachers = [build(VGG.vary(seed=9))] if config.teacher else []
    return Stack([config], CPU, teachers, DENSE)


def replay_steps(monkeypatch):
    """From now on, steps are replayed as on a GPU."""

    def graphed(step, weights, generators, *more):
        take = Replayed(step)
        for epoch in range(step.recipe.epochs):
            for batch in step.begin_epoch(epoch, generators):
                take(batch)
        step.trainer.write()

    monkeypatch.setattr("dsdlib.engine.loop._run_epochs", graphed)


def end(config):
    """The weights and buffers after the dense round."""
    stack = stack_of(config)
    state = stack.advance(stack.fresh(), 0)
    return torch.cat([state.weights[0], *(part.flatten().float() for part in state.buffers.values())])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_replayed_steps_give_the_weights_and_buffers_of_executed_ones(config, tapes, monkeypatch):
    executed = end(config)
    assert not tapes
    replay_steps(monkeypatch)
    assert torch.equal(end(config), executed)
    last, full = config.epochs - 3, 10 * config.epochs - 3  # the smaller last batches have a graph of their own
    assert sorted(each.replays for each in tapes) == [last, full]


def frozen_rate(step):
    step.rate = step.rate.clone()


def rebound_images(step):
    step.x = None


def rebound_velocity(step):
    step.velocity = step.velocity.clone()


FAULTS = [(LENET, frozen_rate), (VGG, frozen_rate), (VGG, rebound_images), (VGG, rebound_velocity)]


def plant(fault, monkeypatch):
    """Let every epoch begin with a tensor in another place, which a graph does not notice."""
    real = Step.begin_epoch

    def begin_epoch(step, epoch, generators):
        if epoch > 0:
            fault(step)
        return real(step, epoch, generators)

    monkeypatch.setattr(Step, "begin_epoch", begin_epoch)


@pytest.mark.parametrize(("config", "fault"), FAULTS)
def test_a_tensor_in_another_place_is_noticed(config, fault, tapes, monkeypatch):
    """Executed steps do not mind; replayed ones differ, and so do the places that they read."""
    executed = end(config)
    plant(fault, monkeypatch)
    assert torch.equal(end(config), executed)
    first, second = places_of_two_epochs(config)
    assert first != second
    replay_steps(monkeypatch)
    assert not torch.equal(end(config), executed)


def step_of(config):
    stack = stack_of(config)
    weights, recipe = stack.initial.clone(), stack.recipe(0)
    masks = (torch.arange(weights.numel()) % 3 > 0).float().view_as(weights)
    if stack.network.stackable:
        trainer = StackedTrainer(stack.network, weights, masks, (), whole_images=recipe.augment)
    else:
        trainer = ModuleTrainer(stack.network, weights, masks, DENSE, recipe.batch_size)
    return Step(trainer, stack.data, recipe), stack.generators("order", 0)


def places_of_two_epochs(config):
    """The places that a step reads from in two epochs, those of its batch left out."""
    (step, generators), place, found = step_of(config), torch.zeros(3, 1, 100, dtype=torch.long), []
    kept = []  # so that no address is used again
    for epoch in range(2):
        place.copy_(step.begin_epoch(epoch, generators)[0])
        with tape.Tape() as recorded:
            step(place)
        kept.append(recorded)
        found.append(set(recorded.outside))
    return found


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_step_reads_from_the_same_places_in_every_epoch(config):
    first, second = places_of_two_epochs(config)
    assert first == second and len(first) > 4


WAITING = {
    "item": lambda x: x.sum().item(),
    "if": lambda x: 1 if x.sum() > 0 else 0,
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 0),
    "boolean index": lambda x: x[x > 0],
    "boolean assignment": lambda x: x.clone().__setitem__(x > 0, 0.0),
    "masked_select": lambda x: x.masked_select(x > 0),
    "equal": lambda x: torch.equal(x, x),
    "unique": lambda x: x.unique(),
}


@pytest.mark.parametrize("wait", WAITING.values(), ids=WAITING)
def test_a_step_that_waits_for_the_gpu_cannot_be_recorded(wait, monkeypatch):
    step, generators = step_of(LENET)
    batch, real = step.begin_epoch(0, generators)[0], StackedTrainer.__call__
    with tape.Tape():
        step(batch)
    monkeypatch.setattr(StackedTrainer, "__call__", lambda trainer, x: (wait(x), real(trainer, x))[1])
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"), tape.Tape():
        step(batch)
