"""The sparse step against the dense one: the same training to float tolerance, whatever is pruned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dsdlib import RunConfig
from dsdlib.engine.loop import train
from dsdlib.engine.network import Network
from dsdlib.engine.rounds import measure
from dsdlib.engine.sparse import linear_layers, reachable, sparse_layers
from dsdlib.engine.stack import Stack
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.engine.step import Recipe, TrainingData

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


def thin_by(how):
    """Which layers are thin, chosen by hand: all, none, or every run's own."""

    def chosen(module, masks):
        names = linear_layers(module)
        own = [tuple(names), (), tuple(names[:1]), tuple(names[1:]), (names[1],)] if len(names) > 1 else [tuple(names)]
        runs = len(next(iter(masks.values())))
        return {"sparse": [tuple(names)] * runs, "dense": [()] * runs, "mixed": (own * runs)[:runs]}[how]

    return chosen


def trained(monkeypatch, network, masks, how, momentum=0.9, answers=None, runs=slice(None), seed=3, teachers=()):
    """The weights after three epochs, thin layers chosen by hand."""
    monkeypatch.setattr("dsdlib.engine.loop.sparse_layers", thin_by(how))
    rng = torch.Generator().manual_seed(seed)
    everyone = len(masks)
    weights = torch.randn(masks.shape, generator=rng) * 0.5
    x = torch.randn(40, 1, 3, 4, generator=rng)
    rows = torch.stack([torch.randperm(40, generator=rng)[:30] for _ in range(everyone)])
    labels = torch.randint(4, (everyone, 30), generator=rng)
    lr, decay = torch.linspace(0.05, 0.1, everyone), torch.linspace(0, 0.02, everyone)
    alpha, temperature = torch.full((everyone,), 0.8), torch.full((everyone,), 4.0)
    values = {"lr": lr[runs], "weight_decay": decay[runs], "alpha": alpha[runs], "temperature": temperature[runs]}
    recipe = Recipe(3, 8, momentum, (1,), bool(teachers), **values)
    taught = {"teachers": teachers}
    if answers is not None:
        taught = {"teachers": [None] * len(rows[runs]), "stored_teacher_logits": answers[runs]}
    lessons = TrainingData(x, rows[runs], labels[runs], **taught)
    generators = [torch.Generator().manual_seed(100 + run) for run in range(everyone)][runs]
    return train(network, weights[runs], masks[runs], lessons, recipe, generators)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.03, 0.1, 0.3, 1.0]), st.booleans(), st.sampled_from([0.0, 0.9]))
def test_the_sparse_step_is_the_dense_one(seed, density, bias, momentum):
    network = a_network(bias)
    masks = some_masks(network, 5, density, seed)
    with pytest.MonkeyPatch.context() as patch:
        dense, *others = (
            trained(patch, network, masks, how, momentum, seed=seed) for how in ("dense", "sparse", "mixed")
        )
    for thin in others:
        torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)
        assert (thin[masks == 0] == 0).all()


@pytest.mark.parametrize("gone", [1, 3, 5], ids=["first", "middle", "last"])
def test_a_layer_without_any_weight_left(gone, monkeypatch):
    network = a_network()
    masks = some_masks(network, 2, 0.4, 1)
    network.parameters(masks)[f"{gone}.weight"].zero_()
    dense, thin = (trained(monkeypatch, network, masks, how) for how in ("dense", "sparse"))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("how", ["sparse", "mixed"])
def test_other_activations_and_a_teacher(how, monkeypatch):
    network = a_network(activation=nn.Tanh)
    masks = some_masks(network, 5, 0.3, 2)
    answers = torch.randn(5, 30, 4, generator=torch.Generator().manual_seed(9))
    dense, thin = (trained(monkeypatch, network, masks, how, answers=answers) for how in ("dense", how))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(thin, trained(monkeypatch, network, masks, how), atol=1e-3)


def test_an_activation_that_works_in_place_learns_the_same(monkeypatch):
    masks = some_masks(a_network(), 3, 0.3, 2)
    for kind in (nn.ReLU, nn.LeakyReLU, nn.SiLU):
        own, place = (a_network(activation=lambda kind=kind, i=i: kind(inplace=i)) for i in (False, True))
        learned = [trained(monkeypatch, network, masks, "sparse") for network in (own, place)]
        torch.testing.assert_close(*learned, atol=0, rtol=0)


