"""Pruning against PyTorch's own, its exact counts, and the three criteria."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils import prune as torch_prune

from dsdlib import models
from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.pruning import apply_masks, global_masks, plan, prunable, prune, remaining_weights, spared_weights

CPU = torch.device("cpu")
KINDS = ("conv_and_linear", "all_but_last", "conv")


def small_vgg(seed=0):
    return models.build("vgg_like", (1, 8, 8), 10, {"depth": 2, "width": 2}, seed)


def vector(network):
    return parameters_to_vector(network.parameters()).detach()


def chosen_names(network, which):
    """Names of the parameters that `prunable` marks; fails when one is marked in part."""
    parts = prunable(network, which).split([p.numel() for p in network.parameters()])
    names = [name for name, _ in network.named_parameters()]
    assert all(part.all() == part.any() for part in parts)
    return [name for name, part in zip(names, parts, strict=True) if part.all()]


@pytest.mark.parametrize("which", KINDS)
def test_many_rounds_equal_torch_global_unstructured(which):
    network = small_vgg()
    layers = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    layers = {"conv_and_linear": layers, "all_but_last": layers[:-1], "conv": layers[:-1]}[which]
    names = {id(layer.weight): name for name, layer in network.named_modules() if layer in layers}
    among, weights = prunable(network, which), vector(network)
    left = remaining_weights(int(among.sum()), 0.2, 12)
    masks = torch.ones(1, len(weights))
    other = small_vgg()  # pruned by torch
    others = [other.get_submodule(name) for name in names.values()]
    order = [name for name, _ in other.named_parameters()]
    rng = torch.Generator().manual_seed(0)
    for keep in left[1:]:
        masks = prune((weights * masks).abs(), masks, among, keep)
        torch_prune.global_unstructured([(o, "weight") for o in others], torch_prune.L1Unstructured, amount=0.2)
        state = other.state_dict()
        theirs = [state.get(f"{name}_mask", torch.ones_like(network.get_parameter(name))) for name in order]
        assert torch.equal(masks[0], torch.cat([mask.flatten() for mask in theirs]))
        assert int(masks[0, among].sum()) == keep
        weights = weights + 0.05 * torch.randn(len(weights), generator=rng)  # as training would
        vector_to_parameters(weights, network.parameters())
        with torch.no_grad():
            for o, name in zip(others, names.values(), strict=True):
                o.weight_orig.copy_(network.get_submodule(name).weight)
        other(torch.zeros(2, 1, 8, 8))  # torch masks the weights anew at each forward pass


SCORES = st.sampled_from([0.0, 0.0, 1.0, 2.5, -3.0, float("inf"), -float("inf"), float("nan")])


@st.composite
def pruning_problems(draw):
    runs, size = draw(st.integers(1, 3)), draw(st.integers(2, 25))
    among = torch.tensor(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    among[draw(st.integers(0, size - 1))] = True
    scores = torch.tensor([[draw(SCORES) for _ in range(size)] for _ in range(runs)])
    count = int(among.sum())
    left = draw(st.integers(1, count))
    columns = among.nonzero().squeeze(1)
    masks = torch.ones(runs, size)
    for row in masks:
        gone = draw(st.permutations(columns.tolist()))[left:]
        row[gone] = 0
    return scores, masks, among, draw(st.integers(0, left))


@given(pruning_problems())
@settings(max_examples=80, deadline=None)
def test_prune_keeps_exactly_the_best_and_breaks_ties_by_parameter_order(problem):
    scores, masks, among, keep = problem
    new = prune(scores, masks, among, keep)
    assert (new <= masks).all()  # nested
    assert torch.equal(new[:, ~among], masks[:, ~among])
    for run, row in enumerate(scores):
        alive = [i for i in range(len(among)) if among[i] and masks[run, i]]
        value = [-float("inf") if s != s else s for s in row.tolist()]
        expected = sorted(alive, key=lambda i: (value[i], i))[len(alive) - keep :]  # Python's sort is stable
        assert sorted(expected) == [i for i in range(len(among)) if among[i] and new[run, i]]
        assert torch.equal(prune(scores[run : run + 1], masks[run : run + 1], among, keep)[0], new[run])


def test_equal_scores_are_pruned_from_the_front_even_in_a_large_network():
    among = torch.ones(5000, dtype=torch.bool)
    masks = prune(torch.zeros(1, 5000), torch.ones(1, 5000), among, 4000)
    assert torch.equal(masks[0], (torch.arange(5000) >= 1000).float())


@given(st.integers(1, 10**6), st.floats(0.01, 0.99), st.integers(0, 40))
@settings(max_examples=100, deadline=None)
def test_remaining_weights_is_each_rounds_share_or_says_how_many_rounds_there_are(weights, amount, rounds):
    expected = [weights]
    while len(expected) <= rounds and 0 < expected[-1] - round(amount * expected[-1]) < expected[-1]:
        expected.append(expected[-1] - round(amount * expected[-1]))
    if len(expected) == rounds + 1:
        assert remaining_weights(weights, amount, rounds) == expected
    else:
        with pytest.raises(ConfigError, match=f"at most {len(expected) - 1}$"):
            remaining_weights(weights, amount, rounds)


def test_remaining_weights_by_hand():
    assert remaining_weights(100, 0.2, 4) == [100, 80, 64, 51, 41]
    with pytest.raises(ConfigError, match="round 2 would leave no weight; allowed here: at most 1"):
        remaining_weights(4, 0.8, 2)
    with pytest.raises(ConfigError, match="round 1 would prune nothing of the 2 left"):
        remaining_weights(2, 0.2, 1)


def test_prunable_marks_weights_of_the_right_layers_and_never_biases_or_batchnorm():
    convolutions = ["0.weight", "3.weight", "7.weight", "10.weight"]
    assert chosen_names(small_vgg(), "conv_and_linear") == [*convolutions, "16.weight"]
    assert chosen_names(small_vgg(), "all_but_last") == convolutions
    assert chosen_names(small_vgg(), "conv") == convolutions
    lenet = models.build("lenet_300_100", (1, 8, 8), 10, {})
    assert chosen_names(lenet, "conv_and_linear") == ["1.weight", "3.weight", "5.weight"]
    assert chosen_names(lenet, "all_but_last") == ["1.weight", "3.weight"]
    with pytest.raises(ConfigError, match="prunable = 'conv'"):
        prunable(lenet, "conv")


def test_all_of_a_resnets_convolutions_its_shortcuts_and_its_classifier_are_prunable():
    with torch.device("meta"):
        resnet = models.resnet18((3, 32, 32), 10)
    layers = [m.weight.numel() for m in resnet.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 21
    parameters = list(resnet.named_parameters())
    expected = sum(p.numel() for name, p in parameters if p.ndim > 1)
    assert sum(layers) == expected
    resnet = resnet.to_empty(device="cpu")
    assert int(prunable(resnet, "conv_and_linear").sum()) == expected


SMALL = RunConfig(epochs=1, milestones=(), rounds=3, noise_rate=0.2, model_args={"width": 0.1}, batch_size=64)


@pytest.mark.parametrize(
    "config",
    [SMALL, SMALL.vary(model="vgg_like", model_args={"depth": 2, "width": 2}, batch_size=32)],
    ids=["lenet", "vgg"],
)
def test_gradient_criterion_is_the_autograd_of_one_batch_through_the_plain_module(config):
    stack = Stack([config.vary(criterion="gradient", seed=3)], CPU)
    state = stack.fresh()
    scores = stack.scores(state, 1)[0]
    (rng,) = stack.generators("criterion", 1)
    rows, labels = stack.data.rows[0], stack.data.labels[0]
    batch = torch.randperm(len(rows), generator=rng)[: config.batch_size]
    network = models.build(config.model, (1, 8, 8), 10, config.model_args, seed=3).eval()
    cross_entropy(network(stack.dataset.train_x[rows[batch]]), labels[batch]).backward()
    expected = torch.cat([(p.grad * p).abs().flatten() for p in network.parameters()])
    assert expected.max() > 1e-4
    torch.testing.assert_close(scores, expected, atol=1e-7, rtol=1e-4)


def test_magnitude_scores_are_absolute_weights():
    stack = Stack([SMALL.vary(seed=1), SMALL.vary(seed=2)], CPU)
    for run, seed in enumerate((1, 2)):
        network = models.build("lenet_300_100", (1, 8, 8), 10, SMALL.model_args, seed)
        assert torch.equal(stack.scores(stack.fresh(), 1)[run], vector(network).abs())


def test_random_scores_differ_between_layers_rounds_and_seeds_but_not_between_calls():
    config = SMALL.vary(model="mlp", model_args={"depth": 3, "width": 12}, criterion="random")
    stack = Stack([config, config.vary(seed=1)], CPU)
    state = stack.fresh()
    first, second = stack.scores(state, 1), stack.scores(state, 2)
    layers = stack.network.parameters(first)
    assert layers["3.weight"].shape == layers["5.weight"].shape
    assert not torch.isclose(layers["3.weight"], layers["5.weight"]).all()
    for a, b in ((first[0], first[1]), (first[0], second[0])):
        assert abs(torch.corrcoef(torch.stack([a, b]))[0, 1]) < 0.15
    assert torch.equal(first, stack.scores(state, 1))
    assert 0 <= first.min() < 0.05
    assert 0.95 < first.max() < 1


def test_all_weights_are_counted_as_in_the_program_of_he_et_al():
    left = remaining_weights(265_200, 0.2, 24, spared=1000)
    assert [left[i] for i in (10, 18, 20, 22, 24)] == [27_577, 3_788, 2_062, 957, 250]
    with pytest.raises(ConfigError, match="round 25 would leave no weight"):
        remaining_weights(265_200, 0.2, 25, spared=1000)


def test_the_spared_layers_are_those_that_are_not_pruned():
    network = models.build("lenet_300_100", (1, 28, 28), 10, {})
    assert spared_weights(network, "all_but_last", "all_weights") == 1000
    assert spared_weights(network, "conv_and_linear", "all_weights") == 0
    assert spared_weights(network, "all_but_last", "prunable") == 0
    _, counts = plan(network, "all_but_last", "global", 0.2, 24, "all_weights")
    assert counts[24] == [250]


def test_a_count_by_layers_is_refused_and_the_keys_of_other_runs_stay():
    with pytest.raises(ConfigError, match="amount_of = 'all_weights': only the scope 'global'"):
        RunConfig(amount_of="all_weights", scope="layer")
    assert RunConfig(noise_rate=0.5).key == RunConfig(noise_rate=0.5, initialisation="pytorch").key
    assert RunConfig(initialisation="he2022").key != RunConfig().key


@pytest.mark.parametrize("which", KINDS)
@pytest.mark.parametrize("scored", [False, True], ids=["magnitude", "given scores"])
def test_masks_by_name_are_torchs_global_unstructured_step_by_step(which, scored):
    """Also of modules in modules, and of a layer that is frozen."""
    network, other = (nn.Sequential(nn.Flatten(0, 0), small_vgg(), nn.ReLU()) for _ in range(2))
    network[1][0].weight.requires_grad_(False)
    layers = [(name, m) for name, m in other.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    layers = layers if which == "conv_and_linear" else layers[:-1]
    rng, masks = torch.Generator().manual_seed(0), None
    for _ in range(5):
        scores = {f"{n}.weight": torch.rand(m.weight.shape, generator=rng) for n, m in layers} if scored else None
        theirs = {(m, "weight"): scores[f"{n}.weight"] for n, m in layers} if scored else None
        pairs = [(m, "weight") for _, m in layers]
        torch_prune.global_unstructured(pairs, torch_prune.L1Unstructured, importance_scores=theirs, amount=0.3)
        before, masks = masks, global_masks(network, 0.3, masks, scores, which)
        apply_masks(network, masks)
        assert list(masks) == [f"{name}.weight" for name, _ in layers]
        for name, layer in layers:
            mask = masks[f"{name}.weight"]
            assert mask.dtype == torch.bool and torch.equal(mask, layer.weight_mask.bool())
            assert before is None or (mask <= before[f"{name}.weight"]).all()
            assert torch.equal(network.get_parameter(f"{name}.weight"), layer.weight)


def test_masks_are_applied_in_place_to_their_weights_alone_and_optimizers_go_on():
    network = small_vgg()
    masks = global_masks(network, 0.5)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    weight = network[0].weight
    apply_masks(network, {"0.weight": masks["0.weight"].float()})  # masks may be numbers, and need not be all
    assert network[0].weight is weight and weight.requires_grad
    assert torch.equal(weight, before["0.weight"] * masks["0.weight"])
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters() if name != "0.weight")


def test_a_loop_of_ones_own_with_masks_by_name_prunes_as_a_run_does():
    """The masks that a run's rounds have, from the weights that each of its rounds ends with."""
    config = SMALL.vary(prunable="all_but_last")
    stack, rounds, masks = Stack([config], CPU), [], None
    run_rounds(stack, stack.fresh(), 0, lambda _, state, rows: rounds.append(stack.tensors(state, 0)))
    network = models.build(config.model, (1, 8, 8), 10, config.model_args)
    for before, after in pairwise(rounds):
        network.load_state_dict({name: t for name, t in before.items() if not name.startswith("mask.")})
        masks = global_masks(network, config.amount, masks, which="all_but_last")
        expected = {name: t for name, t in after.items() if name.startswith("mask.")}
        assert {f"mask.{name}" for name in masks} == set(expected)
        assert all(torch.equal(mask, expected[f"mask.{name}"]) for name, mask in masks.items())


