"""The rules of the house: what may import what, and how long modules, functions and cells may be."""

import ast
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

HOME = Path(__file__).parents[1]
# The rooms from the ground up. A module imports from its own room and from those below.
ROOMS = ["config", "seeding", "images", "data", "noise", "models", "pruning", "calibration", "distillation", "entropy"]
ROOMS += ["geometry", "cost", "theory", "engine", "reference", "study", "analysis", "plots", "explorer", "report"]
ROOMS += ["advise"]


def dotted(path):
    """The name by which a file is imported."""
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {dotted(path): ast.parse(path.read_text()) for path in sorted((HOME / "dsdlib").rglob("*.py"))}
FUNCTIONS = [
    pytest.param(node, id=f"{name}.{node.name}")
    for name, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
]


def imports(tree):
    """The modules of the house that a module imports, at its head or inside a function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "dsdlib")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports do not say which room they mean"
            if node.module.partition(".")[0] == "dsdlib":
                within = [f"{node.module}.{alias.name}" for alias in node.names]
                yield from (name if name in TREES else node.module for name in within)


def room(name):
    return ROOMS.index(name.split(".")[1])


@pytest.mark.parametrize("name", [name for name in TREES if name != "dsdlib"])
def test_imports_point_down(name):
    for imported in imports(TREES[name]):
        assert imported != "dsdlib", f"{name} imports names of the front door"
        assert room(imported) <= room(name), f"{name} imports {imported}, which is above it"


def test_there_is_no_circle_of_imports():
    graph = {name: set(imports(tree)) - {name} for name, tree in TREES.items() if name != "dsdlib"}
    TopologicalSorter(graph).prepare()  # raises CycleError


COMMAND = "import dsdlib.report.command as it; it.main(['nope'])"
SECTION = "from dsdlib import RunConfig, analysis, check_parameters, plots, sweep; import dsdlib.report.show"
NOT_LOADED = [  # programs, and the modules whose import takes too long to be loaded by them
    ("import dsdlib.config", ["torch", "numpy"]),
    ("import dsdlib.theory", ["torch"]),
    (COMMAND, ["torch", "pandas", "nbformat", "papermill", "nbconvert"]),
    (SECTION, ["torch", "sklearn", "nbformat", "nbconvert", "papermill"]),
    ("import dsdlib.study.worker", ["torchvision", "torch._dynamo", "triton", "matplotlib", "IPython", "seaborn"]),
]


@pytest.mark.parametrize(("program", "modules"), NOT_LOADED, ids=[program for program, _ in NOT_LOADED])
def test_slow_imports_are_left_to_those_who_need_them(program, modules):
    program += f"; import sys; print([name for name in {modules} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=HOME)
    assert loaded.stdout.strip() == "[]"


@pytest.mark.parametrize("path", [pytest.param(p, id=dotted(p)) for p in sorted((HOME / "dsdlib").rglob("*.py"))])
def test_no_module_is_longer_than_300_lines(path):
    assert len(path.read_text().splitlines()) <= 300


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_function_is_longer_than_40_lines_or_has_more_than_8_parameters(function):
    assert function.end_lineno - function.lineno + 1 <= 40
    a = function.args
    parameters = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    assert len([p for p in parameters if p.arg not in ("self", "cls")]) <= 8


def test_every_kind_of_file_in_the_package_is_installed():
    project = tomllib.loads((HOME / "pyproject.toml").read_text())
    files = [path for path in (HOME / "dsdlib").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    kinds = {f"*{path.suffix}" for path in files} - {"*.py"}
    assert kinds == set(project["tool"]["setuptools"]["package-data"]["*"])
