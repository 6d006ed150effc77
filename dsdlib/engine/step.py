"""One training step: batches, the gradient of the loss, the optimiser's update, and its replay as a CUDA graph."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dsdlib.data import augmented
from dsdlib.distillation import distillation_gradient, softmax
from dsdlib.engine.network import ModuleTrainer
from dsdlib.engine.stacked import StackedTrainer


@dataclass
class TrainingData:
    """The inputs ``x`` (n, …) of a stack, and for each run its rows of them, its labels, and its teacher."""

    x: Tensor
    rows: Tensor  # (runs, n_train): positions in x
    labels: Tensor  # (runs, n_train)
    teachers: Sequence[Callable[[Tensor], Tensor]] = ()  # forward passes, one a run, or none
    stored_teacher_logits: Tensor | None = None  # (runs, n_train, classes), if images are not augmented
    black: Tensor | None = None  # (channels,): the value of black pixels, which pad augmented images

    @torch.no_grad()
    def teacher_logits(self, positions: Tensor, x: Tensor) -> Tensor:
        """The teachers' logits (runs, n, classes) at ``positions`` (runs, n) among the runs' rows.

        With augmentation they are computed from the batch's images ``x`` (runs, n, …).
        """
        if self.stored_teacher_logits is None:
            return torch.stack([teacher(images) for teacher, images in zip(self.teachers, x, strict=True)])
        runs = torch.arange(len(positions), device=positions.device).unsqueeze(1)
        return self.stored_teacher_logits[runs, positions]

    def of(self, runs: list[int]) -> "TrainingData":
        """The data of some of the runs."""
        teachers = [self.teachers[run] for run in runs] if self.teachers else ()
        stored = None if self.stored_teacher_logits is None else self.stored_teacher_logits[runs]
        return TrainingData(self.x, self.rows[runs], self.labels[runs], teachers, stored, self.black)


@dataclass
class Progress:
    """Runs between two epochs of a round.

    With ``buffers`` and ``layers``, which `dsdlib.engine.partial` adds, it is all that their training needs to end
    with the same last bits.
    """

    epoch: int  # the next one
    weights: Tensor  # (runs, parameters)
    velocity: Tensor  # (runs, parameters)
    square: Tensor | None  # (runs, parameters): Adam's second moment
    taken: Tensor  # (): the number of Adam's steps
    generators: Tensor  # (runs, bytes): the states of the generators that draw the order of the data
    buffers: dict[str, Tensor] = field(default_factory=dict)  # of a network that has its stack to itself
    layers: dict[str, Tensor] = field(default_factory=dict)  # PyTorch's global generators, by the kind of device

    def of(self, runs: list[int]) -> "Progress":
        """The progress of some of the runs."""
        square = None if self.square is None else self.square[runs]
        rows = self.weights[runs], self.velocity[runs], square
        return Progress(self.epoch, *rows, self.taken, self.generators[runs])


@dataclass
class Recipe:
    """How a stack is trained in one round. Tensors hold one value a run."""

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
    first_step: int = 0  # training starts with this step of the schedule, as weight rewinding does
    progress: Progress | None = None  # of a training that was stopped between two epochs

    def lr_factor(self, epoch: int) -> float:
        """The factor of the learning rate in an epoch: 0.1 for each milestone that has been reached."""
        return 0.1 ** sum(milestone <= epoch for milestone in self.milestones)

    def of(self, runs: list[int]) -> "Recipe":
        """The recipe of some of the runs."""
        rates = {n: getattr(self, n)[runs] for n in ("lr", "weight_decay", "alpha", "temperature")}
        return replace(self, **rates, progress=self.progress and self.progress.of(runs))


class Step:
    """One step of SGD or Adam for a whole stack, on tensors that keep their addresses, so that a GPU can replay it.

    Masks enter through the learning rates: the rate of a pruned weight is zero, and the weight stays exactly zero. The
    rate of a frozen parameter is zero, too.
    """

    def __init__(self, trainer: StackedTrainer | ModuleTrainer, data: TrainingData, recipe: Recipe):
        self.trainer, self.data, self.recipe = trainer, data, recipe
        kind = {"dtype": data.x.dtype, "device": data.x.device}
        self.velocity = torch.zeros_like(trainer.vector)
        self.square = torch.zeros_like(trainer.vector) if recipe.optimizer == "adam" else None
        self.taken = torch.zeros((), dtype=torch.float64, device=data.x.device)
        self.decay = trainer.per_parameter(recipe.weight_decay) if recipe.weight_decay.any() else None
        self.full_rate = trainer.per_parameter(recipe.lr) * (1 if trainer.mask is None else trainer.mask)
        self.rate = self.full_rate.clone()
        self.momentum = torch.tensor(recipe.momentum, **kind) if recipe.momentum else None
        self.x = None if recipe.augment else trainer.used_inputs(data.x)
        if recipe.progress is not None:
            self._resume(recipe.progress)

    def _resume(self, progress: Progress) -> None:
        self.velocity.copy_(self.trainer.vector_of(progress.velocity))
        self.taken.copy_(progress.taken)
        if self.square is not None:
            self.square.copy_(self.trainer.vector_of(progress.square))

    def progress(self, epoch: int, generators: list[torch.Generator]) -> Progress:
        """All that the training needs to go on with that epoch."""
        moments = self.velocity, self.square
        rows = (
            None if part is None else self.trainer.rows_of(part) for part in (self.trainer.vector.detach(), *moments)
        )
        return Progress(epoch, *rows, self.taken.clone(), torch.stack([rng.get_state() for rng in generators]))

    def begin_epoch(self, epoch: int, generators: list[torch.Generator]) -> Sequence[Tensor]:
        """Set the epoch's learning rates and augmented images, and return its batches.

        A batch is (3, runs, batch): positions among the runs' rows, those rows, and their labels. ``generators`` draw
        the order of the data and the augmentation, one a run.
        """
        rows, labels = self.data.rows, self.data.labels
        order = torch.stack([torch.randperm(rows.shape[1], generator=rng) for rng in generators]).to(rows.device)
        torch.mul(self.full_rate, self.recipe.lr_factor(epoch), out=self.rate)
        if self.recipe.augment:
            images = [augmented(self.data.x[r], g, self.data.black) for r, g in zip(rows, generators, strict=True)]
            self.x = torch.stack(images, out=self.x)
        batches = torch.stack([order, rows.gather(1, order), labels.gather(1, order)])
        return batches.split(self.recipe.batch_size, dim=2)

    def __call__(self, batch: Tensor) -> Tensor:
        """Forward, backward, update. Returns the logits (runs, n, classes) of the forward pass."""
        gradient, logits = self.gradient(batch)
        parts = self.trainer.vector, gradient, self.velocity, self.rate, self.decay
        if self.square is None:
            _sgd(*parts, self.momentum)
        else:
            self.taken += 1
            _adam(*parts, self.square, self.recipe.momentum, self.taken)
        return logits

    def gradient(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The gradient of the runs' mean losses in a batch, in the order of the parameter vector, and the logits."""
        positions, rows, labels = batch
        x = self._images(positions, rows)
        logits = self.trainer(x)
        return self.trainer.backward(self._logit_gradient(positions, labels, x, logits)), logits

    def _images(self, positions: Tensor, rows: Tensor) -> Tensor:
        if self.recipe.augment:
            return self.x[torch.arange(len(positions), device=positions.device).unsqueeze(1), positions]
        return gather_rows(self.x, rows)

    @torch.no_grad()
    def _logit_gradient(self, positions: Tensor, labels: Tensor, x: Tensor, logits: Tensor) -> Tensor:
        """dL/dlogits of each run's mean loss, (runs, n, classes). For cross-entropy: (softmax − one-hot labels) / n."""
        data, recipe, n = self.data, self.recipe, logits.shape[1]
        gradient = softmax(logits.mT)
        gradient.scatter_add_(1, labels.unsqueeze(1), torch.full_like(gradient[:, :1], -1.0)).div_(n)
        if data.teachers:
            alpha = recipe.alpha.view(-1, 1, 1)
            other = distillation_gradient(logits.mT, data.teacher_logits(positions, x).mT, recipe.temperature)
            gradient = alpha * other + (1 - alpha) * gradient
        return gradient.mT


