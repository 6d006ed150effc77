"""The explorer: controls, a curve with its cursor, the panels that follow it, and the claims about its runs."""

from __future__ import annotations

import base64
from html import escape
from typing import Any

import ipywidgets as w
import numpy as np
import pandas as pd

from dsdlib import analysis
from dsdlib.config import ConfigError, RunConfig
from dsdlib.explorer import curves
from dsdlib.explorer.claims import Claims
from dsdlib.explorer.code import as_code
from dsdlib.explorer.controls import ALL, Controls
from dsdlib.explorer.figures import HIGHEST, CurveFigure, svg
from dsdlib.explorer.form import TrainingForm
from dsdlib.explorer.html import STYLE, bullets, note, picture
from dsdlib.explorer.panels import Panels
from dsdlib.explorer.runs import Runs, finished_runs, measures
from dsdlib.explorer.settings import AXES, Choice, Settings, describe, differing, in_words
from dsdlib.study.store import Store


class Explorer:
    """The live explorer of a store's finished runs. In JupyterLab it is shown by being a cell's last expression.

    Elsewhere, as in a notebook that papermill has executed, its first state is shown as a picture.
    """

    def __init__(self, store: Store, runs: Runs):
        self.store, self.runs = store, runs
        self.pins: list[tuple[Choice, pd.DataFrame]] = []
        self.trained: list[RunConfig] = []  # runs that are being trained, and are shown instead of the choice
        self.figure = CurveFigure()
        self.controls = Controls(Settings(runs), self._chosen, self.draw)
        self.panels = Panels(store)
        self.form = TrainingForm(store, runs, self._growing, self._trained)
        self.claims = Claims(self.controls.show)
        self._build()
        self.sparsity = self._bottom()
        self._chosen()

    def _bottom(self) -> float:
        """The sparsity of the valley's bottom, where the cursor is at first; 0 without a valley."""
        table = self.table()
        bottom = None if table["test_accuracy"].isna().any() else analysis.mean_valley(table).bottom
        return 0.0 if bottom is None else float(sorted(table["sparsity"].unique())[bottom])

    # What is shown ------------------------------------------------------------------------------------------------

    @property
    def choice(self) -> Choice:
        """The setting that is drawn."""
        return describe(self.trained[0]) if self.trained else self.controls.choice

    @property
    def configs(self) -> list[RunConfig]:
        """The runs that are drawn, in ascending order of their seeds."""
        if self.trained:
            return self.trained
        keys = self.controls.settings.keys(self.controls.choice)
        seed = self.controls.seed.value
        return [self.runs.configs[key] for key in ([keys[seed]] if seed in keys else keys.values())]

    def table(self) -> pd.DataFrame:
        """The rows of the runs that are drawn, with their measures only."""
        if self.trained:
            return measures(self.store, self.trained)
        return self.runs.rows(config.key for config in self.configs)

    # Drawing ------------------------------------------------------------------------------------------------------

    def _chosen(self) -> None:
        """Draw another choice of runs."""
        self.trained = []
        self.claims.show(self.controls.settings, self.runs, self.choice)
        self.draw()

    def draw(self) -> None:
        """Draw the curve, and what is said of it."""
        self.shown = table = self.table()
        if table.empty:
            self.title.value = f"<h2>{escape(in_words(self.choice, AXES))}</h2>" + note("No round is finished yet.")
            return
        self.controls.offer(curves.measured(table))
        measure, x = self.controls.measure.value, self.controls.x.value
        own = curves.curve(table, measure)
        pins = [curves.curve(pin, measure) for _, pin in self.pins if measure in curves.measured(pin)]
        points = self._published(measure)
        self.figure.axes(measure, x, pd.concat([own.places, *(pin.places for pin in pins)]))
        self.figure.draw(own, self.controls.seed.value == ALL, pins, points if self.publish.value else points.head(0))
        self.figure.shade(own, curves.phases(table))
        said = curves.sentence(table)
        self.title.value = f"<h2>{said}</h2>" + note(f"{curves.depth(table)}. {in_words(self.choice, AXES)}.")
        self.plot.value = picture(svg(self.figure.figure), f"{measure} against {x}. {said}")
        self._say_pins()
        self._reach(own)
        self._advise()

    def _advise(self) -> None:
        """The advice on the runs that are shown, where it is asked for: it takes longer than the curve."""
        self.advice.value = ""
        if self.advised.value:
            try:
                self.advice.value = analysis.advise(curves.finished(self.shown))._repr_html_()
            except ConfigError as error:
                self.advice.value = note(str(error))

    def _published(self, measure: str) -> pd.DataFrame:
        """The papers' points for what is shown; the button is greyed if there are none."""
        points = curves.published_points(self.configs[0], measure)
        self.publish.disabled = points.empty or self.controls.x.value != "sparsity"
        return points

    def _say_pins(self) -> None:
        """Name the settings in which the pinned curves and the one shown differ."""
        choices = [self.choice, *(choice for choice, _ in self.pins)]
        axes = differing(choices)
        names = [in_words(choice, axes) or "the same setting" for choice in choices]
        lines = [f"Pinned {n}: {name}" for n, name in enumerate(names[1:], 1)]
        self.pinned.value = note(f"Shown: {names[0]}") + bullets(lines) if self.pins else ""
        self.clear.disabled, self.pin.disabled = not self.pins, len(self.pins) == HIGHEST

    def _reach(self, own: curves.Curve) -> None:
        """Let the cursor reach the rounds of the curve, and stay as near as it can to the sparsity where it is."""
        sparsities = own.places["sparsity"]
        before = self.sparsity
        options = [(f"{sparsity:.2%}", round_) for round_, sparsity in sparsities.items()]
        self._moving = False
        if self.cursor.options != tuple(options):
            self.cursor.options = options
        nearest = int((np.log1p(-sparsities.clip(upper=1 - 1e-9)) - np.log1p(-before)).abs().idxmin())
        self.cursor.value = nearest
        self._moving = True
        self.move()

    def move(self) -> None:
        """Move the cursor through the panels. The curve itself is not drawn again."""
        table, round_ = self.shown, self.cursor.value
        if table.empty:
            return
        here = table[table["round"] == round_]
        self.sparsity = min(here["sparsity"].mean(), 1 - 1e-9)
        column = curves.XS[self.controls.x.value]
        left, top, height = self.figure.place(here[column].mean())
        self.line.value = f'<div class="dsd-line" style="left:{left:.2f}%;top:{top:.2f}%;height:{height:.2f}%"></div>'
        self.readout.value = note(curves.at_round(table, self.controls.measure.value, round_))
        if self.trained:
            self.panels.clear("The panels are filled when the training is over.")
        else:
            self.panels.show(self.configs[0], table, round_)

    # Buttons ------------------------------------------------------------------------------------------------------

    def _pin(self) -> None:
        self.pins.append((self.choice, self.shown))
        self.draw()

    def _clear(self) -> None:
        self.pins.clear()
        self.draw()

    def _csv(self) -> None:
        """Offer the table of what is drawn, configuration included, as a file."""
        text = self.store.table(self.configs).to_csv(index=False)
        data = base64.b64encode(text.encode()).decode()
        link = f'<a download="curve.csv" href="data:text/csv;base64,{data}">Save curve.csv</a>'
        self.out.value = f"<p>{link} ({len(text.splitlines()) - 1} rows)</p>"

    def _code(self) -> None:
        self.out.value = f"<pre tabindex='0' aria-label='Code'>{escape(as_code(self.configs))}</pre>"

    # Training -----------------------------------------------------------------------------------------------------

    def _growing(self, runs: list[RunConfig]) -> None:
        self.trained = runs
        self.draw()

    def _trained(self, runs: list[RunConfig]) -> None:
        """After a training: show the finished runs as a choice. An unfinished curve stays as it is."""
        self.runs = self.form.runs = finished_runs(self.store)
        settings = Settings(self.runs)
        if runs[0].key in self.runs.configs:
            self.controls.reset(settings, describe(runs[0]))
        else:
            self.controls.settings = settings
            if self.shown.empty:  # nothing was trained
                self._chosen()

    # Widgets ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.plot, self.line, self.pinned, self.out, self.advice = (w.HTML() for _ in range(5))
        self.title, self.readout = w.HTML().add_class("dsd-live"), w.HTML().add_class("dsd-live")
        self.advised = w.Checkbox(description="Advice: where to stop", indent=False)
        self.advised.observe(lambda _: self._advise(), "value")
        self._moving = False
        self.cursor = w.SelectionSlider(options=[("0%", 0)], description="Sparsity", layout=w.Layout(width="auto"))
        self.cursor.observe(lambda _: self.move() if self._moving else None, "value")
        self.pin, self.clear = w.Button(description="Pin"), w.Button(description="Clear pins", disabled=True)
        self.publish = w.Checkbox(description="Published curve", indent=False)
        csv, code = w.Button(description="CSV"), w.Button(description="Copy as code")
        for button, act in ((self.pin, self._pin), (self.clear, self._clear), (csv, self._csv), (code, self._code)):
            button.on_click(lambda _, act=act: act())
        self.publish.observe(lambda _: self.draw(), "value")
        buttons = w.HBox([self.pin, self.clear, csv, code]).add_class("dsd-buttons")
        tabs = w.Tab(
            [w.VBox([self.controls.box, self.publish, buttons, self.out]), self.form.box], titles=("Explore", "Train")
        )
        tabs.observe(lambda change: self.form.copy(self.configs[0]) if change["new"] == 1 else None, "selected_index")
        plot = w.Box([self.plot, self.line.add_class("dsd-over")]).add_class("dsd-plot")
        centre = w.VBox([self.title, plot, self.cursor.add_class("dsd-cursor"), self.readout, self.pinned])
        right = w.VBox([self.panels.box, self.advised, self.advice])
        columns = {"dsd-left": tabs, "dsd-centre": centre, "dsd-right": right, "dsd-below": self.claims.box}
        page = w.Box([box.add_class(name) for name, box in columns.items()]).add_class("dsd-page")
        self.widget = w.VBox([w.HTML(STYLE), page]).add_class("dsd")

    def _repr_mimebundle_(self, **options: Any) -> dict[str, Any]:
        """The widget for JupyterLab; its first state as a picture and as text for everything else."""
        said = curves.sentence(self.shown)
        caption = note(f"{said} {curves.depth(self.shown)}. {in_words(self.choice, AXES)}.")
        static = {"text/html": f"<figure>{self.plot.value}<figcaption>{caption}</figcaption></figure>"}
        return self.widget._repr_mimebundle_(**options) | static | {"text/plain": said}
