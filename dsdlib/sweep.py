"""Many runs → the store: skip the finished, teachers first, stack what can be stacked, dispatch, show progress."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from heapq import heapreplace
from math import ceil
from pathlib import Path

import joblib
import pandas as pd
import torch
from torch import nn
from tqdm import tqdm

from dsdlib import imp
from dsdlib.config import ConfigError, RunConfig
from dsdlib.imp import Stack, State
from dsdlib.results import REWIND, Store, best_round, describe_machine, load_tensors
from dsdlib.training import Engine, settings

# Runs to be trained, and of each the rounds whose weights somebody needs: numbers, "dense" or "best"; or "history".
Wanted = dict[RunConfig, set[int | str]]
WORDS = ("dense", "best")


def sweep(
    runs: Iterable[RunConfig],
    *,
    jobs: int = 1,
    device: str = "auto",
    engine: str = "auto",
    results: Path | str | None = None,
    keep: Iterable[int | str] = (),
    stack_size: int = 12,
    progress: bool = True,
) -> pd.DataFrame:
    """Train the runs that are not in the store yet and return the tidy table of them all, a row a run and round.

    ``jobs`` worker processes (−1: one a core), each on one thread, take stacks of at most ``stack_size`` runs through
    joblib, whose `parallel_config` may send them elsewhere; a stack that the memory does not hold is halved. ``engine``
    is ``plain``, all in float32, ``fast`` (bfloat16 activations and compiled code for convolutional networks; CUDA
    graphs on a GPU), or ``auto``: fast on a GPU and plain on a CPU. ``keep`` names what must be in the store besides:
    rounds whose weights stay (numbers, ``dense``, ``best``), and ``history``, the measures after every epoch; a
    finished run without them is trained again. Killed at any moment, the same call goes on from the last finished
    rounds. Finished runs are read even where their data set is absent, and need no teacher and no start. Raises
    `ConfigError` before any training when a run is impossible.
    """
    runs, keep = list(dict.fromkeys(runs)), set(keep)
    target = imp.resolve_device(device)
    speed = imp.resolve_engine(engine, target)
    if not (type(jobs) is type(stack_size) is int and stack_size >= 1 and (jobs >= 1 or jobs == -1)):
        raise ConfigError(f"stack_size = {stack_size!r}, jobs = {jobs!r}: whole numbers from 1, or jobs = -1")
    if odd := [r for r in keep if r not in (*WORDS, "history") and not (isinstance(r, int) and r >= 0)]:
        raise ConfigError(f"keep = {odd}: unknown; allowed: dense, best, numbers of rounds from 0, history")
    store = Store(results)
    levels = _sources_first(runs)
    _set_aside_changed(store, levels)
    wanted = _wanted(store, levels, runs, keep)
    for config in {config.vary(seed=0): config for config in wanted}.values():
        imp.check(config)
    with _progress(store, [*runs, *(config for config in wanted if config not in runs)], progress):
        for level in levels:
            pending = [config for config in level if config in wanted]
            for wait in (False, True):  # for runs that somebody else is training, last of all
                stacks = _stacks(pending, jobs, stack_size)
                how = wanted, store.root, str(target), speed, wait
                work = (joblib.delayed(_train_stack)(stack, *how) for stack in stacks)
                busy = joblib.Parallel(n_jobs=max(1, min(joblib.effective_n_jobs(jobs), len(stacks))))(work)
                pending = [config for runs_left in busy for config in runs_left]
    return store.table(runs)


def load_model(config: RunConfig, round_: int | str = "best", results: Path | str | None = None) -> nn.Module:
    """A run's network from the store, its weights those of a round: a number, ``dense`` or ``best`` (on validation)."""
    store = Store(results)
    tensors = store.tensors(config, _round_number(store, config, round_))
    network = imp.build(config)
    network.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("mask.")})
    return network.eval()


def load_masks(
    config: RunConfig, round_: int | str = "best", results: Path | str | None = None
) -> dict[str, torch.Tensor]:
    """A run's masks of a round, by weight: True where it was kept."""
    store = Store(results)
    tensors = store.tensors(config, _round_number(store, config, round_))
    return {name.removeprefix("mask."): t for name, t in tensors.items() if name.startswith("mask.")}


def load_history(runs: Iterable[RunConfig], results: Path | str | None = None) -> pd.DataFrame:
    """Measures after every epoch: a row a run, round and epoch (from 0), with the run's ``key`` and ``seed``. A round's
    last epoch is its row of the table, to rounding. Raises `ConfigError` for a run whose history is not in the store:
    ``sweep(..., keep=["history"])`` puts it there."""
    store, rows = Store(results), []
    for config in runs:
        if not (history := store.history(config)):
            raise ConfigError(f"run {config.key}: its history is not in {store.root}; sweep it with keep=['history']")
        rows += [{"key": config.key, "seed": config.seed, **row} for row in history]
    return pd.DataFrame(rows)


def _round_number(store: Store, config: RunConfig, round_: int | str) -> int:
    if not (rows := store.rows(config)):
        raise ConfigError(f"run {config.key} is not in {store.root}")
    return _number(round_, rows)


