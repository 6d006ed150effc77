"""Neurons' states against a plain loop over single samples, and the entropy's columns by hand."""

import math
from itertools import chain

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models.resnet import BasicBlock

from dsdlib import models
from dsdlib.config import RunConfig
from dsdlib.engine.build import build
from dsdlib.engine.loop import evaluate
from dsdlib.engine.network import Network
from dsdlib.engine.rounds import measure
from dsdlib.engine.stack import Stack
from dsdlib.entropy import NeuronStates, binary_entropy, entropy_columns, module_entropy


class Functional(nn.Module):
    """ReLUs of every spelling, one of them used twice; a GELU that does not count."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(12, 12) for _ in range(4))
        self.act = nn.ReLU(inplace=True)

    def preactivations(self, x):
        a = self.layers[0](x.flatten(1))
        b = self.layers[1](a.clamp(min=0))
        c = self.layers[2](b.clamp(min=0))
        d = self.layers[3](F.gelu(c.clamp(min=0)))
        return [a, b, c, d]

    def forward(self, x):
        x = self.act(self.layers[0](x.flatten(1)))
        x = self.act(self.layers[1](x))
        x = F.relu(self.layers[2](x))
        return torch.relu(self.layers[3](F.gelu(x)))


class Residual(nn.Module):
    """torchvision's block, whose one in-place ReLU is called twice."""

    def __init__(self):
        super().__init__()
        self.block = BasicBlock(3, 3)

    def preactivations(self, x):
        b = self.block
        first = b.bn1(b.conv1(x))
        return [first, b.bn2(b.conv2(first.clamp(min=0))) + x]

    def forward(self, x):
        return self.block(x).flatten(1)


class Convolutional(nn.Sequential):
    def preactivations(self, x):
        found = []
        for layer in self:
            if isinstance(layer, nn.ReLU):
                found.append(x)
                x = x.clamp(min=0)
            else:
                x = layer(x)
        return found


def brute_force(module, x):
    """How many samples switch each neuron on, asked one by one: a list over layers."""
    module.eval()
    with torch.no_grad():
        single = [module.preactivations(x[i : i + 1]) for i in range(len(x))]
    return [sum((sample[layer][0] > 0).long().flatten() for sample in single) for layer in range(len(single[0]))]


@pytest.mark.parametrize("kind", [Functional, Residual, Convolutional])
def test_counts_equal_a_loop_over_single_samples_whatever_the_batches(kind):
    torch.manual_seed(0)
    module = kind(*models.vgg_like((3, 8, 8), 6, depth=2, width=2)) if kind is Convolutional else kind()
    x = torch.randn(23, 3, *((8, 8) if kind is Convolutional else (2, 2)))
    module.train()(1 + 2 * x)  # moves BatchNorm's running statistics
    expected = brute_force(module, x)
    assert sum(0 < c < 23 for c in torch.cat(expected).tolist()) > 10
    network = Network(module)
    assert not network.stackable
    weights = parameters_to_vector(module.parameters()).detach().unsqueeze(0)
    columns = []
    for size in (23, 10, 1):
        states = NeuronStates(network.stackable)
        labels = torch.zeros(1, 23, dtype=torch.long)
        forward, rows = network.forward_function(weights), torch.arange(23).unsqueeze(0)
        evaluate(forward, x, rows, labels, states, batch_size=size)
        assert states.samples == 23
        assert len(states.on) == len(expected)
        for count, right in zip(states.on, expected, strict=True):
            assert torch.equal(count, right.unsqueeze(0))
        columns.append({name: value.item() for name, value in entropy_columns(states).items()})
    assert columns[0] == columns[1] == columns[2]


def test_counts_of_a_stack_are_each_runs_own():
    torch.manual_seed(1)
    networks = [Convolutional(*models.mlp((1, 4, 4), 5, depth=3, width=7)) for _ in range(3)]
    x, rows = torch.randn(30, 1, 4, 4), torch.stack([torch.randperm(30)[:17] for _ in range(3)])
    network = Network(models.mlp((1, 4, 4), 5, depth=3, width=7))
    weights = torch.stack([parameters_to_vector(n.parameters()).detach() for n in networks])
    states = NeuronStates(stacked=True)
    evaluate(network.forward_function(weights), x, rows, torch.zeros(3, 17, dtype=torch.long), states, batch_size=6)
    for run in range(3):
        for count, right in zip(states.on, brute_force(networks[run], x[rows[run]]), strict=True):
            assert torch.equal(count[run], right)


