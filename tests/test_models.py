"""Networks against the papers' tables and their initialisations against closed forms; a user's own network."""

from math import sqrt

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from dsdlib import models
from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import check
from dsdlib.engine.device import PLAIN
from dsdlib.engine.rounds import run_rounds
from dsdlib.engine.stack import Stack
from dsdlib.pruning import prunable

CIFAR_SHAPE = (3, 32, 32)
MNIST, CIFAR = ((1, 28, 28), 10), (CIFAR_SHAPE, 10)


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
    gradient = torch.randn_like(theirs)
    for mine, its in zip(torch.autograd.grad(ours, x, gradient), torch.autograd.grad(theirs, x, gradient), strict=True):
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
        ("..x:y", {}, "model = '..x:y': cannot be imported"),
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


def resnet20_size(width, channels=3, classes=10):
    """By hand: three stages of k, 2k and 4k filters, with biases and two numbers a filter for each BatchNorm."""

    def convolution(a, b, side=3):
        return a * b * side**2 + b

    k = width
    stages = sum(5 * convolution(n, n) for n in (2 * k, 4 * k)) + 6 * convolution(k, k)
    changes = sum(convolution(n, 2 * n) + convolution(n, 2 * n, 1) for n in (k, 2 * k))
    norms = 2 * (7 * k + 6 * 2 * k + 6 * 4 * k)
    return convolution(channels, k) + stages + changes + norms + 4 * k * classes + classes


@pytest.mark.parametrize("width", [1, 5, 16, 50])
def test_resnet20s_parameters_are_counted_by_hand_and_as_keras_counts_its_resnet20_v1(width):
    with torch.device("meta"):
        network = models.resnet20(CIFAR_SHAPE, 10, width=width)
    size = sum(p.numel() for p in network.parameters())
    assert size == resnet20_size(width)
    assert width != 16 or size == 273_066
    weights = [m.weight.numel() for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(weights) == 20 + 2  # two shortcuts
    assert int(prunable(network, "conv_and_linear").sum()) == sum(weights)


def test_resnet20s_stages_halve_the_maps_and_double_the_filters():
    shapes = []
    with torch.device("meta"):
        network = models.resnet20(CIFAR_SHAPE, 7, width=3)
        blocks = [module for module in network if isinstance(module, models.Residual)]
        for block in blocks:
            block.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape[1:])))
        assert network(torch.zeros(2, *CIFAR_SHAPE)).shape == (2, 7)
    assert shapes == [(3, 32, 32)] * 3 + [(6, 16, 16)] * 3 + [(12, 8, 8)] * 3
    assert [type(b.shortcut) for b in blocks].count(nn.Identity) == 7


def test_resnet20_differs_from_keras_as_its_description_says():
    network = models.resnet20((3, 32, 32), 10, width=2)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-5, 0.1)}
    strided = [
        m for m in network.modules() if isinstance(m, nn.Conv2d) and (m.stride, m.kernel_size) == ((2, 2), (3, 3))
    ]
    assert len(strided) == 2
    x = torch.randn(1, strided[0].in_channels, 8, 8)
    below_right = nn.functional.pad(x, (0, 1, 0, 1))
    keras = nn.functional.conv2d(below_right, strided[0].weight, strided[0].bias, stride=2)
    moved = strided[0](below_right[:, :, 1:, 1:])  # an image that lies one pixel further up and to the left
    assert keras.shape == moved.shape == strided[0](x).shape
    torch.testing.assert_close(moved[:, :, 1:, 1:], keras[:, :, 1:, 1:])
    assert not torch.isclose(strided[0](x), keras).all()


def test_a_residual_block_adds_its_input():
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


def test_resnet20_is_pruned_in_one_step_and_retrained_from_its_initial_weights():
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


NETWORKS = [("lenet_300_100", MNIST, {}), ("vgg_like", CIFAR, {"depth": 3, "width": 16}), ("resnet18", CIFAR, {})]


