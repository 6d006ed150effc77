"""Notebook parameters: the ``parameters`` cell of a notebook, and the profiles of YAML files that fill it.

A profile is a folder with ``recipe.yaml``, the training recipe that all its sections share, and a ``<notebook>.yaml``
for each section. Both hold plain papermill parameters, so that
``papermill notebooks/X.ipynb out.ipynb -f parameters/P/recipe.yaml -f parameters/P/X.yaml`` works from any folder.
"""

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from dsdlib.config import ConfigError, RunConfig, suggestion
from dsdlib.report.limits import check_together, converted

RECIPES = ("recipe", "own_recipe")  # parameters that map fields of RunConfig to values


def check_parameters(namespace: dict[str, Any]) -> None:
    """Convert a notebook's parameters, in place, to the types that its ``parameters`` cell declares.

    Call it with ``globals()`` in the cell after the parameters.
    papermill itself only warns of a parameter that the notebook does not have, and passes YAML's ``1e-3`` and
    ``-p seeds "[0, 1]"`` as text. Here an unknown parameter and an unknown field of a recipe raise `ConfigError`, and
    text becomes the number or list it stands for. A ``recipe`` for a notebook that trains nothing is ignored.
    """
    declared = _declared_in_session(namespace["In"])
    for name in _injected(namespace["In"]):
        if name not in declared and name != "recipe":
            raise ConfigError(f"unknown parameter {name!r}{suggestion(name, declared)}")
    values = {name: converted(name, namespace[name], eval(declared[name], namespace)) for name in declared}
    for name in set(RECIPES) & values.keys():
        _check_fields(name, values[name])
    check_together(declared, values)
    namespace.update(values)


def _check_fields(name: str, recipe: dict[str, Any]) -> None:
    for field in recipe:
        if field not in RunConfig.model_fields:
            raise ConfigError(f"{name}: unknown field {field!r}{suggestion(field, RunConfig.model_fields)}")


def declared_parameters(source: str) -> dict[str, str]:
    """Names and types declared by a ``parameters`` cell, in order: {} for a cell that holds anything else.

    This uses Python's own parser, as papermill's reader loses every line whose comment holds an equals sign.
    """
    try:
        body = ast.parse(source).body
    except SyntaxError:  # a magic command of IPython's
        return {}
    if not all(isinstance(node, ast.AnnAssign) for node in body):
        return {}
    return {node.target.id: ast.unparse(node.annotation) for node in body}


def _declared_in_session(sources: Sequence[str]) -> dict[str, str]:
    """The parameters of a running notebook: of its latest cell with the most declarations."""
    return max(map(declared_parameters, reversed(sources)), key=len, default={})


def _injected(sources: Sequence[str]) -> list[str]:
    """Names assigned by papermill's own cell, known by its first line; by the latest of several."""
    cells = [ast.parse(source).body for source in sources if source.startswith("# Parameters")]
    return [target.id for node in cells[-1] for target in node.targets] if cells else []


