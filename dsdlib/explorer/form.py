"""The second tab: runs that are not in the store, or of a model and data of one's own, trained in the background."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import ipywidgets as w
import yaml

from dsdlib.config import ConfigError, RunConfig, suggestion
from dsdlib.explorer.controls import field
from dsdlib.explorer.html import note
from dsdlib.explorer.runs import Runs
from dsdlib.explorer.training import Training, seconds
from dsdlib.study.store import Store

NAMES = ("dataset", "model", "noise_rate", "weight_decay", "epochs", "rounds")  # fields of a run that have a control
EVERY = 2  # weights of every so many rounds are kept for the images


class TrainingForm:
    """Fields for a run, and buttons that train it with several seeds and stop that.

    ``on_rounds`` is called with the runs whenever rounds have been finished, and ``on_end`` when the training is over.
    """

    def __init__(self, store: Store, runs: Runs, on_rounds: Callable[..., None], on_end: Callable[..., None]):
        self.store, self.runs, self.on_rounds, self.on_end = store, runs, on_rounds, on_end
        self.base = RunConfig()
        self.training: Training | None = None
        self.done = 0
        self.dataset = field(w.Text(description="Data (name or module:function)"))
        self.model = field(w.Text(description="Model (name or module:function)"))
        self.noise_rate = field(w.BoundedFloatText(min=0, max=1, step=0.05, description="Label noise (0 to 1)"))
        self.weight_decay = field(w.FloatText(step=1e-4, description="λ (weight decay)"))
        self.epochs = field(w.BoundedIntText(min=1, max=10**6, description="Epochs"))
        self.rounds = field(w.BoundedIntText(min=2, max=1000, description="Rounds of pruning"))
        text = "Other fields (YAML)"
        self.others = field(w.Text(description=text, placeholder="lr: 0.1, criterion: random"))
        self.seeds = field(w.BoundedIntText(value=5, min=1, max=100, description="Seeds"))
        self.keep = w.Checkbox(value=True, indent=False, description="Keep weights and epochs")
        self.start = w.Button(description="Train", button_style="primary")
        self.stop = w.Button(description="Stop", disabled=True, tooltip="Finished rounds stay in the store")
        self.says = w.HTML().add_class("dsd-live")
        self.fields = [*(getattr(self, name) for name in NAMES), self.others, self.seeds]
        buttons = w.HBox([self.start, self.stop]).add_class("dsd-buttons")
        self.box = w.VBox([*self.fields, self.keep, buttons, self.says])
        self._filling = False
        for control in self.fields:
            control.observe(lambda _: None if self._filling else self._estimate(), "value")
        self.start.on_click(lambda _: self._train())
        self.stop.on_click(lambda _: self._stop())

    def copy(self, config: RunConfig) -> None:
        """Fill the fields with those of a run. Its other fields are used as they are."""
        self.base, self._filling = config, True
        for name in NAMES:
            getattr(self, name).value = getattr(config, name)
        self._filling = False
        self._estimate()

    def configs(self) -> list[RunConfig]:
        """The runs that the fields describe, one for each seed. Raises `ConfigError` for what no run can have."""
        changes = _mapping(self.others.value)
        for name in NAMES:
            if (value := getattr(self, name).value) != getattr(self.base, name):
                changes.setdefault(name, value)
        if "model" in changes:
            changes.setdefault("model_args", {})
        if "epochs" in changes and "milestones" not in changes:
            changes["milestones"] = _scaled(self.base, int(changes["epochs"]))
        run = self.base.vary(**changes)
        return [with_seed(run, seed) for seed in range(self.seeds.value)]

    def _estimate(self) -> None:
        """Say on the button how long training would take; below it, what is wrong with the fields."""
        if self.training is not None and self.training.running:
            return
        self.start.description, self.says.value = f"Train ({self.seeds.value} seeds)", ""
        try:
            took = seconds(self.configs(), self.runs)
        except ConfigError as error:
            self.says.value = note(str(error), "wrong")
            return
        if took is not None:
            self.start.description = f"Train ({self.seeds.value} seeds, about {_time(took)})"

    def _train(self) -> None:
        try:
            runs = self.configs()
        except ConfigError as error:
            self.says.value = note(str(error), "wrong")
            return
        keep = ["history", *range(0, runs[0].rounds + 1, EVERY)] if self.keep.value else []
        self.training, self.done = Training(runs, self.store, keep), -1
        self.start.disabled, self.stop.disabled = True, False
        self.poll()
        try:
            self.watching = asyncio.get_running_loop().create_task(self._watch())  # else it may be collected
        except RuntimeError:  # there is no event loop: whoever runs this calls `poll`
            return

    async def _watch(self) -> None:
        while self.start.disabled:
            await asyncio.sleep(0.5)
            self.poll()

    def poll(self) -> None:
        """Look at the store: report new rounds, and the end of the training, after which nothing is left to report."""
        if not self.start.disabled:
            return
        running = self.training.running
        done, total = self.training.rounds
        if done != self.done:
            self.done = done
            self.on_rounds(self.training.runs)
        started = f"{done} of {total} rounds are finished." if done else "Starting the training process …"
        self.says.value = note(started)
        if not running:
            self._ended(done, total)

    def _stop(self) -> None:
        self.training.stop()
        self.poll()

    def _ended(self, done: int, total: int) -> None:
        self.start.disabled, self.stop.disabled = False, True
        error = self.training.error()
        if error:
            self.says.value = note(error, "wrong")
        elif done < total:
            self.says.value = note(f"Stopped. {done} of {total} rounds are in the store; Train resumes from there.")
        else:
            self.says.value = note(f"All {total} rounds are in the store.")
        self.on_end(self.training.runs)


def with_seed(run: RunConfig, seed: int) -> RunConfig:
    """The same run with another seed, and so its teacher and its start where they have the run's own seed."""
    sources = {role: with_seed(source, seed) for role, source in run.sources().items() if source.seed == run.seed}
    return run.vary(seed=seed, **sources)


def _mapping(text: str) -> dict[str, Any]:
    """Fields of a run written as ``name: value, name: value``."""
    try:
        fields = yaml.safe_load("{" + text + "}")
    except yaml.YAMLError:
        raise ConfigError(f"other fields {text!r}: write name: value, name: value") from None
    for name in fields:
        if name not in RunConfig.model_fields:
            raise ConfigError(f"unknown field {name!r}{suggestion(str(name), RunConfig.model_fields)}")
    return fields


def _scaled(config: RunConfig, epochs: int) -> list[int]:
    """The milestones at the same shares of another number of epochs."""
    scaled = {round(milestone * epochs / config.epochs) for milestone in config.milestones}
    shortest = min(epochs, config.retrain_epochs or epochs)
    return sorted(milestone for milestone in scaled if 0 < milestone < shortest)


def _time(took: float) -> str:
    return f"{took:.0f} s" if took < 100 else f"{took / 60:.0f} min" if took < 6000 else f"{took / 3600:.0f} h"
