"""The full description of one pruning run: validated, frozen, and hashed to a key. This module loads no torch."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]


Positive = Annotated[float, Field(gt=0)]


NonNegative = Annotated[float, Field(ge=0)]
RECIPE = ("epochs", "batch_size", "lr", "momentum", "weight_decay", "milestones")
RECIPE += ("optimizer", "retrain_epochs")
RECIPE += ("prunable", "rounds", "amount", "retraining", "rewind_iteration")


class ConfigError(ValueError):
    """A value that no run can be made of; the message names it and says what is allowed."""


class RunConfig(BaseModel):
    """One network carried through all its pruning rounds with one seed.

    The defaults are the study's quick recipe on scikit-learn's digits. Lists become tuples and numbers
    written as strings (YAML's ``1e-3``) become numbers. Raises `ConfigError` for anything that cannot be a run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())

    dataset: str = Field("digits", description="a name dsdlib.data knows, folder:NAME, or module:function")
    validation_fraction: float = Field(0.2, ge=0, lt=1, description="share of the training data held out")
    augment: bool = Field(False, description="random crop (padding 4) and horizontal flip, per image")
    noise_kind: Literal["symmetric", "uniform", "pairflip", "asymmetric", "human"] = "symmetric"
    noise_rate: Fraction = Field(0.0, description="share of the training labels drawn for corruption")
    noise_labels: str | None = Field(None, description="FILE:NAME of the labels people gave, for human noise")

    model: str = Field("lenet_300_100", description="a name dsdlib.models knows, or module:factory")
    model_args: dict[str, Any] = Field({}, description="keyword arguments of the model, e.g. {width: 32}")
    initialisation: Literal["pytorch", "he2022", "dsd2", "chang2021"] = Field(
        "pytorch", description="the distribution of the initial parameters: PyTorch's default or a paper's"
    )
    prunable: Literal["conv_and_linear", "all_but_last", "conv"] = "conv_and_linear"

    epochs: int = Field(50, ge=1)
    retrain_epochs: int | None = Field(None, ge=1, description="of every round after the dense one; None: as many")
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr: Positive = 0.05
    momentum: float = Field(0.9, ge=0, lt=1, description="of SGD; Adam's first beta")
    weight_decay: NonNegative = 1e-4
    milestones: tuple[int, ...] = Field((35, 45), description="epochs at which lr is multiplied by 0.1")

    rounds: int = Field(29, ge=0, description="pruning steps; round 0 is the dense network")
    amount: float = Field(0.2, gt=0, lt=1, description="share of the remaining weights pruned at each step")
    amount_of: Literal["prunable", "all_weights"] = Field(
        "prunable", description="what the amount is a share of; all_weights: counted as He et al.'s program does"
    )
    criterion: Literal["magnitude", "gradient", "random"] = "magnitude"
    scope: Literal["global", "layer"] = Field("global", description="weights compete in the network or in their layer")
    schedule: Literal["iterative", "one_shot"] = Field("iterative", description="one_shot: of the dense network")
    retraining: Literal["lr_rewinding", "weight_rewinding", "finetune", "reinit"] = "lr_rewinding"
    rewind_iteration: int = Field(0, ge=0, description="where weight rewinding goes back to")
    control: Literal["none", "dense"] = Field(
        "none", description="dense: never pruned, but trained as long, round by round, as the pruned run"
    )

    start: RunConfig | None = Field(None, description="another run, whose weights this one begins with, none pruned")
    start_round: Literal["dense", "best"] | Annotated[int, Field(ge=0)] = "dense"

    teacher: RunConfig | None = Field(None, description="another run, to distil from")
    teacher_round: Literal["dense", "best"] | Annotated[int, Field(ge=0)] = "dense"
    alpha: Fraction = Field(0.8, description="weight of the teacher's part of the loss")
    temperature: float = Field(10.0, ge=1e-3, le=1e4, description="in float32 the gradient is exact to 0.01% up to 1e4")

    seed: int = Field(0, ge=0, lt=2**63)

    def __init__(self, **fields: Any):
        try:
            super().__init__(**fields)
        except ValidationError as error:
            raise ConfigError(_explain(error, type(self).model_fields)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        return value if info.field_name == "augment" else no_truth_value(value)

    @model_validator(mode="after")
    def _hangs_together(self) -> RunConfig:
        shortest, limit = min((self.epochs, "epochs"), (self.retrain_epochs or self.epochs, "retrain_epochs"))
        if list(self.milestones) != sorted({m for m in self.milestones if 0 < m < shortest}):
            raise ValueError(
                f"milestones = {list(self.milestones)}: must ascend and lie between 1 and {limit} − 1 = {shortest - 1}"
            )
        if self.rewind_iteration and self.retraining != "weight_rewinding":
            raise ValueError(
                f"rewind_iteration = {self.rewind_iteration}: only retraining 'weight_rewinding' uses it, "
                f"not {self.retraining!r}"
            )
        if (self.noise_kind == "human") != (self.noise_labels is not None):
            raise ValueError(
                f"noise_labels = {self.noise_labels!r}: human noise needs FILE:NAME, other kinds need none"
            )
        if self.noise_kind == "human" and self.noise_rate:
            raise ValueError(f"noise_rate = {self.noise_rate}: people's labels have the rate they have; use 0")
        if clash := sorted(self.model_args.keys() & type(self).model_fields.keys()):
            raise ValueError(f"model_args {clash}: already names of the configuration's own fields")
        if self.amount_of == "all_weights" and self.scope == "layer":
            raise ValueError("amount_of = 'all_weights': only the scope 'global' can be counted so, not 'layer'")
        for role in ("start", "teacher"):
            _check_round(role, getattr(self, role), getattr(self, f"{role}_round"))
        return self

    def sources(self) -> dict[str, RunConfig]:
        """The runs whose weights this one needs, its ``start`` and its ``teacher``."""
        roles = {"start": self.start, "teacher": self.teacher}
        return {role: run for role, run in roles.items() if run is not None}

    def epochs_of(self, round_: int) -> int:
        return self.retrain_epochs or self.epochs if round_ > 0 else self.epochs

    @property
    def key(self) -> str:
        """16 hex digits, the same on every machine. Fields at their defaults do not enter, so that a field
        added later leaves every earlier key where it was (and a default, once published, must not change)."""
        identity = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __hash__(self) -> int:
        return int(self.key, 16)

    def vary(self, **changes: Any) -> RunConfig:
        """The same run with some fields changed, validated again."""
        return RunConfig(**{**dict(self), **changes})

    def grid(self, **axes: Iterable[Any]) -> list[RunConfig]:
        """One run for each combination of the named fields' values, the last name varying fastest."""
        for name, values in axes.items():
            if not isinstance(values, list | tuple | range) or len(values) == 0:
                raise ConfigError(f"{name} = {values!r}: a grid needs a list with at least one value")
            if twice := [value for i, value in enumerate(values) if value in values[:i]]:
                raise ConfigError(f"{name} = {values!r}: {twice[0]!r} stands there twice")
        return [self.vary(**dict(zip(axes, values, strict=True))) for values in product(*map(list, axes.values()))]

    def columns(self) -> dict[str, Any]:
        """This configuration as columns of the tidy table: model arguments by name, the teacher by its key."""
        row = {"key": self.key, **dict(self), **row_values(self.model_args)}
        row["milestones"] = " ".join(map(str, self.milestones))
        for role in ("start", "teacher"):
            source = self.sources().get(role)
            row[role] = source.key if source else None
            row[f"{role}_round"] = str(row[f"{role}_round"]) if source else None
        return {name: value for name, value in row.items() if name != "model_args"}


def no_truth_value(value: Any) -> Any:
    """The value, unless it is true or false, or a list with one of them: pydantic takes these for 1 and 0."""
    if any(isinstance(part, bool) for part in (value if isinstance(value, list | tuple) else [value])):
        raise ValueError("a truth value is not allowed here")
    return value


def _check_round(role: str, run: RunConfig | None, round_: int | str) -> None:
    if run is None:
        if round_ != "dense":  # it would have no effect but another key
            raise ValueError(f"{role}_round = {round_!r}: there is no {role}; leave it at 'dense'")
        return
    if isinstance(round_, int) and round_ > run.rounds:
        raise ValueError(f"{role}_round = {round_}: the {role} has rounds 0 to {run.rounds}")
    if round_ == "best" and run.validation_fraction == 0:
        raise ValueError(f"{role}_round = 'best': is chosen on validation data, and the {role} has none")


def row_values(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments fit for a table's cells: lists and the like as text."""
    plain = (str, int, float, bool)
    return {n: v if isinstance(v, plain) or v is None else json.dumps(v) for n, v in arguments.items()}


def suggestion(name: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f"; allowed: {', '.join(sorted(allowed))}"


def _explain(error: ValidationError, fields: Iterable[str]) -> str:
    """pydantic's findings in one line each: field, value, what is allowed."""
    lines = []
    for found in error.errors():
        name = ".".join(str(part) for part in found["loc"])
        message = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            lines.append(f"unknown field {name!r}{suggestion(name, fields)}")
        elif name:
            lines.append(f"{name} = {found['input']!r}: {message[0].lower()}{message[1:]}")
        else:
            lines.append(message)
    return "\n".join(lines)