def gather_rows(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows], for rows (runs, n); faster than indexing."""
    return x.index_select(0, rows.flatten()).unflatten(0, rows.shape)


@torch.no_grad()
def _sgd(
    weights: Tensor, gradient: Tensor, velocity: Tensor, rate: Tensor, decay: Tensor | None, momentum: Tensor | None
) -> None:
    """The update of `torch.optim.SGD`, in the fewest passes over memory that give a run the same last bits in every
    stack."""
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
    """Update number ``taken`` (from 1) of `torch.optim.Adam`, with a second beta of 0.999 and an ε of 1e-8."""
    if decay is not None:
        gradient = gradient.addcmul(weights, decay)
    mean.lerp_(gradient, 1 - beta)
    square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
    size = (square / (1 - 0.999**taken)).sqrt_().add_(1e-8)
    weights.addcdiv_(mean * rate, size.mul_(1 - beta**taken), value=-1)


class Replayed:
    """A step that a GPU replays as a CUDA graph, without Python: one graph for each shape of batch.

    A graph is recorded after that shape's first ``warm_up`` steps have been executed as usual, as PyTorch requires.
    """

    def __init__(self, step: Step, warm_up: int = 3):
        self.step, self.warm_up, self.done, self.graphs = step, warm_up, Counter(), {}
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()

    def __call__(self, batch: Tensor) -> Tensor:
        """Take the step on a batch. The next step on a batch of that shape overwrites the logits that are returned."""
        shape = batch.shape
        self.done[shape] += 1
        if self.done[shape] <= self.warm_up:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                logits = self.step(batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return logits
        if shape not in self.graphs:
            graph, place = torch.cuda.CUDAGraph(), batch.clone()
            with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
                logits = self.step(place)
            self.graphs[shape] = graph, place, logits
        graph, place, logits = self.graphs[shape]
        place.copy_(batch)
        graph.replay()
        return logits
