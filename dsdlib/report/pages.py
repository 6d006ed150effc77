"""Notebooks and a profile of parameters in, a folder of static HTML out: `python -m dsdlib.report quick`."""

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

from dsdlib.analysis.claims import effect
from dsdlib.report.show import CLAIMS, FIGURE, PROVENANCE
from dsdlib.study.files import write_whole

VERDICTS = ("supported", "contradicted", "inconclusive", "not measured")


def bundles(notebook: nbformat.NotebookNode, mimetype: str) -> Iterator[dict[str, Any]]:
    """The outputs of a notebook that hold `mimetype`."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if mimetype in output.get("data", {}):
                yield output.data


def heading(notebook: nbformat.NotebookNode) -> tuple[str | None, str]:
    """Title and question as Markdown: the first `# ` heading and the first paragraph after it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    if not found:
        return None, ""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", text[found.end() :]))
    return found[1].strip(), next((part for part in paragraphs if part and part[0] != "#"), "")


def describe(name: str, notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What the index page tells of one executed notebook."""
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
        "parameters": yaml.safe_dump(
            json.loads(json.dumps(run.get("parameters") or {})), sort_keys=False, allow_unicode=True
        ),
        "ended": (run.get("end_time") or "")[:16].replace("T", " "),
        "seconds": run.get("duration"),
    }


def as_yaml(node: nbformat.NotebookNode) -> str:
    """A part of a notebook's metadata, as one would write it."""
    return yaml.safe_dump(json.loads(json.dumps(node)), sort_keys=False, allow_unicode=True)


def tally(claims: Sequence[dict[str, Any]]) -> str:
    """For example `7 claims: 5 supported, 1 contradicted, 1 inconclusive`."""
    counts = Counter({verdict: 0 for verdict in VERDICTS})
    counts.update(claim["verdict"] for claim in claims)
    parts = [f"{count} {verdict}" for verdict, count in counts.items() if count]
    return f"{len(claims)} claim{'' if len(claims) == 1 else 's'}: {', '.join(parts)}"


def duration(seconds: float) -> str:
    """For example `85 s`, `12 min 5 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def html_exporter() -> HTMLExporter:
    """nbconvert with this package's templates; its Jinja environment renders the index as well."""
    exporter = HTMLExporter(
        template_name="base",
        template_file="section.html.j2",
        extra_loaders=[FileSystemLoader(Path(__file__).parent / "templates")],
        filters={"effect": effect, "duration": duration, "tally": tally},
        # A progress bar is kept as it ended, not in each of its states.
        preprocessors=["nbconvert.preprocessors.CoalesceStreamsPreprocessor"],
        exclude_anchor_links=True,
    )
    exporter.environment.autoescape = True
    return exporter


def render(folder: Path, profile: str) -> Path:
    """Executed notebooks in `folder` → a page for each and, last, `index.html`, whose path is returned."""
    paths = [path for path in sorted(folder.glob("*.ipynb")) if not path.name.endswith(".failed.ipynb")]
    notebooks = [nbformat.read(path, as_version=4) for path in paths]
    sections = [describe(path.stem, notebook) for path, notebook in zip(paths, notebooks, strict=True)]
    exporter = html_exporter()
    around = zip([None, *sections], sections, [*sections[1:], None], strict=False)
    for notebook, (before, section, after) in zip(notebooks, around, strict=True):
        resources = {"profile": profile, "section": section, "previous": before, "next": after}
        page = exporter.from_notebook_node(notebook, resources)[0]
        write_whole(
            folder / f"{section['name']}.html", lambda draft, page=page: draft.write_text(page, encoding="utf-8")
        )
    index = exporter.environment.get_template("index.html.j2")
    front = index.render(resources={"profile": profile, "sections": sections}).encode()
    write_whole(folder / "index.html", lambda draft: draft.write_bytes(front))
    return folder / "index.html"
