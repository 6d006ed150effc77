"""``python -m dsdlib.study run``: on a bare machine, stopped and gone on with, packed, and published."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from dsdlib import ConfigError, RunConfig
from dsdlib.study.__main__ import main
from dsdlib.study.archive import Archive, packed
from dsdlib.study.declared import declared

ROOT = Path(__file__).parents[2]

# Hides the notebooks' packages, and the distribution's own metadata, as a source tree has none.
BARE = """
import importlib.metadata
import sys

HIDDEN = {"papermill", "nbformat", "nbconvert", "nbclient", "bs4", "jinja2", "IPython", "ipykernel", "matplotlib"}


class Hidden:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in HIDDEN:
            raise ImportError(f"{name} is not on this machine")


def version(name, found=importlib.metadata.version):
    if name == "dsdlib":
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)


sys.meta_path.insert(0, Hidden())
importlib.metadata.version = version
from dsdlib.study.__main__ import main

sys.exit(main(sys.argv[1:]))
"""

FIELDS = {"model": "mlp", "model_args": "{depth: 1, width: 8}", "epochs": "1", "milestones": "[]", "rounds": "1"}
SMALL = [text for name, value in FIELDS.items() for text in ("-p", name, value)]


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    (tmp_path / "recipe.yaml").write_text("recipe: {noise_rate: 0.5, lr: 0.2}\n")
    (tmp_path / "01_own.yaml").write_text("own_recipe: {lr: 0.1}\nseeds: [7]\n")
    return [str(tmp_path / "recipe.yaml"), str(tmp_path / "01_own.yaml")]


def test_runs_are_declared_by_recipes_and_lists_of_values(recipes: list[str]) -> None:
    files = [Path(file) for file in recipes]
    runs = declared(files, {"seed": [0, 1], "milestones": [3], "epochs": [5, 6]})
    base = RunConfig(noise_rate=0.5, lr=0.1, milestones=[3], epochs=5)
    assert runs == base.grid(seed=[0, 1], epochs=[5, 6])
    with pytest.raises(ConfigError, match="unknown field 'seeds'"):
        declared(files, {"seeds": [0]})
    with pytest.raises(ConfigError, match=r"nothing\.yaml: cannot be read"):
        declared([files[0].with_name("nothing.yaml")], {})


def test_on_a_bare_machine_an_uninstalled_tree_trains_packs_and_publishes(
    recipes: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(ROOT / "dsdlib", tree / "dsdlib")
    command = [sys.executable, "-c", BARE, "run", *recipes, *SMALL, "-p", "seed", "[0, 1]", "--results", "mine"]
    monkeypatch.setenv("PYTHONPATH", str(tree))
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    tables = tmp_path / "mine" / "packed" / "tables.parquet"
    runs = packed(tables)
    assert {run.seed for run in runs} == {0, 1} and all(run.lr == 0.1 for run in runs)
    assert {session["versions"]["dsdlib"] for _, sessions in runs.values() for session in sessions} == {"not installed"}
    assert len(pd.read_csv(tables.with_name("rounds.csv"))) == 4
    assert main(["publish", "mine", "--tables", str(tables)]) == 0
    monkeypatch.delenv("DSDLIB_FRESH")
    archive = Archive([tmp_path / "results" / "published"])
    for run, (rows, _) in runs.items():
        pd.testing.assert_frame_equal(pd.DataFrame(archive.rows(run)), pd.DataFrame(rows))


def test_asked_to_stop_it_shows_the_finished_rounds_and_the_same_command_goes_on(
    recipes: list[str], tmp_path: Path
) -> None:
    long = ["-p", "epochs", "100000", "-p", "seed", "3", "--results", str(tmp_path / "mine")]  # minutes
    command = [sys.executable, "-m", "dsdlib.study", "run", *recipes, *SMALL, *long]

    def sessions() -> int:
        return sum(len(json.loads(file.read_text())) for file in (tmp_path / "mine").glob("*/provenance.json"))

    for number in range(2):
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        while sessions() <= number:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(0.5)
        process.terminate()
        said = process.communicate(timeout=60)[0]
        assert process.returncode == 3 and "stopped; the same command goes on" in said
        assert [file.name for file in (tmp_path / "mine" / "packed").iterdir()] == ["rounds.csv"]
        assert list((tmp_path / "mine").glob("*/partial.safetensors"))


def test_what_cannot_be_run_is_refused(recipes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", *recipes, "-p", "epoch", "3"]) == 2
    assert "study: unknown field 'epoch' (did you mean 'epochs'?)" in capsys.readouterr().err
    assert main(["run", *recipes, "--minutes", "nan"]) == 2
    assert "study: --minutes nan: more than 0 and less than a million" in capsys.readouterr().err
    assert main(["publish", "mine", "--tables", "nothing.parquet"]) == 2
    assert "nothing.parquet: the published archive cannot be read" in capsys.readouterr().err
