"""Losses between and around stored solutions (He et al. 2022, section 5): nothing is trained.

Whole stacks of points are measured at once. The measurements are stored beside the run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector
from tqdm import tqdm

from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.device import resolve_device, settings
from dsdlib.engine.loop import score_columns
from dsdlib.engine.network import Network
from dsdlib.engine.stack import Stack
from dsdlib.geometry import between, filter_normalised
from dsdlib.seeding import torch_generator
from dsdlib.study.executors import resolve_executor
from dsdlib.study.files import Row
from dsdlib.study.parallel import WorkerDied, dispatch, local, worker_count
from dsdlib.study.runs import load_model
from dsdlib.study.store import Store

STACK_SIZE = 4  # points in a stack; more were measured to be slower, as they leave the processor's cache

# Maps values (n,) to weights (n, parameters) and buffers (n, buffers), both on the CPU.
Points = Callable[[Tensor], tuple[Tensor, Tensor]]


class LossProbe:
    """Measures losses and accuracies of given weights on a run's own training data, noisy labels included, and on the
    test data."""

    def __init__(self, run: RunConfig, device: str):
        self.run, self.stack = run, Stack([run], resolve_device(device))
        data = self.stack.data
        self.data = {"train": (data.x[data.rows[0]], data.labels[0]), "test": self.stack.test}

    def rows(self, points: Points, name: str, values: Tensor, parts: Sequence[str]) -> list[Row]:
        """A row for each of the ``values`` (n,), which become the column ``name``, with the measures on the ``parts``
        of the data (``train``, ``test``) at the points that belong to the values."""
        with settings(self.stack.device):
            size = STACK_SIZE if self.stack.network.stackable else 1
            measured = [self._measured(*points(some), parts) for some in values.split(size)]
        columns = {name: values.tolist()}
        columns |= {measure: torch.cat([part[measure] for part in measured]).tolist() for measure in measured[0]}
        run = {"key": self.run.key, "seed": self.run.seed, "start_round": self.run.start_round}
        return [{**run, **dict(zip(columns, row, strict=True))} for row in zip(*columns.values(), strict=True)]

    def _measured(self, points: Tensor, buffers: Tensor, parts: Sequence[str]) -> dict[str, Tensor]:
        network, device = self.stack.network, self.stack.device
        network.set_buffers(_named_buffers(buffers[0].to(device), network))
        chosen = {part: (self.data[part][0], None, self.data[part][1].expand(len(points), -1)) for part in parts}
        return score_columns(network.forward_function(points.to(device)), chosen)


def paths(
    runs: Sequence[RunConfig],
    steps: int = 100,
    *,
    jobs: int = 1,
    device: str = "auto",
    results: Path | str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Losses on the straight line from each run's ``start`` (α = 0) to the end of its dense round (α = 1).

    Returns a row a run and α: ``key``, ``seed``, ``start_round``, ``alpha``, and train and test accuracy and loss.
    BatchNorm's statistics are interpolated, too. Raises `ConfigError` for a run without a start, and for no steps.
    """
    if steps < 1:
        raise ConfigError(f"steps = {steps}: at least 1")
    if without := [run.key for run in runs if run.start is None]:
        raise ConfigError(f"paths: run {without[0]} has no start, where its path would begin")
    how = _path, f"path-{steps}"
    work = partial(_stored, *how, how=(steps, device), results=Store(results).root)
    return _gathered(work, runs, jobs, "Paths", progress)


def _path(run: RunConfig, steps: int, device: str, results: Path | str | None) -> list[Row]:
    ends = [load_model(run.start, run.start_round, results), load_model(run, "dense", results)]
    (one, other), (ones, others) = map(_vector, ends), map(_buffer_vector, ends)

    def points(alphas: Tensor) -> tuple[Tensor, Tensor]:
        return between(one, other, alphas), between(ones, others, alphas)

    alphas = torch.arange(steps + 1, dtype=torch.float64) / steps
    return LossProbe(run, device).rows(points, "alpha", alphas, ("train", "test"))


