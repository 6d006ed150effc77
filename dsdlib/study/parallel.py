"""Stacks of runs are handed to an executor; one whose process dies is tried again, in halves, and given up by name.

Any `concurrent.futures.Executor` will do. The one here has worker processes on this machine.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import joblib
from joblib.externals import loky

from dsdlib.config import ConfigError, RunConfig

Work = Callable[[list[RunConfig]], Any]

# Processes of this machine that have nothing to do, each a pool of its own: to start one takes seconds.
_idle: list[loky.ProcessPoolExecutor] = []
_one_at_a_time = threading.Lock()


class WorkerDied(RuntimeError):
    """The process that trained some runs died each time that it was tried."""


def worker_count(jobs: int) -> int:
    """The number of worker processes that ``jobs`` stands for: a number, or −1 for one a core, the most there can be.

    Raises `ConfigError` for any other value.
    """
    if type(jobs) is not int or (jobs < 1 and jobs != -1):
        raise ConfigError(f"jobs = {jobs!r}: a whole number from 1, or -1 for one a core")
    cores = joblib.cpu_count()
    return cores if jobs == -1 else min(jobs, cores)


def size(executor: Executor) -> int:
    """How many tasks an executor works on at a time; the number of this machine's cores if it does not say."""
    if (client := getattr(executor, "_client", None)) is not None:  # Dask's
        return max(1, len(client.nthreads()))
    return getattr(executor, "_max_workers", None) or joblib.cpu_count()


def local(workers: int) -> AbstractContextManager[Executor | None]:
    """An executor of that many worker processes on this machine; None, for this process, if that is one or less."""
    return _Processes(workers) if workers > 1 else nullcontext()


class _Processes(ThreadPoolExecutor):
    """A thread for each worker process, which is a pool of its own, so that its death fails no other task."""

    def __init__(self, workers: int):
        super().__init__(workers)
        self.busy: dict[loky.ProcessPoolExecutor, Future] = {}
        self.lock, self.stopped = threading.Lock(), False

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future:
        return super().submit(self._in_a_process, call, *arguments)

    def _in_a_process(self, call: Callable[..., Any], *arguments: Any) -> Any:
        with self.lock:
            if self.stopped:
                raise CancelledError
            pool = _pool_at_rest() or _pool_of_one()
            task = self.busy[pool] = pool.submit(call, *arguments)
        try:
            return task.result()
        except BrokenExecutor:
            self.busy.pop(pool, None)
            raise
        finally:
            if self.busy.pop(pool, None):  # neither broken nor killed
                _idle.append(pool)

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            self.stop()
        self.shutdown()

    def stop(self) -> None:
        """Cancel what is queued, ask the processes that are at work to stop, and kill those that have not in 10 s."""
        self.shutdown(wait=False, cancel_futures=True)
        with self.lock:
            self.stopped, busy = True, dict(self.busy)
            self.busy.clear()
        try:
            for process in [number for pool in busy for number in pool._processes]:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            wait(busy.values(), timeout=10)
        finally:
            for pool, task in busy.items():
                while not (task.running() or task.done()):  # loky must not be stopped in the midst of a submission
                    time.sleep(0.01)
                pool.shutdown(wait=False, kill_workers=True)


def _pool_at_rest() -> loky.ProcessPoolExecutor | None:
    """A pool whose process waits for work, if there is one.

    A process that has waited for 300 s ends. loky would start another in its pool, and could miss that one's death.
    """
    while _idle:
        pool = _idle.pop()
        if pool._processes:
            return pool
        pool.shutdown(wait=False)
    return None


def _pool_of_one() -> loky.ProcessPoolExecutor:
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS")}
    return loky.ProcessPoolExecutor(1, timeout=300, initializer=_begin, env=one_thread)


def _begin() -> None:
    """A worker process has a group of its own: Ctrl-C reaches the main process alone, which then stops its workers."""
    os.setpgrp()
    end_with_parent()


def end_with_parent() -> None:
    """In a worker process, start a thread that ends it within 4 s of the death of the process that started it, at the
    end of an epoch if that comes earlier.

    Otherwise the worker would go on with its stack, and keep the locks of its runs, or wait for work for minutes.
    """
    if (parent := multiprocessing.parent_process()) is not None:
        _watch(os.getpid(), parent.pid)


