"""Stacks and executors: the same numbers everywhere, processes that die, and what is given up by name."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cloudpickle
import joblib
import pytest
from joblib.externals import loky

from dsdlib import RunConfig, sweep
from dsdlib.study import parallel
from dsdlib.study.parallel import WorkerDied, dispatch, local, worker_count
from dsdlib.study.store import Store
from dsdlib.study.worker import Task, train_stack

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a process for made-up work need not import torch


def test_there_are_never_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert worker_count(1) == 1 and worker_count(-1) == worker_count(100_000) == joblib.cpu_count()
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert worker_count(-1) == worker_count(8) == 1


def test_a_pool_whose_process_has_ended_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = loky.ProcessPoolExecutor(1)  # as after its process has waited for too long: no process, and no work for it
    monkeypatch.setattr(ended, "submit", None)
    monkeypatch.setattr(parallel, "_idle", [ended])
    with local(2) as executor:
        assert executor.submit(len, [0]).result() == 1


# Made-up work -------------------------------------------------------------------------------------------------------


def seeds(stack: list[RunConfig]) -> list[int]:
    return [run.seed for run in stack]


def poisoned(stack: list[RunConfig], folder: Path, poison: int) -> list[int]:
    """What a stack with that seed does: it kills its process. Notes which stacks were begun."""
    with (folder / "begun").open("a") as log:
        log.write(f"{seeds(stack)}\n")
    if poison in seeds(stack):
        os.kill(os.getpid(), signal.SIGKILL)
    return seeds(stack)


def killed_once(stack: list[RunConfig], folder: Path) -> list[int]:
    try:
        (folder / f"killed {seeds(stack)}").touch(exist_ok=False)
    except FileExistsError:
        return seeds(stack)
    os.kill(os.getpid(), signal.SIGKILL)


def failing(stack: list[RunConfig], folder: Path) -> list[int]:
    if 0 in seeds(stack):
        raise ValueError("of the work itself")
    time.sleep(60)
    (folder / "late").touch()


@pytest.fixture
def runs(tiny: RunConfig) -> list[RunConfig]:
    return tiny.grid(seed=list(range(8)))


@pytest.mark.filterwarnings("ignore:the process that trained")
def test_a_stack_that_kills_its_process_is_halved_until_the_poison_is_named_and_all_others_are_done(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    started = time.monotonic()
    with local(2) as executor:
        work = partial(poisoned, folder=tmp_path, poison=5)
        outcomes = list(dispatch(work, [runs[:4], runs[4:]], executor, lambda stack: 0))
    (lost,) = (stack for stack, outcome in outcomes if isinstance(outcome, WorkerDied))
    assert lost == [runs[5]]
    assert sorted(seed for _, done in outcomes if isinstance(done, list) for seed in done) == [0, 1, 2, 3, 4, 6, 7]
    begun = (tmp_path / "begun").read_text().splitlines()
    assert sorted(begun) == sorted(["[0, 1, 2, 3]", *["[4, 5, 6, 7]"] * 2, "[4, 6]", "[5, 7]", "[5]", "[7]"])
    assert time.monotonic() - started < 30


def test_a_stack_whose_process_was_killed_once_is_tried_again_and_no_other_is_disturbed(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    stacks = [runs[:1], runs[1:2], runs[2:4]]
    with (
        local(2) as executor,
        pytest.warns(UserWarning, match="the process that trained run.* died: tried again") as said,
    ):
        outcomes = list(dispatch(partial(killed_once, folder=tmp_path), stacks, executor, lambda stack: 0))
    assert sorted(done for _, done in outcomes) == [[0], [1], [2, 3]] and len(said) == 3
    assert all(done == seeds(stack) for stack, done in outcomes)


class Dying(ThreadPoolExecutor):
    """Its first tasks fail as if their process had died; ``rounds`` counts the rounds that were finished till then."""

    def __init__(self, deaths: int, gains: list[int]):
        super().__init__(1)
        self.deaths, self.gains, self.rounds, self.tried = deaths, gains, 0, []

    def submit(self, call: Callable, /, *arguments: object) -> object:
        self.tried.append(seeds(arguments[-1]))
        if len(self.tried) <= self.deaths:
            return super().submit(self.die)
        return super().submit(call, *arguments)

    def die(self) -> None:
        self.rounds += self.gains[len(self.tried) - 1]
        raise BrokenExecutor("so it seems")


@pytest.mark.filterwarnings("ignore:the process that trained")
@pytest.mark.parametrize(
    ("gains", "given_up"),
    [
        ([0, 0], True),
        ([2, 0, 0], True),
        ([0, 1, 0, 0], True),
        ([1, 1, 1, 1, 1], False),
        ([0, 1, 0], False),
    ],
)
def test_a_run_that_gains_rounds_before_each_death_is_tried_on(
    gains: list[int], given_up: bool, runs: list[RunConfig]
) -> None:
    with Dying(len(gains), gains) as executor:
        ((stack, outcome),) = dispatch(seeds, [runs[:1]], executor, lambda stack: executor.rounds)
    assert stack == runs[:1] and isinstance(outcome, WorkerDied) == given_up
    assert len(executor.tried) == len(gains) + (not given_up)


def test_an_error_of_the_work_is_raised_at_once_and_the_other_processes_are_killed(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    started = time.monotonic()
    with pytest.raises(ValueError, match="of the work itself"), local(2) as executor:
        list(dispatch(partial(failing, folder=tmp_path), [[run] for run in runs], executor))
    assert time.monotonic() - started < 30 and not (tmp_path / "late").exists()


def test_an_interruption_cancels_what_is_queued_and_kills_what_is_at_work(
    runs: list[RunConfig], tmp_path: Path
) -> None:
    started = time.monotonic()
    interrupt = threading.Timer(3, os.kill, (os.getpid(), signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupt.start()
    with pytest.raises(KeyboardInterrupt), local(2) as executor:
        list(dispatch(partial(failing, folder=tmp_path), [[run] for run in runs[1:]], executor))
    signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 30
    time.sleep(0.5)
    with local(2) as executor:  # processes that were killed are not taken for idle ones
        assert len(list(dispatch(seeds, [[run] for run in runs], executor))) == 8


def test_processes_are_used_again(runs: list[RunConfig]) -> None:
    seen = set()
    for _ in range(3):
        with local(2) as executor:
            seen |= {pid for _, pid in dispatch(os_pid, [[run] for run in runs], executor)}
    assert len(seen) <= 2 and os.getpid() not in seen


def os_pid(stack: list[RunConfig]) -> int:
    return os.getpid()


# Sweeps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["this package's", "processes", "threads"])
def test_any_executor_gives_the_same_numbers(
    kind: str, tiny: RunConfig, tmp_path: Path, alike: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dsdlib.study.parallel._idle", [])
    runs = [*tiny.grid(seed=[0, 1]), tiny.vary(teacher=tiny.vary(seed=2)), tiny.vary(start=tiny)]
    alone = sweep(runs, results=tmp_path / "alone", progress=False)
    made = {"this package's": local, "processes": ProcessPoolExecutor, "threads": ThreadPoolExecutor}[kind]
    with made(2) as executor:
        alike(sweep(runs, executor=executor, results=tmp_path / "together", progress=False), alone)


def dying(stack: list[RunConfig], task: Task, wait: bool) -> list[RunConfig]:
    """Train a stack, unless it holds a run of seed 5: that kills its process."""
    if 5 in seeds(stack):
        os.kill(os.getpid(), signal.SIGKILL)
    return train_stack(stack, task, wait)


@pytest.mark.filterwarnings("ignore:the (process that trained|executor takes no more work)")
def test_a_run_that_kills_its_process_is_named_and_all_that_do_not_need_it_are_finished(
    tiny: RunConfig, tmp_path: Path, alike: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, poison, last = runs = tiny.grid(seed=[4, 5, 6])
    monkeypatch.setattr("dsdlib.study.parallel._idle", [])
    student, other = tiny.vary(teacher=poison), tiny.vary(teacher=first)
    monkeypatch.setattr("dsdlib.study.worker.train_stack", dying)
    message = f"run {poison.key}: the process died each time.*; not trained, as they need these: {student.key}. All"
    with ProcessPoolExecutor(2) as executor, pytest.raises(WorkerDied, match=message):
        sweep([*runs, student, other], executor=executor, results=tmp_path / "poisoned", progress=False)
    done = [first, last, other]
    alike(Store(tmp_path / "poisoned").table([*runs, student, other]), sweep(done, progress=False))
    monkeypatch.undo()
    alike(
        sweep([*runs, student], results=tmp_path / "poisoned", progress=False),
        sweep([*runs, student], results=tmp_path / "undisturbed", progress=False),
    )
