"""The notebooks: run from anywhere with parameters, show what the report needs, and are committed clean."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from pydantic import TypeAdapter

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.analysis import published
from dsdlib.report.show import CLAIMS, FIGURE, PROVENANCE

ROOT = Path(__file__).parents[2]
ALL = sorted((ROOT / "notebooks").glob("*.ipynb"))
NOTEBOOKS = [path for path in ALL if path.stem != "00_explorer"]  # which trains nothing, and is not in the report
SMOKE = ROOT / "parameters" / "smoke"
PROFILES = sorted(path for path in (ROOT / "parameters").iterdir() if path.is_dir())

every_notebook = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
every_section = pytest.mark.parametrize(  # each notebook with each profile that has it
    ("profile", "notebook"),
    [
        pytest.param(profile, notebook, id=f"{profile.name}-{notebook.stem}")
        for profile in PROFILES
        for notebook in NOTEBOOKS
        if (profile / f"{notebook.stem}.yaml").exists()
    ],
)


def papermill(notebook: Path, folder: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a notebook from another folder, with its results there."""
    command = [sys.executable, "-m", "papermill", notebook, folder / "executed.ipynb", "--no-progress-bar", *options]
    environment = os.environ | {"DSDLIB_RESULTS": str(folder / "results")}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def codes(notebook: Path) -> list[str]:
    return codes_of(nbformat.read(notebook, as_version=4))


def codes_of(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(notebook: Path) -> str:
    tagged = [c for c in nbformat.read(notebook, as_version=4).cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0].source


def defaults(notebook: Path) -> dict[str, Any]:
    nodes = ast.parse(parameters_cell(notebook)).body
    return {node.target.id: ast.literal_eval(node.value) for node in nodes}


def own_recipe(profile: Path, notebook: Path) -> dict[str, Any]:
    return (defaults(notebook) | read_yaml(profile, notebook)).get("own_recipe", {})


def read_yaml(profile: Path, notebook: Path) -> dict[str, Any]:
    return yaml.safe_load((profile / f"{notebook.stem}.yaml").read_text()) or {}


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def executed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """Each notebook, run once with the smoke parameters, a number and a list among them as text, as YAML and the
    command line may hand them over."""
    notebook, folder = request.param, tmp_path_factory.mktemp("elsewhere")
    profile = ROOT / "parameters" / "smoke"
    smoke = ["-f", profile / "recipe.yaml", "-f", profile / f"{notebook.stem}.yaml"]
    own = yaml.safe_dump({"own_recipe": own_recipe(SMOKE, notebook) | {"weight_decay": "1e-3"}})
    text = ["-y", own] if "own_recipe" in defaults(notebook) else []
    seeds = ["-p", "seeds", "[0, 1, 2]"] if "seeds" in defaults(notebook) else []
    done = papermill(notebook, folder, *smoke, *text, *seeds)
    assert done.returncode == 0, done.stderr
    runs = [RunConfig.model_validate_json(file.read_text()) for file in folder.glob("results/*/config.json")]
    assert {run.seed for run in runs} == ({0, 1, 2} if seeds else set())
    varies = any(name.endswith("weight_decays") for name in defaults(notebook))
    recipes = {0.001, 1e-4} if "control_seeds" in defaults(notebook) else {0.001}  # the control has the shared recipe
    assert not (text and seeds) or varies or {run.weight_decay for run in runs} == recipes
    return nbformat.read(folder / "executed.ipynb", as_version=4)


def shown(notebook: nbformat.NotebookNode, mimetype: str) -> list[Any]:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output["data"][mimetype] for output in outputs if mimetype in output.get("data", {})]


def test_an_executed_notebook_has_what_the_report_needs(executed: nbformat.NotebookNode) -> None:
    figures, claims = shown(executed, FIGURE), shown(executed, CLAIMS)
    assert [figure["key"] for figure in figures].count(True) == 1
    assert all(figure["alt"].strip() and figure["caption"].strip() for figure in figures)
    asks_the_papers = any("judge" in source for source in codes_of(executed))
    assert len(claims) == asks_the_papers
    assert all(claim["statement"] and claim["verdict"] for table in claims for claim in table)
    assert len(shown(executed, PROVENANCE)) == 1


def test_every_image_has_an_alternative_text(executed: nbformat.NotebookNode) -> None:
    images = [image for html in shown(executed, "text/html") for image in BeautifulSoup(html, "html.parser")("img")]
    assert len(images) == len(shown(executed, FIGURE)) and all(len(image["alt"]) > 20 for image in images)
    assert not shown(executed, "image/png"), "a figure without an alternative text"


def test_nothing_is_said_on_the_error_stream(executed: nbformat.NotebookNode) -> None:
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"] == []


