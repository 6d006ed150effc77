"""Running notebooks with papermill: two at a time, under one bar, stopped cleanly."""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import chdir, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import nbformat
import papermill
import psutil
from filelock import FileLock, Timeout
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from dsdlib.report.progress import ReportProgress, last_durations

# `dsdlib.report.parameters` checks parameters; papermill's own check misses some and would warn of valid ones.
logging.getLogger("papermill").setLevel(logging.ERROR)


class OwnKernel(AsyncKernelManager):
    """A kernel of this environment, whatever other kernels are installed for the user under the name ``python3``."""

    @default("kernel_spec_manager")
    def _this_environment(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


class Output:
    """A stream for what a notebook prints, which goes to the report's bar line by line."""

    def __init__(self, section: str, progress: ReportProgress, stopped: threading.Event):
        self.section, self.progress, self.stopped = section, progress, stopped

    def write(self, text: str) -> None:
        self.progress.note(self.section, text)

    def flush(self) -> None:
        """Required of a stream; a note is shown at once."""


def execute(notebook: Path, parameters: dict[str, Any], folder: Path, out: Output) -> str | None:
    """Run a notebook and write it to ``folder``, in place of an earlier one if it succeeds. Returns what went wrong, or
    None."""
    if out.stopped.is_set():
        return "stopped"
    out.progress.start(out.section)
    failed = folder / f"{notebook.stem}.failed.ipynb"
    live = {"progress_bar": False, "stdout_file": out, "stderr_file": out}
    # Without this, every run begins with a warning about unencrypted messages, which never leave this machine, and may
    # end with an error about the interrupt by which papermill ends the kernel. A cell's own errors are in the notebook.
    quiet = {"extra_arguments": ["--log-level=CRITICAL"]}
    kernel = {"kernel_name": "python3", "language": "python", "kernel_manager_class": OwnKernel}
    with tempfile.TemporaryDirectory(prefix=".running-", dir=folder) as scratch, FileLock(Path(scratch) / ".lock"):
        draft = Path(scratch) / notebook.name
        try:
            papermill.execute_notebook(notebook, draft, parameters, **live, **quiet, **kernel)
        except (PapermillExecutionError, DeadKernelError) as error:
            if out.stopped.is_set():  # another notebook failed, or the user pressed Ctrl-C
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


def execute_all(
    plan: dict[str, dict[str, Any]], folder: Path, root: Path, at_once: int, finished: Callable[[str], object]
) -> bool:
    """Run the notebooks of a plan (name → parameters), ``at_once`` at the same time, each on its share of the cores.

    While one notebook starts or draws, another trains. ``finished`` is called with the name of each as soon as it has
    succeeded. Returns whether all of them succeeded.
    """
    remove_abandoned(folder)
    paths = {name: root / "notebooks" / f"{name}.ipynb" for name in plan}
    beside = [name for name in plan if not alone(paths[name])]
    progress = ReportProgress(list(plan), last_durations(folder), sys.stdout)

    def run(names: list[str], at_once: int) -> bool:
        stopped = threading.Event()
        outs = {name: Output(name, progress, stopped) for name in names}
        work = {name: partial(execute, paths[name], plan[name], folder, outs[name]) for name in names}
        with share_of_the_cores(at_once), _started(work, at_once, stopped) as jobs:
            left = set(jobs)
            while left:
                done, left = wait(left, timeout=1, return_when=FIRST_COMPLETED)
                progress.refresh()
                for job in done:
                    if failure := job.result():
                        print(f"\n{jobs[job]}: {failure}", file=sys.stderr)
                        return False
                    finished(jobs[job])
                    progress.finish(jobs[job])
        return True

    with chdir(root), closing(progress):
        return run(beside, max(1, min(at_once, len(beside)))) and run([name for name in plan if name not in beside], 1)


@contextmanager
def _started(
    work: Mapping[str, Callable[[], str | None]], at_once: int, stopped: threading.Event
) -> Iterator[dict[Future, str]]:
    """Run calls of `execute` in threads. Yields the jobs and the name of each.

    After a failure or an interruption ``stopped`` is set and none of them keeps running; finished rounds
    and epochs are in the store.
    """
    others = set(psutil.Process().children(recursive=True))
    with ThreadPoolExecutor(at_once) as pool:
        jobs = {pool.submit(call): name for name, call in work.items()}
        try:
            yield jobs
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            _stop(jobs, others)


def _stop(jobs: Mapping[Future, str], others: set[psutil.Process]) -> None:
    """Interrupt the kernels, which lets a training store its epoch; what has not ended in 20 s is killed."""
    for kernel in set(psutil.Process().children()) - others if not all(job.done() for job in jobs) else ():
        with suppress(psutil.NoSuchProcess):
            kernel.send_signal(signal.SIGINT)
    wait(jobs, timeout=20)
    while not all(job.done() for job in jobs):
        for process in set(psutil.Process().children(recursive=True)) - others:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.2)


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
