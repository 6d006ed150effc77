"""The explorer's two figures. Their artists are made once; afterwards only their data change."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import ClassVar

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from dsdlib import plots
from dsdlib.explorer.curves import MEASURES, Curve
from dsdlib.plots.style import GREY, TEST

PINNED = GREY
HIGHEST = 9  # pinned curves at most


def svg(figure: Figure) -> str:
    """A figure as a data URI of an SVG, in which text stays text.

    `Figure.savefig` would draw everything twice, the first time to lay it out, which these figures do not need.
    """
    file = io.BytesIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "dsdlib"}):
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()


def _figure(width: float, height: float, place: tuple[float, float, float, float]) -> tuple[Figure, mpl.axes.Axes]:
    with mpl.rc_context({"figure.constrained_layout.use": False}):
        figure = Figure(figsize=(width, height))
    return figure, figure.add_axes(place)


class CurveFigure:
    """Mean curves with intervals, phases as bands, single seeds, pinned curves in grey and published points."""

    def __init__(self) -> None:
        self.figure, self.ax = _figure(7, 4.4, (0.09, 0.13, 0.85, 0.8))
        self.x = ""
        ax = self.ax
        (self.line,) = ax.plot([], [], color=TEST, lw=2.5, zorder=4)
        self.band = ax.add_collection(PolyCollection([], color=TEST, alpha=0.18, lw=0, zorder=3), autolim=False)
        self.seeds = ax.add_collection(LineCollection([], color=TEST, alpha=0.45, lw=0.9, zorder=3), autolim=False)
        self.pins = ax.add_collection(LineCollection([], color=PINNED, lw=1.8, zorder=2), autolim=False)
        self.numbers = [ax.text(0, 0, str(n + 1), color=PINNED, va="center", weight="bold") for n in range(HIGHEST)]
        (self.points,) = ax.plot([], [], "o", color=plots.INK, mfc="white", ms=5, ls="none", zorder=5)
        self.bands = {
            phase: ax.add_patch(Rectangle((0, 0), 0, 1, transform=ax.get_xaxis_transform(), fc=colour, lw=0, zorder=0))
            for phase, colour in plots.PHASE_COLOURS.items()
        }
        named = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom", "color": plots.MUTED}
        self.names = {phase: ax.text(0, 1.01, phase, **named) for phase in self.bands}

    def axes(self, measure: str, x: str, places: pd.DataFrame) -> None:
        """Set the scales and the labels for a measure and an x axis, which reaches over the ``places``."""
        if x != self.x:
            if x == "sparsity":
                plots.sparsity_axis(self.ax, 0.99)
            else:
                self.ax.set_xlim(1, 10)  # a logarithmic scale has no place for 0
                plots.weights_axis(self.ax)
            self.x = x
        if x == "sparsity":
            self.ax.set_xlim(0, max(places["sparsity"].max(), 0.5))
        else:
            weights = places["remaining_weights"]
            self.ax.set_xlim(weights.max() * 1.03, max(weights.min(), 1) * 0.97)
        label = MEASURES[measure][1]
        if not label.endswith("(%)"):
            self.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        plots.measure_axis(self.ax, label)

    def draw(self, curve: Curve, each_seed: bool, pins: Sequence[Curve], points: pd.DataFrame) -> None:
        """Put a curve, the curves of its seeds, pinned curves and published points into the axes."""
        x = curve.x(self.x)
        self.line.set_data(x, curve.mean)
        known = np.isfinite(curve.low)
        edge = np.concatenate([np.c_[x, curve.low][known], np.c_[x, curve.high][known][::-1]])
        self.band.set_verts([edge] if known.any() else [])
        self.seeds.set_segments([np.c_[x, seed] for seed in curve.seeds] if each_seed else [])
        self.pins.set_segments([np.c_[pin.x(self.x), pin.mean] for pin in pins])
        for number, text in enumerate(self.numbers):
            text.set_visible(number < len(pins))
            if number < len(pins):
                text.set_position((pins[number].x(self.x)[-1], pins[number].mean[-1]))
        shown = self.x == "sparsity" and len(points) > 0
        self.points.set_data(*((points["sparsity"], points["value"]) if shown else ([], [])))
        drawn = [curve.mean, curve.low, curve.high, *(pin.mean for pin in pins)]
        drawn += [curve.seeds.ravel()] * each_seed + [points["value"].to_numpy()] * shown
        values = np.concatenate(drawn)
        values = values[np.isfinite(values)]
        low, high = (values.min(), values.max()) if len(values) else (0, 1)
        margin = 0.08 * (high - low) or 0.02
        self.ax.set_ylim(low - margin, high + margin)

    def shade(self, curve: Curve, phases: Sequence[str]) -> None:
        """Shade the phases of the first rounds of a curve. Without ``phases`` nothing is shaded."""
        sparsities = curve.places["sparsity"].to_numpy()[: len(phases)]
        spans = plots.phase_spans(sparsities, phases) if len(phases) else {}
        total = curve.places["remaining_weights"].iloc[0] / (1 - curve.places["sparsity"].iloc[0])
        for phase, band in self.bands.items():
            band.set_visible(phase in spans), self.names[phase].set_visible(phase in spans)
            if phase in spans:
                left, right, middle = spans[phase]
                if self.x != "sparsity":
                    left, right, middle = (total * (1 - place) for place in spans[phase])
                band.set_x(left), band.set_width(right - left)
                self.names[phase].set_x(middle)

    def place(self, x: float) -> tuple[float, float, float]:
        """Where the cursor is: its distance from the left, and top and height of the axes, in percent of the figure."""
        left = self.figure.transFigure.inverted().transform(self.ax.transData.transform((x, 0)))[0]
        box = self.ax.get_position()
        return 100 * left, 100 * (1 - box.y1), 100 * box.height


class EpochFigure:
    """Accuracy after each epoch of a round: a star marks the best epoch by validation accuracy, a dot the last one."""

    PARTS: ClassVar = {
        "train": plots.PARTS["train_accuracy"],
        "validation": plots.VALIDATION,
        "test": plots.PARTS["test_accuracy"],
    }

    def __init__(self) -> None:
        self.figure, self.ax = _figure(5, 2.7, (0.13, 0.2, 0.84, 0.74))
        self.lines = {p: self.ax.plot([], [], color=s.colour, ls=s.line, lw=1.6)[0] for p, s in self.PARTS.items()}
        (self.best,) = self.ax.plot([], [], "*", color=TEST, ms=12, mec="white", zorder=5)
        (self.last,) = self.ax.plot([], [], "o", color=TEST, ms=7, mec="white", zorder=5)
        self.ax.set_xlabel("Epoch")
        self.ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        plots.measure_axis(self.ax)

    def draw(self, epochs: pd.DataFrame) -> None:
        """Put the rows of a round's epochs into the axes."""
        at = epochs["epoch"].to_numpy() + 1
        for part, line in self.lines.items():
            line.set_data(at, epochs[f"{part}_accuracy"])
        validation, test = epochs["validation_accuracy"].to_numpy(), epochs["test_accuracy"].to_numpy()
        self.last.set_data(at[-1:], test[-1:])
        best = [] if np.isnan(validation).all() else [int(np.nanargmax(validation))]
        self.best.set_data(at[best], test[best])
        self.ax.set_xlim(0.5, at[-1] + 0.5)
        values = epochs[[f"{part}_accuracy" for part in self.PARTS]].to_numpy()
        low, high = np.nanmin(values), np.nanmax(values)
        self.ax.set_ylim(low - 0.08 * (high - low) - 0.01, high + 0.08 * (high - low) + 0.01)
