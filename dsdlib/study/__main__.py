"""``python -m dsdlib.study publish PROFILE``: add finished runs to the published archive."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dsdlib.config import ConfigError
from dsdlib.study.archive import FOLDER, publish
from dsdlib.study.store import Store, default_folder


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 0 for success, 2 if something was refused."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.study", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    adder = commands.add_parser("publish", help="add the finished runs of a store to the published archive")
    adder.add_argument("profile", help="the archive's file is results/published/PROFILE.parquet")
    adder.add_argument("--results", type=Path, help="the store to take runs from (default: results)")
    adder.add_argument("--dataset", help="take only the runs on this data set")
    adder.add_argument("--replace", action="store_true", help="replace runs that are published with other numbers")
    arguments = parser.parse_args(argv)
    try:
        store = Store(arguments.results)
        finished = [config for config in store.configs() if store.complete(config)]
        chosen = [config for config in finished if arguments.dataset in (None, config.dataset)]
        file = default_folder() / FOLDER / f"{arguments.profile}.parquet"
        runs = {config: (store.rows(config), store.provenance(config)) for config in chosen}
        new = publish(file, runs, arguments.replace)
    except ConfigError as refusal:
        print(f"study: {refusal}", file=sys.stderr)
        return 2
    print(f"{file}: {new} runs added, {len(runs) - new} were there; {file.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
