"""The report, from tiny notebooks to pages: one true run through papermill, then what the pages hold."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent

import nbformat
import pandas as pd
import psutil
import pytest
from bs4 import BeautifulSoup
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from dsdlib import RunConfig, sweep
from dsdlib.analysis.claims import effect
from dsdlib.report import command, show
from dsdlib.report.pages import duration, render, render_all

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="

PARAMETERS = """\
seeds: int = 2  # how many, with 0 < seeds
rates: list[float] = [
    0.1,
]
"""

FIGURE = f"""\
source = "data:image/png;base64,{PIXEL}"
html = f'<figure><img alt="A curve with a valley" src="{{source}}" width="10"></figure>'
figure = {{"alt": "A curve with a valley", "shows": "A curve", "caption": "16 points & deep.", "key": True,
          "source": source, "width": 10, "data": "sparsity,mean\\n0.5,0.9\\n"}}
display({{"text/html": html, "{show.FIGURE}": figure}}, raw=True)
"""

EMPTY = f"""\
display({{"text/html": "<p>Nothing to compare</p>", "{show.NOTHING}": {{"reason": "Nothing"}}}}, raw=True)
"""

CLAIMS = f"""\
import sys
print("progress: half", end="", file=sys.stderr, flush=True)
print("\\rprogress: done", file=sys.stderr)
claim = {{"paper": "He 2022", "where": "20% noise", "statistic": "depth", "dataset": "digits", "unit": "points",
    "direction": "above", "threshold": 0, "section": "Fig. 1", "hypothesis": "paper", "reason": "",
    "own_setting": False, "seeds": 5}}
first = {{"id": "deep", "statement": "<b>&", "effect": -15.93, "low": -18.2, "high": -13.4, "p": 0.001,
    "verdict": "supported"}}
second = {{"id": "may", "statement": "It may", "effect": None, "low": None, "high": None, "p": None,
    "verdict": "nothing to judge", "reason": "not run", "hypothesis": "ours"}}
claims = [claim | first, claim | second, claim | first | {{"where": f"rates {{rates}}", "effect": 1.0,
          "verdict": "undecided"}}]
display({{"text/html": "<table class='claims'></table>", "{show.CLAIMS}": claims}}, raw=True)
provenance = {{"Data": "digits (sha256 ab12)", "Commit": "3f9c2ab"}}
display({{"text/html": "<p>Made so</p>", "{show.PROVENANCE}": provenance}}, raw=True)
seeds + 40
"""


def save(path: Path, *cells: nbformat.NotebookNode) -> None:
    """A notebook on disk; the first code cell is its parameters cell."""
    next(cell for cell in cells if cell.cell_type == "code").metadata["tags"] = ["parameters"]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(new_notebook(cells=list(cells)), path)


def write_project(root: Path) -> Path:
    """Two notebooks, one with everything and one with nothing, and the profile `tiny`."""
    title = new_markdown_cell("# Is there a *valley*?\n\nDoes it fall & rise?\n\nMore.")
    codes = [new_code_cell(source) for source in (PARAMETERS, FIGURE, CLAIMS)]
    beside = [new_markdown_cell("## Beside the published"), new_code_cell(EMPTY), new_markdown_cell("## The end")]
    save(root / "notebooks" / "01_valley.ipynb", title, *codes, *beside)
    save(root / "notebooks" / "02_bare.ipynb", new_code_cell("nothing: int = 0"))
    profile = root / "parameters" / "tiny"
    profile.mkdir(parents=True)
    (profile / "01_valley.yaml").write_text("seeds: 3\nrates: [1.0e-3]\n")
    (profile / "02_bare.yaml").write_text("# the notebook's own values\n")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose report was made once."""
    root = write_project(tmp_path_factory.mktemp("project"))
    assert command.main(["tiny"], root) == 0
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    """A copy of the made project, to spoil."""
    return shutil.copytree(made, tmp_path / "project")


def page(root: Path, name: str) -> BeautifulSoup:
    return BeautifulSoup((root / "reports" / "tiny" / f"{name}.html").read_text(), "html.parser")


