"""What the notebooks' parameters may be, besides the types that their cells declare: one table for all notebooks.

A name means the same in every notebook. Where a parameter lists values of a field of `RunConfig`, it has that field's
limits.
"""

from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from dsdlib.config import ConfigError, RunConfig, no_truth_value


def _one_of(*allowed: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in allowed:
            raise ValueError(f"allowed: {', '.join(map(repr, allowed))}")
        return value

    return AfterValidator(check)


def _of(field: str, *also: str) -> tuple[Any, ...]:
    """The limits of a field of `RunConfig`, and other values that are allowed where the field lists its values."""
    info = RunConfig.model_fields[field]
    if get_origin(info.annotation) is Literal:
        return (_one_of(*also, *get_args(info.annotation)),)
    return (*info.metadata, *(part for each in get_args(info.annotation) for part in getattr(each, "__metadata__", ())))


def _that(holds: Callable[[Any], bool], allowed: str) -> AfterValidator:
    def check(value: Any) -> Any:
        if not holds(value):
            raise ValueError(f"allowed: {allowed}")
        return value

    return AfterValidator(check)


AT_LEAST_ONE, POSITIVE, SHARE = (Ge(1),), (Gt(0),), (Gt(0), Le(1))

# Name → limits of the value, or of each value of a list.
LIMITS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(["noise_rates", "kinds_rate"], _of("noise_rate")),
    **dict.fromkeys(["weight_decays", "teacher_weight_decays", "other_weight_decays"], _of("weight_decay")),
    **dict.fromkeys(
        ["seeds", "more_seeds", "other_seeds", "compare_seeds", "control_seeds", "initialisation_seeds", "draws"],
        _of("seed"),
    ),
    "alphas": _of("alpha"),
    "temperatures": _of("temperature"),
    "noise_kinds": _of("noise_kind"),
    "criteria": _of("criterion"),
    "ways": (_one_of("global", "layer by layer", "one-shot"),),
    "others": _of("retraining"),
    "initialisations": _of("initialisation"),
    "retrain_epochs": AT_LEAST_ONE,
    "human_labels": (_that(lambda text: all(text.partition(":")), "FILE:NAME"),),
    "jobs": (_that(lambda n: n == -1 or 1 <= n <= 1024, "-1 for one worker a core, or 1 to 1024"),),
    "tolerance": (Ge(0), Lt(1)),
    **dict.fromkeys(["other_levels", "densities"], SHARE),
    "keep_every": (Ge(0),),
    **dict.fromkeys(["mlp_widths", "mlp_depths", "vgg_widths", "vgg_depths"], AT_LEAST_ONE),
    **dict.fromkeys(["widths", "kept_widths"], POSITIVE),
    **dict.fromkeys(["runs", "stack_sizes", "epochs_timed", "repeats", "path_steps", "directions"], AT_LEAST_ONE),
    "slice_steps": (_that(lambda n: n >= 2 and n % 2 == 0, "an even number from 2"),),
    **dict.fromkeys(["radius", "kept_ratio", "ratios", "fixed_ratio", "signal_length", "spike"], POSITIVE),
    **dict.fromkeys(["noise", "noises"], (Ge(0),)),
    "correlations": (Ge(0), Lt(1)),
    **dict.fromkeys(["inputs", "agreement_sizes"], AT_LEAST_ONE),
    **dict.fromkeys(["samples", "map_points"], (Ge(2),)),
}

# Lists that may be empty, and those that need two values or more.
MAY_BE_EMPTY = {"more_seeds", "other_seeds", "compare_seeds", "control_seeds", "human_labels", "others"}
MAY_BE_EMPTY |= {"alphas", "temperatures", "other_levels", "published_figures", "vgg_widths", "vgg_depths"}
MAY_BE_EMPTY |= {"other_weight_decays", "percent", "initialisations", "initialisation_seeds"}
SHORTEST = dict.fromkeys(MAY_BE_EMPTY, 0) | {"weight_decays": 2}

CHOSEN_ON_VALIDATION = ("weight_decays", "teacher_weight_decays")


def converted(name: str, value: Any, declared: Any) -> Any:
    """A parameter's value in the ``declared`` type: text becomes the number, list or mapping that it stands for.

    Raises `ConfigError`, with the value and what is allowed, for another type and for a value outside the limits.
    """
    try:
        if isinstance(value, str) and value.startswith(("[", "{")) and declared is not str:
            value = yaml.safe_load(value)  # a list or mapping from papermill's command line
        return _type(name, declared).validate_python(value)
    except ValidationError as error:
        found = error.errors()[0]
        if found["type"].endswith(("_type", "_parsing", "_from_float")) or found["type"] == "missing":
            raise ConfigError(f"{name} = {value!r}: not a {_spoken(declared)}") from None
        which = f"{found['input']!r}: " if found["loc"] else ""
        message = found["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{name} = {value!r}: {which}{message[0].lower()}{message[1:]}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{name} = {value!r}: not a {_spoken(declared)}") from None


def _type(name: str, declared: Any) -> TypeAdapter[Any]:
    listed = get_origin(declared) is list
    single = get_args(declared)[0] if listed else declared
    limits = LIMITS.get(name, ())
    if single in (int, float):
        limits = (BeforeValidator(no_truth_value), *limits)
    limited = Annotated[(single, *limits)] if limits else single
    if listed:
        limited = Annotated[list[limited], Field(min_length=SHORTEST.get(name, 1)), AfterValidator(_distinct)]
    return TypeAdapter(limited, config=ConfigDict(allow_inf_nan=False))


def _distinct(values: list[Any]) -> list[Any]:
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"{twice[0]!r} stands there twice")
    return values


def _spoken(declared: Any) -> str:
    return declared.__name__ if isinstance(declared, type) and not get_args(declared) else str(declared)


def check_together(declared: Iterable[str], values: dict[str, Any]) -> None:
    """Raise `ConfigError` for values of a notebook's ``declared`` parameters that are not allowed together."""
    chosen = [name for name in CHOSEN_ON_VALIDATION if name in declared]
    recipe = values.get("recipe", {}) | values.get("own_recipe", {})
    share = recipe.get("validation_fraction", RunConfig.model_fields["validation_fraction"].default)
    if chosen and converted("validation_fraction", share, float) == 0:
        raise ConfigError(f"validation_fraction = 0: {chosen[0]} are compared by validation accuracy; allowed: above 0")
