"""Notebook parameters: the types of the parameters cell, and profiles with their shared recipe."""

from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from dsdlib import ConfigError
from dsdlib.report.parameters import check_parameters, declared_parameters, read_profile

DECLARED = 'lr: float = 0.1  # learning rate\nseeds: list[int] = [0, 1]  # runs\nname: str = "digits"  # data\n'


def notebook(*cells: str) -> dict[str, Any]:
    """The namespace of a notebook in which these cells have run; magics are only remembered."""
    namespace: dict[str, Any] = {"In": ["", *cells]}
    for cell in cells:
        if not cell.startswith("%"):
            exec(cell, namespace)
    return namespace


def checked(*cells: str) -> dict[str, Any]:
    """The namespace after `check_parameters`."""
    namespace = notebook(*cells)
    check_parameters(namespace)
    return namespace


def test_parameters_become_the_declared_types() -> None:
    namespace = notebook("%matplotlib inline", "other = '5'", DECLARED, "# Parameters\nlr = '1e-3'\nseeds = ['7']\n")
    check_parameters(namespace)
    assert (namespace["lr"], namespace["seeds"], namespace["name"], namespace["other"]) == (0.001, [7], "digits", "5")


def test_a_list_from_the_command_line_is_a_list() -> None:
    assert checked(DECLARED, "# Parameters\nseeds = '[0, 1]'\n")["seeds"] == [0, 1]


