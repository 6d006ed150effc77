"""Depths and places of valleys, and phases, of several groups of runs."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from dsdlib.analysis.curves import CLEAR
from dsdlib.plots.axes import axes, measure_axis, note_few, sparsity_axis
from dsdlib.plots.data import record
from dsdlib.plots.series import DASHED, SOLID, SeriesStyle, is_ordered, series_styles, spoken
from dsdlib.plots.style import MUTED, PHASE_COLOURS, TEST, TRAIN


def depths(
    valleys: pd.DataFrame, x: str, hue: str | None = None, label: str | None = None, ax: Axes | None = None
) -> Axes:
    """The depth of the valley with its interval, for each value of the column ``x`` of `dsdlib.analysis.valleys`.

    There is a line for each value of ``hue``. Values of ``x`` that are names are not joined. ``label`` is that of the x
    axis.
    """
    ax, ordered = axes(ax), is_ordered(valleys[x])
    values = sorted(valleys[x].unique()) if ordered else list(valleys[x].unique())
    groups = series_styles(valleys[hue]) if hue else {None: SeriesStyle("", TRAIN)}
    for value, own in groups.items():
        group = valleys[valleys[hue] == value] if hue else valleys
        at = [values.index(v) for v in group[x]]
        bars = np.abs(group[["low", "high"]].to_numpy().T - group["depth"].to_numpy())
        line = own.line if ordered else "none"
        style = {"marker": own.marker, "ls": line, "color": own.colour, "label": own.label}
        ax.errorbar(at, group["depth"], bars, capsize=4, **style)
    record(ax, valleys)
    names = [style.label for style in series_styles(valleys[x]).values()]
    ax.set_xticks(range(len(values)), names, **({} if ordered else {"rotation": 30, "ha": "right"}))
    ax.set_xlabel(spoken(x) if label is None else label)
    measure_axis(ax, "Depth of the valley (points)")
    ax.axhline(0, color=MUTED, lw=1)
    if hue:
        ax.legend(title=spoken(hue))
    if "seeds" in valleys:
        note_few(ax, valleys["seeds"].max(), "seed")
    return ax


def places(valleys: pd.DataFrame, x: str, ax: Axes | None = None) -> Axes:
    """The sparsity of the mean curve's valley and second peak, for each value of ``x`` with a clear valley."""
    ax = axes(ax)
    values = sorted(valleys[x].unique())
    at = [values.index(v) for v in valleys[x]]
    record(ax, valleys)
    for name, label, colour, line in (("bottom", "Valley", TEST, SOLID), ("peak", "Second peak", TRAIN, DASHED)):
        sparsity = 100 * valleys[f"{name}_sparsity"].where(valleys["depth"] > CLEAR)
        ax.plot(at, sparsity, marker="o", ls=line, color=colour, label=label)
    ax.set_xticks(range(len(values)), [style.label for style in series_styles(valleys[x]).values()])
    ax.set_xlabel(spoken(x))
    ax.set_ylabel("Sparsity (%)")
    ax.legend()
    return ax


def phase_map(phases: pd.DataFrame, by: str, label: str, ax: Axes | None = None) -> Axes:
    """A bar along the sparsity axis for each value of ``by``, coloured by phase.

    ``phases`` is a `dsdlib.analysis.phase_table`, and ``label`` that of the y axis.
    """
    ax = axes(ax)
    values = sorted(phases[by].unique())
    record(ax, phases)
    for phase, colour in PHASE_COLOURS.items():
        part = phases[phases["phase"] == phase]
        at = [values.index(value) for value in part[by]]
        ax.barh(at, part["ends"] - part["begins"], left=part["begins"], color=colour, ec=MUTED, label=phase, lw=0.6)
    sparsity_axis(ax, phases["ends"].max())
    names = series_styles(phases[by])
    ax.set_yticks(range(len(values)), [names[value].label for value in values])
    ax.set_ylabel(label)
    patches = [Patch(fc=colour, ec=MUTED, lw=0.6, label=phase) for phase, colour in PHASE_COLOURS.items()]
    ax.legend(handles=patches, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=len(patches))
    return ax
