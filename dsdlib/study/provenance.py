"""What a number depends on besides its configuration: versions, machine, commit, data and network.

A run's ``provenance.json`` holds a list with an entry for each time that the run was begun or resumed.
"""

from __future__ import annotations

import json
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PROJECT = Path(__file__).parents[2]
# What each entry holds: what describe_machine returns, and what `dsdlib.engine.build.identity` does.
FIELDS = {"started", "device", "processor", "python", "versions", "commit", "data_sha256", "network_sha256"}


def parse_provenance(content: bytes) -> list[dict[str, Any]]:
    """The entries in the content of a ``provenance.json``. Raises ValueError if they are incomplete."""
    entries = json.loads(content)
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError("it is no list of entries")
    if absent := sorted({field for entry in entries for field in FIELDS - entry.keys()}):
        raise ValueError(f"entries lack {', '.join(absent)}")
    return entries


def describe_machine(device: torch.device | str) -> dict[str, Any]:
    """The time, the device, the processor, the versions and the commit, to be stored with results."""
    names = ("dsdlib", "torch", "torchvision", "numpy", "scikit-learn")
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": "cpu" if str(device) == "cpu" else _gpu(device),
        "processor": _processor(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in names},
        "commit": _commit(),
    }


def _gpu(device: torch.device | str) -> str:
    import torch  # here, as a table of finished runs does not need it

    return torch.cuda.get_device_name(device)


def _version(package: str) -> str:
    """The installed version. A source tree can be used without being installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _commit() -> str | None:
    """The clone's commit, followed by + if files differ from it; None outside a clone."""
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
