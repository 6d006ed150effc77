"""Training without the pruned weights: a step's cost falls as a fully connected stack gets sparser.

Each layer of a stack is one block-diagonal sparse matrix, a block a run, of the weights that are left. Products, their
gradients and the optimiser touch no others, and compute what the dense ones would but for rounding.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Sparse products were measured to be faster, on a CPU, from this share of weights left on, in networks of this size.
FEW, LARGE = 0.1, 30_000

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # PyTorch says once in a process that its CSR tensors are in beta
    torch.sparse_csr_tensor([0, 0], [], torch.zeros(0), (1, 1))


def worth_it(masks: Tensor) -> bool:
    """Whether a stack with these masks, (runs, parameters), is better trained sparse. The same for each of its runs,
    which have equally many weights left."""
    return masks.device.type == "cpu" and masks.shape[1] >= LARGE and bool(masks[0].mean() <= FEW)


class Pattern:
    """Where a matrix (rows, columns) has entries, in compressed sparse rows; ``row`` ascends."""

    def __init__(self, row: Tensor, column: Tensor, shape: tuple[int, int]):
        self.shape = shape
        self.starts = torch.searchsorted(row, torch.arange(shape[0] + 1)).int()
        self.column = column.int()

    def matrix(self, values: Tensor) -> Tensor:
        return torch.sparse_csr_tensor(self.starts, self.column, values, self.shape, check_invariants=False)

    def times(self, values: Tensor, x: Tensor) -> Tensor:
        return self.matrix(values) @ x if len(values) else x.new_zeros(self.shape[0], x.shape[1])


class Layer:
    """A linear layer's weights of all runs, as one matrix; and its transpose, whose entries are in another order."""

    def __init__(self, row: Tensor, column: Tensor, shape: tuple[int, int]):
        self.pattern = Pattern(row, column, shape)
        self.order = torch.argsort(column, stable=True)
        self.transposed = Pattern(column[self.order], row[self.order], shape[::-1])


class Product(torch.autograd.Function):
    """A layer's weights, given by the values of its entries, times x, plus a bias or None; differentiable in all."""

    @staticmethod
    def forward(ctx, layer: Layer, values: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
        ctx.layer = layer
        ctx.save_for_backward(values, x)
        y = layer.pattern.times(values, x)
        return y if bias is None else y.add_(bias.unsqueeze(1))

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        layer, (values, x), of_x = ctx.layer, ctx.saved_tensors, None
        gradient = gradient.contiguous()  # its rows' sums then do not depend on how many there are
        of_values = torch.zeros_like(values)
        if len(values):
            of_values = torch.sparse.sampled_addmm(layer.pattern.matrix(values), gradient, x.t(), beta=0.0).values()
        if ctx.needs_input_grad[3]:
            of_x = layer.transposed.times(values[layer.order], gradient)
        return None, of_values, gradient.sum(1) if ctx.needs_input_grad[2] else None, of_x


class SparseLearner:
    """A fully connected stack in training: its parameters are vectors of what is left of the weights, and of biases.

    Neurons from which no path leads to an answer are *asleep*: nothing computes them, and of their weights and biases
    only the decay is left to do.
    """

    def __init__(self, module: nn.Sequential, weights: dict[str, Tensor], masks: dict[str, Tensor]):
        self.module = module
        linear = [name for name, layer in module.named_children() if isinstance(layer, nn.Linear)]
        left = {name: masks[f"{name}.weight"].bool() for name in linear}
        awake = _awake([left[name] for name in linear])
        number = [(neurons.flatten().cumsum(0) - 1).view_as(neurons) for neurons in awake]
        self.layers, used = {}, {}
        for i, name in enumerate(linear):
            used[f"{name}.weight"] = left[name] & awake[i + 1].unsqueeze(2)
            used[f"{name}.bias"] = awake[i + 1]
            run, out, into = used[f"{name}.weight"].nonzero(as_tuple=True)
            shape = int(awake[i + 1].sum()), int(awake[i].sum())
            self.layers[name] = Layer(number[i + 1][run, out], number[i][run, into], shape)
        kept = {name: mask.bool() for name, mask in masks.items()}
        self.places = [(name, used[name].nonzero(as_tuple=True)) for name in masks]
        self.places += [(name, (kept[name] & ~used[name]).nonzero(as_tuple=True)) for name in masks]
        self.parameters = [weights[name][at] for name, at in self.places]
        self.masks = [None] * len(self.parameters)
        self.learning = {name: part.requires_grad_() for name, part in zip(masks, self.parameters, strict=False)}

    def __call__(self, x: Tensor) -> Tensor:
        """(runs, n, …) → logits (runs, n, classes)."""
        runs = len(x)
        x = x.flatten(2).mT.flatten(0, 1)
        for name, module in self.module.named_children():
            if name in self.layers:
                values, bias = self.learning[f"{name}.weight"], self.learning.get(f"{name}.bias")
                x = Product.apply(self.layers[name], values, bias, x)
            elif not isinstance(module, nn.Flatten):
                x = module(x)
        return x.unflatten(0, (runs, -1)).mT

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Of each of the parameters; zero for those of neurons asleep."""
        asleep = self.parameters[len(self.learning) :]
        return [*torch.autograd.grad(loss, list(self.learning.values())), *map(torch.zeros_like, asleep)]

    def spread(self, values: Tensor) -> list[Tensor]:
        """One value a run → one for each element of each parameter."""
        return [values[run] for _, (run, *_) in self.places]

    def write(self, weights: dict[str, Tensor]) -> None:
        """What was learned, to its places."""
        for (name, at), part in zip(self.places, self.parameters, strict=True):
            weights[name][at] = part.detach()


def _awake(left: list[Tensor]) -> list[Tensor]:
    """Inputs, hidden neurons layer by layer and answers, each (runs, neurons): which lead to an answer. Inputs and
    answers always do; ``left`` holds the layers' masks, (runs, outputs, inputs)."""
    awake = [torch.ones_like(left[-1][:, :, 0])]
    for mask in reversed(left[1:]):
        awake.append((mask & awake[-1].unsqueeze(2)).any(1))
    return [torch.ones_like(left[0][:, 0]), *reversed(awake)]
