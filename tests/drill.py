"""A drill of faults: readers beside trainers, killed processes, shared stores, damaged files, odd folders, full disks.

Every part trains small runs on digits in folders of its own and counts what went wrong. The exit code is 1 if a count
that must be 0 is not. pytest does not collect this file: the whole drill takes half an hour. The last part,
``executors``, runs the smoke profile three times and only if it is named.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import pandas as pd
import psutil
import safetensors.torch
import torch

import dsdlib
from dsdlib import ConfigError, RunConfig, sweep
from dsdlib.engine.stack import Stack
from dsdlib.study import parallel, worker
from dsdlib.study.files import read_rows, write_rows
from dsdlib.study.interrupt import interruptible
from dsdlib.study.store import Store

CODE = Path(dsdlib.__file__).parents[1]
MARK = "DSDLIB_DRILL"  # in the environment of the processes that a part starts
RUN = RunConfig(model="mlp", model_args={"depth": 1, "width": 8}, epochs=2, milestones=[], rounds=3, noise_rate=0.2)
REWOUND = RUN.vary(retraining="weight_rewinding", rewind_iteration=3)
EVERYTHING = ["history", *range(99)]  # what is to be kept of a run
TRAIN = worker.train_stack


@dataclass
class Drill:
    """What a part is given, and what it has counted: each fault by its name, with the number that went wrong."""

    folder: Path
    kills: int
    deadline: float
    done: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def check(self, fault: str, happened: bool | int, detail: object = "") -> None:
        self.faults[fault] += int(happened)
        if happened:
            print(f"  FAULT: {fault}: {happened} {detail}", flush=True)


# Processes ----------------------------------------------------------------------------------------------------------


def logged_stack(configs: list[RunConfig], task: worker.Task, wait: bool) -> list[RunConfig]:
    """Train a stack, and log each round that begins, with the number of rounds that were stored by then."""
    advance, store = Stack.advance, Store(task.root)

    def logged(stack: Stack, state: Any, round_: int, *more: Any) -> Any:
        lines = [f"{config.key} {round_} {store.rounds_done(config)}\n" for config in stack.configs]
        with (task.root.parent / "log").open("a") as log:
            log.write("".join(lines))
        return advance(stack, state, round_, *more)

    with mock.patch.object(Stack, "advance", logged):
        return TRAIN(configs, task, wait)


def train(root: Path, runs: list[RunConfig], workers: int, gentle: bool) -> None:
    """Sweep runs in a process of its own, leader of a group."""
    import drill  # so that workers find its functions

    os.setsid()
    os.environ[MARK] = str(root)
    with (root.parent / "said").open("a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    worker.train_stack = drill.logged_stack
    with interruptible() if gentle else nullcontext(), parallel.local(workers) as executor:
        sweep(runs, executor=executor, results=root, keep=EVERYTHING, progress=False)
    for pool in parallel._idle:  # multiprocessing waits for them at the end of a process that it has started
        pool.shutdown(kill_workers=True)


def started(*arguments: Any, call: Callable[..., None] = train) -> Any:
    process = CONTEXT.Process(target=call, args=arguments)
    process.start()
    return process


def descendants(root: Path) -> list[psutil.Process]:
    """The living processes that sweeps of a store have started."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == str(root):
                found.append(process)
    return found


