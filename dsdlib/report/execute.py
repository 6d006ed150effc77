"""Running notebooks with papermill: two at a time, output in order, stopped cleanly."""

import logging
import os
import shutil
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
from filelock import FileLock, Timeout
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

# `dsdlib.report.parameters` checks parameters; papermill's own check misses some and would warn of valid ones.
logging.getLogger("papermill").setLevel(logging.ERROR)


class OrderedOutput:
    """The output of one of several notebooks that run at the same time.

    It is held back until `release` is called, when the notebooks before it have finished, and then printed as it comes.
    """

    def __init__(self):
        self.held, self.released, self.lock, self.stopped = [], False, threading.Lock(), False

    def write(self, text: str) -> None:
        with self.lock:
            if self.released:
                sys.stdout.write(text)
                sys.stdout.flush()
            else:
                self.held.append(text)

    def flush(self) -> None:
        """Required of a stream; `write` flushes by itself."""

    def release(self) -> None:
        with self.lock:
            self.released = True
            print(*self.held, sep="", end="", flush=True)


def execute(notebook: Path, parameters: dict[str, Any], folder: Path, out: OrderedOutput) -> str | None:
    """Run a notebook and write it to ``folder``, in place of an earlier one if it succeeds. Returns what went wrong, or
    None."""
    if out.stopped:
        return "stopped"
    failed = folder / f"{notebook.stem}.failed.ipynb"
    live = {"progress_bar": False, "stdout_file": out, "stderr_file": out}
    # Without this, every run begins with a warning about unencrypted messages, which never leave this machine.
    kernel = {"kernel_name": "python3", "language": "python", "extra_arguments": ["--log-level=ERROR"]}
    with tempfile.TemporaryDirectory(prefix=".running-", dir=folder) as scratch, FileLock(Path(scratch) / ".lock"):
        draft = Path(scratch) / notebook.name
        try:
            papermill.execute_notebook(notebook, draft, parameters, **live, **kernel)
        except (PapermillExecutionError, DeadKernelError) as error:
            if out.stopped:  # another notebook failed, or the user pressed Ctrl-C
                return "stopped"
            draft.replace(failed)
            name = getattr(error, "ename", type(error).__name__)
            message = str(getattr(error, "evalue", error)).strip().split("\n")[0]
            return f"{name}: {message}\nThe notebook as far as it came: {failed}"
        draft.replace(folder / notebook.name)
    failed.unlink(missing_ok=True)
    return None


def remove_abandoned(folder: Path) -> None:
    """Remove the scratch folders of killed reports, whose locks no process holds."""
    for scratch in folder.glob(".running-*"):
        with suppress(Timeout), FileLock(scratch / ".lock", timeout=0):
            shutil.rmtree(scratch, ignore_errors=True)


def alone(notebook: Path) -> bool:
    """Whether a notebook measures time, so that no other may run beside it."""
    return bool(nbformat.read(notebook, as_version=4).metadata.get("dsdlib", {}).get("alone"))


def execute_all(plan: dict[str, dict[str, Any]], folder: Path, root: Path, at_once: int) -> bool:
    """Run the notebooks of a plan (name → parameters), ``at_once`` at the same time, each on its share of the cores.

    While one notebook starts or draws, another trains. Returns whether all of them succeeded.
    """
    remove_abandoned(folder)
    paths = {name: root / "notebooks" / f"{name}.ipynb" for name in plan}
    beside = [name for name in plan if not alone(paths[name])]
    with chdir(root):
        return _run_group(beside, at_once, plan, paths, folder) and _run_group(
            [name for name in plan if name not in beside], 1, plan, paths, folder
        )


def _run_group(
    names: list[str], at_once: int, plan: dict[str, dict[str, Any]], paths: dict[str, Path], folder: Path
) -> bool:
    at_once = max(1, min(at_once, len(names)))
    others = set(psutil.Process().children(recursive=True))
    with ThreadPoolExecutor(at_once) as pool, share_of_the_cores(at_once):
        outputs = {name: OrderedOutput() for name in names}
        started = {n: pool.submit(execute, paths[n], plan[n], folder, outputs[n]) for n in names}
        try:
            for name, job in started.items():
                print(f"\n── {name} ({list(plan).index(name) + 1} of {len(plan)}) ──", flush=True)
                outputs[name].release()
                if failure := job.result():
                    print(f"\n{failure}", file=sys.stderr)
                    return False
        finally:  # after a failure or an interruption nothing keeps running; finished rounds are in the store
            for output in outputs.values():
                output.stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
            while not all(job.done() for job in started.values()):
                for process in set(psutil.Process().children(recursive=True)) - others:
                    with suppress(psutil.NoSuchProcess):
                        process.kill()
                time.sleep(0.2)
    return True


@contextmanager
def share_of_the_cores(at_once: int) -> Iterator[None]:
    """Limit ``jobs: -1`` to a share of the cores while several notebooks run. joblib reads it from the environment."""
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
    """Raise KeyboardInterrupt after so many minutes, as Ctrl-C does."""
    if minutes is not None:
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
