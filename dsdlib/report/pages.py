"""Executed notebooks → static HTML: a page for each section, one for each profile, and one above all profiles."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat
import pandas as pd
from jinja2 import Environment, FileSystemLoader
from matplotlib import pyplot as plt
from nbconvert import HTMLExporter

from dsdlib.analysis.claims import decided, effect, fragile, threshold
from dsdlib.plots import forests, set_theme
from dsdlib.report import findings
from dsdlib.report.contents import describe, is_current, shown_cells, split_at_headings
from dsdlib.report.explore import curves_table
from dsdlib.report.show import image_source
from dsdlib.study.files import write_whole


def duration(seconds: float) -> str:
    """Seconds in words: "85 s", "12 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def html_exporter() -> HTMLExporter:
    """nbconvert's exporter with this package's templates. Its Jinja environment renders the index as well."""
    exporter = HTMLExporter(
        template_name="base",
        template_file="section.html.j2",
        extra_loaders=[FileSystemLoader(Path(__file__).parent / "templates")],
        filters={
            "effect": effect,
            "threshold": threshold,
            "duration": duration,
            "tally": findings.tally,
            "chance": findings.chance,
        },
        # Keep only the last state of a progress bar.
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
        exclude_anchor_links=True,
    )
    exporter.environment.autoescape = True
    return exporter


def read_report(folder: Path) -> dict[str, Any]:
    """The executed notebooks of one profile, in ``folder``, described for its pages.

    Notebooks that an earlier version of this package has executed, in another format, are left out.
    """
    paths = [path for path in sorted(folder.glob("*.ipynb")) if not path.name.endswith(".failed.ipynb")]
    read = {path.stem: split_at_headings(nbformat.read(path, as_version=4)) for path in paths}
    notebooks = {name: notebook for name, notebook in read.items() if is_current(notebook)}
    sections = [describe(name, notebook) for name, notebook in notebooks.items()]
    for section in sections:
        for number, claim in enumerate(section["claims"], 1):
            shown = (figure for figure in section["figures"] if figure["part"] == claim.get("part"))
            figure = next(shown, section["key"])
            claim |= {"page": section["name"], "anchor": f"claim-{number}", "figure": figure}
    claims = [claim for section in sections for claim in section["claims"]]
    for claim, mark in zip(claims, fragile(claims), strict=True):
        claim["fragile"] = mark
    return {
        "profile": folder.name,
        "base": "",
        "notebooks": notebooks,
        "sections": sections,
        "claims": claims,
        "datasets": list(dict.fromkeys(s["recipe"]["dataset"] for s in sections if s["recipe"])),
        "key": next((section["key"] for section in sections if section["key"]), None),
    }


def render(folder: Path, pending: Mapping[str, str] | None = None, pages: Sequence[str] | None = None) -> Path:
    """Render the executed notebooks in ``folder``: a page for each, their figures' files and, last, ``index.html``.

    ``pending`` gives the sections that are still to be run and their titles; the index then says so and reloads by
    itself. ``pages`` names the sections whose pages are rendered; by default all are. Returns the path of the index.
    """
    report, exporter = read_report(folder), html_exporter()
    around = [None, *report["sections"], None]
    for before, section, after in zip(around, report["sections"], around[2:], strict=False):
        if pages is not None and section["name"] not in pages:
            continue
        notebook = report["notebooks"][section["name"]]
        resources = {"profile": report["profile"], "section": section, "previous": before, "next": after}
        resources["shown"] = shown_cells(notebook)
        _write(folder / f"{section['name']}.html", exporter.from_notebook_node(notebook, resources)[0].encode())
        _write_figures(folder, section)
    _write_index(exporter.environment, folder, [report], pending or {})
    return folder / "index.html"


def render_all(reports: Path) -> Path | None:
    """Render the page above all profiles that have a page in ``reports``.

    Those with the most verdicts in a paper's own setting come first, then those with the most verdicts.

    Returns its path, or None if there is no report.
    """
    folders = sorted(page.parent for page in reports.glob("*/index.html"))
    found = [read_report(folder) | {"base": f"{folder.name}/"} for folder in folders]
    found = sorted((r for r in found if r["sections"]), key=_weight, reverse=True)
    if not found:
        return None
    _write_index(html_exporter().environment, reports, found, {})
    return reports / "index.html"


def _weight(report: dict[str, Any]) -> tuple[int, int]:
    """The number of a report's verdicts in a paper's own setting, and of all its verdicts."""
    verdicts = [claim for claim in report["claims"] if decided(claim)]
    return sum(claim["own_setting"] for claim in verdicts), len(verdicts)


def _write_index(
    templates: Environment, folder: Path, reports: Sequence[dict[str, Any]], pending: Mapping[str, str]
) -> None:
    """The index of one report or of several, with the forest plot and the table of their claims beside it."""
    rows = findings.matrix(reports)
    context = {
        "reports": reports,
        "claims": [claim for report in reports for claim in report["claims"]],
        "rows": [row for row in rows if row["hypothesis"] == "paper"],
        "own_rows": [row for row in rows if row["hypothesis"] == "ours"],
        "papers": findings.by_paper([row for row in rows if row["hypothesis"] == "paper"]),
        "made": [_made(reports[0]["sections"], kind) for kind in ("provenance", "recipe")],
        "curves": curves_table(reports),
        "forest": _forest(folder / "data", reports),
        "pending": pending,
        "profile": reports[0]["profile"] if len(reports) == 1 else None,
    }
    _write(folder / "index.html", templates.get_template("index.html.j2").render(**context).encode())


def _made(sections: Sequence[dict[str, Any]], kind: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """`findings.common_and_own` of the sections' provenance or recipes, by the sections' names."""
    return findings.common_and_own({section["name"]: section[kind] for section in sections if section[kind]})


def _forest(folder: Path, reports: Sequence[dict[str, Any]]) -> str:
    """The forest plot of all effects of the papers' claims, as a data URI, and its data as ``claims.csv``."""
    claims = [claim | {"profile": r["profile"]} for r in reports for claim in r["claims"]]
    if not claims:
        return ""
    table = pd.DataFrame(claims).drop(columns=["figure", "page", "anchor"])
    folder.mkdir(exist_ok=True)
    write_whole(folder / "claims.csv", lambda draft: table.to_csv(draft, index=False))
    drawn = table[(table["hypothesis"] == "paper") & table["effect"].notna()]
    if drawn.empty:
        return ""
    with mpl.rc_context():
        set_theme()
        figure = forests(drawn)
        plt.close(figure)
        return image_source(figure)


def _write_figures(folder: Path, section: dict[str, Any]) -> None:
    """The files of a section's figures in the folder ``data``: each as an image, and its data as CSV."""
    (folder / "data").mkdir(exist_ok=True)
    files = {}
    for figure in section["figures"]:
        files[folder / figure["image"]] = base64.b64decode(figure["source"].partition("base64,")[2])
        if figure["csv"]:
            files[folder / figure["csv"]] = figure["data"].encode()
    for file, content in files.items():
        _write(file, content)
    for old in set((folder / "data").glob(f"{section['name']}-*")) - files.keys():
        old.unlink()


def _write(path: Path, content: bytes) -> None:
    write_whole(path, lambda draft: draft.write_bytes(content))
