"""The pages in a real browser, from files and without a network. Left out where Chromium is not installed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from dsdlib.report import show
from dsdlib.report.pages import render

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

CSV = """\
series,measure,sparsity,mean,low,high
dense teacher,test_accuracy,0,0.8,0.7,0.9
dense teacher,test_accuracy,0.5,0.6,0.5,0.7
dense teacher,test_accuracy,0.9,0.7,0.65,0.75
"""
DRAWING = "data:image/svg+xml;base64,PHN2ZyB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9zdmciLz4="


def claim(name: str, paper: str, verdict: str) -> dict[str, Any]:
    row = {"id": name, "statement": f"Statement {name}", "paper": paper, "section": "Fig. 1", "statistic": "depth"}
    row |= {"hypothesis": "paper", "dataset": "digits", "where": "20% noise", "direction": "above", "threshold": 2}
    return row | {
        "unit": "points",
        "effect": 3.0,
        "low": 2.5,
        "high": 3.5,
        "seeds": 5,
        "p": 0.01,
        "reason": "",
        "own_setting": False,
        "verdict": verdict,
    }


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """A report of one section with one figure and three claims, without running a notebook."""
    figure = {"alt": "A curve", "shows": "A curve", "caption": "It falls.", "key": True, "source": DRAWING}
    claims = [claim("a", "He", "supported"), claim("b", "He", "undecided"), claim("c", "Chang", "supported")]
    outputs = [
        new_output("display_data", data={"text/html": "", show.FIGURE: figure | {"width": 800, "data": CSV}}),
        new_output("display_data", data={"text/html": "", show.CLAIMS: claims}),
    ]
    folder = tmp_path / "tiny"
    folder.mkdir()
    cells = [new_markdown_cell("# Is there a valley?"), new_code_cell("1", outputs=outputs)]
    nbformat.write(new_notebook(cells=cells), folder / "01_valley.ipynb")
    return folder


def after(page: Path, script: str, milliseconds: int = 1000) -> Any:
    """Run a script in a page after the page's own and return the value of its ``found``."""
    told = f"<script>window.addEventListener('load', () => {{ {script}; document.title = JSON.stringify(found); }});"
    page.write_text(page.read_text().replace("</body>", f"{told}</script></body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--virtual-time-budget={milliseconds}"]
    options = ["--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={page.parent / 'browser'}", "--dump-dom"]
    done = subprocess.run([*command, *options, page.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    return json.loads(BeautifulSoup(done.stdout, "html.parser").title.get_text())


def test_filters_leave_the_rows_of_the_chosen_paper_and_verdict(report: Path) -> None:
    choose = """
        const form = document.querySelector("form.filters"), found = [];
        const shown = () => [...document.querySelectorAll("table.matrix tr[id]")]
            .filter((row) => row.offsetParent !== null).map((row) => row.id);
        for (const [paper, verdict] of [["", ""], ["He", ""], ["", "supported"], ["He", "supported"]]) {
            form.paper.value = paper; form.verdict.value = verdict;
            form.dispatchEvent(new Event("change")); found.push(shown());
        }"""
    every = ["statement-a", "statement-b", "statement-c"]
    assert after(render(report), choose) == [every, every[:2], [every[0], every[2]], every[:1]]


def test_the_explorer_draws_the_figures_data_and_reads_it_at_the_cursor(report: Path) -> None:
    move = """
        const section = document.querySelector("section.explorer"), slider = section.querySelector("input"), found = [];
        for (const value of [0, 1, 2]) {
            slider.value = value; slider.dispatchEvent(new Event("input"));
            found.push([section.querySelector(".at").textContent, section.querySelector("tbody").textContent]);
        }
        found.push(section.hidden, section.querySelector(".csv").getAttribute("href"),
            section.querySelectorAll("svg path[stroke-width]").length)"""
    assert after(render(report), move) == [
        ["At 0.0% sparsity", "dense teacher80.0 [70.0, 90.0]"],
        ["At 50.0% sparsity", "dense teacher60.0 [50.0, 70.0]"],
        ["At 90.0% sparsity", "dense teacher70.0 [65.0, 75.0]"],
        False,
        "data/01_valley-1.csv",
        2,  # the curve and its key
    ]


def test_a_page_of_a_running_report_reloads_and_keeps_its_place(report: Path) -> None:
    """What is unfolded and the place are as before once a page is loaded anew; a finished page is not loaded anew."""
    reload = """
        document.body.style.minHeight = "9000px";
        const fold = document.querySelector("details"), found = [];
        fold.open = true; scrollTo(0, 200); savePlace();
        fold.open = false; scrollTo(0, 0); restorePlace();
        found.push(fold.open, scrollY);
        fold.open = false; restorePlace(); found.push(fold.open);
        window.setTimeout = () => found.push("will reload"); keepUpToDate();"""
    assert after(render(report, {"02_more": "More"}), reload) == [True, 200, False, "will reload"]
    assert after(render(report), reload) == [True, 200, False]
