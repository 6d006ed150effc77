"""The published archive: ``publish`` adds finished runs to it, ``repeat`` trains a published run again to compare."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dsdlib.config import ConfigError
from dsdlib.study.archive import FOLDER, Archive, publish
from dsdlib.study.provenance import PROJECT
from dsdlib.study.repeat import published_run, repeat
from dsdlib.study.store import Store, default_folder


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adder = commands.add_parser("publish", help="add the finished runs of a store to the published archive")
    adder.add_argument("profile", help="the archive's file is results/published/PROFILE.parquet")
    adder.add_argument("--results", type=Path, help="the store to take runs from (default: results)")
    adder.add_argument("--dataset", help="take only the runs on this data set")
    adder.add_argument("--replace", action="store_true", help="replace runs that are published with other numbers")
    adder.set_defaults(do=_publish)
    repeater = commands.add_parser("repeat", help="train a published run again here, and compare it round by round")
    repeater.add_argument("profile", help="the archive's file is results/published/PROFILE.parquet")
    repeater.add_argument("--key", help="the run's key or its first digits (default: the first run)")
    repeater.add_argument("--rounds", type=int, help="pruning steps to train (default: all)")
    repeater.set_defaults(do=_repeat)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 for success, 2 if something was refused."""
    arguments = parse(argv)
    try:
        arguments.do(arguments, default_folder() / FOLDER / f"{arguments.profile}.parquet")
    except ConfigError as refusal:
        print(f"study: {refusal}", file=sys.stderr)
        return 2
    return 0


def _publish(arguments: argparse.Namespace, file: Path) -> None:
    store = Store(arguments.results)
    finished = [config for config in store.configs() if store.complete(config)]
    chosen = [config for config in finished if arguments.dataset in (None, config.dataset)]
    runs = {config: (store.rows(config), store.provenance(config)) for config in chosen}
    new = publish(file, runs, arguments.replace)
    print(f"{file}: {new} runs added, {len(runs) - new} were there; {file.stat().st_size / 1e6:.1f} MB")


def _repeat(arguments: argparse.Namespace, file: Path) -> None:
    os.environ.pop("DSDLIB_FRESH", None)
    archive = Archive([file.parent, PROJECT / "results" / FOLDER])
    config = published_run(archive.configs(file.stem), arguments.key)
    rows = archive.rows(config)
    os.environ["DSDLIB_FRESH"] = "1"  # from here on the run is not read from the archive
    apart = repeat(config, rows, arguments.rounds)
    print(f"run {config.key}, {config.model} on {config.dataset}: differences from the published numbers")
    print(apart.to_string(index=False, float_format="{:.2g}".format))


if __name__ == "__main__":
    sys.exit(main())