def command(process: psutil.Process) -> str:
    """How a process was started, in short."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())[:200]
    return ""


def differences(runs: list[RunConfig], root: Path, undisturbed: Path) -> list[str]:
    """What differs between two stores: tables, histories, weights and the names of files."""
    found, stores = [], (Store(root), Store(undisturbed))
    for run in runs:
        rows = [[{**row, "seconds": 0} for row in store.rows(run)] for store in stores]
        if not pd.DataFrame(rows[0]).equals(pd.DataFrame(rows[1])):
            found.append(f"the table of {run.key}")
        if not pd.DataFrame(stores[0].history(run)).equals(pd.DataFrame(stores[1].history(run))):
            found.append(f"the history of {run.key}")
        names = [{file.name for file in store.folder(run).iterdir()} for store in stores]
        found += [f"{name} of {run.key}" for name in sorted(names[0] ^ names[1])]
        for name in sorted(name for name in names[0] & names[1] if name.endswith(".safetensors")):
            a, b = (safetensors.torch.load_file(store.folder(run) / name) for store in stores)
            if a.keys() != b.keys() or not all(torch.equal(a[part], b[part]) for part in a):
                found.append(f"{name} of {run.key}")
    return found


def strays(root: Path, runs: list[RunConfig]) -> list[str]:
    """What does not belong into a store of complete runs."""
    known = {".locks", *(run.key for run in runs)}
    odd = [path.name for path in root.iterdir() if path.name not in known]
    odd += [str(path.relative_to(root)) for path in root.rglob("*.part")]
    return odd + [f".locks/{path.name}" for path in (root / ".locks").iterdir() if path.suffix != ".lock"]


def rounds_begun(folder: Path) -> list[tuple[str, int, int]]:
    """The log of `logged_stack`: key, round, and the number of rounds that were stored before it."""
    lines = (line.split() for line in (folder / "log").read_text().splitlines())
    return [(key, int(round_), int(stored)) for key, round_, stored in lines]


# Parts --------------------------------------------------------------------------------------------------------------


def read(root: Path, runs: list[RunConfig], stop: Path) -> None:
    """Read a store again and again, and leave the counts in a file."""
    os.environ[MARK] = str(root)
    store, counts, before = Store(root), Counter(), Counter()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        while not stop.exists():
            for run in runs:
                try:
                    done = len(store.rows(run))
                    store.holds(run, {0})
                    store.history(run)
                except Exception as error:
                    print(f"  a reader: {error!r}", flush=True)
                    counts["errors of readers"] += 1
                else:
                    counts["reads"] += 3
                    counts["readers that found fewer rounds than before"] += done < before[run]
                    before[run] = done
        counts["warnings of readers"] = len(said)
    stop.with_name(f"read-{os.getpid()}.json").write_text(json.dumps(counts))


def readers(drill: Drill) -> None:
    """Two tight readers beside two trainers; complete runs are trained again for more weights meanwhile."""
    root, stop = drill.folder / "store", drill.folder / "stop"
    runs = RUN.vary(rounds=25, epochs=1).grid(seed=range(8))
    reading = [started(root, runs, stop, call=read) for _ in range(2)]
    sweep(runs[:4], results=root, progress=False)
    training = [started(root, part, 0, False) for part in (runs[:4], runs[4:])]
    for process in training:
        process.join()
    stop.touch()
    for process in reading:
        process.join()
    counts = sum((Counter(json.loads(file.read_text())) for file in drill.folder.glob("read-*.json")), Counter())
    drill.done["reads beside writers"] += counts.pop("reads", 0)
    drill.check("runs wrongly set aside", len(list(root.glob("*damaged*"))))
    for fault in ("errors of readers", "warnings of readers", "readers that found fewer rounds than before"):
        drill.check(fault, counts[fault])
    drill.check("trainers that failed beside readers", sum(process.exitcode != 0 for process in training))


def kills(drill: Drill) -> None:
    """SIGKILL or SIGTERM at random moments to the sweep, a worker, the sweep's group or all processes; restarts."""
    runs = [*RUN.vary(rounds=9, model_args={"depth": 2, "width": 60}, epochs=4).grid(seed=[0, 1])]
    runs += [runs[0].vary(retraining="weight_rewinding", rewind_iteration=9), runs[0].vary(teacher=runs[1])]
    undisturbed, begun = drill.folder / "undisturbed", time.monotonic()
    with parallel.local(2) as executor:
        sweep(runs, executor=executor, results=undisturbed, keep=EVERYTHING, progress=False)
    longest, rng, number = time.monotonic() - begun, random.Random(0), 0
    while drill.done["kills"] < drill.kills and time.monotonic() < drill.deadline:
        number += 1
        root = drill.folder / f"swept-{number}" / "store"
        root.mkdir(parents=True)
        _killed_until_finished(drill, root, runs, rng, longest)
        sweep(runs, results=root, keep=EVERYTHING, progress=False)
        drill.done["sweeps that were killed and went on"] += 1
        found = differences(runs, root, undisturbed)
        drill.check("tables, histories, weights that differ", len(found), found)
        found = strays(root, runs)
        drill.check("stray files after a kill", len(found), found)
        again = [line for line in rounds_begun(root.parent) if line[1] < line[2]]
        drill.check("stored rounds that were trained again", len(again), again)


