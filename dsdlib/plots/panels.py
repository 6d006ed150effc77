"""Several panels in one figure: the same drawing for several parts of the data, with one legend.

For example::

    figure, axes = plots.panels(table.groupby("Network"), lambda part, ax: plots.curves(part, "width", ax=ax))
    measures = {"Test": "test_accuracy", "Train (noisy labels)": "train_accuracy"}
    plots.panels(measures, lambda measure, ax: plots.curves(table, "noise_rate", measure, ax=ax))
    plots.panels({"λ = 0": weak, "λ = 0.01": strong}, plots.parts, plots.entropies)
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.container import Container
from matplotlib.figure import Figure


def panels(
    parts: Mapping[Hashable, Any] | Iterable[tuple[Hashable, Any]],
    *draws: Callable[..., object],
    title: str = "{}",
    size: tuple[float, float] = (5.5, 4.4),
    sharey: bool = True,
) -> tuple[Figure, np.ndarray]:
    """A row of panels, one for each part; with several ``draws``, a row for each of them.

    ``parts`` maps a panel's title to what is drawn in it. Pairs do as well, so that ``table.groupby(column)`` makes a
    panel for each value of a column. A title is formatted by ``title``, for example ``"{:.0%} label noise"``. Each of
    ``draws`` is called as ``draw(part, ax=axes)``; any function of `dsdlib.plots` whose other arguments have defaults
    will do, and a lambda for the rest. ``size`` is one panel's, in inches.

    Panels of a row share their y axis unless ``sharey`` is false; panels of a column share their x axis. An axis label
    that all panels of a row (y) or of the figure (x) have in common is written once. A row has one legend, at its
    right. Each panel keeps its own if its title, a label or a line style means something else in another panel.

    Returns the figure and its axes, (rows, panels).
    """
    pairs = list(parts.items() if isinstance(parts, Mapping) else parts)
    rows, columns = len(draws), len(pairs)
    shared = {"sharex": "col" if rows > 1 else False, "sharey": "row" if sharey else False}
    figure, axes = plt.subplots(rows, columns, figsize=(size[0] * columns, size[1] * rows), squeeze=False, **shared)
    for row, draw in zip(axes, draws, strict=True):
        for ax, (_, part) in zip(row, pairs, strict=True):
            draw(part, ax=ax)
        _one_legend(row)
        if sharey and len({ax.get_ylabel() for ax in row}) == 1:
            for ax in row[1:]:
                ax.set_ylabel("")
    for ax, (name, _) in zip(axes[0], pairs, strict=True):
        ax.set_title(title.format(name))
    _one_x_label(figure, axes)
    return figure, axes


def _one_legend(row: np.ndarray) -> None:
    """One legend at the right of the last panel, if title, labels and line styles mean the same in all panels, and
    some labels are in all of them."""
    drawn = [ax for ax in row if ax.get_legend()]
    handles: dict[str, Artist | Container] = {}
    styles: set[tuple[str, Hashable]] = set()
    for ax in drawn:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
            styles.add((label, _style(handle)))
    titles = [ax.get_legend().get_title().get_text() for ax in drawn]
    named = [set(ax.get_legend_handles_labels()[1]) for ax in drawn]
    apart = len(set(titles)) != 1 or not set.intersection(*named)
    if apart or not len(styles) == len(handles) == len({style for _, style in styles}):
        for ax in drawn:
            ax.get_legend().set(loc="best", bbox_to_anchor=None)
        return
    for ax in drawn:
        ax.get_legend().remove()
    place = {"loc": "upper left", "bbox_to_anchor": (1, 1), "alignment": "left"}
    list(row)[-1].legend(list(handles.values()), list(handles), title=titles[0], **place)


def _style(handle: Artist | Container) -> Hashable:
    """Colour, line style and marker of a legend's entry."""
    artist = handle[0] if isinstance(handle, Container) else handle
    colour = artist.get_color() if hasattr(artist, "get_color") else tuple(artist.get_facecolor())
    return str(colour), artist.get_linestyle(), getattr(artist, "get_marker", str)()


def _one_x_label(figure: Figure, axes: np.ndarray) -> None:
    """The label of the x axis, below the lowest row alone, and once for the figure where all panels have the same."""
    labels = {ax.get_xlabel() for ax in axes.flat}
    for ax in axes.flat if len(labels) == 1 and axes.size > 1 else axes[:-1].flat:
        ax.set_xlabel("")
    if len(labels) == 1 and axes.size > 1:
        figure.supxlabel(labels.pop(), size=plt.rcParams["axes.labelsize"], color=plt.rcParams["axes.labelcolor"])
