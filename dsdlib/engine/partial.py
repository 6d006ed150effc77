"""Rounds that stop half way: what a run needs to go on from the end of an epoch, as tensors that can be stored.

A training that goes on gives the same last bits as one that was never stopped.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Progress

Partial = dict[str, Tensor]  # of one run

ROWS = ("weights", "velocity", "square", "generators")


def partials_of(stack: Stack, runs: list[int], progress: Progress, seconds: Sequence[float]) -> list[Partial]:
    """What each of the ``runs`` (positions in the stack) needs to go on.

    ``seconds`` is what each run of the stack has taken in this round.
    """
    shared = {"epoch": torch.tensor(progress.epoch), "taken": progress.taken, "layers.cpu": torch.get_rng_state()}
    if stack.device.type == "cuda":
        shared["layers.cuda"] = torch.cuda.get_rng_state(stack.device)
    shared |= {f"buffer.{name}": buffer for name, buffer in stack.network.buffers().items()}
    shared |= {f"rewind_buffer.{name}": buffer for name, buffer in stack.rewind_point.buffers.items()}
    rows = {name: part for name in ROWS if (part := getattr(progress, name)) is not None}
    return [
        {**shared, **{name: part[position] for name, part in rows.items()}}
        | {"rewind_weights": stack.rewind_point.weights[run], "seconds": torch.tensor(seconds[run])}
        for position, run in enumerate(runs)
    ]


def resume(stack: Stack, partials: Sequence[Partial]) -> Progress:
    """The inverse of `partials_of`, for all runs of a stack. Restores its rewinding point, too."""

    def stacked(name: str) -> Tensor | None:
        return torch.stack([partial[name] for partial in partials]).to(stack.device) if name in partials[0] else None

    def named(kind: str) -> dict[str, Tensor]:
        return {n.removeprefix(kind): part for n, part in partials[0].items() if n.startswith(kind)}

    rewound = {name: buffer.to(stack.device) for name, buffer in named("rewind_buffer.").items()}
    stack.rewind_point = replace(stack.rewind_point, weights=stacked("rewind_weights"), buffers=rewound)
    weights, velocity, square, generators = map(stacked, ROWS)
    more = named("buffer."), named("layers.")
    return Progress(int(partials[0]["epoch"]), weights, velocity, square, partials[0]["taken"], generators.cpu(), *more)
