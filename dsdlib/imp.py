"""Iterative pruning of a stack of runs: train, measure, prune, put the weights where the retraining wants them."""

from __future__ import annotations

import hashlib
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from dsdlib import data, models
from dsdlib.calibration import calibration_error
from dsdlib.config import ConfigError, RunConfig
from dsdlib.cost import forward_cost, training_flops
from dsdlib.entropy import NeuronStates, entropy_columns
from dsdlib.geometry import learning_distance
from dsdlib.pruning import layer_names, plan, prunable, prune, spared_weights
from dsdlib.seeding import torch_generator
from dsdlib.training import FAST, PLAIN, Answer, Engine, Lessons, Network, Recipe, evaluate, scored, train

# Fields in which runs of one stack may differ; all others they share.
PER_RUN = {"seed", "noise_kind", "noise_rate", "noise_labels", "lr", "weight_decay"}
PER_RUN |= {"criterion", "schedule", "start", "start_round", "teacher", "teacher_round", "alpha", "temperature"}


@dataclass
class State:
    """A stack at the end of a round: all that the next round needs."""

    weights: Tensor  # (runs, parameters)
    masks: Tensor  # (runs, parameters): 0 where pruned, 1 elsewhere
    buffers: dict[str, Tensor]  # BatchNorm's, of a network that cannot be stacked
    untrained: Tensor | None = None  # (runs,): test accuracy after pruning, before training


def resolve_device(device: str) -> torch.device:
    """``auto`` is the first GPU, or the CPU where there is none; any other name must be on this machine."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    allowed = ["auto", "cpu", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if device not in (*allowed, *(["cuda"] if len(allowed) > 2 else [])):
        raise ConfigError(f"device = {device!r}: not on this machine; allowed: {', '.join(allowed)}")
    return torch.device(device)


def resolve_engine(engine: str, device: torch.device) -> Engine:
    """``plain``, ``fast``, or ``auto``: fast on a GPU, plain on a CPU."""
    engines = {"plain": PLAIN, "fast": FAST, "auto": FAST if device.type == "cuda" else PLAIN}
    if engine not in engines:
        raise ConfigError(f"engine = {engine!r}: unknown; allowed: {', '.join(engines)}")
    return engines[engine]


def build(config: RunConfig, draw: int = 0) -> nn.Module:
    """The run's network as initialised; ``draw`` counts its re-initialisations."""
    dataset = data.load(config.dataset)
    shape = dataset.input_shape, dataset.classes
    return models.build(config.model, *shape, config.model_args, config.seed, draw, config.initialisation)


def identity(config: RunConfig) -> dict[str, str]:
    """What a name in the configuration stands for today: checksums of the data and of the network's shape."""
    shapes = repr([(name, tuple(p.shape)) for name, p in build(config).named_parameters()])
    return {
        "data_sha256": data.load(config.dataset).checksum(),
        "network_sha256": hashlib.sha256(shapes.encode()).hexdigest(),
    }


def stack_shape(config: RunConfig) -> str:
    """Runs with the same answer may share a stack."""
    shared = config.model_dump(mode="json", exclude=PER_RUN)
    return json.dumps([shared, sorted(config.sources())], sort_keys=True)


def stackable(config: RunConfig) -> bool:
    return Network(build(config)).stackable


def work(config: RunConfig) -> float:
    """A run's training FLOPs, before any pruning: to tell long runs from short ones."""
    dataset = data.load(config.dataset)
    samples = (config.epochs + config.rounds * config.epochs_of(1)) * len(dataset.train_y)
    return training_flops(*forward_cost(build(config), dataset.input_shape), samples)


