"""What can be chosen in the explorer: the settings of all finished runs, as values of a few axes.

Runs with the same value on every axis differ only in their seed. Together they are one setting, and one curve.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from dsdlib.config import RunConfig
from dsdlib.explorer.runs import Runs
from dsdlib.plots.series import series_style, spoken

AXES = {  # each with its heading, and the weight of keeping its value when another one is changed
    "dataset": ("Data set", 64),
    "model": ("Model", 16),
    "recipe": ("Recipe", 16),
    "noise_kind": ("Kind of label noise", 8),
    "retraining": ("Retraining", 8),
    "criterion": ("Pruning criterion", 8),
    "teacher": ("Teacher", 8),
    "noise_rate": ("Label noise", 4),
    "weight_decay": ("λ (weight decay)", 4),
}
NUMBERS = ("noise_rate", "weight_decay")
NO_TEACHER = "none"
# Fields that an axis other than ``recipe`` describes.
DESCRIBED = {"dataset", "model", "model_args", "noise_kind", "noise_rate", "noise_labels", "weight_decay", "seed"}
DESCRIBED |= {"retraining", "rewind_iteration", "criterion", "scope", "schedule", "control"}
DESCRIBED |= {"teacher", "teacher_round", "alpha", "temperature"}
Choice = dict[str, Hashable]


def describe(config: RunConfig) -> Choice:
    """The value of each axis for a run, in the words that the explorer shows."""
    rewound = f", to iteration {config.rewind_iteration:,}" if config.rewind_iteration else ""
    ways = {config.scope == "layer": "layer by layer", config.schedule == "one_shot": "one-shot"}
    ways |= {config.control == "dense": "not pruned (control)"}
    people = f" ({config.noise_labels})" if config.noise_labels else ""
    return {
        "dataset": config.dataset,
        "model": config.model + _arguments(config.model_args),
        "recipe": _recipe(config),
        "noise_kind": _label(config.noise_kind) + people,
        "retraining": _label(config.retraining) + rewound,
        "criterion": ", ".join([_label(config.criterion), *(way for holds, way in ways.items() if holds)]),
        "teacher": _teacher(config),
        "noise_rate": config.noise_rate,
        "weight_decay": config.weight_decay,
    }


def _label(name: str) -> str:
    own = series_style(name)
    return own.label if own else name


def _arguments(values: Mapping[str, Any]) -> str:
    return f" ({', '.join(f'{name} {value}' for name, value in values.items())})" if values else ""


def _recipe(config: RunConfig) -> str:
    """The fields that no other axis describes: epochs and rounds, then those that are not at their defaults."""
    fields = config.model_dump(mode="json", exclude_defaults=True, exclude=DESCRIBED | {"epochs", "rounds", "start"})
    others = [f"{spoken(name).lower()} {_plain(value)}" for name, value in fields.items()]
    if config.start is not None:
        others.append(f"started from {_difference(config, config.start)}")
    return ", ".join([f"{config.epochs} epochs", f"{config.rounds} rounds", *others])


def _teacher(config: RunConfig) -> str:
    if config.teacher is None:
        return NO_TEACHER
    round_ = config.teacher_round if isinstance(config.teacher_round, str) else f"round {config.teacher_round}"
    return f"{round_}, {_difference(config, config.teacher)}, α {config.alpha:g}, T {config.temperature:g}"


def _difference(config: RunConfig, source: RunConfig) -> str:
    """The fields of a teacher or a start that differ from the run's own, except for its seed."""
    own, other = config.model_dump(mode="json"), source.model_dump(mode="json")
    roles = {"teacher", "teacher_round", "alpha", "temperature", "start", "start_round", "seed"}
    fields = [f"{spoken(n).lower()} {_plain(v)}" for n, v in other.items() if n not in roles and v != own[n]]
    fields += [role for role in ("teacher", "start") if other[role]]
    return " ".join(["trained with", *fields]) if fields else "trained alike"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return f"{value:g}" if type(value) is float else str(value)


class Settings:
    """The settings of finished runs, and which of them go with a choice.

    A *choice* maps every axis to a value. `first` and `move` return choices for which there are runs. Runs of fewer
    than two pruning rounds are left out, because they make no curve.
    """

    def __init__(self, runs: Runs):
        self.configs = {key: config for key, config in runs.configs.items() if config.rounds > 1}
        self.seeds_of: dict[tuple[Hashable, ...], dict[int, str]] = {}
        self.rounds: dict[tuple[Hashable, ...], int] = {}
        for key, config in self.configs.items():
            place = tuple(describe(config).values())
            self.seeds_of.setdefault(place, {}).setdefault(config.seed, key)
            self.rounds[place] = config.rounds
        self.choices = [dict(zip(AXES, place, strict=True)) for place in self.seeds_of]

    def keys(self, choice: Choice) -> dict[int, str]:
        """The keys of a choice's runs by their seeds, in ascending order; none if there are no such runs."""
        return dict(sorted(self.seeds_of.get(tuple(choice.values()), {}).items()))

    def values(self, axis: str) -> list[Hashable]:
        """All values of an axis, in ascending order."""
        return sorted({choice[axis] for choice in self.choices})

    def possible(self, choice: Choice, axis: str) -> list[Hashable]:
        """The values of an axis for which there are runs while the other axes stay as chosen, in ascending order."""
        return sorted({other[axis] for other in self.choices if set(differing([other, choice])) <= {axis}})

    def move(self, choice: Choice, axis: str, value: Hashable) -> Choice:
        """The choice with the new value of an axis for which there are runs and which keeps the most of the others.

        The axes' weights say what is kept first. Of equally good choices it is the one with the nearest numbers, and
        then the one with the most seeds.
        """

        def far(other: Choice) -> tuple[float, float, int]:
            lost = sum(AXES[name][1] for name in differing([other, choice]) if name != axis)
            gap = sum(abs(other[name] - choice[name]) for name in NUMBERS)
            return lost, gap, -len(self.keys(other))

        return min((other for other in self.choices if other[axis] == value), key=far)

    def first(self) -> Choice | None:
        """The choice that the explorer opens with; None if there are no runs.

        It is the one with the most rounds, and of those one with label noise, without a teacher, and with most seeds.
        """

        def rank(choice: Choice) -> tuple[int, bool, bool, int]:
            rounds, seeds = self.rounds[tuple(choice.values())], len(self.keys(choice))
            return rounds, choice["noise_rate"] > 0, choice["teacher"] == NO_TEACHER, seeds

        return max(self.choices, key=rank, default=None)


def changed(one: Choice, other: Choice) -> list[str]:
    """The headings of the axes on which two choices differ."""
    return [heading for axis, (heading, _) in AXES.items() if one[axis] != other[axis]]


def in_words(choice: Choice, axes: Iterable[str]) -> str:
    """The values of some axes of a choice, for a label: ``50% label noise, λ 0.0001``."""
    return ", ".join(written(axis, choice[axis]) for axis in axes)


def written(axis: str, value: Hashable) -> str:
    """A value of an axis with what it is a value of."""
    if axis == "noise_rate":
        return f"{value:.0%} label noise" if round(value, 2) == value else f"{value:.1%} label noise"
    if axis == "weight_decay":
        return f"λ {value:g}"
    if axis == "teacher":
        return "no teacher" if value == NO_TEACHER else f"teacher: {value}"
    return str(value)


def differing(choices: Iterable[Choice]) -> list[str]:
    """The axes that have more than one value among some choices."""
    choices = list(choices)
    return [axis for axis in AXES if len({choice[axis] for choice in choices}) > 1]
