"""Depths and places of valleys, and phases, of several groups of runs."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import EngFormatter

from dsdlib.analysis.curves import CLEAR
from dsdlib.plots.axes import axes, draw_by, measure_axis, note_few, plain_ticks, sparsity_axis
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


def weights_left(places: Mapping[str, pd.DataFrame], ax: Axes | None = None) -> Axes:
    """The weights left at each place against the dense network's weights: means with 95% intervals over seeds.

    ``places`` are those of `dsdlib.analysis.weights_at_places`. Both axes are logarithmic. Dotted lines join points of
    equal sparsity; points of equal numbers of weights lie on horizontal lines.
    """
    ax = axes(ax)
    parts = [each.rename_axis("seed").reset_index().melt("seed").assign(Place=name) for name, each in places.items()]
    table = pd.concat(parts).rename(columns={"variable": "dense", "value": "left"})
    table["dense"] = table["dense"].astype(float)
    draw_by(ax, table, "dense", "left", "Place", bars=True)
    ax.set(xscale="log", yscale="log", xlabel="Prunable weights of the dense network", ylabel="Prunable weights left")
    ends, lowest = np.array([table["dense"].min(), table["dense"].max()]), table["left"].min()
    low = min(lowest, 0.01 * ends[0]) / 1.5
    for density in (1, 0.1, 0.01, 0.001):
        ax.plot(ends, density * ends, ":", color=MUTED, lw=1, zorder=0)
        name = {"xytext": (-2, -6), "textcoords": "offset points", "ha": "right", "va": "top", "color": MUTED}
        text = f"{100 * (1 - density):g}% sparsity" if density < 1 else "dense"
        name |= {"size": "small", "clip_on": True, "bbox": {"fc": "white", "ec": "none", "pad": 0.5}, "zorder": 0.5}
        if density * ends[1] > 3 * low:  # there is room for a name below the line
            ax.annotate(text, (ends[1], density * ends[1]), **name)
    ax.set_ylim(low, 1.5 * ends[1])
    plain_ticks(ax.xaxis, sorted(table["dense"].unique()))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(EngFormatter(sep="", places=0))
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
