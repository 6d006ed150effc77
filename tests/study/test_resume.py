"""Stopped and killed sweeps are resumed; complete runs are retrained beside the old ones; processes share a store."""

import os
import platform
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import joblib
import psutil
import pytest
from torch.nn.utils import parameters_to_vector

from dsdlib import RunConfig, load_history, sweep
from dsdlib.study.files import write_whole
from dsdlib.study.store import Store

LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})


VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)


# Layers of 19,200 and 30,000 weights, of which 9% and then 0.8% are left: they are trained by sparse products.
THIN = LENET.vary(model_args={}, epochs=1, milestones=(), amount=0.91, batch_size=256)


SHORT = LENET.vary(epochs=1, milestones=())


ALL = range(9)  # rounds whose weights are to be kept


def swept(*configs, keep=ALL, **options):
    return sweep(configs, keep=keep, progress=False, **options)


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


# Stopped and resumed ------------------------------------------------------------------------------------------------


ONE_SHOT = SHORT.vary(schedule="one_shot")


ONE_SHOT_VGG = VGG.vary(schedule="one_shot", epochs=1, milestones=())


RESUMED = {
    "one shot": ONE_SHOT,
    "gradient": ONE_SHOT.vary(criterion="gradient", scope="layer"),
    "rewound": ONE_SHOT.vary(retraining="weight_rewinding", rewind_iteration=5),
    "thin": THIN.vary(schedule="one_shot"),
    "vgg": ONE_SHOT_VGG.vary(criterion="random"),
    "vgg rewound": ONE_SHOT_VGG.vary(retraining="weight_rewinding", rewind_iteration=3),
    "iterative Adam": LENET.vary(optimizer="adam", lr=0.001, retrain_epochs=3),
    "iterative thin": THIN.vary(scope="layer", criterion="random"),
    "iterative vgg": VGG.vary(epochs=1, milestones=(), criterion="gradient", scope="layer"),
}


@pytest.mark.parametrize("run", RESUMED.values(), ids=RESUMED)
def test_stopped_in_every_round_a_run_goes_on_to_the_same_bits_and_the_same_history(
    run, begun, tmp_path, alike, stop_after, same_weights
):
    keep, root = [*ALL, "history"], tmp_path / "stopped"
    whole = swept(run, keep=keep, results=tmp_path / "whole")
    for rounds in (1, 2):
        stop_after(rounds, root, run, keep=keep)
        assert Store(root).rounds_done(run) == rounds
    alike(swept(run, keep=keep, results=root), whole)
    assert len(begun) == 3 + 2 + 2 + 1  # no round that was saved is trained again
    same_weights(run, root, tmp_path / "whole")
    alike(load_history([run], root), load_history([run], tmp_path / "whole"))


def test_a_stopped_one_shot_run_goes_on_where_only_some_weights_were_kept(begun, tmp_path, alike, stop_after):
    run = LENET.vary(schedule="one_shot", rounds=4)
    whole = swept(run, keep=(), results=tmp_path / "whole")
    stop_after(4, tmp_path / "stopped", run, keep=())
    assert len(list((tmp_path / "stopped" / run.key).glob("round_*"))) < 4
    begun.clear()
    alike(swept(run, keep=(), results=tmp_path / "stopped"), whole)
    assert len(begun) == 1  # the last round alone


class Stop(BaseException):
    """In place of a killed process: nothing catches it."""


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("changes", [{"retraining": "weight_rewinding", "rewind_iteration": 5}, {}])
def test_stopped_at_any_write_a_sweep_goes_on_to_the_same_table(
    changes: dict[str, Any], moment: str, tiny: RunConfig, tmp_path: Path, monkeypatch: Any, alike: Any
) -> None:
    runs = tiny.vary(**changes).grid(seed=[0, 1])
    undisturbed = sweep(runs, results=tmp_path / "undisturbed", progress=False)
    write, countdown, written = write_whole, 0, []

    def write_or_stop(path: Path, how: Any) -> None:
        nonlocal countdown
        countdown -= 1
        if countdown == 0 and moment == "before":
            raise Stop
        write(path, how)
        written.append(path.name)
        if countdown == 0:
            raise Stop

    for room in ("files", "store"):
        monkeypatch.setattr(f"dsdlib.study.{room}.write_whole", write_or_stop)
    for number in range(1, 99):
        countdown, store = number, tmp_path / f"stopped-{number}"
        try:
            sweep(runs, results=store, progress=False)
        except Stop:
            unfinished = [run for run in runs if not Store(store).complete(run)]
            done = sum(Store(store).rounds_done(run) for run in runs)
            written.clear()
            with warnings.catch_warnings(action="error"):
                alike(sweep(runs, results=store, progress=False), undisturbed)
            assert written.count("rounds.parquet") == len(undisturbed) - done, "no round is trained twice"
            last = {"round_001.safetensors"} if moment == "after" else set()  # stopped before it was removed
            for key in (run.key for run in unfinished):
                assert {*os.listdir(store / key)} - last == {*os.listdir(tmp_path / "undisturbed" / key)} - last
        else:
            break
    assert number == 1 + 2 * (2 + 2 * 3 + ("rewind_iteration" in changes))


