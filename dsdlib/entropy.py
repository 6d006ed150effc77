"""The entropy of the neurons' states (DSD2, section 4): is a ReLU on, over the training set?"""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


class NeuronStates(TorchDispatchMode):
    """Counts, for every ReLU of a forward pass and each of its neurons, how many samples switch it on.

    A neuron is one element of the pre-activation map. Layers are told apart by the order of the calls, so that a
    module used twice counts as two. Call `begin_batch` before each forward pass.
    """

    def __init__(self, stacked: bool):
        super().__init__()
        self.stacked = stacked
        self.on: list[Tensor] = []  # a layer: (runs, neurons)
        self.samples = 0
        self._call = 0

    def begin_batch(self, samples: int) -> None:
        self.samples += samples
        self._call = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function in RELUS:
            on = arguments[0].detach() > 0  # a stack's: (runs, neurons, n); else (n, *neurons)
            count = on.sum(2) if self.stacked else on.sum(0).flatten().unsqueeze(0)
            if self._call == len(self.on):
                self.on.append(count)
            else:
                self.on[self._call] += count
            self._call += 1
        return function(*arguments, **(keywords or {}))


def binary_entropy(p: Tensor) -> Tensor:
    """−p·log2 p − (1−p)·log2(1−p), in bits; 0 at 0 and 1."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0, dtype=p.dtype))


def entropy_columns(states: NeuronStates) -> dict[str, Tensor]:
    """Columns of the tidy table, each (runs,): the mean over neurons for every layer (``entropy_1`` …), the plain mean
    over layers (``entropy``), the mean weighted by the layers' neurons (``entropy_weighted``), and the shares of
    neurons never on (``dead_neurons``) and always on (``always_on_neurons``)."""
    if not states.on:
        return {}
    p = [count.double() / states.samples for count in states.on]
    layers = [binary_entropy(frequency).mean(1) for frequency in p]
    neurons = torch.cat(p, 1)
    return {
        "entropy": torch.stack(layers).mean(0),
        "entropy_weighted": binary_entropy(neurons).mean(1),
        "dead_neurons": (neurons == 0).double().mean(1),
        "always_on_neurons": (neurons == 1).double().mean(1),
        **{f"entropy_{number}": layer for number, layer in enumerate(layers, 1)},
    }
