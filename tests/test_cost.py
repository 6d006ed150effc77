"""Training cost against the papers' and published counts, and by hand."""

import pytest
import torch
from torch import nn

from dsdlib import cost, models

CIFAR = (3, 32, 32)


SHORTCUTS = (16 * 32 * 16 * 16, 32 * 64 * 8 * 8)  # multiply-adds of the 1×1 convolutions


ROWS = [
    ("lenet_300_100", {"width": 0.1}, (1, 8, 8)),
    ("mlp", {"depth": 1, "width": 5}, (6,)),
    ("vgg_like", {"depth": 2, "width": 2}, (3, 8, 8)),
]


def test_a_forward_pass_and_a_training_of_vgg_like_cost_what_the_paper_counts():
    network = models.vgg_like((3, 32, 32), 10, depth=5, width=32)
    layers, other = cost.forward_cost(network, (3, 32, 32))
    linear = layers["37.weight"]
    assert linear == 250_880
    assert sum(layers.values()) - linear == 66_945_024
    assert sum(layers.values()) + other == 67_831_296
    petaflop = cost.training_flops(layers, other, samples=160 * 50_000) / 1e15
    assert petaflop == pytest.approx(1.62795, abs=5e-6)
    published = {12: 19.54, 14: 22.79, 25: 40.70, 30: 48.84}
    assert {trainings: round(trainings * petaflop, 2) for trainings in published} == published
    assert network.training


def test_a_forward_pass_of_resnet20_costs_the_published_multiply_adds():
    """40.55 million with shortcuts that are free (He et al. 2016's)."""
    layers, other = cost.forward_cost(models.resnet20(CIFAR, 10), CIFAR)
    assert sum(layers.values()) - sum(SHORTCUTS) == 40_551_040
    assert sum(layers[f"{block}.shortcut.weight"] for block in (6, 9)) == sum(SHORTCUTS)
    assert other == 5 * (7 * 16 * 1024 + 6 * 32 * 256 + 6 * 64 * 64) + 64 * 64


def test_multiply_adds_by_hand_with_stride_groups_and_padding():
    network = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),  # 8×8 → 4×4: 6·4·4 outputs of 2·3·3
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    ).eval()
    layers, other = cost.forward_cost(network, (4, 8, 8))
    assert layers == {"0.weight": 6 * 16 * 18, "5.weight": 24 * 5}
    assert other == 5 * 96 + 96
    assert not network.training
    assert not any(m._forward_hooks for m in network.modules())


@pytest.mark.parametrize(("model", "arguments", "shape"), ROWS)
def test_sparse_cost_is_the_dense_cost_less_the_pruned_weights_share(model, arguments, shape):
    network = models.build(model, shape, 4, arguments)
    layers, other = cost.forward_cost(network, shape)
    masks = {name: torch.ones(2, *p.shape) for name, p in network.named_parameters()}
    dense = cost.training_flops(layers, other, 10)
    assert dense == 30 * (sum(layers.values()) + other)
    assert cost.training_flops(layers, other, 10, masks).tolist() == [dense, dense]
    name = list(layers)[-1]
    masks[name][1].view(-1)[:3] = 0  # each weight of a layer costs as much as any other
    per_weight = layers[name] / masks[name][1].numel()
    assert cost.training_flops(layers, other, 10, masks).tolist() == pytest.approx([dense, dense - 30 * 3 * per_weight])
    for mask in masks.values():
        mask.zero_()
    assert cost.training_flops(layers, other, 10, masks).tolist() == [30 * other] * 2


def test_a_network_that_is_one_bare_layer_has_its_cost_in_that_layer():
    assert cost.forward_cost(nn.Linear(5, 3), (5,)) == ({"weight": 15}, 0)
