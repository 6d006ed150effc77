"""Whole trainings against loops written with PyTorch's own parts; and evaluation."""

import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div, log_softmax, softmax
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.utils.data import DataLoader, TensorDataset

from dsdlib import data, models
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.loop import evaluate, train
from dsdlib.engine.network import Network
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Recipe, TrainingData
from dsdlib.seeding import torch_generator

LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


def distilled_loss(logits, labels, teacher_logits, config):
    """DSD2's loss, by PyTorch's own functions."""
    t, alpha = config.temperature, config.alpha
    divergence = kl_div(log_softmax(logits / t, dim=1), softmax(teacher_logits / t, dim=1), reduction="batchmean")
    return alpha * t**2 * divergence + (1 - alpha) * cross_entropy(logits, labels)


def plain_optimizer(network, config):
    options = {"lr": config.lr, "weight_decay": config.weight_decay}
    if config.optimizer == "adam":
        return torch.optim.Adam(network.parameters(), betas=(config.momentum, 0.999), **options)
    return torch.optim.SGD(network.parameters(), momentum=config.momentum, **options)


def plain_training(network, config, x, y, mask, generator, teacher=None, first=0, last=10**9):
    """One round of training with PyTorch's own parts, from iteration ``first`` to before ``last``."""
    optimizer = plain_optimizer(network, config)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, list(config.milestones), gamma=0.1)
    parts = mask.split([p.numel() for p in network.parameters()])
    masks = [part.view_as(p) for part, p in zip(parts, network.parameters(), strict=True)]
    iteration, steps = 0, -(-len(x) // config.batch_size)
    network.train()
    for _ in range(config.epochs):
        if iteration + steps > first:
            order = torch.randperm(len(x), generator=generator)
            images = data.augmented(x, generator) if config.augment else x
            loader = DataLoader(TensorDataset(images, y), config.batch_size, sampler=order.tolist())
            for number, (inputs, labels) in enumerate(loader, iteration):
                if not first <= number < last:
                    continue
                logits = network(inputs)
                loss = cross_entropy(logits, labels)
                if teacher is not None:
                    loss = distilled_loss(logits, labels, teacher(inputs).detach(), config)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                with torch.no_grad():
                    for p, m in zip(network.parameters(), masks, strict=True):
                        p.mul_(m)
        schedule.step()
        iteration += steps


def random_mask(network, seed):
    """A third of the entries of the weight matrices pruned."""
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.rand(p.shape, generator=generator) > (0.33 if p.ndim > 1 else -1) for p in network.parameters()]
    return torch.cat([part.flatten() for part in parts]).double()


def varied(config, runs):
    """Configurations that differ in everything that runs of one stack may differ in during training."""
    return [
        config.vary(
            seed=r,
            lr=config.lr * 2**r,
            weight_decay=config.weight_decay * 5**r,
            alpha=0.8 - r / 2,
            temperature=10 - 7 * r,
        )
        for r in range(runs)
    ]


def double_recipe(configs):
    def values(name):
        return torch.tensor([getattr(config, name) for config in configs], dtype=torch.float64)

    c = configs[0]
    per_run = map(values, ("lr", "weight_decay", "alpha", "temperature"))
    return Recipe(c.epochs, c.batch_size, c.momentum, c.milestones, c.augment, *per_run, c.optimizer)


