"""Where training goes: the learning distance (He et al. 2022, section 5)."""

from collections.abc import Sequence

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
