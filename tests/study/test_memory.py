"""Stacks that the memory does not hold."""

import shutil
import warnings

import pytest
import torch

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.engine.stack import Stack

LENET = RunConfig(model_args={"width": 0.1}, epochs=2, milestones=(1,), rounds=1, noise_rate=0.2)


def test_a_stack_that_the_memory_does_not_hold_is_halved_and_the_runs_go_on(results, monkeypatch):
    runs = LENET.grid(seed=list(range(5)))
    expected = sweep(runs, progress=False)
    shutil.rmtree(results)
    real, sizes = Stack.advance, []

    def small(self, state, round_, *more):
        sizes.append(len(self.configs))
        if len(self.configs) > 2 and round_ == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, state, round_, *more)

    monkeypatch.setattr(Stack, "advance", small)
    with pytest.warns(UserWarning, match="no memory for a stack of [53] runs: it is halved"):
        table = sweep(runs, progress=False)
    assert max(sizes) == 5 and 2 in sizes and 1 in sizes
    columns = [name for name in table if name != "seconds"]
    assert table[columns].equals(expected[columns])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("can't allocate memory")])
def test_a_run_too_large_for_the_memory_is_refused_by_name(error, monkeypatch):
    def full(self, state, round_, *more):
        raise error

    monkeypatch.setattr(Stack, "advance", full)
    with pytest.raises(ConfigError, match=f"run {LENET.key}: the memory of cpu does not hold it"):
        sweep([LENET], progress=False)


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(monkeypatch):
    def broken(self, state, round_, *more):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stack, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"), warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(LENET.grid(seed=[0, 1]), progress=False)
