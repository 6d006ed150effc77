"""Training in the background: a sweep in a process of its own, which can be stopped, and how long one may take.

The process is ``python -m dsdlib.explorer.training``, which reads what to sweep from its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dsdlib.config import RunConfig
from dsdlib.explorer.runs import Runs
from dsdlib.study.store import Store
from dsdlib.study.sweep import sweep


class Training:
    """A sweep of ``runs`` into a store, in a process of its own. It begins when the object is made."""

    def __init__(self, runs: list[RunConfig], store: Store, keep: Iterable[int | str] = ()):
        self.runs, self.store, self.stopped = runs, store, False
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (the process writes to it until it ends)
        task = {"runs": [run.model_dump(mode="json", exclude_defaults=True) for run in runs]}
        task |= {"results": str(store.root), "keep": list(keep)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self.errors,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
            start_new_session=True,  # so that it can be ended together with its workers
        )
        with suppress(BrokenPipeError):
            self.process.stdin.write(json.dumps(task).encode())
            self.process.stdin.close()

    @property
    def rounds(self) -> tuple[int, int]:
        """How many rounds are in the store, and how many there will be."""
        return sum(map(self.store.rounds_done, self.runs)), sum(run.rounds + 1 for run in self.runs)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def error(self) -> str:
        """What went wrong, in the last line that the process wrote; empty if nothing did, or if it was stopped."""
        if self.running or self.stopped or self.process.returncode == 0:
            return ""
        self.errors.seek(0)
        lines = [line for line in self.errors.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"The training process ended with code {self.process.returncode}."

    def stop(self) -> None:
        """End the process and its workers. Rounds that are finished stay in the store, and a new training resumes."""
        self.stopped = self.running
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def seconds(runs: list[RunConfig], finished: Runs) -> float | None:
    """About how long training takes one after the other, from a finished run of the same data and model.

    It is proportional to the number of epochs in all rounds. None if there is no such run.
    """
    alike = ("dataset", "model", "model_args")
    for key, known in finished.configs.items():
        if all(getattr(known, name) == getattr(runs[0], name) for name in alike):
            return finished.rows([key])["seconds"].sum() * sum(map(_epochs, runs)) / _epochs(known)
    return None


def _epochs(run: RunConfig) -> int:
    return sum(map(run.epochs_of, range(run.rounds + 1)))


def main() -> None:
    """Sweep what standard input describes."""
    task = json.load(sys.stdin)
    runs = [RunConfig(**fields) for fields in task["runs"]]
    sweep(runs, results=Path(task["results"]), keep=task["keep"], progress=False)


if __name__ == "__main__":
    main()
