"""Whether an engine is right on this machine, and how fast: checks of seconds before trainings of hours.

Each takes a run, a device and an engine, and returns what it found in words. It raises `ConfigError` if the engine must
not be used.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import torch
from torch import Tensor

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.device import PLAIN, Engine, settings
from dsdlib.engine.loop import Callbacks
from dsdlib.engine.network import ModuleTrainer
from dsdlib.engine.stack import Stack
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.engine.step import Replayed, Step

INSTEAD = "--engine plain trains in float32 and without graphs"


def no_waits(config: RunConfig, device: torch.device, engine: Engine) -> str:
    """No operation of a step makes Python wait for the GPU. PyTorch raises RuntimeError at one that does."""
    with settings(device, engine):
        step, batches = _begun(config, device, engine)
        step(batches[0])  # compiles
        with _waits_refused(device):
            step(batches[1])
    return "no step waits for the GPU" if device.type == "cuda" else "not looked for on a CPU"


@contextmanager
def _waits_refused(device: torch.device) -> Iterator[None]:
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def gradients_agree(
    config: RunConfig, device: torch.device, engine: Engine, steps: int = 10, least: float = 0.99
) -> str:
    """The cosine of a gradient by this engine and by the plain one, at the weights after some plain ``steps``.

    At the initialisation of deep networks, bfloat16's rounding alone takes it to 0.96.
    """
    with settings(device):
        plain, batches = _begun(config, device, PLAIN)
        for number in range(steps):
            plain(batches[number % len(batches)])
        expected = plain.gradient(batches[0])[0].double()
    with settings(device, engine):
        step, batches = _begun(config, device, engine)
        with torch.no_grad():
            step.trainer.vector.copy_(plain.trainer.vector)
        gradient = step.gradient(batches[0])[0].double()
    cosine = torch.cosine_similarity(gradient, expected, dim=0).item()
    if not cosine > least:
        raise ConfigError(f"{config.model}: the cosine of its gradient and that in float32 is {cosine:.4f}; {INSTEAD}")
    return f"the cosine of a gradient and that in float32 is {cosine:.5f}"


def replays_agree(config: RunConfig, device: torch.device, engine: Engine, steps: int = 20) -> str:
    """Where so many replayed steps lead, beside so many executed ones and their repetition, from the same weights."""
    if not engine.graphed:
        return "nothing is replayed"
    ends = []
    for replayed in (False, False, True):
        with settings(device, engine):
            step, batches = _begun(config, device, engine)
            start, take = step.trainer.vector.detach().clone(), Replayed(step) if replayed else step
            for number in range(steps):
                take(batches[number % (len(batches) - 1)])  # whole batches
            ends.append(step.trainer.vector.detach().clone())
    moved = (ends[0] - start).norm()
    again, gap = (((end - ends[0]).norm() / moved).item() for end in ends[1:])
    if not gap <= 0.01 + 2 * again:
        raise ConfigError(f"{config.model}: {steps} replayed steps end {gap:.2%} of their way elsewhere; {INSTEAD}")
    return f"{steps} replayed steps end {gap:.3%} of their way from executed ones, a repetition {again:.3%}"


def speed(config: RunConfig, device: torch.device, engine: Engine) -> str:
    """What a step takes, and so what all of the run's rounds will: by the shortest epoch after a first one, which also
    pays for the compilation."""
    stamps, short = [], _short(config).vary(epochs=3)

    def stamp(*_: object) -> None:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        stamps.append(time.perf_counter())

    with settings(device, engine):
        stack = Stack([short], device, _teachers(short), engine)
        stack.advance(stack.fresh(), 0, Callbacks(checkpoint=stamp))
    epoch = min(later - earlier for earlier, later in pairwise(stamps))
    steps, rounds = -(-stack.data.rows.shape[1] // config.batch_size), config.rounds + 1
    minutes = epoch * (config.epochs + config.rounds * config.epochs_of(1)) / 60
    return f"{1000 * epoch / steps:.2f} ms a step, {epoch:.2f} s an epoch, {minutes:.1f} minutes for {rounds} rounds"


CHECKS: dict[str, Callable[[RunConfig, torch.device, Engine], str]] = {
    "waits": no_waits,
    "gradients": gradients_agree,
    "replays": replays_agree,
    "speed": speed,
}


def _short(config: RunConfig) -> RunConfig:
    """The run with a constant learning rate, and trained from its first step."""
    return config.vary(milestones=(), retraining="lr_rewinding", rewind_iteration=0)


def _teachers(config: RunConfig) -> list[torch.nn.Module]:
    """A teacher that has not been trained."""
    return [build(config.teacher)] if config.teacher is not None else []


def _begun(config: RunConfig, device: torch.device, engine: Engine) -> tuple[Step, list[Tensor]]:
    """A dense run's step before its first epoch, and the epoch's batches."""
    config = _short(config)
    stack = Stack([config], device, _teachers(config), engine)
    weights, recipe = stack.initial.clone(), stack.recipe(0)
    masks = torch.ones_like(weights)
    if stack.network.stackable:
        trainer = StackedTrainer(stack.network, weights, masks, (), whole_images=recipe.augment)
    else:
        trainer = ModuleTrainer(stack.network, weights, masks, stack.engine, recipe.batch_size)
    step = Step(trainer, stack.data, recipe)
    return step, list(step.begin_epoch(0, stack.generators("order", 0)))
