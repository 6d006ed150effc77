"""The papers' own scale on a GPU, some minutes at a time: check, time, then run a profile, the most telling runs first.

Run ``python -m dsdlib.report.paper --minutes 9`` again and again until it says that all is done. Finished rounds stay
in the store, and ``make report PROFILE=cifar10`` shows them on any machine.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.device import resolve_device, resolve_engine
from dsdlib.engine.stack import Stack
from dsdlib.report import command, execute, pages
from dsdlib.report.parameters import notebook_parameters, project_root, read_profile
from dsdlib.study import performance
from dsdlib.study.files import write_whole
from dsdlib.study.provenance import describe_machine

# Notebook, and what of it comes first: He et al.'s Figure 1, DSD2's Figure 1, ResNet-18 under DSD2's noise rates.
FIRST = (
    ("01_phenomenon", {"noise_rates": [0.2], "seeds": [0], "more_seeds": []}),
    ("03_distillation", {"seeds": [0]}),
    ("06_label_noise", {"noise_rates": [0.1, 0.2, 0.5], "human_labels": [], "seeds": [0]}),
)


def chain(root: Path, profile: str, notebook: str, changes: dict[str, Any]) -> RunConfig:
    """The configuration of a run such as that notebook's, with seed 0."""
    parameters = read_profile(root, profile, [notebook], _known(root, [notebook], changes))[notebook]
    config = RunConfig(**parameters.get("recipe", {}) | parameters.get("own_recipe", {}))
    return config.vary(noise_rate=parameters.get("noise_rates", [config.noise_rate])[-1], seed=0)


def _known(root: Path, notebooks: Sequence[str], changes: dict[str, Any]) -> dict[str, Any]:
    """The changes that these notebooks can take."""
    taken = {p for n in notebooks for p in notebook_parameters(root / "notebooks" / f"{n}.ipynb")}
    return {name: value for name, value in changes.items() if name in taken | RunConfig.model_fields.keys()}


def agreement(config: RunConfig, device: torch.device) -> str:
    """The fast engine beside the plain one, on a run of a few epochs."""
    small = config.vary(epochs=2, milestones=[], rounds=1, retraining="lr_rewinding", rewind_iteration=0)
    ends = performance.engines([small], device).pivot(index="round", columns="engine", values="test_accuracy")
    gap = (ends["fast"] - ends["plain"]).abs().max()
    return f"after 2 rounds of 2 epochs, test accuracies of both engines are {100 * gap:.1f} points apart at most"


def forecast(config: RunConfig, device: torch.device) -> str:
    """What an epoch takes, and so what the whole chain will."""
    engine = resolve_engine("auto", device)
    stack = Stack([config], device, engine=engine)
    seconds = performance.epoch_seconds(stack, stack.fresh(), 1, engine)
    whole = pages.duration(seconds * config.epochs * (config.rounds + 1))
    return f"{seconds:.2f} s an epoch, {whole} for {config.rounds + 1} rounds of {config.epochs} epochs"


def check(root: Path, profile: str, changes: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Whether the engines agree, and how long the chains will take."""
    chains = {name: chain(root, profile, name, {**changes, **first}) for name, first in FIRST}
    found = {"machine": describe_machine(device)}
    for name, config in chains.items():
        title = f"{name}: {config.model} {config.model_args}"
        found[title] = {"engines": agreement(config, device), "time": forecast(config, device)}
        print(title, *found[title].values(), sep="\n  ", flush=True)
    return found


def main(argv: Sequence[str] | None = None, root: Path | None = None) -> int:
    """The exit code: 0 when all is done, 3 when the time was over, else the report's."""
    parser = argparse.ArgumentParser(prog="python -m dsdlib.report.paper", description=__doc__.split("\n")[0])
    parser.add_argument("--profile", default="cifar10", help="a folder of parameters/ (default: cifar10)")
    parser.add_argument("--minutes", type=float, default=9, help="stop then (default: 9)")
    command.take_changes(parser)
    arguments, start = parser.parse_args(argv), time.monotonic()
    try:
        changes = command.changed(arguments)
        root = root or project_root()
        read_profile(root, arguments.profile, changes=changes)  # refuses a change that no notebook takes
        device = resolve_device("auto")
        if device.type == "cpu":
            print("There is no GPU here: at the papers' scale this will take weeks.", file=sys.stderr)
        file = root / "reports" / f"{arguments.profile}-check.json"
        if not file.exists():
            found = check(root, arguments.profile, changes, device)
            file.parent.mkdir(exist_ok=True)
            write_whole(file, lambda draft: draft.write_text(json.dumps(found, indent=2) + "\n"))
    except (ConfigError, ValueError, yaml.YAMLError) as refusal:
        print(f"paper: {refusal}", file=sys.stderr)
        return 2
    profile = read_profile(root, arguments.profile)
    studies = [name for name in profile if not execute.alone(root / "notebooks" / f"{name}.ipynb")]  # no timings
    for notebooks, first in [*(([name], first) for name, first in FIRST), (studies, {})]:
        options = ["--only", *notebooks]
        for name, value in _known(root, notebooks, {**first, **changes}).items():
            options += ["-p", name, yaml.safe_dump(value)]
        left = arguments.minutes - (time.monotonic() - start) / 60
        if code := command.main([arguments.profile, *options, "--minutes", str(max(left, 0.01))], root):
            return code
    print("All is done.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
