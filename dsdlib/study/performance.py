"""How fast training is: against a conventional loop, by stack size, density and width, and against the machine's limit.

Ways to be compared are timed in turn, in one process, and compared by ratios of neighbouring times: a busy machine then
slows them alike.
"""

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap

from dsdlib.analysis.seeds import Interval
from dsdlib.config import RunConfig
from dsdlib.cost import training_flops
from dsdlib.engine.build import stackable
from dsdlib.engine.device import FAST, PLAIN, Engine, resolve_engine, settings
from dsdlib.engine.loop import train
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack, State
from dsdlib.pruning import prune
from dsdlib.reference import conventional
from dsdlib.study.provenance import describe_machine
from dsdlib.study.sweep import sweep

LOOP, STACK, SWEEP = "conventional loop", "one stack", "sweep"


def together(configs: list[RunConfig], device: torch.device, engine: Engine = PLAIN) -> list[dict[str, Any]]:
    """The same runs as one stack of this library's, on one thread where it is a CPU: a row a run and round."""
    rows = []
    with settings(device, engine):
        stack = Stack(configs, device, engine=engine)
        run_rounds(stack, stack.fresh(), 0, lambda round_, state, new: rows.extend(zip(configs, new, strict=True)))
    return [{"seed": config.seed, **row} for config, row in rows]


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def swept(configs: list[RunConfig], device: torch.device, engine: Engine = PLAIN) -> None:
    """The same as anyone would have it: by `sweep`, a process a core where it is a CPU, and into a store."""
    with TemporaryDirectory() as folder:
        jobs = -1 if device.type == "cpu" else 1
        how = {"device": str(device), "engine": "plain" if engine == PLAIN else "fast"}
        sweep(configs, jobs=jobs, results=folder, stack_size=len(configs), progress=False, **how)


def race(
    configs: list[RunConfig], more: list[RunConfig], repeats: int, device: torch.device, engine: Engine = PLAIN
) -> tuple[pd.DataFrame, ...]:
    """The conventional loop on the first of ``configs``, one stack of them all, and a sweep of ``more``, in turn.

    Two tables: ``way``, ``repeat`` and ``seconds`` a run; and the first two ways' rounds, of the runs both trained.
    """
    times, rounds = [], []
    short = {"epochs": 1, "milestones": (), "rounds": 0}
    together([config.vary(**short) for config in configs], device, engine)  # to warm up
    swept([config.vary(**short) for config in more], device, engine)
    for repeat in range(repeats):
        first = configs[repeat % len(configs)]
        with settings(device):
            slow, theirs = timed(lambda first=first: conventional(first, device), device)
        fast, ours = timed(lambda: together(configs, device, engine), device)
        all_over, _ = timed(lambda: swept(more, device, engine), device)
        seconds = {LOOP: slow, STACK: fast / len(configs), SWEEP: all_over / len(more)}
        times += [{"way": way, "repeat": repeat, "seconds": taken} for way, taken in seconds.items()]
        rounds += [{"way": LOOP, **row} for row in theirs]
        rounds += [{"way": STACK, **row} for row in ours if row["seed"] == first.seed]
    return pd.DataFrame(times), pd.DataFrame(rounds).drop_duplicates(["way", "seed", "round"])


def speed_up(times: pd.DataFrame, slow: str, fast: str) -> Interval:
    """How many times faster: the mean over repeats of their ratios, with its 95% interval."""
    pairs = times.pivot(index="repeat", columns="way", values="seconds")
    ratios = (pairs[slow] / pairs[fast]).to_numpy()
    if len(ratios) < 3:
        return Interval(float(ratios.mean()), np.nan, np.nan)
    found = bootstrap((ratios,), np.mean, n_resamples=1000, method="percentile", rng=np.random.default_rng(0))
    return Interval(float(ratios.mean()), *map(float, found.confidence_interval))


def engines(configs: list[RunConfig], device: torch.device) -> pd.DataFrame:
    """The rounds of the same runs, trained by the ``plain`` and by the ``fast`` engine (column ``engine``)."""
    size = len(configs) if stackable(configs[0]) else 1
    stacks = [configs[first : first + size] for first in range(0, len(configs), size)]
    named = {name: resolve_engine(name, device) for name in ("plain", "fast")}
    rows = [{"engine": n, **row} for n, engine in named.items() for s in stacks for row in together(s, device, engine)]
    return pd.DataFrame(rows)


def pruned(stack: Stack, state: State, density: float) -> State:
    """A state of a stack with so much of its prunable weights left, the largest."""
    keep = max(1, round(density * stack.remaining[0]))
    masks = prune(state.weights.abs(), torch.ones_like(state.masks), stack.prunable, keep)
    return State(state.weights, masks, state.buffers)


