"""What is pruned, by which scores, and from which weights each round is trained."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.nn.utils import prune as torch_prune

from dsdlib import data
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.rounds import measure
from dsdlib.engine.stack import Stack
from dsdlib.noise import labels_for
from dsdlib.pruning import layer_names
from dsdlib.seeding import torch_generator

CPU = torch.device("cpu")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)
SHORT = LENET.vary(epochs=1, milestones=())
BOTH = pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])


def vector(network):
    return parameters_to_vector(network.parameters()).detach().clone()


def module_at(done, round_):
    """The first run's network with its weights and buffers at the end of a round."""
    network, tensors = build(done.stack.configs[0]), done.stack.tensors(done.states[round_], 0)
    network.load_state_dict({name: part for name, part in tensors.items() if not name.startswith("mask.")})
    return network.eval()


def masks_at(done, round_, run=0):
    """The masks of the prunable weights, by name."""
    parts = done.stack.network.parameters(done.states[round_].masks)
    return {f"{name}.weight": parts[f"{name}.weight"][run] for name in layer_names(done.stack.network.module)}


def layer_sizes(config):
    network = build(config)
    return [network.get_submodule(name).weight.numel() for name in layer_names(network)]


def weights_by_layer(config):
    """For each layer, which of all parameters are its weights."""
    network = build(config)
    parameters = list(network.named_parameters())
    return [
        torch.cat([torch.full((p.numel(),), name == f"{layer}.weight") for name, p in parameters])
        for layer in layer_names(network)
    ]


def highest(scores, among, keep):
    """The mask that keeps the highest of the scores ``among``, by Python's own sort."""
    candidates = sorted(among.nonzero().squeeze(1).tolist(), key=scores.tolist().__getitem__)
    mask = torch.ones_like(scores)
    mask[candidates[: len(candidates) - keep]] = 0
    return mask


# Layer by layer ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["conv_and_linear", "all_but_last"])
@BOTH
def test_layer_scope_is_torchs_l1_unstructured_in_each_layer_round_by_round(config, which):
    config = config.vary(scope="layer", prunable=which, rounds=9, amount=0.4)
    stack, together = Stack([config], CPU), Stack([config.vary(scope="global")], CPU)
    pruned_by_torch, generator = build(config), torch.Generator().manual_seed(0)
    names = layer_names(pruned_by_torch)[: None if which == "conv_and_linear" else -1]
    state, left = stack.fresh(), {name: pruned_by_torch.get_submodule(name).weight.numel() for name in names}
    for round_ in range(1, config.rounds + 1):
        state = stack.prune(state, round_)
        masks = stack.network.parameters(state.masks)
        for name in names:
            layer, mine = pruned_by_torch.get_submodule(name), masks[f"{name}.weight"][0]
            share = together.remaining[round_] / together.remaining[0]
            before, left[name] = left[name], max(1, round(mine.numel() * share))
            torch_prune.l1_unstructured(layer, "weight", amount=before - left[name])
            assert torch.equal(mine, layer.weight_mask)
            with torch.no_grad():  # as training would
                layer.weight_orig.add_(0.05 * torch.randn(layer.weight.shape, generator=generator))
            stack.network.parameters(state.weights)[f"{name}.weight"][0] = layer.weight_orig.detach()
        pruned_by_torch(torch.zeros(2, 1, 8, 8))  # torch masks the weights anew at each forward pass
        untouched = [name for name in masks if name.removesuffix(".weight") not in names]
        assert all(masks[name].all() for name in untouched)
        assert stack.remaining[round_] == sum(left.values())


