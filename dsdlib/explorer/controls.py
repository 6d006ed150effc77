"""The left column: which runs are shown, and how."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import contextmanager

import ipywidgets as w

from dsdlib.explorer.curves import MEASURES, XS
from dsdlib.explorer.html import MOVES
from dsdlib.explorer.settings import AXES, NUMBERS, Choice, Settings, changed, written

MEAN, ALL = "mean over seeds", "all seeds"


def field(widget: w.Widget, *styles: str) -> w.Widget:
    """A control with its label above it."""
    for style in ("dsd-field", *styles):
        widget.add_class(style)
    return widget


class Controls:
    """Dropdowns and sliders for a choice of `Settings`, the seeds and the axes.

    ``on_choice`` is called when the choice changes, and ``on_view`` when only the seeds or the axes do.
    """

    def __init__(self, settings: Settings, on_choice: Callable[[], None], on_view: Callable[[], None]):
        self.settings, self.on_choice, self.on_view = settings, on_choice, on_view
        self.choice: Choice = settings.first()
        self._quiet = False
        headings = {axis: heading for axis, (heading, _) in AXES.items()}
        names = [axis for axis in AXES if axis not in NUMBERS]
        self.pick = {axis: field(w.Dropdown(description=headings[axis])) for axis in names}
        self.slide = {
            axis: field(w.SelectionSlider(options=[("–", 0)], description=headings[axis]), "dsd-slide")
            for axis in NUMBERS
        }
        self.seed = field(w.Dropdown(description="Seeds"))
        self.measure = field(w.Dropdown(options=list(MEASURES), description="Vertical axis"))
        self.x = field(w.Dropdown(options=list(XS), description="Horizontal axis"))
        for axis, control in {**self.pick, **self.slide}.items():
            control.observe(lambda change, axis=axis: self._moved(axis, change["new"]), "value")
        for control in (self.seed, self.measure, self.x):
            control.observe(lambda _: None if self._quiet else self.on_view(), "value")
        self.box = w.VBox([*self.pick.values(), *self.slide.values(), self.seed, self.measure, self.x])
        self._update()

    def show(self, choice: Choice) -> None:
        """Set all controls to a choice for which there are runs, and report it."""
        self.choice = choice
        self._update()
        self.on_choice()

    def reset(self, settings: Settings, choice: Choice) -> None:
        """Take other settings, when runs have been added, and show a choice of them."""
        self.settings = settings
        self.show(choice)

    def offer(self, measures: list[str]) -> None:
        """Offer these measures for the vertical axis."""
        with self._quietly():
            kept = self.measure.value
            self.measure.options = measures
            self.measure.value = kept if kept in measures else measures[0]

    def _moved(self, axis: str, value: Hashable) -> None:
        if not self._quiet:
            self.show(self.settings.move(self.choice, axis, value))

    @contextmanager
    def _quietly(self):
        before, self._quiet = self._quiet, True
        try:
            yield
        finally:
            self._quiet = before

    def _update(self) -> None:
        """Set options and values. An option for which other controls would have to move says which."""
        with self._quietly():
            for axis, control in self.pick.items():
                possible = self.settings.possible(self.choice, axis)
                options = [
                    (str(value) if value in possible else self._moving(axis, value), value)
                    for value in self.settings.values(axis)
                ]
                _set(control, options, self.choice[axis])
            for axis, control in self.slide.items():
                options = [(_number(axis, value), value) for value in self.settings.possible(self.choice, axis)]
                _set(control, options, self.choice[axis])
                control.disabled = len(options) < 2
            seeds = self.settings.keys(self.choice)
            kept = self.seed.value if self.seed.value in (MEAN, ALL, *seeds) else MEAN
            _set(self.seed, [(MEAN, MEAN), (ALL, ALL), *((f"seed {seed}", seed) for seed in seeds)], kept)

    def _moving(self, axis: str, value: Hashable) -> str:
        others = changed(self.choice, self.settings.move(self.choice, axis, value))
        return f"{value} {MOVES} also {', '.join(name for name in others if name != AXES[axis][0])}"


def _set(control: w.Widget, options: list[tuple[str, Hashable]], value: Hashable) -> None:
    """Set a control's options, unless it has them already, and its value."""
    if control.options != tuple(options):
        control.options = options
    if control.value != value:
        control.value = value


def _number(axis: str, value: Hashable) -> str:
    return written(axis, value).removesuffix(" label noise").removeprefix("λ ")
