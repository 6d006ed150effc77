"""Figures: a tidy table in, matplotlib axes out. Nothing is computed here but means and intervals over seeds.

`curves` draws measures against sparsity, `valleys` depths and phases, `stops` stopping rules, `theory` the linear
theory's risks, `forest` the effects of claims, and `lines` anything else; `panels` makes rows of them. `series` names
each series and says how it is drawn, and `drawn` returns the data behind a figure.
"""

from dsdlib.plots.advice import advice
from dsdlib.plots.axes import measure_axis, sparsity_axis, weights_axis
from dsdlib.plots.curves import beside, curves, entropies, mark, parts, phase_spans, shade_phases
from dsdlib.plots.data import drawn
from dsdlib.plots.forest import forest, forests
from dsdlib.plots.labels import label_curves
from dsdlib.plots.lines import against, lines, mark_width, timings, widths
from dsdlib.plots.panels import panels
from dsdlib.plots.series import MEMORISED, PARTS, SERIES, VALIDATION, series_style, series_styles, shades
from dsdlib.plots.stops import stops, stops_beside
from dsdlib.plots.style import INK, MUTED, PALETTE, PHASE_COLOURS, TEST, TRAIN, set_theme
from dsdlib.plots.theory import advantages, agreement, risks
from dsdlib.plots.valleys import depths, phase_map, places, weights_left

__all__ = [
    "INK",
    "MEMORISED",
    "MUTED",
    "PALETTE",
    "PARTS",
    "PHASE_COLOURS",
    "SERIES",
    "TEST",
    "TRAIN",
    "VALIDATION",
    "advantages",
    "advice",
    "against",
    "agreement",
    "beside",
    "curves",
    "depths",
    "drawn",
    "entropies",
    "forest",
    "forests",
    "label_curves",
    "lines",
    "mark",
    "mark_width",
    "measure_axis",
    "panels",
    "parts",
    "phase_map",
    "phase_spans",
    "places",
    "risks",
    "series_style",
    "series_styles",
    "set_theme",
    "shade_phases",
    "shades",
    "sparsity_axis",
    "stops",
    "stops_beside",
    "timings",
    "weights_axis",
    "weights_left",
    "widths",
]
