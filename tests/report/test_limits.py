"""What the parameters of notebooks may be: every notebook's, before anything is trained."""

from pathlib import Path
from typing import Any

import pytest

from dsdlib import ConfigError, check_parameters
from dsdlib.report.limits import LIMITS, MAY_BE_EMPTY
from dsdlib.report.parameters import notebook_parameters, project_root, read_profile, read_yaml

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
DECLARED = {path.stem: notebook_parameters(path) for path in NOTEBOOKS}
TYPES = {name: annotation for declared in DECLARED.values() for name, annotation in declared.items()}

REFUSED = [
    ("02_l2_mitigation", "weight_decays", [0.1], "at least 2 items"),
    ("02_l2_mitigation", "recipe", {"validation_fraction": 0}, "validation_fraction = 0: .*; allowed: above 0"),
    ("02_l2_mitigation", "own_recipe", {"validation_fraction": "0.0"}, "validation_fraction = 0"),
    ("03_distillation", "recipe", {"validation_fraction": 0}, "validation_fraction = 0"),
    ("11_linear_theory", "repeats", 0, "repeats = 0: input should be greater than or equal to 1"),
    ("11_linear_theory", "map_points", 1, "map_points = 1: .*greater than or equal to 2"),
    ("11_linear_theory", "inputs", 0, "inputs = 0"),
    ("11_linear_theory", "draws", -1, "draws = -1"),
    ("11_linear_theory", "ratios", [], "at least 1 item"),
    ("90_performance", "epochs_timed", 0, "epochs_timed = 0"),
    ("90_performance", "densities", [0], r"densities = \[0\]: 0: .*greater than 0"),
    ("90_performance", "densities", [2], r"densities = \[2\]: 2: .*less than or equal to 1"),
    ("90_performance", "repeats", True, "repeats = True: a truth value"),
    ("10_redense", "radius", float("nan"), "radius = nan: .*finite"),
    ("10_redense", "radius", float("inf"), "radius = inf: .*finite"),
    ("10_redense", "slice_steps", 3, "slice_steps = 3: allowed: an even number from 2"),
    ("01_phenomenon", "keep_every", -2, "keep_every = -2"),
    ("01_phenomenon", "jobs", True, "jobs = True: a truth value"),
    ("01_phenomenon", "jobs", 100000, "jobs = 100000: allowed: -1 for one worker a core, or 1 to 1024"),
    ("01_phenomenon", "jobs", 0, "jobs = 0: allowed"),
    ("01_phenomenon", "seeds", [True, False], r"seeds = \[True, False\]: True: a truth value"),
    ("01_phenomenon", "seeds", [0, -1], r"seeds = \[0, -1\]: -1: .*greater than or equal to 0"),
    ("01_phenomenon", "noise_rates", [0.2, 0.2], "0.2 stands there twice"),
    ("01_phenomenon", "noise_rates", [1.5], r"noise_rates = \[1.5\]: 1.5: .*less than or equal to 1"),
    ("01_phenomenon", "initialisations", ["foo"], r"initialisations = \['foo'\]: 'foo': allowed: 'pytorch', "),
    ("06_label_noise", "human_labels", ["x"], r"human_labels = \['x'\]: 'x': allowed: FILE:NAME"),
    ("06_label_noise", "noise_kinds", ["foo"], "'foo': allowed: 'symmetric', "),
    ("09_learning_distance", "others", ["foo"], "'foo': allowed: 'lr_rewinding', "),
    ("08_criteria", "criteria", ["foo"], "'foo': allowed: 'magnitude', "),
    ("08_criteria", "ways", ["layer"], "'layer': allowed: 'global', 'layer by layer', 'one-shot'"),
    ("03_distillation", "temperatures", [0], "temperatures = .*greater than or equal to 0.001"),
]


@pytest.mark.parametrize(("notebook", "name", "value", "message"), REFUSED)
def test_a_profile_and_the_command_line_are_refused_by_name(notebook: str, name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{notebook}: (?s:.*){message}"):
        read_profile(ROOT, "smoke", [notebook], {name: value})


def test_a_running_notebook_refuses_them_too() -> None:
    for notebook, name, value, message in REFUSED:
        kinds = {n: kind for n, kind in DECLARED[notebook].items() if n == name or kind == "dict"}
        kinds |= {n: k for n, k in DECLARED[notebook].items() if n.endswith("weight_decays")}
        cell = "\n".join(f"{n}: {kind} = {[0.0, 0.1] if kind == 'list[float]' else {}}" for n, kind in kinds.items())
        namespace: dict[str, Any] = {"In": [cell]}
        exec(cell, namespace)
        with pytest.raises(ConfigError, match=message):
            check_parameters(namespace | {name: value})


def test_every_list_says_whether_it_may_be_empty_and_every_number_has_limits() -> None:
    """A parameter that is added without limits turns this red."""
    assert LIMITS.keys() <= TYPES.keys() and TYPES.keys() >= MAY_BE_EMPTY
    numbers = {name for name, kind in TYPES.items() if kind in ("int", "float", "list[int]", "list[float]")}
    assert numbers <= LIMITS.keys()
    for notebook, declared in DECLARED.items():
        for name, kind in declared.items():
            if kind.startswith("list") and name not in MAY_BE_EMPTY:
                with pytest.raises(ConfigError, match=f"^{notebook}: {name} = ..: list should have at least"):
                    read_profile(ROOT, "smoke", [notebook], {name: []})


@pytest.mark.parametrize("profile", ["smoke", "quick", "digits", "mnist", "mnist_more", "cifar10"])
def test_every_profile_is_within_the_limits(profile: str) -> None:
    assert read_profile(project_root(), profile)


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: 1\nb: 2\na: 3", "'a' stands there twice"), ("a: &x [*x]", r"references \(\*name\) are not allowed")],
)
def test_yaml_that_loses_values_or_bites_its_tail_is_refused(text: str, message: str) -> None:
    with pytest.raises(Exception, match=message) as refusal:
        read_yaml(text)
    assert "YAMLError" in [kind.__name__ for kind in type(refusal.value).__mro__]
    assert read_yaml("a: 1\nb: {a: 2}") == {"a": 1, "b": {"a": 2}}
