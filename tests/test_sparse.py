"""The sparse step against the dense one: the same training to float tolerance, whatever is pruned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dsdlib import RunConfig, sparse, training
from dsdlib.imp import Stack
from dsdlib.sparse import SparseLearner
from dsdlib.training import Lessons, Network, Recipe, train

CPU = torch.device("cpu")


def a_network(bias=True, activation=nn.ReLU):
    torch.manual_seed(0)
    return Network(
        nn.Sequential(
            nn.Flatten(),
            nn.Linear(12, 9, bias=bias),
            activation(),
            nn.Linear(9, 7, bias=bias),
            activation(),
            nn.Linear(7, 4, bias=bias),
        )
    )


def some_masks(network, runs, density, seed):
    """Weight matrices pruned at random, each run's as much; biases whole."""
    rng = torch.Generator().manual_seed(seed)
    masks = torch.ones(runs, sum(network.sizes))
    for part in network.parameters(masks).values():
        if part.dim() == 3:
            part.copy_(torch.rand(part.shape, generator=rng) < density)
    return masks


def trained(monkeypatch, network, masks, how, momentum=0.9, teacher=None, runs=slice(None), seed=3):
    """The weights after three epochs, the step chosen by hand."""
    monkeypatch.setattr(training, "worth_it", lambda masks: how == "sparse")
    rng = torch.Generator().manual_seed(seed)
    everyone = len(masks)
    weights = torch.randn(masks.shape, generator=rng) * 0.5
    x = torch.randn(40, 3, 4, generator=rng)
    rows = torch.stack([torch.randperm(40, generator=rng)[:30] for _ in range(everyone)])
    labels = torch.randint(4, (everyone, 30), generator=rng)
    lr, decay = torch.linspace(0.05, 0.1, everyone), torch.linspace(0, 0.02, everyone)
    alpha, temperature = torch.full((everyone,), 0.8), torch.full((everyone,), 4.0)
    values = {"lr": lr[runs], "weight_decay": decay[runs], "alpha": alpha[runs], "temperature": temperature[runs]}
    recipe = Recipe(3, 8, momentum, (1,), False, **values)
    lessons = Lessons(x, rows[runs], labels[runs], teacher)
    generators = [torch.Generator().manual_seed(100 + run) for run in range(everyone)][runs]
    return train(network, weights[runs], masks[runs], lessons, recipe, generators)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.03, 0.1, 0.3, 1.0]), st.booleans(), st.sampled_from([0.0, 0.9]))
def test_the_sparse_step_is_the_dense_one(seed, density, bias, momentum):
    network = a_network(bias)
    masks = some_masks(network, 3, density, seed)
    with pytest.MonkeyPatch.context() as patch:
        dense, thin = (trained(patch, network, masks, how, momentum, seed=seed) for how in ("dense", "sparse"))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)
    assert (thin[masks == 0] == 0).all()


@pytest.mark.parametrize("gone", [1, 3, 5], ids=["first", "middle", "last"])
def test_a_layer_without_any_weight_left(gone, monkeypatch):
    network = a_network()
    masks = some_masks(network, 2, 0.4, 1)
    network.parameters(masks)[f"{gone}.weight"].zero_()
    dense, thin = (trained(monkeypatch, network, masks, how) for how in ("dense", "sparse"))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)


def test_other_activations_and_a_teacher(monkeypatch):
    network = a_network(activation=nn.Tanh)
    masks = some_masks(network, 2, 0.3, 2)
    logits = torch.randn(2, 30, 4, generator=torch.Generator().manual_seed(9))
    run = torch.arange(2).unsqueeze(1)
    teacher = lambda positions, x: logits[run, positions]  # noqa: E731
    dense, thin = (trained(monkeypatch, network, masks, how, teacher=teacher) for how in ("dense", "sparse"))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)


def test_a_run_does_not_depend_on_its_stack_to_the_last_bit(monkeypatch):
    network = a_network()
    masks = some_masks(network, 5, 0.2, 4)
    together = trained(monkeypatch, network, masks, "sparse")
    for run in range(5):
        alone = trained(monkeypatch, network, masks, "sparse", runs=slice(run, run + 1))
        assert torch.equal(alone[0], together[run])


def test_neurons_that_lead_nowhere_sleep():
    network = a_network()
    masks = torch.ones(1, sum(network.sizes))
    parts = network.parameters(masks)
    parts["5.weight"][0, :, 2:] = 0  # of the second hidden layer, neurons 0 and 1 lead to an answer
    parts["3.weight"][0, 0, 1:] = 0  # neuron 0 there hears neuron 0 alone,
    parts["3.weight"][0, 1, :] = 0  # neuron 1 none: so the first hidden layer's others sleep
    learner = SparseLearner(network.module, parts, parts)
    sizes = {name: len(values) for name, values in learner.learning.items()}
    assert sizes == {"1.weight": 12, "1.bias": 1, "3.weight": 1, "3.bias": 2, "5.weight": 8, "5.bias": 4}
    assert sum(map(len, learner.parameters)) == int(masks.sum())  # nothing that is left is forgotten


@pytest.mark.parametrize(("width", "kept", "chosen"), [(300, 0.05, True), (300, 0.5, False), (30, 0.05, False)])
def test_only_large_and_sparse_stacks_are_trained_so(width, kept, chosen):
    network = Network(nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)))
    assert sparse.worth_it(some_masks(network, 2, kept, 0)) is chosen


def test_a_real_run_goes_sparse_and_agrees(monkeypatch):
    """LeNet-300-100 on digits, a round at 5% of its weights: accuracies and entropy of both steps."""
    runs = RunConfig(noise_rate=0.5, epochs=3, milestones=(), batch_size=128).grid(seed=[0, 1])
    rows = {}
    for how in ("dense", "sparse"):
        monkeypatch.setattr(training, "worth_it", lambda masks, how=how: how == "sparse")
        stack = Stack(runs, CPU)
        state = stack.fresh()
        order = state.weights.abs().masked_fill(~stack.prunable, torch.inf).argsort(1)
        state.masks = torch.ones_like(state.masks).scatter_(1, order[:, : int(0.95 * stack.prunable.sum())], 0.0)
        recipe, generators = stack._recipe(1), stack.generators("order", 1)
        state.weights = train(stack.network, state.weights, state.masks, stack.lessons, recipe, generators)
        rows[how] = stack.measure(state, 1)
    for name in ("train_loss", "test_loss", "test_accuracy", "entropy", "learning_distance"):
        for dense, thin in zip(rows["dense"], rows["sparse"], strict=True):
            assert thin[name] == pytest.approx(dense[name], rel=1e-3)
