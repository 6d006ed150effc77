"""Scores, and exact global masks made of them. Masks are plain tensors: a row a run, a column a parameter."""

from itertools import pairwise
from math import ceil

import torch
from torch import nn

from dsdlib.config import ConfigError

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def magnitude_scores(weights: torch.Tensor) -> torch.Tensor:
    """|w|, for weights of any shape."""
    return weights.abs()


def gradient_scores(weights: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """|w · ∂L/∂w|, for weights and gradients of one shape (He et al. 2022, section 3)."""
    return (weights * gradients).abs()


def random_scores(weights: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Uniform in [0, 1), in the shape of the weights."""
    return torch.rand(weights.shape, generator=generator).to(weights.device)


def prunable_layers(network: nn.Module, which: str) -> list[nn.Module]:
    """The layers whose weights may be pruned: ``conv_and_linear`` (DSD2), ``all_but_last`` (He et al.'s LeNet) or
    ``conv`` (He et al.'s VGG-16). Raises `ConfigError` where there are none."""
    layers = [module for module in network.modules() if isinstance(module, LAYERS)]
    if which == "all_but_last":
        layers = layers[:-1]
    elif which == "conv":
        layers = [layer for layer in layers if not isinstance(layer, nn.Linear)]
    if not layers:
        raise ConfigError(f"prunable = {which!r}: this network has no such layer")
    return layers


def prunable(network: nn.Module, which: str) -> torch.Tensor:
    """Which of a network's parameters may be pruned: (parameters,) bool, in `parameters_to_vector`'s order. It is the
    layers' weights alone, never biases or BatchNorm."""
    weights = {id(layer.weight) for layer in prunable_layers(network, which)}
    return torch.cat([torch.full((p.numel(),), id(p) in weights) for p in network.parameters()])


def remaining_weights(weights: int, amount: float, rounds: int, spared: int | None = None) -> list[int]:
    """How many prunable weights are left in rounds 0 … ``rounds``, each step taking ``amount`` of those left, rounded.

    With ``spared``, the number of weights in layers that are never pruned, steps are counted as in the program of He et
    al. 2022: each takes ceil(``amount`` of *all* weights left, the spared ones included) and one more, since its
    threshold's comparison is strict. Raises `ConfigError` when a step would take none or leave none.
    """
    left = [weights]
    for step in range(1, rounds + 1):
        taken = round(amount * left[-1]) if spared is None else ceil(amount * (left[-1] + spared)) + 1
        left.append(max(0, left[-1] - taken))
        if left[-1] == 0 or left[-1] == left[-2]:
            what = "leave no weight" if left[-1] == 0 else f"prune nothing of the {left[-1]} left"
            raise ConfigError(f"rounds = {rounds}: round {step} would {what}; allowed here: at most {step - 1}")
    return left


def layer_names(network: nn.Module) -> list[str]:
    """Of all convolutions and linear layers."""
    return [name for name, module in network.named_modules() if isinstance(module, LAYERS)]


def layer_by_layer(network: nn.Module, which: str) -> list[torch.Tensor]:
    """`prunable` for each layer on its own."""
    weights = [id(layer.weight) for layer in prunable_layers(network, which)]
    return [torch.cat([torch.full((p.numel(),), id(p) == one) for p in network.parameters()]) for one in weights]


def spared_weights(network: nn.Module, which: str, amount_of: str) -> int:
    """How many weights of layers that are never pruned count towards the amount and the sparsity: none, unless
    ``amount_of`` is ``all_weights``."""
    if amount_of == "prunable":
        return 0
    every = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, LAYERS))
    return every - int(prunable(network, which).sum())


def plan(
    network: nn.Module, which: str, scope: str, amount: float, rounds: int, amount_of: str = "prunable"
) -> tuple[list[torch.Tensor], list[list[int]]]:
    """Groups of weights that compete with one another, each (parameters,) bool; and for each round how many are left of
    each. With the scope ``layer`` every layer keeps the same share, but at least one weight.

    Raises `ConfigError` as `remaining_weights` does.
    """
    spared = spared_weights(network, which, amount_of) if amount_of == "all_weights" else None
    total = remaining_weights(int(prunable(network, which).sum()), amount, rounds, spared)
    if scope == "global":
        return [prunable(network, which)], [[count] for count in total]
    groups = layer_by_layer(network, which)
    sizes = [int(group.sum()) for group in groups]
    left = [[max(1, round(size * count / total[0])) for size in sizes] for count in total]
    for step, (before, after) in enumerate(pairwise(left), 1):
        if before == after:
            raise ConfigError(
                f"rounds = {rounds}: round {step} would prune nothing in any layer; allowed here: at most {step - 1}"
            )
    return groups, left


def prune(scores: torch.Tensor, masks: torch.Tensor, among: torch.Tensor, keep: int) -> torch.Tensor:
    """New masks (runs, parameters) that keep, in each run, the ``keep`` best-scored of the prunable weights left.

    At least that many must be left. ``scores`` and ``masks`` are (runs, parameters), ``among`` (parameters,) bool.
    Equal scores are pruned in the order of the parameters. A score that is not a number counts as the lowest.
    """
    new = masks.clone()
    for run, left in enumerate((masks > 0) & among):
        places = left.nonzero().squeeze(1)
        ranked = scores[run, places].nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        lowest = ranked.argsort(stable=True)[: len(places) - keep]
        new[run, places[lowest]] = 0
    return new
