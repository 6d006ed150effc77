"""The training loop. A *stack* of same-shaped runs is one matrix of weights, a row a run, trained all together.

On the CPU a run's row does not depend, to the last bit, on which other runs share its stack.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from dsdlib.data import augmented
from dsdlib.distillation import distillation_loss
from dsdlib.entropy import NeuronStates
from dsdlib.sparse import SparseLearner, worth_it

ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.Softplus, nn.Identity)


class Network:
    """A module as a function of its runs' parameters, each (runs, *shape), and inputs (runs, n, …) → logits (runs, n,
    classes). The parameters are views of a matrix of weights, (runs, parameters).

    A sequence of linear layers and elementwise activations, flat inputs, takes any number of runs; others take one, and
    keeps its buffers (BatchNorm's running statistics) itself.
    """

    def __init__(self, module: nn.Module):
        self.module = module
        self.names = [name for name, _ in module.named_parameters()]
        self.shapes = [parameter.shape for parameter in module.parameters()]
        self.sizes = [shape.numel() for shape in self.shapes]

    @property
    def stackable(self) -> bool:
        if type(self.module) is not nn.Sequential or len(list(self.module.children())) < len(self.module):
            return False  # a layer that is used twice is a child once
        kinds = [type(layer) for layer in self.module]
        flat = all((m.start_dim, m.end_dim) == (1, -1) for m in self.module if isinstance(m, nn.Flatten))
        first = kinds.index(nn.Linear) if nn.Linear in kinds else len(kinds)
        return flat and nn.Flatten not in kinds[first:] and set(kinds) <= {nn.Linear, nn.Flatten, *ELEMENTWISE}

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """The rows' parameters by name, each (runs, *shape): views, not copies."""
        parts = weights.split(self.sizes, dim=1)
        return {n: p.unflatten(1, s) for n, p, s in zip(self.names, parts, self.shapes, strict=True)}

    def __call__(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        if self.stackable:
            return self._stacked(parameters, x)
        single = {name: _channels_last(part[0]) for name, part in parameters.items()}
        return functional_call(self.module, single, (x[0],)).unsqueeze(0)

    def _stacked(self, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        # Weight times input, not input times weight: the weights' gradients then come out in the weights' own layout.
        for name, layer in self.module.named_children():
            if isinstance(layer, nn.Flatten):
                x = x.flatten(2)
            elif not isinstance(layer, nn.Linear):
                x = layer(x)
            elif layer.bias is None:
                x = (parameters[f"{name}.weight"] @ x.mT).mT
            else:
                bias = parameters[f"{name}.bias"].unsqueeze(2)
                x = torch.baddbmm(bias, parameters[f"{name}.weight"], x.mT).mT
        return x

    def buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.module.named_buffers()}

    def set_buffers(self, values: dict[str, Tensor]) -> None:
        for name, buffer in self.module.named_buffers():
            buffer.copy_(values[name])


def _channels_last(part: Tensor) -> Tensor:
    """The layout in which two-dimensional convolutions, and all that follows them, are fastest."""
    return part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part


@dataclass
class Lessons:
    """What a stack learns from: all training inputs (n, …) once, and each run's own rows and labels of them."""

    x: Tensor
    rows: Tensor  # (runs, n_train): positions in x
    labels: Tensor  # (runs, n_train)
    teacher: Callable[[Tensor, Tensor], Tensor] | None = None  # positions in rows, inputs → logits


@dataclass
class Recipe:
    """How a stack learns. Tensors hold one value a run."""

    epochs: int
    batch_size: int
    momentum: float
    milestones: tuple[int, ...]
    augment: bool
    lr: Tensor
    weight_decay: Tensor
    alpha: Tensor
    temperature: Tensor

    def factor(self, epoch: int) -> float:
        """Of the learning rate: ×0.1 at each milestone."""
        return 0.1 ** sum(milestone <= epoch for milestone in self.milestones)


class DenseLearner:
    """A stack in training: its parameters are views of the matrix of weights, pruned ones held at zero by the masks."""

    def __init__(self, network: Network, weights: dict[str, Tensor], masks: dict[str, Tensor]):
        self.network = network
        self.named = {name: part.requires_grad_() for name, part in weights.items()}
        self.parameters, self.masks = list(weights.values()), list(masks.values())

    def __call__(self, x: Tensor) -> Tensor:
        return self.network(self.named, x)

    def gradients(self, loss: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(loss, self.parameters)

    def spread(self, values: Tensor) -> list[Tensor]:
        """One value a run, in a shape that goes with each parameter's."""
        return [values.view(-1, *[1] * (part.dim() - 1)) for part in self.parameters]

    def write(self, weights: dict[str, Tensor]) -> None:
        """Nothing to do: the parameters are the weights."""


def train(
    network: Network,
    weights: Tensor,
    masks: Tensor,
    lessons: Lessons,
    recipe: Recipe,
    generators: list[torch.Generator],
    start: int = 0,
    at_iteration: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Train (runs, parameters) ``weights`` from iteration ``start`` to the recipe's end, and return them.

    Pruned weights (0 in ``masks``) are exactly zero after every step. ``generators`` draw each run's order of the data.
    ``at_iteration`` is called with the number of iterations done and the weights, before each step.
    """
    network.module.train()
    weights = weights * masks
    sparse = network.stackable and at_iteration is None and worth_it(masks)
    parts = network.parameters(weights), network.parameters(masks)
    learner = SparseLearner(network.module, *parts) if sparse else DenseLearner(network, *parts)
    velocity, decay = [torch.zeros_like(part) for part in learner.parameters], learner.spread(recipe.weight_decay)
    steps = -(-lessons.rows.shape[1] // recipe.batch_size)
    for epoch in range(start // steps, recipe.epochs):
        lr = learner.spread(recipe.lr * recipe.factor(epoch))
        for step, (positions, x) in enumerate(_batches(lessons, recipe, generators)):
            iteration = epoch * steps + step
            if iteration < start:
                continue
            if at_iteration is not None:
                at_iteration(iteration, weights)
            loss = _loss(learner(x), positions, x, lessons, recipe)
            for part in zip(
                learner.parameters, learner.gradients(loss), velocity, learner.masks, lr, decay, strict=True
            ):
                _sgd_step(*part, recipe.momentum)
    learner.write(parts[0])
    return weights.detach()


def _batches(lessons: Lessons, recipe: Recipe, generators: list[torch.Generator]) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: positions (runs, batch) in the runs' training rows, and their inputs (runs, batch, …)."""
    runs, n = lessons.rows.shape
    order = torch.stack([torch.randperm(n, generator=rng) for rng in generators]).to(lessons.rows.device)
    if recipe.augment:
        epoch = torch.stack([augmented(lessons.x[r], g) for r, g in zip(lessons.rows, generators, strict=True)])
        run = torch.arange(runs, device=order.device).unsqueeze(1)
        yield from ((positions, epoch[run, positions]) for positions in order.split(recipe.batch_size, dim=1))
    else:
        rows = lessons.rows.gather(1, order)
        for positions, chosen in zip(*(t.split(recipe.batch_size, dim=1) for t in (order, rows)), strict=True):
            yield positions, lessons.x[chosen]


def _loss(logits: Tensor, positions: Tensor, x: Tensor, lessons: Lessons, recipe: Recipe) -> Tensor:
    """The sum over runs of each run's mean loss: each run's gradient is its own."""
    labels = lessons.labels.gather(1, positions)
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels).mean(1)
    if lessons.teacher is not None:
        taught = distillation_loss(logits, lessons.teacher(positions, x), recipe.temperature)
        loss = recipe.alpha * taught + (1 - recipe.alpha) * loss
    return loss.sum()


@torch.no_grad()
def _sgd_step(
    weights: Tensor,
    gradient: Tensor,
    velocity: Tensor,
    mask: Tensor | None,
    lr: Tensor,
    decay: Tensor,
    momentum: float,
) -> None:
    """`torch.optim.SGD`'s step of one parameter, learning rate and weight decay spread over it, then the mask."""
    gradient.addcmul_(weights, decay)
    if momentum:
        gradient = velocity.mul_(momentum).add_(gradient)
    weights.addcmul_(gradient, lr, value=-1)
    if mask is not None:
        weights.mul_(mask)


@torch.no_grad()
def evaluate(
    network: Network,
    weights: Tensor,
    x: Tensor,
    rows: Tensor | None,
    labels: Tensor,
    states: NeuronStates | None = None,
    batch_size: int = 1000,
) -> tuple[Tensor, Tensor]:
    """Losses and whether each answer was right, both (runs, n), of inputs ``x[rows]`` ((runs, n) positions) or, with
    ``rows`` None, of all ``x`` for every run. BatchNorm uses its running statistics. ``states`` counts the neurons
    switched on."""
    network.module.eval()
    losses, correct = [], []
    for start in range(0, labels.shape[1], batch_size):
        part = slice(start, start + batch_size)
        target = labels[:, part]
        inputs = x[part].expand(len(weights), *x[part].shape) if rows is None else x[rows[:, part]]
        if states is not None:
            states.rewind(target.shape[1])
        with states or nullcontext():
            logits = network(network.parameters(weights), inputs)
        losses.append(cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(target))
        correct.append(logits.argmax(2) == target)
    if not losses:
        return labels.float(), labels.bool()
    return torch.cat(losses, 1), torch.cat(correct, 1)
