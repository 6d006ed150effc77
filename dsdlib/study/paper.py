"""The papers' own scale on a GPU that is lent for minutes: checks first, then trainings, the most telling first.

Run ``python -m dsdlib.study.paper`` again and again until it says that all is done. The work goes on in a process of
its own. A call starts it unless it is running, shows what it says, and packs the rounds that are finished. What was
found and trained is kept if it is killed.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from dsdlib.config import ConfigError, RunConfig
from dsdlib.study.declared import declared, pack
from dsdlib.study.files import write_whole
from dsdlib.study.interrupt import interruptible
from dsdlib.study.provenance import PROJECT, describe_machine
from dsdlib.study.store import Store
from dsdlib.study.sweep import sweep

RECIPES = PROJECT / "parameters" / "cifar10"


def plan(changes: dict[str, Any]) -> dict[str, list[RunConfig]]:
    """The runs by name, in the order in which they are trained. ``changes`` are fields that all of them get.

    A round prunes as much as two of DSD2's, or three of He et al.'s, and reaches every second or third of their
    published sparsities.
    """
    recipe, phenomenon, distillation = (
        RECIPES / f"{name}.yaml" for name in ("recipe", "01_phenomenon", "03_distillation")
    )
    (teacher,) = declared([recipe], {"rounds": 34, **changes})
    (vgg,) = declared([recipe, distillation], {"amount": 0.36, "rounds": 17, **changes})
    (he,) = declared([recipe, phenomenon], {"noise_rate": 0.2, "amount": 0.488, "rounds": 9, **changes})
    teacher = teacher.vary(rounds=0)
    return {
        "ResNet-18, dense: the teacher": [teacher],
        "VGG-like(5, 32) at 50% noise, DSD2's Figure 1": vgg.grid(seed=[0, 1]),
        "VGG-like(5, 32), distilled": [vgg.vary(teacher=teacher)],
        "ResNet-18 without max-pool at 20% noise, He et al.'s Figure 1": [he],
    }


def listed(runs: dict[str, list[RunConfig]]) -> str:
    """The plan in words."""
    from dsdlib.study.checks import CHECKS

    lines = [f"check, for each of the following: {', '.join(CHECKS)}"]
    for name, configs in runs.items():
        first, keys = configs[0], ", ".join(config.key for config in configs)
        each = f"{first.rounds + 1} × {first.epochs} epochs of {first.dataset}, {first.amount:.1%} pruned in a round"
        lines.append(f"train {name}: {len(configs)} × {each} ({keys})")
    return "\n".join(lines)


def check(runs: dict[str, list[RunConfig]], file: Path, device: str, engine: str) -> None:
    """Make the checks that ``file`` does not hold yet, and enter each in it at once.

    Raises `ConfigError` if one fails.
    """
    from dsdlib.engine.device import resolve_device, resolve_engine
    from dsdlib.study.checks import CHECKS

    target = resolve_device(device)
    chosen, found = resolve_engine(engine, target), json.loads(file.read_text()) if file.exists() else {}
    found.setdefault("machine", describe_machine(target))
    for name, (config, *_) in runs.items():
        for what, made in CHECKS.items():
            if what not in found.setdefault(name, {}):
                found[name][what] = said = made(config, target, chosen)
                write_whole(file, lambda draft: draft.write_text(json.dumps(found, indent=2) + "\n"))
                print(f"{name}: {what}: {said}", flush=True)


def work(runs: dict[str, list[RunConfig]], store: Store, device: str, engine: str, jobs: int = 1) -> int:
    """Check, then train in that many processes.

    Returns the exit code: 0 if all is done, 1 for a check that failed, 3 if it was stopped.
    """
    try:
        with interruptible():
            check(runs, store.root / "paper" / "checks.json", device, engine)
            for name, configs in runs.items():
                print(f"train {name}", flush=True)
                sweep(configs, results=store.root, device=device, engine=engine, jobs=jobs)
    except ConfigError as refusal:
        print(f"paper: {refusal}", flush=True)
        return 1
    except KeyboardInterrupt:
        return 3
    print("All is done.", flush=True)
    return 0


def look(command: Sequence[str], folder: Path, minutes: float) -> int:
    """Start the work unless it is running, look at it for so many minutes, and show what it says meanwhile.

    Returns its exit code, or 3 if it is still running, or 1 if it was killed.
    """
    log, code, until = folder / "log.txt", folder / "code", time.monotonic() + 60 * minutes
    shown = log.stat().st_size if log.exists() else 0
    process = None
    if not _running(folder):
        code.unlink(missing_ok=True)
        with log.open("a") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    while time.monotonic() < until and (process.poll() is None if process else _running(folder)):
        time.sleep(min(1.0, max(0.0, until - time.monotonic())))
    print(log.read_bytes()[shown:].decode(errors="replace"), end="")
    if process.poll() is None if process else _running(folder):
        print("It goes on; the same command looks again.")
        return 3
    return int(code.read_text()) if code.exists() else 1


def _running(folder: Path) -> bool:
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.study.paper", description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the plan and train nothing")
    parser.add_argument("--minutes", type=float, default=9, help="look for so long (default: 9)")
    told = "a field of all runs, as YAML, such as -p dataset folder:NAME"
    parser.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"), dest="fields", help=told
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--engine", default="auto", help="plain, fast or auto: fast on a GPU")
    parser.add_argument(
        "--jobs", type=int, default=1, help="runs that are trained at once, each in a process (default: 1)"
    )
    parser.add_argument("--results", type=Path, help="the store (default: results)")
    parser.add_argument(
        "--pack", type=Path, help="where rounds.csv and tables.parquet go (default: paper in the store)"
    )
    parser.add_argument("--here", action="store_true", help="do the work in this process, until it is done")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 when all is done, 1 if the work failed, 2 if something was refused, 3 if it goes on."""
    arguments = parse(argv)
    try:
        runs = plan({name: yaml.safe_load(value) for name, value in arguments.fields})
        if arguments.list:
            print(listed(runs))
            return 0
        store = Store(arguments.results)
        folder = store.root / "paper"
        folder.mkdir(parents=True, exist_ok=True)
        if arguments.here:
            with FileLock(folder / "lock"):
                result = work(runs, store, arguments.device, arguments.engine, arguments.jobs)
                (folder / "code").write_text(str(result))
        else:
            given = sys.argv[1:] if argv is None else argv
            result = look([sys.executable, "-m", "dsdlib.study.paper", "--here", *given], folder, arguments.minutes)
        every = [config for configs in runs.values() for config in configs]
        print("finished rounds and finished runs:", *pack(store, every, arguments.pack or folder))
        return result
    except (ConfigError, yaml.YAMLError) as refusal:
        print(f"paper: {refusal}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