@BOTH
def test_layer_scope_leaves_as_many_as_global_scope_and_some_in_every_layer(config, train_rounds):
    config = config.vary(epochs=1, milestones=(), rounds=6, amount=0.6)
    layered, together = train_rounds(config.vary(scope="layer")), train_rounds(config)
    left = {"layer": layered.stack.remaining, "global": together.stack.remaining}
    layers = len(layer_sizes(config))
    assert all(-layers / 2 <= a - b <= layers for a, b in zip(left["layer"], left["global"], strict=True))
    assert left["layer"] == sorted(left["layer"], reverse=True)
    for round_ in range(7):
        layer, global_ = ([int(m.sum()) for m in masks_at(done, round_).values()] for done in (layered, together))
        assert min(layer) >= 1
        assert sum(layer) == left["layer"][round_] and sum(global_) == left["global"][round_]
        share = left["global"][round_] / left["global"][0]
        assert all(abs(n - size * share) < 1 for n, size in zip(layer, layer_sizes(config), strict=True))
        assert (layer == global_) is (round_ == 0)


def test_no_layer_of_a_layer_wise_run_loses_its_last_weight(train_rounds):
    done = train_rounds(SHORT.vary(scope="layer", rounds=7, amount=0.65))
    counts = [[int(mask.sum()) for mask in masks_at(done, r).values()] for r in range(8)]
    assert counts[-1][2] == 1 and counts[-2][2] == 1 and min(map(min, counts)) == 1
    assert [row["remaining_weights"] for (row,) in done.rows] == list(map(sum, counts))
    assert [row["sparsity"] for (row,) in done.rows] == [1 - sum(c) / 2320 for c in counts]


# In one shot ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "retraining", "scope"),
    [
        (LENET, "lr_rewinding", "global"),
        (LENET, "weight_rewinding", "layer"),
        (LENET, "finetune", "layer"),
        (LENET, "reinit", "global"),
        (VGG, "lr_rewinding", "layer"),
        (VGG, "weight_rewinding", "global"),
    ],
)
def test_one_shot_prunes_the_trained_dense_network(config, retraining, scope, train_rounds, starts):
    config = config.vary(schedule="one_shot", retraining=retraining, scope=scope, amount=0.6, epochs=1, milestones=())
    done = train_rounds(config)
    dense, initial, among = module_at(done, 0), build(config), done.stack.prunable
    groups = weights_by_layer(config) if scope == "layer" else [among]
    for round_ in (1, 2):
        mask = done.states[round_].masks[0]
        expected = torch.ones_like(mask)
        for group in groups:
            expected *= highest(vector(dense).abs(), group, int(mask[group].sum()))
        assert torch.equal(mask, expected)
        assert int(mask[among].sum()) == done.rows[round_][0]["remaining_weights"]
        source = {"weight_rewinding": initial, "reinit": build(config, round_)}.get(retraining, dense)
        assert torch.equal(starts[round_].weights[0], vector(source) * mask)
        assert torch.equal(starts[round_].masks[0], mask)
        for name, buffer in source.named_buffers():
            assert torch.equal(starts[round_].buffers[name], buffer)
    iterative = highest(done.states[1].weights[0].abs(), among, int(mask[among].sum()))
    assert not torch.equal(mask, iterative)


def test_a_one_shot_runs_first_two_rounds_are_those_of_an_iterative_one(train_rounds):
    iterative, one_shot = (train_rounds(LENET.vary(schedule=s)) for s in ("iterative", "one_shot"))
    for round_, same in ((0, True), (1, True), (2, False)):
        assert torch.equal(iterative.states[round_].weights, one_shot.states[round_].weights) is same
    assert (one_shot.states[2].masks <= one_shot.states[1].masks).all()  # of one network, magnitudes are nested


