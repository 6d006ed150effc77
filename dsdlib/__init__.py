"""A reproducible study of sparse double descent: describe runs, sweep them into one table, load what was trained.

These seven names are what a notebook needs of the machinery; they are imported when they are first used, so that
`dsdlib.config` and `dsdlib.theory` load no torch.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "ConfigError": "dsdlib.config",
    "RunConfig": "dsdlib.config",
    "check_parameters": "dsdlib.report.parameters",
    "load_history": "dsdlib.study.runs",
    "load_masks": "dsdlib.study.runs",
    "load_model": "dsdlib.study.runs",
    "sweep": "dsdlib.study.sweep",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dsdlib' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
