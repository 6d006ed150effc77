"""Distances between solutions, straight paths between them, and directions around them (He et al. 2022, section 5).

Weights are (…, parameters), in the order of `torch.nn.utils.parameters_to_vector`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def learning_distance(initial: Tensor, learned: Tensor, sizes: Sequence[int] = ()) -> Tensor:
    """‖w_init − w_learned‖₂, (runs,): the distance of trained weights from the dense network's initialisation.

    Both are (runs, parameters), and pruned weights are zeros. With ``sizes``, numbers of parameters that add up to all,
    returns the distance for each of these parts, (runs, parts).
    """
    gap = initial.double() - learned.double()
    if not sizes:
        return gap.norm(dim=1)
    return torch.stack([part.norm(dim=1) for part in gap.split(list(sizes), dim=1)], 1)


def between(one: Tensor, other: Tensor, alphas: Tensor) -> Tensor:
    """(1 − α)·one + α·other for each α of ``alphas`` (n,): weights (n, parameters), exact for α = 0 and α = 1."""
    return torch.stack([one.lerp(other, alpha) for alpha in alphas.tolist()])


def filter_normalised(direction: Tensor, weights: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """The direction, rescaled so that each filter has the norm of the weights' own filter (Li et al. 2018, section 4).

    Both are (parameters,), and ``shapes`` are those of the parameters. A filter is the weights of one output of a
    convolution or linear layer. For biases and BatchNorm's parameters the result is zero, as in that paper's program.
    """
    parts = zip(*(v.split([s.numel() for s in shapes]) for v in (direction, weights)), shapes, strict=True)
    return torch.cat([_with_norms_of(d, w, shape) for d, w, shape in parts])


def _with_norms_of(direction: Tensor, weights: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) < 2:
        return torch.zeros_like(direction)
    direction, weights = (part.view(shape[0], -1) for part in (direction, weights))
    norms = direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (direction / norms * weights.norm(dim=1, keepdim=True)).flatten()


def sharpness(offsets: Sequence[float], losses: np.ndarray) -> np.ndarray:
    """The mean of the loss over ``offsets`` from a solution along a direction, less the loss at the solution.

    ``offsets`` (steps,) are evenly spaced around 0 and contain it; ``losses`` (…, steps) are the losses there. Returns
    (…,). With filter-normalised directions it is the expected sharpness of Neyshabur et al. (2017) along the directions
    of Li et al. (2018). It is large for sharp minima.
    """
    middle = int(np.argmin(np.abs(np.asarray(offsets))))
    return (losses - losses[..., middle : middle + 1]).mean(-1)
