"""Many runs into the store: plan, dispatch, show progress."""

from __future__ import annotations

import sys
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import nullcontext
from functools import partial
from heapq import heapreplace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.executors import check_executor, resolve_executor
from dsdlib.study.locks import holder
from dsdlib.study.parallel import WorkerDied, dispatch, local, size, worker_count
from dsdlib.study.progress import Draw, show_progress
from dsdlib.study.runs import WORDS, Wanted, put_in_order, sources_first, still_wanted
from dsdlib.study.store import Store

if TYPE_CHECKING:
    from dsdlib.study.worker import Task

STACK_SIZE = 12  # the most runs that are trained together


def sweep(
    runs: Iterable[RunConfig] | RunConfig,
    *,
    jobs: int = 1,
    executor: Executor | str | None = None,
    device: str = "auto",
    engine: str = "auto",
    results: Path | str | None = None,
    keep: Iterable[int | str] = (),
    progress: bool | Draw = True,
) -> pd.DataFrame:
    """Train the runs that are not in the store yet. Returns the tidy table of all runs, a row a run and round.

    ``jobs`` worker processes on this machine (−1: one a core, the most there can be, and one on a GPU) with one thread
    each train stacks of up to 12 runs. An ``executor``, any of `concurrent.futures` or a name as in the environment
    variable ``DSDLIB_EXECUTOR``, trains them elsewhere instead. A stack whose process dies is tried again, then halved;
    a run that dies alone is given up, and `WorkerDied` raised when all others are finished. The ``engine`` is
    ``plain``, all in float32, ``fast`` (bfloat16 activations and compiled code for convolutional networks; CUDA graphs
    on a GPU), or ``auto``: fast on a GPU and plain on a CPU. ``keep`` names what must be stored besides: rounds whose
    weights stay (numbers, ``dense``, ``best``), and ``history``, the measures after every epoch; a finished run that
    lacks them is retrained. ``progress`` shows a bar; a function is called besides with a table of each run's finished
    rounds when there are more, as by `dsdlib.report.growing`. If the process is killed, the same call resumes after the
    last finished rounds. Finished runs are read even if their data set is absent, and need no teacher and no start.
    Raises `ConfigError` before any training if a run is impossible.
    """
    runs, keep, workers = _checked_runs(runs), _checked_keep(keep), worker_count(jobs)
    executor, store, levels = check_executor(executor), Store(results), sources_first(runs)
    put_in_order(store, levels)
    wanted = still_wanted(store, levels, runs, keep)
    if wanted:
        executor = resolve_executor(executor)
        task = _checked_task(wanted, store, device, engine, executor is None)
        if jobs == -1 and task.device.startswith("cuda"):
            workers = 1  # each process would take memory of the GPU for a context of its own
        with show_progress(store, [*runs, *(config for config in wanted if config not in runs)], progress):
            _train(levels, task, executor, workers, bool(progress))
    table = store.table(runs)
    _warn_of_diverged(table)
    return table


def with_best_epoch(runs: Iterable[RunConfig], **options: Any) -> pd.DataFrame:
    """`sweep`, with the best epoch by validation accuracy in each row: ``best_epoch`` and its accuracies.

    Only runs whose history is recorded have these columns. The stored and published runs that lack them are trained
    again, with their history. Raises `ConfigError` for a run without validation data.
    """
    runs, store = _checked_runs(runs), Store(options.get("results"))
    for run in runs:
        if run.validation_fraction == 0:
            raise ConfigError(f"run {run.key}: has no validation data to choose an epoch by; set validation_fraction")
    if lacking := [run for run in runs if pd.isna([row.get("best_epoch") for row in store.rows(run)] or [None]).any()]:
        sweep(lacking, keep=["history"], **options)
    return sweep(runs, **options)


def _train(levels: list[list[RunConfig]], task: Task, executor: Executor | None, workers: int, progress: bool) -> None:
    """Train what is wanted, level by level. Raises `WorkerDied` at the end if runs were given up, or their sources."""
    given_up: dict[RunConfig, WorkerDied | None] = {}
    for level in levels:
        pending = [config for config in level if config in task.wanted]
        given_up |= {config: None for config in pending if given_up.keys() & config.sources().values()}
        given_up |= _train_level([c for c in pending if c not in given_up], task, executor, workers, progress)
    if causes := [str(cause) for cause in given_up.values() if cause]:
        without = [config.key for config, cause in given_up.items() if not cause]
        rest = f"; not trained, as they need these: {', '.join(without)}" * bool(without)
        raise WorkerDied("; ".join(causes) + rest + ". All others are finished")


