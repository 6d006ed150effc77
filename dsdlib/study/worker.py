"""A worker's task: train or resume one stack of runs, and store every finished round."""

from __future__ import annotations

import time
import traceback
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import identity
from dsdlib.engine.device import Engine, resolve_device, resolve_engine, settings
from dsdlib.engine.partial import Partial
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.rows import best_epoch, mark_diverged
from dsdlib.engine.stack import Stack, State
from dsdlib.study.files import Row
from dsdlib.study.interrupt import gentle_stop
from dsdlib.study.partial import EVERY, load, remove, save
from dsdlib.study.provenance import describe_machine
from dsdlib.study.retrained import adopt, again
from dsdlib.study.runs import Wanted, check_fit, first_round, is_finished, kept, load_model
from dsdlib.study.store import Store

# Runs of a stack, each with its partial state, {} if it has none, and the history of the round so far.
Group = dict[RunConfig, tuple[Partial, list[Row]]]


@dataclass(frozen=True)
class Task:
    """What a worker needs besides its runs. ``wanted`` names what must be stored of each run besides its table.

    The ``device`` and the ``engine`` are named as in `sweep`, until the worker looks which of them its machine has.
    """

    wanted: Wanted
    root: Path
    device: str
    engine: str | Engine


def train_stack(configs: list[RunConfig], task: Task, wait: bool) -> list[RunConfig]:
    """Train runs of one shape and store them. Returns the runs that were skipped.

    Without ``wait`` these are the runs that another process is training.
    """
    store, device = Store(task.root), resolve_device(task.device)
    task = replace(task, device=str(device), engine=resolve_engine(task.engine, device))
    with store.locked(configs, wait) as mine, settings(device, task.engine):
        if mine:
            _train(mine, task, store)
    return [config for config in configs if config not in mine]


def _train(configs: list[RunConfig], task: Task, store: Store) -> None:
    """Train what is not finished. Runs that stopped in different rounds or epochs are resumed in different stacks.

    A complete run that lacks something wanted is retrained in another store, and replaces the old one when it is done.
    """
    task = replace(task, wanted={config: task.wanted[config] | kept(store, config) for config in configs})
    groups, now = defaultdict(dict), identity(configs[0])  # runs of one shape share data and network
    for config in configs:
        store.set_aside_if_changed(config, now)
        if not is_finished(store, config, task.wanted[config]):
            place = store
            if store.complete(config):
                place = again(store)
                place.set_aside_if_changed(config, now)
            first = first_round(place, config, task.wanted[config])
            partial, history = load(place, config, first, now, "history" in task.wanted[config]) or ({}, [])
            groups[place is not store, first, int(partial.get("epoch", 0))][config] = partial, history
    for (retrained, first, _), group in groups.items():
        try:
            _train_group(group, first, task, store, again(store) if retrained else store)
        except (RuntimeError, MemoryError) as error:
            if not _out_of_memory(error):
                raise
            _halve([*group], error, task, store)
        else:
            for config in group if retrained else ():
                adopt(store, config)


