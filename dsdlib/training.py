"""The training loop. A *stack* of same-shaped runs is one matrix of weights, a row a run, trained all together.

On the CPU the row of a fully connected ReLU network with layers of four neurons or more does not depend, to the last
bit, on which other runs share its stack.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, pad

from dsdlib.calibration import calibration_error
from dsdlib.data import augmented
from dsdlib.distillation import distillation_slope, softmax
from dsdlib.entropy import NeuronStates
from dsdlib.sparse import ThinLayer, awake, linear_layers, thin_layers

threshold_backward = torch.ops.aten.threshold_backward

# Inputs (runs, n, …) → logits (runs, n, classes).
Answer = Callable[[Tensor], Tensor]

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
        # Neurons before samples, (runs, neurons, n): weight times input.
        x = x.flatten(2).mT
        for name, layer in self.module.named_children():
            if isinstance(layer, nn.Linear):
                x = affine(parameters[f"{name}.weight"], parameters.get(f"{name}.bias"), x)
            elif not isinstance(layer, nn.Flatten):
                x = layer(x)
        return x.mT

    def answering(self, weights: Tensor) -> Answer:
        """Runs with such weights, (runs, parameters), as they answer when they are not learning: in evaluation mode, as
        the module is from now on."""
        self.module.eval()
        return partial(self, self.parameters(weights))

    @cached_property
    def compiled(self) -> Callable[[Tensor], Tensor]:
        torch.compiler.reset()  # what it holds of other networks counts towards a limit, beyond which it gives up
        return torch.compile(self.module, dynamic=False)

    def buffers(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.module.named_buffers()}

    def set_buffers(self, values: dict[str, Tensor]) -> None:
        for name, buffer in self.module.named_buffers():
            buffer.copy_(values[name])


def affine(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """A linear layer of a stack: weights (runs, outputs, inputs), biases (runs, outputs), x (runs, inputs, n)."""
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)


def _channels_last(part: Tensor) -> Tensor:
    """The layout in which two-dimensional convolutions, and all that follows them, are fastest."""
    return part.contiguous(memory_format=torch.channels_last) if part.dim() == 4 else part


def _flat(part: Tensor) -> Tensor:
    """A parameter as a vector, in that layout's order; `_shaped` is its opposite."""
    return part.permute(0, 2, 3, 1).flatten() if part.dim() == 4 else part.flatten()


def _shaped(values: Tensor, shape: torch.Size) -> Tensor:
    if len(shape) != 4:
        return values.view(shape)
    out, into, height, width = shape
    return values.view(out, height, width, into).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Engine:
    """How steps are computed, none of which changes what is computed but for rounding."""

    thin: bool = True  # on a CPU, thin layers of fully connected networks by sparse products
    bfloat16: bool = False  # convolutional networks' activations; weights and their updates stay float32
    compiled: bool = False  # convolutional networks, by torch.compile
    graphed: bool = False  # on a GPU, steps are replayed as CUDA graphs

    def described(self, convolutional: bool, device: torch.device) -> str:
        """For provenance, what of it such a network meets on such a device."""
        if self.bfloat16 and convolutional:
            return "bfloat16 activations, compiled"
        return "TensorFloat-32" if self != PLAIN and device.type == "cuda" else "float32"


PLAIN, FAST = Engine(), Engine(bfloat16=True, compiled=True, graphed=True)


@contextmanager
def settings(device: torch.device, engine: Engine = PLAIN) -> Iterator[None]:
    """One thread on a CPU: faster beside a busy process, and the same numbers however many cores there are. On a GPU,
    the products of a plain engine in float32, those of a fast one that bfloat16 leaves alone in TensorFloat-32."""
    before = torch.get_num_threads(), torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.set_float32_matmul_precision("high" if engine.bfloat16 else "highest")
        torch.backends.cudnn.allow_tf32 = engine.bfloat16
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]


