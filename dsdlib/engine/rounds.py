"""The rounds of iterative pruning (prune, rewind, retrain, measure) and the rows they add to the tidy table."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from dsdlib.config import RunConfig
from dsdlib.cost import training_flops
from dsdlib.engine.loop import Callbacks, evaluate, mean_columns, predictions, score_columns
from dsdlib.engine.network import Forward
from dsdlib.engine.partial import Partial, partials_of, resume
from dsdlib.engine.rows import Row, mark_diverged
from dsdlib.engine.stack import Stack, State
from dsdlib.engine.step import Progress
from dsdlib.entropy import NeuronStates, entropy_columns
from dsdlib.geometry import learning_distance
from dsdlib.pruning import layer_names


def run_rounds(
    stack: Stack,
    state: State,
    first: int,
    save: Callable[[int, State, list[Row]], None],
    save_epoch: Callable[[int, int, list[int], list[Row]], None] | None = None,
    checkpoint: Callable[[int, list[int], Callable[[], list[Partial]]], None] | None = None,
    partials: Sequence[Partial] = (),
) -> None:
    """Carry a stack from round ``first`` to its last.

    ``save`` gets each finished round: its number, its state, and a row for each run. ``save_epoch`` gets each finished
    epoch: round, epoch, positions of runs in the stack, and these runs' rows (`measure_epoch`). Then ``checkpoint``
    gets the round, the positions, and a function that returns what these runs need to go on from there; with such
    ``partials``, one a run and all of the same epoch, round ``first`` goes on in its middle.
    """
    for round_ in range(first, stack.shared.rounds + 1):
        clock = _Clock(len(stack.configs), partials if round_ == first else ())

        def after_epoch(epoch: int, runs: list[int], *outputs: Any, round_: int = round_) -> None:
            save_epoch(round_, epoch, runs, measure_epoch(stack, runs, *outputs))

        def after_that(
            runs: list[int], progress: Callable[[], Progress], round_: int = round_, clock: _Clock = clock
        ) -> None:
            checkpoint(round_, runs, lambda: partials_of(stack, runs, progress(), clock.seconds()))

        callbacks = Callbacks({}, after_epoch if save_epoch else None, after_that if checkpoint else None)
        progress = resume(stack, partials) if partials and round_ == first else None
        state = stack.advance(state, round_, callbacks, progress)
        rows = measure(stack, state, round_)
        save(round_, state, [{**row, "seconds": taken} for row, taken in zip(rows, clock.seconds(), strict=True)])


class _Clock:
    """How long each run of a stack has taken in a round, what it took before it was stopped included."""

    def __init__(self, runs: int, partials: Sequence[Partial]):
        self.started, self.before = time.perf_counter(), [float(p["seconds"]) for p in partials] or [0.0] * runs

    def seconds(self) -> list[float]:
        share = (time.perf_counter() - self.started) / len(self.before)
        return [share + before for before in self.before]


def measure(stack: Stack, state: State, round_: int) -> list[Row]:
    """All measures at the end of a round, a row for each run; ``diverged`` tells of this round alone."""
    network, data = stack.network, stack.data
    network.set_buffers(state.buffers)
    forward, states = network.forward_function(state.weights), NeuronStates(network.stackable)
    loss, correct, confidence = evaluate(forward, data.x, data.rows, data.labels, states)
    columns = mean_columns("train", loss, correct, confidence) | {
        "train_accuracy_corrupted": _mean_where(correct, stack.corrupted),
        "train_accuracy_clean": _mean_where(correct, ~stack.corrupted),
        "corrupted_fraction": stack.corrupted.double().mean(1),
    }
    columns |= score_columns(forward, {"validation": (data.x, *stack.validation), "test": stack.tests()})
    columns["pruned_test_accuracy"] = torch.full_like(columns["test_accuracy"], torch.nan)
    if state.untrained is not None:
        columns["pruned_test_accuracy"] = state.untrained
    columns |= entropy_columns(states) | _distances(stack, state) | _costs(stack, state, round_)
    rows = zip(stack.configs, _by_run(columns, len(stack.configs)), strict=True)
    return [mark_diverged([{"round": round_, **_sparsity(stack, config, round_), **row}])[0] for config, row in rows]


def _sparsity(stack: Stack, config: RunConfig, round_: int) -> Row:
    """The number of prunable weights left, and the share of those counted that are pruned."""
    left = stack.remaining[0 if config.control == "dense" else round_]
    counted, total = left + stack.spared, stack.remaining[0] + stack.spared
    return {"sparsity": 1 - counted / total, "remaining_weights": left}


def measure_epoch(stack: Stack, runs: list[int], forward: Forward, logits: Tensor, labels: Tensor) -> list[Row]:
    """Accuracy, loss and calibration of an epoch, a row for each of the ``runs``.

    Validation and test measures are those of the ``forward`` pass, that is, after the epoch. Train measures are those
    of the ``logits`` (runs, n, classes) of its batches, each before its step, and of their ``labels`` (runs, n); to
    evaluate all training data after every epoch would take half as long as to train on them.
    """
    rows, truth = (part[runs] for part in stack.validation)
    tests, everywhere, test_labels = stack.tests()
    parts = {"validation": (stack.data.x, rows, truth), "test": (tests, everywhere, test_labels[runs])}
    columns = mean_columns("train", *predictions(logits, labels)) | score_columns(forward, parts)
    return _by_run(columns, len(runs))


def _distances(stack: Stack, state: State) -> dict[str, Tensor]:
    """`learning_distance` of all parameters, and of each convolution and linear layer, numbered from 1."""
    module = stack.network.module
    layers = {name: number for number, name in enumerate(layer_names(module), 1)}
    owners = [layers.get(name.rpartition(".")[0], 0) for name in stack.network.names]
    squares = learning_distance(stack.initial, state.weights, stack.network.sizes).square()
    columns = {"learning_distance": squares.sum(1).sqrt()}
    for number in layers.values():
        mine = [part for part, owner in enumerate(owners) if owner == number]
        columns[f"learning_distance_{number}"] = squares[:, mine].sum(1).sqrt()
    return columns


def _costs(stack: Stack, state: State, round_: int) -> dict[str, Tensor]:
    """The round's training FLOPs, (runs,): with all weights, and with the remaining ones only."""
    size, n = stack.shared.batch_size, stack.data.rows.shape[1]
    skipped = stack.shared.rewind_iteration if round_ > 0 else 0
    samples = stack.shared.epochs_of(round_) * n - skipped // -(-n // size) * n - skipped % -(-n // size) * size
    masks = stack.network.parameters(state.masks)
    dense = training_flops(*stack.cost, samples)
    return {
        "train_flops": torch.full((len(stack.configs),), dense, dtype=torch.float64),
        "train_flops_sparse": training_flops(*stack.cost, samples, masks),
    }


def _by_run(columns: dict[str, Tensor], runs: int) -> list[Row]:
    """Columns (runs,) as a row for each run."""
    values = {name: column.tolist() for name, column in columns.items()}
    return [{name: column[run] for name, column in values.items()} for run in range(runs)]


def _mean_where(correct: Tensor, where: Tensor) -> Tensor:
    """The mean over the samples in ``where``, both (runs, n); not a number if there are none."""
    return (correct & where).sum(1).double() / where.sum(1)
