"""What is damaged is set aside: renamed, so that nothing is lost, and named in a warning."""

from __future__ import annotations

import glob
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.files import Damage
from dsdlib.study.locks import hold

T = TypeVar("T")


def read_config(file: Path) -> RunConfig | None:
    """The configuration of a run, from its folder's file; None if it cannot be read or has another key.

    That is so if it is damaged, and if another version of this package wrote it.
    """
    try:
        config = RunConfig(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return config if config.key == file.parent.name else None


def unless_damaged(root: Path, key: str, read: Callable[[], T], otherwise: T, file: str = "") -> T:
    """Return ``read()``. If it raises `Damage`, set the run ``key`` or only its ``file`` aside; return ``otherwise``.

    Before that the damage is confirmed by a second reading under the run's lock. If another process holds the lock, the
    run stays where it is: that process is working on it and will find the damage itself. Raises `ConfigError` if the
    store ``root`` cannot be written.
    """
    try:
        return read()
    except Damage as damage:
        first = damage
    try:
        with hold(root / ".locks", {key}, wait=False) as held:
            try:
                return read()
            except Damage as damage:
                if key in held:
                    set_aside(root, key, str(damage), file)
                else:
                    warnings.warn(f"run {key} is in use by another process, and {damage}", stacklevel=4)
    except ConfigError as error:
        raise ConfigError(f"run {key} is damaged: {first}. It cannot be set aside: {error}") from None
    return otherwise


def set_aside(root: Path, key: str, why: str, file: str = "") -> None:
    """Rename a run's folder, or one ``file`` of it, and warn. The caller holds the run's lock."""
    name = f"{key}.{file}" if file else key
    numbers = (path.name.rpartition("-")[2] for path in root.glob(f"{glob.escape(name)}.damaged-*"))
    aside = root / f"{name}.damaged-{1 + max((int(n) for n in numbers if n.isdecimal()), default=0)}"
    try:
        (root / key / file).rename(aside)
    except OSError as error:
        raise ConfigError(f"{aside}: cannot be written ({error.strerror})") from None
    what = "has a damaged file" if file else "is damaged"
    warnings.warn(f"run {key} {what}: {why}. Set aside as {aside}; it is computed anew.", stacklevel=5)