@dataclass
class Lessons:
    """What a stack learns from: all training inputs (n, …) once, and each run's own rows and labels of them."""

    x: Tensor
    rows: Tensor  # (runs, n_train): positions in x
    labels: Tensor  # (runs, n_train)
    teachers: Sequence[nn.Module] = ()  # one a run, or none
    answers: Tensor | None = None  # (runs, n_train, classes): what the teachers say, where images stay as they are

    @torch.no_grad()
    def taught(self, positions: Tensor, x: Tensor) -> Tensor:
        """The teachers' logits (runs, n, classes) of ``positions`` in the runs' rows or, where they vary, images x."""
        if self.answers is None:
            return torch.stack([teacher(images) for teacher, images in zip(self.teachers, x, strict=True)])
        return self.answers[torch.arange(len(positions), device=positions.device).unsqueeze(1), positions]

    def of(self, runs: list[int]) -> "Lessons":
        teachers = [self.teachers[run] for run in runs] if self.teachers else ()
        answers = None if self.answers is None else self.answers[runs]
        return Lessons(self.x, self.rows[runs], self.labels[runs], teachers, answers)


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
    optimizer: str = "sgd"  # or adam

    def factor(self, epoch: int) -> float:
        """Of the learning rate: ×0.1 at each milestone."""
        return 0.1 ** sum(milestone <= epoch for milestone in self.milestones)

    def of(self, runs: list[int]) -> "Recipe":
        return replace(self, **{n: getattr(self, n)[runs] for n in ("lr", "weight_decay", "alpha", "temperature")})


