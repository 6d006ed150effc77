"""Users' own networks: each is trained as PyTorch would train it, or refused by name before any training."""

import sys

import pytest
import torch
from torch.nn.functional import cross_entropy

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import load
from dsdlib.engine.build import build, check, identity, stackable
from dsdlib.engine.stack import Stack
from dsdlib.seeding import torch_generator

NETWORKS = """
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
import numpy as np
import torch


def plain(input_shape, classes, activation="ReLU"):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), getattr(nn, activation)(), nn.Linear(20, classes))


def frozen(input_shape, classes):
    network = plain(input_shape, classes)
    network[1].requires_grad_(False)
    return network


def frozen_convolution(input_shape, classes):
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))
    network[0].requires_grad_(False)
    return network


def hooked(input_shape, classes):
    network = plain(input_shape, classes)
    network[1].register_forward_hook(lambda layer, inputs, output: 2 * output)
    return network


def gradient_hook(input_shape, classes):
    network = plain(input_shape, classes)
    network[1].weight.register_hook(lambda gradient: 0.5 * gradient)
    return network


def accumulate_hook(input_shape, classes):
    network = plain(input_shape, classes)
    network[1].weight.register_post_accumulate_grad_hook(lambda parameter: None)
    return network


class Twice(nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(64, 20), nn.Linear(20, 20), nn.Linear(20, classes)

    def forward(self, x):
        x = self.first(x.flatten(1)).relu()
        return self.last(self.middle(self.middle(x).relu()).relu())


def layer_called_twice(input_shape, classes):
    return Twice(classes)


def layer_twice(input_shape, classes):
    layer = nn.Linear(64, 64)
    return nn.Sequential(nn.Flatten(), layer, nn.ReLU(), layer, nn.Linear(64, classes))


def tied(input_shape, classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, classes))
    network[3].weight = network[1].weight
    return network


def wrapped(input_shape, classes, how):
    wrap = {
        "weight_norm": parametrizations.weight_norm,
        "spectral_norm": parametrizations.spectral_norm,
        "old_weight_norm": weight_norm,
        "old_spectral_norm": spectral_norm,
    }
    network = plain(input_shape, classes)
    wrap[how](network[1])
    return network


class Shifted(nn.Module):
    def __init__(self, persistent):
        super().__init__()
        self.register_buffer("shift", torch.ones(64), persistent=persistent)

    def forward(self, x):
        return x.flatten(1) + self.shift


def buffered(input_shape, classes, persistent):
    return nn.Sequential(Shifted(persistent), nn.Linear(64, classes))


def normed(input_shape, classes, track=True):
    norm = nn.BatchNorm1d(20, track_running_stats=track)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 20), norm, nn.ReLU(), nn.Linear(20, classes))


def normed_images(input_shape, classes):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, classes))


def unused(input_shape, classes):
    network = plain(input_shape, classes)
    network.register_parameter("extra", nn.Parameter(torch.ones(3)))
    return network


def all_frozen(input_shape, classes):
    return plain(input_shape, classes).requires_grad_(False)


def patched_forward(input_shape, classes):
    network = plain(input_shape, classes)
    layer = network[1]
    layer.forward = lambda x: 2 * nn.functional.linear(x, layer.weight, layer.bias)
    return network


def one_memory(input_shape, classes):
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.Linear(64, classes))
    network[3].weight.data = network[1].weight.data
    return network


def in_place(input_shape, classes):
    return nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(64, classes))


class Does(nn.Module):
    def __init__(self, forward, network):
        super().__init__()
        self.does, self.network = forward, network

    def forward(self, x):
        return self.does(self, x)


FORWARDS = {
    "in place in training": lambda own, x: own.network(x.sub_(1.0) if own.training else x),
    "tuple": lambda own, x: (own.network(x),),
    "dictionary": lambda own, x: {"logits": own.network(x)},
    "of the batch": lambda own, x: own.network(x - x.mean(0, keepdim=True)),
    "not finite": lambda own, x: own.network(x) / 0,
    "numpy": lambda own, x: own.network(x * np.random.rand()) if own.training else own.network(x),
}


def does(input_shape, classes, what):
    return Does(FORWARDS[what], plain(input_shape, classes))


def made(input_shape, classes, how):
    network = plain(input_shape, classes)
    if how == "numpy":
        network[1].weight.data = torch.from_numpy(np.random.rand(20, 64)).float()
    elif how == "not finite":
        network[3].bias.data[2] = float("inf")
    elif how == "bfloat16":
        network[3].bfloat16()
    elif how == "lazy":
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))
    elif how == "parallel":
        return nn.DataParallel(network)
    return network


ONE = plain(None, 10)


def always_the_same(input_shape, classes):
    return ONE


class Single(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x.flatten(1).float())


def single_precision(input_shape, classes):
    return Single()
"""
RUN = RunConfig(epochs=2, milestones=(), rounds=1, noise_rate=0.2, amount=0.5, weight_decay=1e-2)


