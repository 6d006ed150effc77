"""The whole description of one pruning run: validated, frozen and hashable to a key. No torch here."""

from __future__ import annotations

import argparse
import ast
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml
from pydantic import TypeAdapter, ValidationError

from dsdlib.config import ConfigError, suggestion


def check_parameters(namespace: dict[str, Any]) -> dict[str, Any]:
    """A notebook's parameters, each made the type that its ``parameters`` cell declares.

    Call it with ``globals()`` in the cell after the parameters. papermill itself only warns of a parameter
    that the notebook does not have, and hands YAML's ``1e-3`` and ``-p seeds "[0, 1]"`` over as text; here the first
    raises `ConfigError`, the others become number and list. The converted values are put back into the namespace.
    """
    declared = _declared(namespace["In"])
    for name in _injected(namespace["In"]):
        if name not in declared:
            raise ConfigError(f"unknown parameter {name!r}{suggestion(name, declared)}")
    values = {}
    for name, annotation in declared.items():
        value = namespace[name]
        try:
            if isinstance(value, str) and value.startswith(("[", "{")) and annotation != "str":
                value = yaml.safe_load(value)  # a list or mapping from papermill's command line
            values[name] = TypeAdapter(eval(annotation, namespace)).validate_python(value)
        except (ValidationError, yaml.YAMLError):
            raise ConfigError(f"{name} = {namespace[name]!r}: not a {annotation}") from None
    namespace.update(values)
    return values


def _declared(sources: list[str]) -> dict[str, str]:
    """Names and types of the parameters cell: the longest that holds nothing but annotated assignments."""
    cells = [cell for cell in map(_parsed, sources) if all(isinstance(node, ast.AnnAssign) for node in cell.body)]
    longest = max(reversed(cells), key=lambda cell: len(cell.body), default=ast.Module([], []))
    return {node.target.id: ast.unparse(node.annotation) for node in longest.body}


def _injected(sources: list[str]) -> list[str]:
    """Names assigned by the cell that papermill put in, known by its first line; the latest of several."""
    cells = [_parsed(source) for source in sources if source.startswith("# Parameters")]
    return [target.id for node in cells[-1].body for target in node.targets] if cells else []


def _parsed(source: str) -> ast.Module:
    """Empty for a cell of IPython's own, such as a magic command."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def project_root() -> Path:
    """The folder that holds `notebooks/` and `parameters/`: this checkout's, else the current one."""
    for folder in (Path(__file__).parents[2], Path.cwd()):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    raise ValueError("no notebooks/ and parameters/ here: run this from the project's folder")


def parameter_names(notebook: Path) -> list[str]:
    """Names assigned in the cell tagged `parameters`, in order.

    Python's own parser, as papermill's reader loses every line whose comment holds an equals sign.
    """
    source = "\n".join(
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    nodes = ast.walk(ast.parse(source, filename=notebook.name))
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def read_parameters(root: Path, file: Path) -> dict[str, Any]:
    """One notebook's parameters from its YAML file; ValueError for anything that notebook does not take."""
    where, notebook = file.relative_to(root), root / "notebooks" / f"{file.stem}.ipynb"
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in notebook.parent.glob("*.ipynb")))
        raise ValueError(f"{where}: there is no notebook '{file.stem}'; the notebooks are: {there}")
    try:
        parameters = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise ValueError(f"{where}: '{parameters}' is not a mapping; write lines of `parameter: value`")
    allowed = parameter_names(notebook)
    for name in parameters:
        if name not in allowed:
            raise ValueError(f"{where}: unknown parameter '{name}'; {file.stem} takes: {', '.join(allowed)}")
    return parameters


def read_profile(
    root: Path, profile: str, only: Sequence[str] = (), changes: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Notebook name → parameters, for the whole profile or the notebooks in `only`. `changes` are put in the place of
    the profile's values wherever a notebook takes them."""
    profiles = sorted(path.name for path in (root / "parameters").iterdir() if path.is_dir())
    if profile not in profiles:
        raise ValueError(f"unknown profile '{profile}'; the profiles are: {', '.join(profiles)}")
    files = {path.stem: path for path in sorted((root / "parameters" / profile).glob("*.yaml"))}
    if not files:
        raise ValueError(f"parameters/{profile} holds no <notebook>.yaml")
    for name in only:
        if name not in files:
            raise ValueError(f"--only: '{name}' is not in '{profile}', which has: {', '.join(files)}")
    plan = {name: read_parameters(root, file) for name, file in files.items() if not only or name in only}
    allowed = {name: parameter_names(root / "notebooks" / f"{name}.ipynb") for name in plan}
    for change in changes or {}:
        if not any(change in names for names in allowed.values()):
            raise ValueError(f"-p: no notebook here takes '{change}'")
    return {
        name: parameters | {key: value for key, value in (changes or {}).items() if key in allowed[name]}
        for name, parameters in plan.items()
    }


def take_changes(parser: argparse.ArgumentParser) -> None:
    """The option -p, into pairs of text ``changes``."""
    told = "a value of your own, in every notebook that takes it; YAML, such as -p noise_rates '[0.0, 0.4]'"
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", action="append", default=[], dest="changes", help=told, **pair)