class _Loader(yaml.SafeLoader):
    """YAML without what is more likely a mistake: a key that stands twice, of which the first value is lost, and
    references within the file, which may lead back to themselves."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None, None, "references (*name) are not allowed", self.peek_event().start_mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} stands there twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """The value of a YAML text. Raises yaml.YAMLError, also for a key that stands twice and for references."""
    return yaml.load(text, _Loader)


def project_root() -> Path:
    """The folder that holds ``notebooks/`` and ``parameters/``: this clone, or else the current folder."""
    for folder in (Path(__file__).parents[2], Path.cwd()):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    raise ConfigError("no notebooks/ and parameters/ here: run this from the project's folder")


def notebook_parameters(notebook: Path) -> dict[str, str]:
    """Names and types of the parameters that a notebook on disk takes."""
    import nbformat  # here, as a running notebook does not need it

    cells = nbformat.read(notebook, as_version=4).cells
    tagged = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return declared_parameters(next(tagged, ""))


def read_profile(
    root: Path, profile: str, only: Sequence[str] = (), changes: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Notebook name → its parameters, for a whole profile or for the notebooks in ``only``.

    ``changes`` replace values in every notebook that takes a parameter of that name. A field of `RunConfig` that is no
    parameter is changed in the recipe of every notebook. Raises `ConfigError` for whatever does not exist.
    """
    files = _profile_files(root, profile)
    for name in only:
        if name not in files:
            raise ConfigError(f"--only: {name!r} is not in {profile!r}, which has: {', '.join(files)}")
    chosen = {name: file for name, file in files.items() if not only or name in only}
    takes = {name: notebook_parameters(_notebook(root, file)) for name, file in chosen.items()}
    recipe = _read_mapping(root, root / "parameters" / profile / "recipe.yaml", ["recipe"])
    plan = {}
    for name, file in chosen.items():
        shared = {key: value for key, value in recipe.items() if key in takes[name]}
        plan[name] = shared | _read_mapping(root, file, takes[name])
    for change, value in (changes or {}).items():
        _change(plan, takes, change, value)
    for name, values in plan.items():
        _check_values(name, values, takes[name])
    return plan


def _check_values(notebook: str, values: dict[str, Any], declared: dict[str, str]) -> None:
    try:
        for name, value in values.items():
            converted(name, value, eval(declared[name]))
        check_together(declared, values)
        if "recipe" in declared:
            RunConfig(**values.get("recipe", {}) | values.get("own_recipe", {}))
    except ConfigError as error:
        raise ConfigError(f"{notebook}: {error}") from None


def _change(plan: dict[str, dict[str, Any]], takes: dict[str, dict[str, str]], change: str, value: Any) -> None:
    """Change a parameter of every notebook that takes it, or a field of every notebook's recipe."""
    by_name = [name for name in plan if change in takes[name]]
    trained = [name for name in plan if "own_recipe" in takes[name]] if change in RunConfig.model_fields else []
    if not by_name and not trained:
        allowed = {parameter for names in takes.values() for parameter in names} | RunConfig.model_fields.keys()
        raise ConfigError(f"-p: no notebook here takes {change!r}{suggestion(change, allowed)}")
    for name in by_name:
        plan[name][change] = value
    for name in set(trained) - set(by_name):
        plan[name]["own_recipe"] = plan[name].get("own_recipe", {}) | {change: value}


def _profile_files(root: Path, profile: str) -> dict[str, Path]:
    profiles = sorted(path.name for path in (root / "parameters").iterdir() if path.is_dir())
    if profile not in profiles:
        raise ConfigError(f"unknown profile {profile!r}; the profiles are: {', '.join(profiles)}")
    folder = root / "parameters" / profile
    files = {path.stem: path for path in sorted(folder.glob("*.yaml")) if path.stem != "recipe"}
    if not files:
        raise ConfigError(f"parameters/{profile} holds no <notebook>.yaml")
    return files


def _notebook(root: Path, file: Path) -> Path:
    notebook = root / "notebooks" / f"{file.stem}.ipynb"
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in notebook.parent.glob("*.ipynb")))
        raise ConfigError(f"{file.relative_to(root)}: there is no notebook {file.stem!r}; the notebooks are: {there}")
    return notebook


def _read_mapping(root: Path, file: Path, allowed: Iterable[str]) -> dict[str, Any]:
    """A YAML file of parameters; {} if there is no such file or nothing in it."""
    where = file.relative_to(root)
    try:
        parameters = read_yaml(file.read_text(encoding="utf-8")) if file.exists() else None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise ConfigError(f"{where}: {parameters!r} is not a mapping; write lines of `parameter: value`")
    for name in parameters:
        if name not in allowed:
            raise ConfigError(f"{where}: unknown parameter {name!r}; it takes: {', '.join(allowed)}")
    for name in set(RECIPES) & parameters.keys():
        if not isinstance(parameters[name], dict):
            raise ConfigError(f"{where}: {name} = {parameters[name]!r} is not a mapping of a run's fields")
        _check_fields(f"{where}: {name}", parameters[name])
    return parameters
