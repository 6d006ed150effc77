"""Advice on a pruning run of your own: ``python -m dsdlib.advise TABLE``, or train it with ``--data`` and ``--model``.

TABLE is a CSV or parquet file that any program wrote. It prints what `dsdlib.analysis.advise` says and writes a figure.
With data and a model, or an image folder, it trains the runs, and measures what weight decay and distillation change.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import yaml

from dsdlib import plots
from dsdlib.analysis.advice import Advice, advise
from dsdlib.config import ConfigError, RunConfig
from dsdlib.report.command import changed, take_changes
from dsdlib.study.progress import Draw
from dsdlib.study.sweep import sweep, with_best_epoch

YOURS = "yours"


def variants(
    base: RunConfig, seeds: Sequence[int], weight_decays: Sequence[float], distil: bool
) -> dict[str, list[RunConfig]]:
    """The runs of ``base`` with each seed, called ``yours``, and runs that differ from them in one thing, by its name.

    These are runs with other weight decays and, if ``distil``, runs that are distilled from the dense network of the
    same seed, with the ``alpha`` and ``temperature`` of ``base``.
    """
    runs = {YOURS: base.grid(seed=list(seeds))}
    for decay in weight_decays:
        if decay != base.weight_decay:
            name = f"weight decay {decay:g} instead of {base.weight_decay:g}"
            runs[name] = base.vary(weight_decay=decay).grid(seed=list(seeds))
    if distil:
        name = f"distillation from the dense network (α = {base.alpha:g}, T = {base.temperature:g})"
        runs[name] = [run.vary(teacher=run) for run in runs[YOURS]]
    return runs


def train(
    runs: dict[str, list[RunConfig]], *, jobs: int = 1, device: str = "auto", progress: bool | Draw = True
) -> dict[str, pd.DataFrame]:
    """Train what is missing of the ``runs`` of `variants`, and return the table of each group.

    If there is validation data, the rows of your own runs name their best epoch.
    """
    options = {"jobs": jobs, "device": device, "progress": progress}
    sweep([run for group in runs.values() for run in group if run not in runs[YOURS]], **options)
    own = with_best_epoch if runs[YOURS][0].validation_fraction else sweep
    return {name: (own if name == YOURS else sweep)(group, **options) for name, group in runs.items()}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.advise", description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path, nargs="?", help="a CSV or parquet file: a row for each sparsity and seed")
    units = parser.add_mutually_exclusive_group()
    units.add_argument("--percent", nargs="+", metavar="COLUMN", help="these columns of the table are in percent")
    units.add_argument("--fractions", action="store_true", help="no column of the table is in percent")
    other = {"action": "append", "default": [], "metavar": "NAME=TABLE"}
    parser.add_argument("--other", **other, help="the table of a run that differs from yours in what NAME says")
    parser.add_argument("--data", help="to train: module:function, folder:NAME, or a data set's name")
    parser.add_argument("--model", help="to train: module:function, or a model's name")
    take_changes(parser)
    parser.add_argument("--seeds", type=int, default=5, help="to train: the number of seeds (default: 5)")
    decays = {"type": float, "nargs": "*", "default": [1e-3, 1e-2], "metavar": "λ"}
    parser.add_argument("--weight-decays", **decays, help="to train: other weight decays (default: 0.001 0.01)")
    parser.add_argument("--jobs", type=int, default=-1, help="to train: worker processes (default: one for each core)")
    parser.add_argument("--figure", type=Path, default=Path("advice.png"), help="the figure's file (advice.png)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print advice and write its figure. Returns the exit code: 0 for success, 2 if something was refused."""
    arguments = parse(argv)
    mpl.use("Agg")
    plots.set_theme()
    try:
        if not arguments.figure.absolute().parent.is_dir():
            raise ConfigError(f"--figure {arguments.figure}: there is no such folder")
        found = _of_table(arguments) if arguments.table else _of_training(arguments)
        print(found)
        plots.advice(found).figure.savefig(arguments.figure, dpi=150)
    except (ValueError, OSError, yaml.YAMLError) as refusal:
        print(f"advise: {refusal}", file=sys.stderr)
        return 2
    print(f"\nFigure: {arguments.figure}")
    return 0


def _of_table(arguments: argparse.Namespace) -> Advice:
    if arguments.data or arguments.model or arguments.changes:
        raise ConfigError("--data, --model and -p train a run; with a TABLE nothing is trained: give one or the other")
    if odd := [other for other in arguments.other if "=" not in other]:
        raise ConfigError(f"--other {odd[0]}: allowed: NAME=TABLE")
    others = {name: Path(table) for name, _, table in (other.rpartition("=") for other in arguments.other)}
    return advise(arguments.table, others=others, percent=False if arguments.fractions else arguments.percent)


def _of_training(arguments: argparse.Namespace) -> Advice:
    if not (arguments.data and arguments.model):
        raise ConfigError("give a TABLE, or --data and --model to train with")
    if odd := [f"--{name}" for name in ("other", "percent", "fractions") if getattr(arguments, name)]:
        raise ConfigError(f"{', '.join(odd)}: only with a TABLE; --data and --model train the runs that are compared")
    if arguments.seeds < 1:
        raise ConfigError(f"--seeds {arguments.seeds}: at least 1")
    sys.path.insert(0, str(Path.cwd()))  # modules of your own are found in the current folder
    base = RunConfig(**{"dataset": arguments.data, "model": arguments.model, **changed(arguments)})
    runs = variants(base, range(arguments.seeds), arguments.weight_decays, distil=base.teacher is None)
    tables = train(runs, jobs=arguments.jobs)
    return advise(tables.pop(YOURS), others=tables)


if __name__ == "__main__":
    sys.exit(main())
