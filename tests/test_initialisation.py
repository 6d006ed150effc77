"""The papers' initialisations against their closed forms, and He et al.'s count of weights against their program's."""

from math import sqrt

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from dsdlib import ConfigError, RunConfig
from dsdlib.models import build, initialise
from dsdlib.pruning import LAYERS, plan, remaining_weights, spared_weights

MNIST, CIFAR = ((1, 28, 28), 10), ((3, 32, 32), 10)
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
    network = build(model, *data, arguments, seed=3, initialisation=initialisation)
    for layer in (module for module in network.modules() if isinstance(module, LAYERS)):
        name, parameters = closed_form(layer, model, initialisation)
        sample = layer.weight.detach().flatten()[:5000].double().numpy()
        assert kstest(sample, name, parameters).pvalue > 1e-5, layer
        if layer.bias is not None and (initialisation != "dsd2"):
            assert not layer.bias.any()


def test_he2022_draws_batchnorm_weights_uniformly_and_the_others_set_them_to_one():
    norms = {}
    for initialisation in ("he2022", "dsd2", "chang2021"):
        network = build("resnet18", *CIFAR, {}, seed=1, initialisation=initialisation)
        layers = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        norms[initialisation] = torch.cat([layer.weight.detach() for layer in layers])
        assert not any(layer.bias.any() for layer in layers)
    assert kstest(norms["he2022"].double().numpy(), "uniform").pvalue > 1e-5
    assert (norms["dsd2"] == 1).all() and (norms["chang2021"] == 1).all()


def test_the_dense_lenets_norm_is_the_papers_and_root_six_times_pytorchs():
    def weights(initialisation):
        network = build("lenet_300_100", *MNIST, {}, initialisation=initialisation)
        return sqrt(
            sum(float(layer.weight.detach().square().sum()) for layer in network if isinstance(layer, nn.Linear))
        )

    assert weights("he2022") == pytest.approx(sqrt(2 * (300 + 100 + 10)), rel=0.01)
    assert weights("he2022") == pytest.approx(sqrt(6) * weights("pytorch"), rel=0.01)


def test_pytorch_keeps_what_the_constructors_drew_and_a_users_own_network_is_drawn_too():
    own = nn.Sequential(nn.Conv1d(3, 50, 5), nn.BatchNorm1d(50), nn.ReLU(), nn.Flatten(), nn.Linear(50, 4))
    before = [parameter.clone() for parameter in own.parameters()]
    initialise(own, "pytorch")
    assert all(torch.equal(a, b) for a, b in zip(before, own.parameters(), strict=True))
    initialise(own, "he2022")
    assert float(own[0].weight.detach().std()) == pytest.approx(sqrt(2 / 15), rel=0.1)


def test_seeds_and_redraws_differ_and_the_same_draw_is_the_same():
    def first(**how):
        return next(build("lenet_300_100", *MNIST, {}, initialisation="he2022", **how).parameters())

    assert torch.equal(first(seed=1), first(seed=1))
    assert not torch.equal(first(seed=1), first(seed=2)) and not torch.equal(first(seed=1), first(seed=1, draw=1))


def test_all_weights_are_counted_as_in_the_program_of_he_et_al():
    left = remaining_weights(265_200, 0.2, 24, spared=1000)
    assert [left[i] for i in (10, 18, 20, 22, 24)] == [27_577, 3_788, 2_062, 957, 250]
    with pytest.raises(ConfigError, match="round 25 would leave no weight"):
        remaining_weights(265_200, 0.2, 25, spared=1000)


def test_the_spared_layers_are_those_that_are_not_pruned():
    network = build("lenet_300_100", *MNIST, {})
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
