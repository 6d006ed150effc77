"""Notebooks and a profile of parameters in, a folder of static HTML out: `python -m dsdlib.report quick`."""

import argparse
import ast
import json
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
import psutil
import torch
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


def read_profile(
    root: Path, profile: str, only: Sequence[str] = (), changes: dict[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Notebook name → parameters, for the whole profile or the notebooks in `only`. `changes` are put in the place of
    the profile's values wherever a notebook takes them."""
    profiles = sorted(path.name for path in (root / "parameters").iterdir() if path.is_dir())
    if profile not in profiles:
        raise ValueError(f"unknown profile '{profile}'; the profiles are: {', '.join(profiles)}")
    files = {path.stem: path for path in sorted((root / "parameters" / profile).glob("*.yaml"))}
    if not files:
        raise ValueError(f"parameters/{profile} holds no <notebook>.yaml")
    for name in only:
        if name not in files:
            raise ValueError(f"--only: '{name}' is not in '{profile}', which has: {', '.join(files)}")
    plan = {name: read_parameters(root, file) for name, file in files.items() if not only or name in only}
    allowed = {name: parameter_names(root / "notebooks" / f"{name}.ipynb") for name in plan}
    for change in changes or {}:
        if not any(change in names for names in allowed.values()):
            raise ValueError(f"-p: no notebook here takes '{change}'")
    return {
        name: parameters | {key: value for key, value in (changes or {}).items() if key in allowed[name]}
        for name, parameters in plan.items()
    }


class Turn:
    """What a notebook prints: shown as it comes once it is the notebook's turn, kept until then."""

    def __init__(self):
        self.kept, self.now, self.lock, self.stopped = [], False, threading.Lock(), False

    def write(self, text: str) -> None:
        with self.lock:
            if self.now:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                self.kept.append(text)

    def flush(self) -> None:
        """Nothing is held back but what has to wait."""

    def begin(self) -> None:
        with self.lock:
            self.now = True
            print(*self.kept, sep="", end="", flush=True)


def execute(notebook: Path, parameters: dict[str, Any], folder: Path, out: Turn) -> str | None:
    """Run a notebook into `folder`; what went wrong, or None. An earlier one stays until this one is done."""
    if out.stopped:
        return "stopped"
    failed = folder / f"{notebook.stem}.failed.ipynb"
    live = {"progress_bar": False, "stdout_file": out, "stderr_file": out}
    # Else every run begins with a warning that messages, signed and local as they are, are not encrypted.
    kernel = {"kernel_name": "python3", "language": "python", "extra_arguments": ["--log-level=ERROR"]}
    with tempfile.TemporaryDirectory(prefix=".running-", dir=folder) as scratch:
        draft = Path(scratch) / notebook.name
        try:
            papermill.execute_notebook(notebook, draft, parameters, **live, **kernel)
        except (PapermillExecutionError, DeadKernelError) as error:
            if out.stopped:  # by its neighbour's failure or by the user
                return "stopped"
            draft.replace(failed)
            name = getattr(error, "ename", type(error).__name__)
            message = str(getattr(error, "evalue", error)).strip().split("\n")[0]
            return f"{name}: {message}\nThe notebook as far as it came: {failed}"
        draft.replace(folder / notebook.name)
    failed.unlink(missing_ok=True)
    return None


def alone(notebook: Path) -> bool:
    """Whether nothing else should run beside it, as it takes times."""
    return bool(nbformat.read(notebook, as_version=4).metadata.get("dsdlib", {}).get("alone"))


def execute_all(plan: dict[str, dict[str, Any]], folder: Path, root: Path, at_once: int) -> bool:
    """Run the notebooks, so many at once, each on its share of the cores: while one starts or draws, another trains.
    True when every one ran."""
    paths = {name: root / "notebooks" / f"{name}.ipynb" for name in plan}
    beside = [name for name in plan if not alone(paths[name])]
    with chdir(root):
        return _in_turn(beside, at_once, plan, paths, folder) and _in_turn(
            [name for name in plan if name not in beside], 1, plan, paths, folder
        )


def _in_turn(
    names: list[str], at_once: int, plan: dict[str, dict[str, Any]], paths: dict[str, Path], folder: Path
) -> bool:
    at_once = max(1, min(at_once, len(names)))
    others = set(psutil.Process().children(recursive=True))
    with ThreadPoolExecutor(at_once) as pool, share_of_the_cores(at_once):
        turns = {name: Turn() for name in names}
        started = {n: pool.submit(execute, paths[n], plan[n], folder, turns[n]) for n in names}
        try:
            for name, job in started.items():
                print(f"\n── {name} ({list(plan).index(name) + 1} of {len(plan)}) ──", flush=True)
                turns[name].begin()
                if failure := job.result():
                    print(f"\n{failure}", file=sys.stderr)
                    return False
        finally:  # after a failure or an interruption, nothing goes on; finished rounds are in the store
            for turn in turns.values():
                turn.stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in started.values()):
                for process in set(psutil.Process().children(recursive=True)) - others:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                time.sleep(0.2)
    return True


@contextmanager
def share_of_the_cores(at_once: int) -> Iterator[None]:
    """What `jobs: -1` means to notebooks that run beside others: joblib reads it from the environment."""
    name = "LOKY_MAX_CPU_COUNT"
    before = os.environ.get(name)
    os.environ[name] = str(max(1, joblib.cpu_count() // at_once))
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


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
    take_changes(parser)
    parser.add_argument("--at-once", type=int, metavar="N", help="notebooks that run at once (default: 2, on a GPU 1)")
    parser.add_argument("--minutes", type=float, help="stop then; the same command goes on from the finished rounds")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where pages go (default: reports)")
    return parser.parse_args(argv)


def take_changes(parser: argparse.ArgumentParser) -> None:
    """The option -p, into pairs of text ``changes``."""
    told = "a value of your own, in every notebook that takes it; YAML, such as -p noise_rates '[0.0, 0.4]'"
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", action="append", default=[], dest="changes", help=told, **pair)


@contextmanager
def alarm(minutes: float | None) -> Iterator[None]:
    """After so many minutes, as if the user had pressed Ctrl-C."""
    if minutes is not None:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """The exit code: 0 when the report is made, 1 when a notebook failed, 2 when refused before any ran, 3 when the
    time was over."""
    arguments, start = parse(argv), time.monotonic()
    try:
        root = root or project_root()
        if arguments.at_once is not None and arguments.at_once < 1:
            raise ValueError(f"--at-once {arguments.at_once}: at least 1")
        if arguments.minutes is not None and arguments.minutes <= 0:
            raise ValueError(f"--minutes {arguments.minutes:g}: more than 0")
        changes = {name: yaml.safe_load(value) for name, value in arguments.changes}
        plan = read_profile(root, arguments.profile, arguments.only, changes)
    except (ValueError, SyntaxError, yaml.YAMLError) as refusal:
        print(f"report: {refusal}", file=sys.stderr)
        return 2
    folder = (arguments.output or root / "reports").resolve() / arguments.profile
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with alarm(arguments.minutes):
            if not execute_all(plan, folder, root, arguments.at_once or (1 if torch.cuda.is_available() else 2)):
                return 1
    except KeyboardInterrupt:
        if arguments.minutes is None or time.monotonic() - start < 60 * arguments.minutes:
            raise
        print(f"\nreport: {arguments.minutes:g} minutes are over; the same command goes on from the finished rounds")
        return 3
    print(f"\n{render(folder, arguments.profile)} in {duration(time.monotonic() - start)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("\nreport: interrupted; the pages made before are as they were")
