"""Rounds that stop half way: a file a run with what it needs to go on, written every two minutes and on request.

The file is removed when its round is finished. It says, under its checksum, which run and round it belongs to, and
which data and network it was trained with.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

from dsdlib.config import RunConfig
from dsdlib.engine.partial import Partial
from dsdlib.study.damage import unless_damaged
from dsdlib.study.files import Row, load_tensors, save_tensors
from dsdlib.study.store import PARTIAL, Store

EVERY = 120.0  # seconds from one writing to the next


def save(
    place: Store, config: RunConfig, round_: int, partial: Partial, now: dict[str, str], history: list[Row] | None
) -> None:
    """Store what a run needs to go on in that round. ``now`` is its `dsdlib.engine.build.identity`.

    ``history`` has the rows of the round's epochs so far, or is None if they are not kept. The caller holds the lock.
    """
    about = {"about": _as_tensor({"round": round_, "identity": now, "history": history})}
    save_tensors(place.folder(config) / PARTIAL, partial | about, config.key, "partial")


def load(
    place: Store, config: RunConfig, round_: int, now: dict[str, str], history: bool
) -> tuple[Partial, list[Row]] | None:
    """What `save` stored, and the rows of the history; None if it does not belong to that round, data and network, or
    lacks a ``history`` that is wanted. A damaged file is set aside with a warning."""

    def read() -> tuple[Partial, dict[str, Any]] | None:
        try:
            found = load_tensors(place.folder(config) / PARTIAL, config.key, "partial")
        except FileNotFoundError:
            return None
        return found, json.loads(found.pop("about").numpy().tobytes())

    if (found := unless_damaged(place.root, config.key, read, None, PARTIAL)) is None:
        return None
    partial, about = found
    if about["round"] != round_ or about["identity"] != now or (history and about["history"] is None):
        return None
    return partial, about["history"] or []


def remove(place: Store, config: RunConfig) -> None:
    """Remove a run's file, once its round is finished. The caller holds the lock."""
    (place.folder(config) / PARTIAL).unlink(missing_ok=True)


def _as_tensor(content: dict[str, Any]) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)
