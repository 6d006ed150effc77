"""The live explorer of finished runs, for JupyterLab: ``explore()`` in a cell, or the notebook 00_explorer.

`runs` reads all finished runs into one table, `settings` says what can be chosen, `curves` and `pictures` compute what
is shown, `figures` and `html` draw it, and `training` trains in the background. None of these has widgets; `controls`,
`form`, `panels`, `claims` and `app` do.
"""

from __future__ import annotations

from pathlib import Path

from IPython.display import Markdown

from dsdlib.explorer.app import Explorer
from dsdlib.explorer.runs import finished_runs
from dsdlib.explorer.settings import Settings
from dsdlib.study.store import Store

__all__ = ["Explorer", "explore"]
EMPTY = """There are no finished runs with two or more rounds of pruning in `{root}`, and none are published. Get some
with `make report` (a quarter of an hour), `make report PROFILE=smoke` (a minute or two) or
`sweep(RunConfig().grid(seed=[0, 1]))`, then run this cell again."""


def explore(results: Path | str | None = None) -> Explorer | Markdown:
    """The explorer of a store (default: `dsdlib.study.store.default_folder`); of an empty one, a text that says how to
    get runs."""
    store = Store(results or None)
    runs = finished_runs(store)
    return Explorer(store, runs) if Settings(runs).choices else Markdown(EMPTY.format(root=store.root))
