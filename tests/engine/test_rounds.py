"""The rows of the tidy table against the plain module's own numbers."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.rounds import _costs
from dsdlib.engine.rows import best_epoch, mark_diverged
from dsdlib.engine.stack import Stack
from dsdlib.engine.stacked import StackedTrainer
from dsdlib.geometry import learning_distance
from dsdlib.noise import labels_for
from dsdlib.pruning import layer_names
from dsdlib.seeding import torch_generator

CPU = torch.device("cpu")
LENET = RunConfig(epochs=2, milestones=(1,), rounds=2, noise_rate=0.2, model_args={"width": 0.1})
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 4}, batch_size=256)
BOTH = pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])


def module_at(done, round_):
    """The first run's network with its weights and buffers at the end of a round."""
    network, tensors = build(done.stack.configs[0]), done.stack.tensors(done.states[round_], 0)
    network.load_state_dict({name: part for name, part in tensors.items() if not name.startswith("mask.")})
    return network.eval()


@BOTH
def test_measures_equal_the_plain_modules_accuracy_and_loss(config, train_rounds):
    done = train_rounds(config.vary(seed=1))
    digits, labels = done.stack.dataset, labels_for(config.vary(seed=1), done.stack.dataset)
    parts = {
        "train": (digits.train_x[labels.train_rows], labels.train_labels),
        "validation": (digits.train_x[labels.validation_rows], labels.validation_labels),
        "test": (digits.test_x, digits.test_y),
    }
    for round_, (row,) in enumerate(done.rows):
        network = module_at(done, round_)
        for name, (x, y) in parts.items():
            logits = network(x).detach()
            right = (logits.argmax(1) == y).double()
            assert row[f"{name}_accuracy"] == pytest.approx(right.mean().item(), abs=1e-12)
            assert row[f"{name}_loss"] == pytest.approx(cross_entropy(logits, y).item(), rel=1e-4)
            if name == "train":
                assert row["train_accuracy_corrupted"] == pytest.approx(right[labels.corrupted].mean().item())
                assert row["train_accuracy_clean"] == pytest.approx(right[~labels.corrupted].mean().item())
                assert row["corrupted_fraction"] == pytest.approx(207 / 1037)


