"""Names at the ends of curves, in the place of a legend."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.container import Container
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D

from dsdlib.plots.style import MUTED

MOST = 8  # curves with names; more have a legend
LINE_HEIGHT = 1.35  # in sizes of the font
KEY = 0.08  # where names begin, right of the axes, in their width


def label_curves(figure: Figure) -> None:
    """Name the curves of a figure at their ends, right of the axes, and remove the legend that named them.

    This is done for axes in the last column whose legend names lines alone, at most `MOST`. A short piece of the line
    stands before each name and leads to the end of the curve. Names keep a distance from one another.
    """
    figure.draw_without_rendering()  # so that the layout and the scales of the axes are final
    for ax in figure.axes:
        place, legend = ax.get_subplotspec(), ax.get_legend()
        if legend is None or place is None or not place.is_last_col():
            continue
        lines = [next(iter(handle), None) if isinstance(handle, Container) else handle for handle in _handles(ax)]
        if len(lines) <= MOST and all(_is_curve(line) for line in lines):
            names = [text.get_text() for text in legend.get_texts()]
            _label(ax, lines, names, legend.get_title().get_text())
            legend.remove()


def _handles(ax: Axes) -> list[object]:
    handles, labels = ax.get_legend_handles_labels()
    named = dict(zip(labels, handles, strict=True))
    return [named.get(text.get_text()) for text in ax.get_legend().get_texts()]


def _is_curve(line: object) -> bool:
    """Whether this is a line, joined, through two points or more."""
    if not isinstance(line, Line2D) or line.get_linestyle() == "None":
        return False
    return np.isfinite(np.asarray(line.get_xydata(), dtype=float)).all(axis=1).sum() > 1


def _label(ax: Axes, lines: list[Line2D], names: list[str], title: str) -> None:
    size = FontProperties(size="medium").get_size_in_points()
    gap = LINE_HEIGHT * size / 72 * ax.figure.dpi / ax.get_window_extent().height
    ends = [_end(ax, line) for line in lines]
    heights = spread([y for _, y in ends], gap)
    axis = ax.transAxes
    for line, name, (x, y), height in zip(lines, names, ends, heights, strict=True):
        style = {"color": line.get_color(), "clip_on": False, "transform": axis}
        ax.plot([x, 1 + KEY / 3], [y, height], lw=0.7, alpha=0.7, **style)
        ax.plot([1 + KEY / 3, 1 + KEY], [height, height], ls=line.get_linestyle(), lw=line.get_linewidth(), **style)
        ax.text(1.01 + KEY, height, name, transform=axis, va="center")
    if title:
        ax.text(1.01 + KEY, max(heights) + 1.1 * gap, title, transform=axis, va="center", color=MUTED)


def _end(ax: Axes, line: Line2D) -> tuple[float, float]:
    """The right end of a line, as shares of the axes' width and height."""
    points = ax.transAxes.inverted().transform(ax.transData.transform(line.get_xydata()))
    points = points[np.isfinite(points).all(axis=1)]
    x, y = points[np.argmax(points[:, 0])]
    return float(x), float(np.clip(y, 0, 1))


def spread(places: list[float], gap: float) -> np.ndarray:
    """The places nearest to the given ones that are at least ``gap`` apart and keep their order.

    Groups of places that are too close are spread evenly around their mean. Below 0, all are moved up.
    """
    order = np.argsort(places, kind="stable")
    groups: list[list[float]] = []  # of places less their least distance from the lowest one
    for rank, index in enumerate(order):
        groups.append([places[index] - rank * gap])
        while len(groups) > 1 and np.mean(groups[-2]) > np.mean(groups[-1]):
            last = groups.pop()
            groups[-1] += last
    found = np.empty(len(places))
    found[order] = [np.mean(group) for group in groups for _ in group] + gap * np.arange(len(places))
    return found + max(0.0, -found.min())
