"""Networks with dropout: a run is a function of its configuration alone."""

import sys

import pandas as pd
import pytest
import torch

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.engine.build import check, stackable
from dsdlib.engine.stack import Stack
from dsdlib.study.store import Store

NETWORKS = """
from torch import nn
from torch.nn.functional import dropout


def with_dropout(input_shape, classes):
    layers = nn.Linear(64, 40), nn.ReLU(), nn.Dropout(0.3), nn.Linear(40, classes)
    return nn.Sequential(nn.Flatten(), *layers)


def convolutional(input_shape, classes):
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.RReLU(), nn.Dropout2d(0.3), nn.Flatten(), nn.Linear(144, classes)
    return nn.Sequential(*layers)


class AlwaysRandom(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(dropout(x.flatten(1)))


def always_random(input_shape, classes):
    return AlwaysRandom()
"""
RUN = RunConfig(epochs=2, milestones=(), rounds=2, noise_rate=0.2, amount=0.5)


@pytest.fixture(autouse=True)
def _networks(tmp_path, monkeypatch):
    (tmp_path / "random_networks.py").write_text(NETWORKS)
    monkeypatch.delitem(sys.modules, "random_networks", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.fixture(params=["with_dropout", "convolutional"])
def run(request):
    return RUN.vary(model=f"random_networks:{request.param}")


def test_a_run_does_not_depend_on_the_global_generator_and_leaves_it_alone(run, train_rounds):
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), train_rounds(run)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    again = train_rounds(run)
    for state, same in zip(first.states, again.states, strict=True):
        assert torch.equal(state.weights, same.weights)


def test_every_round_and_seed_draws_its_own(run):
    stack, other = (Stack([run.vary(seed=seed)], torch.device("cpu")) for seed in (0, 1))
    for each in (stack, other):  # the same data in the same order, so that only the layers' draws can differ
        each.data, each.generators = stack.data, lambda *_: [torch.Generator().manual_seed(0)]
    state = stack.fresh()
    first, again, different = (each.advance(state, 0).weights for each in (stack, stack, other))
    assert torch.equal(first, again) and not torch.equal(first, different)
    stack.prune = lambda state, round_: state
    assert not torch.equal(stack.advance(state, 1).weights, stack.advance(state, 2).weights)


def without_time(table, run):
    return table[table["key"] == run.key].drop(columns="seconds").dropna(axis=1, how="all").reset_index(drop=True)


def test_a_run_is_the_same_alone_and_in_a_sweep_with_others(run, tmp_path):
    assert not stackable(run)
    others = [RUN.vary(model="mlp"), run.vary(seed=1), run.vary(lr=0.01)]
    together = sweep([*others, run], results=tmp_path / "together", progress=False)
    alone = sweep([run], results=tmp_path / "alone", progress=False)
    pd.testing.assert_frame_equal(without_time(alone, run), without_time(together, run), check_exact=True)


def test_a_resumed_run_is_the_same(run, tmp_path, monkeypatch):
    whole = sweep([run], results=tmp_path / "whole", progress=False)
    real = Store.save_round

    def stop(self, config, rows, *more):
        real(self, config, rows, *more)
        if len(rows) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "save_round", stop)
        sweep([run], results=tmp_path / "stopped", progress=False)
    torch.rand(7)
    resumed = sweep([run], results=tmp_path / "stopped", progress=False)
    pd.testing.assert_frame_equal(without_time(resumed, run), without_time(whole, run), check_exact=True)


def test_a_network_that_is_random_even_in_evaluation_mode_is_refused():
    with pytest.raises(ConfigError, match="random_networks:always_random': its logits in evaluation mode are random"):
        check(RUN.vary(model="random_networks:always_random"))
