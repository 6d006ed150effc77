"""How fast training is: against a conventional loop, by stack size, density and width, and against the machine's limit.

Ways to be compared are timed in turn, in one process, and compared by ratios of neighbouring times: a busy machine then
slows them alike.
"""

from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import prune as torch_prune
from torch.utils.data import DataLoader, TensorDataset

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import load as load_dataset
from dsdlib.engine.build import build
from dsdlib.noise import labels_for
from dsdlib.pruning import prunable_layers, remaining_weights
from dsdlib.seeding import torch_generator


def conventional(config: RunConfig, device: torch.device) -> list[dict[str, Any]]:
    """A run as anyone would write it with PyTorch's own parts: a DataLoader, `torch.nn.utils.prune`, `torch.optim.SGD`.

    It starts from the same weights and sees the same labels in the same order, so that it learns the same but for
    rounding. Returns a row a round. Raises `ConfigError` for what it does not know: other criteria and retraining than
    magnitude and learning-rate rewinding, teachers, augmentation.
    """
    unknown = config.vary(
        criterion="magnitude", retraining="lr_rewinding", teacher=None, augment=False, rewind_iteration=0
    )
    if config != unknown:
        raise ConfigError("the conventional loop knows magnitude and learning-rate rewinding alone, without teacher")
    dataset, network = load_dataset(config.dataset), build(config).to(device)
    labels = labels_for(config, dataset)
    training = TensorDataset(dataset.train_x[labels.train_rows], labels.train_labels)
    testing = DataLoader(TensorDataset(dataset.test_x, dataset.test_y), batch_size=1000)
    layers = [(layer, "weight") for layer in prunable_layers(network, config.prunable)]
    left = remaining_weights(sum(layer.weight.numel() for layer, _ in layers), config.amount, config.rounds)
    rows = []
    for round_ in range(config.rounds + 1):
        if round_ > 0:
            torch_prune.global_unstructured(layers, torch_prune.L1Unstructured, amount=left[round_ - 1] - left[round_])
        _conventional_training(network, training, config, torch_generator(config.seed, "order", round_), device)
        accuracies = {
            f"{name}_accuracy": _accuracy(network, loader, device)
            for name, loader in (("train", DataLoader(training, batch_size=1000)), ("test", testing))
        }
        rows.append({"round": round_, "sparsity": 1 - left[round_] / left[0], "seed": config.seed, **accuracies})
    return rows


def _conventional_training(
    network: nn.Module, training: TensorDataset, config: RunConfig, rng: torch.Generator, device: torch.device
) -> None:
    optimizer = torch.optim.SGD(network.parameters(), config.lr, config.momentum, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.milestones))
    network.train()
    for _ in range(config.epochs):
        order = torch.randperm(len(training), generator=rng).tolist()
        for x, y in DataLoader(training, config.batch_size, sampler=order):
            optimizer.zero_grad()
            cross_entropy(network(x.to(device)), y.to(device)).backward()
            optimizer.step()
        schedule.step()


@torch.no_grad()
def _accuracy(network: nn.Module, loader: DataLoader, device: torch.device) -> float:
    network.eval()
    right = sum(int((network(x.to(device)).argmax(1) == y.to(device)).sum()) for x, y in loader)
    return right / len(loader.dataset)
