"""Executed notebooks → static HTML: a page for each section, and an index that tells the whole study."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml
from bs4 import BeautifulSoup
from jinja2 import FileSystemLoader
from nbconvert import HTMLExporter

from dsdlib.analysis.claims import VERDICTS, decided, effect, fragile, threshold, wrong_by_chance
from dsdlib.report.show import CLAIMS, FIGURE, PROVENANCE
from dsdlib.study.files import write_whole


def bundles(notebook: nbformat.NotebookNode, mimetype: str) -> Iterator[dict[str, Any]]:
    """The contents, by mimetype, of all outputs that include ``mimetype``."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if mimetype in output.get("data", {}):
                yield output.data


def heading(notebook: nbformat.NotebookNode) -> tuple[str | None, str]:
    """A notebook's title and question, as Markdown: its first ``# `` heading and the first paragraph after it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    if not found:
        return None, ""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", text[found.end() :]))
    return found[1].strip(), next((part for part in paragraphs if part and part[0] != "#"), "")


def describe(name: str, notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What the index says of one executed notebook."""
    title, question = heading(notebook)
    run = notebook.metadata.get("papermill", {})
    key = next((data for data in bundles(notebook, FIGURE) if data[FIGURE].get("key")), None)
    return {
        "name": name,
        "chapter": notebook.metadata.get("dsdlib", {}).get("chapter", "More"),
        "title": title or name,
        "question": question,
        "image": str(BeautifulSoup(key["text/html"], "html.parser").img) if key else "",
        "sentence": key[FIGURE].get("sentence", "") if key else "",
        "claims": [claim for data in bundles(notebook, CLAIMS) for claim in data[CLAIMS]],
        "provenance": {k: v for data in bundles(notebook, PROVENANCE) for k, v in data[PROVENANCE].items()},
        "parameters": _as_yaml(run.get("parameters") or {}),
        "ended": (run.get("end_time") or "")[:16].replace("T", " "),
        "seconds": run.get("duration"),
    }


def _as_yaml(parameters: nbformat.NotebookNode) -> str:
    plain = json.loads(json.dumps(parameters))  # YAML cannot represent a NotebookNode
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def tally(claims: Sequence[dict[str, Any]]) -> str:
    """The number of claims by verdict, in words: "7 claims: 5 supported, 2 undecided"."""
    counts = Counter({verdict: 0 for verdict in VERDICTS})
    counts.update(claim["verdict"] for claim in claims)
    parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {', '.join(parts)}"


def chance(claims: Sequence[dict[str, Any]]) -> str:
    """How many verdicts are decided, how many of them chance may have made, and how many are fragile, in words."""
    counts = [sum(map(decided, claims)), sum(claim.get("fragile", False) for claim in claims)]
    verdicts, marks = (f"{count} {'is' if count == 1 else 'are'}" for count in counts)
    return (
        f"{verdicts} decided. If every effect lay at its threshold, {wrong_by_chance(claims):.1f} verdicts would be "
        f"wrong by chance, 2.5% of the claims that could be judged. {marks} marked fragile: control of the false "
        "discovery rate at 5% (Benjamini–Hochberg) would not keep them."
    )


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
        filters={"effect": effect, "threshold": threshold, "duration": duration, "tally": tally, "chance": chance},
        # Keep only the last state of a progress bar.
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
        exclude_anchor_links=True,
    )
    exporter.environment.autoescape = True
    return exporter


def render(folder: Path, profile: str) -> Path:
    """Render the executed notebooks in ``folder``: a page for each and, last, ``index.html``. Returns its path."""
    paths = [path for path in sorted(folder.glob("*.ipynb")) if not path.name.endswith(".failed.ipynb")]
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    sections = [describe(path.stem, notebook) for path, notebook in zip(paths, notebooks, strict=True)]
    claims = [claim for section in sections for claim in section["claims"]]
    for claim, mark in zip(claims, fragile(claims), strict=True):
        claim["fragile"] = mark
    exporter = html_exporter()
    neighbours = zip([None, *sections], [*sections[1:], None], strict=False)
    for notebook, section, (before, after) in zip(notebooks, sections, neighbours, strict=True):
        resources = {"profile": profile, "section": section, "previous": before, "next": after}
        _write(folder / f"{section['name']}.html", exporter.from_notebook_node(notebook, resources)[0])
    index = exporter.environment.get_template("index.html.j2")
    _write(folder / "index.html", index.render(resources={"profile": profile, "sections": sections}))
    return folder / "index.html"


def _write(path: Path, page: str) -> None:
    write_whole(path, lambda draft: draft.write_text(page, encoding="utf-8"))
