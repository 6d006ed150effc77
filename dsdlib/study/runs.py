"""What a run needs: its sources first, what is missing of it, where it resumes; and loading what is stored."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.files import Damage, Row
from dsdlib.study.retrained import clean_up
from dsdlib.study.store import Store, best_round

if TYPE_CHECKING:
    from torch import Tensor, nn

# Runs to be trained, and of each the rounds whose weights are needed (numbers, "dense" or "best"), or "history".
Wanted = dict[RunConfig, set[int | str]]


WORDS = ("dense", "best")


def load_model(config: RunConfig, round_: int | str = "best", results: Path | str | None = None) -> nn.Module:
    """A run's network from the store, in evaluation mode, with the weights of a round.

    ``round_`` is a number, ``dense`` or ``best`` (by validation accuracy). Raises `ConfigError` if the run or the round
    does not exist, and FileNotFoundError if the round's weights were not kept.
    """
    from dsdlib.engine.build import build  # here, as a table of finished runs needs no torch

    store = Store(results)
    tensors = store.tensors(config, number := _existing_round(store, config, round_))
    network, weights = build(config), {name: t for name, t in tensors.items() if not name.startswith("mask.")}
    check_fit(config, number, weights, network.state_dict())
    network.load_state_dict(weights)
    return network.eval()


def check_fit(config: RunConfig, round_: int | str, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise `Damage` unless the stored tensors have the names, types and shapes of the ``expected`` ones."""
    described = [{name: f"{t.dtype} {tuple(t.shape)}" for name, t in tensors.items()} for tensors in (found, expected)]
    for name in sorted(found.keys() | expected.keys()):
        has, needs = (tensors.get(name, "absent") for tensors in described)
        if has != needs:
            where = f"the stored weights of round {round_} of run {config.key}"
            raise Damage(f"{where} do not fit its network: {name} is {has}, not {needs}")


def load_masks(config: RunConfig, round_: int | str = "best", results: Path | str | None = None) -> dict[str, Tensor]:
    """A run's masks of a round, by the weight's name: True where the weight was kept. Takes and raises what
    `load_model` does."""
    store = Store(results)
    tensors = store.tensors(config, _existing_round(store, config, round_))
    return {name.removeprefix("mask."): t for name, t in tensors.items() if name.startswith("mask.")}


def load_history(runs: Iterable[RunConfig], results: Path | str | None = None) -> pd.DataFrame:
    """Measures after every epoch: a row a run, round and epoch (from 0), with the run's ``key`` and ``seed``.

    Validation and test measures are those after the epoch; the last epoch's are those of the round's row of the table,
    except for rounding. Train measures are means over the epoch's batches, each before its step. The rows of the table
    name each round's ``best_epoch`` by validation accuracy, and its accuracies. Raises `ConfigError` for a run whose
    history is not in the store; ``sweep(..., keep=["history"])`` stores it.
    """
    store, rows = Store(results), []
    for config in runs:
        if not (history := store.history(config)):
            raise ConfigError(f"run {config.key}: its history is not in {store.root}; sweep it with keep=['history']")
        rows += [{"key": config.key, "seed": config.seed, **row} for row in history]
    return pd.DataFrame(rows)


def _existing_round(store: Store, config: RunConfig, round_: int | str) -> int:
    if not (rows := store.rows(config)):
        raise ConfigError(f"run {config.key} is not in {store.root}")
    return _number(round_, rows)


def _number(round_: int | str, rows: list[Row]) -> int:
    number = {"dense": 0, "best": best_round(rows)}.get(round_, round_)
    if number not in range(len(rows)):
        raise ConfigError(f"round {round_!r}: unknown; allowed: dense, best, 0 to {len(rows) - 1}")
    return number


def sources_first(runs: list[RunConfig]) -> list[list[RunConfig]]:
    """All runs, their teachers and starts, in levels: the sources of a run are in earlier levels."""
    levels = defaultdict(dict)

    def place(config: RunConfig) -> int:
        level = max((1 + place(source) for source in config.sources().values()), default=0)
        levels[level][config] = None
        return level

    for config in runs:
        place(config)
    return [list(levels[number]) for number in sorted(levels)]


