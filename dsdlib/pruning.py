"""Pruning: scores of weights, exact masks made of them, and how many weights every round keeps.

The masks of runs are one tensor (runs, parameters), in the order of `torch.nn.utils.parameters_to_vector`. For a
training loop of your own, `global_masks` and `apply_masks` work with masks by parameter name:

>>> network = nn.Sequential(nn.Linear(8, 20), nn.ReLU(), nn.Linear(20, 5))
>>> optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
>>> x, y, masks = torch.randn(64, 8), torch.randint(5, (64,)), None
>>> for round_ in range(3):
...     masks = global_masks(network, 0.2, masks)
...     for _ in range(10):
...         optimizer.zero_grad()
...         nn.functional.cross_entropy(network(x), y).backward()
...         optimizer.step()
...         apply_masks(network, masks)  # after every step, so that pruned weights stay zero
>>> {name: tuple(mask.shape) for name, mask in masks.items()}
{'0.weight': (20, 8), '2.weight': (5, 20)}
>>> sum(int(mask.sum()) for mask in masks.values())  # of 260: 208, then 166, then 133
133
"""

from itertools import pairwise
from math import ceil

import torch
from torch import Tensor, nn

from dsdlib.config import ConfigError
from dsdlib.models import WEIGHTED


def magnitude_scores(weights: Tensor) -> Tensor:
    """|w|, for weights of any shape."""
    return weights.abs()


def gradient_scores(weights: Tensor, gradients: Tensor) -> Tensor:
    """|w · ∂L/∂w|, for weights and gradients of one shape (He et al. 2022, section 3)."""
    return (weights * gradients).abs()


def random_scores(weights: Tensor, generator: torch.Generator) -> Tensor:
    """Scores that are uniform in [0, 1), in the shape and on the device of the weights."""
    return torch.rand(weights.shape, generator=generator).to(weights.device)


def prunable_layers(network: nn.Module, which: str) -> list[nn.Module]:
    """The layers whose weights may be pruned.

    ``which`` is ``conv_and_linear`` (DSD2), ``all_but_last`` (He et al. 2022, LeNet) or ``conv`` (He et al. 2022,
    VGG-16). Raises `ConfigError` if the network has no such layer.
    """
    layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
    if which == "all_but_last":
        layers = layers[:-1]
    elif which == "conv":
        layers = [layer for layer in layers if not isinstance(layer, nn.Linear)]
    if not layers:
        raise ConfigError(f"prunable = {which!r}: this network has no such layer")
    return layers


def prunable(network: nn.Module, which: str) -> Tensor:
    """Which parameters may be pruned, (parameters,) bool: weights of `prunable_layers`, never biases or BatchNorm."""
    weights = {id(layer.weight) for layer in prunable_layers(network, which)}
    return torch.cat([torch.full((p.numel(),), id(p) in weights) for p in network.parameters()])


def layer_by_layer(network: nn.Module, which: str) -> list[Tensor]:
    """The same as `prunable` for each of the layers separately."""
    weights = [id(layer.weight) for layer in prunable_layers(network, which)]
    return [torch.cat([torch.full((p.numel(),), id(p) == one) for p in network.parameters()]) for one in weights]


def layer_names(network: nn.Module) -> list[str]:
    """The names of all convolutions and linear layers."""
    return [name for name, module in network.named_modules() if isinstance(module, WEIGHTED)]


def remaining_weights(weights: int, amount: float, rounds: int, spared: int | None = None) -> list[int]:
    """How many prunable weights are left in rounds 0 … ``rounds``; each step prunes ``amount`` of those left, rounded.

    With ``spared``, the number of weights in layers that are never pruned, steps are counted as in the program of He et
    al. 2022: each prunes ceil(``amount`` of *all* weights left, the spared ones included) and one more, since its
    threshold's comparison is strict. Raises `ConfigError` if a step would prune no weight or leave none.
    """
    left = [weights]
    for step in range(1, rounds + 1):
        taken = round(amount * left[-1]) if spared is None else ceil(amount * (left[-1] + spared)) + 1
        left.append(max(0, left[-1] - taken))
        if left[-1] == 0 or left[-1] == left[-2]:
            what = "leave no weight" if left[-1] == 0 else f"prune nothing of the {left[-1]} left"
            raise ConfigError(f"rounds = {rounds}: round {step} would {what}; allowed here: at most {step - 1}")
    return left