def test_the_published_paper_scale_runs_are_shown_without_their_data(tmp_path: Path, monkeypatch) -> None:
    """Their tables are in the repository. They lie within a point of He et al.'s Figure 1, and turn where it does."""
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path / "nothing"))
    monkeypatch.delenv("DSDLIB_FRESH")
    profile = ROOT / "parameters" / "mnist"
    files = ["-f", profile / "recipe.yaml", "-f", profile / "01_phenomenon.yaml"]
    done = papermill(ROOT / "notebooks" / "01_phenomenon.ipynb", tmp_path, *files)
    assert done.returncode == 0, done.stderr
    assert not list((tmp_path / "results").glob("*/rounds.parquet")), "something was trained"
    given = yaml.safe_load((profile / "01_phenomenon.yaml").read_text())
    recipe = yaml.safe_load((profile / "recipe.yaml").read_text())["recipe"] | given["own_recipe"]
    runs = RunConfig(**recipe).grid(noise_rate=given["noise_rates"], seed=given["seeds"])
    points = published.figure(given["published_figure"], series=("test", "train"))
    close = published.agreement(published.compare(sweep(runs, progress=False), points)).set_index("series")
    assert (close["points"] == 25).all() and (close["mean_distance"] < 0.01).all()
    assert (close["largest_distance"] < 0.03).all()
    assert close.loc["test", "valley_ours"] == close.loc["test", "valley_published"]
    assert close.loc["test", "peak_ours"] == close.loc["test", "peak_published"]


@pytest.mark.parametrize("notebook", ALL, ids=lambda path: path.stem)
def test_a_notebook_is_committed_clean(notebook: Path) -> None:
    content = nbformat.read(notebook, as_version=4)
    nbformat.validate(content)
    assert content.metadata.kernelspec.language == "python" and content.metadata.kernelspec.name == "python3"
    assert content.cells[0].cell_type == "markdown" and content.cells[0].source.startswith("# ")
    for cell in content.cells:
        assert cell.cell_type != "code" or (cell.outputs == [] and cell.execution_count is None)


@every_notebook
def test_a_notebook_calls_and_does_not_define(notebook: Path) -> None:
    for source in codes(notebook):
        defining = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        assert not any(isinstance(node, defining) for node in ast.walk(ast.parse(source))), source
        lines = len(source.splitlines())
        assert lines <= (15 if source != parameters_cell(notebook) or "performance" not in notebook.stem else 22), (
            source
        )


@every_notebook
def test_parameters_are_annotated_explained_and_not_derived(notebook: Path) -> None:
    source = parameters_cell(notebook)
    for node in ast.parse(source).body:
        assert isinstance(node, ast.AnnAssign), ast.unparse(node)
        ast.literal_eval(node.value)
        assert "  # " in source.splitlines()[node.end_lineno - 1], ast.unparse(node)
    assert "check_parameters(globals())" in codes(notebook)[codes(notebook).index(source) + 1]


@every_section
def test_a_profile_gives_a_notebook_valid_values(profile: Path, notebook: Path) -> None:
    given = read_yaml(profile, notebook)
    nodes = {node.target.id: node for node in ast.parse(parameters_cell(notebook)).body}
    assert given.keys() <= nodes.keys() - {"recipe"}
    values = {
        name: TypeAdapter(eval(ast.unparse(nodes[name].annotation))).validate_python(value)
        for name, value in (defaults(notebook) | given).items()
    }
    recipe = yaml.safe_load((profile / "recipe.yaml").read_text())["recipe"]
    axes = {name[:-1]: value for name, value in values.items() if name[:-1] in RunConfig.model_fields and value}
    assert RunConfig(**recipe | values.get("own_recipe", {})).grid(**axes)


@every_notebook
def test_the_quick_profile_runs_what_the_notebook_runs_by_itself(notebook: Path) -> None:
    """Its files repeat the notebook's own values, to copy and change; the recipe is the same run."""
    quick, own = ROOT / "parameters" / "quick", defaults(notebook)
    given = read_yaml(quick, notebook)
    assert own | given == own
    if "recipe" in own:
        recipe = yaml.safe_load((quick / "recipe.yaml").read_text())["recipe"]
        assert RunConfig(**recipe | own["own_recipe"]) == RunConfig(**own["recipe"] | own["own_recipe"])


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.name)
def test_a_profile_has_a_recipe_and_files_of_notebooks_only(profile: Path) -> None:
    """`digits` and `mnist` have the sections whose runs are published."""
    names, files = {f"{notebook.stem}.yaml" for notebook in NOTEBOOKS}, {path.name for path in profile.iterdir()}
    assert "recipe.yaml" in files and files - {"recipe.yaml"} <= names
    if profile.name in ("smoke", "quick", "cifar10"):
        assert files - {"recipe.yaml"} == names


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["-p", "noise_rate", "1"], r"unknown parameter 'noise_rate' (did you mean 'noise_rates'?)"),
        (["-y", "noise_rates: [1.5]"], "noise_rates = [1.5]: 1.5: input should be less than or equal to 1"),
        (["-y", "recipe: {epoch: 3}"], "recipe: unknown field 'epoch' (did you mean 'epochs'?)"),
        (["-y", "own_recipe: {lr: fast}"], "lr = 'fast': input should be a valid number"),
    ],
)
def test_papermill_fails_with_the_parameters_name(option: list[str], message: str, tmp_path: Path) -> None:
    done = papermill(NOTEBOOKS[0], tmp_path, *option)
    assert done.returncode != 0 and f"{ConfigError.__name__}: {message}" in done.stderr
    assert not list(tmp_path.glob("results/*/config.json"))