def slices(
    runs: Sequence[RunConfig],
    radius: float = 1.0,
    steps: int = 20,
    directions: int = 3,
    *,
    jobs: int = 1,
    device: str = "auto",
    results: Path | str | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """The training loss along random filter-normalised directions from the end of each run's dense round.

    Offsets go from −``radius`` to ``radius`` in an even number of ``steps``. Runs with the same seed share the random
    numbers of their directions. Returns a row a run, ``direction`` and ``offset``, with train loss and accuracy.
    BatchNorm keeps its statistics. Raises `ConfigError` for an odd number of steps, which has no middle.
    """
    if steps < 2 or steps % 2:
        raise ConfigError(f"steps = {steps}: an even number from 2, so that the middle is a point")
    if radius <= 0 or directions < 1:
        raise ConfigError(f"radius = {radius}, directions = {directions}: more than 0, and at least 1")
    how = _slices, f"slices-{float(radius)}-{steps}-{directions}"
    work = partial(_stored, *how, how=(radius, steps, directions, device), results=Store(results).root)
    return _gathered(work, runs, jobs, "Slices", progress)


def _slices(
    run: RunConfig, radius: float, steps: int, directions: int, device: str, results: Path | str | None
) -> list[Row]:
    probe, network, rows = LossProbe(run, device), load_model(run, "dense", results), []
    offsets = radius * torch.arange(-steps // 2, steps // 2 + 1, dtype=torch.float64) / (steps // 2)
    centre, shapes, buffers = _vector(network), [p.shape for p in network.parameters()], _buffer_vector(network)
    for number in range(directions):
        drawn = torch.randn(len(centre), generator=torch_generator(run.seed, "direction", number))
        direction = filter_normalised(drawn, centre, shapes)

        def points(some: Tensor, direction: Tensor = direction) -> tuple[Tensor, Tensor]:
            return centre + some.unsqueeze(1).float() * direction, buffers.expand(len(some), -1)

        rows += [{**row, "direction": number} for row in probe.rows(points, "offset", offsets, ("train",))]
    return rows


def _stored(
    measure: Callable[..., list[Row]], name: str, runs: list[RunConfig], how: tuple[Any, ...], results: Path
) -> list[Row]:
    """Rows of one run from the store; if they are absent, they are measured and stored under the run's lock."""
    store, (run,) = Store(results), runs
    if rows := store.measured(run, name):
        return rows
    with store.locked([run]):
        if not (rows := store.measured(run, name)):
            rows = measure(run, *how, results)
            store.save_measured(run, name, rows)
    return rows


def _gathered(work: partial[list[Row]], runs: Sequence[RunConfig], jobs: int, name: str, show: bool) -> pd.DataFrame:
    """The rows of all runs as a table, in their order, measured by that many processes or by the named executor.

    ``work`` is `_stored` of all but the runs and the store.
    """
    store, file = Store(work.keywords["results"]), work.args[1]
    rows = {run: found for run in runs if (found := store.measured(run, file))}
    absent = [run for run in dict.fromkeys(runs) if run not in rows]
    bar = tqdm(total=len(rows) + len(absent), initial=len(rows), desc=name, file=sys.stdout, disable=not show, ncols=90)
    executor = resolve_executor() if absent else None
    with bar, nullcontext(executor) if executor else local(min(worker_count(jobs), len(absent))) as chosen:
        for (run,), found in dispatch(work, [[run] for run in absent], chosen):
            if isinstance(found, WorkerDied):
                raise found
            rows[run] = found
            bar.update()
    return pd.DataFrame([row for run in runs for row in rows[run]])


def _vector(network: nn.Module) -> Tensor:
    return parameters_to_vector(network.parameters()).detach()


def _buffer_vector(network: nn.Module) -> Tensor:
    """All buffers as one float vector."""
    return torch.cat([torch.zeros(0), *(buffer.flatten().float() for buffer in network.buffers())])


def _named_buffers(vector: Tensor, network: Network) -> dict[str, Tensor]:
    """The inverse of `_buffer_vector`."""
    like = network.buffers()
    parts = vector.split([buffer.numel() for buffer in like.values()]) if like else ()
    return {name: part.view_as(like[name]) for name, part in zip(like, parts, strict=True)}
