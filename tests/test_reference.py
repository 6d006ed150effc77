"""The engine against the program in plain PyTorch, in double precision; and what that program refuses.

In double precision rounding is too small to change a mask, so that all rounds can be compared, not only the first.
"""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from dsdlib import ConfigError, RunConfig, data
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.models import build
from dsdlib.reference import HONOURED, iterative_pruning

CPU = torch.device("cpu")
LENET = RunConfig(
    model_args={"width": 0.1}, epochs=3, milestones=(2,), rounds=4, amount=0.4, noise_rate=0.4, weight_decay=1e-3
)
VGG = LENET.vary(model="vgg_like", model_args={"depth": 2, "width": 3}, batch_size=256, rounds=3, amount=0.5)
STEPS = {LENET: 17, VGG: 5}  # in an epoch


@pytest.fixture
def double(monkeypatch):
    """Digits, and all parameters, in double precision."""
    digits = data.load("digits")
    digits = replace(digits, train_x=digits.train_x.double(), test_x=digits.test_x.double())
    monkeypatch.setattr(data, "_load", lambda name, root: digits)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def engine_rounds(config, teacher=None):
    """Of each round: the row, and the weights and masks by name."""
    stack, rounds = Stack([config], CPU, [teacher] if teacher else ()), []
    run_rounds(stack, stack.fresh(), 0, lambda _, state, rows: rounds.append((rows[0], stack.tensors(state, 0))))
    return rounds


def reference_rounds(config, teacher=None):
    """The same of the reference program, whose pruned weights are multiplied by their masks."""
    rounds = []
    for row, network in iterative_pruning(config, CPU, teacher):
        state = network.state_dict()
        tensors = {name: tensor.clone() for name, tensor in state.items() if "weight_" not in name}
        for name in [name.removesuffix("_orig") for name in state if name.endswith("weight_orig")]:
            tensors[name] = state[f"{name}_orig"] * state[f"{name}_mask"]
            tensors[f"mask.{name}"] = state[f"{name}_mask"].bool()
        rounds.append((row, tensors))
    return rounds


def assert_same_rounds(config, teacher=None):
    ours, theirs = engine_rounds(config, deepcopy(teacher)), reference_rounds(config, deepcopy(teacher))
    assert len(ours) == len(theirs) == config.rounds + 1
    for (our_row, our_tensors), (their_row, their_tensors) in zip(ours, theirs, strict=True):
        assert our_tensors.keys() == their_tensors.keys()
        for name, tensor in our_tensors.items():
            torch.testing.assert_close(tensor, their_tensors[name], atol=1e-7, rtol=1e-6, msg=name)
        for name in ("round", "sparsity", "train_accuracy", "test_accuracy"):
            assert our_row[name] == pytest.approx(their_row[name], abs=1e-12)
    left = [sum(int(mask.sum()) for name, mask in tensors.items() if name.startswith("mask.")) for _, tensors in ours]
    assert left == sorted(set(left), reverse=True)
    assert len({row["test_accuracy"] for row, _ in ours}) > 2  # the runs are not trivial
    return ours


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
@pytest.mark.parametrize("prunable", ["conv_and_linear", "all_but_last"])
def test_learning_rate_rewinding_agrees(config, prunable, double, one_thread):
    if prunable == "all_but_last":
        config = config.vary(prunable=prunable, seed=5, momentum=0.0, initialisation="he2022")
    assert_same_rounds(config)


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
@pytest.mark.parametrize("where", ["initial weights", "amid an epoch", "an epoch's end", "last step"])
def test_weight_rewinding_agrees(config, where, double, one_thread):
    steps = STEPS[config]
    iteration = {
        "initial weights": 0,
        "amid an epoch": steps + 2,
        "an epoch's end": 2 * steps,
        "last step": 3 * steps - 1,
    }
    run = config.vary(retraining="weight_rewinding", rewind_iteration=iteration[where], seed=2)
    assert_same_rounds(run)


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
@pytest.mark.parametrize("changes", [{}, {"retraining": "weight_rewinding", "rewind_iteration": 3, "alpha": 1.0}])
def test_distillation_agrees(config, changes, double, one_thread):
    teacher = build(VGG.model, (1, 8, 8), 10, VGG.model_args, seed=9)
    teacher.train()(3 + 2 * torch.randn(64, 1, 8, 8))  # so that BatchNorm's two modes differ
    plain = engine_rounds(config.vary(**{**changes, "alpha": 0.8}))
    run = config.vary(teacher=VGG, temperature=4.0, **changes)
    rounds = assert_same_rounds(run, teacher)
    assert rounds[-1][0]["train_loss"] != pytest.approx(plain[-1][0]["train_loss"], rel=0.01)


