"""The store: a folder a run, named by its key, written atomically; read as one tidy table.

``results/<key>/`` holds ``config.json``; ``rounds.parquet``, a row a round; ``provenance.json``; where it was asked
for, ``history.parquet``, a row an epoch; and the weights and masks of some rounds, ``round_007.safetensors``: always
the dense round, the best by validation accuracy and the last (from which a stopped run goes on). What was measured on a
run afterwards lies there too (``path-…``, ``slices-…``). A file is there whole or not at all, whenever the process is
killed. ``results/.again`` is where complete runs are trained once more, for something that was not kept.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from safetensors.torch import save_file
from torch import Tensor

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.files import checksum_of, load_tensors, read_rows, reading, write_rows, write_whole
from dsdlib.study.provenance import PROJECT

ROUNDS, CONFIG, PROVENANCE, REWIND = "rounds.parquet", "config.json", "provenance.json", "rewind.safetensors"


def default_folder() -> Path:
    """The environment variable ``DSDLIB_RESULTS``, else ``results`` in the clone, else in the current folder."""
    if chosen := os.environ.get("DSDLIB_RESULTS"):
        return Path(chosen).expanduser()
    return (PROJECT if (PROJECT / "notebooks").is_dir() else Path.cwd()) / "results"


class Store:
    """Runs on disk. Raises `ConfigError` when the folder cannot be written."""

    def __init__(self, root: Path | str | None = None):
        self.root = Path(root) if root else default_folder()
        try:
            (self.root / ".locks").mkdir(parents=True, exist_ok=True)
            (self.root / ".locks" / f"probe-{os.getpid()}").touch()
            (self.root / ".locks" / f"probe-{os.getpid()}").unlink()
        except OSError as error:
            raise ConfigError(f"results = {str(self.root)!r}: cannot be written ({error.strerror})") from None

    def folder(self, config: RunConfig) -> Path:
        return self.root / config.key

    def tensor_file(self, config: RunConfig, round_: int) -> Path:
        return self.folder(config) / f"round_{round_:03}.safetensors"

    @contextmanager
    def locked(self, configs: Iterable[RunConfig], wait: bool = True) -> Iterator[list[RunConfig]]:
        """Nobody else works on these runs meanwhile: on all of them or, without waiting, on those that nobody works on
        now. A process that dies gives its locks back."""
        taken = []
        with ExitStack() as locks:
            for config in sorted(configs, key=lambda config: config.key):
                with suppress(Timeout):
                    lock = FileLock(self.root / ".locks" / f"{config.key}.lock", timeout=-1 if wait else 0)
                    locks.enter_context(lock)
                    taken.append(config)
            yield [config for config in configs if config in taken]

    def rounds_done(self, config: RunConfig) -> int:
        """How many rounds are finished, by a glance that reads no rows; 0 where anything is amiss."""
        try:
            return pq.read_metadata(self.folder(config) / ROUNDS).num_rows
        except (OSError, ValueError):
            return 0

    def rows(self, config: RunConfig) -> list[dict[str, Any]]:
        """The finished rounds. A run with a damaged file is set aside, named in a warning, and counts as not begun."""
        if not (self.folder(config) / ROUNDS).exists():
            return []
        try:
            return self._checked_rows(config)
        except (OSError, ValueError, KeyError) as error:
            self._set_aside(self.folder(config), str(error))
            return []

    def _checked_rows(self, config: RunConfig) -> list[dict[str, Any]]:
        folder = self.folder(config)
        stored = reading(folder / CONFIG, lambda path: RunConfig(**json.loads(path.read_text())))
        if stored.key != config.key:
            raise ValueError(f"{CONFIG} describes run {stored.key}")
        rows = reading(folder / ROUNDS, read_rows)
        if [row["round"] for row in rows] != list(range(len(rows))) or len(rows) > config.rounds + 1:
            raise ValueError(f"{ROUNDS} does not hold the rounds in order")
        return rows

    def _set_aside(self, folder: Path, why: str) -> None:
        number = 1 + sum(1 for _ in self.root.glob(f"{folder.name}.damaged-*"))
        try:
            aside = folder.rename(self.root / f"{folder.name}.damaged-{number}")
        except FileNotFoundError:  # another process has just done so
            return
        warnings.warn(f"run {folder.name} is damaged: {why}. Set aside as {aside}; it is computed anew.", stacklevel=3)

    def begin(self, config: RunConfig, session: dict[str, Any], again: bool = False) -> None:
        """A folder for the run, and the machine it is about to train on; ``again`` when it goes on."""
        folder = self.folder(config)
        folder.mkdir(exist_ok=True)
        for file in () if again else folder.glob("*.parquet"):
            if file.name != ROUNDS:  # which others may be reading; the first round replaces it
                file.unlink()
        sessions = [*(self.provenance(config) if again else []), session]
        text = config.model_dump_json(indent=2)
        write_whole(folder / CONFIG, lambda path: path.write_text(text + "\n"))
        write_whole(folder / PROVENANCE, lambda path: path.write_text(json.dumps(sessions, indent=2) + "\n"))

    def save_round(
        self,
        config: RunConfig,
        rows: list[dict[str, Any]],
        tensors: dict[str, Tensor],
        keep: set[int | str],
        history: list[dict[str, Any]] | None = None,
    ) -> None:
        """Add the last of ``rows``; of the rounds' weights keep those in ``keep``, the dense, the best and the last.
        ``history``: rows of all epochs so far."""
        last, folder, columns = rows[-1]["round"], self.folder(config), config.columns()
        self.save_tensors(self.tensor_file(config, last), tensors)
        if clash := sorted(columns.keys() & rows[-1].keys()):
            raise ConfigError(f"model_args {clash}: already names of measures in the table")
        if history is not None:
            self.save_measured(config, "history", history)
        write_rows(folder / ROUNDS, [{**columns, **row} for row in rows])
        keep = keep | {0, last, best_round(rows)}
        for file in folder.glob("round_*.safetensors"):
            if int(file.stem.removeprefix("round_")) not in keep:
                file.unlink()

    @staticmethod
    def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
        contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
        write_whole(path, lambda temporary: save_file(contiguous, temporary, {"crc32": checksum_of(contiguous)}))

    def tensors(self, config: RunConfig, round_: int) -> dict[str, Tensor]:
        """A run's stored weights, buffers and ``mask.<weight>`` of a round.

        Raises FileNotFoundError when that round's were not kept.
        """
        path = self.tensor_file(config, round_)
        if not path.exists():
            kept = sorted(int(p.stem.removeprefix("round_")) for p in path.parent.glob("round_*.safetensors"))
            raise FileNotFoundError(f"round {round_} of run {config.key}: weights are kept of rounds {kept}")
        return load_tensors(path)

    def holds(self, config: RunConfig, rounds: Iterable[int], rewinds: bool = False) -> bool:
        """Whether these rounds' weights (and the rewinding point) are there. When any of the run's weights are damaged
        the run is set aside, as in `rows`."""
        files = [self.tensor_file(config, r) for r in rounds] + [self.folder(config) / REWIND] * rewinds
        try:
            for file in self.folder(config).glob("*.safetensors"):
                load_tensors(file)
        except FileNotFoundError:  # another process has just finished with it: this one will wait for its lock
            return False
        except ValueError as error:
            self._set_aside(self.folder(config), str(error))
            return False
        return all(file.exists() for file in files)

    def history(self, config: RunConfig) -> list[dict[str, Any]]:
        """A row for each epoch of the finished rounds; none where they were not kept, or are damaged."""
        done = self.rounds_done(config)
        rows = [row for row in self.measured(config, "history") if row["round"] < done]
        return rows if {row["round"] for row in rows} == set(range(done)) else []

    def complete(self, config: RunConfig) -> bool:
        return len(self.rows(config)) > config.rounds

    def kept(self, config: RunConfig) -> set[int | str]:
        """What there is of a run beside its table: the rounds whose weights are kept, and ``history``."""
        rounds = {int(file.stem.removeprefix("round_")) for file in self.folder(config).glob("round_*.safetensors")}
        return rounds | ({"history"} if self.history(config) else set())

    def again(self) -> Store:
        """Where a complete run is trained once more, for something it lacks; `adopt` then puts it in its place."""
        return Store(self.root / ".again")

    def adopt(self, config: RunConfig) -> None:
        """A run that was trained again takes the old one's place, file by file, its table after the weights: whoever
        reads it meanwhile finds a complete run, and so does the next call if this one is killed."""
        folder, fresh = self.folder(config), self.again().folder(config)
        folder.mkdir(exist_ok=True)
        last = [ROUNDS, CONFIG, PROVENANCE]
        files = sorted(fresh.iterdir(), key=lambda file: last.index(file.name) if file.name in last else -1)
        for file in files:
            file.replace(folder / file.name)
        for stale in {file.name for file in folder.iterdir()} - {file.name for file in files}:
            (folder / stale).unlink()
        fresh.rmdir()

    def measured(self, config: RunConfig, name: str) -> list[dict[str, Any]]:
        """Rows that were measured on a run after its training, and saved; none where there are none."""
        try:
            return reading(self.folder(config) / f"{name}.parquet", read_rows)
        except (OSError, ValueError, TypeError):
            return []

    def save_measured(self, config: RunConfig, name: str, rows: list[dict[str, Any]]) -> None:
        write_rows(self.folder(config) / f"{name}.parquet", rows)

    def table(self, configs: Iterable[RunConfig]) -> pd.DataFrame:
        """The tidy table of these runs' finished rounds: configuration, then measures."""
        rows = ({**row, **columns} for config in configs for columns in [config.columns()] for row in self.rows(config))
        return pd.DataFrame(rows)

    def provenance(self, config: RunConfig) -> list[dict[str, Any]]:
        """What the run was made with: an entry for each session that trained it."""
        return json.loads((self.folder(config) / PROVENANCE).read_text())

    def set_aside_if_changed(self, config: RunConfig, now: dict[str, str]) -> None:
        """A run that was made with other data or another network under the same name is set aside, with a warning."""
        if not self.rows(config):
            return
        for session in reading(self.folder(config) / PROVENANCE, lambda path: self.provenance(config)):
            if changed := [name for name, value in now.items() if session[name] != value]:
                self._set_aside(self.folder(config), f"{', '.join(changed)} is no longer what it was")
                return


def best_round(rows: list[dict[str, Any]]) -> int:
    """By validation accuracy, never by test accuracy; the earliest of equals, and 0 where nothing was held out."""
    return max(rows, key=lambda row: (row["validation_accuracy"], -row["round"]))["round"]
