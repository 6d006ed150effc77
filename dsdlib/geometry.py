"""Where training goes: the learning distance (He et al. 2022, section 5)."""

from torch import Tensor


def learning_distance(initial: Tensor, learned: Tensor) -> Tensor:
    """‖w_init − w_learned‖₂, a value a run, from the dense network's initialisation; pruned weights are zeros.

    Both are (runs, parameters).
    """
    return (initial.double() - learned.double()).norm(dim=1)
