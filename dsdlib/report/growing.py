"""A curve that grows in a notebook while its runs are trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, DisplayHandle
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dsdlib import plots
from dsdlib.config import RunConfig
from dsdlib.report.show import image_source

if TYPE_CHECKING:
    from dsdlib.study.progress import Draw

MOST = 8  # curves that are named


def growing() -> bool | Draw:
    """For ``sweep(runs, progress=growing())`` in a notebook: draw the finished rounds below the cell while it trains.

    Where nobody watches, as under papermill, there is only the bar.
    """
    if not _watched():
        return True
    place, shown = DisplayHandle(), []

    def draw(tables: Mapping[RunConfig, pd.DataFrame]) -> None:
        said = f"Test accuracy so far: {sum(map(len, tables.values()))} rounds of {len(tables)} runs are finished."
        html = HTML(f'<img alt="{said}" src="{image_source(so_far(tables).figure)}"><p>{said}</p>')
        (place.update if shown else place.display)(html)
        shown.append(said)

    return draw


def _watched() -> bool:
    """Whether a person started the cell that is running: such requests allow input, and those of papermill do not."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and kernel.get_parent().get("content", {}).get("allow_stdin", False)


def so_far(tables: Mapping[RunConfig, pd.DataFrame]) -> Axes:
    """Mean test accuracy against sparsity, a curve for each setting, from a table of each run's finished rounds.

    A mean is over the seeds that have finished the round. The figure is none of pyplot's, so that any thread may draw.
    """
    from dsdlib.explorer.settings import describe, differing, in_words  # not before it trains: it imports all widgets

    choices = {config: describe(config) for config in tables}
    names = {config: in_words(choice, differing(choices.values())) or "all runs" for config, choice in choices.items()}
    table = pd.concat([table.assign(setting=names[config]) for config, table in tables.items()])
    ax = Figure(figsize=(7, 3.6)).subplots()
    plots.curves(table, "setting", ax=ax)
    ax.get_legend().remove()  # it stands beside the axes, and would leave little room for the curves
    if 1 < table["setting"].nunique() <= MOST:
        ax.legend()
    return ax