def _killed_until_finished(drill: Drill, root: Path, runs: list[RunConfig], rng: random.Random, longest: float) -> None:
    store, stored = Store(root), 0
    while (done := _rounds_done(store, runs)) < sum(run.rounds + 1 for run in runs):
        drill.check("finished rounds that were lost", max(0, stored - done))
        stored = done
        process = started(root, runs, rng.choice([0, 2]), rng.random() < 0.5)
        while drill.done["kills"] < drill.kills and time.monotonic() < drill.deadline:
            _wait(process, partial(_rounds_done, store, runs), rng, longest)
            if not process.is_alive():
                break
            drill.done["kills"] += 1
            drill.done[_strike(process.pid, root, rng)] += 1
        process.join()
        _left_behind(drill, root)


def _left_behind(drill: Drill, root: Path) -> None:
    """Count the processes of a killed sweep or report that are alive after 5 s, or longer on a loaded machine."""
    limit, begun = 5 * max(1, os.getloadavg()[0] / len(os.sched_getaffinity(0))), time.monotonic()
    while (left := descendants(root)) and time.monotonic() < begun + limit:
        time.sleep(0.1)
    drill.done["seconds until the last process ended"] = max(
        drill.done["seconds until the last process ended"], round(time.monotonic() - begun)
    )
    drill.check("processes left after 5 s", len(left), [command(process) for process in left])
    for process in left:
        process.kill()


def _rounds_done(store: Store, runs: list[RunConfig]) -> int:
    return sum(map(store.rounds_done, runs))


def _wait(process: Any, rounds_done: Callable[[], int], rng: random.Random, longest: float) -> None:
    """Wait for a random time, or until another round has been stored and for a short time then."""
    if rng.random() < 0.3:
        process.join(rng.uniform(0, longest / 3))
        return
    before = rounds_done()
    while process.is_alive() and rounds_done() == before:
        process.join(0.05)
    process.join(rng.uniform(0, 0.5))


def _strike(sweeping: int, root: Path, rng: random.Random) -> str:
    """Send a signal. Returns what was hit."""
    target = rng.choice(["the sweep", "a worker", "the sweep's group", "all processes"])
    number = rng.choice([signal.SIGKILL, signal.SIGTERM])
    found = {process.pid: command(process) for process in descendants(root)}
    others, workers = list(found), [pid for pid, told in found.items() if "popen_loky" in told]
    if target == "a worker" and not workers:
        target = "the sweep"
    hit = {"the sweep": [sweeping], "the sweep's group": [-sweeping], "all processes": [sweeping, *others]}
    for pid in hit.get(target) or [rng.choice(workers)]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
    return f"  {number.name} to {target}"


def sharing(drill: Drill) -> None:
    """Two groups of processes, each a sweep with two workers, on one store."""
    root, undisturbed, runs = drill.folder / "store", drill.folder / "undisturbed", RUN.grid(seed=range(30))
    root.mkdir()
    processes = [started(root, order, 2, False) for order in (runs, runs[::-1])]
    for process in processes:
        process.join()
    drill.check("sweeps that failed on a shared store", sum(process.exitcode != 0 for process in processes))
    sweep(runs, results=undisturbed, keep=EVERYTHING, progress=False)
    trained = Counter((key, round_) for key, round_, _ in rounds_begun(drill.folder))
    drill.done["rounds trained by two groups"] += trained.total()
    drill.check("rounds trained twice", trained.total() - len(trained))
    found = differences(runs, root, undisturbed) + strays(root, runs)
    drill.check("differences on a shared store", len(found), found)


# Damage: a function of the file, the same file of another run, and a file of another round ------------------------


def _bytes(change: Callable[[bytes], bytes]) -> Callable[..., None]:
    return lambda file, *_: file.write_bytes(change(file.read_bytes()))