@pytest.mark.parametrize("amount", [0.0, 1.0, 1e-5, 0.9999, -0.2, 1.5])
def test_an_amount_that_prunes_nothing_or_everything_is_refused(amount):
    with pytest.raises(ConfigError, match=f"amount = {amount}: would keep .* of 50 weights left; allowed: 1 to 49"):
        global_masks(nn.Linear(10, 5), amount)


def test_masks_and_scores_that_do_not_fit_the_network_are_refused_by_name():
    network = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    masks = global_masks(network, 0.5)
    one, wrong = {"0.weight": masks["0.weight"]}, masks | {"1.weight": torch.ones(3, 2)}
    for name, found in (("masks", one), ("scores", one)):
        with pytest.raises(ConfigError, match=rf"{name}: \['1.weight'\] are in only one of"):
            global_masks(network, 0.5, **{name: found})
    for name in ("masks", "scores"):
        with pytest.raises(ConfigError, match=rf"{name}\['1.weight'\]: shape \(3, 2\), the weight's is \(2, 3\)"):
            global_masks(network, 0.5, **{name: wrong})
    with pytest.raises(ConfigError, match=r"masks: \['2.weight'\] are in only one"):
        apply_masks(network, {"2.weight": torch.ones(2, 3)})
    with pytest.raises(ConfigError, match=r"masks\['1.weight'\]: shape \(3, 2\)"):
        apply_masks(network, wrong)
