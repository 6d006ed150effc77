"""A configuration's network and its identity, and the checks that need its data or network."""

import hashlib
import json
import math
from contextlib import suppress

import torch
from torch import nn

from dsdlib.config import ConfigError, RunConfig
from dsdlib.cost import forward_cost, training_flops
from dsdlib.data import Dataset
from dsdlib.data import load as load_dataset
from dsdlib.engine.network import Network
from dsdlib.engine.soundness import check_logits, check_parameters, check_training
from dsdlib.models import build as build_network
from dsdlib.noise import confusions, labels_for
from dsdlib.pruning import plan

# Runs of one stack may differ in these fields only.
PER_RUN = {"seed", "noise_kind", "noise_rate", "noise_labels", "lr", "weight_decay", "control"}
PER_RUN |= {"criterion", "schedule", "start", "start_round", "teacher", "teacher_round", "alpha", "temperature"}


def build(config: RunConfig, draw: int = 0) -> nn.Module:
    """The run's initialised network. ``draw`` counts its re-initialisations."""
    dataset = load_dataset(config.dataset)
    shape = dataset.input_shape, dataset.classes
    return build_network(config.model, *shape, config.model_args, config.seed, draw, config.initialisation)


def pruning_plan(config: RunConfig, network: nn.Module) -> tuple[list[torch.Tensor], list[list[int]]]:
    """`dsdlib.pruning.plan` of the run: groups of weights that compete, and how many of each are left in each round."""
    return plan(network, config.prunable, config.scope, config.amount, config.rounds, config.amount_of)


def identity(config: RunConfig) -> dict[str, str]:
    """SHA-256 sums of the run's data set, of the shapes of its network's parameters, and of its initial logits.

    They do not depend on the seed. A network that cannot compute in float64 has no sum of logits.
    """
    dataset, network = load_dataset(config.dataset), build(config.vary(seed=0))
    contents = {"network_sha256": [(name, tuple(p.shape)) for name, p in network.named_parameters()]}
    with suppress(RuntimeError):
        contents["logits_sha256"] = _rounded_logits(network, dataset.input_shape)
    sums = {name: hashlib.sha256(repr(content).encode()).hexdigest() for name, content in contents.items()}
    return {"data_sha256": dataset.checksum(), **sums}


@torch.no_grad()
def _rounded_logits(network: nn.Module, input_shape: tuple[int, ...]) -> list[list[int]]:
    """A network's logits for four fixed inputs, in thousandths of the largest one.

    They are computed in float64 and rounded, so that the last bits of a machine's arithmetic do not matter.
    """
    inputs = torch.arange(4 * math.prod(input_shape), dtype=torch.float64).sin().view(4, *input_shape)
    logits = network.double().eval()(inputs)
    return (1000 * logits / logits.abs().max()).nan_to_num().round().long().tolist()


def stack_shape(config: RunConfig) -> str:
    """Batching key: equal for configurations that differ only in fields a stack may vary (`PER_RUN`)."""
    shared = config.model_dump(mode="json", exclude=PER_RUN)
    return json.dumps([shared, sorted(config.sources())], sort_keys=True)


def stackable(config: RunConfig) -> bool:
    """Whether the run's network can share a stack with others."""
    return Network(build(config)).stackable


def training_cost(config: RunConfig) -> float:
    """FLOPs of all the run's rounds, pruned weights included: a measure of how long it takes relative to other runs."""
    dataset = load_dataset(config.dataset)
    samples = (config.epochs + config.rounds * config.epochs_of(1)) * len(dataset.train_y)
    return training_flops(*forward_cost(build(config), dataset.input_shape), samples)


def check(config: RunConfig) -> None:
    """Raise `ConfigError` if the run's data or network show that it is impossible. Trains nothing."""
    dataset = load_dataset(config.dataset)
    labels = labels_for(config, dataset)
    if config.batch_size > (n := len(labels.train_rows)):
        raise ConfigError(f"batch_size = {config.batch_size}: the data has only {n} training images")
    if config.augment and len(dataset.input_shape) != 3:
        raise ConfigError(f"augment = True: {config.dataset} holds {dataset.input_shape} inputs, not images")
    known = confusions(dataset.class_names, dataset.superclass)
    if config.noise_kind == "asymmetric" and config.noise_rate and not known:
        raise ConfigError(f"noise_kind = 'asymmetric': no confusions are known for the classes of {config.dataset}")
    iterations = min(config.epochs, config.epochs_of(1)) * -(-n // config.batch_size)
    if config.rewind_iteration >= iterations:
        raise ConfigError(f"rewind_iteration = {config.rewind_iteration}: a training has {iterations} iterations")
    network = build(config)
    check_parameters(config, network)
    _check_build(config, network)
    pruning_plan(config, network)
    _check_start(config, network)
    check_logits(config, network.eval(), dataset)
    last_batch = (n - 1) % config.batch_size + 1
    check_training(config, network.train(), dataset.train_x[: min(last_batch, 2)])
    _check_teacher(config, dataset)


def _check_build(config: RunConfig, network: nn.Module) -> None:
    """Refuse a factory that does not make a new network with the same parameters from the same seed."""
    again = build(config)
    if again is network:
        raise ConfigError(f"model = {config.model!r}: returns the same network at every call; it must make a new one")
    for (name, parameter), other in zip(network.named_parameters(), again.parameters(), strict=True):
        if not torch.equal(parameter, other):
            raise ConfigError(
                f"model = {config.model!r}: {name} is not the same when it is made again with the same seed; allowed: "
                "random numbers of PyTorch's global generator"
            )


def _check_start(config: RunConfig, network: nn.Module) -> None:
    if config.start is None:
        return
    both = network, build(config.start)
    parameters, others = ([tuple(p.shape) for p in one.parameters()] for one in both)
    buffers = {tuple(name for name, _ in one.named_buffers()) for one in both}
    if parameters != others or len(buffers) > 1:
        raise ConfigError(
            f"start: run {config.start.key} is another network, {config.start.model}; its weights do not fit"
        )


def _check_teacher(config: RunConfig, dataset: Dataset) -> None:
    if config.teacher is None:
        return
    other = load_dataset(config.teacher.dataset)
    if (other.classes, other.input_shape) != (dataset.classes, dataset.input_shape):
        raise ConfigError(
            f"teacher: knows {other.classes} classes of {other.input_shape} inputs, "
            f"its student learns {dataset.classes} of {dataset.input_shape}"
        )
