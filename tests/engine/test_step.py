"""One training step: masks, teacher logits, and its replay on a simulated GPU."""

from contextlib import contextmanager

import pytest
import torch

from dsdlib import data
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.device import Engine
from dsdlib.engine.loop import Callbacks, train
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Replayed, Step

CPU = torch.device("cpu")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)


@pytest.mark.parametrize("retraining", ["lr_rewinding", "weight_rewinding", "finetune", "reinit"])
def test_pruned_weights_are_exactly_zero_after_every_step(retraining, monkeypatch, train_rounds):
    checks = []

    def watched(network, weights, masks, data, recipe, generators, engine, callbacks):
        def check(now):
            checks.append(bool((now[masks == 0] == 0).all()) and bool((now[masks == 1] != 0).any()))

        assert set(callbacks.before_step) <= {0}
        every_step = Callbacks(dict.fromkeys(range(2 * 17), check))
        return train(network, weights, masks, data, recipe, generators, engine, every_step)

    monkeypatch.setattr("dsdlib.engine.stack.train", watched)
    done = train_rounds(LENET.vary(retraining=retraining, weight_decay=0.01))
    assert len(checks) == 3 * 2 * 17 and all(checks)
    prunable, remaining = done.stack.prunable, done.stack.remaining
    for round_, state in enumerate(done.states):
        zeros = int((state.weights[0, prunable] == 0).sum())
        assert zeros == int((state.masks == 0).sum()) == remaining[0] - remaining[round_]
        assert done.rows[round_][0]["remaining_weights"] == remaining[round_]
        assert (state.weights[0, ~prunable] != 0).all()


@pytest.mark.parametrize("augment", [False, True], ids=["stored", "computed from each batch"])
@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
def test_teacher_logits_are_those_of_the_teachers_module_in_evaluation_mode(config, augment):
    runs = 1 if config is VGG else 2
    teachers = [build(VGG.vary(seed=9 + r)) for r in range(runs)]
    for teacher in teachers:  # so that BatchNorm's two modes differ
        teacher.train()(3 + 2 * torch.randn(64, 1, 8, 8))
    configs = [config.vary(teacher=LENET, alpha=1.0, augment=augment, seed=r) for r in range(runs)]
    stack = Stack(configs, CPU, teachers)
    positions = torch.stack([torch.randperm(1037)[:50] for _ in configs])
    x = stack.data.x[stack.data.rows.gather(1, positions)]
    x = torch.stack([data.augmented(images, torch.Generator().manual_seed(0)) for images in x]) if augment else x
    logits = stack.data.teacher_logits(positions, x)
    expected = torch.stack([t.eval()(images).detach() for t, images in zip(teachers, x, strict=True)])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    assert not logits.requires_grad
    weights = stack.advance(stack.fresh(), 0).weights
    stack.data.labels = (stack.data.labels + 1) % 10  # with alpha = 1 the labels do not matter
    stack.data.stored_teacher_logits = None  # so that they are computed from each batch
    torch.testing.assert_close(stack.advance(stack.fresh(), 0).weights, weights, atol=1e-4, rtol=1e-3)


class GivenGradients:
    """A trainer of one run whose gradients do not depend on its weights."""

    def __init__(self, weights, gradients):
        self.vector, self.mask, self.gradients = weights.clone(), None, iter(gradients)

    def used_inputs(self, x):
        return x

    def per_parameter(self, values):
        return values

    def __call__(self, x):
        return torch.zeros(1, x.shape[1], 10)

    def backward(self, gradient):
        return next(self.gradients)


@pytest.mark.parametrize("decay", [0.0, 0.01])
def test_a_thousand_steps_of_adam_are_those_of_torchs_in_float64(decay):
    generator = torch.Generator().manual_seed(0)
    gradients = torch.randn(1000, 50, generator=generator) * torch.arange(1, 51)
    stack = Stack([LENET.vary(optimizer="adam", lr=0.01, weight_decay=decay)], CPU)
    trainer = GivenGradients(torch.zeros(50), gradients)
    step, weights = Step(trainer, stack.data, stack.recipe(0)), torch.zeros(50, dtype=torch.float64)
    optimizer = torch.optim.Adam([weights], lr=0.01, betas=(0.9, 0.999), weight_decay=decay)
    batch = torch.zeros(3, 1, 2, dtype=torch.long)
    for gradient in gradients:
        step(batch)
        weights.grad = gradient.double()
        optimizer.step()
        assert (trainer.vector.double() - weights).norm() < 2e-6 * weights.norm()


class Graph:
    """A CUDA graph on a CPU: its replay calls the function that was recorded."""

    made: list["Graph"] = []  # noqa: RUF012

    def __init__(self):
        self.work, self.replays = None, 0
        Graph.made.append(self)

    def replay(self):
        self.replays += 1
        self.work()


class Stream:
    def wait_stream(self, other):
        pass


@pytest.fixture
def gpu(monkeypatch):
    """As much of torch.cuda as recording and replaying steps needs; the list of the graphs that are made."""
    recording, real = [], Step.__call__

    @contextmanager
    def graph(made, pool, stream):
        recording.append(made)
        yield
        recording.clear()

    @contextmanager
    def stream(_):
        yield

    def step(self, batch):
        if recording:  # as on a GPU, a step that is recorded is not executed
            recording[0].work = lambda: real(self, batch)
        else:
            real(self, batch)

    simulated = {"CUDAGraph": Graph, "Stream": Stream, "current_stream": Stream, "graph": graph, "stream": stream}
    for name, part in simulated.items():
        monkeypatch.setattr(torch.cuda, name, part)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(Step, "__call__", step)
    monkeypatch.setattr(Graph, "made", [])
    return Graph.made


@pytest.mark.parametrize("config", [LENET.vary(epochs=6, milestones=(4,)), VGG.vary(epochs=5, augment=True)])
def test_replayed_steps_give_the_weights_of_executed_ones(config, gpu, monkeypatch):
    config = config.vary(batch_size=100)

    def trained():
        stack = Stack([config], CPU, engine=Engine(sparse=False))
        return stack.advance(stack.fresh(), 0).weights

    executed = trained()
    assert not gpu

    def graphed(step, weights, generators, *more):
        take = Replayed(step)
        for epoch in range(step.recipe.epochs):
            for batch in step.begin_epoch(epoch, generators):
                take(batch)
        step.trainer.write()

    monkeypatch.setattr("dsdlib.engine.loop._run_epochs", graphed)
    assert torch.equal(trained(), executed)
    last, full = config.epochs - 3, 10 * config.epochs - 3  # the smaller last batches have a graph of their own
    assert sorted(graph.replays for graph in gpu) == [last, full]
