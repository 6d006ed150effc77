"""A configuration's network and its identity, and the checks that need its data or network."""

import hashlib
import json

import torch
from torch import nn

from dsdlib.config import ConfigError, RunConfig
from dsdlib.cost import forward_cost, training_flops
from dsdlib.data import Dataset
from dsdlib.data import load as load_dataset
from dsdlib.engine.network import Network
from dsdlib.models import build as build_network
from dsdlib.noise import confusions, labels_for
from dsdlib.pruning import plan

# Runs of one stack may differ in these fields only.
PER_RUN = {"seed", "noise_kind", "noise_rate", "noise_labels", "lr", "weight_decay"}
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
    """SHA-256 sums of the run's data set and of the shapes of its network's parameters."""
    shapes = repr([(name, tuple(p.shape)) for name, p in build(config).named_parameters()])
    return {
        "data_sha256": load_dataset(config.dataset).checksum(),
        "network_sha256": hashlib.sha256(shapes.encode()).hexdigest(),
    }


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
    pruning_plan(config, network)
    _check_start(config, network)
    _check_logits(config, network.eval(), dataset)
    _check_teacher(config, dataset)


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


@torch.no_grad()
def _check_logits(config: RunConfig, network: nn.Module, dataset: Dataset) -> None:
    try:
        logits, again = network(dataset.train_x[:2]), network(dataset.train_x[:2])
    except Exception as error:
        raise ConfigError(f"model = {config.model!r}: cannot take {dataset.input_shape} inputs ({error})") from None
    if logits.shape != (2, dataset.classes):
        raise ConfigError(
            f"model = {config.model!r}: returns {tuple(logits.shape)} for 2 images of {dataset.classes} classes"
        )
    if not torch.equal(logits, again):
        raise ConfigError(f"model = {config.model!r}: its logits in evaluation mode are random")


def _check_teacher(config: RunConfig, dataset: Dataset) -> None:
    if config.teacher is None:
        return
    other = load_dataset(config.teacher.dataset)
    if (other.classes, other.input_shape) != (dataset.classes, dataset.input_shape):
        raise ConfigError(
            f"teacher: knows {other.classes} classes of {other.input_shape} inputs, "
            f"its student learns {dataset.classes} of {dataset.input_shape}"
        )