@cache  # one thread a process; a forked child has another number
def _watch(_: int, parent: int) -> None:
    starter = os.getppid()  # the parent, or the server that forks processes for it and dies with it

    def watch() -> None:
        while os.getppid() == starter and _exists(parent):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(3)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _alone(work: Work, stack: list[RunConfig]) -> Any:
    """Call ``work(stack)``, one stack at a time in a process: PyTorch's number of threads and its precision belong to
    the process, so that stacks in several threads would change each other's numbers."""
    end_with_parent()
    with _one_at_a_time:
        return work(stack)


def dispatch(
    work: Work,
    stacks: list[list[RunConfig]],
    executor: Executor | None,
    rounds_done: Callable[[list[RunConfig]], int] = len,
) -> Iterator[tuple[list[RunConfig], Any]]:
    """Yield each stack with what ``work(stack)`` returned, as they complete. Without an executor this process does it.

    A stack whose process dies is tried again; if it dies again before another round is finished, by the count of
    ``rounds_done``, the stack is halved, and halved again. A single run whose process dies is yielded with a
    `WorkerDied`, while all others go on. Any other error of a stack is raised. Then, and at Ctrl-C, what is queued is
    cancelled. The local processes and Slurm's jobs are stopped, too; Dask's tasks that have begun go on to their end.
    """
    if executor is None:
        yield from ((stack, _alone(work, stack)) for stack in stacks)
        return
    with ExitStack() as opened:
        queue = _Queue(work, executor, rounds_done, opened)
        try:
            for stack in stacks:
                queue.add(stack, again=True)
            while queue.tasks:
                for task in wait(queue.tasks, return_when=FIRST_COMPLETED).done:
                    yield from queue.settle(task)
        except BaseException:
            queue.abandon()
            raise


@dataclass
class _Queue:
    """Stacks that were handed to an executor. What is entered in ``opened`` is left when all are settled."""

    work: Work
    executor: Executor
    rounds_done: Callable[[list[RunConfig]], int]
    opened: ExitStack
    tasks: dict[Future, tuple[list[RunConfig], bool, int]] = field(default_factory=dict)

    def add(self, stack: list[RunConfig], again: bool) -> None:
        """Hand a stack over. ``again`` says whether it is to be tried again if its process dies."""
        done = self.rounds_done(stack)
        try:
            task = self.executor.submit(_alone, self.work, stack)
        except BrokenExecutor as error:
            warnings.warn(f"the executor takes no more work ({error}): this machine goes on", stacklevel=2)
            self.executor = self.opened.enter_context(local(max(2, size(self.executor))))
            task = self.executor.submit(_alone, self.work, stack)
        self.tasks[task] = stack, again, done

    def settle(self, task: Future) -> Iterator[tuple[list[RunConfig], Any]]:
        stack, again, before = self.tasks.pop(task)
        try:
            yield stack, task.result()
        except CancelledError:
            told = "the executor has cancelled its tasks, perhaps as its scheduler is gone"
            raise RuntimeError(f"{told}; the same call resumes after the finished rounds") from None
        except Exception as error:
            if not _is_death(error):
                raise
            yield from self._after_death(stack, again, self.rounds_done(stack) > before, error)

    def abandon(self) -> None:
        for task in self.tasks:
            task.cancel()
        if hasattr(self.executor, "stop"):
            self.executor.stop()

    def _after_death(
        self, stack: list[RunConfig], again: bool, gained: bool, why: Exception
    ) -> Iterator[tuple[list[RunConfig], Any]]:
        runs = f"run{'s' * (len(stack) > 1)} {', '.join(run.key for run in stack)}"
        if again or gained:
            warnings.warn(f"the process that trained {runs} died: tried again", stacklevel=2)
            self.add(stack, again=gained)
        elif len(stack) > 1:
            warnings.warn(f"the process that trained {runs} died again: the stack is halved", stacklevel=2)
            for half in (stack[::2], stack[1::2]):
                self.add(half, again=False)
        else:
            yield (
                stack,
                WorkerDied(
                    f"{runs}: the process died each time, perhaps for lack of memory ({str(why).splitlines()[0]})"
                ),
            )


def _is_death(error: Exception) -> bool:
    """Whether a worker process has died, in the words of `concurrent.futures` or of Dask."""
    return isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker"