def _checked_task(wanted: Wanted, store: Store, device: str, engine: str, here: bool) -> Task:
    """What a worker needs besides its runs, all of which are possible. A table of finished runs needs no torch.

    Workers that are not ``here`` may have other devices: they look for the ``device`` themselves.
    """
    import torch

    from dsdlib.engine.build import check
    from dsdlib.engine.device import resolve_device, resolve_engine
    from dsdlib.study.worker import Task

    target = resolve_device(device) if here else torch.device("cpu")
    resolve_engine(engine, target)
    store.check_writable()
    for config in {config.vary(seed=0): config for config in wanted}.values():
        check(config)
    return Task(wanted, store.root, str(target) if here else device, engine)


def _warn_of_diverged(table: pd.DataFrame) -> None:
    """Name the runs that have diverged, now or in an earlier call."""
    if table.empty:
        return
    for row in table[table["diverged"]].drop_duplicates("key").itertuples():
        warnings.warn(f"run {row.key} diverged in round {row.round} (lr = {row.lr})", stacklevel=3)


def _checked_runs(runs: Iterable[RunConfig] | RunConfig) -> list[RunConfig]:
    """The runs, each once; a single run counts as a list of one."""
    runs = [runs] if isinstance(runs, RunConfig) else runs
    runs = list(runs) if isinstance(runs, Iterable) else [runs]
    if odd := [run for run in runs if not isinstance(run, RunConfig)]:
        raise ConfigError(f"runs: {odd[0]!r} is not a RunConfig")
    return list(dict.fromkeys(runs))


def _checked_keep(keep: Iterable[int | str]) -> set[int | str]:
    if isinstance(keep, str) or not isinstance(keep, Iterable):
        raise ConfigError(f"keep = {keep!r}: a list, such as ['best', 3, 'history']")
    keep = list(keep)
    if odd := [r for r in keep if not (r in (*WORDS, "history") if isinstance(r, str) else type(r) is int and r >= 0)]:
        raise ConfigError(f"keep = {odd}: unknown; allowed: dense, best, numbers of rounds from 0, history")
    return set(keep)


def _train_level(
    pending: list[RunConfig], task: Task, executor: Executor | None, workers: int, progress: bool
) -> dict[RunConfig, WorkerDied]:
    """Train runs that do not need each other; last of all, wait for those that other processes are training. Returns
    the runs that were given up."""
    from dsdlib.study.worker import train_stack

    store, given_up = Store(task.root), {}
    for wait in (False, True):
        if wait and progress:
            _tell_whom_it_waits_for(pending, store)
        stacks = _stacks(pending, workers if executor is None else size(executor), STACK_SIZE)
        work, pending = partial(train_stack, task=task, wait=wait), []
        with nullcontext(executor) if executor else local(min(workers, len(stacks))) as chosen:
            for stack, outcome in dispatch(work, stacks, chosen, lambda stack: sum(map(store.rounds_done, stack))):
                if isinstance(outcome, WorkerDied):
                    given_up[stack[0]] = outcome
                else:
                    pending += outcome
    return given_up


def _tell_whom_it_waits_for(pending: list[RunConfig], store: Store) -> None:
    holders = Counter(found for config in pending if (found := holder(store.locks, config.key)))
    for found, count in holders.items():
        tqdm.write(f"waiting for {count} run{'s' * (count != 1)} that {found} is training", file=sys.stdout)


def _stacks(pending: list[RunConfig], workers: int, stack_size: int) -> list[list[RunConfig]]:
    """Runs of one shape together, the longest stacks first: as few stacks as keep every worker busy to the end."""
    from dsdlib.engine.build import stack_shape, stackable, training_cost

    groups = defaultdict(list)
    for config in pending:
        groups[stack_shape(config)].append(config)
    cost = {shape: training_cost(group[0]) for shape, group in groups.items()}
    largest = {shape: stack_size if stackable(group[0]) else 1 for shape, group in groups.items()}
    share = sum(cost[shape] * len(group) for shape, group in groups.items()) / workers

    def cut(parts: int) -> list[tuple[float, list[RunConfig]]]:
        """Stacks and how long they take, none much longer than that part of a worker's share."""
        stacks = []
        for shape, group in groups.items():
            pieces = ceil(len(group) / min(largest[shape], ceil(share / parts / cost[shape])))
            stacks += [group[first::pieces] for first in range(pieces)]
        # A stack was measured to cost about as much as its runs and one more.
        lengths = [cost[stack_shape(stack[0])] * (len(stack) + 1) for stack in stacks]
        return sorted(zip(lengths, stacks, strict=True), key=lambda stack: stack[0], reverse=True)

    best = min(map(cut, range(1, 5)), key=lambda stacks: _time([length for length, _ in stacks], workers))
    return [stack for _, stack in best]


def _time(lengths: list[float], workers: int) -> float:
    """How long the workers take if each begins the next piece of work when it has finished one."""
    busy = [0.0] * workers
    for length in lengths:
        heapreplace(busy, busy[0] + length)
    return max(busy)
