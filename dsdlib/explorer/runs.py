"""All finished runs of a store and of the published archive, in one table that is read in hundredths of a second.

The table is cached in the store, in the file `CACHE`. A run is read again when its files have changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from dsdlib.config import RunConfig
from dsdlib.study.archive import published_in
from dsdlib.study.damage import read_config
from dsdlib.study.files import write_whole
from dsdlib.study.store import CONFIG, ROUNDS, Store

CACHE = ".explorer.parquet"


@dataclass(frozen=True)
class Runs:
    """Finished runs: each one's configuration by its key, and a table of their measures.

    The ``table`` has a row for each run and round, with ``key``, ``seed`` and the measures, and no other columns of the
    configuration. ``sources`` maps each file that was read to the time and size that it had then, and ``origin`` maps
    each run's key to its file.
    """

    configs: dict[str, RunConfig] = field(default_factory=dict)
    table: pd.DataFrame = field(default_factory=pd.DataFrame)
    sources: dict[str, str] = field(default_factory=dict)
    origin: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        groups = {} if self.table.empty else self.table.groupby("key", sort=False).indices
        object.__setattr__(self, "_places", groups)

    def rows(self, keys: Iterable[str]) -> pd.DataFrame:
        """The rows of these runs."""
        places = [self._places[key] for key in keys]
        return self.table.take(np.concatenate(places)) if places else self.table.head(0)


def finished_runs(store: Store) -> Runs:
    """Every run of the store and of its archive that has all its rounds.

    A run that cannot be read is left out. A run with a folder in the store is taken from there, as everywhere.
    """
    files = _files(store)
    held = _read_cache(store.root / CACHE)
    changed = [name for name, stamp in files.items() if held.sources.get(name) != stamp]
    if not changed and held.sources.keys() == files.keys():
        return held
    stay = {key: name for key, name in held.origin.items() if name in files and name not in changed}
    read = {config.key: (config, name) for name in changed for config in _configs_in(Path(name))}
    new = measures(store, [config for config, _ in read.values()])
    done = new["key"].value_counts() if len(new) else {}
    fresh = [config for key, (config, _) in read.items() if done.get(key, 0) > config.rounds]
    finished = new[new["key"].isin([config.key for config in fresh])] if fresh else new.head(0)
    tables = [held.rows(key for key in stay if key not in read), finished]
    origin = {key: name for key, name in stay.items() if key not in read}
    configs = {key: held.configs[key] for key in origin} | {config.key: config for config in fresh}
    origin |= {config.key: read[config.key][1] for config in fresh}
    table = pd.concat([part for part in tables if not part.empty] or tables[:1], ignore_index=True)
    runs = Runs(configs, table, files, origin)
    with suppress(OSError):  # a store that cannot be written is read anew each time
        _write_cache(store.root / CACHE, runs)
    return runs


def measures(store: Store, configs: Iterable[RunConfig]) -> pd.DataFrame:
    """A row for each finished round of the runs, with ``key``, ``seed`` and the measures."""
    rows = []
    for config in configs:
        known = config.columns()
        rows += [
            {"key": config.key, "seed": config.seed} | {n: v for n, v in row.items() if n not in known}
            for row in store.rows(config)
        ]
    return pd.DataFrame(rows)


def _files(store: Store) -> dict[str, str]:
    """The files that hold runs, the archive's before the store's own, each with its time and size."""
    found = {}
    for file in [*store.archive.files, *sorted(store.root.glob(f"[!.]*/{ROUNDS}"))]:
        with suppress(FileNotFoundError):  # another process has just moved it
            stat = file.stat()
            found[str(file)] = f"{stat.st_mtime_ns} {stat.st_size}"
    return found


def _configs_in(file: Path) -> list[RunConfig]:
    """The configurations of the runs in a file: one if it is a run's own, many if it is of the archive."""
    if file.name != ROUNDS:
        return published_in(file)
    config = read_config(file.parent / CONFIG)
    return [] if config is None else [config]


def _write_cache(file: Path, runs: Runs) -> None:
    described = {
        "sources": runs.sources,
        "origin": runs.origin,
        "configs": {key: config.model_dump(mode="json", exclude_defaults=True) for key, config in runs.configs.items()},
    }
    table = pa.Table.from_pandas(runs.table, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), "dsdlib": json.dumps(described)})
    write_whole(file, lambda draft: pq.write_table(table, draft, compression="zstd", write_page_checksum=True))


def _read_cache(file: Path) -> Runs:
    """What `_write_cache` wrote; no runs if the file is absent, damaged or of another version of this module."""
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        described = json.loads(table.schema.metadata[b"dsdlib"])
        configs = {key: RunConfig(**fields) for key, fields in described["configs"].items()}
        if any(config.key != key for key, config in configs.items()):
            return Runs()
        return Runs(configs, table.to_pandas(), described["sources"], described["origin"])
    except (OSError, ValueError, KeyError, TypeError):
        return Runs()