@pytest.mark.parametrize(
    ("injected", "message"),
    [
        ("lrr = 1", r"unknown parameter 'lrr' \(did you mean 'lr'\?\)"),
        ("colour = 1", "unknown parameter 'colour'; allowed: lr, name, seeds"),
        ("lr = 'fast'", "lr = 'fast': not a float"),
        ("seeds = '[0, 1'", r"seeds = '\[0, 1': not a list\[int\]"),
        ("seeds = 3", r"seeds = 3: not a list\[int\]"),
        ("seeds = [0.5]", r"seeds = \[0.5\]: not a list\[int\]"),
        ("name = 3", "name = 3: not a str"),
    ],
)
def test_parameters_that_the_notebook_cannot_take_are_refused(injected: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_parameters(notebook(DECLARED, f"# Parameters\n{injected}\n"))


RECIPE_CELL = "recipe: dict = {}  # shared\nown_recipe: dict = {}  # its own\nseeds: list[int] = [0]  # runs\n"


def test_an_unknown_field_of_a_recipe_is_refused_with_the_nearest_name() -> None:
    for name in ("recipe", "own_recipe"):
        with pytest.raises(ConfigError, match=rf"^{name}: unknown field 'epoch' \(did you mean 'epochs'\?\)"):
            check_parameters(notebook(RECIPE_CELL, f"# Parameters\n{name} = {{'epoch': 3}}\n"))
    values = checked(RECIPE_CELL, "# Parameters\nrecipe = {'epochs': 3, 'initialisation': 'dsd2'}\n")
    assert values["recipe"] == {"epochs": 3, "initialisation": "dsd2"}


def test_a_shared_recipe_is_ignored_by_a_notebook_that_trains_nothing() -> None:
    assert checked(DECLARED, "# Parameters\nrecipe = {'epochs': 3}\nlr = 1\n")["lr"] == 1


def test_only_a_cell_of_annotated_assignments_declares_parameters() -> None:
    comment = "a: int = 1  # with 0 < a, not a == 0\nb: list[float] = [\n    0.1,\n]\n"
    assert declared_parameters(comment) == {"a": "int", "b": "list[float]"}
    assert declared_parameters("a: int = 1\nprint(a)") == declared_parameters("%matplotlib inline") == {}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project of two notebooks, one of which trains, and a profile."""
    (tmp_path / "notebooks").mkdir()
    for name, cell in (("01_trains", RECIPE_CELL), ("02_computes", "samples: int = 3  # drawn\n")):
        tagged = new_code_cell(cell, metadata={"tags": ["parameters"]})
        nbformat.write(new_notebook(cells=[tagged]), tmp_path / "notebooks" / f"{name}.ipynb")
    profile = tmp_path / "parameters" / "mine"
    profile.mkdir(parents=True)
    (profile / "recipe.yaml").write_text("recipe: {epochs: 7, milestones: [], lr: 0.2}\n")
    (profile / "01_trains.yaml").write_text("own_recipe: {lr: 0.1}\nseeds: [4]\n")
    (profile / "02_computes.yaml").write_text("# its own values\n")
    return tmp_path


def test_a_profile_joins_the_recipe_with_each_sections_own(root: Path) -> None:
    first = {"recipe": {"epochs": 7, "milestones": [], "lr": 0.2}, "own_recipe": {"lr": 0.1}, "seeds": [4]}
    assert read_profile(root, "mine") == {"01_trains": first, "02_computes": {}}
    assert read_profile(root, "mine", ["02_computes"]) == {"02_computes": {}}


def test_a_change_is_of_a_parameter_or_of_every_recipe(root: Path) -> None:
    changed = read_profile(root, "mine", changes={"seeds": [9], "rounds": 2, "samples": 5})
    assert changed["01_trains"]["seeds"] == [9] and changed["02_computes"] == {"samples": 5}
    assert changed["01_trains"]["own_recipe"] == {"lr": 0.1, "rounds": 2}
    with pytest.raises(ConfigError, match=r"-p: no notebook here takes 'round' \(did you mean 'rounds'\?\)"):
        read_profile(root, "mine", changes={"round": 2})
    with pytest.raises(ConfigError, match="01_trains: epochs = 0: input should be greater than"):
        read_profile(root, "mine", changes={"epochs": 0})
    with pytest.raises(ConfigError, match="-p: no notebook here takes 'seeds'"):
        read_profile(root, "mine", ["02_computes"], {"seeds": [9]})


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        (
            "recipe.yaml",
            "recipe: {epoch: 3}",
            r"recipe.yaml: recipe: unknown field 'epoch' \(did you mean 'epochs'",
        ),
        ("recipe.yaml", "epochs: 3", "mine/recipe.yaml: unknown parameter 'epochs'; it takes: recipe"),
        ("recipe.yaml", "recipe: 3", "mine/recipe.yaml: recipe = 3 is not a mapping"),
        ("01_trains.yaml", "own_recipe: {colour: 3}", "01_trains.yaml: own_recipe: unknown field 'colour'; allowed: "),
        ("01_trains.yaml", "seed: 3", "unknown parameter 'seed'; it takes: recipe, own_recipe, seeds"),
        ("01_trains.yaml", "- 3", r"01_trains.yaml: \[3\] is not a mapping"),
        ("01_trains.yaml", "a: [", "01_trains.yaml: not YAML"),
        ("01_trains.yaml", "seeds: [1]\nseeds: [2]", "01_trains.yaml: not YAML: 'seeds' stands there twice"),
        ("01_trains.yaml", "seeds: &again [*again]", "01_trains.yaml: not YAML: references"),
        ("01_trains.yaml", "seeds: " + 2000 * "[", "01_trains.yaml: not YAML"),
        ("01_trains.yaml", "own_recipe: {lr: fast}", "01_trains: lr = 'fast': input should be a valid number"),
        (
            "recipe.yaml",
            "recipe: {noise_rate: 2}",
            "01_trains: noise_rate = 2: input should be less than or equal to 1",
        ),
        ("01_trains.yaml", "seeds: []", r"01_trains: seeds = \[\]: list should have at least 1 item"),
        ("03_other.yaml", "", "03_other.yaml: there is no notebook '03_other'; the notebooks are: 01_trains, 02_comp"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(root: Path, file: str, text: str, message: str) -> None:
    (root / "parameters" / "mine" / file).write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_profile(root, "mine")


def test_profiles_and_notebooks_that_do_not_exist_are_named(root: Path) -> None:
    with pytest.raises(ConfigError, match="unknown profile 'yours'; the profiles are: mine"):
        read_profile(root, "yours")
    with pytest.raises(ConfigError, match="--only: '03' is not in 'mine', which has: 01_trains, 02_computes"):
        read_profile(root, "mine", ["03"])
    (root / "parameters" / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"parameters/empty holds no <notebook>\.yaml"):
        read_profile(root, "empty")
