"""The notebook 00_explorer, executed by papermill as any other, with runs and without."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup

from dsdlib.study.store import Store

NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "00_explorer.ipynb"


def html(folder: Path, results: Path) -> str:
    """The HTML of the executed notebook's only output, which is run in another folder."""
    command = [sys.executable, "-m", "papermill", NOTEBOOK, folder / "executed.ipynb", "--no-progress-bar"]
    environment = os.environ | {"DSDLIB_RESULTS": str(results)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
    (output,) = [output for cell in cells for output in cell.get("outputs", [])]
    return output["data"].get("text/html") or output["data"]["text/markdown"]


@pytest.mark.usefixtures("package")
def test_it_shows_a_picture_of_the_explorers_first_state(store: Store, tmp_path: Path) -> None:
    page = BeautifulSoup(html(tmp_path, store.root), "html.parser")
    assert len(page("img")) == 1 and "Test accuracy" in page.img["alt"]
    assert "3 seeds" in page.figcaption.text


@pytest.mark.usefixtures("package")
def test_in_an_empty_store_it_says_how_to_get_runs(tmp_path: Path) -> None:
    assert "make report" in html(tmp_path, tmp_path / "nothing")