def test_index_tells_the_claims(made: Path) -> None:
    index = page(made, "index")
    text = " ".join(index.get_text(" ").split())
    assert "3 claims: 1 supported, 1 undecided, 1 nothing to judge" in text
    assert "1 is decided" in text and "0.1 verdicts would be wrong by chance" in text and "0 are marked fragile" in text
    papers, ours = index.select("table.matrix")
    row = papers.find(id="statement-deep")
    assert row.th.get_text(" ", strip=True) == "<b>& Fig. 1" and row["data-paper"] == "He 2022"
    cell = row.td
    assert cell["data-verdict"] == "mixed|supported|undecided"
    assert cell.summary.get_text(" ", strip=True) == "mixed 1 supported, 1 undecided"
    first, second = cell.select("li")
    assert "supported 20% noise (digits): −15.9 points [−18.2,\N{NO-BREAK SPACE}−13.4]" in first.get_text(
        " ", strip=True
    )
    assert "undecided rates [0.001]" in second.get_text(" ", strip=True)
    assert [link["href"] for link in second("a")] == ["01_valley.html#claim-3", "01_valley.html#figure-1-1"]
    assert [row["id"] for row in ours.select("tr[id]")] == ["statement-may"]


def test_every_claim_and_every_figures_data_is_a_table_on_disk(made: Path) -> None:
    data = made / "reports" / "tiny" / "data"
    claims = pd.read_csv(data / "claims.csv")
    assert claims["effect"].tolist()[::2] == [-15.93, 1.0] and set(claims["profile"]) == {"tiny"}
    assert pd.read_csv(data / "01_valley-1.csv").to_dict("list") == {"sparsity": [0.5], "mean": [0.9]}
    assert (data / "01_valley-1.png").read_bytes() == base64.b64decode(PIXEL)


def test_a_figure_is_numbered_says_its_finding_first_and_leads_to_its_data_and_its_cell(made: Path) -> None:
    for name in ("index", "01_valley"):
        figure = page(made, name).find(id="figure-1-1")
        assert figure.img["alt"] == "A curve with a valley"
        words = figure.figcaption.get_text(" ", strip=True)
        assert words.startswith("Figure 1.1. 16 points & deep. A curve.")
        links = {link.get_text(): link["href"] for link in figure.figcaption("a")}
        assert links["Data (CSV)"] == "data/01_valley-1.csv"
        assert links["Code"] == "01_valley.html#cell-4"
    code = page(made, "01_valley").find(id="cell-4").get_text()
    assert "image/png" in code


def test_a_part_with_nothing_to_show_is_left_out_and_the_others_stay(made: Path) -> None:
    text = page(made, "01_valley").get_text()
    assert "Nothing to compare" not in text and "Beside the published" not in text
    assert "The end" in text and "Does it fall" in text


def test_index_says_how_it_was_made(made: Path) -> None:
    index = page(made, "index")
    made_so = " ".join(index.find(id="made").parent.get_text(" ").split())
    assert "Data digits (sha256 ab12)" in made_so and "Commit 3f9c2ab" in made_so
    assert "seeds: 3" in made_so and "- 0.001" in made_so


def test_the_page_above_all_profiles_has_a_column_for_each(project: Path) -> None:
    reports = project / "reports"
    shutil.copytree(reports / "tiny", reports / "zoo")
    (reports / "nothing").mkdir()
    render_all(reports)
    above = BeautifulSoup((reports / "index.html").read_text(), "html.parser")
    heads = [head.get_text(" ", strip=True) for head in above.select("table.matrix")[0].select("thead th")]
    assert heads == ["Statement", "tiny profile tiny", "zoo profile zoo"]
    cells = above.find(id="statement-deep")("td")
    links = [[link["href"] for link in cell("a")][-1] for cell in cells]
    assert links == ["tiny/01_valley.html#figure-1-1", "zoo/01_valley.html#figure-1-1"]
    listed = [link["href"] for link in above.find(id="figures").select("li a")]
    assert listed == ["tiny/01_valley.html#figure-1-1", "zoo/01_valley.html#figure-1-1"]
    local = [tag["href"].partition("#") for tag in above("a", href=True) if not tag["href"].startswith("http")]
    for target, _, anchor in local:
        file = (reports / (target or "index.html")).read_bytes()
        assert not anchor or BeautifulSoup(file, "html.parser").find(id=anchor), (target, anchor)