def test_entropy_columns_of_measures_are_those_of_the_runs_own_training_images():
    config = RunConfig(model="vgg_like", model_args={"depth": 1, "width": 1}, epochs=1, milestones=(), rounds=0)
    stack = Stack([config], torch.device("cpu"))
    state = stack.fresh()
    (row,) = measure(stack, state, 0)
    module = Convolutional(*build(config))
    on = brute_force(module, stack.data.x[stack.data.rows[0]])
    for number, count in enumerate(on, 1):
        p = (count / 1037).tolist()
        entropy = [0 if q in (0, 1) else -q * math.log2(q) - (1 - q) * math.log2(1 - q) for q in p]
        assert row[f"entropy_{number}"] == pytest.approx(sum(entropy) / len(entropy), rel=1e-4)


@pytest.mark.parametrize(("p", "bits"), [(0.0, 0.0), (0.5, 1.0), (0.25, 0.8112781244591328), (0.1, 0.4689956)])
def test_binary_entropy_in_bits(p, bits):
    assert binary_entropy(torch.tensor(p, dtype=torch.float64)).item() == pytest.approx(bits, abs=1e-7)
    assert binary_entropy(torch.tensor(1 - p, dtype=torch.float64)).item() == pytest.approx(bits, abs=1e-7)


def test_entropy_columns_by_hand():
    states = NeuronStates(stacked=True)
    states.samples = 8
    states.on = [
        torch.tensor([[0, 4, 8, 4], [0, 0, 0, 0]]),  # two neurons at 1 bit, one dead, one always on; all dead
        torch.tensor([[2], [8]]),  # p = 1/4; always on
    ]
    columns = {name: value.tolist() for name, value in entropy_columns(states).items()}
    quarter = 0.8112781244591328
    assert columns.pop("entropy") == pytest.approx([(0.5 + quarter) / 2, 0])
    assert columns.pop("entropy_weighted") == pytest.approx([(2 + quarter) / 5, 0])
    assert columns.pop("dead_neurons") == pytest.approx([1 / 5, 4 / 5])
    assert columns.pop("always_on_neurons") == pytest.approx([1 / 5, 1 / 5])
    assert columns.pop("entropy_1") == pytest.approx([0.5, 0])
    assert columns.pop("entropy_2") == pytest.approx([quarter, 0])
    assert columns == {}


def test_a_network_without_relus_has_no_entropy():
    network = Network(nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)))
    states = NeuronStates(stacked=True)
    weights = parameters_to_vector(network.module.parameters()).detach().unsqueeze(0)
    forward, labels = network.forward_function(weights), torch.zeros(1, 5, dtype=torch.long)
    evaluate(forward, torch.randn(5, 4), None, labels, states)
    assert entropy_columns(states) == {}


def test_exactly_zero_preactivations_are_off():
    states = NeuronStates(stacked=False)
    states.begin_batch(3)
    with states:
        torch.relu(torch.tensor([[0.0, 1.0, -0.0], [0.0, 2.0, -1.0], [0.0, 0.0, 1e-30]]))
    assert states.on[0].tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("batch_size", [23, 10, 1])
@pytest.mark.parametrize("kind", [Functional, Residual])
def test_the_columns_of_any_module_and_data_loader_are_the_brute_force_counts(kind, batch_size):
    torch.manual_seed(0)
    module, x = kind(), torch.randn(23, 3, 2, 2)
    module.train()(1 + 2 * x)  # moves BatchNorm's running statistics
    state = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    columns = module_entropy(module, DataLoader(TensorDataset(x, torch.zeros(23)), batch_size))
    assert columns == module_entropy(module, DataLoader(x, batch_size)) == module_entropy(module, x.split(5))
    assert all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())
    p = [(on / 23).tolist() for on in brute_force(module, x)]
    entropies = [[0 if q in (0, 1) else -q * math.log2(q) - (1 - q) * math.log2(1 - q) for q in layer] for layer in p]
    means = [sum(layer) / len(layer) for layer in entropies]
    expected = {f"entropy_{number}": mean for number, mean in enumerate(means, 1)}
    everywhere = list(chain.from_iterable(p))
    expected |= {"entropy": sum(means) / len(means), "entropy_weighted": sum(map(sum, entropies)) / len(everywhere)}
    expected |= {"dead_neurons": everywhere.count(0) / len(everywhere)}
    expected |= {"always_on_neurons": everywhere.count(1) / len(everywhere)}
    assert columns == pytest.approx(expected, rel=1e-5)


def test_every_part_of_a_module_is_in_its_mode_again_afterwards():
    module = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2))
    module[1].eval()  # frozen, as in fine-tuning
    modes = [part.training for part in module.modules()]
    x = torch.randn(9, 4)
    assert module_entropy(module, [x]) == module_entropy(module, [x])  # no dropout
    assert [part.training for part in module.modules()] == modes
