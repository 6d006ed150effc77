"""The fast engine: its arithmetic on a CPU, its replayed steps on a make-believe GPU, and memory that runs out."""

import shutil
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.analysis.seeds import by_seed
from dsdlib.engine.device import FAST, PLAIN, Engine, resolve_engine
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Replayed, Step
from dsdlib.study.performance import engines

CPU = torch.device("cpu")
VGG = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 4}, epochs=3, milestones=(), lr=0.02, rounds=2)
LENET = RunConfig(model_args={"width": 0.1}, epochs=2, milestones=(1,), rounds=1, noise_rate=0.2)

compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")


def trained(config: RunConfig, engine: Engine) -> Stack:
    stack = Stack([config], CPU, engine=engine)
    stack.state = stack.advance(stack.fresh(), 0)
    return stack


def test_an_engine_is_chosen_by_name_or_by_the_device() -> None:
    assert resolve_engine("auto", CPU) == resolve_engine("plain", CPU) == PLAIN
    assert resolve_engine("auto", torch.device("cuda")) == resolve_engine("fast", CPU) == FAST
    with pytest.raises(ConfigError, match="engine = 'quick': unknown; allowed: plain, fast, auto"):
        sweep([LENET], engine="quick", progress=False)


def test_bfloat16_rounds_activations_and_leaves_the_weights_in_float32() -> None:
    plain, rounded = (trained(VGG, engine) for engine in (PLAIN, Engine(bfloat16=True)))
    assert rounded.state.weights.dtype == torch.float32
    gap = (plain.state.weights - rounded.state.weights).abs().max()
    moved = (plain.state.weights - plain.initial).abs().max()
    assert 0 < gap < moved / 2
    kept = rounded.state.weights
    assert (kept.bfloat16().float() != kept).float().mean() > 0.9  # master weights, not bfloat16 ones


@compiler
@pytest.mark.filterwarnings("ignore")
def test_the_fast_engines_mean_curve_lies_among_the_plain_ones_seeds() -> None:
    table = engines(VGG.vary(noise_rate=0.3).grid(seed=list(range(5))), CPU)
    plain, fast = (by_seed(table[table["engine"] == name]) for name in ("plain", "fast"))
    assert plain.shape == fast.shape == (5, 3)
    assert not np.array_equal(plain, fast)
    assert (plain.min(0) <= fast.mean(0)).all() and (fast.mean(0) <= plain.max(0)).all()
    assert (plain.max(0) - plain.min(0)).max() < 0.2  # which says something


@compiler
@pytest.mark.filterwarnings("ignore")
def test_compiled_code_trains_as_eager_code_does() -> None:
    config = VGG.vary(epochs=1)
    eager, compiled = (trained(config, engine) for engine in (PLAIN, Engine(compiled=True)))
    moved = (eager.state.weights - eager.initial).abs().max()
    assert (eager.state.weights - compiled.state.weights).abs().max() < 0.05 * moved
    for name, buffer in eager.state.buffers.items():
        torch.testing.assert_close(buffer, compiled.state.buffers[name], atol=0.01, rtol=0.05)


def test_a_run_that_rewinds_sees_the_modules_own_weights_at_that_iteration() -> None:
    """A module's parameters live in a vector of their own while it trains."""
    config = VGG.vary(retraining="weight_rewinding", rewind_iteration=3, epochs=1)
    stack = trained(config, PLAIN)
    rewound = stack.rewind_point.weights
    assert not torch.equal(rewound, stack.initial) and not torch.equal(rewound, stack.state.weights)


def test_a_modules_frozen_parameters_are_trained_like_the_others() -> None:
    stack = Stack([VGG.vary(epochs=1)], CPU)
    first = next(stack.network.module.parameters())
    first.requires_grad_(False)
    stack.state = stack.advance(stack.fresh(), 0)
    moved = stack.network.parameters((stack.state.weights - stack.initial).abs())[stack.network.names[0]]
    assert moved.max() > 0


class Graph:
    """A CUDA graph that runs what was recorded, as a CPU can."""

    made: list["Graph"] = []  # noqa: RUF012

    def __init__(self):
        self.work, self.replays = None, 0
        Graph.made.append(self)

    def replay(self) -> None:
        self.replays += 1
        self.work()


class Stream:
    def wait_stream(self, other: "Stream") -> None:
        pass


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Graph]:
    """Enough of torch.cuda for steps to be recorded and replayed; the graphs that are made."""
    recording: list[Graph] = []
    real = Step.__call__

    @contextmanager
    def graph(made: Graph, pool: object, stream: object):
        recording.append(made)
        yield
        recording.clear()

    @contextmanager
    def stream(_: Stream):
        yield

    def step(self: Step, positions: torch.Tensor) -> None:
        if recording:  # as on a GPU, what is recorded does not run
            recording[0].work = lambda: real(self, positions)
        else:
            real(self, positions)

    fakes = {"CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream, "graph": graph, "stream": stream}
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(Step, "__call__", step)
    monkeypatch.setattr(Graph, "made", [])
    return Graph.made


@pytest.mark.parametrize("config", [LENET.vary(epochs=6, milestones=(4,)), VGG.vary(epochs=5, augment=True)])
def test_replayed_steps_learn_what_eager_ones_do(config: RunConfig, gpu: list[Graph], monkeypatch) -> None:
    config = config.vary(batch_size=100, momentum=0.9)
    plain = trained(config, Engine(sparse=False)).state.weights
    assert not gpu

    def graphed(step, weights, generators, *more):
        take = Replayed(step)
        for epoch in range(step.recipe.epochs):
            for positions in step.begin_epoch(epoch, generators):
                take(positions)
        step.trainer.write()

    monkeypatch.setattr("dsdlib.engine.loop._run_epochs", graphed)
    assert torch.equal(trained(config, Engine(sparse=False)).state.weights, plain)
    assert sorted(graph.replays for graph in gpu) == [
        config.epochs - 3,
        10 * config.epochs - 3,
    ]  # and a ragged last batch


def test_a_stack_that_the_memory_does_not_hold_is_halved_and_the_runs_go_on(results: Path, monkeypatch) -> None:
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
    left = [name for name in table if name != "seconds"]
    assert table[left].equals(expected[left])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("no"), MemoryError(), RuntimeError("can't allocate memory")])
def test_a_run_too_large_for_the_memory_is_refused_by_name(error: Exception, monkeypatch) -> None:
    def full(self, state, round_, *more):
        raise error

    monkeypatch.setattr(Stack, "advance", full)
    with pytest.raises(ConfigError, match=f"run {LENET.key}: the memory of cpu does not hold it"):
        sweep([LENET], progress=False)


def test_another_runtime_error_is_not_taken_for_a_lack_of_memory(monkeypatch) -> None:
    def broken(self, state, round_, *more):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Stack, "advance", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"), warnings.catch_warnings():
        warnings.simplefilter("error")
        sweep(LENET.grid(seed=[0, 1]), progress=False)