# By which scores --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["iterative", "one_shot"])
@pytest.mark.parametrize(
    ("config", "mode"),
    [(LENET, "eval"), (VGG, "eval"), (VGG.vary(initialisation="he2022"), "train")],
    ids=["lenet", "vgg", "vgg as He et al."],
)
def test_gradient_criterion_keeps_the_highest_of_gradient_times_weight_on_a_batch_of_the_runs_own_labels(
    config, mode, schedule, train_rounds, starts
):
    run = config.vary(criterion="gradient", schedule=schedule, noise_rate=0.6, amount=0.5, seed=3)
    done, digits = train_rounds(run), data.load(run.dataset)
    labels = labels_for(run, digits)
    x, truth = digits.train_x[labels.train_rows], digits.train_y[labels.train_rows]
    for round_ in (1, 2):
        mask, source = done.states[round_].masks[0], 0 if schedule == "one_shot" else round_ - 1
        generator = torch_generator(run.seed, "criterion", round_)
        batch = torch.randperm(len(labels.train_rows), generator=generator)[: run.batch_size]

        def scores(y, source=source, batch=batch):
            network = module_at(done, source).train(mode == "train")
            cross_entropy(network(x[batch]), y[batch]).backward()
            return torch.cat([(p.grad * p).abs().flatten() for p in network.parameters()])

        left = done.stack.prunable & (done.states[source].masks[0] > 0)
        own, clean = scores(labels.train_labels), scores(truth)
        assert own[left & (mask == 1)].min() >= own[left & (mask == 0)].max() * (1 - 1e-3)  # but for rounding
        assert clean[left & (mask == 1)].min() < clean[left & (mask == 0)].max() / 2
        assert all(torch.equal(b, done.states[source].buffers[name]) for name, b in starts[round_].buffers.items())


def assert_uncorrelated(one, other):
    sample = torch.stack([one.flatten(), other.flatten()]).double()
    assert abs(torch.corrcoef(sample)[0, 1]) < 4.5 / one.numel() ** 0.5


def test_random_masks_do_not_depend_on_weights_and_are_independent_between_layers_rounds_and_seeds(train_rounds):
    deep = SHORT.vary(model="mlp", model_args={"depth": 3, "width": 24}, criterion="random")
    deep = deep.vary(amount=0.4, schedule="one_shot")
    done, other_seed, other_rate = (train_rounds(run) for run in (deep, deep.vary(seed=1), deep.vary(lr=0.2)))
    assert not torch.equal(done.states[0].weights, other_rate.states[0].weights)
    for round_ in (1, 2):
        assert torch.equal(done.states[round_].masks, other_rate.states[round_].masks)
        masks = masks_at(done, round_)
        assert_uncorrelated(masks["3.weight"], masks["5.weight"])
        assert_uncorrelated(masks["3.weight"], masks["5.weight"].T)
        for name, mask in masks.items():
            assert_uncorrelated(mask, masks_at(other_seed, round_)[name])
            assert_uncorrelated(mask, masks_at(done, 3 - round_)[name])
    dense = module_at(done, 0)
    for name, mask in masks_at(done, 1).items():
        assert_uncorrelated(dense.get_parameter(name).detach().abs(), mask)


def test_random_pruning_takes_a_like_share_of_every_layer_and_nests(train_rounds):
    done = train_rounds(LENET.vary(criterion="random", amount=0.4))
    for mask in masks_at(done, 2).values():
        assert abs(mask.double().mean().item() - 0.36) < 4.5 * (0.36 * 0.64 / mask.numel()) ** 0.5
    assert (done.states[2].masks <= done.states[1].masks).all()


# From which weights -----------------------------------------------------------------------------------------------


def test_learning_rate_rewinding_continues_from_the_weights_with_the_whole_schedule(train_rounds, starts):
    states = train_rounds(VGG).states
    for round_ in (1, 2):
        before, start = states[round_ - 1], starts[round_]
        assert torch.equal(start.weights, before.weights * states[round_].masks)
        assert all(torch.equal(buffer, before.buffers[name]) for name, buffer in start.buffers.items())
        assert start.recipe.lr.tolist() == pytest.approx([0.05])
        assert [start.recipe.lr_factor(epoch) for epoch in (0, 1)] == pytest.approx([1, 0.1])
        assert start.recipe.first_step == 0