@pytest.fixture(autouse=True)
def _networks(tmp_path, monkeypatch):
    (tmp_path / "own_networks.py").write_text(NETWORKS)
    monkeypatch.delitem(sys.modules, "own_networks", raising=False)
    monkeypatch.syspath_prepend(tmp_path)


def own(name, **arguments):
    return RUN.vary(model=f"own_networks:{name}", model_args=arguments)


def plainly_trained(run):
    """The dense network after round 0, trained with PyTorch's own parts."""
    stack, network = Stack([run], torch.device("cpu")), build(run)
    x, y = stack.data.x[stack.data.rows[0]], stack.data.labels[0]
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, run.lr, run.momentum, weight_decay=run.weight_decay)
    generator = torch_generator(run.seed, "order", 0)
    network.train()
    for _ in range(run.epochs):
        for batch in torch.randperm(len(x), generator=generator).split(run.batch_size):
            optimizer.zero_grad()
            cross_entropy(network(x[batch]), y[batch]).backward()
            optimizer.step()
    return network.eval()


@pytest.mark.parametrize(
    ("name", "arguments", "stacked"),
    [
        ("plain", {}, True),
        ("frozen", {}, True),
        ("frozen_convolution", {}, False),
        ("hooked", {}, False),
        ("gradient_hook", {}, False),
        ("layer_called_twice", {}, False),
        ("buffered", {"persistent": True}, False),
        ("patched_forward", {}, False),
        ("normed_images", {}, False),
    ],
)
def test_it_is_trained_and_evaluated_as_pytorch_does(name, arguments, stacked, train_rounds):
    run = own(name, **arguments)
    check(run)
    assert stackable(run) is stacked
    done, network, initial = train_rounds(run), plainly_trained(run), build(run)
    parts = done.stack.network.parameters(done.states[0].weights)
    for (key, parameter), before in zip(network.named_parameters(), initial.parameters(), strict=True):
        torch.testing.assert_close(parts[key][0], parameter.detach(), atol=1e-4, rtol=1e-3)
        assert torch.equal(parts[key][0], before) is not parameter.requires_grad
    logits = network(done.stack.test[0])
    assert done.rows[0][0]["test_loss"] == pytest.approx(cross_entropy(logits, done.stack.test[1]).item(), rel=1e-2)


@pytest.mark.parametrize("name", ["frozen", "frozen_convolution"])
def test_frozen_weights_are_pruned_and_otherwise_stay(name, train_rounds):
    run = own(name)
    done, initial = train_rounds(run), build(run)
    state, name = done.states[1], done.stack.network.names[0]
    mask, weight = (done.stack.network.parameters(part)[name][0] for part in (state.masks, state.weights))
    assert 0 < mask.mean() < 1
    assert torch.equal(weight, next(initial.parameters()) * mask)


