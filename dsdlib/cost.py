"""Training cost in FLOPs, by one convention: DSD2's, in which a multiply-add counts once.

A forward pass costs its multiply-adds (torch's own counter), 5 for each element that passes a BatchNorm and 1 for each
that enters an average pool; a training step costs three forward passes. Pruned weights are not discounted; beside it
stands the figure in which they are.
"""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dsdlib.pruning import LAYERS

BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)


@torch.no_grad()
def forward_cost(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, int], int]:
    """Of one sample: multiply-adds of each convolution and linear layer, by its weight's name; other operations."""
    other = 0

    def count(module, inputs, output):
        nonlocal other
        other += 5 * output.numel() if isinstance(module, BATCHNORMS) else inputs[0].numel()

    device = next(network.parameters()).device
    was_training = network.training
    counted = [m for m in network.modules() if isinstance(m, BATCHNORMS + AVERAGE_POOLS)]
    hooks = [module.register_forward_hook(count) for module in counted]
    with FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *input_shape, device=device))
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    flops = counter.get_flop_counts()

    def counted_in(kinds: tuple[type, ...]) -> dict[str, int]:
        names = [name for name, module in network.named_modules() if isinstance(module, kinds)]
        key = {n: f"{type(network).__name__}.{n}".removesuffix(".") for n in names}
        return {n: sum(flops.get(key[n], {}).values()) // 2 for n in names}

    layers, pools = counted_in(LAYERS), counted_in(AVERAGE_POOLS)
    other += counter.get_total_flops() // 2 - sum(layers.values()) - sum(pools.values())
    return {f"{name}.weight".removeprefix("."): cost for name, cost in layers.items()}, other


def training_flops(
    layers: dict[str, int], other: int, samples: int, masks: dict[str, Tensor] | None = None
) -> float | Tensor:
    """FLOPs of training on ``samples`` inputs (epochs × training images). With ``masks``, each (runs, *shape), pruned
    weights cost nothing, and the answer is (runs,)."""
    if masks is None:
        return 3.0 * samples * (sum(layers.values()) + other)
    alive = sum(cost * masks[name].flatten(1).double().mean(1) for name, cost in layers.items())
    return 3.0 * samples * (alive + other)
