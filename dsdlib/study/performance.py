"""How fast training is: by stack size, density and width, against plain PyTorch, JAX and the machine's limit.

Alternatives are timed in turn in one process, and compared by ratios of neighbouring times, as a busy machine then
slows all of them down.
"""

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch

from dsdlib.config import ConfigError, RunConfig
from dsdlib.cost import training_flops
from dsdlib.engine.build import check as check_run
from dsdlib.engine.build import stackable
from dsdlib.engine.device import FAST, PLAIN, Engine, resolve_engine, settings, without_compiler
from dsdlib.engine.loop import train
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack, State
from dsdlib.pruning import prune
from dsdlib.reference import iterative_pruning
from dsdlib.study.parallel import worker_count
from dsdlib.study.provenance import describe_machine
from dsdlib.study.sweep import sweep

LOOP, STACK, SWEEP, JAX = "conventional loop", "one stack", "sweep", "JAX"
DENSE, SPARSE = "dense products", "sparse products"
Train = Callable[..., torch.Tensor]  # takes and returns what `dsdlib.engine.loop.train` does


def check(config: RunConfig, counts: Iterable[int], widths: Iterable[Any]) -> None:
    """Raise `ConfigError` unless stacks of so many runs, and the model in each width, can be timed. Trains nothing."""
    if (most := max(counts)) > 1 and not stackable(config):
        raise ConfigError(f"runs, stack_sizes: {most} is too many: {config.model} has a stack to itself; allowed: 1")
    for width in widths:
        check_run(config.vary(model_args=config.model_args | {"width": width}))


def why_without_jax(config: RunConfig, device: torch.device) -> str:
    """Why no stack of such runs is trained by JAX on that device, for comparison; empty if it can be."""
    if device.type != "cpu":
        return "it takes part on CPUs only"
    if find_spec("jax") is None:
        return "it is not installed; `pip install 'dsdlib[bench]'` brings it"
    from dsdlib.study import rival_jax  # which imports JAX

    stack = Stack([config], device)
    try:
        rival_jax.check(stack.network, stack.data, stack.recipe(1))
    except ConfigError as refusal:
        return str(refusal)
    return ""


def together(configs: list[RunConfig], device: torch.device, engine: Engine = PLAIN) -> list[dict[str, Any]]:
    """Train runs as one stack, on a CPU with one thread. Returns a row a run and round."""
    rows = []
    with settings(device, engine):
        stack = Stack(configs, device, engine=engine)
        run_rounds(stack, stack.fresh(), 0, lambda round_, state, new: rows.extend(zip(configs, new, strict=True)))
    return [{"seed": config.seed, **row} for config, row in rows]


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Call ``work``. Returns how many seconds it took, and its result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def swept(configs: list[RunConfig], device: torch.device, engine: Engine = PLAIN) -> None:
    """Train runs as users do: by `sweep` into a store, on a CPU with a process a core."""
    with TemporaryDirectory() as folder:
        jobs = -1 if device.type == "cpu" else 1
        how = {"device": str(device), "engine": "plain" if engine == PLAIN else "fast"}
        sweep(configs, jobs=jobs, executor="local", results=folder, progress=False, **how)