NETWORKS.append(("resnet20", CIFAR, {}))


def fans(layer: nn.Module) -> tuple[int, int]:
    receptive = layer.weight[0][0].numel()
    return layer.weight.shape[1] * receptive, layer.weight.shape[0] * receptive


def closed_form(layer: nn.Module, model: str, initialisation: str) -> tuple[str, tuple[float, float]]:
    """scipy's name of the weights' distribution, with its arguments (normal: mean, std; uniform: start, length)."""
    fan_in, fan_out = fans(layer)
    if initialisation == "he2022":
        return "norm", (0, sqrt(2 / fan_in))
    if initialisation == "chang2021":
        limit = sqrt(6 / (fan_in + fan_out))
    elif model == "resnet18" and isinstance(layer, nn.Conv2d):
        return "norm", (0, sqrt(2 / fan_out))
    else:
        limit = 1 / sqrt(fan_in)
    return "uniform", (-limit, 2 * limit)


@pytest.mark.parametrize("initialisation", ["he2022", "dsd2", "chang2021"])
@pytest.mark.parametrize(("model", "data", "arguments"), NETWORKS)
def test_every_layers_weights_have_the_papers_distribution(model, data, arguments, initialisation):
    network = models.build(model, *data, arguments, seed=3, initialisation=initialisation)
    for layer in (module for module in network.modules() if isinstance(module, models.WEIGHTED)):
        name, parameters = closed_form(layer, model, initialisation)
        sample = layer.weight.detach().flatten()[:5000].double().numpy()
        assert kstest(sample, name, parameters).pvalue > 1e-5, layer
        if layer.bias is not None and (initialisation != "dsd2"):
            assert not layer.bias.any()


def test_he2022_draws_batchnorm_weights_uniformly_and_the_others_set_them_to_one():
    norms = {}
    for initialisation in ("he2022", "dsd2", "chang2021"):
        network = models.build("resnet18", *CIFAR, {}, seed=1, initialisation=initialisation)
        layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        norms[initialisation] = torch.cat([layer.weight.detach() for layer in layers])
        assert not any(layer.bias.any() for layer in layers)
    assert kstest(norms["he2022"].double().numpy(), "uniform").pvalue > 1e-5
    assert (norms["dsd2"] == 1).all() and (norms["chang2021"] == 1).all()


def test_the_dense_lenets_norm_is_the_papers_and_root_six_times_pytorchs():
    def weights(initialisation):
        network = models.build("lenet_300_100", *MNIST, {}, initialisation=initialisation)
        return sqrt(
            sum(float(layer.weight.detach().square().sum()) for layer in network if isinstance(layer, nn.Linear))
        )

    assert weights("he2022") == pytest.approx(sqrt(2 * (300 + 100 + 10)), rel=0.01)
    assert weights("he2022") == pytest.approx(sqrt(6) * weights("pytorch"), rel=0.01)


def test_pytorch_keeps_what_the_constructors_drew_and_a_users_own_network_is_drawn_too():
    own = nn.Sequential(nn.Conv1d(3, 50, 5), nn.BatchNorm1d(50), nn.ReLU(), nn.Flatten(), nn.Linear(50, 4))
    before = [parameter.clone() for parameter in own.parameters()]
    models.initialise(own, "pytorch")
    assert all(torch.equal(a, b) for a, b in zip(before, own.parameters(), strict=True))
    models.initialise(own, "he2022")
    assert float(own[0].weight.detach().std()) == pytest.approx(sqrt(2 / 15), rel=0.1)


def test_seeds_and_redraws_differ_and_the_same_draw_is_the_same():
    def first(**how):
        return next(models.build("lenet_300_100", *MNIST, {}, initialisation="he2022", **how).parameters())

    assert torch.equal(first(seed=1), first(seed=1))
    assert not torch.equal(first(seed=1), first(seed=2)) and not torch.equal(first(seed=1), first(seed=1, draw=1))
