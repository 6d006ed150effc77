"""Sparse matrix products for pruned linear layers: the cost of training a stack falls with its density.

The remaining weights of one layer, of all runs in a stack, form one block-diagonal sparse matrix with a block a run.
Forward and backward products touch only these weights and agree with the dense ones up to rounding.
"""

import warnings

import torch
from torch import Tensor, nn

# Measured on CPUs: sparse products are faster in layers with at least MIN_WEIGHTS weights and at most MAX_DENSITY of
# them left.
MIN_WEIGHTS, MAX_DENSITY = 15_000, 0.15

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch warns once a process that its CSR tensors are in beta
    torch.sparse_csr_tensor([0, 0], [], torch.zeros(0), (1, 1))


def linear_layers(module: nn.Sequential) -> list[str]:
    """Names of the linear layers, in order."""
    return [name for name, layer in module.named_children() if isinstance(layer, nn.Linear)]


def sparse_layers(module: nn.Sequential, masks: dict[str, Tensor]) -> list[tuple[str, ...]]:
    """For each run, the names of the layers that are faster with sparse products.

    ``masks`` maps the name of each weight to its mask, (runs, outputs, inputs).
    """
    large = [name for name in linear_layers(module) if masks[f"{name}.weight"][0].numel() >= MIN_WEIGHTS]
    density = {name: masks[f"{name}.weight"].flatten(1).mean(1).tolist() for name in large}
    runs = len(next(iter(masks.values())))
    return [tuple(name for name in large if density[name][run] <= MAX_DENSITY) for run in range(runs)]


class SparseLinear:
    """A batch of sparse linear layers, one a run, as one block-diagonal CSR matrix.

    ``used`` (runs, outputs, inputs) bool selects the weights that take part. ``inputs`` (runs, inputs) bool and
    ``outputs`` (runs, outputs) bool select the neurons that the layer reads and computes. Activations are (runs,
    neurons, n) if all neurons of all runs are selected, or packed as (selected neurons, n), run after run. All runs
    must read the same of the network's inputs.
    """

    def __init__(self, used: Tensor, inputs: Tensor, outputs: Tensor):
        run, out, into = used.nonzero(as_tuple=True)
        self.shape_out, self.shape_in = (tuple(of.shape) if of.all() else (int(of.sum()),) for of in (outputs, inputs))
        self.shape = int(outputs.sum()), int(inputs.sum())
        self.row, self.column = _packed_index(outputs)[run, out], _packed_index(inputs)[run, into]
        self.order = torch.argsort(self.column, stable=True)

    def bind(self, values: Tensor, gradients: Tensor) -> None:
        """Use the vector ``values`` (weights,) as the weights and write their gradients to ``gradients`` (weights,).

        Neither is copied: the layer follows in-place updates of ``values``.
        """
        self.values, self.transposed_values = values, torch.empty_like(values)
        self.matrix, self.gradients = (_csr(self.row, self.column, part, self.shape) for part in (values, gradients))
        transposed = self.column[self.order], self.row[self.order]
        self.transposed = _csr(*transposed, self.transposed_values, self.shape[::-1])

    def forward(self, bias: Tensor | None, x: Tensor) -> Tensor:
        """weight · x + bias."""
        y = _product(self.matrix, x.flatten(0, -2)).view(*self.shape_out, x.shape[-1])
        return y if bias is None else y.add_(bias.unsqueeze(-1))

    def backward_weight(self, gradient: Tensor, x: Tensor) -> None:
        """Write dL/dweight, given dL/doutput and the layer's input x."""
        if len(self.values):
            sides = gradient.flatten(0, -2), x.flatten(0, -2).t()
            torch.sparse.sampled_addmm(self.matrix, *sides, beta=0.0, out=self.gradients)

    def backward_input(self, gradient: Tensor) -> Tensor:
        """dL/dinput, given dL/doutput."""
        torch.index_select(self.values, 0, self.order, out=self.transposed_values)
        return _product(self.transposed, gradient.flatten(0, -2)).view(*self.shape_in, gradient.shape[-1])


def reachable(masks: list[Tensor]) -> list[Tensor]:
    """For each layer, the outputs (runs, outputs) bool from which an unpruned path leads to the logits.

    ``masks`` are those of the layers' weights, (runs, outputs, inputs), in order. The gradient of the weights and
    biases of all other neurons is zero.
    """
    neurons = [torch.ones_like(masks[-1][:, :, 0], dtype=torch.bool)]
    for mask in reversed(masks[1:]):
        neurons.append((mask.bool() & neurons[-1].unsqueeze(2)).any(1))
    return neurons[::-1]


def _csr(row: Tensor, column: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A CSR matrix from entries in ascending order of ``row``; it shares memory with ``values``."""
    starts = torch.searchsorted(row, torch.arange(shape[0] + 1)).int()
    return torch.sparse_csr_tensor(starts, column.int(), values, shape, check_invariants=False)


def _product(matrix: Tensor, x: Tensor) -> Tensor:
    return matrix @ x if matrix.values().numel() else x.new_zeros(matrix.shape[0], x.shape[1])


def _packed_index(neurons: Tensor) -> Tensor:
    """The position of each selected neuron (runs, neurons) in the packed order."""
    return neurons.flatten().cumsum(0).view(neurons.shape) - 1