def test_finetuning_continues_from_the_weights_at_the_last_learning_rate(train_rounds, starts):
    states = train_rounds(LENET.vary(retraining="finetune", epochs=3, milestones=(1, 2))).states
    assert [starts[0].recipe.lr_factor(epoch) for epoch in range(3)] == pytest.approx([1, 0.1, 0.01])
    for round_ in (1, 2):
        assert torch.equal(starts[round_].weights, states[round_ - 1].weights * states[round_].masks)
        recipe = starts[round_].recipe
        assert [recipe.lr.item() * recipe.lr_factor(epoch) for epoch in range(3)] == pytest.approx([0.0005] * 3)


@BOTH
def test_reinitialisation_draws_new_weights_each_round(config, train_rounds, starts):
    done = train_rounds(config.vary(retraining="reinit"))
    draws = [vector(build(config, draw)) for draw in range(3)]
    for start, draw, state in zip(starts, draws, done.states, strict=True):
        assert torch.equal(start.weights[0], draw * state.masks[0])
        assert all(torch.equal(b, done.stack.initial_buffers[name]) for name, b in start.buffers.items())
    matrices = [done.stack.network.parameters(draw.unsqueeze(0)) for draw in draws]
    for name, shape in zip(done.stack.network.names, done.stack.network.shapes, strict=True):
        if len(shape) > 1:
            assert not any((matrices[a][name] == matrices[b][name]).any() for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("steps", [None, 0, 3], ids=["lr_rewinding", "to the start", "to 3 steps after it"])
@BOTH
def test_a_run_with_a_start_trains_all_its_weights_from_it_and_rewinds_to_it(config, steps, train_rounds, starts):
    config = config.vary(epochs=1, milestones=(), rounds=1)
    if steps is not None:
        config = config.vary(retraining="weight_rewinding", rewind_iteration=steps)
    first = train_rounds(config.vary(amount=0.7, retraining="lr_rewinding", rewind_iteration=0))
    start, mask = module_at(first, 1), first.states[1].masks[0]
    starts.clear()
    done = train_rounds(config.vary(start=config, start_round=1), starts=[start])
    assert torch.equal(starts[0].weights[0], vector(start)) and starts[0].masks.all()
    assert all(torch.equal(starts[0].buffers[name], buffer) for name, buffer in start.named_buffers())
    assert (vector(start)[mask == 0] == 0).all() and (mask == 0).any()
    dense = done.states[0].weights[0]
    assert (dense[mask == 0] != 0).float().mean() > 0.5  # some pixels are always black, some neurons dead
    distance = (dense - vector(build(config))).norm().item()
    assert done.rows[0][0]["learning_distance"] == pytest.approx(distance, rel=1e-5)
    rewound, mask = starts[1], done.states[1].masks[0]
    source = dense if steps is None else vector(start)
    assert torch.equal(rewound.weights[0], source * mask) is (steps != 3)
    assert (rewound.weights[0] - source * mask).abs().max() < 0.5 and rewound.recipe.first_step == (steps or 0)
    if steps is not None:
        for name, buffer in start.named_buffers():
            assert torch.equal(rewound.buffers[name], buffer) is (steps == 0)


# Never pruned -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["iterative", "one_shot"])
@pytest.mark.parametrize("retraining", ["lr_rewinding", "weight_rewinding", "finetune", "reinit"])
@BOTH
def test_a_dense_control_is_trained_as_long_as_its_pruned_run_and_never_pruned(
    config, retraining, schedule, train_rounds, starts
):
    run = config.vary(retraining=retraining, schedule=schedule)
    pruned = train_rounds(run)
    recipes = [start.recipe for start in starts]
    starts.clear()
    control = train_rounds(run.vary(control="dense"))
    total = control.stack.remaining[0]
    for round_, ((row,), (other,), start) in enumerate(zip(control.rows, pruned.rows, starts, strict=True)):
        assert start.recipe == recipes[round_] and start.masks.all() and control.states[round_].masks.all()
        assert row["sparsity"] == 0 and row["remaining_weights"] == total
        assert row["train_flops"] == other["train_flops"] == row["train_flops_sparse"]
        if round_ > 0:
            before = {"weight_rewinding": control.stack.initial, "reinit": control.stack._draw(round_)}
            dense = control.states[0 if schedule == "one_shot" else round_ - 1]
            assert torch.equal(start.weights, before.get(retraining, dense.weights))
            if retraining in ("lr_rewinding", "finetune"):  # nothing happens between two trainings
                accuracy = control.rows[0 if schedule == "one_shot" else round_ - 1][0]["test_accuracy"]
                assert row["pruned_test_accuracy"] == accuracy
    assert torch.equal(control.states[0].weights, pruned.states[0].weights)
    assert not torch.equal(control.states[1].weights, pruned.states[1].weights)


# How long, and by which optimiser ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retraining", "schedule"),
    [
        ("lr_rewinding", "one_shot"),
        ("weight_rewinding", "iterative"),
        ("finetune", "iterative"),
        ("reinit", "one_shot"),
    ],
)
def test_retrain_epochs_and_the_optimizer_are_those_of_the_right_rounds_and_the_cost_follows(
    retraining, schedule, train_rounds, starts
):
    steps = 5 if retraining == "weight_rewinding" else 0
    run = LENET.vary(optimizer="adam", lr=0.002, epochs=2, retrain_epochs=3, schedule=schedule)
    done = train_rounds(run.vary(retraining=retraining, rewind_iteration=steps), history=True)
    recipes = [start.recipe for start in starts]
    assert [recipe.epochs for recipe in recipes] == [2, 3, 3] and {recipe.optimizer for recipe in recipes} == {"adam"}
    assert [recipe.first_step for recipe in recipes] == [0, steps, steps]
    per_image = 3 * (64 * 30 + 30 * 10 + 10 * 10)
    images = [2 * 1037, 3 * 1037 - steps * 64, 3 * 1037 - steps * 64]
    assert [row["train_flops"] for (row,) in done.rows] == [per_image * n for n in images]
    assert [[epoch for epoch, _, _ in epochs] for epochs in done.epochs] == [[0, 1], [0, 1, 2], [0, 1, 2]]
    for recipe in recipes[1:]:
        rates = [recipe.lr.item() * recipe.lr_factor(epoch) for epoch in range(3)]
        assert rates == pytest.approx([0.0002] * 3 if retraining == "finetune" else [0.002, 0.0002, 0.0002])


