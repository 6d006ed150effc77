"""ResNet-20 against the published counts of its parameters and multiply-adds, and carried through a pruning."""

import pytest
import torch
from torch import nn

from dsdlib import ConfigError, RunConfig, cost, models
from dsdlib.engine.build import check
from dsdlib.engine.device import PLAIN
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.pruning import prunable

CIFAR = (3, 32, 32)
SHORTCUTS = (16 * 32 * 16 * 16, 32 * 64 * 8 * 8)  # multiply-adds of the 1×1 convolutions


def parameters(width, channels=3, classes=10):
    """By hand: three stages of k, 2k and 4k filters, with biases and two numbers a filter for each BatchNorm."""

    def convolution(a, b, side=3):
        return a * b * side**2 + b

    k = width
    stages = sum(5 * convolution(n, n) for n in (2 * k, 4 * k)) + 6 * convolution(k, k)
    changes = sum(convolution(n, 2 * n) + convolution(n, 2 * n, 1) for n in (k, 2 * k))
    norms = 2 * (7 * k + 6 * 2 * k + 6 * 4 * k)
    return convolution(channels, k) + stages + changes + norms + 4 * k * classes + classes


@pytest.mark.parametrize("width", [1, 5, 16, 50])
def test_its_parameters_are_counted_by_hand_and_as_keras_counts_its_resnet20_v1(width):
    with torch.device("meta"):
        network = models.resnet20(CIFAR, 10, width=width)
    size = sum(p.numel() for p in network.parameters())
    assert size == parameters(width)
    assert width != 16 or size == 273_066
    weights = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weights) == 20 + 2  # two shortcuts
    assert int(prunable(network, "conv_and_linear").sum()) == sum(weights)


def test_its_stages_halve_the_maps_and_double_the_filters():
    shapes = []
    with torch.device("meta"):
        network = models.resnet20(CIFAR, 7, width=3)
        blocks = [module for module in network if isinstance(module, models.Residual)]
        for block in blocks:
            block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
        assert network(torch.zeros(2, *CIFAR)).shape == (2, 7)
    assert shapes == [(3, 32, 32)] * 3 + [(6, 16, 16)] * 3 + [(12, 8, 8)] * 3
    assert [type(b.shortcut) for b in blocks].count(nn.Identity) == 7


def test_a_forward_pass_costs_the_published_multiply_adds():
    """40.55 million with shortcuts that are free (He et al. 2016's)."""
    layers, other = cost.forward_cost(models.resnet20(CIFAR, 10), CIFAR)
    assert sum(layers.values()) - sum(SHORTCUTS) == 40_551_040
    assert sum(layers[f"{block}.shortcut.weight"] for block in (6, 9)) == sum(SHORTCUTS)
    assert other == 5 * (7 * 16 * 1024 + 6 * 32 * 256 + 6 * 64 * 64) + 64 * 64


def test_a_block_adds_its_input():
    block = models.Residual(4, 4, 1).eval()
    for parameter in block.body[-1].parameters():  # the last BatchNorm lets nothing pass
        nn.init.zeros_(parameter)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(x), x.relu())


@pytest.mark.parametrize(
    ("shape", "arguments", "message"),
    [((64,), {}, "takes images"), ((3, 8, 8), {"width": 0}, "width = 0: .*greater than 0")],
)
def test_what_is_no_resnet20_is_refused_by_name(shape, arguments, message):
    with pytest.raises(ConfigError, match=message):
        models.build("resnet20", shape, 10, arguments)


def test_it_is_pruned_in_one_step_and_retrained_from_its_initial_weights():
    config = RunConfig(
        model="resnet20",
        model_args={"width": 2},
        epochs=2,
        retrain_epochs=1,
        milestones=[],
        optimizer="adam",
        lr=0.01,
        rounds=1,
        amount=0.75,
        retraining="weight_rewinding",
    )
    check(config)
    stack, rows, ends = Stack([config], torch.device("cpu"), engine=PLAIN), [], []
    run_rounds(stack, stack.fresh(), 0, lambda round_, state, found: (rows.extend(found), ends.append(state)))
    dense, sparse = rows
    weights = int(stack.prunable.sum())
    assert (dense["remaining_weights"], sparse["remaining_weights"]) == (weights, weights - round(0.75 * weights))
    assert dense["train_flops"] == pytest.approx(2 * sparse["train_flops"])
    assert 0 <= sparse["pruned_test_accuracy"] <= 1 and dense["pruned_test_accuracy"] != dense["pruned_test_accuracy"]
    assert (ends[1].weights[ends[1].masks == 0] == 0).all()
    assert ends[0].buffers.keys() == ends[1].buffers.keys() and len(ends[0].buffers) == 3 * 19
