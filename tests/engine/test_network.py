"""Which networks can share a stack, and a network as a function of its parameters."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from dsdlib import models
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.device import PLAIN
from dsdlib.engine.network import ModuleTrainer, Network, _shaped
from dsdlib.engine.stack import Stack

LENET = RunConfig(model_args={"width": 0.1})
VGG = RunConfig(model="vgg_like", model_args={"depth": 2, "width": 4}, epochs=1, milestones=(), rounds=1)
RELU = nn.ReLU()


def test_only_sequences_of_linear_layers_and_activations_share_a_stack():
    assert Network(build(LENET)).stackable
    assert not Network(build(VGG)).stackable
    assert not Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.BatchNorm1d(2))).stackable
    with pytest.raises(ValueError, match="a stack of one"):
        Stack([VGG, VGG.vary(seed=1)], torch.device("cpu"))


@pytest.mark.parametrize(
    ("layers", "stackable"),
    [
        ([nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 10)], True),
        ([nn.Identity(), nn.Flatten(), nn.Flatten(), nn.Linear(64, 10)], True),
        ([nn.Linear(64, 10)], True),
        ([nn.Flatten(), nn.Linear(64, 5), RELU, nn.Linear(5, 5), RELU, nn.Linear(5, 10)], False),  # one module, twice
        ([nn.Linear(8, 5), nn.ReLU(), nn.Flatten(), nn.Linear(40, 10)], False),  # acts on the rows of an image
        ([nn.Flatten(1, 2), nn.Flatten(), nn.Linear(64, 10)], False),
        ([nn.Flatten(), nn.Linear(64, 10), nn.Softmax(1)], False),
    ],
)
def test_only_a_plain_sequence_is_stacked_and_its_forward_pass_is_the_modules_own(layers, stackable):
    network = Network(nn.Sequential(*layers))
    assert network.stackable is stackable
    parameters = {name: p.detach().unsqueeze(0) for name, p in network.module.named_parameters()}
    x = torch.randn(1, 3, 64) if isinstance(layers[0], nn.Linear) and stackable else torch.randn(1, 3, 1, 8, 8)
    torch.testing.assert_close(network(parameters, x)[0], network.module(x[0]))


def test_one_steps_gradient_of_a_vgg_is_that_of_float64():
    """With channels-last activations, PyTorch's BatchNorm on a CPU makes it wrong by 9 to 12% in the first layer.

    With others it is wrong by up to 1%, where rounding decides which of two pixels a max-pool takes.
    """
    torch.manual_seed(0)
    network = Network(models.vgg_like((3, 32, 32), 10, 5, 8).train())
    x, y = torch.rand(128, 3, 32, 32), torch.randint(10, (128,))
    exact = copy.deepcopy(network.module).double()
    expected = torch.autograd.grad(cross_entropy(exact(x.double()), y), list(exact.parameters()))
    weights = parameters_to_vector(network.module.parameters()).detach().unsqueeze(0)
    trainer = ModuleTrainer(network, weights, torch.ones_like(weights), PLAIN, 128)
    logits = trainer(x.unsqueeze(0)).requires_grad_()
    (logit_gradient,) = torch.autograd.grad(cross_entropy(logits[0], y), logits)
    gradient = trainer.backward(logit_gradient)
    for values, reference in zip(gradient.split(network.sizes), expected, strict=True):
        if reference.dim() == 4:
            error = _shaped(values, reference.shape).double() - reference
            assert error.norm() < 0.03 * reference.norm()


def test_the_rewinding_point_of_a_module_is_its_weights_at_that_iteration():
    """While a module trains, its parameters live in the trainer's own vector."""
    config = VGG.vary(retraining="weight_rewinding", rewind_iteration=3)
    stack = Stack([config], torch.device("cpu"))
    end = stack.advance(stack.fresh(), 0)
    rewound = stack.rewind_point.weights
    assert not torch.equal(rewound, stack.initial) and not torch.equal(rewound, end.weights)
