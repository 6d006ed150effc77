"""Many runs → the store: skip the finished, teachers first, stack what can be stacked, dispatch, show progress."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from collections import defaultdict
from pathlib import Path

import torch

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import identity
from dsdlib.engine.device import Engine, settings
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack, State
from dsdlib.study.files import load_tensors
from dsdlib.study.provenance import describe_machine
from dsdlib.study.runs import Wanted, first_round, is_finished, load_model
from dsdlib.study.store import REWIND, Store


def train_stack(
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
        if not is_finished(store, config, wanted[config]):
            place = store
            if again := store.complete(config):
                place = store.again()
                place.set_aside_if_changed(config, identity(config))
            groups[again, first_round(place, config, wanted[config])].append(config)
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
        | identity(configs[0])
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
    run_rounds(stack, state, first, save, note if histories else None)
