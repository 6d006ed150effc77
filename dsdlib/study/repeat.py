"""Train a published run again on this machine, and compare the numbers round by round."""

from __future__ import annotations

import tempfile

import pandas as pd

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.archive import Row
from dsdlib.study.sweep import sweep

COMPARED = ("test_accuracy", "train_accuracy", "test_loss", "train_loss")


def published_run(runs: list[RunConfig], key: str | None) -> RunConfig:
    """The published run with this key, or without one the first that needs no other run's weights.

    A key may be shortened to its first digits. Raises `ConfigError` if no run or more than one begins with them.
    """
    if key is None:
        found = [run for run in runs if not run.sources()][:1]
    else:
        found = [run for run in runs if run.key.startswith(key)]
    if len(found) != 1:
        raise ConfigError(f"key = {key!r}: {len(found)} published runs begin so; one of {len(runs)} must")
    return found[0]


def repeat(config: RunConfig, published: list[Row], rounds: int | None = None) -> pd.DataFrame:
    """Train ``config`` again, in a store of its own, and compare it with its published rows.

    ``rounds`` pruning steps are trained (default: all). Returns a row for each round, with the sparsity and the
    absolute difference of each measure in `COMPARED`. The archive must be hidden (``DSDLIB_FRESH``), as the run would
    otherwise be read from it.
    """
    last = config.rounds if rounds is None else rounds
    if not 0 <= last <= config.rounds:
        raise ConfigError(f"rounds = {last}: the run has 0 to {config.rounds}")
    with tempfile.TemporaryDirectory(prefix="dsdlib-repeat-") as folder:
        here = sweep([config.vary(rounds=last)], results=folder)
    there = pd.DataFrame(published)[: last + 1]
    names = [name for name in COMPARED if name in here and name in there]
    apart = (here[names].reset_index(drop=True) - there[names].reset_index(drop=True)).abs()
    return pd.concat([there[["round", "sparsity"]].reset_index(drop=True), apart], axis=1)