def _rows(change: Callable[[list], list]) -> Callable[..., None]:
    return lambda file, *_: write_rows(file, change(read_rows(file)))


def change_header(file: Path, change: Callable[[dict], None]) -> None:
    """Change the description of the tensors in a file, and nothing else."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def _header(change: Callable[[dict], None]) -> Callable[..., None]:
    return lambda file, *_: change_header(file, change)


def _swap(header: dict) -> None:
    one, two = [name for name in header if name.endswith("weight")][:2]
    header[one], header[two] = header[two], header[one]


def _type(header: dict) -> None:
    next(part for part in header.values() if part.get("dtype") == "F32")["dtype"] = "I32"


def _replaced(make: Callable[[Path], None]) -> Callable[..., None]:
    return lambda file, *_: (file.unlink(), make(file))


def _elsewhere(which: int) -> Callable[..., None]:
    return lambda file, *others: shutil.copy(others[which], file)


NOISE = random.Random(1).randbytes(16)
ANY = {
    "random bytes": _bytes(lambda content: content[: len(content) // 2] + NOISE + content[len(content) // 2 + 16 :]),
    "truncated": _bytes(lambda content: content[: len(content) // 2]),
    "zeroed": _bytes(lambda content: bytes(len(content))),
    "emptied": _bytes(lambda content: b""),
    "a dangling link": _replaced(lambda file: file.symlink_to("absent")),
    "a folder in its place": _replaced(Path.mkdir),
}
OTHERS = {"another run's file": _elsewhere(0)}
TABLE = {"a row less": _rows(lambda rows: rows[:1] + rows[2:]), "a row twice": _rows(lambda rows: rows[:2] + rows[1:])}
WEIGHTS = {"another round's file": _elsewhere(1), "names swapped": _header(_swap), "another type": _header(_type)}
DAMAGE = {
    "config.json": ANY | OTHERS,
    "provenance.json": ANY,  # another run's tells no other machine
    "rounds.parquet": ANY | OTHERS | TABLE,
    "history.parquet": ANY | OTHERS | TABLE,
    "rewind.safetensors": ANY | OTHERS | WEIGHTS,
    "partial.safetensors": ANY | OTHERS | {"another type": _header(_type)},
} | {f"round_00{round_}.safetensors": ANY | OTHERS | WEIGHTS for round_ in (0, 1, 2)}


class Stop(BaseException):
    """In place of a killed process."""


def _stopped(root: Path, runs: list[RunConfig], rounds: int) -> None:
    """Train so many rounds of runs, and leave the partial state of the next."""
    save = Store.save_round

    def save_or_stop(store: Store, config: RunConfig, rows: list, *more: Any) -> None:
        if len(rows) > rounds:
            raise Stop
        save(store, config, rows, *more)

    with mock.patch.object(Store, "save_round", save_or_stop), mock.patch.object(worker, "EVERY", 0), suppress(Stop):
        sweep(runs, results=root, keep=EVERYTHING, progress=False)


def damage(drill: Drill) -> None:
    """Every kind of damage to every kind of file, of a complete run and of one that was stopped half way."""
    runs = [REWOUND, REWOUND.vary(seed=1)]
    states = {"complete": drill.folder / "complete", "stopped": drill.folder / "stopped"}
    sweep(runs, results=states["complete"], keep=EVERYTHING, progress=False)
    _stopped(states["stopped"], runs, 3)
    for state, source in states.items():
        for name, ways in DAMAGE.items():
            for way, change in ways.items() if (source / REWOUND.key / name).exists() else ():
                title, root = f"{state}: {name}: {way}", drill.folder / "damaged"
                shutil.copytree(source, root)
                here, other = (root / run.key for run in runs)
                another_round = here / f"round_00{int('000' in name)}.safetensors"
                change(here / name, other / name, another_round)
                _mended(drill, title, root, name, states["complete"])
                shutil.rmtree(root)
    for kind, make in {"a file": Path.touch, "a dangling link": lambda path: path.symlink_to("absent")}.items():
        root = drill.folder / "damaged"
        root.mkdir()
        make(root / REWOUND.key)
        _mended(drill, f"{kind} in the folder's place", root, REWOUND.key, states["complete"])
        shutil.rmtree(root)


def _mended(drill: Drill, title: str, root: Path, name: str, undisturbed: Path) -> None:
    """Sweep a damaged store, and check that the file is named and that the numbers are those of an undisturbed run."""
    drill.done["damaged files"] += 1
    found: list[str] = []
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            sweep([REWOUND], results=root, keep=EVERYTHING, progress=False)
            found = differences([REWOUND], root, undisturbed)
        except Exception as error:
            found = [repr(error)]
    drill.check("damage that is not named", not any(name in str(w.message) for w in said), title)
    drill.check("damage that is not mended", bool(found), f"{title}: {found}")


# Odd folders --------------------------------------------------------------------------------------------------------


@contextmanager
def _expecting(drill: Drill, title: str, refusal: str = "") -> Iterator[None]:
    """Count a fault unless the block succeeds, or raises a `ConfigError` with that text."""
    drill.done["odd folders"] += 1
    try:
        yield
    except ConfigError as error:
        drill.check("odd folders that fail", not refusal or refusal not in str(error), f"{title}: {error}")
    except Exception as error:
        drill.check("odd folders that fail", True, f"{title}: {error!r}")
    else:
        drill.check("odd folders that fail", bool(refusal), f"{title}: not refused")


def folders(drill: Drill) -> None:
    """A relative path, the user's home, a umask, no HOME, a folder without flock, one that nobody may write."""
    swept = drill.folder / "swept"
    with _expecting(drill, "a relative path"):
        sweep(RUN, results="swept", progress=False)
        assert (swept / RUN.key).is_dir()
    with _expecting(drill, "~"), mock.patch.dict(os.environ, HOME=str(drill.folder)):
        sweep(RUN, results="~/home", progress=False)
        assert (drill.folder / "home" / RUN.key).is_dir() and not Path("~").exists()
    with _expecting(drill, "a umask"):
        before = os.umask(0o027)
        sweep(RUN, results="masked", progress=False)
        os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in Path("masked", RUN.key).iterdir()} == {0o640}
    with _expecting(drill, "no HOME"):
        bare = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "DSDLIB_FRESH")}
        code = f"from dsdlib import *; sweep(RunConfig(**{RUN.vary(seed=7).model_dump()!r}), results='homeless')"
        subprocess.run([sys.executable, "-c", code], env=bare, check=True, capture_output=True)
    refuse = mock.Mock(side_effect=OSError(38, "Function not implemented"))
    with _expecting(drill, "no flock", "cannot be locked"), mock.patch("dsdlib.study.locks.flock", refuse):
        sweep(RUN, results="unlocked", progress=False)
    swept.chmod(0o555)
    for path in (drill.folder, *swept.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o444)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    with _expecting(drill, "reading what cannot be written"):
        sweep(RUN, results=swept, progress=False)
    with _expecting(drill, "writing what cannot be written", "cannot be written"):
        sweep(RUN.vary(seed=9), results=swept, progress=False)
    os.seteuid(user)


