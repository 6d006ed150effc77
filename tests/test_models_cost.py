"""Networks against the papers' tables; training cost against theirs and by hand; initialisation; a user's own."""

import pytest
import torch
from torch import nn

from dsdlib import cost, models
from dsdlib.config import ConfigError

VGG_SIZES = {
    **{(5, 2**g): n for g, n in enumerate((12662, 34512, 105806, 358770, 1306202, 4967082, 19352906, 76380810))},
    **{(depth, 32): n for depth, n in enumerate((25962, 97322, 350634, 1299626, 4967082), 1)},
}


def size(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(("depth", "width"), VGG_SIZES)
def test_vgg_like_has_the_published_number_of_parameters(depth, width):
    with torch.device("meta"):
        assert size(models.vgg_like((3, 32, 32), 10, depth, width)) == VGG_SIZES[depth, width]


@pytest.mark.parametrize("maxpool", [True, False])
def test_resnet18_has_the_published_number_of_parameters_and_its_maxpool_quarters_the_maps(maxpool):
    with torch.device("meta"):
        network = models.resnet18((3, 32, 32), 10, maxpool=maxpool)
        shapes = []
        for stage in (network.layer1, network.layer4):
            stage.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert size(network) == 11_173_962
    assert shapes == ([(64, 16, 16), (512, 2, 2)] if maxpool else [(64, 32, 32), (512, 4, 4)])


@pytest.mark.parametrize(("width", "expected"), [(1.0, 266_610), (0.1, 784 * 30 + 30 + 30 * 10 + 10 + 10 * 10 + 10)])
def test_lenet_300_100_has_its_number_of_parameters_on_mnist(width, expected):
    assert size(models.lenet_300_100((1, 28, 28), 10, width=width)) == expected


def test_mlp_has_so_many_hidden_layers_of_that_width():
    network = models.mlp((3, 4, 5), 7, depth=3, width=11)
    assert [tuple(m.weight.shape) for m in network if isinstance(m, nn.Linear)] == [
        (11, 60),
        (11, 11),
        (11, 11),
        (7, 11),
    ]
    assert [type(m) for m in network][1:] == [nn.Linear, nn.ReLU] * 3 + [nn.Linear]


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 5), (6, 7), (7, 7), (8, 16)])
def test_the_pool_is_pytorchs_adaptive_one_in_value_and_gradient(shape):
    x = torch.randn(2, 3, *shape, dtype=torch.float64).to(memory_format=torch.channels_last).requires_grad_()
    ours, theirs = models.Pool(7)(x), nn.AdaptiveAvgPool2d(7)(x)
    torch.testing.assert_close(ours, theirs)
    slope = torch.randn_like(theirs)
    for mine, its in zip(torch.autograd.grad(ours, x, slope), torch.autograd.grad(theirs, x, slope), strict=True):
        torch.testing.assert_close(mine, its)


def test_vgg_like_block_is_twice_convolution_relu_batchnorm_then_maxpool():
    network = models.vgg_like((3, 32, 32), 10, depth=2, width=8)
    block = [nn.Conv2d, nn.ReLU, nn.BatchNorm2d] * 2 + [nn.MaxPool2d]
    assert [type(m) for m in network] == [*block, *block, models.Pool, nn.Flatten, nn.Linear]
    assert [m.out_channels for m in network if isinstance(m, nn.Conv2d)] == [8, 8, 16, 16]
    assert all(m.bias is not None for m in network if isinstance(m, nn.Conv2d))


ROWS = [
    ("lenet_300_100", {"width": 0.1}, (1, 8, 8)),
    ("mlp", {"depth": 1, "width": 5}, (6,)),
    ("vgg_like", {"depth": 2, "width": 2}, (3, 8, 8)),
]


@pytest.mark.parametrize(("model", "arguments", "shape"), ROWS)
def test_initialisation_is_the_seeds_and_draws_own_and_leaves_the_global_generator_alone(model, arguments, shape):
    def weights(seed, draw):
        return torch.cat([p.flatten() for p in models.build(model, shape, 4, arguments, seed, draw).parameters()])

    before = torch.get_rng_state()
    first = weights(0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(weights(0, 0), first)
    drawn = [first, weights(1, 0), weights(0, 1), weights(1, 1)]
    for a in range(4):
        for b in range(a):
            assert (drawn[a] == drawn[b]).double().mean() < 0.3  # BatchNorm always starts at 0 and 1
    assert models.build(model, shape, 4, arguments)(torch.zeros(2, *shape)).shape == (2, 4)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        ("lenet", {}, "model = 'lenet': unknown; allowed: lenet_300_100, mlp, vgg_like, resnet18"),
        ("mlp", {"widht": 3}, "mlp does not take them.*widht"),
        ("vgg_like", {"depth": 4}, "depth = 4: 8×8 images allow at most 3 blocks"),
        ("no_such_package:factory", {}, "model = 'no_such_package:factory': cannot be imported"),
        ("math:no_such_thing", {}, "cannot be imported"),
        ("mlp", {"width": 0}, "width = 0: .*greater than 0"),
        ("lenet_300_100", {"width": "abc"}, "width = 'abc': .*number"),
        ("resnet18", {"maxpool": "no"}, "maxpool = 'no': .*boolean"),
        ("builtins:dict", {}, "builtins:dict does not take them"),
    ],
)
def test_what_is_no_model_is_refused_by_name(model, arguments, message):
    with pytest.raises(ConfigError, match=message):
        models.build(model, (1, 8, 8), 10, arguments)


def test_a_users_own_model_is_found_by_its_import_path(tmp_path, monkeypatch):
    (tmp_path / "their_networks.py").write_text(
        "from torch import nn\n"
        "def tiny(shape, classes, bias=True):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1], classes, bias=bias))\n"
        "def wrong(shape, classes):\n"
        "    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert size(models.build("their_networks:tiny", (4, 5), 3, {"bias": False})) == 60
    with pytest.raises(ConfigError, match="bais"):
        models.build("their_networks:tiny", (4, 5), 3, {"bais": False})
    with pytest.raises(ConfigError, match=r"made a int, not an nn\.Module"):
        models.build("their_networks:wrong", (4, 5), 3, {})


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