SCRIPT = """
import os
import sys
import time
from pathlib import Path

from dsdlib import RunConfig, sweep
from dsdlib.engine.stack import Stack
from dsdlib.study import sweep as room

advance = Stack.advance


def logged(stack, state, round_, *more):
    # Log the rounds that are trained. The first waits until another process is about to train as well.
    Path(f"ready-{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while len(list(Path().glob("ready-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    with open("log", "a") as log:
        log.writelines(f"{os.getpid()} {config.key} {round_}\\n" for config in stack.configs)
    return advance(stack, state, round_, *more)


if __name__ == "__main__":
    runs = [RunConfig.model_validate_json(line) for line in Path("runs.jsonl").read_text().splitlines()]
    if sys.argv[3:]:
        Stack.advance = logged
    room.STACK_SIZE = 2
    sweep(runs, jobs=int(sys.argv[1]), results=sys.argv[2])
"""


@pytest.fixture(scope="module")
def slow(tiny: RunConfig) -> RunConfig:
    """A run of some tenths of a second a round."""
    return tiny.vary(model_args={"depth": 2, "width": 100}, epochs=8, rounds=7)


def start(runs: list[RunConfig], jobs: int, store: Path, *options: str) -> subprocess.Popen:
    """A process of its own, leader of a group, that sweeps these runs."""
    folder = store.parent
    (folder / "script.py").write_text(SCRIPT)
    (folder / "runs.jsonl").write_text("\n".join(run.model_dump_json() for run in runs))
    command = [sys.executable, "script.py", str(jobs), store, *options]
    with (folder / "said").open("w") as said:
        return subprocess.Popen(command, start_new_session=True, stdout=said, cwd=folder)


@pytest.mark.parametrize(
    ("changes", "jobs", "kills"),
    [
        ({"retraining": "weight_rewinding", "rewind_iteration": 9}, 1, 2),
        ({"retraining": "lr_rewinding"}, 1, 2),
        ({"retraining": "finetune"}, 2, 1),
    ],
)
def test_killed_a_sweep_goes_on_to_the_same_table(
    changes: dict[str, Any], jobs: int, kills: int, slow: RunConfig, results: Path, tmp_path: Path, alike: Any
) -> None:
    runs = slow.vary(**changes).grid(seed=[0, 1, 2, 3])
    store, done, total = Store(results), 0, len(runs) * (slow.rounds + 1)
    for _ in range(kills):
        process, before = start(runs, jobs, results), done
        while done < before + 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
            done = sum(store.rounds_done(run) for run in runs)
        time.sleep(random.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with warnings.catch_warnings(action="error"):
            done = len(store.table(runs))
        assert before + 2 <= done < total
    with warnings.catch_warnings(action="error"):
        table = sweep(runs, progress=False)
    alike(table, sweep(runs, results=tmp_path / "undisturbed", progress=False))
    assert not list(results.glob("*damaged*"))


def ended(process: psutil.Process) -> bool:
    """Whether a process has ended, though nobody may have asked for its exit code yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    while not happened():
        assert process.poll() is None, "it ended before that happened"
        time.sleep(0.05)


@pytest.mark.skipif(joblib.cpu_count() < 2, reason="needs two worker processes")
@pytest.mark.parametrize("busy", ["training", "waiting for locks"])
def test_workers_end_within_seconds_of_their_sweep_and_give_their_locks_back(
    busy: str, slow: RunConfig, results: Path
) -> None:
    runs = slow.vary(epochs=100_000).grid(seed=[0, 1, 2, 3])  # a round takes many minutes
    store = Store(results)
    with store.locked(runs) if busy == "waiting for locks" else nullcontext():
        process = start(runs, 2, results)
        sweep_process = psutil.Process(process.pid)
        if busy == "training":
            wait_until(lambda: len(list(results.glob("*/provenance.json"))) == 4, process)
        else:
            wait_until(lambda: "waiting for 4 runs" in (results.parent / "said").read_text(), process)
        workers = sweep_process.children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)  # the sweep alone
        process.wait()
        assert len(workers) >= 2
        deadline = time.monotonic() + 5
        while not all(map(ended, workers)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    with store.locked(runs, wait=False) as mine:
        assert mine == runs


def test_a_sweep_that_waits_says_for_whom(slow: RunConfig, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = runs = slow.vary(rounds=1, epochs=400).grid(seed=[0, 1])
    process = start(runs, 1, results)
    wait_until(lambda: (results / second.key / "provenance.json").exists(), process)
    sweep(runs, progress=True)
    said = capsys.readouterr().out
    assert f"waiting for 2 runs that process {process.pid} on {platform.node()} is training" in said
    assert process.wait() == 0
    sweep([first], progress=True)
    assert capsys.readouterr().out == ""


def test_two_processes_share_the_work_of_the_same_sweep(
    tiny: RunConfig, results: Path, tmp_path: Path, alike: Any
) -> None:
    """They begin at once, and each round of each run is trained by one of them."""
    runs = tiny.grid(seed=range(6))
    processes = [start(runs, 1, results, "logged") for _ in range(2)]
    assert [process.wait(timeout=200) for process in processes] == [0, 0]
    trained = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    rounds = sorted((key, int(round_)) for _, key, round_ in trained)
    assert rounds == sorted((run.key, round_) for run in runs for round_ in range(3))
    assert len({process for process, *_ in trained}) == 2, "one of them found nothing to do: the test shows nothing"
    alike(sweep(runs, progress=False), sweep(runs, results=tmp_path / "undisturbed", progress=False))