@pytest.mark.parametrize("steps", [0, 20])
@BOTH
def test_an_epochs_train_measures_are_those_of_its_batches_before_each_step(config, steps, train_rounds):
    run = config.vary(epochs=3, milestones=(), rounds=1, batch_size=64, lr=0.02)
    run = run.vary(retraining="weight_rewinding", rewind_iteration=steps)  # 17 steps an epoch
    done = train_rounds(run, history=True)
    assert [[epoch for epoch, _, _ in epochs] for epochs in done.epochs] == [[0, 1, 2], [0, 1, 2][steps // 17 :]]
    x, y = done.stack.data.x[done.stack.data.rows[0]], done.stack.data.labels[0]
    network, generator = build(run), torch_generator(run.seed, "order", 1)
    start = done.stack.rewind_point
    vector_to_parameters((start.weights * done.states[1].masks)[0], network.parameters())
    for name, buffer in network.named_buffers():
        buffer.copy_(start.buffers[name])
    masks = done.stack.network.parameters(done.states[1].masks)
    optimizer = torch.optim.SGD(network.parameters(), run.lr, run.momentum, weight_decay=run.weight_decay)
    recorded = {epoch: row for epoch, _, row in done.epochs[1]}
    for epoch in range(steps // 17, 3):
        losses, right = [], []
        batches = torch.randperm(len(x), generator=generator).split(64)
        for batch in batches[steps % 17 if epoch == steps // 17 else 0 :]:
            logits = network.train()(x[batch])
            losses.append(cross_entropy(logits, y[batch], reduction="none"))
            right.append(logits.argmax(1) == y[batch])
            optimizer.zero_grad()
            losses[-1].mean().backward()
            optimizer.step()
            for name, parameter in network.named_parameters():
                parameter.data *= masks[name][0]
        assert recorded[epoch]["train_loss"] == pytest.approx(torch.cat(losses).mean().item(), rel=1e-3)
        assert recorded[epoch]["train_accuracy"] == pytest.approx(torch.cat(right).double().mean().item(), abs=3e-3)


@BOTH
def test_an_epochs_validation_and_test_measures_are_those_after_it(config, train_rounds):
    done = train_rounds(config.vary(epochs=3, milestones=()), history=True)
    for epochs, (row,) in zip(done.epochs, done.rows, strict=True):
        last = epochs[-1][2]
        for name in ("validation_accuracy", "validation_loss", "test_accuracy", "test_loss", "test_ece"):
            assert last[name] == row[name]
    assert len({row["test_loss"] for epochs in done.epochs for _, _, row in epochs}) == 9


def test_a_history_evaluates_validation_and_test_images_alone(train_rounds, monkeypatch):
    """The training images' measures come from the steps: to evaluate them would take half as long again."""
    seen, real = [], StackedTrainer.__call__
    monkeypatch.setattr(StackedTrainer, "__call__", lambda trainer, x: (seen.append(x.shape[1]), real(trainer, x))[1])
    config = LENET.vary(rounds=0)
    train_rounds(config)
    without = sum(seen)
    train_rounds(config, history=True)
    assert sum(seen) - 2 * without == config.epochs * (260 + 500)


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy():
    validation, test = [math.nan, 0.3, 0.6, 0.6, 0.5], [0.9, 0.8, 0.7, 0.6, 0.5]
    parts = zip(range(5), validation, test, strict=True)
    epochs = [{"epoch": e, "validation_accuracy": v, "test_accuracy": t} for e, v, t in parts]
    names = ["best_epoch", "best_epoch_validation_accuracy", "best_epoch_test_accuracy"]
    assert best_epoch(epochs) == dict(zip(names, (2, 0.6, 0.7), strict=True))
    without = best_epoch(epochs[:1])
    assert list(without) == names and all(map(math.isnan, without.values()))


@pytest.mark.parametrize("steps", [0, 16, 17, 20, 33])
def test_training_cost_counts_the_images_that_each_round_trains_on(steps):
    stack = Stack([LENET.vary(retraining="weight_rewinding", rewind_iteration=steps)], CPU)
    state = stack.fresh()
    per_image = 3 * (64 * 30 + 30 * 10 + 10 * 10)
    sizes = 2 * [*[64] * 16, 13]  # 1,037 images in batches of 64, twice
    assert _costs(stack, state, 0)["train_flops"].item() == per_image * 2 * 1037
    for name in ("train_flops", "train_flops_sparse"):
        assert _costs(stack, state, 1)[name].item() == pytest.approx(per_image * sum(sizes[steps:]))


@BOTH
def test_a_diverged_run_has_no_accuracies_and_is_still_pruned_exactly(config, train_rounds):
    done = train_rounds(config.vary(lr=1e20, rounds=1), history=True)
    remaining = done.stack.remaining
    assert int((done.states[1].masks == 0).sum()) == remaining[0] - remaining[1]
    for (row,), epochs in zip(done.rows, done.epochs, strict=True):
        assert row["diverged"] is True
        for measures in (row, epochs[-1][2]):
            accuracies = [value for name, value in measures.items() if "accuracy" in name]
            assert len(accuracies) >= 3 and all(map(math.isnan, accuracies))


def test_a_run_that_diverges_leaves_its_stack_alone(train_rounds):
    tame, wild = LENET, LENET.vary(lr=1e20)
    alone, together = train_rounds(tame), train_rounds(tame, wild)
    for (row,), (own, other) in zip(alone.rows, together.rows, strict=True):
        assert (row["diverged"], own["diverged"], other["diverged"]) == (False, False, True)
        assert row["test_accuracy"] == own["test_accuracy"]


def test_a_run_has_diverged_from_the_first_round_on_whose_train_loss_is_not_finite():
    losses = [0.5, math.inf, 0.5, math.nan]
    rows = [{"train_loss": loss, "test_accuracy": 0.1, "pruned_test_accuracy": 0.2, "entropy": 0.3} for loss in losses]
    mark_diverged(rows)
    assert [row["diverged"] for row in rows] == [False, True, True, True]
    assert [row["entropy"] for row in rows] == [0.3] * 4 and rows[0]["test_accuracy"] == 0.1
    assert all(math.isnan(row["test_accuracy"]) and math.isnan(row["pruned_test_accuracy"]) for row in rows[1:])


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (LENET, {"schedule": "one_shot", "criterion": "random"}),
        (LENET, {"scope": "layer", "retraining": "weight_rewinding"}),
        (LENET, {"retraining": "reinit", "criterion": "gradient"}),
        (VGG, {}),
        (VGG, {"schedule": "one_shot", "retraining": "weight_rewinding"}),
    ],
)
def test_pruned_test_accuracy_is_that_of_the_trained_weights_under_the_new_mask(config, changes, train_rounds):
    run = config.vary(amount=0.3, milestones=(), **changes)
    done = train_rounds(run)
    x, y = done.stack.test
    rows = [row for (row,) in done.rows]
    assert [row["pruned_test_accuracy"] != row["pruned_test_accuracy"] for row in rows] == [True, False, False]
    for round_ in (1, 2):
        before = 0 if run.schedule == "one_shot" else round_ - 1
        network = module_at(done, before)
        whole = (network(x).argmax(1) == y).double().mean().item()
        for name, mask in done.stack.network.parameters(done.states[round_].masks).items():
            network.get_parameter(name).data *= mask[0]
        pruned = (network(x).argmax(1) == y).double().mean().item()
        assert rows[round_]["pruned_test_accuracy"] == pytest.approx(pruned, abs=1e-12)
        assert rows[before]["test_accuracy"] == pytest.approx(whole)
    assert any(row["pruned_test_accuracy"] != row["test_accuracy"] for row in rows[1:])


def test_learning_distance_is_the_euclidean_norm_with_pruned_weights_as_zeros_whole_and_of_its_parts():
    initial = torch.tensor([[3.0, 4.0, 1.0], [1.0, 1.0, 1.0]])
    trained = torch.tensor([[0.0, 0.0, 1.0], [1.0, -1.0, 0.0]])
    assert learning_distance(initial, trained).tolist() == pytest.approx([5.0, 5**0.5])
    assert learning_distance(initial, trained, [1, 2]).tolist() == [[3, 4], [0, pytest.approx(5**0.5)]]
    assert learning_distance(initial, trained, [3]).tolist() == [[5], [pytest.approx(5**0.5)]]


@BOTH
def test_squared_learning_distances_of_layers_and_batchnorms_add_up_to_that_of_all_parameters(config, train_rounds):
    done, before = train_rounds(config.vary(amount=0.7)), build(config)
    layers = layer_names(before)
    for round_, (row,) in enumerate(done.rows):
        after = module_at(done, round_)
        square = {
            name: sum(
                (p.double() - q.double()).square().sum().item()
                for p, q in zip(part.parameters(), after.get_submodule(name).parameters(), strict=True)
            )
            for name, part in before.named_modules()
            if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
        }
        for number, name in enumerate(layers, 1):
            assert row[f"learning_distance_{number}"] == pytest.approx(square[name] ** 0.5, rel=1e-9)
        assert row["learning_distance"] ** 2 == pytest.approx(sum(square.values()), rel=1e-9)
        in_layers = sum(row[f"learning_distance_{number}"] ** 2 for number in range(1, len(layers) + 1))
        assert in_layers <= row["learning_distance"] ** 2 * (1 + 1e-12)
        assert (in_layers < row["learning_distance"] ** 2 * (1 - 1e-6)) is (len(square) > len(layers))
        assert f"learning_distance_{len(layers) + 1}" not in row


USERS_OWN = """
import torch
from torch import nn


def two_points():
    x = torch.tensor([[-1.0], [1.0]]).repeat(20, 1)
    return x, (x[:, 0] > 0).long(), x, (x[:, 0] > 0).long()


def bare(input_shape, classes):
    return nn.Linear(1, 2)


def two_layers(input_shape, classes):
    return nn.Sequential(nn.Linear(1, 1, bias=False), nn.Tanh(), nn.Linear(1, 2, bias=False))
"""


@pytest.mark.parametrize("model", ["bare", "two_layers"])
def test_a_users_own_network_has_a_learning_distance_for_each_of_its_layers(model, tmp_path, monkeypatch, train_rounds):
    (tmp_path / "points.py").write_text(USERS_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run = RunConfig(dataset="points:two_points", model=f"points:{model}", batch_size=8, epochs=1, milestones=[])
    run = run.vary(rounds=1, amount=0.5)
    done, before = train_rounds(run), build(run)
    for round_, (row,) in enumerate(done.rows):
        after = module_at(done, round_)
        moved = [(p - q).square().sum().item() for p, q in zip(before.parameters(), after.parameters(), strict=True)]
        layers = [sum(moved)] if model == "bare" else moved
        for number, square in enumerate(layers, 1):
            assert row[f"learning_distance_{number}"] == pytest.approx(square**0.5, rel=1e-5)
        assert row["learning_distance"] == pytest.approx(sum(moved) ** 0.5, rel=1e-5)
        assert f"learning_distance_{len(layers) + 1}" not in row
