"""One training step: masks, teacher logits, and the updates."""

import pytest
import torch

from dsdlib import data
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.loop import Callbacks, train
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Step

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