# A full disk --------------------------------------------------------------------------------------------------------


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[Callable[[], None] | None]:
    """Mount a disk of so many KiB. Yields a function that makes it large; None where nothing can be mounted."""
    folder.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    if subprocess.run(["mount", *options], capture_output=True).returncode != 0:
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=100m", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full(drill: Drill) -> None:
    """Disks of several sizes that fill up in the midst of a sweep, and are then made larger."""
    runs, undisturbed = REWOUND.grid(seed=range(3)), drill.folder / "undisturbed"
    sweep(runs, results=undisturbed, keep=EVERYTHING, progress=False)
    for size in range(8, 400, 28):
        with _small_disk(drill.folder / f"disk-{size}", size) as enlarge:
            if enlarge is None:
                drill.done["disks that could not be mounted"] += 1
                return
            root, message = drill.folder / f"disk-{size}" / "store", ""
            try:
                sweep(runs, results=root, keep=EVERYTHING, progress=False)
            except (ConfigError, OSError) as error:
                message = str(error)
            if not message:
                return
            drill.done["full disks"] += 1
            clear = "No space left on device" in message and str(root) in message
            drill.check("full disks without a clear error", not clear, message)
            drill.check("half-written files on full disks", len(list(root.rglob("*.part"))))
            enlarge()
            with warnings.catch_warnings(action="error"):
                sweep(runs, results=root, keep=EVERYTHING, progress=False)
            found = differences(runs, root, undisturbed)
            drill.check("differences after a full disk", len(found), found)


