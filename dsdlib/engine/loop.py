"""Epochs of training steps, and evaluation.

A stack of same-shaped runs is one matrix of weights, a row a run. On a CPU the row of a fully connected ReLU network
whose layers have at least four neurons does not depend, to the last bit, on which other runs share the stack.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dsdlib.calibration import calibration_error
from dsdlib.engine.device import PLAIN, Engine, evaluation_batch
from dsdlib.engine.network import Forward, ModuleTrainer, Network
from dsdlib.engine.sparse import sparse_layers
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.engine.step import Progress, Recipe, Replayed, Step, TrainingData, gather_rows
from dsdlib.entropy import NeuronStates

BeforeStep = Callable[[Tensor], None]  # gets the weights (runs, parameters)
# Gets the epoch, positions of runs, their forward pass, and the logits (runs, n, classes) and labels (runs, n) of the
# epoch's batches; a batch's logits are those before its step.
AfterEpoch = Callable[[int, list[int], Forward, Tensor, Tensor], None]
# Gets positions of runs, and a function that returns their progress. After their last epoch of the round it may
# still be called, and returns the progress at that epoch's end.
Checkpoint = Callable[[list[int], Callable[[], Progress]], None]


@dataclass(frozen=True)
class Callbacks:
    """Functions that a training calls: before the steps of the given numbers, and, in this order, after every epoch."""

    before_step: Mapping[int, BeforeStep] = field(default_factory=dict)
    after_epoch: AfterEpoch | None = None
    checkpoint: Checkpoint | None = None


def train(
    network: Network,
    weights: Tensor,
    masks: Tensor,
    data: TrainingData,
    recipe: Recipe,
    generators: list[torch.Generator],
    engine: Engine = PLAIN,
    callbacks: Callbacks = Callbacks(),
) -> Tensor:
    """Train ``weights`` (runs, parameters) from the recipe's first step to its end, and return the result.

    Weights whose ``masks`` (runs, parameters) are 0 are exactly zero after every step. ``generators``, one a run, draw
    the order of the data. On a CPU, runs whose layers are sparse enough are trained with sparse products.
    """
    network.module.train()
    trained, by_run = weights * masks, [()] * len(weights)
    if engine.sparse and network.stackable and weights.device.type == "cpu" and not callbacks.before_step:
        by_run = sparse_layers(network.module, network.parameters(masks))
    for sparse in dict.fromkeys(by_run):
        runs = [run for run, layers in enumerate(by_run) if layers == sparse]
        own = trained[runs]
        if network.stackable:
            trainer = StackedTrainer(network, own, masks[runs], sparse, whole_images=recipe.augment)
        else:
            trainer = ModuleTrainer(network, own, masks[runs], engine, recipe.batch_size)
        step = Step(trainer, data.of(runs), recipe.of(runs))
        _run_epochs(step, own, [generators[run] for run in runs], engine, callbacks, runs)
        trained[runs] = own.detach().masked_fill_(masks[runs] == 0, 0.0)
    return trained


def _run_epochs(
    step: Step,
    weights: Tensor,
    generators: list[torch.Generator],
    engine: Engine,
    callbacks: Callbacks,
    runs: list[int],
) -> None:
    """Take all steps of the recipe; afterwards ``weights`` hold the result. ``runs`` are their positions."""
    recipe, take = step.recipe, Replayed(step) if engine.graphed and weights.is_cuda else step
    steps = -(-step.data.rows.shape[1] // recipe.batch_size)
    for epoch in range(recipe.first_step // steps, recipe.epochs):
        outputs = []
        for number, batch in enumerate(step.begin_epoch(epoch, generators), epoch * steps):
            if number < recipe.first_step:
                continue
            if number in callbacks.before_step:
                step.trainer.write()
                callbacks.before_step[number](weights)
            logits = take(batch)
            if callbacks.after_epoch is not None:
                outputs.append((logits.clone(), batch[2]))
        if callbacks.after_epoch is not None:
            logits, labels = (torch.cat(parts, 1) for parts in zip(*outputs, strict=True))
            callbacks.after_epoch(epoch, runs, step.trainer.forward_function(), logits, labels)
            step.trainer.module.train()  # which forward_function has put into evaluation mode
        if callbacks.checkpoint is not None:
            callbacks.checkpoint(runs, partial(step.progress, epoch + 1, generators))
    step.trainer.write()


@torch.no_grad()
def evaluate(
    forward: Forward,
    x: Tensor,
    rows: Tensor | None,
    labels: Tensor,
    states: NeuronStates | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The `predictions` for data: loss, correctness and confidence, each (runs, n).

    ``rows`` (runs, n) selects each run's inputs from ``x``; with None every run gets all of ``x``. ``labels`` are
    (runs, n). ``states`` counts the active neurons. The default batch size is `evaluation_batch`.
    """
    batch_size = batch_size or evaluation_batch(x.device)
    batches = []
    for start in range(0, labels.shape[1], batch_size):
        part = slice(start, start + batch_size)
        target = labels[:, part]
        inputs = x[part].expand(len(labels), *x[part].shape) if rows is None else gather_rows(x, rows[:, part])
        if states is not None:
            states.begin_batch(target.shape[1])
        with states or nullcontext():
            logits = forward(inputs)
        batches.append(predictions(logits, target))
    if not batches:
        return labels.float(), labels.bool(), labels.float()
    losses, correct, confidences = (torch.cat(parts, 1) for parts in zip(*batches, strict=True))
    return losses, correct, confidences


def predictions(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Loss, correctness, and confidence (the largest softmax probability) of every prediction, each (runs, n).

    ``logits`` are (runs, n, classes) and ``labels`` (runs, n).
    """
    logits = logits.mT
    highest, classes = logits.max(1, keepdim=True)
    confidences = (logits - highest).exp_().sum(1).reciprocal_()
    return cross_entropy(logits, labels, reduction="none"), classes.squeeze(1) == labels, confidences


def mean_columns(part: str, losses: Tensor, correct: Tensor, confidences: Tensor) -> dict[str, Tensor]:
    """Mean ``<part>_accuracy`` and ``<part>_loss`` and the ``<part>_ece`` (`calibration_error`), each (runs,).

    The arguments are what `predictions` returns. An accuracy is NaN if the loss is not finite.
    """
    loss = losses.double().mean(1)
    accuracy = correct.double().mean(1).masked_fill(~loss.isfinite(), torch.nan)
    error = calibration_error(confidences, correct)
    return {f"{part}_accuracy": accuracy, f"{part}_loss": loss, f"{part}_ece": error}


def score_columns(forward: Forward, parts: dict[str, tuple[Tensor, Tensor | None, Tensor]]) -> dict[str, Tensor]:
    """`mean_columns` of several parts of the data: names, and x, rows and labels as `evaluate` takes them."""
    columns = {}
    for name, part in parts.items():
        columns |= mean_columns(name, *evaluate(forward, *part))
    return columns
