"""What an executed notebook holds for the report: its title, figures, claims, origin and parameters."""

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import yaml

from dsdlib.config import RunConfig
from dsdlib.report.parameters import declared_parameters
from dsdlib.report.show import CLAIMS, FIGURE, NOTHING, PROVENANCE


def outputs(notebook: nbformat.NotebookNode, mimetype: str) -> Iterator[tuple[int, Any]]:
    """All outputs of a ``mimetype``, each with the number of its cell, from 1."""
    for number, cell in enumerate(notebook.cells, 1):
        for output in cell.get("outputs", []):
            if mimetype in output.get("data", {}):
                yield number, output.data[mimetype]


def heading(notebook: nbformat.NotebookNode) -> tuple[str | None, str]:
    """A notebook's title and question, as Markdown: its first ``# `` heading and the first paragraph after it."""
    text = "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"^# +(.+)$", text, re.MULTILINE)
    if not found:
        return None, ""
    paragraphs = (part.strip() for part in re.split(r"\n\s*\n", text[found.end() :]))
    return found[1].strip(), next((part for part in paragraphs if part and part[0] != "#"), "")


def is_current(notebook: nbformat.NotebookNode) -> bool:
    """Whether a notebook's figures and claims are in the format that these pages read."""
    figures_are = all("source" in figure for _, figure in outputs(notebook, FIGURE))
    return figures_are and all("id" in claim for _, claims in outputs(notebook, CLAIMS) for claim in claims)


def split_at_headings(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with its text cells split, so that each heading of the second level begins a cell."""
    cells = []
    for cell in notebook.cells:
        texts = (
            re.split(r"^(?=## )", cell.source, flags=re.MULTILINE) if cell.cell_type == "markdown" else [cell.source]
        )
        kept = [text for text in texts if text] or [""]
        cells += [nbformat.from_dict(cell | {"source": t, "id": f"{cell.id}-{n}"}) for n, t in enumerate(kept)]
    return nbformat.from_dict(notebook | {"cells": cells})


def parts(notebook: nbformat.NotebookNode) -> list[str]:
    """For each cell, the last heading of the second level up to it, or "" before the first."""
    found, now = [], ""
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            now = cell.source.partition("\n")[0].removeprefix("## ").strip()
        found.append(now)
    return found


def title(path: Path) -> str:
    """The title of the notebook at ``path``, as Markdown, or its name."""
    return heading(nbformat.read(path, as_version=4))[0] or path.stem


def describe(name: str, notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """What the pages say of one executed notebook."""
    own_title, question = heading(notebook)
    run = notebook.metadata.get("papermill", {})
    facts = {fact: value for _, found in outputs(notebook, PROVENANCE) for fact, value in found.items()}
    drawn = [figure | {"origin": _origin(facts)} for figure in figures(name, notebook)]
    return {
        "name": name,
        "chapter": notebook.metadata.get("dsdlib", {}).get("chapter", "More"),
        "title": own_title or name,
        "question": question,
        "figures": drawn,
        "key": next((figure for figure in drawn if figure.get("key")), None),
        "claims": [dict(claim) for _, claims in outputs(notebook, CLAIMS) for claim in claims],
        "provenance": facts,
        "recipe": _recipe(notebook),
        "parameters": _as_yaml(run.get("parameters") or {}),
        "ended": (run.get("end_time") or "")[:16].replace("T", " "),
        "seconds": run.get("duration"),
    }


def _origin(facts: dict[str, str]) -> str:
    """Whether the runs of a section were trained here or published, when and on what, in one line."""
    machine = ", ".join(facts[name] for name in ("Device", "Processor") if facts.get(name))
    if facts.get("Source"):
        return f"Runs of this section: {facts['Source']}, on {machine}"
    return f"Computed for this page, on {machine}" if machine else ""


def figures(name: str, notebook: nbformat.NotebookNode) -> list[dict[str, Any]]:
    """The figures of a notebook, numbered: the second figure of section 01 is Figure 1.2.

    Each has, besides what `show_figure` noted, its ``number``, the ``id`` of its place on the section's ``page``, the
    number of its ``cell`` and the heading of its ``part``, and the paths of its ``image`` and of its data as ``csv``,
    None if it has none.
    """
    digits, headings = re.match(r"\d+", name), parts(notebook)
    section, found = str(int(digits[0])) if digits else name, []
    for n, (cell, figure) in enumerate(outputs(notebook, FIGURE), 1):
        kind = re.match(r"data:image/(\w+)", figure["source"])[1]
        own = {"number": f"{section}.{n}", "id": f"figure-{section}-{n}", "page": f"{name}.html", "cell": cell}
        own["part"] = headings[cell - 1]
        files = {"image": f"data/{name}-{n}.{kind}", "csv": f"data/{name}-{n}.csv" if "data" in figure else None}
        found.append(dict(figure) | own | files)
    return found


def shown_cells(notebook: nbformat.NotebookNode) -> set[int]:
    """The numbers, from 1, of a notebook's cells, less the parts in which this profile has nothing to show.

    A part is a heading of the second level and what follows it up to the next.
    """
    found = defaultdict(list)
    for cell, part in zip(notebook.cells, headings := parts(notebook), strict=True):
        found[part] += [output for output in cell.get("outputs", []) if "data" in output]
    empty = {part for part, shown in found.items() if shown and all(NOTHING in output.data for output in shown)}
    return {number for number, part in enumerate(headings, 1) if part not in empty}


def _recipe(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The fields of `RunConfig` by which a notebook's runs are trained, as text; {} if it trains none."""
    cells = (cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    source = next(cells, "")
    given = {node.target.id: ast.literal_eval(node.value) for node in ast.parse(source).body} if source else {}
    given |= json.loads(json.dumps(notebook.metadata.get("papermill", {}).get("parameters") or {}))
    if "recipe" not in declared_parameters(source):
        return {}
    config = RunConfig(**given["recipe"] | given.get("own_recipe", {}))
    return {field: str(value) for field, value in config.model_dump().items() if field not in ("seed", "start")}


def _as_yaml(parameters: nbformat.NotebookNode) -> str:
    plain = json.loads(json.dumps(parameters))  # YAML cannot represent a NotebookNode
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
