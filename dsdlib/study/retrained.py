"""Complete runs that are retrained for files they lack, and what killed processes leave behind.

A run is retrained in a store of its own, ``results/.again``, so that the old one stays until the new one is complete.
"""

from __future__ import annotations

import shutil
from contextlib import suppress

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.damage import set_aside
from dsdlib.study.store import CONFIG, PARTIAL, PROVENANCE, REWIND, ROUNDS, WEIGHTS, Store


def again(store: Store) -> Store:
    """The store in which complete runs are retrained, until `adopt` moves them."""
    return Store(store.root / ".again")


def adopt(store: Store, config: RunConfig) -> None:
    """Replace a run by its retrained version, file by file, the table after the weights. The caller holds its lock.

    Meanwhile readers find a complete run. If the process is killed, the next call finishes the work.
    """
    folder, fresh = store.folder(config), again(store).folder(config)
    folder.mkdir(exist_ok=True)
    first = again(store).tensor_file(config, 0)
    if first.exists():  # nothing has been moved yet
        for stale in {file.name for file in folder.iterdir()} - {file.name for file in fresh.iterdir()}:
            (folder / stale).unlink()
        first.replace(folder / first.name)
    last = [fresh / name for name in (ROUNDS, CONFIG, PROVENANCE)]
    for file in [*(set(fresh.iterdir()) - set(last)), *(file for file in last if file.exists())]:
        file.replace(folder / file.name)
    fresh.rmdir()


def clean_up(store: Store, config: RunConfig) -> None:
    """Remove temporary files of a killed process, set files aside that belong to no round, and settle a retraining.

    Nothing is done while another process works on the run, or if the store cannot be written.
    """
    odd = [file for file in store.folder(config).glob("*") if file.suffix == ".part" or _is_stray(file.name)]
    if not odd and not again(store).folder(config).exists():
        return
    with suppress(ConfigError), store.locked([config], wait=False) as mine:
        for file in odd if mine else ():
            if file.suffix == ".part" and not file.is_dir():
                file.unlink(missing_ok=True)
            else:
                set_aside(store.root, config.key, f"{file.name} is no file of a run", file.name)
        if mine:
            _settle(store, config)


def _is_stray(name: str) -> bool:
    return name.endswith(".safetensors") and name not in (REWIND, PARTIAL) and not WEIGHTS.fullmatch(name)


def _settle(store: Store, config: RunConfig) -> None:
    """Adopt a retrained version if it is complete, or if it has more rounds than the run itself.

    An unfinished one of a complete run stays, as the next sweep that needs it resumes it. Any other is removed.
    """
    fresh, done = len(again(store).rows(config)), len(store.rows(config))
    if fresh > config.rounds or fresh > done:
        adopt(store, config)
    elif done <= config.rounds or not (fresh or (again(store).folder(config) / PARTIAL).exists()):
        shutil.rmtree(again(store).folder(config), ignore_errors=True)
