"""Runs that are declared on the command line, trained some minutes at a time, and packed into one file of tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.rows import Row
from dsdlib.study.archive import publish
from dsdlib.study.store import Store


def declared(files: Sequence[Path], changes: dict[str, Any]) -> list[RunConfig]:
    """The runs of the recipes in some files of parameters, with fields changed.

    Of each file its ``recipe`` and its ``own_recipe`` count; later ones replace fields of earlier ones. A list of
    values stands for a run with each; with several lists, for a run with each combination. Raises `ConfigError`.
    """
    recipe: dict[str, Any] = {}
    for file in files:
        try:
            content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
            if not isinstance(content, dict):
                raise ValueError("it is not a mapping")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise ConfigError(f"{file}: cannot be read ({' '.join(str(error).split())})") from None
        for name in ("recipe", "own_recipe"):
            recipe |= content.get(name) or {}
    axes = {name: values for name, values in changes.items() if isinstance(values, list) and name != "milestones"}
    single = {name: value for name, value in changes.items() if name not in axes}
    return RunConfig(**recipe | single).grid(**axes)


def finished(store: Store, runs: Iterable[RunConfig]) -> dict[RunConfig, tuple[list[Row], list[Row]]]:
    """Those of the runs whose rounds are all finished, with their rows and provenance, as `publish` takes them."""
    return {run: (store.rows(run), store.provenance(run)) for run in runs if store.complete(run)}


def pack(store: Store, runs: Sequence[RunConfig], folder: Path) -> list[Path]:
    """Write the runs' finished rounds as ``rounds.csv``, and finished runs as ``tables.parquet``, as `publish` does.

    Returns the files that there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, tables = folder / "rounds.csv", folder / "tables.parquet"
    store.table(runs).to_csv(table, index=False)
    if done := finished(store, runs):
        publish(tables, done, replace=True)
    return [table, tables] if tables.exists() else [table]
