"""Runs without notebooks: ``run`` trains them some minutes at a time, ``publish`` adds finished ones to the published
archive, and ``repeat`` trains a published run again to compare."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from dsdlib.config import ConfigError
from dsdlib.study.archive import FOLDER, packed, publish
from dsdlib.study.declared import declared, finished, pack
from dsdlib.study.interrupt import check_minutes, interruptible
from dsdlib.study.repeat import published_run, repeat
from dsdlib.study.store import Store, default_folder
from dsdlib.study.sweep import sweep


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_run(commands.add_parser("run", help="train the runs of some files of parameters, and pack their tables"))
    adder = commands.add_parser("publish", help="add the finished runs of a store to the published archive")
    adder.add_argument("profile", help="the archive's file is results/published/PROFILE.parquet")
    adder.add_argument("--results", type=Path, help="the store to take runs from (default: results)")
    adder.add_argument("--tables", type=Path, help="take them from this tables.parquet, which `run` has written")
    adder.add_argument("--dataset", help="take only the runs on this data set")
    adder.add_argument("--replace", action="store_true", help="replace runs that are published with other numbers")
    adder.set_defaults(do=_publish)
    repeater = commands.add_parser("repeat", help="train a published run again here, and compare it round by round")
    repeater.add_argument("profile", help="the archive's file is results/published/PROFILE.parquet")
    repeater.add_argument("--key", help="the run's key or its first digits (default: the first run)")
    repeater.add_argument("--rounds", type=int, help="pruning steps to train (default: all)")
    repeater.set_defaults(do=_repeat)
    return parser.parse_args(argv)


def _add_run(runner: argparse.ArgumentParser) -> None:
    runner.add_argument("files", nargs="+", type=Path, help="YAML files; their recipe and own_recipe count, in order")
    told = "a field of the runs, as YAML; a list stands for a run with each value: -p seed '[0, 1]'"
    runner.add_argument(
        "-p", nargs=2, action="append", default=[], metavar=("FIELD", "VALUE"), dest="fields", help=told
    )
    runner.add_argument("--minutes", type=float, help="stop after so many; the same command goes on")
    runner.add_argument("--keep", nargs="+", default=[], help="what to store besides tables: rounds, best, history")
    runner.add_argument(
        "--jobs", type=int, default=1, help="worker processes; -1: one a core, one on a GPU (default: 1)"
    )
    runner.add_argument("--device", default="auto", help="auto, cpu or cuda")
    runner.add_argument("--engine", default="auto", help="plain, fast or auto: fast on a GPU")
    runner.add_argument("--results", type=Path, help="the store (default: results)")
    runner.add_argument(
        "--pack", type=Path, help="where rounds.csv and tables.parquet go (default: packed in the store)"
    )
    runner.set_defaults(do=_run)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 for success, 2 if something was refused, 3 if the time was over or it was stopped."""
    arguments = parse(argv)
    try:
        return arguments.do(arguments)
    except (ConfigError, yaml.YAMLError) as refusal:
        print(f"study: {refusal}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    check_minutes(arguments.minutes)
    runs = declared(arguments.files, {name: yaml.safe_load(value) for name, value in arguments.fields})
    keep = [int(what) if what.isdecimal() else what for what in arguments.keep]
    store, how = Store(arguments.results), {name: getattr(arguments, name) for name in ("jobs", "device", "engine")}
    code = 0
    try:
        with interruptible(arguments.minutes):
            sweep(runs, keep=keep, results=store.root, **how)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last epochs that were stored")
        code = 3
    print("finished rounds and finished runs:", *pack(store, runs, arguments.pack or store.root / "packed"))
    return code


def _archive(arguments: argparse.Namespace) -> Path:
    return default_folder() / FOLDER / f"{arguments.profile}.parquet"


def _publish(arguments: argparse.Namespace) -> int:
    file = _archive(arguments)
    if arguments.tables is None:
        store = Store(arguments.results)
        runs = finished(store, store.configs())
    else:
        runs = packed(arguments.tables)
    runs = {config: found for config, found in runs.items() if arguments.dataset in (None, config.dataset)}
    new = publish(file, runs, arguments.replace)
    print(f"{file}: {new} runs added, {len(runs) - new} were there; {file.stat().st_size / 1e6:.1f} MB")
    return 0


def _repeat(arguments: argparse.Namespace) -> int:
    file = _archive(arguments)
    os.environ.pop("DSDLIB_FRESH", None)
    archive = Store().archive
    config = published_run(archive.configs(file.stem), arguments.key)
    rows = archive.rows(config)
    os.environ["DSDLIB_FRESH"] = "1"  # from here on the run is not read from the archive
    apart = repeat(config, rows, arguments.rounds)
    print(f"run {config.key}, {config.model} on {config.dataset}: differences from the published numbers")
    print(apart.to_string(index=False, float_format="{:.2g}".format))
    return 0


if __name__ == "__main__":
    sys.exit(main())
