"""The entropy of the neurons' states (DSD2, section 4): how often every ReLU is on, over a data set.

A neuron is one element of the input of a ReLU, and it is on where that element is above zero.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

RELUS = (torch.ops.aten.relu.default, torch.ops.aten.relu_.default)


class NeuronStates(TorchDispatchMode):
    """Counts, for every neuron of every ReLU in a forward pass, the samples for which the neuron is on.

    Use it as a context around each forward pass, after a call of `begin_batch`. ReLUs are numbered in the order of
    their calls, so that a module that is called twice counts as two layers. With ``stacked``, the inputs of the ReLUs
    are (runs, neurons, n), otherwise (n, …).
    """

    def __init__(self, stacked: bool):
        super().__init__()
        self.stacked = stacked
        self.on: list[Tensor] = []  # one tensor a layer: (runs, neurons)
        self.samples = 0
        self._call = 0

    def begin_batch(self, samples: int) -> None:
        """Announce a forward pass of so many samples."""
        self.samples += samples
        self._call = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function in RELUS:
            on = arguments[0].detach() > 0
            count = on.sum(2) if self.stacked else on.sum(0).flatten().unsqueeze(0)
            if self._call == len(self.on):
                self.on.append(count)
            else:
                self.on[self._call] += count
            self._call += 1
        return function(*arguments, **(keywords or {}))


def binary_entropy(p: Tensor) -> Tensor:
    """−p·log2 p − (1−p)·log2(1−p), in bits, for probabilities of any shape; it is 0 at 0 and 1."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / torch.log(torch.tensor(2.0, dtype=p.dtype))


def entropy_columns(states: NeuronStates) -> dict[str, Tensor]:
    """Columns of the tidy table, each (runs,); none for a network without ReLUs.

    ``entropy_1``, ``entropy_2``, … are the mean entropies of each layer's neurons. ``entropy`` is the mean of these
    over layers, and ``entropy_weighted`` the mean over all neurons. ``dead_neurons`` and ``always_on_neurons`` are the
    fractions of neurons that are never on and always on.
    """
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


@torch.no_grad()
def module_entropy(module: nn.Module, batches: Iterable[Tensor | tuple[Tensor, ...]]) -> dict[str, float]:
    """The columns of `entropy_columns` for any module, over all samples of a data loader.

    ``batches`` are inputs (n, …), or tuples or lists whose first element is the inputs, as a `DataLoader` yields them.
    The module is evaluated in evaluation mode, on the device of its parameters, and its modes are restored.

    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> data = TensorDataset(torch.randn(100, 4), torch.zeros(100))
    >>> columns = module_entropy(network, DataLoader(data, batch_size=32))
    >>> list(columns)
    ['entropy', 'entropy_weighted', 'dead_neurons', 'always_on_neurons', 'entropy_1']
    >>> 0 <= columns["entropy"] <= 1
    True
    """
    modes = {part: part.training for part in module.modules()}
    device, states = next(module.parameters()).device, NeuronStates(stacked=False)
    module.eval()
    for batch in batches:
        inputs = batch[0] if isinstance(batch, tuple | list) else batch
        states.begin_batch(len(inputs))
        with states:
            module(inputs.to(device))
    for part, mode in modes.items():
        part.training = mode
    return {name: column.item() for name, column in entropy_columns(states).items()}