def race(
    config: RunConfig, runs: int, repeats: int, device: torch.device, engine: Engine = PLAIN
) -> tuple[pd.DataFrame, ...]:
    """Time in turn: plain PyTorch on one run, a stack of that many ``runs``, the stack trained by JAX, and a sweep with
    such a stack a core.

    Runs differ in their seed; a GPU counts as one core. JAX is left out for the reasons of `why_without_jax`. Returns
    two tables: ``way``, ``repeat`` and ``seconds`` a run; and the rounds of all ways but the sweep, for the runs that
    plain PyTorch trained, too.
    """
    times, rounds, ways = [], [], {STACK: partial(together, device=device, engine=engine)}
    if not why_without_jax(config, device):
        ways[JAX] = _together_in_jax
    stacks = worker_count(-1) if device.type == "cpu" else 1
    configs, more = (config.grid(seed=list(range(count))) for count in (runs, runs * stacks))
    short = {"epochs": 1, "milestones": (), "rounds": 0}
    for work in ways.values():
        work([config.vary(**short) for config in configs])  # warm-up, which compiles
    swept([config.vary(**short) for config in more], device, engine)
    for repeat in range(repeats):
        first = configs[repeat % len(configs)]
        with settings(device):
            slow, theirs = timed(lambda first=first: [row for row, _ in iterative_pruning(first, device)], device)
        seconds = {LOOP: slow}
        rounds += [{"way": LOOP, **row} for row in theirs]
        for way, work in ways.items():
            taken, rows = timed(lambda work=work: work(configs), device)
            seconds[way] = taken / len(configs)
            rounds += [{"way": way, **row} for row in rows if row["seed"] == first.seed]
        all_over, _ = timed(lambda: swept(more, device, engine), device)
        seconds[SWEEP] = all_over / len(more)
        times += [{"way": way, "repeat": repeat, "seconds": taken} for way, taken in seconds.items()]
    return pd.DataFrame(times), pd.DataFrame(rounds).drop_duplicates(["way", "seed", "round"])


def _together_in_jax(configs: list[RunConfig]) -> list[dict[str, Any]]:
    from dsdlib.study import rival_jax

    device = torch.device("cpu")
    with settings(device):
        return rival_jax.rounds(Stack(configs, device))


def engines(configs: list[RunConfig], device: torch.device) -> pd.DataFrame:
    """Train the same runs with the ``plain`` and with the ``fast`` engine. Returns a row a run and round; the column
    ``engine`` names the engine."""
    size = len(configs) if stackable(configs[0]) else 1
    stacks = [configs[first : first + size] for first in range(0, len(configs), size)]
    named = {name: resolve_engine(name, device) for name in ("plain", "fast")}
    rows = [{"engine": n, **row} for n, engine in named.items() for s in stacks for row in together(s, device, engine)]
    return pd.DataFrame(rows)


def pruned(stack: Stack, state: State, density: float) -> State:
    """A stack's state in which only the largest prunable weights are left, the fraction ``density`` of them."""
    keep = max(1, round(density * stack.remaining[0]))
    masks = prune(state.weights.abs(), torch.ones_like(state.masks), stack.prunable, keep)
    return State(state.weights, masks, state.buffers)


def training(
    stack: Stack, state: State, epochs: int, engine: Engine, trained_by: Train | None = None
) -> Callable[[], Any]:
    """A function that trains for that many epochs at a constant learning rate and returns the weights."""
    recipe = stack.recipe(0)
    recipe.epochs, recipe.milestones = epochs, ()
    engine = engine if stack.network.stackable else without_compiler(engine, stack.device)
    stack.network.set_buffers(state.buffers)
    parts = stack.network, state.weights, state.masks, stack.data, recipe, stack.generators("order", 0)

    def work() -> torch.Tensor:
        with settings(stack.device, engine):
            return (trained_by or train)(*parts, engine=engine)

    return work


def epoch_seconds(
    stack: Stack, state: State, epochs: int, engine: Engine = PLAIN, trained_by: Train | None = None
) -> float:
    """Seconds an epoch of the whole stack: the difference of trainings of ``1 + epochs`` epochs and of one epoch."""
    short, long = (timed(training(stack, state, n, engine, trained_by), stack.device)[0] for n in (1, 1 + epochs))
    return (long - short) / epochs


