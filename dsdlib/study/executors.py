"""Executors by name, as in the environment variable ``DSDLIB_EXECUTOR``: this machine, a Dask cluster, or Slurm.

Workers elsewhere need this package, the user's own modules and the data set where they are, and the store's folder
under the same path. Results do not depend on the executor, except for rounding on other processors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import yaml

from dsdlib.config import ConfigError

VARIABLE = "DSDLIB_EXECUTOR"
ALLOWED = (
    "allowed: an executor of concurrent.futures, local, dask:ADDRESS (such as dask:tcp://host:8786), "
    "dask:local:WORKERS, slurm:workers=N,NAME=VALUE,... (submitit's, such as timeout_min=60,slurm_partition=gpu)"
)


def resolve_executor(executor: Executor | str | None = None) -> Executor | None:
    """The executor that a text names, by default that of the environment; None for this machine's cores.

    Raises `ConfigError` for another value, a package that is not installed, and a cluster that does not answer.
    """
    named = check_executor(executor)
    if not isinstance(named, str):
        return named
    kind, _, options = named.partition(":")
    if kind == "local":
        return None
    try:
        return _dask(options) if kind == "dask" else _slurm(options)
    except ImportError as error:
        raise ConfigError(f"executor = {named!r}: {error}; install it with `pip install 'dsdlib[{kind}]'`") from None
    except (ValueError, TypeError, NameError, AssertionError, OSError, RuntimeError, yaml.YAMLError) as error:
        raise ConfigError(f"executor = {named!r}: {error}; {ALLOWED}") from error


def check_executor(executor: Executor | str | None = None) -> Executor | str:
    """The executor or its name, by default the name in the environment. Nothing is opened.

    Raises `ConfigError` if it is no executor and no such name.
    """
    named = (os.environ.get(VARIABLE) or "local") if executor is None else executor
    if not (isinstance(named, Executor) or named == "local" or re.fullmatch("(dask|slurm):.+", str(named))):
        raise ConfigError(f"executor = {named!r}: unknown; {ALLOWED}")
    return named


_clients: dict[str, Any] = {}


def _dask(where: str) -> Executor:
    """An executor of that cluster, to which this process stays connected."""
    from distributed import Client

    if (client := _clients.get(where)) is None or client.status != "running":
        workers = where.removeprefix("local:") if where.startswith("local:") else None
        client = Client(where if workers is None else _local_cluster(workers), timeout=20, set_as_default=False)
        client.wait_for_workers(int(workers or 1), timeout=300)
        _clients[where] = client
    return DaskTasks(client)


def _local_cluster(workers: str) -> Any:
    """Dask's cluster of that many processes here. `dsdlib.study.parallel` tries a task again that kills its process, so
    Dask need not, and no task waits at a worker where another could kill it."""
    import dask
    from distributed import LocalCluster

    if not workers.isdecimal() or int(workers) < 1:
        raise ValueError(f"{workers!r} is no number of workers from 1")
    part = "distributed.scheduler"
    with dask.config.set({f"{part}.allowed-failures": 0, f"{part}.worker-saturation": 1.0}):
        return LocalCluster(n_workers=int(workers), threads_per_worker=1, dashboard_address=None)


class DaskTasks(ThreadPoolExecutor):
    """A task of Dask's for each call.

    `Client.get_executor` is not used, as its futures stay pending for ever if a result is lost with a worker, and the
    worker dies that computes it once more.
    """

    def __init__(self, client: Any):
        super().__init__(256)  # threads that wait
        self._client, self.stopped = client, Event()

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future:
        return super().submit(self._as_a_task, call, *arguments)

    def _as_a_task(self, call: Callable[..., Any], *arguments: Any) -> Any:
        task, done = self._client.submit(call, *arguments, pure=False), Event()
        task.add_done_callback(lambda _: done.set())
        while not done.wait(1):
            if self.stopped.is_set():
                task.cancel()
                raise CancelledError
        return task.result()

    def stop(self) -> None:
        """Cancel the tasks. Those that have begun go on to their end."""
        self.stopped.set()


def _slurm(options: str) -> Executor:
    from dsdlib.study.store import default_folder  # here, as pandas is slow to import

    pairs = [option.partition("=") for option in options.split(",")]
    if odd := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"{odd[0]!r} is not of the form NAME=VALUE")
    parameters = {name: yaml.safe_load(value) for name, _, value in pairs}
    workers, cluster = parameters.pop("workers", 8), parameters.pop("cluster", "slurm")
    if type(workers) is not int or workers < 1:
        raise ValueError(f"workers = {workers!r} is no whole number from 1")
    return SlurmJobs(default_folder() / ".slurm", workers, cluster, parameters)


class SlurmJobs(ThreadPoolExecutor):
    """At most ``workers`` jobs at a time, a job a task, by submitit, which writes their logs to ``folder``.

    The ``cluster`` is submitit's: "slurm", or "local" for jobs on this machine. A job that ends without a result, as at
    its time limit, counts as a worker process that has died.
    """

    def __init__(self, folder: Path, workers: int, cluster: str, parameters: dict[str, Any]):
        from submitit import AutoExecutor

        super().__init__(workers)
        self.submitter, self.stopped = AutoExecutor(folder, cluster), Event()
        self.submitter.update_parameters(**{"name": "dsdlib"} | parameters)

    def submit(self, call: Callable[..., Any], /, *arguments: Any) -> Future:
        return super().submit(self._as_a_job, call, *arguments)

    def _as_a_job(self, call: Callable[..., Any], *arguments: Any) -> Any:
        from submitit.core.utils import UncompletedJobError

        job = self.submitter.submit(_outcome, call, *arguments)
        while not job.done():
            if self.stopped.wait(1):
                job.cancel(check=False)
                raise CancelledError
        try:
            result, error = job.result()
        except UncompletedJobError as death:
            raise BrokenExecutor(f"{str(death).splitlines()[0]}; its log is {job.paths.stderr}") from None
        if error is not None:
            raise error
        return result

    def stop(self) -> None:
        """Cancel the jobs."""
        self.stopped.set()


def _outcome(call: Callable[..., Any], *arguments: Any) -> tuple[Any, Exception | None]:
    """What a call returns, and what it raises: submitit would keep only the text of the error."""
    try:
        return call(*arguments), None
    except Exception as error:
        return None, error
