"""Where training goes, and what lies around the place: distances, straight paths and slices of the loss.

He et al. 2022, section 5. Weights are (…, parameters), in `parameters_to_vector`'s order.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def learning_distance(initial: Tensor, learned: Tensor, sizes: Sequence[int] = ()) -> Tensor:
    """‖w_init − w_learned‖₂, a value a run, from the dense network's initialisation; pruned weights are zeros.

    Both are (runs, parameters). Of parts of so many parameters each, when ``sizes`` are given: (runs, parts).
    """
    gap = initial.double() - learned.double()
    if not sizes:
        return gap.norm(dim=1)
    return torch.stack([part.norm(dim=1) for part in gap.split(list(sizes), dim=1)], 1)


def between(one: Tensor, other: Tensor, alphas: Tensor) -> Tensor:
    """(1 − α)·one + α·other for each α: (alphas, parameters). The end points are exactly the two."""
    return torch.stack([one.lerp(other, alpha) for alpha in alphas.tolist()])


def filter_normalised(direction: Tensor, weights: Tensor, shapes: Sequence[torch.Size]) -> Tensor:
    """A direction whose every filter is as long as the weights' own (Li et al. 2018, section 4).

    Both are (parameters,), ``shapes`` those of the parameters. A filter is what leads to one output of a convolution or
    linear layer; in biases and BatchNorm's parameters, as in that paper's code, the direction is zero.
    """
    parts = zip(*(v.split([s.numel() for s in shapes]) for v in (direction, weights)), shapes, strict=True)
    return torch.cat([_as_long_as(d, w, shape) for d, w, shape in parts])


def _as_long_as(direction: Tensor, weights: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) < 2:
        return torch.zeros_like(direction)
    direction, weights = (part.view(shape[0], -1) for part in (direction, weights))
    lengths = direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return (direction / lengths * weights.norm(dim=1, keepdim=True)).flatten()


def sharpness(offsets: Sequence[float], losses: np.ndarray) -> np.ndarray:
    """The loss's mean rise over slices: what a step of random length along a random direction adds to it on average.

    ``offsets`` (steps,) lie evenly around 0 and contain it; ``losses`` are (…, steps), of filter-normalised directions.
    It is the expected sharpness of Neyshabur et al. (2017) along the directions of Li et al. (2018); large is sharp.
    """
    middle = int(np.argmin(np.abs(np.asarray(offsets))))
    return (losses - losses[..., middle : middle + 1]).mean(-1)