def test_a_profile_in_a_papers_own_setting_comes_first(project: Path) -> None:
    reports = project / "reports"
    shutil.copytree(reports / "tiny", reports / "zoo", dirs_exist_ok=True)
    executed = nbformat.read(reports / "zoo" / "01_valley.ipynb", as_version=4)
    for cell in executed.cells:
        for output in cell.get("outputs", []):
            for claim in output.get("data", {}).get(show.CLAIMS, []):
                claim["own_setting"] = True
    nbformat.write(executed, reports / "zoo" / "01_valley.ipynb")
    render_all(reports)
    above = BeautifulSoup((reports / "index.html").read_text(), "html.parser")
    heads = [head.get_text(" ", strip=True) for head in above.select("table.matrix")[0].select("thead th")]
    assert heads == ["Statement", "zoo profile zoo", "tiny profile tiny"]


@pytest.mark.parametrize("name", ["index", "01_valley", "02_bare"])
def test_pages_stand_alone(made: Path, name: str) -> None:
    html = page(made, name)
    assert not html("iframe") and not any(script.get("src") for script in html("script"))
    loaded = [tag["src"] for tag in html(src=True)] + [tag["href"] for tag in html("link")]
    assert all(address.startswith("data:") for address in loaded)
    assert "url(" not in html.style.string and "@import" not in html.style.string
    assert all(image.get("alt") for image in html("img"))
    assert html.html["lang"] == "en" and html.title.get_text(strip=True) and html.main and html.nav
    assert html.find("meta", attrs={"name": "viewport"})
    local = [link["href"] for link in html("a", href=True) if not link["href"].startswith("http")]
    for target, _, anchor in (address.partition("#") for address in local):
        assert not anchor or page(made, target.removesuffix(".html") or name).find(id=anchor), (target, anchor)
        assert not target or (made / "reports" / "tiny" / target).resolve().is_file()


def test_code_and_progress_are_folded(made: Path) -> None:
    section = page(made, "01_valley")
    folds = [fold.extract().get_text() for fold in section.select("details.code")]
    assert any("Parameters of this profile" in fold and "rates = [0.001]" in fold for fold in folds)
    assert any("progress: done" in fold and "display" in fold for fold in folds)
    # Of a progress bar only the last state is kept: the first one is in the source, no more.
    assert sum(fold.count("progress: half") for fold in folds) == 1
    text = section.get_text()
    assert "progress" not in text and "display" not in text and "seeds" not in text
    assert "Made so" in text and "43" in text and section.figure and section.select_one("table.claims")


def test_sections_link_to_their_neighbours(made: Path) -> None:
    assert {link["href"] for link in page(made, "01_valley").select("nav a")} == {
        "index.html",
        "02_bare.html",
    }
    assert {link["href"] for link in page(made, "02_bare").select("nav a")} == {
        "index.html",
        "01_valley.html",
    }


def test_a_failing_notebook_harms_no_page(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = project / "reports" / "tiny"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    save(project / "notebooks" / "02_bare.ipynb", new_code_cell("nothing: int = 0"), new_code_cell("1 / nothing"))
    assert command.main(["tiny", "--only", "02_bare"], project) == 1
    failed = folder / "02_bare.failed.ipynb"
    said = capfd.readouterr().err
    assert "ZeroDivisionError: division by zero\n" in said and str(failed) in said and "Traceback" not in said
    assert failed.is_file()
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path != failed}
    assert after == before
    render(folder)
    assert "failed" not in page(project, "index").get_text()


