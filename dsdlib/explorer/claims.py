"""The claims that are about one setting, judged on every setting that is shown."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import ipywidgets as w
import pandas as pd

from dsdlib import analysis
from dsdlib.analysis.claims import effect, judge
from dsdlib.explorer.controls import field
from dsdlib.explorer.runs import Runs
from dsdlib.explorer.settings import AXES, Choice, Settings, differing, in_words

SHOWN = "●"  # marks the claims about the runs that are shown


def judged(settings: Settings, runs: Runs, choice: Choice) -> list[dict[str, Any]]:
    """The claims about a choice's runs alone, as rows of `dsdlib.analysis.claims.judge`.

    With label noise these are the depth of the valley and the fall of test accuracy while train accuracy holds,
    without noise the absence of a valley.
    """
    keys = list(settings.keys(choice).values())
    table, config = runs.rows(keys), runs.configs[keys[0]]
    if table["test_accuracy"].isna().any():
        return []
    return [judge(name, measure(table), config, "") for name, measure in _about(choice["noise_rate"]).items()]


def _about(noise_rate: float) -> dict[str, Callable[[pd.DataFrame], analysis.Interval]]:
    if noise_rate == 0:
        return {"no-sdd-without-noise": analysis.depth}
    return {"sdd-with-noise": analysis.depth, "overfitting-aggravated": analysis.fall}


class Claims:
    """A list of claims. Choosing one calls ``on_choice`` with the choice that it is about."""

    def __init__(self, on_choice: Callable[[Choice], None]):
        self.known: dict[tuple[str, ...], list[dict[str, Any]]] = {}  # by the keys of the runs
        self.list = field(w.Select(rows=7, description="Claims about runs on these data, with this recipe"))
        self.box = w.VBox([self.list])
        self._on_choice, self._quiet = on_choice, False
        self.list.observe(lambda change: self._chosen(change["new"]), "value")

    def show(self, settings: Settings, runs: Runs, choice: Choice) -> None:
        """List the claims about the settings of the choice's data set, model and recipe, its own first."""
        alike = [c for c in settings.choices if not set(differing([c, choice])) & {"dataset", "model", "recipe"}]
        alike.sort(key=lambda other: len(differing([other, choice])))
        options = []
        for other in alike:
            keys = tuple(settings.keys(other).values())
            if keys not in self.known:
                self.known[keys] = judged(settings, runs, other)
            for row in self.known[keys]:
                mark = f"{SHOWN} " if other == choice else ""
                number = f"{row['verdict']}, {effect(row)}" if row["effect"] is not None else row["verdict"]
                where = in_words(other, differing([other, choice])) or "these runs"
                text = f"{mark}{number}. {where}: {row['statement']}"
                options.append((text, (row["id"], tuple(other.values()))))
        self._quiet = True
        self.list.options = options
        self.list.value = None
        self._quiet = False

    def _chosen(self, value: tuple[str, tuple[Hashable, ...]] | None) -> None:
        if value is not None and not self._quiet:
            self._on_choice(dict(zip(AXES, value[1], strict=True)))