# To and from the store --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "configs",
    [[LENET.vary(seed=3), LENET.vary(seed=4, noise_rate=0.4)], [VGG], [VGG.vary(criterion="gradient")]],
    ids=["lenets", "vgg", "vgg gradient"],
)
def test_a_state_restored_from_its_tensors_continues_bit_for_bit(configs, train_rounds):
    done, fresh = train_rounds(*configs), Stack(configs, CPU)
    state = fresh.restore([done.stack.tensors(done.states[1], run) for run in range(len(configs))])
    state = fresh.advance(state, 2)
    assert torch.equal(state.weights, done.states[2].weights)
    assert torch.equal(state.masks, done.states[2].masks)
    for row, expected in zip(measure(fresh, state, 2), done.rows[2], strict=True):
        assert {name: str(value) for name, value in (expected | row).items()} == {
            n: str(v) for n, v in expected.items()
        }


def test_a_runs_tensors_are_its_state_dict_and_the_masks_of_its_prunable_weights(train_rounds):
    done = train_rounds(VGG.vary(prunable="conv"))
    tensors, module = done.stack.tensors(done.states[2], 0), build(VGG)
    masks = {name.removeprefix("mask.") for name in tensors if name.startswith("mask.")}
    convolutions = {n for n, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    assert masks == {f"{name}.weight" for name in convolutions}
    assert tensors.keys() - {f"mask.{name}" for name in masks} == module.state_dict().keys()
    vector_to_parameters(done.states[2].weights[0], module.parameters())
    assert all(torch.equal(parameter, tensors[name]) for name, parameter in module.named_parameters())
    assert all((tensors[name][~tensors[f"mask.{name}"]] == 0).all() for name in masks)
