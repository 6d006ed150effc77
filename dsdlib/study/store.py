"""The store: a folder a run, named by its key, written atomically; read as one tidy table.

``results/<key>/`` holds ``config.json``; ``rounds.parquet``, a row a round; ``provenance.json``; if it was wanted,
``history.parquet``, a row an epoch; and the weights and masks of some rounds, ``round_007.safetensors``: always the
dense round, the best by validation accuracy and the last, from which a stopped run is resumed. Measurements on a
finished run (``path-…``, ``slices-…``) are stored there too. Every file is whole or absent, whenever the process is
killed. In ``results/.again`` complete runs are retrained for files that they lack. A run that has no folder is read
from the published archive, if its table is there.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.rows import mark_diverged
from dsdlib.study.archive import FOLDER, Archive
from dsdlib.study.damage import read_config, unless_damaged
from dsdlib.study.files import Damage, Row, load_tensors, read_rows, read_whole, save_tensors, write_rows, write_whole
from dsdlib.study.locks import hold
from dsdlib.study.provenance import PROJECT, parse_provenance

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = re.compile(r"round_(\d{3,})\.safetensors")
PARTIAL = "partial.safetensors"  # of a round that stopped half way
ROUNDS, CONFIG, PROVENANCE, REWIND = "rounds.parquet", "config.json", "provenance.json", "rewind.safetensors"


def default_folder() -> Path:
    """The environment variable ``DSDLIB_RESULTS``, else ``results``.

    A relative path begins at the clone, or without one in the current folder: JupyterLab's notebooks and a command have
    other current folders.
    """
    home = PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()
    return home / Path(os.environ.get("DSDLIB_RESULTS") or "results").expanduser()


class Store:
    """Runs on disk, in the folder ``root`` (default: `default_folder`).

    Finished runs can be read from a folder that cannot be written.
    """

    def __init__(self, root: Path | str | None = None):
        self.root = (Path(root).expanduser() if root else default_folder()).absolute()
        self.locks = self.root / ".locks"
        self.archive = Archive([self.root / FOLDER, PROJECT / "results" / FOLDER])

    def check_writable(self) -> None:
        """Make the store's folder. Raises `ConfigError` if nothing can be written there."""
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.locks):
                pass
        except OSError as error:
            raise ConfigError(f"results = {str(self.root)!r}: cannot be written ({error.strerror})") from None

    def folder(self, config: RunConfig) -> Path:
        """Where the run's files are."""
        return self.root / config.key

    def tensor_file(self, config: RunConfig, round_: int) -> Path:
        """Where the weights and masks of a round are, if they were kept."""
        return self.folder(config) / f"round_{round_:03}.safetensors"

    @contextmanager
    def locked(self, configs: Iterable[RunConfig], wait: bool = True) -> Iterator[list[RunConfig]]:
        """Hold the locks of runs, so that no other process works on them. Yields the runs whose locks are held.

        These are all of the runs, or without ``wait`` those that no other process works on now. The locks of a process
        that dies are released.
        """
        configs = list(configs)
        with hold(self.locks, {config.key for config in configs}, wait) as held:
            yield [config for config in configs if config.key in held]

    # Reading ------------------------------------------------------------------------------------------------------

    def rounds_done(self, config: RunConfig) -> int:
        """The number of finished rounds, without reading rows; 0 if the file is absent or damaged."""
        if not os.path.lexists(self.folder(config)):
            return config.rounds + 1 if config in self.archive else 0
        try:
            return pq.read_metadata(self.folder(config) / ROUNDS).num_rows
        except (OSError, ValueError):
            return 0

    def rows(self, config: RunConfig) -> list[Row]:
        """The rows of the finished rounds. A damaged run is set aside with a warning, and has no rows."""
        if not os.path.lexists(self.folder(config)):
            return mark_diverged([{**config.columns(), **row} for row in self.archive.rows(config)])
        return unless_damaged(self.root, config.key, lambda: self._checked_rows(config), [])

    def _checked_rows(self, config: RunConfig) -> list[Row]:
        folder = self.folder(config)
        if os.path.lexists(folder) and not folder.is_dir():
            raise Damage(f"{folder.name} is not a folder")
        try:
            rows = read_rows(folder / ROUNDS)
        except FileNotFoundError:
            return []
        try:
            stored = read_whole(folder / CONFIG, lambda content: RunConfig(**json.loads(content)))
            self.provenance(config)
        except FileNotFoundError as error:
            raise Damage(f"{Path(error.filename).name} is absent") from None
        if stored.key != config.key:
            raise Damage(f"{CONFIG} describes run {stored.key}")
        if rows and (owner := rows[0].get("key", config.key)) != config.key:
            raise Damage(f"{ROUNDS} belongs to run {owner}")
        if [row.get("round") for row in rows] != list(range(len(rows))) or len(rows) > config.rounds + 1:
            raise Damage(f"{ROUNDS} does not hold the rounds in order")
        return mark_diverged(rows)

    def configs(self) -> list[RunConfig]:
        """The configurations of all runs that have a folder, less those that `read_config` cannot read."""
        found = map(read_config, sorted(self.root.glob(f"*/{CONFIG}")))
        return [config for config in found if config is not None]

    def complete(self, config: RunConfig) -> bool:
        """Whether all rounds are finished."""
        return len(self.rows(config)) > config.rounds

    def table(self, configs: Iterable[RunConfig]) -> pd.DataFrame:
        """The tidy table of these runs' finished rounds: configuration, then measures."""
        rows = ({**row, **columns} for config in configs for columns in [config.columns()] for row in self.rows(config))
        return pd.DataFrame(rows)

    def tensors(self, config: RunConfig, round_: int) -> dict[str, Tensor]:
        """A run's stored weights, buffers and ``mask.<weight>`` of a round.

        Raises FileNotFoundError if that round's weights were not kept, and `Damage` if the file is damaged.
        """
        path = self.tensor_file(config, round_)
        if not path.exists():
            kept = sorted(self.rounds_kept(config))
            raise FileNotFoundError(f"round {round_} of run {config.key}: weights are kept of rounds {kept}")
        return load_tensors(path, config.key, round_)

    def rounds_kept(self, config: RunConfig) -> set[int]:
        """The rounds whose weights are stored."""
        names = (WEIGHTS.fullmatch(file.name) for file in self.folder(config).glob("round_*.safetensors"))
        return {int(name[1]) for name in names if name}

    def holds(self, config: RunConfig, rounds: Iterable[int], rewinds: bool = False) -> bool:
        """Whether the weights of these rounds, and with ``rewinds`` of the rewinding point, are stored.

        If any of the run's stored weights are damaged, the run is set aside as in `rows`.
        """
        files = [self.tensor_file(config, r) for r in rounds] + [self.folder(config) / REWIND] * rewinds

        def check() -> bool:
            stored = {self.tensor_file(config, round_): round_ for round_ in self.rounds_kept(config)}
            for file, round_ in (stored | {self.folder(config) / REWIND: "rewind"}).items():
                with suppress(FileNotFoundError):  # no rewinding point, or another process has just removed the file
                    load_tensors(file, config.key, round_)
            return all(file.exists() for file in files)

        return unless_damaged(self.root, config.key, check, False)

    def history(self, config: RunConfig) -> list[Row]:
        """A row for each epoch of the finished rounds; none if they were not kept.

        A damaged history is set aside with a warning.
        """

        def read() -> list[Row]:
            done, rows = len(self.rows(config)), self.measured(config, "history")
            if rows and not _has_every_epoch(config, rows, done):
                raise Damage("history.parquet does not hold every epoch of the finished rounds")
            return [row for row in rows if row["round"] < done]

        return unless_damaged(self.root, config.key, read, [], "history.parquet")

    def measured(self, config: RunConfig, name: str) -> list[Row]:
        """Rows that `save_measured` stored; none if there are none. A damaged file is set aside with a warning."""

        def read() -> list[Row]:
            try:
                rows = read_rows(self.folder(config) / f"{name}.parquet")
            except FileNotFoundError:
                return []
            if rows and (owner := rows[0].get("key", config.key)) != config.key:
                raise Damage(f"{name}.parquet belongs to run {owner}")
            return rows

        return unless_damaged(self.root, config.key, read, [], f"{name}.parquet")

    def provenance(self, config: RunConfig) -> list[dict[str, Any]]:
        """What the run was trained with: an entry for each time that it was begun or resumed.

        Raises `Damage` if the file is damaged.
        """
        if not os.path.lexists(self.folder(config)) and config in self.archive:
            return self.archive.provenance(config)
        return read_whole(self.folder(config) / PROVENANCE, parse_provenance)

    # Writing: the caller holds the run's lock ---------------------------------------------------------------------

    def begin(self, config: RunConfig, entry: dict[str, Any], resume: bool = False) -> None:
        """Make the run's folder, and store its configuration and a provenance entry.

        Without ``resume`` earlier provenance and measurements are removed. The table stays until round 0 replaces it,
        as others may be reading it.
        """
        folder = self.folder(config)
        folder.mkdir(parents=True, exist_ok=True)
        for file in () if resume else folder.glob("*.parquet"):
            if file.name != ROUNDS:
                file.unlink()
        entries = [*(self.provenance(config) if resume else []), entry]
        text = config.model_dump_json(indent=2)
        write_whole(folder / CONFIG, lambda path: path.write_text(text + "\n", encoding="utf-8"))
        write_whole(folder / PROVENANCE, lambda path: path.write_text(json.dumps(entries, indent=2) + "\n"))

    def save_round(
        self,
        config: RunConfig,
        rows: list[Row],
        tensors: dict[str, Tensor],
        keep: set[int | str],
        history: list[Row] | None = None,
    ) -> None:
        """Store a finished round: ``rows`` of all rounds so far, and the last round's ``tensors``.

        Of earlier weights those of the rounds in ``keep``, of the dense and of the best round stay. ``history`` has
        the rows of all epochs so far.
        """
        last, folder, columns = rows[-1]["round"], self.folder(config), config.columns()
        save_tensors(self.tensor_file(config, last), tensors, config.key, last)
        if clash := sorted(columns.keys() & rows[-1].keys()):
            raise ConfigError(f"model_args {clash}: already names of measures in the table")
        if history is not None and last > 0:  # so that it never has fewer rounds than the table
            self.save_measured(config, "history", history)
        write_rows(folder / ROUNDS, [{**columns, **row} for row in rows])
        if history is not None and last == 0:  # until now the table of an earlier training may have had more rounds
            self.save_measured(config, "history", history)
        for round_ in self.rounds_kept(config) - keep - {0, last, best_round(rows)}:
            self.tensor_file(config, round_).unlink()

    def save_rewind_point(self, config: RunConfig, tensors: dict[str, Tensor]) -> None:
        """Store the weights that weight rewinding returns to."""
        save_tensors(self.folder(config) / REWIND, tensors, config.key, "rewind")

    def rewind_point(self, config: RunConfig) -> dict[str, Tensor]:
        """The weights that `save_rewind_point` stored."""
        return load_tensors(self.folder(config) / REWIND, config.key, "rewind")

    def save_measured(self, config: RunConfig, name: str, rows: list[Row]) -> None:
        """Store rows that were measured on a run, under a name."""
        write_rows(self.folder(config) / f"{name}.parquet", [{"key": config.key, **row} for row in rows])

    def set_aside_if_changed(self, config: RunConfig, now: dict[str, str]) -> None:
        """Set aside a run that was trained with other data or another network of the same name, with a warning.

        ``now`` is the run's `dsdlib.engine.build.identity`. Sums that were not stored then are not compared, and
        published runs stay as they are.
        """

        def compare() -> None:
            for entry in self.provenance(config) if self.folder(config).is_dir() and self.rows(config) else ():
                if changed := [name for name, value in now.items() if entry.get(name, value) != value]:
                    raise Damage(f"{', '.join(changed)} is no longer what it was")

        unless_damaged(self.root, config.key, compare, None)


def _has_every_epoch(config: RunConfig, rows: list[Row], done: int) -> bool:
    """Whether a history has a row for each epoch, in order, of ``done`` or more rounds.

    After weight rewinding all retrainings begin with the same epoch.
    """
    found = [(row.get("round"), row.get("epoch")) for row in rows]
    rounds = len({round_ for round_, _ in found})
    first = next((epoch for round_, epoch in found if round_ == 1), 0) if config.rewind_iteration else 0
    expected = [(r, epoch) for r in range(rounds) for epoch in range(first or 0 if r else 0, config.epochs_of(r))]
    return done <= rounds <= config.rounds + 1 and found == expected


def best_round(rows: list[Row]) -> int:
    """The round with the highest validation accuracy, never test accuracy. Of equal ones the earliest; 0 without
    validation data."""
    return max(rows, key=lambda row: (row["validation_accuracy"], -row["round"]))["round"]
