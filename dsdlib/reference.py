"""Iterative magnitude pruning in plain PyTorch, on one page: build, train, prune, rewind, train again.

This is the study's algorithm without the machinery that makes it fast. The engine (`dsdlib.engine`) computes the same
rounds up to rounding, and 90_performance races it against this program.
"""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from torch import Generator, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune
from torch.utils.data import DataLoader, TensorDataset

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import load
from dsdlib.distillation import student_loss
from dsdlib.models import build
from dsdlib.noise import labels_for
from dsdlib.pruning import prunable_layers, remaining_weights
from dsdlib.seeding import torch_generator

# The fields of a configuration that this program honours. All others must have their defaults.
HONOURED = {"dataset", "validation_fraction", "noise_kind", "noise_rate", "noise_labels", "model", "model_args", "seed"}
HONOURED |= {"initialisation", "prunable", "epochs", "batch_size", "lr", "momentum", "weight_decay", "milestones"}
HONOURED |= {"rounds", "amount", "retraining", "rewind_iteration", "teacher", "teacher_round", "alpha", "temperature"}


def iterative_pruning(
    config: RunConfig, device: torch.device, teacher: nn.Module | None = None
) -> Iterator[tuple[dict[str, Any], nn.Module]]:
    """Carry one run through its rounds. After each round, yield its row and the network.

    A row holds the round, the sparsity, the seed, and the accuracy on the training set, whose labels are noisy, and the
    test set. The network is the same object in every round; its pruned layers hold ``weight_orig`` and ``weight_mask``,
    as `torch.nn.utils.prune` stores them. ``teacher`` is the network to distil from if the configuration has a teacher.
    Raises `ConfigError` for a configuration that asks for anything else than this program does.
    """
    _check(config, teacher)
    dataset = load(config.dataset)
    labels = labels_for(config, dataset)
    train_set = TensorDataset(dataset.train_x[labels.train_rows], labels.train_labels)
    test_set = TensorDataset(dataset.test_x, dataset.test_y)
    shape = dataset.input_shape, dataset.classes
    network = build(config.model, *shape, config.model_args, config.seed, initialisation=config.initialisation)
    network.to(device)
    if teacher is not None:
        teacher.to(device).eval()

    layers = [(layer, "weight") for layer in prunable_layers(network, config.prunable)]
    for layer, name in layers:
        prune.identity(layer, name)  # a mask of ones, so that parameters have the same names in every round
    left = remaining_weights(sum(layer.weight.numel() for layer, _ in layers), config.amount, config.rounds)

    rewind_point, first = {}, 0
    for round_ in range(config.rounds + 1):
        if round_ > 0:
            prune.global_unstructured(layers, prune.L1Unstructured, amount=left[round_ - 1] - left[round_])
        if round_ > 0 and config.retraining == "weight_rewinding":
            unmasked = {name: tensor for name, tensor in rewind_point.items() if not name.endswith("weight_mask")}
            network.load_state_dict(unmasked, strict=False)
            first = config.rewind_iteration
        state = train(network, train_set, config, torch_generator(config.seed, "order", round_), teacher, first)
        rewind_point = rewind_point or state
        scores = {"train_accuracy": accuracy(network, train_set), "test_accuracy": accuracy(network, test_set)}
        yield {"round": round_, "sparsity": 1 - left[round_] / left[0], "seed": config.seed, **scores}, network


def train(
    network: nn.Module, data: TensorDataset, config: RunConfig, rng: Generator, teacher: nn.Module | None, first: int
) -> dict[str, Any]:
    """Train from step ``first`` to the end of the schedule; return the state dict before step ``rewind_iteration``."""
    device = next(network.parameters()).device
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    steps, rewind_point = -(-len(data) // config.batch_size), {}
    network.train()
    for epoch in range(first // steps, config.epochs):
        for group in optimizer.param_groups:
            group["lr"] = config.lr * 0.1 ** sum(milestone <= epoch for milestone in config.milestones)
        order = torch.randperm(len(data), generator=rng).tolist()
        for step, (x, y) in enumerate(DataLoader(data, config.batch_size, sampler=order), epoch * steps):
            if step < first:
                continue
            if step == config.rewind_iteration:
                rewind_point = deepcopy(network.state_dict())
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            logits = network(x)
            if teacher is None:
                loss = cross_entropy(logits, y)
            else:
                loss = student_loss(logits, teacher(x).detach(), y, config.alpha, config.temperature)
            loss.backward()
            optimizer.step()
    return rewind_point


@torch.no_grad()
def accuracy(network: nn.Module, data: TensorDataset) -> float:
    """The fraction of the samples that the network classifies as they are labelled, in evaluation mode."""
    device = next(network.parameters()).device
    network.eval()
    batches = DataLoader(data, batch_size=1000)
    return sum(int((network(x.to(device)).argmax(1) == y.to(device)).sum()) for x, y in batches) / len(data)


def _check(config: RunConfig, teacher: nn.Module | None) -> None:
    """Raise `ConfigError` that names every field with a value that this program would ignore."""
    defaults = {name: field.default for name, field in RunConfig.model_fields.items() if name not in HONOURED}
    wrong = [f"{n} = {getattr(config, n)!r}: allowed: {d!r}" for n, d in defaults.items() if getattr(config, n) != d]
    if config.retraining not in ("lr_rewinding", "weight_rewinding"):
        wrong.append(f"retraining = {config.retraining!r}: allowed: 'lr_rewinding', 'weight_rewinding'")
    if (config.teacher is None) != (teacher is None):
        wrong.append("teacher: a network must be given if and only if the configuration has a teacher")
    if wrong:
        raise ConfigError("\n".join(["the reference program does not do this:", *wrong]))
