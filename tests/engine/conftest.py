"""What the engine's tests share."""

from types import SimpleNamespace

import pytest
import torch

from dsdlib.engine.loop import train
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """Results are compared bit for bit, which the number of threads can change."""


@pytest.fixture
def train_rounds():
    """A function that carries configurations, as one stack, through all their rounds.

    It returns the ``stack`` and, a list element a round, the ``states``, the ``rows`` of the table and the ``epochs``,
    the rows of the history as (epoch, run, row).
    """

    def run(*configs, teachers=(), starts=(), history=False):
        stack = Stack(list(configs), torch.device("cpu"), teachers, starts=starts)
        states, rows, epochs = [], [], [[] for _ in range(configs[0].rounds + 1)]

        def save(round_, state, new):
            states.append(state)
            rows.append(new)

        def save_epoch(round_, epoch, runs, new):
            epochs[round_] += [(epoch, run, row) for run, row in zip(runs, new, strict=True)]

        run_rounds(stack, stack.fresh(), 0, save, save_epoch if history else None)
        return SimpleNamespace(stack=stack, states=states, rows=rows, epochs=epochs)

    return run


@pytest.fixture
def starts(monkeypatch):
    """A list to which every training from now on adds what it starts from: weights, masks, buffers and recipe."""
    calls = []

    def spy(network, weights, masks, data, recipe, *more):
        calls.append(
            SimpleNamespace(weights=weights * masks, masks=masks.clone(), buffers=network.buffers(), recipe=recipe)
        )
        return train(network, weights, masks, data, recipe, *more)

    monkeypatch.setattr("dsdlib.engine.stack.train", spy)
    return calls
