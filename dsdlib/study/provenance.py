"""The store: a folder a run, named by its key, written atomically; read as one tidy table.

``results/<key>/`` holds ``config.json``; ``rounds.parquet``, a row a round; ``provenance.json``; where it was asked
for, ``history.parquet``, a row an epoch; and the weights and masks of some rounds, ``round_007.safetensors``: always
the dense round, the best by validation accuracy and the last (from which a stopped run goes on). What was measured on a
run afterwards lies there too (``path-…``, ``slices-…``). A file is there whole or not at all, whenever the process is
killed. ``results/.again`` is where complete runs are trained once more, for something that was not kept.
"""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PROJECT = Path(__file__).parents[2]


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What a number depends on besides its configuration, its data and its network."""
    names = ("dsdlib", "torch", "torchvision", "numpy", "scikit-learn")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in names},
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The clone's commit, with a + where files differ from it; None outside a clone."""
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