@pytest.mark.parametrize("config", [LENET, VGG], ids=["lenet", "vgg"])
def test_in_single_precision_the_dense_round_agrees_and_the_others_nearly(config, one_thread):
    config = config.vary(lr=5e-4, epochs=1, milestones=())  # BatchNorm amplifies rounding in a network this small
    ours, theirs = engine_rounds(config), reference_rounds(config)
    for name, tensor in ours[0][1].items():
        torch.testing.assert_close(tensor, theirs[0][1][name], atol=2e-5, rtol=1e-4)
    for (our_row, our_tensors), (their_row, their_tensors) in zip(ours, theirs, strict=True):
        for name in (name for name in our_tensors if name.startswith("mask.")):
            assert (our_tensors[name] == their_tensors[name]).double().mean() > 0.98
        assert our_row["test_accuracy"] == pytest.approx(their_row["test_accuracy"], abs=0.02)


@pytest.mark.parametrize(
    ("changes", "allowed"),
    [
        ({"optimizer": "adam"}, "optimizer = 'adam': allowed: 'sgd'"),
        ({"scope": "layer"}, "scope = 'layer': allowed: 'global'"),
        ({"schedule": "one_shot"}, "schedule = 'one_shot': allowed: 'iterative'"),
        ({"start": LENET}, "start = .*: allowed: None"),
        ({"retrain_epochs": 3}, "retrain_epochs = 3: allowed: None"),
        ({"criterion": "random"}, "criterion = 'random': allowed: 'magnitude'"),
        ({"criterion": "gradient"}, "criterion = 'gradient': allowed: 'magnitude'"),
        ({"augment": True}, "augment = True: allowed: False"),
        ({"amount_of": "all_weights"}, "amount_of = 'all_weights': allowed: 'prunable'"),
        ({"retraining": "reinit"}, "retraining = 'reinit': allowed: 'lr_rewinding', 'weight_rewinding'"),
        ({"retraining": "finetune"}, "retraining = 'finetune': allowed"),
        ({"teacher": LENET}, "teacher: a network must be given"),
        ({"optimizer": "adam", "augment": True}, "(?s)augment = True.*optimizer = 'adam'"),
    ],
)
def test_the_reference_program_refuses_what_it_does_not_do(changes, allowed):
    with pytest.raises(ConfigError, match=allowed):
        next(iterative_pruning(LENET.vary(**changes), CPU))


def test_a_teacher_that_the_configuration_does_not_have_is_refused():
    with pytest.raises(ConfigError, match="teacher: a network must be given if and only if"):
        next(iterative_pruning(LENET, CPU, build("mlp", (1, 8, 8), 10, {})))


def test_every_field_is_either_honoured_or_refused():
    """A field that is added to RunConfig later is refused until this program honours it."""
    assert set(RunConfig.model_fields) >= HONOURED
    refused = {"augment", "retrain_epochs", "optimizer", "amount_of", "criterion", "scope", "schedule", "start"}
    assert set(RunConfig.model_fields) - HONOURED == refused | {"start_round", "control"}