def test_values_of_ones_own_go_to_every_notebook_that_takes_them(project: Path) -> None:
    assert command.main(["tiny", "-p", "seeds", "7", "-p", "rates", "[0.5]"], project) == 0
    section = page(project, "01_valley").get_text()
    assert "47" in section and "seeds = 7" in section and "rates = [0.5]" in section


def running() -> set[psutil.Process]:
    """What this process has started and is not yet over."""
    children = psutil.Process().children(recursive=True)
    return {child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE}


def slow(project: Path) -> None:
    """A notebook that would take ten minutes."""
    waiting = new_code_cell("import time\ntime.sleep(600)")
    save(project / "notebooks" / "02_bare.ipynb", new_code_cell("nothing: int = 0"), waiting)


def test_an_output_that_is_a_file_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "file").write_text("mine")
    assert command.main(["tiny", "--output", str(project / "file")], project) == 2
    assert f"report: --output {project / 'file'}: is a file; allowed: a folder" in capsys.readouterr().err
    assert (project / "file").read_text() == "mine"


def test_an_executor_that_is_none_is_refused_before_any_notebook_runs(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DSDLIB_EXECUTOR", "slurp:workers=2")
    assert command.main(["tiny"], project) == 2
    told = capsys.readouterr()
    assert "report: executor = 'slurp:workers=2': unknown; allowed" in told.err and told.out == ""


def test_a_deadline_stops_the_notebooks_and_leaves_the_pages_as_they_were(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow(project)
    before, others = page(project, "index").get_text(), running()
    started = time.monotonic()
    assert command.main(["tiny", "--only", "02_bare", "--minutes", "0.1"], project) == 3
    assert time.monotonic() - started < 300
    assert "0.1 minutes are over; the same command resumes" in capsys.readouterr().out
    assert (project / "reports" / "finished_rounds.csv").exists()
    assert page(project, "index").get_text() == before
    assert running() <= others
    assert not list((project / "reports" / "tiny").glob(".running-*"))


def test_sigterm_ends_with_the_finished_rounds_as_a_table(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tiny: RunConfig
) -> None:
    def stopped(*_: object) -> bool:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        return True

    monkeypatch.setattr("dsdlib.report.make.make", stopped)
    table = sweep(tiny, progress=False)
    assert command.main(["tiny", "--only", "02_bare"], project) == 3
    file = project / "reports" / "finished_rounds.csv"
    assert f"report: stopped; the same command resumes. Finished rounds: {file}" in capsys.readouterr().out
    assert pd.read_csv(file)["test_accuracy"].tolist() == table["test_accuracy"].tolist()


def test_a_failure_is_told_at_once_and_stops_the_notebook_beside_it(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    slow(project)
    save(
        project / "notebooks" / "01_valley.ipynb",
        new_code_cell("seeds: int = 2\nrates: list = []"),
        new_code_cell("1 / 0"),
    )
    shutil.copy(project / "notebooks" / "02_bare.ipynb", project / "notebooks" / "03_queued.ipynb")
    (project / "parameters" / "tiny" / "03_queued.yaml").touch()
    others = running()
    started = time.monotonic()
    assert command.main(["tiny"], project) == 1
    assert time.monotonic() - started < 300
    assert "ZeroDivisionError: division by zero" in capfd.readouterr().err
    left = {path.name for path in (project / "reports" / "tiny").glob("*.failed.ipynb")}
    assert left == {"01_valley.failed.ipynb"} and running() <= others


def test_the_first_page_is_there_before_the_report_is_complete(project: Path) -> None:
    """A second notebook that looks at the pages while it runs finds the first one's, and the index waiting for it."""
    folder = project / "reports" / "tiny"
    shutil.rmtree(folder)
    look = f"""\
        import shutil
        import time
        from pathlib import Path
        folder = Path({str(folder)!r})
        while not (folder / "01_valley.html").exists() or "16 points" not in (folder / "index.html").read_text():
            time.sleep(0.1)
        shutil.copy(folder / "index.html", folder.parent / "early.html")"""
    save(project / "notebooks" / "02_bare.ipynb", new_code_cell("nothing: int = 0"), new_code_cell(dedent(look)))
    assert command.main(["tiny"], project) == 0
    early = BeautifulSoup((project / "reports" / "early.html").read_text(), "html.parser")
    assert early.body.has_attr("data-running") and "02_bare" in early.select_one("p.running").get_text()
    assert early.find(id="figure-1-1")
    late = page(project, "index")
    assert not late.body.has_attr("data-running") and not late.select("p.running")


def test_sections_of_an_earlier_report_do_not_count_as_done(project: Path) -> None:
    render(project / "reports" / "tiny", {"02_bare": "Bare"})
    assert "1 of 2 sections are done; still to come: Bare" in page(project, "index").select_one("p.running").get_text()


@pytest.mark.parametrize(
    ("arguments", "yaml", "message"),
    [
        (["tiny", "-p", "lr", "1"], "", "-p: no notebook here takes 'lr'"),
        (["tiny", "--at-once", "0"], "", "--at-once 0: at least 1"),
        *(
            (["tiny", "--minutes", text], "", f"--minutes {text}: more than 0 and less")
            for text in ("-1", "nan", "inf")
        ),
        (["huge"], "", "unknown profile 'huge'; the profiles are: tiny"),
        (["tiny", "--only", "03"], "", "'03' is not in 'tiny', which has: 01_valley, 02_bare"),
        (["tiny"], "lr: 1", "02_bare.yaml: unknown parameter 'lr'; it takes: nothing"),
        (["tiny"], "just words", "'just words' is not a mapping"),
        (["tiny"], "a: [1", "not YAML"),
    ],
)
def test_refuses_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], yaml: str, message: str
) -> None:
    (project / "parameters" / "tiny" / "02_bare.yaml").write_text(yaml)
    assert command.main(arguments, project) == 2
    said = capsys.readouterr()
    assert message in said.err and said.err.count("\n") == 1 and not said.out


def test_refuses_parameters_without_a_notebook(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "parameters" / "tiny" / "09_gone.yaml").touch()
    assert command.main(["tiny"], project) == 2
    assert "no notebook '09_gone'; the notebooks are: 01_valley, 02_bare" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((0.5, 0.25, 0.75), "0.50 points [0.25, 0.75]"),
        ((1234.5, None, None), "1234 points"),
        ((0, 0, 0), "0 points [0, 0]"),
        ((3, None, 4.5), "3.00 points [?, 4.50]"),
        ((None, None, None), "—"),
    ],
)
def test_effect(numbers: tuple[float | None, ...], text: str) -> None:
    claim = dict(zip(("effect", "low", "high"), numbers, strict=True), unit="points")
    assert effect(claim) == text.replace(", ", ",\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(("seconds", "text"), [(85.2, "85 s"), (725, "12 min 5 s"), (12010, "3 h 20 min")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_report_is_made_in_an_ascii_locale_and_by_this_environments_kernel(project: Path, tmp_path: Path) -> None:
    """Signs that the locale lacks, in a profile and in what a notebook prints, and another kernel of the same name."""
    foreign = tmp_path / "kernels" / "python3" / "kernel.json"
    foreign.parent.mkdir(parents=True)
    foreign.write_text(json.dumps({"argv": ["false"], "display_name": "Another", "language": "python"}))
    profile = project / "parameters" / "tiny" / "02_bare.yaml"
    profile.write_text("# the notebook's own values, without ℓ2\n", encoding="utf-8")
    save(project / "notebooks" / "02_bare.ipynb", new_code_cell("nothing: int = 0"), new_code_cell("print('── ℓ2')"))
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "JUPYTER_PATH": str(tmp_path)}
    program = "import pathlib, sys; from dsdlib.report import command\n"
    program += "command.main(['tiny', '--only', '02_bare'], pathlib.Path(sys.argv[1]))"
    made = subprocess.run(
        [sys.executable, "-c", program, project], env=os.environ | locale, capture_output=True, text=True
    )
    assert made.stderr == "" and "02_bare: ?? ?2" in made.stdout
    assert "── ℓ2" in page(project, "02_bare").get_text()
