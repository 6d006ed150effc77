"""A stack: same-shaped runs that are pruned, rewound and retrained together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from dsdlib.config import RunConfig
from dsdlib.cost import forward_cost
from dsdlib.data import load as load_dataset
from dsdlib.engine.build import build, pruning_plan
from dsdlib.engine.device import PLAIN, Engine, without_compiler
from dsdlib.engine.loop import BeforeStep, Callbacks, score_columns, train
from dsdlib.engine.network import Network, forward_of
from dsdlib.engine.step import Progress, Recipe, TrainingData
from dsdlib.noise import labels_for
from dsdlib.pruning import gradient_scores, magnitude_scores, prunable, prune, random_scores, spared_weights
from dsdlib.seeding import torch_generator


@dataclass
class State:
    """A stack at the end of a round: all that the next round needs."""

    weights: Tensor  # (runs, parameters)
    masks: Tensor  # (runs, parameters): 0 where pruned, 1 elsewhere
    buffers: dict[str, Tensor]  # BatchNorm's statistics, of a network that has its stack to itself
    untrained: Tensor | None = None  # (runs,): test accuracy after pruning, before retraining


class Stack:
    """Same-shaped runs that go through their rounds together: call `advance` with `fresh()`, then with its results.

    ``teachers`` and ``starts`` are networks, one for each run, or none. Raises ValueError for several runs of a network
    that takes only one.
    """

    def __init__(
        self,
        configs: list[RunConfig],
        device: torch.device,
        teachers: Sequence[nn.Module] = (),
        engine: Engine = PLAIN,
        starts: Sequence[nn.Module] = (),
    ):
        self.configs, self.shared, self.device = configs, configs[0], device
        self.dataset = load_dataset(self.shared.dataset)
        self.network = Network(build(self.shared).to(device))
        if len(configs) > 1 and not self.network.stackable:
            raise ValueError("a network of this kind is trained in a stack of one")
        modules = teachers or not self.network.stackable
        self.engine = without_compiler(engine, device) if modules else engine
        self._plan_pruning()
        self.initial_buffers = self.network.buffers()
        self.initial = self._draw(0)
        self.starts = [start.to(device) for start in starts]
        self.rewind_point = self.dense = self.fresh()
        self.cost = forward_cost(self.network.module, self.dataset.input_shape)
        self._prepare_data(teachers)

    def _plan_pruning(self) -> None:
        module, config = self.network.module, self.shared
        self.prunable = prunable(module, config.prunable).to(self.device)
        groups, self.keep = pruning_plan(config, module)
        self.groups = [group.to(self.device) for group in groups]
        self.remaining = [sum(counts) for counts in self.keep]  # prunable weights left, by round
        self.spared = spared_weights(module, config.prunable, config.amount_of)

    def _draw(self, draw: int) -> Tensor:
        """Each run's own initialisation, (runs, parameters)."""
        networks = [build(config, draw) for config in self.configs]
        return torch.stack([parameters_to_vector(n.parameters()).detach() for n in networks]).to(self.device)

    def _prepare_data(self, teachers: Sequence[nn.Module]) -> None:
        labels = [labels_for(config, self.dataset) for config in self.configs]

        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(run, name) for run in labels]).to(self.device)

        x = self.dataset.train_x.to(self.device)
        black = None if self.dataset.black is None else self.dataset.black.to(self.device)
        self.data = TrainingData(x, stacked("train_rows"), stacked("train_labels"), black=black)
        self.corrupted = stacked("corrupted")
        self.validation = stacked("validation_rows"), stacked("validation_labels")
        self.test = self.dataset.test_x.to(self.device), self.dataset.test_y.to(self.device)
        teachers = [teacher.to(self.device).eval() for teacher in teachers]
        self.data.teachers = [forward_of(teacher, self.engine, self.shared.batch_size) for teacher in teachers]
        if teachers and not self.shared.augment:
            self.data.stored_teacher_logits = _all_teacher_logits(self.data, teachers)

    def fresh(self) -> State:
        """The state before round 0: dense, as initialised or as the run's ``start`` left it."""
        weights, buffers = self.initial, self.initial_buffers
        if self.starts:
            weights = torch.stack([parameters_to_vector(start.parameters()).detach() for start in self.starts])
            buffers = dict(self.starts[0].named_buffers())
        return State(weights, torch.ones_like(weights), buffers)

    def generators(self, purpose: str, round_: int) -> list[torch.Generator]:
        """A random generator for each run."""
        return [torch_generator(config.seed, purpose, round_) for config in self.configs]

    def advance(
        self, state: State, round_: int, callbacks: Callbacks | None = None, progress: Progress | None = None
    ) -> State:
        """Prune and rewind (except in round 0), then train. Returns the state at the end of the round.

        ``state`` is that of the end of the last round, also for a training that goes on with its ``progress``.
        """
        callbacks = replace(callbacks or Callbacks(), before_step=self._rewind_callbacks(round_))
        with self._seeded_layers(round_):
            if round_ > 0:
                state = self.rewind(self.prune(state, round_), round_)
            recipe, generators = self.recipe(round_), self.generators("order", round_)
            if progress is not None:
                state, recipe = self._continued(state, recipe, generators, progress)
            self.network.set_buffers(state.buffers)
            how = recipe, generators, self.engine, callbacks
            weights = train(self.network, state.weights, state.masks, self.data, *how)
        end = State(weights, state.masks, self.network.buffers(), state.untrained)
        self.dense = end if round_ == 0 else self.dense
        return end

    def _continued(
        self, state: State, recipe: Recipe, generators: list[torch.Generator], progress: Progress
    ) -> tuple[State, Recipe]:
        """The state and the recipe to go on with; sets the generators, those of random layers among them."""
        for generator, saved in zip(generators, progress.generators, strict=True):
            generator.set_state(saved.clone())  # PyTorch reads a view from the start of its storage
        torch.set_rng_state(progress.layers["cpu"].clone())
        if self.device.type == "cuda" and "cuda" in progress.layers:
            torch.cuda.set_rng_state(progress.layers["cuda"].clone(), self.device)
        steps = -(-self.data.rows.shape[1] // recipe.batch_size)
        recipe = replace(recipe, first_step=progress.epoch * steps, progress=progress)
        return replace(state, weights=progress.weights, buffers=progress.buffers), recipe

    @contextmanager
    def _seeded_layers(self, round_: int) -> Iterator[None]:
        """Seed PyTorch's global generators, from which dropout draws, by the run and the round; then restore them.

        Networks with random layers have their stack to themselves.
        """
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(torch_generator(self.shared.seed, "layers", round_).initial_seed())
            yield

    def _rewind_callbacks(self, round_: int) -> dict[int, BeforeStep]:
        """For weight rewinding, the step of the dense training before which the rewinding point is recorded."""
        if self.shared.retraining != "weight_rewinding" or round_ > 0:
            return {}
        return {self.shared.rewind_iteration: self._record_rewind_point}

    def _record_rewind_point(self, weights: Tensor) -> None:
        self.rewind_point = State(weights.detach().clone(), self.rewind_point.masks, self.network.buffers())

    def recipe(self, round_: int) -> Recipe:
        """How the stack is trained in that round."""
        c = self.shared
        columns = {n: [getattr(run, n) for run in self.configs] for n in ("lr", "weight_decay", "alpha", "temperature")}
        values = {name: torch.tensor(column, device=self.device) for name, column in columns.items()}
        milestones, first_step = c.milestones, 0
        if round_ > 0 and c.retraining == "finetune":  # continue at the last learning rate
            values["lr"] = values["lr"] * 0.1 ** len(milestones)
            milestones = ()
        if round_ > 0 and c.retraining == "weight_rewinding":
            first_step = c.rewind_iteration
        fixed = c.epochs_of(round_), c.batch_size, c.momentum, milestones, c.augment
        return Recipe(*fixed, **values, optimizer=c.optimizer, first_step=first_step)

    def prune(self, state: State, round_: int) -> State:
        """The previous round's network, or the dense one if pruning is one-shot, with the round's weights left.

        A run with a dense control keeps all its weights.
        """
        one_shot, dense = (
            torch.tensor([[getattr(config, name) == value] for config in self.configs], device=self.device)
            for name, value in (("schedule", "one_shot"), ("control", "dense"))
        )
        weights = torch.where(one_shot, self.dense.weights, state.weights)
        masks = state.masks.masked_fill(one_shot, 1.0)
        buffers = self.dense.buffers if one_shot.all() else state.buffers
        scores = self.scores(State(weights, masks, buffers), round_)
        for group, count in zip(self.groups, self.keep[round_], strict=True):
            masks = prune(scores, masks, group, count).masked_fill(dense, 1.0)
        self.network.set_buffers(buffers)
        measures = score_columns(self.network.forward_function(weights * masks), {"test": self.tests()})
        return State(weights, masks, buffers, measures["test_accuracy"])

    def scores(self, state: State, round_: int) -> Tensor:
        """Each run's pruning scores (runs, parameters) by its criterion (`dsdlib.pruning`); the lowest are pruned."""
        scores = magnitude_scores(state.weights)
        for run, (config, rng) in enumerate(zip(self.configs, self.generators("criterion", round_), strict=True)):
            if config.criterion == "random":
                scores[run] = random_scores(state.weights[run], rng)
            elif config.criterion == "gradient":
                scores[run] = gradient_scores(state.weights[run], self._gradient(state, run, rng))
        return scores

    def _gradient(self, state: State, run: int, rng: torch.Generator) -> Tensor:
        """dL/dweights (parameters,) of a run's mean loss on one random batch.

        BatchNorm uses its running statistics; in the setting of He et al. 2022 it uses the batch's, as their program
        does. The running statistics in ``state`` stay as they are.
        """
        batch = torch.randperm(self.data.rows.shape[1], generator=rng)[: self.shared.batch_size].to(self.device)
        weights = state.weights[run : run + 1].clone().requires_grad_()
        self.network.set_buffers(state.buffers)
        self.network.module.train(self.shared.initialisation == "he2022")
        images = self.data.x[self.data.rows[run, batch]].unsqueeze(0)
        logits = self.network(self.network.parameters(weights), images)[0]
        return torch.autograd.grad(cross_entropy(logits, self.data.labels[run, batch]), weights)[0][0]

    def rewind(self, state: State, round_: int) -> State:
        """The pruned state with the weights that retraining starts from."""
        if self.shared.retraining == "weight_rewinding":
            return replace(state, weights=self.rewind_point.weights, buffers=self.rewind_point.buffers)
        if self.shared.retraining == "reinit":
            return replace(state, weights=self._draw(round_), buffers=self.initial_buffers)
        return state

    def tests(self) -> tuple[Tensor, None, Tensor]:
        """The test data as `evaluate` takes it: all images for every run, and their labels (runs, n)."""
        return self.test[0], None, self.test[1].expand(len(self.configs), -1)

    def tensors(self, state: State, run: int) -> dict[str, Tensor]:
        """One run's state, to be stored: its state_dict, and its masks as ``mask.<weight>``."""
        weights = {n: p[run] for n, p in self.network.parameters(state.weights).items()}
        among = self.network.parameters(self.prunable.unsqueeze(0))
        masks = {n: m[run].bool() for n, m in self.network.parameters(state.masks).items() if among[n].any()}
        return weights | state.buffers | {f"mask.{name}": mask for name, mask in masks.items()}

    def restore(self, runs: list[dict[str, Tensor]]) -> State:
        """The inverse of `tensors`, for all runs of the stack."""
        names, shapes = self.network.names, dict(zip(self.network.names, self.network.shapes, strict=True))

        def row(find: Callable[[str], Tensor]) -> Tensor:
            return torch.cat([find(name).flatten().float() for name in names])

        weights = torch.stack([row(lambda n, t=t: t[n]) for t in runs])
        masks = torch.stack([row(lambda n, t=t: t.get(f"mask.{n}", torch.ones(shapes[n]))) for t in runs])
        buffers = {name: runs[0][name].to(self.device) for name in self.initial_buffers}
        return State(weights.to(self.device), masks.to(self.device), buffers)


@torch.no_grad()
def _all_teacher_logits(data: TrainingData, teachers: Sequence[nn.Module]) -> Tensor:
    """The teachers' logits for all their students' images, (runs, n_train, classes)."""
    return torch.stack(
        [
            torch.cat([teacher(data.x[part]) for part in rows.split(1000)])
            for teacher, rows in zip(teachers, data.rows, strict=True)
        ]
    )
