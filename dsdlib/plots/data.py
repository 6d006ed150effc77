"""The data behind a figure: what the functions of `dsdlib.plots` have drawn, as one tidy table."""

from typing import Any
from weakref import WeakKeyDictionary

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_DRAWN: WeakKeyDictionary[Axes, list[pd.DataFrame]] = WeakKeyDictionary()


def record(ax: Axes, table: pd.DataFrame, **same: Any) -> None:
    """Note that a ``table`` was drawn on axes. ``same`` are columns with one value each, such as its ``series``."""
    own = {name: value for name, value in same.items() if value is not None}
    _DRAWN.setdefault(ax, []).append(table.drop(columns=own.keys() & set(table)).assign(**own))


def drawn(figure: Figure) -> pd.DataFrame:
    """The data drawn in a figure. It is empty if no function of `dsdlib.plots` drew it.

    The columns ``panel``, ``series`` and ``measure`` come first, where they hold anything; then those of the tables
    drawn, in their own units. A panel without a title has that of the panel above it.
    """
    titles: dict[int, str] = {}
    tables = []
    for ax in figure.axes:
        place = ax.get_subplotspec().colspan.start if ax.get_subplotspec() else -1
        panel = titles[place] = ax.get_title(loc="left") or ax.get_title() or titles.get(place, "")
        tables += [table.assign(panel=panel) for table in _DRAWN.get(ax, [])]
    if not tables:
        return pd.DataFrame()
    together = pd.concat(tables, ignore_index=True)
    together = together.loc[:, together.notna().any() & (together != "").any()]
    first = [name for name in ("panel", "series", "measure") if name in together]
    return together[[*first, *(name for name in together if name not in first)]]