@dataclass(frozen=True)
class Bench:
    """Timings of epochs, each measured over ``epochs`` epochs, ``repeats`` times.

    Its tables have a row a repeat; ``seconds`` is the time of one epoch of one run.
    """

    config: RunConfig
    device: torch.device
    engine: Engine
    epochs: int
    repeats: int

    def _stack(self, runs: int, **changes: Any) -> Stack:
        configs = self.config.vary(**changes).grid(seed=list(range(runs)))
        return Stack(configs, self.device, engine=self.engine)

    def _seconds(self, stack: Stack, state: State, engine: Engine, trained_by: Train | None = None) -> float:
        return epoch_seconds(stack, state, self.epochs, engine, trained_by) / len(stack.configs)

    def _ways(self, engines: dict[str, Engine]) -> dict[str, tuple[Engine, Train | None]]:
        """Each engine with the engine's own training, and JAX, if it takes part."""
        ways = {name: (engine, None) for name, engine in engines.items()}
        if not why_without_jax(self.config, self.device):
            from dsdlib.study import rival_jax

            ways[JAX] = self.engine, rival_jax.train
        return ways

    def sizes(self, counts: Iterable[int]) -> pd.DataFrame:
        """By the number of ``runs`` in a stack and by ``way`` (one stack, JAX), with our ``memory`` in bytes a run."""
        rows, ways = [], self._ways({STACK: self.engine})
        for count in counts:
            made = []

            def one_epoch(count: int = count, made: list[Stack] = made) -> None:
                made.append(self._stack(count))
                training(made[0], made[0].fresh(), 1, self.engine)()

            memory = peak_memory(one_epoch, self.device) / count
            self._compile(made[0], ways)
            for repeat in range(self.repeats):
                for way, how in ways.items():
                    seconds = self._seconds(made[0], made[0].fresh(), *how)
                    row = {"runs": count, "way": way, "repeat": repeat, "seconds": seconds}
                    rows.append(row | {"memory": memory if way == STACK else np.nan})
        return pd.DataFrame(rows)

    def densities(self, runs: int, shares: Iterable[float]) -> pd.DataFrame:
        """By ``density``, the fraction of prunable weights left, with sparse and with dense products and by JAX in turn
        (``way``).

        The networks are trained for ``epochs`` epochs first and then pruned by magnitude.
        """
        stack = self._stack(runs)
        state = stack.fresh()
        weights = training(stack, state, self.epochs, self.engine)()
        rows, ways = [], self._ways({DENSE: replace(self.engine, sparse=False), SPARSE: self.engine})
        self._compile(stack, ways)
        for share in shares:
            sparser = pruned(stack, State(weights, state.masks, stack.network.buffers()), share)
            for repeat in range(self.repeats):
                for way, how in ways.items():
                    seconds = self._seconds(stack, sparser, *how)
                    rows.append({"density": share, "way": way, "repeat": repeat, "seconds": seconds})
        return pd.DataFrame(rows)

    def _compile(self, stack: Stack, ways: dict[str, tuple[Engine, Train | None]]) -> None:
        for engine, trained_by in ways.values():
            training(stack, stack.fresh(), 1, engine, trained_by)()

    def widths(self, runs: int, widths: Iterable[Any]) -> pd.DataFrame:
        """By the model's ``width``, with the ``rate`` of arithmetic in FLOP/s."""
        rows = []
        for width in widths:
            stack = self._stack(runs, model_args=self.config.model_args | {"width": width})
            samples, first = stack.data.rows.shape[1], next(iter(stack.cost[0].values()))
            flops = 2 * (training_flops(*stack.cost, samples) - samples * first)  # images need no gradient
            training(stack, stack.fresh(), 1, self.engine)()  # warm-up
            for repeat in range(self.repeats):
                seconds = self._seconds(stack, stack.fresh(), self.engine)
                rows.append({"width": width, "repeat": repeat, "seconds": seconds, "rate": flops / seconds})
        return pd.DataFrame(rows)


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048, repeats: int = 5) -> float:
    """The highest rate of a square matrix product in FLOP/s, of some repeats; on a CPU with one thread.

    A multiply-add counts as two operations.
    """
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    with settings(device, FAST if dtype != torch.float32 else PLAIN):
        return 2 * size**3 / min(timed(lambda: a @ b, device)[0] for _ in range(repeats))


def name(device: torch.device) -> str:
    """The device in words: a GPU's name, or one core of the processor."""
    machine = describe_machine(device)
    return f"an {machine['device']}" if device.type == "cuda" else f"one core of an {machine['processor']}"


def peak_memory(work: Callable[[], Any], device: torch.device) -> float:
    """The most memory in bytes that ``work`` takes beyond what was in use before.

    On a CPU it is the resident memory in whole pages, which only Linux reports; elsewhere not a number.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory to the system, so that it counts when it is used again
        Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        before = np.nan
    work()
    return np.nan if np.isnan(before) else float(_resident("VmHWM") - before)


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
