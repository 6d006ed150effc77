"""The published archive: the tables of finished runs, one file for each profile, which anyone can render.

``results/published/<profile>.parquet`` holds a row for each run and round: the run's key and its measures. The file's
metadata holds each run's configuration and provenance, and a checksum of the rows. No weights are published, so a run
that needs another run's weights, or a history, is trained.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.rows import Row
from dsdlib.study.files import write_whole

FOLDER = "published"


class Archive:
    """The published runs in some folders. The environment variable ``DSDLIB_FRESH`` hides them all."""

    def __init__(self, folders: Iterable[Path]):
        folders = [] if os.environ.get("DSDLIB_FRESH") else dict.fromkeys(folders)
        self.files = [file for folder in folders for file in sorted(folder.glob("*.parquet"))]

    def __contains__(self, config: RunConfig) -> bool:
        return self._file(config) is not None

    def configs(self, profile: str) -> list[RunConfig]:
        """The published runs of a profile. Raises `ConfigError` if there is no such file."""
        file = next((file for file in self.files if file.stem == profile), None)
        if file is None:
            there = ", ".join(sorted({file.stem for file in self.files})) or "none"
            raise ConfigError(f"no published runs of {profile!r}; there are: {there}")
        return published_in(file)

    def rows(self, config: RunConfig) -> list[Row]:
        """A row for each round of a published run; [] if it is not published."""
        file = self._file(config)
        return _published(file).rows(config.key) if file else []

    def provenance(self, config: RunConfig) -> list[Row]:
        """How a published run was made: an entry for each session that trained it, with the ``published`` file."""
        file = self._file(config)
        if file is None:
            return []
        return [{**session, "published": file.name} for session in _published(file).provenance[config.key]]

    def _file(self, config: RunConfig) -> Path | None:
        return next((file for file in self.files if config.key in _published(file).configs), None)


class _Published:
    """One file of the archive, read and checked."""

    def __init__(self, path: Path):
        try:
            self.table = pq.read_table(path, page_checksum_verification=True)
            described = json.loads(self.table.schema.metadata[b"dsdlib"])
            if described["sha256"] != _checksum(self.table):
                raise ValueError("its rows do not have the stored checksum")
        except Exception as error:
            raise ConfigError(f"{path}: the published archive cannot be read ({error})") from None
        self.configs, self.provenance = described["configs"], described["provenance"]
        keys = self.table["key"].to_pylist()  # in order, as `_write` sorts them
        self.count = Counter(keys)
        self.first = {key: place for place, key in reversed(list(enumerate(keys)))}

    def rows(self, key: str) -> list[Row]:
        """Measures that a run does not have are null in the file, and left out here."""
        rows = self.table.slice(self.first[key], self.count[key]).to_pylist()
        return [{name: value for name, value in row.items() if value is not None and name != "key"} for row in rows]


def published_in(file: Path) -> list[RunConfig]:
    """The configurations of the runs in one file of the archive."""
    return [RunConfig(**fields) for fields in _published(file).configs.values()]


def _published(path: Path) -> _Published:
    stat = path.stat()
    return _read(path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=16)
def _read(path: Path, *_: int) -> _Published:
    return _Published(path)


def packed(file: Path) -> dict[RunConfig, tuple[list[Row], list[Row]]]:
    """The runs in a file that `publish` has written, each with its rows and its provenance, as `publish` takes them.

    Raises `ConfigError` if there is no such file, or if it is damaged.
    """
    held = _Published(file)
    return {RunConfig(**fields): (held.rows(key), held.provenance[key]) for key, fields in held.configs.items()}


def publish(file: Path, runs: dict[RunConfig, tuple[list[Row], list[Row]]], replace: bool = False) -> int:
    """Add finished runs, each with its rows and its provenance, to a file of the archive; return how many are new.

    Raises `ConfigError` if the file holds a run with other numbers, unless ``replace`` is true, and for a run that is
    not finished. Nothing is written then.
    """
    rows, configs, provenance, new = _held(file)
    for config, (found, sessions) in runs.items():
        if len(found) != config.rounds + 1:
            raise ConfigError(
                f"run {config.key} has {len(found)} of {config.rounds + 1} rounds; only finished runs are published"
            )
        measures = [_measures(config, row) for row in found]
        if config.key in rows and not replace and (gap := _difference(rows[config.key], measures)):
            raise ConfigError(f"{file}: holds run {config.key} with other numbers ({gap}); --replace replaces them")
        new += config.key not in rows
        rows[config.key] = measures
        configs[config.key] = config.model_dump(mode="json", exclude_defaults=True)
        provenance[config.key] = sessions
    _write(file, rows, configs, provenance)
    return new


def _held(file: Path) -> tuple[dict[str, list[Row]], dict[str, Row], dict[str, list[Row]], int]:
    if not file.exists():
        return {}, {}, {}, 0
    held = _published(file)
    return {key: held.rows(key) for key in held.configs}, dict(held.configs), dict(held.provenance), 0


def _measures(config: RunConfig, row: Row) -> Row:
    """A stored row without the configuration, which the file holds once."""
    return {name: value for name, value in row.items() if name not in config.columns()}


def _difference(held: list[Row], new: list[Row]) -> str:
    """The first measure that differs, in words; the time that a round took may differ."""
    for old, row in zip(held, new, strict=True):
        for name in old.keys() & row.keys() - {"seconds"}:
            if old[name] != row[name] and not (old[name] != old[name] and row[name] != row[name]):
                return f"{name} in round {row['round']}: {old[name]} and {row[name]}"
    return ""


def _write(file: Path, rows: dict[str, list[Row]], configs: dict[str, Row], provenance: dict[str, list[Row]]) -> None:
    flat = [{"key": key, **row} for key in sorted(rows) for row in rows[key]]
    names = dict.fromkeys(name for row in flat for name in row)
    table = pa.table({name: [row.get(name) for row in flat] for name in names})
    described = {"configs": configs, "provenance": provenance, "sha256": _checksum(table)}
    table = table.replace_schema_metadata({"dsdlib": json.dumps(described, sort_keys=True)})
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(
        file,
        lambda draft: pq.write_table(table, draft, compression="zstd", compression_level=19, write_page_checksum=True),
    )


def _checksum(table: pa.Table) -> str:
    """SHA-256 of the columns' names, types and values."""
    digest = hashlib.sha256()
    for name in sorted(table.column_names):
        digest.update(f"{name} {table.schema.field(name).type}".encode())
        digest.update(repr(table[name].to_pylist()).encode())
    return digest.hexdigest()