def spared_weights(network: nn.Module, which: str, amount_of: str) -> int:
    """How many weights of layers that are never pruned count towards the amount and the sparsity.

    There are none unless ``amount_of`` is ``all_weights``.
    """
    if amount_of == "prunable":
        return 0
    every = sum(layer.weight.numel() for layer in network.modules() if isinstance(layer, WEIGHTED))
    return every - int(prunable(network, which).sum())


def plan(
    network: nn.Module, which: str, scope: str, amount: float, rounds: int, amount_of: str = "prunable"
) -> tuple[list[Tensor], list[list[int]]]:
    """Groups of weights that compete with one another, each (parameters,) bool, and how many each round keeps of each.

    With the scope ``global`` there is one group. With the scope ``layer`` every layer is a group; all layers keep the
    same share of their weights, but at least one weight. Raises `ConfigError` as `remaining_weights` does.
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


def prune(scores: Tensor, masks: Tensor, among: Tensor, keep: int) -> Tensor:
    """New masks (runs, parameters) that keep, in each run, the ``keep`` best-scored of the prunable weights left.

    ``scores`` and ``masks`` are (runs, parameters); ``among``, (parameters,) bool, says which weights are prunable. At
    least ``keep`` of them must be left. Of equal scores, those of the first parameters are pruned first. A score that
    is not a number counts as the lowest.
    """
    new = masks.clone()
    for run, left in enumerate((masks > 0) & among):
        places = left.nonzero().squeeze(1)
        ranked = scores[run, places].nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)
        lowest = ranked.argsort(stable=True)[: len(places) - keep]
        new[run, places[lowest]] = 0
    return new


@torch.no_grad()
def global_masks(
    network: nn.Module,
    amount: float,
    masks: dict[str, Tensor] | None = None,
    scores: dict[str, Tensor] | None = None,
    which: str = "conv_and_linear",
) -> dict[str, Tensor]:
    """Masks that prune a share ``amount`` of the weights left, the lowest-scored of the whole network.

    Masks are bool tensors by parameter name, True where a weight is kept, one for each of the `prunable_layers`.
    ``masks`` are those of an earlier step: what they prune stays pruned, and ``amount`` is a share of what they keep.
    ``scores`` are tensors by the same names; by default they are the weights' magnitudes. Raises `ConfigError` for an
    amount that prunes no weight or every weight left, and for masks or scores that do not fit the network.
    """
    weights = {id(layer.weight) for layer in prunable_layers(network, which)}
    weights = {name: p for name, p in network.named_parameters() if id(p) in weights}
    if masks is None:
        masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    if scores is None:
        scores = {name: magnitude_scores(weight) for name, weight in weights.items()}
    _check_fit("masks", masks, weights)
    _check_fit("scores", scores, weights)
    row, left = (torch.cat([part[name].flatten() for name in weights]) for part in (scores, masks))
    count = int(left.sum())
    keep = count - round(amount * count)
    if not 0 < keep < count:
        raise ConfigError(f"amount = {amount}: would keep {keep} of {count} weights left; allowed: 1 to {count - 1}")
    (row,) = prune(row.unsqueeze(0), left.bool().unsqueeze(0), torch.ones_like(left).bool(), keep)
    parts = row.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


@torch.no_grad()
def apply_masks(network: nn.Module, masks: dict[str, Tensor]) -> None:
    """Set the weights that ``masks`` (as of `global_masks`) prune to zero, in place.

    Raises `ConfigError` for masks that do not fit the network.
    """
    parameters = dict(network.named_parameters())
    _check_fit("masks", masks, {name: parameters[name] for name in masks.keys() & parameters.keys()})
    for name, mask in masks.items():
        parameters[name].masked_fill_(mask == 0, 0)


def _check_fit(what: str, found: dict[str, Tensor], weights: dict[str, Tensor]) -> None:
    if found.keys() != weights.keys():
        odd = sorted(found.keys() ^ weights.keys())
        raise ConfigError(f"{what}: {odd} are in only one of the {what} and the network's prunable weights")
    for name, weight in weights.items():
        if found[name].shape != weight.shape:
            raise ConfigError(f"{what}[{name!r}]: shape {tuple(found[name].shape)}, the weight's is {(*weight.shape,)}")
