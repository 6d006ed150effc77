"""Executors by name: Dask's and Slurm's give the same tables, name what dies, and bad names are refused."""

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from pathlib import Path

import pytest

from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.study.executors import check_executor, resolve_executor
from dsdlib.study.parallel import WorkerDied, dispatch
from dsdlib.study.store import Store


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "dusk:tcp://here:1",
            "executor = 'dusk:tcp://here:1': unknown; allowed: .*local, dask:ADDRESS .*slurm:w",
        ),
        ("dask:", "executor = 'dask:': unknown; allowed"),
        ("local:4", "executor = 'local:4': unknown; allowed"),
        ("dask:local:many", "'many' is no number of workers from 1; allowed"),
        ("dask:local:0", "'0' is no number of workers from 1"),
        ("dask:http://here", "executor = 'dask:http://here': .*http"),
        ("slurm:fast", "'fast' is not of the form NAME=VALUE"),
        ("slurm:workers=0", "workers = 0 is no whole number from 1"),
        ("slurm:cluster=cloud", "'slurm:cluster=cloud': AutoExecutor doesn't know any executor named cloud"),
        ("slurm:cluster=local,minutes=3", "(?s)Parameter 'minutes' need to be prefixed .*timeout_min"),
        ("slurm:workers=2,timeout_min=9", "'slurm:workers=2,timeout_min=9': Could not detect .srun"),
    ],
)
def test_a_name_that_is_none_is_refused(
    name: str, message: str, tiny: RunConfig, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(results))  # no Slurm
    monkeypatch.setenv("DSDLIB_EXECUTOR", name)
    with pytest.raises(ConfigError, match=message):
        sweep([tiny], progress=False)
    assert {path.name for path in results.glob("*")} <= {".slurm"}


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, package in (("dask:local:2", "distributed"), ("slurm:workers=2,cluster=local", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        extra = kind.partition(":")[0]
        with pytest.raises(ConfigError, match=rf"{package}.*; install it with `pip install 'dsdlib\[{extra}\]'`"):
            resolve_executor(kind)


def test_without_a_name_this_machines_cores_are_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "local"):
        monkeypatch.setenv("DSDLIB_EXECUTOR", name)
        assert check_executor() == "local" and resolve_executor() is None
    monkeypatch.setenv("DSDLIB_EXECUTOR", "nonesuch")
    assert resolve_executor("local") is None  # what a call names comes first


def seeds(stack: list[RunConfig]) -> list[int]:
    """What a task returns; a stack with seed 5 kills its process, and one with seed 6 is refused."""
    if 5 in [run.seed for run in stack]:
        os.kill(os.getpid(), signal.SIGKILL)
    if 6 in [run.seed for run in stack]:
        raise ConfigError("six")
    return [run.seed for run in stack]


@pytest.fixture(scope="module", params=["dask:local:2", "slurm:workers=2,cluster=local,timeout_min=10"])
def executor(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    pytest.importorskip("distributed" if request.param.startswith("dask") else "submitit")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DSDLIB_RESULTS", str(tmp_path_factory.mktemp("logs")))
        executor = resolve_executor(request.param)
    yield executor
    executor.shutdown()


def test_tables_are_equal_to_those_of_this_process(
    executor: Executor, tiny: RunConfig, tmp_path: Path, alike: Callable
) -> None:
    runs = tiny.grid(seed=[0, 1, 2])
    alone = sweep(runs, results=tmp_path / "alone", progress=False)
    alike(sweep(runs, executor=executor, results=tmp_path / "elsewhere", progress=False), alone)


@pytest.mark.filterwarnings("ignore:the process that trained")
def test_a_task_that_kills_its_process_is_named_and_an_error_keeps_its_kind(
    executor: Executor, tiny: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "submitit" in sys.modules:  # it would wait for 15 seconds for the result of a job that has died
        monkeypatch.setattr("submitit.core.core.Job._results_timeout_s", 1)
    runs = tiny.grid(seed=[4, 5])
    outcomes = dict((stack[0].seed, outcome) for stack, outcome in dispatch(seeds, [[run] for run in runs], executor))
    assert outcomes[4] == [4] and isinstance(outcomes[5], WorkerDied) and runs[1].key in str(outcomes[5])
    with pytest.raises(ConfigError, match="six"):
        list(dispatch(seeds, [[tiny.vary(seed=6)]], executor))


CLUSTER = """
import sys

from distributed import Scheduler, Worker
from tornado.ioloop import IOLoop


async def serve(kind, argument):
    server = await (Scheduler(port=0, dashboard=False) if kind == "scheduler" else Worker(argument, nthreads=1))
    print(server.address, flush=True)
    await server.finished()


IOLoop.current().run_sync(lambda: serve(*sys.argv[1:]))
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[subprocess.Popen, str]]:
    """A scheduler in a process of its own and its address; it has a worker in another process."""
    pytest.importorskip("distributed")
    processes = []

    def start(*arguments: str) -> str:
        command = [sys.executable, "-c", CLUSTER, *arguments]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True))
        return processes[-1].stdout.readline().strip()

    start("worker", address := start("scheduler", ""))
    yield processes[0], address
    for process in processes:
        process.kill()
        process.communicate()


def test_a_scheduler_that_is_killed_is_told_and_the_sweep_goes_on_later(
    cluster: tuple[subprocess.Popen, str], tiny: RunConfig, results: Path, tmp_path: Path, alike: Callable
) -> None:
    scheduler, address = cluster
    runs = tiny.vary(epochs=20, rounds=7).grid(seed=[0, 1])

    def kill() -> None:
        while not list(results.glob("*/rounds.parquet")):
            time.sleep(0.02)
        scheduler.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(RuntimeError, match="its scheduler is gone; the same call resumes"):
        sweep(runs, executor=f"dask:{address}", progress=False)
    killer.join()
    with warnings.catch_warnings(action="error"):
        assert 0 < len(Store(results).table(runs)) < 16
        table = sweep(runs, progress=False)
    alike(table, sweep(runs, results=tmp_path / "undisturbed", progress=False))
