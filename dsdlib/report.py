"""Notebooks and a profile of parameters in, a folder of static HTML out: `python -m dsdlib.report quick`."""

import argparse
import ast
import json
import logging
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from bs4 import BeautifulSoup
from jinja2 import FileSystemLoader
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from papermill.exceptions import PapermillExecutionError

from dsdlib.claims import effect
from dsdlib.display import CLAIMS, FIGURE, PROVENANCE
from dsdlib.results import write_whole

VERDICTS = ("supported", "contradicted", "inconclusive", "not measured")

# Parameters are checked here; papermill, whose reader misses some, would warn of good ones.
logging.getLogger("papermill").setLevel(logging.ERROR)


def project_root() -> Path:
    """The folder that holds `notebooks/` and `parameters/`: this checkout's, else the current one."""
    for folder in (Path(__file__).parents[1], Path.cwd()):
        if (folder / "notebooks").is_dir() and (folder / "parameters").is_dir():
            return folder
    raise ValueError("no notebooks/ and parameters/ here: run this from the project's folder")


def parameter_names(notebook: Path) -> list[str]:
    """Names assigned in the cell tagged `parameters`, in order.

    Python's own parser, as papermill's reader loses every line whose comment holds an equals sign.
    """
    source = "\n".join(
        cell.source
        for cell in nbformat.read(notebook, as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    nodes = ast.walk(ast.parse(source, filename=notebook.name))
    return [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]


def read_parameters(root: Path, file: Path) -> dict[str, Any]:
    """One notebook's parameters from its YAML file; ValueError for anything that notebook does not take."""
    where, notebook = file.relative_to(root), root / "notebooks" / f"{file.stem}.ipynb"
    if not notebook.is_file():
        there = ", ".join(sorted(path.stem for path in notebook.parent.glob("*.ipynb")))
        raise ValueError(f"{where}: there is no notebook '{file.stem}'; the notebooks are: {there}")
    try:
        parameters = yaml.safe_load(file.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{where}: not YAML: {' '.join(str(error).split())}") from error
    parameters = {} if parameters is None else parameters
    if not isinstance(parameters, dict):
        raise ValueError(f"{where}: '{parameters}' is not a mapping; write lines of `parameter: value`")
    allowed = parameter_names(notebook)
    for name in parameters:
        if name not in allowed:
            raise ValueError(f"{where}: unknown parameter '{name}'; {file.stem} takes: {', '.join(allowed)}")
    return parameters


def read_profile(root: Path, profile: str, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Notebook name → parameters, for the whole profile or the notebooks in `only`."""
    profiles = sorted(path.name for path in (root / "parameters").iterdir() if path.is_dir())
    if profile not in profiles:
        raise ValueError(f"unknown profile '{profile}'; the profiles are: {', '.join(profiles)}")
    files = {path.stem: path for path in sorted((root / "parameters" / profile).glob("*.yaml"))}
    if not files:
        raise ValueError(f"parameters/{profile} holds no <notebook>.yaml")
    for name in only:
        if name not in files:
            raise ValueError(f"--only: '{name}' is not in '{profile}', which has: {', '.join(files)}")
    return {name: read_parameters(root, file) for name, file in files.items() if not only or name in only}


def execute(notebook: Path, parameters: dict[str, Any], folder: Path, root: Path) -> bool:
    """Run a notebook into `folder`; True when every cell ran. An earlier one stays until this one is done."""
    failed = folder / f"{notebook.stem}.failed.ipynb"
    live = {"progress_bar": False, "stdout_file": sys.stdout, "stderr_file": sys.stderr}
    # Else every run begins with a warning that messages, signed and local as they are, are not encrypted.
    kernel = {"kernel_name": "python3", "language": "python", "extra_arguments": ["--log-level=ERROR"]}
    with tempfile.TemporaryDirectory(prefix=".running-", dir=folder) as scratch:
        draft = Path(scratch) / notebook.name
        try:
            papermill.execute_notebook(notebook, draft, parameters, cwd=root, **live, **kernel)
        except (PapermillExecutionError, DeadKernelError) as error:
            draft.replace(failed)
            name = getattr(error, "ename", type(error).__name__)
            message = str(getattr(error, "evalue", error)).strip().split("\n")[0]
            print(f"\n{name}: {message}\nThe notebook as far as it came: {failed}", file=sys.stderr)
            return False
        draft.replace(folder / notebook.name)
    failed.unlink(missing_ok=True)
    return True


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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.report", description=__doc__)
    parser.add_argument("profile", help="a folder of parameters/, such as smoke or quick")
    parser.add_argument("--only", nargs="+", default=(), metavar="NOTEBOOK", help="run these notebooks only")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where pages go (default: reports)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """The exit code: 0 when the report is made, 1 when a notebook failed, 2 when refused before any ran."""
    arguments, start = parse(argv), time.monotonic()
    try:
        root = root or project_root()
        plan = read_profile(root, arguments.profile, arguments.only)
    except (ValueError, SyntaxError) as refusal:
        print(f"report: {refusal}", file=sys.stderr)
        return 2
    folder = (arguments.output or root / "reports").resolve() / arguments.profile
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, parameters) in enumerate(plan.items(), start=1):
        print(f"\n── {name} ({number} of {len(plan)}) ──", flush=True)
        if not execute(root / "notebooks" / f"{name}.ipynb", parameters, folder, root):
            return 1
    print(f"\n{render(folder, arguments.profile)} in {duration(time.monotonic() - start)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nreport: interrupted; the pages made before are as they were")