def check(config: RunConfig) -> None:
    """Raises `ConfigError` for what only the data or the network can tell: before any training starts."""
    dataset = data.load(config.dataset)
    labels = data.labels_for(config, dataset)
    if config.batch_size > (n := len(labels.train_rows)):
        raise ConfigError(f"batch_size = {config.batch_size}: the data has only {n} training images")
    if config.augment and len(dataset.input_shape) != 3:
        raise ConfigError(f"augment = True: {config.dataset} holds {dataset.input_shape} inputs, not images")
    if config.noise_kind == "asymmetric" and config.noise_rate and not dataset.confusions:
        raise ConfigError(f"noise_kind = 'asymmetric': no confusions are known for the classes of {config.dataset}")
    iterations = min(config.epochs, config.epochs_of(1)) * -(-n // config.batch_size)
    if config.rewind_iteration >= iterations:
        raise ConfigError(f"rewind_iteration = {config.rewind_iteration}: a training has {iterations} iterations")
    network = build(config)
    plan(network, *_pruning_of(config))
    _check_start(config, network)
    _check_answers(config, network.eval(), dataset)
    if config.teacher is not None:
        taught = data.load(config.teacher.dataset)
        if (taught.classes, taught.input_shape) != (dataset.classes, dataset.input_shape):
            raise ConfigError(
                f"teacher: knows {taught.classes} classes of {taught.input_shape} inputs, "
                f"its student learns {dataset.classes} of {dataset.input_shape}"
            )


def _pruning_of(config: RunConfig) -> tuple[str, str, float, int, str]:
    return config.prunable, config.scope, config.amount, config.rounds, config.amount_of


def _check_start(config: RunConfig, network: nn.Module) -> None:
    if config.start is None:
        return
    both = network, build(config.start)
    here, there = ([tuple(p.shape) for p in one.parameters()] for one in both)
    if here != there or len({tuple(name for name, _ in one.named_buffers()) for one in both}) > 1:
        raise ConfigError(
            f"start: run {config.start.key} is another network, {config.start.model}; its weights do not fit"
        )


@torch.no_grad()
def _check_answers(config: RunConfig, network: nn.Module, dataset: data.Dataset) -> None:
    try:
        answer = network(dataset.train_x[:2])
    except Exception as error:
        raise ConfigError(f"model = {config.model!r}: cannot take {dataset.input_shape} inputs ({error})") from None
    if answer.shape != (2, dataset.classes):
        raise ConfigError(
            f"model = {config.model!r}: answers {tuple(answer.shape)} for 2 images of {dataset.classes} classes"
        )


class Stack:
    """Same-shaped runs, carried through their rounds together."""

    def __init__(
        self,
        configs: list[RunConfig],
        device: torch.device,
        teachers: Sequence[nn.Module] = (),
        engine: Engine = PLAIN,
        starts: Sequence[nn.Module] = (),
    ):
        self.configs, self.shared, self.device, self.engine = configs, configs[0], device, engine
        self.dataset = data.load(self.shared.dataset)
        self.network = Network(build(self.shared).to(device))
        if len(configs) > 1 and not self.network.stackable:
            raise ValueError("a network of this kind is trained in a stack of one")
        self.prunable = prunable(self.network.module, self.shared.prunable).to(device)
        groups, self.keep = plan(self.network.module, *_pruning_of(self.shared))
        self.groups, self.remaining = [group.to(device) for group in groups], [sum(counts) for counts in self.keep]
        self.spared = spared_weights(self.network.module, self.shared.prunable, self.shared.amount_of)
        self.initial_buffers = self.network.buffers()
        self.initial = self._draw(0)
        self.starts = [start.to(device) for start in starts]
        self.rewind_point = self.dense = self.fresh()
        self.cost = forward_cost(self.network.module, self.dataset.input_shape)
        self._prepare_data(teachers)

    def _draw(self, draw: int) -> Tensor:
        """Each run's own initialisation, (runs, parameters)."""
        networks = [build(config, draw) for config in self.configs]
        return torch.stack([parameters_to_vector(n.parameters()).detach() for n in networks]).to(self.device)

    def _prepare_data(self, teachers: Sequence[nn.Module]) -> None:
        labels = [data.labels_for(config, self.dataset) for config in self.configs]

        def stacked(name: str) -> Tensor:
            return torch.stack([getattr(run, name) for run in labels]).to(self.device)

        x = self.dataset.train_x.to(self.device)
        self.lessons = Lessons(x, stacked("train_rows"), stacked("train_labels"))
        self.corrupted = stacked("corrupted")
        self.validation = stacked("validation_rows"), stacked("validation_labels")
        self.test = self.dataset.test_x.to(self.device), self.dataset.test_y.to(self.device)
        self.lessons.teachers = [teacher.to(self.device).eval() for teacher in teachers]
        if teachers and not self.shared.augment:
            self.lessons.answers = _answers(self.lessons)

    def fresh(self) -> State:
        """Before round 0: dense, as initialised or as another run left it."""
        weights, buffers = self.initial, self.initial_buffers
        if self.starts:
            weights = torch.stack([parameters_to_vector(start.parameters()).detach() for start in self.starts])
            buffers = dict(self.starts[0].named_buffers())
        return State(weights, torch.ones_like(weights), buffers)

    def generators(self, purpose: str, round_: int) -> list[torch.Generator]:
        return [torch_generator(config.seed, purpose, round_) for config in self.configs]

    def advance(
        self, state: State, round_: int, after_epoch: Callable[[int, list[int], Answer], None] | None = None
    ) -> State:
        """Prune (but for round 0), put the weights back, train: the state at the end of the round."""
        start, rewinds = 0, self.shared.retraining == "weight_rewinding"
        if round_ > 0:
            state = self._put_back(self._pruned(state, round_), round_)
            start = self.shared.rewind_iteration if rewinds else 0
        self.network.set_buffers(state.buffers)
        weights = train(
            self.network,
            state.weights,
            state.masks,
            self.lessons,
            self.recipe(round_),
            self.generators("order", round_),
            start,
            {self.shared.rewind_iteration: self._mark_rewind_point} if rewinds and round_ == 0 else None,
            self.engine,
            after_epoch,
        )
        end = State(weights, state.masks, self.network.buffers(), state.untrained)
        self.dense = end if round_ == 0 else self.dense
        return end

    def _mark_rewind_point(self, weights: Tensor) -> None:
        self.rewind_point = State(weights.detach().clone(), self.rewind_point.masks, self.network.buffers())

    def recipe(self, round_: int) -> Recipe:
        c = self.shared
        columns = {n: [getattr(run, n) for run in self.configs] for n in ("lr", "weight_decay", "alpha", "temperature")}
        values = {name: torch.tensor(column, device=self.device) for name, column in columns.items()}
        epochs = c.epochs_of(round_)
        milestones = c.milestones
        if c.retraining == "finetune" and round_ > 0:  # go on at the last learning rate
            values["lr"] = values["lr"] * 0.1 ** len(milestones)
            milestones = ()
        return Recipe(epochs, c.batch_size, c.momentum, milestones, c.augment, **values, optimizer=c.optimizer)

    def _pruned(self, state: State, round_: int) -> State:
        """The last round's network, or the dense one where pruning is in one shot, with the round's weights left."""
        one_shot = torch.tensor([[config.schedule == "one_shot"] for config in self.configs], device=self.device)
        weights = torch.where(one_shot, self.dense.weights, state.weights)
        masks = state.masks.masked_fill(one_shot, 1.0)
        buffers = self.dense.buffers if one_shot.all() else state.buffers
        scores = self._scores(State(weights, masks, buffers), round_)
        for group, count in zip(self.groups, self.keep[round_], strict=True):
            masks = prune(scores, masks, group, count)
        self.network.set_buffers(buffers)
        _, right, _ = evaluate(self.network.answering(weights * masks), *self._tests())
        return State(weights, masks, buffers, right.double().mean(1))

    def _scores(self, state: State, round_: int) -> Tensor:
        """What pruning keeps the highest of (He et al. 2022, section 3): |w|, |∂L/∂w · w| on one batch, or chance."""
        scores = state.weights.abs()
        for run, (config, rng) in enumerate(zip(self.configs, self.generators("criterion", round_), strict=True)):
            if config.criterion == "random":
                scores[run] = torch.rand(scores.shape[1], generator=rng)
            elif config.criterion == "gradient":
                scores[run] *= self._gradient(state, run, rng).abs()
        return scores

    def _gradient(self, state: State, run: int, rng: torch.Generator) -> Tensor:
        """Of a run's loss on one batch, by its weights, (parameters,)."""
        batch = torch.randperm(self.lessons.rows.shape[1], generator=rng)[: self.shared.batch_size].to(self.device)
        weights = state.weights[run : run + 1].clone().requires_grad_()
        self.network.set_buffers(state.buffers)
        self.network.module.eval()
        images = self.lessons.x[self.lessons.rows[run, batch]].unsqueeze(0)
        logits = self.network(self.network.parameters(weights), images)[0]
        return torch.autograd.grad(cross_entropy(logits, self.lessons.labels[run, batch]), weights)[0][0]

    def _put_back(self, state: State, round_: int) -> State:
        if self.shared.retraining == "weight_rewinding":
            return replace(state, weights=self.rewind_point.weights, buffers=self.rewind_point.buffers)
        if self.shared.retraining == "reinit":
            return replace(state, weights=self._draw(round_), buffers=self.initial_buffers)
        return state

    def _tests(self) -> tuple[Tensor, None, Tensor]:
        """Images, all of them for every run, and their labels."""
        return self.test[0], None, self.test[1].expand(len(self.configs), -1)

    def epoch(self, runs: list[int], answer: Answer) -> list[dict[str, float]]:
        """Accuracies and losses of some of the runs after an epoch of training, a row a run; ``answer`` is theirs."""
        rows, labels = (part[runs] for part in self.validation)
        tests, everywhere, truth = self._tests()
        parts = {
            "train": (self.lessons.x, self.lessons.rows[runs], self.lessons.labels[runs]),
            "validation": (self.lessons.x, rows, labels),
            "test": (tests, everywhere, truth[runs]),
        }
        return _by_run(scored(answer, parts), len(runs))

    def measure(self, state: State, round_: int) -> list[dict[str, Any]]:
        """A row a run: everything measured at the end of the round (the last epoch)."""
        network, lessons = self.network, self.lessons
        network.set_buffers(state.buffers)
        answer, states = network.answering(state.weights), NeuronStates(network.stackable)
        loss, right, confidence = evaluate(answer, lessons.x, lessons.rows, lessons.labels, states)
        columns = {
            "train_accuracy": right.double().mean(1),
            "train_loss": loss.double().mean(1),
            "train_ece": calibration_error(confidence, right),
            "train_accuracy_corrupted": _mean_where(right, self.corrupted),
            "train_accuracy_clean": _mean_where(right, ~self.corrupted),
            "corrupted_fraction": self.corrupted.double().mean(1),
        }
        parts = {"validation": (lessons.x, *self.validation), "test": self._tests()}
        columns |= scored(answer, parts)
        columns["pruned_test_accuracy"] = torch.full_like(columns["test_accuracy"], torch.nan)
        if state.untrained is not None:
            columns["pruned_test_accuracy"] = state.untrained
        columns |= entropy_columns(states)
        columns |= self._distances(state)
        columns |= self._costs(state, round_)
        left = self.remaining[round_]
        counted, total = left + self.spared, self.remaining[0] + self.spared
        fixed = {"round": round_, "sparsity": 1 - counted / total, "remaining_weights": left}
        return [{**fixed, **row} for row in _by_run(columns, len(self.configs))]

    def _distances(self, state: State) -> dict[str, Tensor]:
        """`learning_distance` of the whole, and of each convolution and linear layer, counted from 1."""
        module = self.network.module
        layers = {name: number for number, name in enumerate(layer_names(module), 1)}
        owners = [layers.get(name.rpartition(".")[0], 0) for name in self.network.names]
        squares = learning_distance(self.initial, state.weights, self.network.sizes).square()
        columns = {"learning_distance": squares.sum(1).sqrt()}
        for number in layers.values():
            mine = [part for part, owner in enumerate(owners) if owner == number]
            columns[f"learning_distance_{number}"] = squares[:, mine].sum(1).sqrt()
        return columns

    def _costs(self, state: State, round_: int) -> dict[str, Tensor]:
        size, n = self.shared.batch_size, self.lessons.rows.shape[1]
        skipped = self.shared.rewind_iteration if round_ > 0 else 0
        samples = self.shared.epochs_of(round_) * n - skipped // -(-n // size) * n - skipped % -(-n // size) * size
        masks = self.network.parameters(state.masks)
        dense = training_flops(*self.cost, samples)
        return {
            "train_flops": torch.full((len(self.configs),), dense, dtype=torch.float64),
            "train_flops_sparse": training_flops(*self.cost, samples, masks),
        }

    def tensors(self, state: State, run: int) -> dict[str, Tensor]:
        """One run of the stack, to be stored: its state_dict, and its masks as ``mask.<weight>``."""
        weights = {n: p[run] for n, p in self.network.parameters(state.weights).items()}
        among = self.network.parameters(self.prunable.unsqueeze(0))
        masks = {n: m[run].bool() for n, m in self.network.parameters(state.masks).items() if among[n].any()}
        return weights | state.buffers | {f"mask.{name}": mask for name, mask in masks.items()}

    def restore(self, runs: list[dict[str, Tensor]]) -> State:
        """The opposite of `tensors`, for all runs of the stack."""
        names, shapes = self.network.names, dict(zip(self.network.names, self.network.shapes, strict=True))

        def row(find: Callable[[str], Tensor]) -> Tensor:
            return torch.cat([find(name).flatten().float() for name in names])

        weights = torch.stack([row(lambda n, t=t: t[n]) for t in runs])
        masks = torch.stack([row(lambda n, t=t: t.get(f"mask.{n}", torch.ones(shapes[n]))) for t in runs])
        buffers = {name: runs[0][name].to(self.device) for name in self.initial_buffers}
        return State(weights.to(self.device), masks.to(self.device), buffers)


def _by_run(columns: dict[str, Tensor], runs: int) -> list[dict[str, float]]:
    """Columns (runs,) as a row a run."""
    values = {name: column.tolist() for name, column in columns.items()}
    return [{name: column[run] for name, column in values.items()} for run in range(runs)]


def _mean_where(right: Tensor, where: Tensor) -> Tensor:
    """The mean over those samples, not a number where there are none."""
    return (right & where).sum(1).double() / where.sum(1)


@torch.no_grad()
def _answers(lessons: Lessons) -> Tensor:
    """The teachers' logits of their students' images, once for all."""
    return torch.stack(
        [
            torch.cat([teacher(lessons.x[part]) for part in rows.split(1000)])
            for teacher, rows in zip(lessons.teachers, lessons.rows, strict=True)
        ]
    )


def run_rounds(
    stack: Stack,
    state: State,
    first: int,
    save: Callable[[int, State, list[dict[str, Any]]], None],
    after_epoch: Callable[[int, int, list[int], list[dict[str, float]]], None] | None = None,
) -> None:
    """Carry a stack from round ``first`` to its last; ``save`` is handed each round as it ends, ``after_epoch`` round,
    epoch, runs and their rows (`Stack.epoch`)."""
    for round_ in range(first, stack.shared.rounds + 1):
        started = time.perf_counter()

        def look(epoch: int, runs: list[int], answer: Answer, round_: int = round_) -> None:
            after_epoch(round_, epoch, runs, stack.epoch(runs, answer))

        state = stack.advance(state, round_, look if after_epoch else None)
        rows = stack.measure(state, round_)
        seconds = (time.perf_counter() - started) / len(rows)
        for config, row in zip(stack.configs, rows, strict=True):
            row["seconds"] = seconds
            if row["train_loss"] != row["train_loss"]:
                warnings.warn(f"run {config.key} diverged in round {round_} (lr = {config.lr})", stacklevel=2)
        save(round_, state, rows)
