"""Notebooks and a profile of parameters in, a folder of static HTML out: `python -m dsdlib.report quick`."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, contextmanager, suppress
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
import psutil
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

# `dsdlib.report.parameters` checks parameters; papermill's own check misses some and would warn of valid ones.
logging.getLogger("papermill").setLevel(logging.ERROR)


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