def training(stack: Stack, state: State, epochs: int, engine: Engine) -> Callable[[], Any]:
    """A training of so many epochs at one learning rate, to be called."""
    recipe = stack.recipe(0)
    recipe.epochs, recipe.milestones = epochs, ()
    stack.network.set_buffers(state.buffers)
    parts = stack.network, state.weights, state.masks, stack.data, recipe, stack.generators("order", 0)

    def work() -> torch.Tensor:
        with settings(stack.device, engine):
            return train(*parts, engine=engine)

    return work


def epoch_seconds(stack: Stack, state: State, epochs: int, engine: Engine = PLAIN) -> float:
    """What one more epoch costs the whole stack, from a training of one epoch and one of ``1 + epochs``."""
    short, long = (timed(training(stack, state, n, engine), stack.device)[0] for n in (1, 1 + epochs))
    return (long - short) / epochs


@dataclass(frozen=True)
class Bench:
    """Timings of a run's epochs: each over so many ``epochs``, ``repeats`` times. Tables have a row a repeat, with the
    ``seconds`` of a run's epoch."""

    config: RunConfig
    device: torch.device
    engine: Engine
    epochs: int
    repeats: int

    def _stack(self, runs: int, **changes: Any) -> Stack:
        configs = self.config.vary(**changes).grid(seed=list(range(runs)))
        return Stack(configs, self.device, engine=self.engine)

    def _seconds(self, stack: Stack, state: State, engine: Engine) -> float:
        return epoch_seconds(stack, state, self.epochs, engine) / len(stack.configs)

    def sizes(self, counts: Iterable[int]) -> pd.DataFrame:
        """Against the number of ``runs`` in a stack; and bytes a run, ``memory``."""
        rows = []
        for count in counts:
            made = []

            def one_epoch(count: int = count, made: list[Stack] = made) -> None:
                made.append(self._stack(count))
                training(made[0], made[0].fresh(), 1, self.engine)()

            memory = peak_memory(one_epoch, self.device) / count
            for repeat in range(self.repeats):
                seconds = self._seconds(made[0], made[0].fresh(), self.engine)
                rows.append({"runs": count, "repeat": repeat, "seconds": seconds, "memory": memory})
        return pd.DataFrame(rows)

    def densities(self, runs: int, shares: Iterable[float]) -> pd.DataFrame:
        """Against the share of weights left, the ``density``; with products of what is left and with dense ones, in
        turn (``way``). The networks are trained for as many epochs first, and pruned by magnitude."""
        stack = self._stack(runs)
        state = stack.fresh()
        weights = training(stack, state, self.epochs, self.engine)()
        rows = []
        for share in shares:
            thinned = pruned(stack, State(weights, state.masks, stack.network.buffers()), share)
            for repeat in range(self.repeats):
                for way, how in (("dense products", replace(self.engine, sparse=False)), ("what is left", self.engine)):
                    seconds = self._seconds(stack, thinned, how)
                    rows.append({"density": share, "way": way, "repeat": repeat, "seconds": seconds})
        return pd.DataFrame(rows)

    def widths(self, runs: int, widths: Iterable[Any]) -> pd.DataFrame:
        """Against the model's ``width``; and the ``rate`` of arithmetic, in FLOP/s."""
        rows = []
        for width in widths:
            stack = self._stack(runs, model_args=self.config.model_args | {"width": width})
            samples, first = stack.data.rows.shape[1], next(iter(stack.cost[0].values()))
            flops = 2 * (training_flops(*stack.cost, samples) - samples * first)  # nobody asks for the images' gradient
            training(stack, stack.fresh(), 1, self.engine)()  # for whatever is done the first time only
            for repeat in range(self.repeats):
                seconds = self._seconds(stack, stack.fresh(), self.engine)
                rows.append({"width": width, "repeat": repeat, "seconds": seconds, "rate": flops / seconds})
        return pd.DataFrame(rows)


def product_rate(device: torch.device, dtype: torch.dtype = torch.float32, size: int = 2048, repeats: int = 5) -> float:
    """The machine's own rate at a square matrix product, in FLOP/s (a multiply-add counts twice); on one thread where
    it is a CPU. The best of a few."""
    a, b = torch.randn(2, size, size, device=device, dtype=dtype)
    with settings(device, FAST if dtype != torch.float32 else PLAIN):
        return 2 * size**3 / min(timed(lambda: a @ b, device)[0] for _ in range(repeats))


def name(device: torch.device) -> str:
    """A GPU's own name, or one core of the processor's."""
    machine = describe_machine(device)
    return f"an {machine['device']}" if device.type == "cuda" else f"one core of an {machine['processor']}"


def peak_memory(work: Callable[[], Any], device: torch.device) -> float:
    """Bytes: the most memory that it took, beyond what was taken before; of the RAM, in whole pages and only on Linux,
    else not a number."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    try:
        ctypes.CDLL(None).malloc_trim(0)  # memory that was freed goes back to the system, so that it counts again
        Path("/proc/self/clear_refs").write_text("5")  # sets the peak back
        before = _resident("VmRSS")
    except (OSError, AttributeError):
        before = np.nan
    work()
    return np.nan if np.isnan(before) else float(_resident("VmHWM") - before)


def _resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
