"""Training cost in FLOPs, by the convention of DSD2, in which a multiply-add counts once.

A forward pass costs its multiply-adds, as PyTorch's counter finds them, 5 for each element of a BatchNorm's output and
1 for each element of an average pool's input. A training step costs three forward passes. By this convention pruned
weights cost as much as others; with masks, `training_flops` counts them as free instead.
"""

import torch
from torch import Tensor, nn

from dsdlib.models import BATCHNORMS, WEIGHTED

AVERAGE_POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)


@torch.no_grad()
def forward_cost(network: nn.Module, input_shape: tuple[int, ...]) -> tuple[dict[str, int], int]:
    """The cost of one sample's forward pass in evaluation mode.

    Returns the multiply-adds of each convolution and linear layer by the name of its weight, and the number of all
    other operations.
    """
    from torch.utils.flop_counter import FlopCounterMode  # here, as it imports a compiler for GPUs

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

    layers, pools = counted_in(WEIGHTED), counted_in(AVERAGE_POOLS)
    other += counter.get_total_flops() // 2 - sum(layers.values()) - sum(pools.values())
    return {f"{name}.weight".removeprefix("."): cost for name, cost in layers.items()}, other


def training_flops(
    layers: dict[str, int], other: int, samples: int, masks: dict[str, Tensor] | None = None
) -> float | Tensor:
    """FLOPs of training on ``samples`` inputs (epochs × training images), a number.

    ``layers`` and ``other`` are what `forward_cost` returns. With ``masks`` by weight, each (runs, *shape), pruned
    weights cost nothing, and the result is (runs,).
    """
    if masks is None:
        return 3.0 * samples * (sum(layers.values()) + other)
    alive = sum(cost * masks[name].flatten(1).double().mean(1) for name, cost in layers.items())
    return 3.0 * samples * (alive + other)
