"""A module as a function of a vector of parameters."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dsdlib.engine.device import Engine, evaluation_batch

# Inputs (runs, n, …) → logits (runs, n, classes).
Forward = Callable[[Tensor], Tensor]

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Identity)


class Network:
    """A module as a function of several runs' parameters: inputs (runs, n, …) → logits (runs, n, classes).

    Parameters are tensors (runs, *shape) by name, views of a matrix of weights (runs, parameters) whose rows are in the
    order of `torch.nn.utils.parameters_to_vector`. A sequence of linear layers and elementwise activations on flat
    inputs takes any number of runs. Any other module takes one run, and holds its buffers (BatchNorm's running
    statistics) itself. ``trained``, (parameters,) bool, says which parameters require a gradient; others are frozen.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [parameter.shape for parameter in module.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]
        self.trained = torch.cat(
            [torch.full_like(p, p.requires_grad, dtype=torch.bool).flatten() for p in module.parameters()]
        )

    @property
    def stackable(self) -> bool:
        """Whether the network takes more than one run."""
        if type(self.module) is not nn.Sequential or len(list(self.module.children())) < len(self.module):
            return False  # a layer that is used twice is listed once among the children
        if any(_is_altered(part) for part in (*self.module.modules(), *self.module.parameters())):
            return False
        kinds = [type(layer) for layer in self.module]
        flat = all((m.start_dim, m.end_dim) == (1, -1) for m in self.module if isinstance(m, nn.Flatten))
        first = kinds.index(nn.Linear) if nn.Linear in kinds else len(kinds)
        return flat and nn.Flatten not in kinds[first:] and set(kinds) <= {nn.Linear, nn.Flatten, *ELEMENTWISE}

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """Parameters by name, each (runs, *shape): views of ``weights`` (runs, parameters), not copies."""
        parts = weights.split(self.sizes, dim=1)
        return {n: p.unflatten(1, s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}

    def __call__(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        if self.stackable:
            return self._stacked(parameters, x)
        single = {name: _in_fast_layout(part[0]) for name, part in parameters.items()}
        return functional_call(self.module, single, (x[0],)).unsqueeze(0)

    def _stacked(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        x = x.flatten(2).mT  # (runs, neurons, n)
        for name, layer in self.module.named_children():
            if isinstance(layer, nn.Linear):
                x = affine(parameters[f"{name}.weight"], parameters.get(f"{name}.bias"), x)
            elif not isinstance(layer, nn.Flatten):
                x = layer(x)
        return x.mT

    def forward_function(self, weights: Tensor) -> Forward:
        """The forward pass with these ``weights`` (runs, parameters). Puts the module into evaluation mode."""
        self.module.eval()
        return partial(self, self.parameters(weights))

    def buffers(self) -> dict[str, Tensor]:
        """Copies of the buffers."""
        return {name: buffer.clone() for name, buffer in self.module.named_buffers()}

    def set_buffers(self, values: dict[str, Tensor]) -> None:
        """Overwrite the buffers in place."""
        for name, buffer in self.module.named_buffers():
            buffer.copy_(values[name])


class ModuleTrainer:
    """One run in training, for any module: autograd computes the gradients.

    The module's own parameters become views of one ``vector`` (parameters,), so that the optimiser updates a single
    tensor. They lie in it in the memory layout of `_channels_last`.
    """

    def __init__(self, network: Network, weights: Tensor, masks: Tensor, engine: Engine, batch_size: int):
        self.network, self.module, self.weights, self.engine = network, network.module, weights, engine
        self.forward = forward_of(self.module, engine, batch_size)
        self.vector = self.vector_of(weights)
        for parameter, values in zip(network.module.parameters(), self.vector.split(network.sizes), strict=True):
            parameter.data = _shaped(values, parameter.shape)
        mask = self.vector_of(masks * network.trained)
        self.mask, self.logits = None if mask.all() else mask, None

    def used_inputs(self, x: Tensor) -> Tensor:
        """All inputs (n, …): a module uses every one."""
        return x

    def forward_function(self) -> Forward:
        """The forward pass with the current parameters in float32, in evaluation mode."""
        self.module.eval()
        if self.engine.compiled:
            forward = compiled(self.module, evaluation_batch(self.vector.device))
            return lambda x: forward(x[0]).unsqueeze(0)
        self.write()
        return partial(self.network, self.network.parameters(self.weights))

    def __call__(self, x: Tensor) -> Tensor:
        """Forward pass: inputs (1, n, …) → logits (1, n, classes), without gradient; `backward` uses the graph."""
        self.logits = self.forward(x[0]).unsqueeze(0)
        return self.logits.detach()

    def backward(self, gradient: Tensor) -> Tensor:
        """Backward pass: dL/d(parameter vector), given dL/dlogits (1, n, classes) of the last forward pass."""
        parameters = list(self.network.module.parameters())
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        parts = iter(torch.autograd.grad(self.logits, trained, gradient, materialize_grads=True))
        return torch.cat([_flat(next(parts) if p.requires_grad else torch.zeros_like(p)) for p in parameters])

    def per_parameter(self, values: Tensor) -> Tensor:
        """One value a run, (runs,), in a shape that broadcasts with the parameter vector."""
        return values

    def vector_of(self, rows: Tensor) -> Tensor:
        """The entries of ``rows`` (1, parameters) in the order of the parameter vector."""
        return torch.cat([_flat(part[0]) for part in self.network.parameters(rows).values()])

    def rows_of(self, vector: Tensor) -> Tensor:
        """The inverse of `vector_of`."""
        rows = torch.empty_like(self.weights)
        parts = self.network.parameters(rows).values()
        for values, part in zip(vector.split(self.network.sizes), parts, strict=True):
            part[0] = _shaped(values, part.shape[1:])
        return rows

    def write(self) -> None:
        """Copy the parameter vector to its row of the matrix of weights."""
        self.weights.copy_(self.rows_of(self.vector.detach()))


def forward_of(module: nn.Module, engine: Engine, batch_size: int) -> Callable[[Tensor], Tensor]:
    """The module's forward pass in the engine's arithmetic, compiled for batches of that size if it compiles."""
    run = compiled(module, batch_size) if engine.compiled else module

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=engine.bfloat16, cache_enabled=False):
            logits = run(x)
        return logits.to(x.dtype)

    return forward


def compiled(module: nn.Module, batch_size: int) -> Callable[[Tensor], Tensor]:
    """The module, compiled for batches of that size.

    It computes batches of other sizes, such as an epoch's last one, as it is, since to compile for them takes longer.
    Networks of one architecture share what is compiled.
    """
    torch._dynamo.config.recompile_limit = 256  # one limit for all networks of a class, nn.Sequential for example
    fast = torch.compile(module, dynamic=False)
    return lambda x: (fast if len(x) == batch_size else module)(x)


def affine(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """A linear layer of a stack: weights (runs, outputs, inputs), biases (runs, outputs), x (runs, inputs, n)."""
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)


def _is_altered(part: nn.Module | nn.Parameter) -> bool:
    """Whether it has a forward of its own, or anything that PyTorch calls during a forward or backward pass."""
    names = "_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks"
    return "forward" in vars(part) or any(getattr(part, name, None) for name in names)


def _channels_last(part: Tensor, shape: torch.Size) -> bool:
    """Whether a parameter of that shape lies in channels-last order: a convolution's weights do on a GPU.

    There, convolutions and the layers after them are fastest in that layout, which their outputs take over. On a CPU
    the variances that PyTorch's BatchNorm computes in that layout are wrong by up to 0.4%, and gradients by up to 12%.
    """
    return part.is_cuda and len(shape) == 4


def _in_fast_layout(part: Tensor) -> Tensor:
    return part.contiguous(memory_format=torch.channels_last) if _channels_last(part, part.shape) else part


def _flat(part: Tensor) -> Tensor:
    """A parameter as a vector, in its memory layout; `_shaped` is the inverse."""
    return part.permute(0, 2, 3, 1).flatten() if _channels_last(part, part.shape) else part.flatten()


def _shaped(values: Tensor, shape: torch.Size) -> Tensor:
    if not _channels_last(values, shape):
        return values.view(shape)
    out, into, height, width = shape
    return values.view(out, height, width, into).permute(0, 3, 1, 2)