def put_in_order(store: Store, levels: list[list[RunConfig]]) -> None:
    """Clean up after killed processes, and set aside runs whose data or network have changed under the same name.

    Where the data set is absent this cannot be checked, and the runs stay. Published runs are not checked.
    """
    begun = []
    for config in (config for level in levels for config in level):
        clean_up(store, config)
        if store.folder(config).exists() and store.rows(config):
            begun.append(config)
    for group in _by_shape(begun):
        if (now := _identity(group[0])) is not None:
            for config in group:
                store.set_aside_if_changed(config, now)


def _by_shape(configs: list[RunConfig]) -> Iterable[list[RunConfig]]:
    """Runs that share their data and their network, together."""
    if not configs:
        return []
    from dsdlib.engine.build import stack_shape

    groups = defaultdict(list)
    for config in configs:
        groups[stack_shape(config)].append(config)
    return groups.values()


def _identity(config: RunConfig) -> dict[str, str] | None:
    """The run's `identity`, or None if its data set or network cannot be loaded here."""
    from dsdlib.engine.build import identity

    try:
        return identity(config)
    except (ConfigError, OSError, ImportError):
        return None
    except Exception as error:  # a user's own loader may raise anything
        warnings.warn(f"run {config.key} was not compared with {config.dataset}, which raised {error!r}", stacklevel=4)
        return None


def still_wanted(store: Store, levels: list[list[RunConfig]], runs: list[RunConfig], keep: set[int | str]) -> Wanted:
    """The runs that are not finished. Teachers and starts are among them only if an unfinished run needs them."""
    requested = dict.fromkeys(runs)
    needed: Wanted = defaultdict(set)
    wanted: Wanted = {}
    for config in (config for level in reversed(levels) for config in level):
        if config in requested:
            needed[config] |= {what for what in keep if isinstance(what, str) or what <= config.rounds}
        elif config not in needed:
            continue
        if not is_finished(store, config, needed[config]):
            wanted[config] = needed[config]
            for role, source in config.sources().items():
                needed[source].add(getattr(config, f"{role}_round"))
    return wanted


def is_finished(store: Store, config: RunConfig, wanted: set[int | str]) -> bool:
    """Whether all rounds are stored, and what is ``wanted`` besides."""
    rows = store.rows(config)
    if len(rows) <= config.rounds or not store.holds(config, _rounds(wanted, rows)):
        return False
    return "history" not in wanted or bool(store.history(config))


def kept(store: Store, config: RunConfig) -> set[int | str]:
    """What is stored of a run besides its table: rounds whose weights are kept, and ``history``.

    Of an unfinished run, weights do not count that are there only to resume it: those of its last and its best round,
    and those of a round that was stopped before its row was stored.
    """
    rows, needed = store.rows(config), set()
    if rows and len(rows) <= config.rounds:
        needed = {len(rows), len(rows) - 1, best_round(rows)}
    return (store.rounds_kept(config) - needed) | ({"history"} if store.history(config) else set())


def _rounds(wanted: set[int | str], rows: list[Row]) -> set[int]:
    """The numbers of the finished rounds whose weights are wanted."""
    numbers = {_number(what, rows) for what in wanted if what in WORDS}
    return numbers | {what for what in wanted if isinstance(what, int) and what < len(rows)}


def first_round(store: Store, config: RunConfig, wanted: set[int | str]) -> int:
    """The round to train next: the one after the last finished one, or 0 if something that is wanted was not kept."""
    if not (rows := store.rows(config)):
        return 0
    if "history" in wanted and not store.history(config):
        return 0
    rounds = {len(rows) - 1, 0, best_round(rows)} | _rounds(wanted, rows)
    return len(rows) if store.holds(config, rounds, rewinds=config.rewind_iteration > 0) else 0
