"""Locks on runs: one process at a time trains a run, replaces its files or sets it aside."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from filelock import FileLock, Timeout

from dsdlib.config import ConfigError


@contextmanager
def hold(folder: Path, keys: Iterable[str], wait: bool = True) -> Iterator[set[str]]:
    """Hold the locks of runs, files in ``folder``. Yields the keys of the runs whose locks are held.

    These are all of the ``keys``, or without ``wait`` those that no other process holds. A thread may hold a lock
    several times. The locks of a process that dies are released. Raises `ConfigError` if a lock cannot be made.
    """
    held = set()
    with ExitStack() as locks:
        for key in sorted(keys):  # in one order, so that two processes never wait for each other
            with suppress(Timeout):
                locks.enter_context(_acquired(folder / f"{key}.lock", wait))
                held.add(key)
        yield held


@contextmanager
def _acquired(file: Path, wait: bool) -> Iterator[None]:
    note = file.with_suffix(".holder")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_flock(file.parent)
        lock = FileLock(file, is_singleton=True)
        outermost = not lock.is_locked
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise
    except OSError as error:
        raise ConfigError(f"results = {str(file.parents[1])!r}: run {file.stem} cannot be locked ({error})") from None
    try:
        if outermost:
            with suppress(OSError):
                note.write_text(json.dumps({"process": os.getpid(), "host": platform.node()}))
        yield
    finally:
        if outermost:
            with suppress(OSError):
                note.unlink()
        lock.release()


@cache
def _check_flock(folder: Path) -> None:
    """Raise OSError where files cannot be locked with flock, as on some shared folders.

    filelock would take the mere presence of a file for a lock there, so that a process that was killed, or a store that
    was copied with its lock files, would be waited for without end.
    """
    with TemporaryFile(dir=folder) as file:
        flock(file, LOCK_EX | LOCK_NB)


def holder(folder: Path, key: str) -> str | None:
    """The process that holds a run's lock, in words; None if it is not known."""
    try:
        note = json.loads((folder / f"{key}.holder").read_text())
        return f"process {note['process']} on {note['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None