def _number(round_: int | str, rows: list[dict]) -> int:
    number = {"dense": 0, "best": best_round(rows)}.get(round_, round_)
    if number not in range(len(rows)):
        raise ConfigError(f"round {round_!r}: unknown; allowed: dense, best, 0 to {len(rows) - 1}")
    return number


def _sources_first(runs: list[RunConfig]) -> list[list[RunConfig]]:
    """All runs, their teachers and starts, in levels: what a run needs stands in an earlier level."""
    levels = defaultdict(dict)

    def place(config: RunConfig) -> int:
        level = max((1 + place(source) for source in config.sources().values()), default=0)
        levels[level][config] = None
        return level

    for config in runs:
        place(config)
    return [list(levels[number]) for number in sorted(levels)]


def _set_aside_changed(store: Store, levels: list[list[RunConfig]]) -> None:
    """Runs begun with other data or another network than their names stand for today. Where the data are absent that
    cannot be told, and the runs stand."""
    begun = defaultdict(list)
    for config in (config for level in levels for config in level):
        if store.rows(config):
            begun[imp.stack_shape(config)].append(config)
    for group in begun.values():
        with suppress(Exception):  # a user's own loader may raise anything; unfinished runs are checked again
            now = imp.identity(group[0])
            for config in group:
                store.set_aside_if_changed(config, now)


def _wanted(store: Store, levels: list[list[RunConfig]], runs: list[RunConfig], keep: set[int | str]) -> Wanted:
    """What is not finished yet, runs before their sources: a teacher or a start is needed by unfinished runs alone."""
    asked = dict.fromkeys(runs)
    needed: Wanted = defaultdict(set)
    wanted: Wanted = {}
    for config in (config for level in reversed(levels) for config in level):
        if config in asked:
            needed[config] |= {what for what in keep if isinstance(what, str) or what <= config.rounds}
        elif config not in needed:
            continue
        if not _finished(store, config, needed[config]):
            wanted[config] = needed[config]
            for role, source in config.sources().items():
                needed[source].add(getattr(config, f"{role}_round"))
    return wanted


def _finished(store: Store, config: RunConfig, wanted: set[int | str]) -> bool:
    rows = store.rows(config)
    if len(rows) <= config.rounds or not store.holds(config, _rounds(wanted, rows)):
        return False
    return "history" not in wanted or bool(store.history(config))


def _rounds(wanted: set[int | str], rows: list[dict]) -> set[int]:
    """The numbers of those rounds whose weights are wanted that are finished."""
    numbers = {_number(what, rows) for what in wanted if what in WORDS}
    return numbers | {what for what in wanted if isinstance(what, int) and what < len(rows)}


def _stacks(pending: list[RunConfig], jobs: int, stack_size: int) -> list[list[RunConfig]]:
    """Same-shaped runs together, the longest stacks first; in as few as keep every worker busy to the end."""
    groups = defaultdict(list)
    for config in pending:
        groups[imp.stack_shape(config)].append(config)
    workers = joblib.effective_n_jobs(jobs)
    work = {shape: imp.work(group[0]) for shape, group in groups.items()}
    largest = {shape: stack_size if imp.stackable(group[0]) else 1 for shape, group in groups.items()}
    share = sum(work[shape] * len(group) for shape, group in groups.items()) / workers

    def cut(parts: int) -> list[tuple[float, list[RunConfig]]]:
        """Stacks and how long they take, none much longer than that part of a worker's share."""
        stacks = []
        for shape, group in groups.items():
            pieces = ceil(len(group) / min(largest[shape], ceil(share / parts / work[shape])))
            stacks += [group[first::pieces] for first in range(pieces)]
        # What a stack costs besides its runs was measured to be about what one more run would cost.
        lengths = [work[imp.stack_shape(stack[0])] * (len(stack) + 1) for stack in stacks]
        return sorted(zip(lengths, stacks, strict=True), key=lambda stack: stack[0], reverse=True)

    best = min(map(cut, range(1, 5)), key=lambda stacks: _time([length for length, _ in stacks], workers))
    return [stack for _, stack in best]


def _time(lengths: list[float], workers: int) -> float:
    """How long the workers take, each going on with the next piece of work when it is done with one."""
    busy = [0.0] * workers
    for length in lengths:
        heapreplace(busy, busy[0] + length)
    return max(busy)


def _train_stack(
    configs: list[RunConfig], wanted: Wanted, root: Path, device: str, engine: Engine, wait: bool
) -> list[RunConfig]:
    """A worker's task. The runs it did not train, as somebody else does and it should not ``wait``."""
    _stop_if_orphaned()
    store = Store(root)
    with store.locked(configs, wait) as mine, settings(torch.device(device), engine):
        _carry_on(mine, wanted, store, torch.device(device), engine)
    return [config for config in configs if config not in mine]


def _stop_if_orphaned() -> None:
    """A worker whose sweep was killed would otherwise do all that is queued."""
    boss = multiprocessing.parent_process()
    if boss is not None and os.getppid() != boss.pid:
        os._exit(1)