@pytest.mark.parametrize("runs", [1, 2])
def test_frozen_weights_of_sparse_layers_stay(runs):
    """Layers of 19,200 and 30,000 weights, of which 9% are left, are trained with sparse products."""
    configs = RunConfig(epochs=2, milestones=(), rounds=1, amount=0.91, weight_decay=0.01).grid(seed=list(range(runs)))
    stack = Stack(configs, torch.device("cpu"))
    frozen = torch.arange(len(stack.network.trained)) < 64 * 300
    stack.network.trained &= ~frozen
    state = stack.advance(stack.advance(stack.fresh(), 0), 1)
    assert torch.equal(state.weights[:, frozen], (stack.initial * state.masks)[:, frozen])
    assert (state.weights != stack.initial * state.masks)[:, ~frozen].any()


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (own("layer_twice"), "own_networks:layer_twice': 3.weight is shared by two layers"),
        (own("tied"), "own_networks:tied': 3.weight is shared by two layers"),
        (own("wrapped", how="weight_norm"), "1.weight is not a parameter itself"),
        (own("wrapped", how="spectral_norm"), "1.weight is not a parameter itself"),
        (own("wrapped", how="old_weight_norm"), "1.weight is not a parameter itself"),
        (own("wrapped", how="old_spectral_norm"), "1.weight is not a parameter itself"),
        (own("buffered", persistent=False), "0.shift is a non-persistent buffer"),
        (own("normed", track=False), "own_networks:normed': 2 has no running statistics"),
        (own("normed").vary(batch_size=37), "cannot be trained on a batch of 1 .batch_size = 37; Expected more than 1"),
        (own("normed").vary(batch_size=1), "cannot be trained on a batch of 1 .batch_size = 1; Expected more than 1"),
        (own("unused"), "own_networks:unused': does not use its parameter extra"),
        (own("all_frozen"), "own_networks:all_frozen': cannot be trained on a batch"),
        (own("accumulate_hook"), "1.weight has a hook that is called after gradients are accumulated"),
        (own("one_memory"), "3.weight shares its memory with 1.weight"),
        (own("in_place"), "own_networks:in_place': changes its input images in place"),
        (own("does", what="in place in training"), "changes its input images in place"),
        (own("does", what="tuple"), "returns a tuple for 2 images of 10 classes"),
        (own("does", what="dictionary"), "returns a dict for 2 images of 10 classes"),
        (own("does", what="of the batch"), "its logits for an image depend on the other images of the batch"),
        (own("does", what="not finite"), "its initial logits are not finite"),
        (own("does", what="numpy"), "in training mode use random numbers that PyTorch's seed does not decide"),
        (own("made", how="numpy"), "1.weight is not the same when it is made again with the same seed"),
        (own("made", how="not finite"), "3.bias has initial values that are not finite"),
        (own("made", how="bfloat16"), "3.weight is torch.bfloat16; allowed: all parameters torch.float32"),
        (own("made", how="lazy"), "1.weight is not initialised yet, as in lazy layers"),
        (own("made", how="parallel"), "cannot be called with other parameters"),
        (own("always_the_same"), "returns the same network at every call"),
    ],
    ids=lambda value: "" if isinstance(value, str) else f"{value.model} {value.model_args} {value.batch_size}",
)
@pytest.mark.filterwarnings("ignore")  # the old functions are deprecated
def test_what_would_be_trained_or_stored_wrongly_is_refused_by_name(run, message):
    images = load("digits").train_x
    before = images.clone()
    with pytest.raises(ConfigError, match=message):
        check(run)
    assert torch.equal(images, before)


@pytest.mark.parametrize("model", ["lenet_300_100", "vgg_like", "resnet20", "resnet18"])
def test_the_papers_networks_are_accepted(model):
    check(RUN.vary(model=model, model_args={"depth": 2} if model == "vgg_like" else {}))


def test_batchnorm_accepts_last_batches_of_two_images_and_of_one_that_has_several_pixels():
    check(own("normed").vary(batch_size=69))  # 1,037 = 15 · 69 + 2
    check(own("normed_images").vary(batch_size=37))


def test_another_network_of_the_same_shape_has_another_identity_and_another_seed_has_the_same(monkeypatch):
    run = own("plain")
    first = identity(run)
    assert first == identity(run.vary(seed=9, noise_rate=0.5)) and len(set(first.values())) == 3
    other = identity(own("plain", activation="Tanh"))
    assert [name for name in first if first[name] != other[name]] == ["logits_sha256"]
    initialised = identity(run.vary(initialisation="he2022"))
    assert [name for name in first if first[name] != initialised[name]] == ["logits_sha256"]
    assert "logits_sha256" not in identity(own("single_precision"))

    def shaken(config):
        network = build(config)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter *= 1 + 1e-7
        return network

    monkeypatch.setattr("dsdlib.engine.build.build", shaken)
    assert identity(run) == first
