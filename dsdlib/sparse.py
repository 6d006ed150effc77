"""Products with what is left of a pruned layer: the cost of a fully connected stack falls as it gets sparser.

A thin layer's weights, of all runs of a stack, are one block-diagonal sparse matrix, a block a run. Products and their
gradients touch no others, and compute what the dense ones would but for rounding.
"""

import warnings

import torch
from torch import Tensor, nn

# On a CPU, sparse products were measured to be the faster ones in layers of at least so many weights, at most so dense.
LARGE, THIN = 15_000, 0.15

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch says once in a process that its CSR tensors are in beta
    torch.sparse_csr_tensor([0, 0], [], torch.zeros(0), (1, 1))


def linear_layers(module: nn.Sequential) -> list[str]:
    return [name for name, layer in module.named_children() if isinstance(layer, nn.Linear)]


def thin_layers(module: nn.Sequential, masks: dict[str, Tensor]) -> list[tuple[str, ...]]:
    """Of each run, the layers that are better trained by sparse products; ``masks`` are (runs, outputs, inputs)."""
    large = [name for name in linear_layers(module) if masks[f"{name}.weight"][0].numel() >= LARGE]
    dense = {name: masks[f"{name}.weight"].flatten(1).mean(1).tolist() for name in large}
    return [tuple(name for name in large if dense[name][run] <= THIN) for run in range(len(next(iter(masks.values()))))]


class ThinLayer:
    """The entries ``used``, (runs, outputs, inputs) bool, of a linear layer's weights; only they are computed with.

    It is handed the neurons ``inputs``, (runs, inputs) bool, and makes the neurons ``outputs``, (runs, outputs) bool:
    all of every run's, as (runs, neurons, n), or those that are left, one run's after another's, as (neurons, n). Of a
    network's inputs, all runs are handed the same.
    """

    def __init__(self, used: Tensor, inputs: Tensor, outputs: Tensor):
        run, out, into = used.nonzero(as_tuple=True)
        self.shape_out, self.shape_in = (tuple(of.shape) if of.all() else (int(of.sum()),) for of in (outputs, inputs))
        self.shape = int(outputs.sum()), int(inputs.sum())
        self.row, self.column = _numbers(outputs)[run, out], _numbers(inputs)[run, into]
        self.order = torch.argsort(self.column, stable=True)

    def learn(self, values: Tensor, slopes: Tensor) -> None:
        """From now on the entries are ``values``, whatever becomes of them, and their slopes go to ``slopes``."""
        self.values, self.turned = values, torch.empty_like(values)
        self.matrix, self.slopes = (_matrix(self.row, self.column, part, self.shape) for part in (values, slopes))
        turned = self.column[self.order], self.row[self.order]
        self.transposed = _matrix(*turned, self.turned, self.shape[::-1])

    def times(self, bias: Tensor | None, x: Tensor) -> Tensor:
        """The outputs for a bias for each and the inputs x."""
        y = _product(self.matrix, x.flatten(0, -2)).view(*self.shape_out, x.shape[-1])
        return y if bias is None else y.add_(bias.unsqueeze(-1))

    def slope(self, slope: Tensor, x: Tensor) -> None:
        """The loss's slope by the entries, from that by the outputs."""
        if len(self.values):
            sides = slope.flatten(0, -2), x.flatten(0, -2).t()
            torch.sparse.sampled_addmm(self.matrix, *sides, beta=0.0, out=self.slopes)

    def back(self, slope: Tensor) -> Tensor:
        """The loss's slope by the inputs."""
        torch.index_select(self.values, 0, self.order, out=self.turned)
        return _product(self.transposed, slope.flatten(0, -2)).view(*self.shape_in, slope.shape[-1])


def _matrix(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """In compressed sparse rows, of entries whose ``row`` ascends; it holds ``values`` themselves, not a copy."""
    starts = torch.searchsorted(row, torch.arange(shape[0] + 1)).int()
    return torch.sparse_csr_tensor(starts, column.int(), values, shape, check_invariants=False)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    return matrix @ x if matrix.values().numel() else x.new_zeros(matrix.shape[0], x.shape[1])


def _numbers(neurons: Tensor) -> Tensor:
    """Of those (runs, neurons) that are there, from 0."""
    return neurons.flatten().cumsum(0).view(neurons.shape) - 1


def awake(masks: list[Tensor]) -> list[Tensor]:
    """Each layer's outputs, (runs, outputs) bool, from which a path leads to an answer; ``masks`` as in `thin_layers`,
    in order. Of the others' weights and biases, the gradient is zero."""
    neurons = [torch.ones_like(masks[-1][:, :, 0], dtype=torch.bool)]
    for mask in reversed(masks[1:]):
        neurons.append((mask.bool() & neurons[-1].unsqueeze(2)).any(1))
    return neurons[::-1]