def _carry_on(configs: list[RunConfig], wanted: Wanted, store: Store, device: torch.device, engine: Engine) -> None:
    """What is finished meanwhile is skipped; runs that stopped in different rounds go on apart, and so do the halves of
    a stack that the memory does not hold. A complete run that lacks something wanted is trained once more beside what
    there is of it, which stays until then."""
    groups = defaultdict(list)
    wanted = {config: wanted[config] | store.kept(config) for config in configs}
    for config in configs:
        if not _finished(store, config, wanted[config]):
            place = store
            if again := store.complete(config):
                place = store.again()
                place.set_aside_if_changed(config, imp.identity(config))
            groups[again, _resumable(place, config, wanted[config])].append(config)
    for (again, first), group in groups.items():
        try:
            _carry_through(group, first, wanted, store, store.again() if again else store, device, engine)
            for config in group if again else ():
                store.adopt(config)
            continue
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            if len(group) == 1:
                raise ConfigError(f"run {group[0].key}: the memory of {device} does not hold it ({error})") from error
        if device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(group) // 2
        warnings.warn(f"{device} has no memory for a stack of {len(group)} runs: it is halved", stacklevel=2)
        for part in (group[:half], group[half:]):
            _carry_on(part, wanted, store, device, engine)


def _out_of_memory(error: BaseException) -> bool:
    """A GPU's own error, Python's, or PyTorch's of a CPU, which has no class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return True
    return error.__context__ is not None and _out_of_memory(error.__context__)  # the recording of a graph hides it


def _resumable(store: Store, config: RunConfig, wanted: set[int | str]) -> int:
    """The round to go on with: after the last finished one, or 0 when something that is wanted was not kept."""
    if not (rows := store.rows(config)):
        return 0
    if "history" in wanted and not store.history(config):
        return 0
    rounds = {len(rows) - 1, 0, best_round(rows)} | _rounds(wanted, rows)
    return len(rows) if store.holds(config, rounds, rewinds=config.rewind_iteration > 0) else 0


def _carry_through(
    configs: list[RunConfig],
    first: int,
    wanted: Wanted,
    store: Store,
    place: Store,
    device: torch.device,
    engine: Engine,
) -> None:
    """From round ``first`` on, in the store ``place``; teachers and starts come from ``store``."""
    teachers = [load_model(c.teacher, c.teacher_round, store.root) for c in configs if c.teacher is not None]
    starts = [load_model(c.start, c.start_round, store.root) for c in configs if c.start is not None]
    stack = Stack(configs, device, teachers, engine, starts)
    session = (
        describe_machine(device)
        | imp.identity(configs[0])
        | {"engine": engine.described(not stack.network.stackable, device)}
    )
    finished = {config: place.rows(config)[:first] for config in configs}
    histories = {c: place.history(c) if first > 0 else [] for c in configs if "history" in wanted[c] | place.kept(c)}
    for config in configs:
        place.begin(config, session, again=first > 0)

    def save(round_: int, state: State, rows: list[dict]) -> None:
        for run, (config, row) in enumerate(zip(configs, rows, strict=True)):
            if round_ == 0 and config.rewind_iteration > 0:
                place.save_tensors(place.folder(config) / REWIND, stack.tensors(stack.rewind_point, run))
            finished[config].append(row)
            kept = wanted[config], histories.get(config)
            place.save_round(config, finished[config], stack.tensors(state, run), *kept)
        _stop_if_orphaned()

    def note(round_: int, epoch: int, runs: list[int], rows: list[dict]) -> None:
        for run, row in zip(runs, rows, strict=True):
            if configs[run] in histories:
                histories[configs[run]].append({"round": round_, "epoch": epoch, **row})

    state = stack.fresh() if first == 0 else stack.restore([place.tensors(c, first - 1) for c in configs])
    if first > 0 and any(config.schedule == "one_shot" for config in configs):
        stack.dense = stack.restore([place.tensors(c, 0) for c in configs])
    if first > 0 and stack.shared.rewind_iteration > 0:
        stack.rewind_point = stack.restore([load_tensors(place.folder(c) / REWIND) for c in configs])
    imp.run_rounds(stack, state, first, save, note if histories else None)


@contextmanager
def _progress(store: Store, configs: list[RunConfig], show: bool) -> Iterator[None]:
    """One bar over all rounds of all runs, fed by a glance at the store: it does not matter who does the work."""
    total = sum(config.rounds + 1 for config in configs)

    def count() -> int:
        return sum(store.rounds_done(config) for config in configs)

    stop = threading.Event()
    live = sys.stdout.isatty() or "ipykernel" in sys.modules
    bar = tqdm(
        total=total,
        initial=count(),
        desc=f"{len(configs)} run{'s' * (len(configs) != 1)}",
        unit="round",
        file=sys.stdout,
        disable=not show or count() == total,
        mininterval=1 if live else 10,
        dynamic_ncols=False,
        ncols=90,
    )

    def watch() -> None:
        while not stop.wait(1):
            bar.update(count() - bar.n)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
        bar.update(count() - bar.n)
        bar.close()