class StackLearner:
    """A stack in training. What it learns is one vector: of its ``thin`` layers what is left, of all others the whole.

    Backpropagation is written out: autograd's own cost exceeds that of such small products.
    """

    def __init__(
        self, network: Network, weights: Tensor, masks: Tensor, thin: tuple[str, ...], whole_images: bool = False
    ):
        self.module, self.weights = network.module, weights
        self.columns, self.thin, self.tape = None, {}, []
        numbers = network.parameters(torch.arange(weights.numel(), device=weights.device).view_as(weights))
        asleep = self._thin_out(network.parameters(masks), numbers, thin, whole_images) if thin else []
        self.index = torch.cat([*(part.flatten() for part in numbers.values()), *asleep])
        self.vector, mask = weights.flatten()[self.index], masks.flatten()[self.index]
        self.mask, self.slope = None if mask.all() else mask, torch.zeros_like(self.vector)
        self.parts, self.slopes = _views(self.vector, numbers), _views(self.slope, numbers)
        for name, layer in self.thin.items():
            layer.learn(self.parts[f"{name}.weight"], self.slopes[f"{name}.weight"])

    def _thin_out(
        self, masks: dict[str, Tensor], numbers: dict[str, Tensor], thin: tuple[str, ...], whole_images: bool
    ) -> list[Tensor]:
        """Leave in ``numbers``, which are places in the matrix of weights, what thin layers compute with. The others,
        which lead to no answer, are returned: the decay is all they learn."""
        names, asleep = linear_layers(self.module), []
        left = [masks[f"{name}.weight"].bool() for name in names]
        inputs = torch.ones_like(left[0][:, 0])
        for name, after, mask, outputs in zip(names, [*names[1:], None], left, awake(left), strict=True):
            made = outputs if {name, after} <= {*thin} else torch.ones_like(outputs)
            if name in thin:
                weight, bias, used = f"{name}.weight", f"{name}.bias", mask & outputs.unsqueeze(2)
                if name == names[0] and not whole_images:
                    inputs = used.flatten(0, 1).any(0).expand_as(inputs)
                    self.columns = inputs[0].nonzero().squeeze(1)
                layer = self.thin[name] = ThinLayer(used, inputs, made)
                asleep.append(numbers[weight][mask & ~used])
                numbers[weight] = numbers[weight][used]
                if bias in numbers:
                    asleep.append(numbers[bias][~made])
                    numbers[bias] = numbers[bias][made].view(layer.shape_out)
            inputs = made
        return asleep

    def look(self, x: Tensor) -> Tensor:
        """Of inputs (n, …), what some weight that is left asks for; ``whole_images`` where others look at them too."""
        return x if self.columns is None else x.flatten(1)[:, self.columns]

    def answering(self) -> Answer:
        """`Network.answering` of what is learned so far, at the cost of what is left of it."""
        if self.columns is None:
            return self
        return lambda x: self(x.flatten(2).mT[:, self.columns].mT)  # by rows, several times faster than by columns

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Inputs (runs, n, …) that `look` has seen → logits (runs, n, classes). The tape remembers, of a linear layer,
        what went in and, of an activation, what came out of it."""
        n = x.shape[1]
        x, self.tape = _padded(x.flatten(2)).mT, []
        for name, layer in self.module.named_children():
            if isinstance(layer, nn.Linear):
                x = x.contiguous() if name in self.thin else x
                self.tape.append((name, x))
                bias, thin = self.parts.get(f"{name}.bias"), self.thin.get(name)
                x = thin.times(bias, x) if thin else affine(self.parts[f"{name}.weight"], bias, x)
            elif not isinstance(layer, nn.Flatten):
                x, entry = _activated(layer, x)
                self.tape.append((None, entry))
        return x.mT[:, :n]

    @torch.no_grad()
    def gradients(self, slope: Tensor) -> Tensor:
        """By the vector, from the loss's slope by the logits that the last call has given."""
        slope, first = _padded(slope).mT, next(name for name, _ in self.tape if name)
        for name, entry in reversed(self.tape):
            if name is None:
                slope = entry(slope)
                continue
            weight, bias, thin = f"{name}.weight", f"{name}.bias", self.thin.get(name)
            if thin:
                thin.slope(slope, entry)
            else:
                torch.bmm(slope, entry.mT, out=self.slopes[weight])
            if bias in self.slopes:
                torch.sum(slope, -1, out=self.slopes[bias])
            if name == first:
                break
            slope = thin.back(slope) if thin else torch.bmm(self.parts[weight].mT, slope)
        return self.slope

    def spread(self, values: Tensor) -> Tensor:
        """One value a run, in a shape that goes with the vector."""
        return values[0] if (values == values[0]).all() else values[self.index // self.weights.shape[1]]

    def write(self) -> None:
        """What was learned, to its place in the matrix of weights."""
        self.weights.view(-1)[self.index] = self.vector


def _views(vector: Tensor, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vector's first numbers, by name and in shapes like these."""
    sizes = [shaped.numel() for shaped in like.values()]
    parts = vector[: sum(sizes)].split(sizes)
    return {name: part.view(shaped.shape) for (name, shaped), part in zip(like.items(), parts, strict=True)}


def _padded(x: Tensor) -> Tensor:
    """(runs, n, …) with zeros for samples up to a multiple of 16: the runs' products then begin at like places in the
    memory, on which their last bits may depend."""
    return pad(x, (0, 0, 0, -x.shape[1] % 16)) if x.shape[1] % 16 else x


def _activated(layer: nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """An activation's output, and its backward pass."""
    if isinstance(layer, nn.ReLU):
        y = x.relu()
        return y, lambda slope: threshold_backward(slope, y, 0)
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        y = layer(leaf.clone())  # some work in place
    return y.detach(), lambda slope: torch.autograd.grad(y, leaf, slope)[0]


class ModuleLearner:
    """A run that has its stack to itself, in training: the module's own parameters, views of one vector."""

    def __init__(self, network: Network, weights: Tensor, masks: Tensor, engine: Engine):
        self.network, self.weights, self.engine = network, network.parameters(weights), engine
        self.module = network.compiled if engine.compiled else network.module
        self.vector = torch.cat([_flat(part[0]) for part in self.weights.values()])
        for parameter, values in zip(network.module.parameters(), self.vector.split(network.sizes), strict=True):
            parameter.requires_grad_().data = _shaped(values, parameter.shape)
        mask = torch.cat([_flat(part[0]) for part in network.parameters(masks).values()])
        self.mask, self.answer = None if mask.all() else mask, None

    def look(self, x: Tensor) -> Tensor:
        return x

    def answering(self) -> Answer:
        """`Network.answering` of what is learned so far."""
        self.write()
        self.network.module.eval()
        return partial(self.network, self.weights)

    def __call__(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.engine.bfloat16, cache_enabled=False):
            logits = self.module(x[0])
        self.answer = logits.to(self.vector.dtype).unsqueeze(0)
        return self.answer.detach()

    def gradients(self, slope: Tensor) -> Tensor:
        parameters = list(self.network.module.parameters())
        parts = torch.autograd.grad(self.answer, parameters, slope, materialize_grads=True)
        return torch.cat([_flat(part) for part in parts])

    def spread(self, values: Tensor) -> Tensor:
        return values

    def write(self) -> None:
        for values, part in zip(self.vector.split(self.network.sizes), self.weights.values(), strict=True):
            part[0] = _shaped(values, part.shape[1:])


class Step:
    """A step of SGD or Adam of a whole stack, on tensors that keep their places, so that a GPU can replay it.

    The learning rates hold the masks: a pruned weight, zero from the start, has none.
    """

    def __init__(self, learner: StackLearner | ModuleLearner, lessons: Lessons, recipe: Recipe):
        self.learner, self.lessons, self.recipe = learner, lessons, recipe
        kind = {"dtype": lessons.x.dtype, "device": lessons.x.device}
        self.velocity = torch.zeros_like(learner.vector)
        self.square = torch.zeros_like(learner.vector) if recipe.optimizer == "adam" else None
        self.taken = torch.zeros((), **kind)
        self.decay = learner.spread(recipe.weight_decay) if recipe.weight_decay.any() else None
        self.full_rate = learner.spread(recipe.lr) * (1 if learner.mask is None else learner.mask)
        self.rate = self.full_rate.clone()
        self.momentum = torch.tensor(recipe.momentum, **kind) if recipe.momentum else None
        self.x = None if recipe.augment else learner.look(lessons.x)

    def begin_epoch(self, epoch: int, generators: list[torch.Generator]) -> Sequence[Tensor]:
        """Sets its learning rates and images; returns the batches, each (3, runs, batch): positions in the runs' rows,
        those rows, and their labels."""
        rows, labels = self.lessons.rows, self.lessons.labels
        order = torch.stack([torch.randperm(rows.shape[1], generator=rng) for rng in generators]).to(rows.device)
        torch.mul(self.full_rate, self.recipe.factor(epoch), out=self.rate)
        if self.recipe.augment:
            images = [augmented(self.lessons.x[r], g) for r, g in zip(rows, generators, strict=True)]
            self.x = torch.stack(images, out=self.x)
        batches = torch.stack([order, rows.gather(1, order), labels.gather(1, order)])
        return batches.split(self.recipe.batch_size, dim=2)

    def __call__(self, batch: Tensor) -> None:
        positions, rows, labels = batch
        x = self._images(positions, rows)
        gradient = self.learner.gradients(self._slope(positions, labels, x, self.learner(x)))
        parts = self.learner.vector, gradient, self.velocity, self.rate, self.decay
        if self.square is None:
            _sgd(*parts, self.momentum)
        else:
            self.taken += 1
            _adam(*parts, self.square, self.recipe.momentum, self.taken)

    def _images(self, positions: Tensor, rows: Tensor) -> Tensor:
        if self.recipe.augment:
            return self.x[torch.arange(len(positions), device=positions.device).unsqueeze(1), positions]
        return _gathered(self.x, rows)

    @torch.no_grad()
    def _slope(self, positions: Tensor, labels: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """Of each run's mean loss by its logits, (runs, n, classes): of cross-entropy, it is softmax less the one-hot
        code of the labels."""
        lessons, recipe, n = self.lessons, self.recipe, logits.shape[1]
        slope = softmax(logits.mT)
        slope.scatter_add_(1, labels.unsqueeze(1), torch.full_like(slope[:, :1], -1.0)).div_(n)
        if lessons.teachers:
            alpha = recipe.alpha.view(-1, 1, 1)
            other = distillation_slope(logits.mT, lessons.taught(positions, x).mT, recipe.temperature)
            slope = alpha * other + (1 - alpha) * slope
        return slope.mT


def _gathered(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows]."""
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@torch.no_grad()
def _sgd(
    weights: Tensor, gradient: Tensor, velocity: Tensor, rate: Tensor, decay: Tensor | None, momentum: Tensor | None
) -> None:
    """`torch.optim.SGD`'s step, in as few passes over the memory as give a run the same last bits in every stack."""
    if momentum is not None:
        gradient = torch.addcmul(gradient, velocity, momentum, out=velocity)
    if decay is not None:
        gradient = gradient.addcmul_(weights, decay) if momentum is not None else gradient.addcmul(weights, decay)
    weights.addcmul_(gradient, rate, value=-1)


@torch.no_grad()
def _adam(
    weights: Tensor,
    gradient: Tensor,
    mean: Tensor,
    rate: Tensor,
    decay: Tensor | None,
    square: Tensor,
    beta: float,
    taken: Tensor,
) -> None:
    """`torch.optim.Adam`'s step, the ``taken``-th: its second beta is 0.999, its ε 1e-8."""
    if decay is not None:
        gradient = gradient.addcmul(weights, decay)
    mean.lerp_(gradient, 1 - beta)
    square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    size = (square / (1 - 0.999**taken)).sqrt_().add_(1e-8)
    weights.addcdiv_(mean * rate, size.mul_(1 - beta**taken), value=-1)


class Replayed:
    """A step that a GPU replays as a CUDA graph, without any Python: one graph for each shape of batch, recorded after
    that shape's first steps have been done as usual, which is what PyTorch asks for."""

    def __init__(self, step: Step, warm_up: int = 3):
        self.step, self.warm_up, self.done, self.graphs = step, warm_up, Counter(), {}
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(self, batch: Tensor) -> None:
        shape = batch.shape
        self.done[shape] += 1
        if self.done[shape] <= self.warm_up:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if shape not in self.graphs:
            graph, place = torch.cuda.CUDAGraph(), batch.clone()
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                self.step(place)
            self.graphs[shape] = graph, place
        graph, place = self.graphs[shape]
        place.copy_(batch)
        graph.replay()


def train(
    network: Network,
    weights: Tensor,
    masks: Tensor,
    lessons: Lessons,
    recipe: Recipe,
    generators: list[torch.Generator],
    start: int = 0,
    visits: dict[int, Callable[[Tensor], None]] | None = None,
    engine: Engine = PLAIN,
    after_epoch: Callable[[int, list[int], Answer], None] | None = None,
) -> Tensor:
    """Train (runs, parameters) ``weights`` from iteration ``start`` to the recipe's end, and return them.

    Pruned weights (0 in ``masks``) are exactly zero after every step. ``generators`` draw each run's order of the data.
    ``visits`` are called with the weights before the steps of those numbers, ``after_epoch`` with the epoch, some of
    the runs, and their answers. On the CPU, runs whose layers are thin enough are trained on what is left of them.
    """
    network.module.train()
    learned, alike = weights * masks, [()] * len(weights)
    if engine.thin and network.stackable and weights.device.type == "cpu" and not visits:
        alike = thin_layers(network.module, network.parameters(masks))
    for thin in dict.fromkeys(alike):
        runs = [run for run, layers in enumerate(alike) if layers == thin]
        own = learned[runs]
        if network.stackable:
            learner = StackLearner(network, own, masks[runs], thin, whole_images=recipe.augment)
        else:
            learner = ModuleLearner(network, own, masks[runs], engine)
        step = Step(learner, lessons.of(runs), recipe.of(runs))
        watch = None if after_epoch is None else partial(_watched, after_epoch, runs, step)
        _run_through(step, own, [generators[run] for run in runs], start, visits or {}, engine, watch)
        learned[runs] = own.detach().masked_fill_(masks[runs] == 0, 0.0)
    return learned


def _watched(after_epoch: Callable[[int, list[int], Answer], None], runs: list[int], step: Step, epoch: int) -> None:
    after_epoch(epoch, runs, step.learner.answering())
    step.learner.module.train()


def _run_through(
    step: Step,
    weights: Tensor,
    generators: list[torch.Generator],
    start: int,
    visits: dict[int, Callable[[Tensor], None]],
    engine: Engine,
    watch: Callable[[int], None] | None = None,
) -> None:
    """All the steps of a training, from number ``start`` on; ``weights`` then hold what was learned."""
    recipe, take = step.recipe, Replayed(step) if engine.graphed and weights.is_cuda else step
    steps = -(-step.lessons.rows.shape[1] // recipe.batch_size)
    for epoch in range(start // steps, recipe.epochs):
        for number, batch in enumerate(step.begin_epoch(epoch, generators), epoch * steps):
            if number < start:
                continue
            if number in visits:
                step.learner.write()
                visits[number](weights)
            take(batch)
        if watch is not None:
            watch(epoch)
    step.learner.write()


@torch.no_grad()
def evaluate(
    answer: Answer,
    x: Tensor,
    rows: Tensor | None,
    labels: Tensor,
    states: NeuronStates | None = None,
    batch_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses, whether each ``answer`` (`Network.answering`) was right, and its confidence (the largest of the softmax's
    probabilities), each (runs, n), of inputs ``x[rows]`` ((runs,
    n) positions) or, with ``rows`` None, of all ``x`` for every run. BatchNorm uses its running statistics. ``states``
    counts the neurons switched on. Batches are such as a processor's cache holds, or a GPU is busy with."""
    batch_size = batch_size or (1000 if x.is_cuda else 192)
    losses, correct, confidences = [], [], []
    for start in range(0, labels.shape[1], batch_size):
        part = slice(start, start + batch_size)
        target = labels[:, part]
        inputs = x[part].expand(len(labels), *x[part].shape) if rows is None else _gathered(x, rows[:, part])
        if states is not None:
            states.rewind(target.shape[1])
        with states or nullcontext():
            logits = answer(inputs).mT
        losses.append(cross_entropy(logits, target, reduction="none"))
        highest, answers = logits.max(1, keepdim=True)
        correct.append(answers.squeeze(1) == target)
        confidences.append((logits - highest).exp_().sum(1).reciprocal_())
    if not losses:
        return labels.float(), labels.bool(), labels.float()
    return torch.cat(losses, 1), torch.cat(correct, 1), torch.cat(confidences, 1)


def scored(answer: Answer, parts: dict[str, tuple[Tensor, Tensor | None, Tensor]]) -> dict[str, Tensor]:
    """Mean ``<part>_accuracy`` and ``<part>_loss`` and the ``<part>_ece`` (`calibration_error`), each (runs,), of parts
    of the data: `evaluate`'s x, rows, y."""
    columns = {}
    for name, part in parts.items():
        loss, right, confidence = evaluate(answer, *part)
        columns |= {f"{name}_accuracy": right.double().mean(1), f"{name}_loss": loss.double().mean(1)}
        columns[f"{name}_ece"] = calibration_error(confidence, right)
    return columns
