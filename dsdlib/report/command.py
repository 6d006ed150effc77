"""Notebooks and a profile of parameters in, a folder of static HTML out: `python -m dsdlib.report quick`."""

import argparse
import io
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dsdlib.report.parameters import project_root, read_profile, read_yaml
from dsdlib.study.executors import check_executor
from dsdlib.study.interrupt import check_minutes, interruptible


def take_changes(parser: argparse.ArgumentParser) -> None:
    """Add the option -p, which collects pairs of texts in ``changes``."""
    told = "a value of your own for a parameter or a field of the recipe, as YAML: -p noise_rates '[0.0, 0.4]'"
    pair = {"nargs": 2, "metavar": ("NAME", "VALUE")}
    parser.add_argument("-p", action="append", default=[], dest="changes", help=told, **pair)


def changed(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values that -p gave, by their names. Raises ValueError and `yaml.YAMLError` for what is not YAML."""
    return {name: read_yaml(value) for name, value in arguments.changes}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.report", description=__doc__)
    parser.add_argument("profile", nargs="+", help="a folder of parameters/, such as smoke or quick")
    parser.add_argument("--only", nargs="+", default=(), metavar="NOTEBOOK", help="run these notebooks only")
    take_changes(parser)
    at_once = {"default": 1 if shutil.which("nvidia-smi") else 2, "metavar": "N"}
    parser.add_argument("--at-once", type=int, help="notebooks that run at once (default: 2, on a GPU 1)", **at_once)
    parser.add_argument(
        "--minutes", type=float, help="stop after so many minutes; the same command resumes from the finished rounds"
    )
    parser.add_argument("--fresh", action="store_true", help="ignore the published runs and train")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="where pages go (default: reports)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """Make a report. Returns the exit code: 0 for success, 1 if a notebook failed, 2 if the arguments or parameters
    were refused before any notebook ran, 3 if the time was over or it was stopped by Ctrl-C or SIGTERM.

    In the last case the pages of finished notebooks are there, and the finished rounds of all runs as a table.
    """
    arguments, start = parse(argv), time.monotonic()
    _replace_unknown_signs()
    try:
        root = root or project_root()
        if arguments.at_once < 1:
            raise ValueError(f"--at-once {arguments.at_once}: at least 1")
        check_minutes(arguments.minutes)
        if arguments.output is not None and arguments.output.exists() and not arguments.output.is_dir():
            raise ValueError(f"--output {arguments.output}: is a file; allowed: a folder")
        check_executor()
        changes = changed(arguments)
        plans = {profile: read_profile(root, profile, arguments.only, changes) for profile in arguments.profile}
    except (ValueError, SyntaxError, yaml.YAMLError) as refusal:
        print(f"report: {refusal}", file=sys.stderr)
        return 2
    from dsdlib.report.make import make  # here, so that a refusal comes at once
    from dsdlib.report.pages import duration

    if arguments.fresh:
        os.environ["DSDLIB_FRESH"] = "1"
    reports = (arguments.output or root / "reports").resolve()
    try:
        with interruptible(arguments.minutes):
            if not all(make(plan, reports / profile, root, arguments.at_once) for profile, plan in plans.items()):
                return 1
    except KeyboardInterrupt:
        over = arguments.minutes is not None and time.monotonic() - start >= 60 * arguments.minutes
        why = f"{arguments.minutes:g} minutes are over" if over else "stopped"
        print(f"\nreport: {why}; the same command resumes. Finished rounds: {_finished_rounds(reports)}")
        return 3
    print(f"\n{reports / 'index.html'} in {duration(time.monotonic() - start)}")
    return 0


def _replace_unknown_signs() -> None:
    """Print a question mark for what the locale's encoding lacks, such as the lines of a notebook's table in ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _finished_rounds(reports: Path) -> Path:
    """Write the finished rounds of all runs in the store as a table."""
    from dsdlib.study.files import write_whole
    from dsdlib.study.store import Store

    store, file = Store(), reports / "finished_rounds.csv"
    reports.mkdir(parents=True, exist_ok=True)
    table = store.table(store.configs())
    write_whole(file, lambda draft: table.to_csv(draft, index=False))
    return file
