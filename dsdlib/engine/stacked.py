"""Many fully connected runs in training, as one batch of matrix products."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dsdlib.engine.network import Forward, Network, affine
from dsdlib.engine.sparse import SparseLinear, linear_layers, reachable

threshold_backward = torch.ops.aten.threshold_backward


class StackedTrainer:
    """A stack of fully connected runs in training.

    All trained parameters form one ``vector``: the remaining weights of the layers named in ``sparse``, and all
    parameters of the other layers. The backward pass is written out, as autograd's overhead exceeds the cost of such
    small products.
    """

    def __init__(
        self, network: Network, weights: Tensor, masks: Tensor, sparse: tuple[str, ...], whole_images: bool = False
    ):
        self.module, self.weights = network.module, weights
        self.input_columns, self.sparse, self.tape = None, {}, []
        indices = network.parameters(torch.arange(weights.numel(), device=weights.device).view_as(weights))
        masks_by_name = network.parameters(masks)
        unreachable = self._restrict_to_used(masks_by_name, indices, sparse, whole_images) if sparse else []
        self.index = torch.cat([*(part.flatten() for part in indices.values()), *unreachable])
        self.vector, mask = self.vector_of(weights), self.vector_of(masks * network.trained)
        self.mask, self.gradient = None if mask.all() else mask, torch.zeros_like(self.vector)
        self.parts, self.gradients = _views(self.vector, indices), _views(self.gradient, indices)
        for name, layer in self.sparse.items():
            layer.bind(self.parts[f"{name}.weight"], self.gradients[f"{name}.weight"])

    def _restrict_to_used(
        self, masks: dict[str, Tensor], indices: dict[str, Tensor], sparse: tuple[str, ...], whole_images: bool
    ) -> list[Tensor]:
        """Make the layers named in ``sparse``, and restrict ``indices`` to the parameters that take part in a step.

        ``indices`` maps names to positions in the flat matrix of weights. In sparse layers those are left that lie on
        an unpruned path from the inputs to the logits. Returns the others, whose gradient is zero and which only decay.
        """
        names, unreachable = linear_layers(self.module), []
        left = [masks[f"{name}.weight"].bool() for name in names]
        inputs = torch.ones_like(left[0][:, 0])
        for name, following, mask, outputs in zip(names, [*names[1:], None], left, reachable(left), strict=True):
            computed = outputs if {name, following} <= {*sparse} else torch.ones_like(outputs)
            if name in sparse:
                weight, bias, used = f"{name}.weight", f"{name}.bias", mask & outputs.unsqueeze(2)
                if name == names[0] and not whole_images:
                    inputs = used.flatten(0, 1).any(0).expand_as(inputs)
                    self.input_columns = inputs[0].nonzero().squeeze(1)
                layer = self.sparse[name] = SparseLinear(used, inputs, computed)
                unreachable.append(indices[weight][mask & ~used])
                indices[weight] = indices[weight][used]
                if bias in indices:
                    unreachable.append(indices[bias][~computed])
                    indices[bias] = indices[bias][computed].view(layer.shape_out)
            inputs = computed
        return unreachable

    def used_inputs(self, x: Tensor) -> Tensor:
        """The columns of inputs (n, …) that an unpruned weight reads; all of them with ``whole_images``."""
        return x if self.input_columns is None else x.flatten(1)[:, self.input_columns]

    def forward_function(self) -> Forward:
        """The forward pass with the current parameters, on whole inputs; cheap if many weights are pruned."""
        if self.input_columns is None:
            return self
        return lambda x: self(x.flatten(2).mT[:, self.input_columns].mT)  # selecting rows is several times faster

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Forward pass: inputs (runs, n, …), as `used_inputs` returns them, → logits (runs, n, classes).

        The tape keeps what `backward` needs: the input of each linear layer and the output of each activation.
        """
        n = x.shape[1]
        x, self.tape = _padded(x.flatten(2)).mT, []
        for name, layer in self.module.named_children():
            if isinstance(layer, nn.Linear):
                x = x.contiguous() if name in self.sparse else x
                self.tape.append((name, x))
                bias, sparse = self.parts.get(f"{name}.bias"), self.sparse.get(name)
                x = sparse.forward(bias, x) if sparse else affine(self.parts[f"{name}.weight"], bias, x)
            elif not isinstance(layer, nn.Flatten):
                x, activation_backward = _activated(layer, x)
                self.tape.append((None, activation_backward))
        return x.mT[:, :n]

    @torch.no_grad()
    def backward(self, gradient: Tensor) -> Tensor:
        """Backward pass: dL/d(parameter vector), given dL/dlogits (runs, n, classes) of the last forward pass."""
        gradient, first = _padded(gradient).mT, next(name for name, _ in self.tape if name)
        for name, entry in reversed(self.tape):
            if name is None:
                gradient = entry(gradient)
                continue
            weight, bias, sparse = f"{name}.weight", f"{name}.bias", self.sparse.get(name)
            if sparse:
                sparse.backward_weight(gradient, entry)
            else:
                torch.bmm(gradient, entry.mT, out=self.gradients[weight])
            if bias in self.gradients:
                torch.sum(gradient, -1, out=self.gradients[bias])
            if name == first:
                break
            gradient = sparse.backward_input(gradient) if sparse else torch.bmm(self.parts[weight].mT, gradient)
        return self.gradient

    def per_parameter(self, values: Tensor) -> Tensor:
        """One value a run, (runs,), in a shape that broadcasts with the parameter vector."""
        return values[0] if (values == values[0]).all() else values[self.index // self.weights.shape[1]]

    def vector_of(self, rows: Tensor) -> Tensor:
        """The entries of ``rows`` (runs, parameters) in the order of the parameter vector."""
        return rows.flatten()[self.index]

    def rows_of(self, vector: Tensor) -> Tensor:
        """The inverse of `vector_of`, with zeros where a parameter takes no part in a step."""
        rows = torch.zeros_like(self.weights)
        rows.view(-1)[self.index] = vector
        return rows

    def write(self) -> None:
        """Copy the parameter vector to its places in the matrix of weights."""
        self.weights.view(-1)[self.index] = self.vector


def _views(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Views of the beginning of the vector, with the names and shapes of ``like``."""
    sizes = [shaped.numel() for shaped in like.values()]
    parts = vector[: sum(sizes)].split(sizes)
    return {name: part.view(shaped.shape) for (name, shaped), part in zip(like.items(), parts, strict=True)}


def _padded(x: Tensor) -> Tensor:
    """(runs, n, …) with zeros for samples up to a multiple of 16.

    The products of all runs then begin at equally aligned addresses. Their last bits may depend on the alignment.
    """
    return pad(x, (0, 0, 0, -x.shape[1] % 16)) if x.shape[1] % 16 else x


def _activated(layer: nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """An activation's output, and its backward pass: dL/doutput → dL/dinput."""
    if isinstance(layer, nn.ReLU):
        y = x.relu()
        return y, lambda gradient: threshold_backward(gradient, y, 0)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = layer(leaf.clone())  # a clone, as some activations work in place
    return y.detach(), lambda gradient: torch.autograd.grad(y, leaf, gradient)[0]
