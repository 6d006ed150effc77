"""The sparse step against the dense one: the same training to float tolerance, whatever is pruned."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dsdlib import RunConfig
from dsdlib.engine.device import Engine
from dsdlib.engine.loop import train
from dsdlib.engine.network import Network
from dsdlib.engine.rounds import measure
from dsdlib.engine.sparse import linear_layers, reachable, sparse_layers
from dsdlib.engine.stack import Stack
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.engine.step import Recipe, TrainingData

CPU = torch.device("cpu")


def small_network(bias=True, activation=nn.ReLU):
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


def random_masks(network, runs, density, seed):
    """Weight matrices pruned at random to the same density in each run; biases are not pruned."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.ones(runs, sum(network.sizes))
    for part in network.parameters(masks).values():
        if part.dim() == 3:
            part.copy_(torch.rand(part.shape, generator=generator) < density)
    return masks


def sparse_layers_by_hand(how):
    """A replacement of `sparse_layers`: all layers of all runs, none, or another choice for each run."""

    def chosen(module, masks):
        names = linear_layers(module)
        own = [tuple(names), (), tuple(names[:1]), tuple(names[1:]), (names[1],)]
        runs = len(next(iter(masks.values())))
        return {"sparse": [tuple(names)] * runs, "dense": [()] * runs, "mixed": (own * runs)[:runs]}[how]

    return chosen


def trained(monkeypatch, choice, network, masks, momentum=0.9, runs=slice(None), seed=3, **teachers):
    """The weights after three epochs in which ``choice``, a replacement of `sparse_layers`, names the sparse layers."""
    monkeypatch.setattr("dsdlib.engine.loop.sparse_layers", choice)
    generator, everyone = torch.Generator().manual_seed(seed), len(masks)
    weights = torch.randn(masks.shape, generator=generator) * 0.5
    x = torch.randn(40, 1, 3, 4, generator=generator)
    rows = torch.stack([torch.randperm(40, generator=generator)[:30] for _ in range(everyone)])
    labels = torch.randint(4, (everyone, 30), generator=generator)
    lr, decay = torch.linspace(0.05, 0.1, everyone), torch.linspace(0, 0.02, everyone)
    alpha, temperature = torch.full((everyone,), 0.8), torch.full((everyone,), 4.0)
    augment = bool(teachers) and "stored_teacher_logits" not in teachers
    values = {"lr": lr, "weight_decay": decay, "alpha": alpha, "temperature": temperature}
    recipe = Recipe(3, 8, momentum, (1,), augment, **values).of(list(range(everyone))[runs])
    training_data = TrainingData(x, rows, labels, **teachers).of(list(range(everyone))[runs])
    generators = [torch.Generator().manual_seed(100 + run) for run in range(everyone)][runs]
    return train(network, weights[runs], masks[runs], training_data, recipe, generators)


def trained_both_ways(monkeypatch, how, *arguments, **options):
    return [trained(monkeypatch, sparse_layers_by_hand(name), *arguments, **options) for name in ("dense", how)]


def assert_equal_up_to_rounding(dense, sparse):
    torch.testing.assert_close(sparse, dense, atol=2e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.03, 0.1, 0.3, 1.0]),
    st.booleans(),
    st.sampled_from([0.0, 0.9]),
    st.sampled_from(["sparse", "mixed"]),
)
def test_the_sparse_step_is_the_dense_one(seed, density, bias, momentum, how):
    network = small_network(bias)
    masks = random_masks(network, 5, density, seed)
    with pytest.MonkeyPatch.context() as patch:
        dense, sparse = trained_both_ways(patch, how, network, masks, momentum, seed=seed)
    assert_equal_up_to_rounding(dense, sparse)
    assert (sparse[masks == 0] == 0).all()


@pytest.mark.parametrize("empty", [1, 3, 5], ids=["first", "middle", "last"])
def test_a_layer_without_any_weight_left(empty, monkeypatch):
    network = small_network()
    masks = random_masks(network, 2, 0.4, 1)
    network.parameters(masks)[f"{empty}.weight"].zero_()
    assert_equal_up_to_rounding(*trained_both_ways(monkeypatch, "sparse", network, masks))


@pytest.mark.parametrize("how", ["sparse", "mixed"])
def test_other_activations_and_a_teacher(how, monkeypatch):
    network = small_network(activation=nn.Tanh)
    masks = random_masks(network, 5, 0.3, 2)
    logits = torch.randn(5, 30, 4, generator=torch.Generator().manual_seed(9))
    teachers = {"teachers": [None] * 5, "stored_teacher_logits": logits}
    dense, sparse = trained_both_ways(monkeypatch, how, network, masks, **teachers)
    assert_equal_up_to_rounding(dense, sparse)
    without = trained(monkeypatch, sparse_layers_by_hand(how), network, masks)
    assert not torch.allclose(sparse, without, atol=1e-3)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.LeakyReLU, nn.SiLU])
def test_an_activation_that_works_in_place_gives_the_same_weights(kind, monkeypatch):
    masks, choice = random_masks(small_network(), 3, 0.3, 2), sparse_layers_by_hand("sparse")
    networks = [small_network(activation=lambda inplace=inplace: kind(inplace=inplace)) for inplace in (False, True)]
    assert torch.equal(*(trained(monkeypatch, choice, network, masks) for network in networks))


@pytest.mark.parametrize("how", ["sparse", "mixed"])
def test_teachers_get_whole_augmented_images(how, monkeypatch):
    network = small_network()
    masks = random_masks(network, 5, 0.1, 2)
    network.parameters(masks)["1.weight"][:, :, :6] = 0  # no weight reads half of the pixels
    torch.manual_seed(1)
    teachers = [nn.Sequential(nn.Flatten(), nn.Linear(12, 4)) for _ in range(5)]
    assert_equal_up_to_rounding(*trained_both_ways(monkeypatch, how, network, masks, teachers=teachers))