@pytest.mark.parametrize("distilled", [False, True], ids=["labels", "teacher"])
@pytest.mark.parametrize(
    ("config", "runs", "n"),
    [
        (LENET.vary(epochs=8, milestones=(4, 6)), 2, 1000),
        (LENET.vary(epochs=8, milestones=(), momentum=0.0, weight_decay=0.01), 1, 1000),
        (LENET.vary(epochs=8, milestones=(4, 6), optimizer="adam", lr=0.001), 2, 1000),
        (VGG.vary(epochs=4, milestones=(2,), batch_size=64), 1, 150),
        (VGG.vary(epochs=3, milestones=(2,), batch_size=64, augment=True), 1, 150),
    ],
    ids=["lenet", "plain SGD", "Adam", "vgg", "vgg augmented"],
)
def test_training_equals_a_plain_pytorch_loop(config, runs, n, distilled):
    digits = data.load("digits")
    x, configs = digits.train_x.double(), varied(config, runs)
    rows = torch.stack([torch.randperm(1297, generator=torch.Generator().manual_seed(r))[:n] for r in range(runs)])
    labels = torch.stack([digits.train_y[row].roll(r) for r, row in enumerate(rows)])
    networks = [models.build(c.model, (1, 8, 8), 10, c.model_args, c.seed).double() for c in configs]
    teachers = [models.build("mlp", (1, 8, 8), 10, {"width": 9}, r).double() for r in range(runs)] if distilled else ()
    masks = torch.stack([random_mask(network, r) for r, network in enumerate(networks)])
    weights = torch.stack([vector(network) for network in networks])
    network = Network(models.build(config.model, (1, 8, 8), 10, config.model_args, 99).double())
    network.set_buffers(dict(networks[0].named_buffers()))
    generators = [torch_generator(c.seed, "order", 0) for c in configs]
    trained = train(
        network, weights, masks, TrainingData(x, rows, labels, teachers), double_recipe(configs), generators
    )
    for r, (plain, c) in enumerate(zip(networks, configs, strict=True)):
        vector_to_parameters(weights[r] * masks[r], plain.parameters())
        generator, teacher = torch_generator(c.seed, "order", 0), teachers[r] if distilled else None
        plain_training(plain, c, x[rows[r]], labels[r], masks[r], generator, teacher)
        assert (trained[r] - weights[r] * masks[r]).abs().max() > 0.02
        torch.testing.assert_close(trained[r], vector(plain), atol=1e-8, rtol=1e-6)
    for name, buffer in networks[-1].named_buffers():
        torch.testing.assert_close(network.buffers()[name], buffer, atol=1e-8, rtol=1e-6)


def dense_after(config, steps):
    """The dense network after exactly so many steps of plain training in round 0."""
    stack = Stack([config], torch.device("cpu"))
    network = models.build(config.model, (1, 8, 8), 10, config.model_args, config.seed)
    x, y = stack.data.x[stack.data.rows[0]], stack.data.labels[0]
    mask = torch.ones(len(vector(network)))
    plain_training(network, config, x, y, mask, torch_generator(config.seed, "order", 0), last=steps)
    return network


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # the plain schedule, where no step is taken
@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
@pytest.mark.parametrize("steps", [0, 1, 7])
def test_weight_rewinding_returns_to_the_dense_training_after_exactly_t_steps(config, steps, train_rounds, starts):
    config = config.vary(retraining="weight_rewinding", rewind_iteration=steps, seed=5)
    done = train_rounds(config)
    network = dense_after(config, steps)
    if steps:  # one step more or less is far more than the tolerances below
        assert (vector(dense_after(config, steps - 1)) - vector(network)).abs().max() > 2e-3
    for round_ in (1, 2):
        start, mask = starts[round_], done.states[round_].masks[0]
        torch.testing.assert_close(start.weights[0], vector(network) * mask, atol=5e-4, rtol=1e-4)
        if steps == 0:
            assert torch.equal(start.weights[0], done.stack.initial[0] * mask)
        assert start.recipe.first_step == steps
        for name, buffer in network.named_buffers():
            torch.testing.assert_close(start.buffers[name], buffer, atol=5e-4, rtol=1e-4)
    x, y = done.stack.data.x[done.stack.data.rows[0]], done.stack.data.labels[0]
    vector_to_parameters(starts[2].weights[0], network.parameters())
    plain_training(network, config, x, y, done.states[2].masks[0], torch_generator(5, "order", 2), first=steps)
    torch.testing.assert_close(done.states[2].weights[0], vector(network), atol=1e-4, rtol=1e-3)


def test_evaluation_in_batches_is_that_of_all_at_once_and_of_nothing_is_empty():
    network = Network(build(LENET))
    weights = torch.stack([vector(build(LENET.vary(seed=s))) for s in (0, 1)])
    x, y = data.load("digits").test_x, data.load("digits").test_y.expand(2, -1)
    small, whole = (evaluate(network.forward_function(weights), x, None, y, batch_size=b) for b in (77, 10**6))
    torch.testing.assert_close(small[0], whole[0])
    assert torch.equal(small[1], whole[1])
    assert small[0].shape == small[1].shape == (2, 500)
    assert evaluate(network.forward_function(weights), x, y[:, :0], y[:, :0])[0].shape == (2, 0)


def test_evaluation_uses_batchnorms_running_statistics_whatever_mode_the_module_is_in():
    module, digits = build(VGG), data.load("digits")
    module.train()(3 + 2 * digits.train_x)
    network = Network(module)
    before = network.buffers()
    forward = network.forward_function(vector(module).unsqueeze(0))
    loss, _, _ = evaluate(forward, digits.test_x, None, digits.test_y.unsqueeze(0))
    expected = cross_entropy(module.eval()(digits.test_x), digits.test_y, reduction="none").detach()
    torch.testing.assert_close(loss[0], expected, atol=1e-5, rtol=1e-4)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.buffers().items())