@pytest.mark.parametrize("how", ["sparse", "mixed"])
def test_teachers_see_the_whole_of_varied_images(how, monkeypatch):
    network = a_network()
    masks = some_masks(network, 5, 0.1, 2)
    network.parameters(masks)["1.weight"][:, :, :6] = 0  # half of the pixels lead nowhere
    torch.manual_seed(1)
    teachers = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(5)]
    dense, thin = (trained(monkeypatch, network, masks, how, teachers=teachers) for how in ("dense", how))
    torch.testing.assert_close(thin, dense, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("how", ["dense", "sparse"])
def test_a_run_does_not_depend_on_its_stack_to_the_last_bit(how, monkeypatch):
    network = a_network()
    masks = some_masks(network, 5, 0.2, 4)
    together = trained(monkeypatch, network, masks, how)
    for run in range(5):
        alone = trained(monkeypatch, network, masks, how, runs=slice(run, run + 1))
        assert torch.equal(alone[0], together[run])


def test_runs_with_other_thin_layers_share_a_stack_and_do_not_notice(monkeypatch):
    network = a_network()
    masks = some_masks(network, 5, 0.2, 4)
    together, choice = trained(monkeypatch, network, masks, "mixed"), thin_by("mixed")(network.module, {"": masks})
    for run in range(5):
        monkeypatch.setitem(globals(), "thin_by", lambda how, run=run: lambda module, masks: [choice[run]])
        assert torch.equal(trained(monkeypatch, network, masks, "", runs=slice(run, run + 1))[0], together[run])


def test_neurons_that_lead_nowhere_sleep():
    network = a_network()
    masks = torch.ones(1, sum(network.sizes))
    parts = network.parameters(masks)
    parts["5.weight"][0, :, 2:] = 0  # of the second hidden layer, neurons 0 and 1 lead to an answer
    parts["3.weight"][0, 0, 1:] = 0  # neuron 0 there hears neuron 0 alone,
    parts["3.weight"][0, 1, :] = 0  # neuron 1 none: so the first hidden layer's others sleep
    first, second, answers = reachable([parts[f"{n}.weight"] for n in (1, 3, 5)])
    assert first[0].nonzero().flatten().tolist() == [0] and second[0].nonzero().flatten().tolist() == [0, 1]
    assert answers.all()
    learner = StackedTrainer(network, masks.clone(), masks, ("1", "3", "5"))
    sizes = {name: part.numel() for name, part in learner.parts.items()}  # computed with
    assert sizes == {"1.weight": 12, "1.bias": 1, "3.weight": 1, "3.bias": 2, "5.weight": 8, "5.bias": 4}
    learner(torch.randn(1, 16, 1, 3, 4))
    hidden = [x.shape for name, x in learner.tape[1:] if name]
    assert hidden == [(1, 16), (2, 16)]  # sleepers are not even there
    left = sum(int(parts[f"{n}.weight"].sum()) for n in (1, 3, 5))
    assert len(learner.vector) == left + 9 + 7 + 4  # and nothing is forgotten


def test_inputs_that_nobody_asks_for_are_not_looked_at():
    network = a_network()
    masks = torch.ones(2, sum(network.sizes))
    parts = network.parameters(masks)
    parts["1.weight"][0, :, 3:] = 0
    parts["1.weight"][1, :, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]] = 0
    learner = StackedTrainer(network, masks.clone(), masks, ("1",))
    x = torch.randn(6, 1, 3, 4)
    assert torch.equal(learner.used_inputs(x), x.flatten(1)[:, :4])


def test_only_large_thin_layers_are_trained_so_each_run_by_its_own():
    network = Network(nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 2)))
    masks = torch.ones(3, sum(network.sizes))
    parts = network.parameters(masks)
    parts["0.weight"][0, 10:] = 0  # 5% left, of 60,000
    parts["0.weight"][1, 100:] = 0  # half
    parts["2.weight"][1:, 10:] = 0  # 10% left, of 20,000
    parts["4.weight"][:, :, 1:] = 0  # 1% left, of 200
    assert sparse_layers(network.module, parts) == [("0",), ("2",), ("2",)]


def test_a_real_run_goes_sparse_and_agrees(monkeypatch):
    """LeNet-300-100 on digits, a round at 5% of its weights: accuracies and entropy of both steps."""
    runs = RunConfig(noise_rate=0.5, epochs=3, milestones=(), batch_size=128).grid(seed=[0, 1])
    rows = {}
    for how in ("dense", "sparse", "mixed"):
        monkeypatch.setattr("dsdlib.engine.loop.sparse_layers", thin_by(how))
        stack = Stack(runs, CPU)
        state = stack.fresh()
        order = state.weights.abs().masked_fill(~stack.prunable, torch.inf).argsort(1)
        state.masks = torch.ones_like(state.masks).scatter_(1, order[:, : int(0.95 * stack.prunable.sum())], 0.0)
        recipe, generators = stack.recipe(1), stack.generators("order", 1)
        state.weights = train(stack.network, state.weights, state.masks, stack.data, recipe, generators)
        rows[how] = measure(stack, state, 1)
    for name in ("train_loss", "test_loss", "test_accuracy", "entropy", "learning_distance"):
        for dense, thin, mixed in zip(rows["dense"], rows["sparse"], rows["mixed"], strict=True):
            assert thin[name] == pytest.approx(dense[name], rel=1e-3)
            assert mixed[name] == pytest.approx(dense[name], rel=1e-3)