def _out_of_memory(error: BaseException) -> bool:
    """Whether it is the error of a GPU, of Python, or of PyTorch on a CPU, which has no class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error):
        return True
    return error.__context__ is not None and _out_of_memory(error.__context__)  # graph capture wraps the error


def _halve(configs: list[RunConfig], error: BaseException, task: Task, store: Store) -> None:
    """Train the two halves of a stack for which the memory was too small."""
    if len(configs) == 1:
        raise ConfigError(f"run {configs[0].key}: the memory of {task.device} does not hold it ({error})") from error
    traceback.clear_frames(error.__traceback__)  # which hold the stack in memory
    if torch.device(task.device).type == "cuda":
        torch.cuda.empty_cache()
    half = len(configs) // 2
    warnings.warn(f"{task.device} has no memory for a stack of {len(configs)} runs: it is halved", stacklevel=2)
    for part in (configs[:half], configs[half:]):
        _train(part, task, store)


def _train_group(group: Group, first: int, task: Task, store: Store, place: Store) -> None:
    """Train one stack from round ``first`` on, in the store ``place``. Teachers and starts come from ``store``.

    The runs go on with their ``partial`` states, all of one epoch, if they have them.
    """
    configs, partials = [*group], [partial for partial, _ in group.values() if partial]
    teachers = [load_model(c.teacher, c.teacher_round, store.root) for c in configs if c.teacher is not None]
    starts = [load_model(c.start, c.start_round, store.root) for c in configs if c.start is not None]
    device = torch.device(task.device)
    stack = Stack(configs, device, teachers, task.engine, starts)
    now = identity(configs[0])
    entry = describe_machine(device) | now
    entry["engine"] = stack.engine.described(not stack.network.stackable, device)
    for config in configs:
        place.begin(config, entry, resume=first > 0 or bool(partials))
    state = stack.fresh() if first == 0 else _restored(stack, first, place)
    with gentle_stop() as asked:
        recorder = _Recorder(stack, first, task.wanted, place, now, asked)
        for config, (_, history) in group.items():
            if config in recorder.histories:
                recorder.histories[config] += history
        save_epoch = recorder.save_epoch if recorder.histories else None
        run_rounds(stack, state, first, recorder.save_round, save_epoch, recorder.checkpoint, partials)


def _restored(stack: Stack, first: int, place: Store) -> State:
    """The stored state before round ``first``; the dense state and the rewinding point are restored, too."""
    if any(config.schedule == "one_shot" for config in stack.configs):
        stack.dense = _loaded(stack, 0, place)
    if stack.shared.rewind_iteration > 0:
        stack.rewind_point = _loaded(stack, "rewind", place)
    return _loaded(stack, first - 1, place)


def _loaded(stack: Stack, round_: int | str, place: Store) -> State:
    expected, tensors = stack.tensors(stack.fresh(), 0), []
    for config in stack.configs:
        tensors.append(place.rewind_point(config) if round_ == "rewind" else place.tensors(config, round_))
        check_fit(config, round_, tensors[-1], expected)
    return stack.restore(tensors)


class _Recorder:
    """Stores the rounds and epochs of a stack in training, after those that were finished before.

    Every two minutes, and if ``asked()`` to stop, it stores what the runs need to go on from the end of an epoch.
    """

    def __init__(
        self,
        stack: Stack,
        first: int,
        wanted: Wanted,
        place: Store,
        now: dict[str, str],
        asked: Callable[[], bool],
    ):
        self.stack, self.wanted, self.place, self.now, self.asked = stack, wanted, place, now, asked
        self.pending, self.saved = {}, time.monotonic()
        self.rows = {config: place.rows(config)[:first] for config in stack.configs}
        recorded = [c for c in stack.configs if "history" in wanted[c] | kept(place, c)]
        self.histories = {config: place.history(config) if first > 0 else [] for config in recorded}

    def save_round(self, round_: int, state: State, rows: list[Row]) -> None:
        for run, (config, row) in enumerate(zip(self.stack.configs, rows, strict=True)):
            if round_ == 0 and config.rewind_iteration > 0:
                self.place.save_rewind_point(config, self.stack.tensors(self.stack.rewind_point, run))
            if (history := self.histories.get(config)) is not None:
                row |= best_epoch([epoch for epoch in history if epoch["round"] == round_])
            self.rows[config] = mark_diverged([*self.rows[config], row])
            also = self.wanted[config], history
            self.place.save_round(config, self.rows[config], self.stack.tensors(state, run), *also)
            remove(self.place, config)
        self.pending, self.saved = {}, time.monotonic()

    def save_epoch(self, round_: int, epoch: int, runs: list[int], rows: list[Row]) -> None:
        for run, row in zip(runs, rows, strict=True):
            if (history := self.histories.get(self.stack.configs[run])) is not None:
                history.append({"round": round_, "epoch": epoch, **row})

    def checkpoint(self, round_: int, runs: list[int], partials: Callable[[], list[Partial]]) -> None:
        """Store the partial states of all runs if it is time; raise KeyboardInterrupt if asked to stop.

        Runs with other sparse layers are trained one after the other: those that wait for the end of the round are
        stored with those in training.
        """
        self.pending[tuple(runs)] = partials
        stopping = self.asked()
        if not stopping and time.monotonic() - self.saved < EVERY:
            return
        for positions, states in self.pending.items():
            for run, partial in zip(positions, states(), strict=True):
                config = self.stack.configs[run]
                history = self.histories.get(config)
                rows = None if history is None else [epoch for epoch in history if epoch["round"] == round_]
                save(self.place, config, round_, partial, self.now, rows)
        self.pending, self.saved = {}, time.monotonic()
        if stopping:
            raise KeyboardInterrupt