# Reports and executors ----------------------------------------------------------------------------------------------


def _report(folder: Path, *options: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "dsdlib.report", "smoke", "--output", str(folder / "pages"), *options]
    variables = {"DSDLIB_RESULTS": str(folder / "results"), "DSDLIB_FRESH": "1", MARK: str(folder), **environment}
    return subprocess.Popen(command, env=os.environ | variables, stdout=subprocess.DEVNULL, start_new_session=True)


def reports(drill: Drill) -> None:
    """A report that is killed twice, and then made: scratch folders, kernels and workers that are left."""
    options = ["--only", "01_phenomenon"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = _report(drill.folder, *options)
        while process.poll() is None and not any("ipykernel" in command(p) for p in descendants(drill.folder)):
            time.sleep(0.1)
        time.sleep(2)
        drill.done["processes of reports that were killed"] += len(descendants(drill.folder)) - 1
        process.send_signal(number)
        process.wait()
        drill.done["killed reports"] += 1
        _left_behind(drill, drill.folder)
    drill.check("reports that fail after kills", _report(drill.folder, *options).wait())
    found = [str(path.relative_to(drill.folder)) for path in drill.folder.rglob(".running-*")]
    drill.check(".running-* folders left", len(found), found)


def executors(drill: Drill) -> None:
    """The whole smoke profile on this machine, through Dask and through submitit: equal tables."""
    kinds = {"here": "local", "dask": "dask:local:2", "submitit": "slurm:workers=2,cluster=local,timeout_min=60"}
    tables = {}
    for name, kind in kinds.items():
        folder = drill.folder / name
        drill.check(f"smoke reports that fail: {kind}", _report(folder, DSDLIB_EXECUTOR=kind).wait())
        store = Store(folder / "results")
        tables[name] = store.table(store.configs()).drop(columns=["seconds"]).sort_values(["key", "round"])
    for name in ("dask", "submitit"):
        drill.done[f"rows of the smoke profile by {kinds[name]}"] += len(tables[name])
        same = tables[name].reset_index(drop=True).equals(tables["here"].reset_index(drop=True))
        drill.check(f"smoke tables that differ: {kinds[name]}", not same)


PARTS = {part.__name__: part for part in (readers, kills, sharing, damage, folders, full, reports)}
ALL = PARTS | {"executors": executors}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told = "; ".join(f"{name}: {part.__doc__}" for name, part in ALL.items())
    parser.add_argument(
        "parts", nargs="*", metavar="PART", choices=[[], *ALL], help=f"all but executors by default. {told}"
    )
    parser.add_argument("--kills", type=int, default=100, help="signals to send in the part kills (default: 100)")
    parser.add_argument("--minutes", type=float, default=60, help="send no more signals after so many (default: 60)")
    arguments = parser.parse_args()
    begun, faults = time.monotonic(), 0
    for name in arguments.parts or PARTS:
        with tempfile.TemporaryDirectory(prefix=f"drill-{name}-") as folder, chdir(folder):
            drill = Drill(Path(folder), arguments.kills, begun + 60 * arguments.minutes)
            print(f"{name}: {ALL[name].__doc__}", flush=True)
            ALL[name](drill)
        for what, number in [*drill.done.items(), *drill.faults.items()]:
            print(f"  {number:8,}  {what}", flush=True)
        faults += drill.faults.total()
    print(f"{faults} faults in {(time.monotonic() - begun) / 60:.1f} minutes")
    return int(faults > 0)


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "DSDLIB_FRESH"):
        os.environ[variable] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(CODE), str(Path(__file__).parent)])
    CONTEXT = get_context("forkserver")
    CONTEXT.set_forkserver_preload(["drill"])
    sys.exit(main())