@pytest.mark.parametrize("how", ["dense", "sparse", "mixed"])
def test_a_run_does_not_depend_on_its_stack_to_the_last_bit(how, monkeypatch):
    network = small_network()
    masks, choice = random_masks(network, 5, 0.2, 4), sparse_layers_by_hand(how)
    together, layers = trained(monkeypatch, choice, network, masks), choice(network.module, {"": masks})
    for run in range(5):
        alone = trained(monkeypatch, lambda *_, own=layers[run]: [own], network, masks, runs=slice(run, run + 1))
        assert torch.equal(alone[0], together[run])


def test_neurons_without_a_path_to_the_logits_are_not_computed():
    network = small_network()
    masks = torch.ones(1, sum(network.sizes))
    parts = network.parameters(masks)
    parts["5.weight"][0, :, 2:] = 0  # of the second hidden layer, only neurons 0 and 1 lead to a logit;
    parts["3.weight"][0, 0, 1:] = 0  # neuron 0 there reads only neuron 0 of the first hidden layer,
    parts["3.weight"][0, 1, :] = 0  # and neuron 1 reads none
    first, second, logits = reachable([parts[f"{n}.weight"] for n in (1, 3, 5)])
    assert first[0].nonzero().flatten().tolist() == [0] and second[0].nonzero().flatten().tolist() == [0, 1]
    assert logits.all()
    trainer = StackedTrainer(network, masks.clone(), masks, ("1", "3", "5"))
    used = {name: part.numel() for name, part in trainer.parts.items()}
    assert used == {"1.weight": 12, "1.bias": 1, "3.weight": 1, "3.bias": 2, "5.weight": 8, "5.bias": 4}
    trainer(torch.randn(1, 16, 1, 3, 4))
    assert [x.shape for name, x in trainer.tape[1:] if name] == [(1, 16), (2, 16)]
    left = sum(int(parts[f"{n}.weight"].sum()) for n in (1, 3, 5))
    assert len(trainer.vector) == left + 9 + 7 + 4  # all remaining weights and biases are trained, as they may decay


def test_inputs_that_no_weight_reads_are_left_out():
    network = small_network()
    masks = torch.ones(2, sum(network.sizes))
    parts = network.parameters(masks)
    parts["1.weight"][0, :, 3:] = 0
    parts["1.weight"][1, :, [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]] = 0
    trainer = StackedTrainer(network, masks.clone(), masks, ("1",))
    x = torch.randn(6, 1, 3, 4)
    assert torch.equal(trainer.used_inputs(x), x.flatten(1)[:, :4])


def test_only_large_layers_of_low_density_are_trained_with_sparse_products_chosen_for_each_run():
    network = Network(nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 100), nn.ReLU(), nn.Linear(100, 2)))
    masks = torch.ones(3, sum(network.sizes))
    parts = network.parameters(masks)
    parts["0.weight"][0, 10:] = 0  # 5% left, of 60,000
    parts["0.weight"][1, 100:] = 0  # half
    parts["2.weight"][1:, 10:] = 0  # 10% left, of 20,000
    parts["4.weight"][:, :, 1:] = 0  # 1% left, of 200
    assert sparse_layers(network.module, parts) == [("0",), ("2",), ("2",)]


@pytest.mark.parametrize("how", ["sparse", "mixed"])
def test_lenet_at_5_percent_has_the_same_measures_with_sparse_products(how, monkeypatch):
    runs, rows = RunConfig(noise_rate=0.5, epochs=3, milestones=(), batch_size=128).grid(seed=[0, 1]), []
    for name in ("dense", how):
        monkeypatch.setattr("dsdlib.engine.loop.sparse_layers", sparse_layers_by_hand(name))
        stack = Stack(runs, CPU)
        state = stack.fresh()
        order = state.weights.abs().masked_fill(~stack.prunable, torch.inf).argsort(1)
        state.masks = torch.ones_like(state.masks).scatter_(1, order[:, : int(0.95 * stack.prunable.sum())], 0.0)
        recipe, generators = stack.recipe(1), stack.generators("order", 1)
        state.weights = train(stack.network, state.weights, state.masks, stack.data, recipe, generators)
        rows.append(measure(stack, state, 1))
    for dense, sparse in zip(*rows, strict=True):
        for name in ("train_loss", "test_loss", "test_accuracy", "entropy", "learning_distance"):
            assert sparse[name] == pytest.approx(dense[name], rel=1e-3)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 0.002)])
def test_with_or_without_sparse_products_the_optimizer_takes_the_same_steps(optimizer, rate):
    # Layers of 19,200 and 30,000 weights, of which 9% are left.
    run = RunConfig(epochs=4, milestones=(), rounds=2, amount=0.91, batch_size=256, scope="layer", noise_rate=0.2)
    stack = Stack([run.vary(optimizer=optimizer, lr=rate, weight_decay=0.01)], CPU)
    state = stack.prune(stack.advance(stack.fresh(), 0), 1)
    assert sparse_layers(stack.network.module, stack.network.parameters(state.masks)) == [("1", "3")]
    results = []
    for sparse in (True, False):
        parts = stack.network, state.weights, state.masks, stack.data, stack.recipe(1), stack.generators("order", 1)
        results.append(train(*parts, engine=Engine(sparse=sparse)))
    assert (results[0] - state.weights * state.masks).abs().max() > 0.01
    torch.testing.assert_close(*results, atol=1e-4, rtol=1e-3)
