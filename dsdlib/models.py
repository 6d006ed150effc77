"""The papers' networks and their initialisations, built by name, and a user's own networks, built by import path."""

from collections.abc import Callable
from inspect import signature
from itertools import pairwise
from typing import Any

import torch
from pydantic import PositiveFloat, PositiveInt, StrictBool, ValidationError, validate_call
from torch import Tensor, nn

from dsdlib.config import ConfigError
from dsdlib.data import import_object
from dsdlib.seeding import torch_generator

WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
BATCHNORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@validate_call
def mlp(input_shape: tuple[int, ...], classes: int, depth: PositiveInt = 2, width: PositiveInt = 300) -> nn.Sequential:
    """A fully connected ReLU network with ``depth`` hidden layers of ``width`` neurons each."""
    return _fully_connected(input_shape, classes, [width] * depth)


@validate_call
def lenet_300_100(input_shape: tuple[int, ...], classes: int, width: PositiveFloat = 1.0) -> nn.Sequential:
    """LeNet-300-100: hidden layers of 300 and 100 ReLU neurons, both multiplied by ``width`` and rounded."""
    return _fully_connected(input_shape, classes, [max(1, round(300 * width)), max(1, round(100 * width))])


def _fully_connected(input_shape: tuple[int, ...], classes: int, hidden: list[int]) -> nn.Sequential:
    sizes = [torch.Size(input_shape).numel(), *hidden]
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(sizes[-1], classes))


@validate_call
def vgg_like(
    input_shape: tuple[int, ...], classes: int, depth: PositiveInt = 5, width: PositiveInt = 32
) -> nn.Sequential:
    """The VGG-like network of DSD2 (Quétu & Tartaglione 2024).

    It has ``depth`` blocks. Each is twice a 3×3 convolution, a ReLU and a BatchNorm, followed by a 2×2 max-pool. The
    first block has ``width`` channels and every other block twice as many as the one before. The maps are then pooled
    to 7×7 by averaging and classified by one linear layer. Raises `ConfigError` for inputs that are not images and for
    images too small for so many blocks.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"model = 'vgg_like': takes images (channels, height, width), not {input_shape}")
    side = min(input_shape[1:])
    if side < 2**depth:
        raise ConfigError(f"depth = {depth}: {side}×{side} images allow at most {side.bit_length() - 1} blocks")
    layers, channels = [], input_shape[0]
    for block in range(depth):
        for _ in range(2):
            out = width * 2**block
            layers += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(out)]
            channels = out
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, Pool(7), nn.Flatten(), nn.Linear(channels * 49, classes))


class Pool(nn.AdaptiveAvgPool2d):
    """`nn.AdaptiveAvgPool2d` with a square output.

    Where the output is larger than the input, PyTorch's own is slow, and one product with a small matrix replaces it.
    """

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if height * width >= self.output_size**2:
            return super().forward(x)
        means = torch.kron(*(_means(size, self.output_size, x.device).to(x.dtype) for size in (height, width)))
        return (x.flatten(2) @ means.T).unflatten(2, (self.output_size, self.output_size))


def _means(size: int, out: int, device: torch.device) -> Tensor:
    """The windows of adaptive average pooling in one dimension: (out, size), each row the weights of one mean."""
    position, window = torch.arange(size, device=device), torch.arange(out, device=device).unsqueeze(1)
    inside = (position >= window * size // out) & (position < -(-(window + 1) * size // out))
    return inside / inside.sum(1, keepdim=True)


@validate_call
def resnet18(input_shape: tuple[int, ...], classes: int, maxpool: StrictBool = True) -> nn.Module:
    """ResNet-18 with a 3×3 stem of stride 1; its max-pool is kept (DSD2) or removed (He et al. 2022)."""
    from torchvision.models import resnet18 as torchvision_resnet18  # here, as it takes a second to import

    network = torchvision_resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(input_shape[0], 64, 3, padding=1, bias=False)
    if not maxpool:
        network.maxpool = nn.Identity()
    return network


@validate_call
def resnet20(input_shape: tuple[int, ...], classes: int, width: PositiveInt = 16) -> nn.Sequential:
    """The CIFAR ResNet-20 of He et al. 2016 (section 4.2), close to the Keras program of Chang et al. 2021.

    It has a 3×3 stem, three stages of three residual blocks with ``width``, 2·``width`` and 4·``width`` filters, a
    global average pool and a linear layer. As in that program, convolutions have biases, and the shortcut is a 1×1
    convolution without BatchNorm where a block changes the shape. It differs from that program in three details:

    * The program averages windows of 3×3 before the linear layer, not the whole map.
    * BatchNorm adds PyTorch's ε = 1e-5 to the variance where Keras adds 1e-3, and its running statistics keep 0.9 of
      their value at each step, where Keras keeps 0.99.
    * A 3×3 convolution of stride 2 pads maps by one pixel on all sides. Keras's padding ``same`` pads maps of an even
      size at the bottom and right only, so that all its windows lie one pixel further down and to the right.
    """
    if len(input_shape) != 3:
        raise ConfigError(f"model = 'resnet20': takes images (channels, height, width), not {input_shape}")
    layers = [nn.Conv2d(input_shape[0], width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    channels = width
    for stage in range(3):
        for block in range(3):
            out, stride = width * 2**stage, 2 if stage > 0 and block == 0 else 1
            layers.append(Residual(channels, out, stride))
            channels = out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """Two 3×3 convolutions, added to a shortcut, which is a 1×1 convolution where the block changes the shape."""

    def __init__(self, channels: int, out: int, stride: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride, padding=1),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Identity() if stride == 1 else nn.Conv2d(channels, out, 1, stride)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.body(x) + self.shortcut(x))


NAMED = (lenet_300_100, mlp, vgg_like, resnet18, resnet20)
MODELS: dict[str, Callable[..., nn.Module]] = {factory.__name__: factory for factory in NAMED}


@torch.no_grad()
def initialise(network: nn.Module, initialisation: str) -> None:
    """Draw the parameters of a network's convolutions, linear layers and BatchNorms anew, in place.

    ``pytorch`` keeps what the constructors drew.
    ``he2022`` (He et al. 2022): every weight, the output layer's included, is normal with variance 2/fan_in; BatchNorm
    weights are uniform in (0, 1); all biases are zero. (For linear biases the paper says so; its published program
    leaves PyTorch's default.) The weights of a linear layer are √6 times as large as by PyTorch's default.
    ``dsd2`` (Quétu & Tartaglione 2024): the weights of convolutions without bias, which are those of the ResNets, are
    normal with variance 2/fan_out; BatchNorm weights are one and biases zero; all others are PyTorch's default.
    ``chang2021`` (Chang et al. 2021): weights are Glorot uniform and biases zero, as by Keras's defaults.
    """
    if initialisation == "pytorch":
        return
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            _initialise_weighted(module, initialisation)
        elif isinstance(module, BATCHNORMS) and module.affine:
            nn.init.zeros_(module.bias)
            if initialisation == "he2022":
                nn.init.uniform_(module.weight)
            else:
                nn.init.ones_(module.weight)


def _initialise_weighted(layer: nn.Module, initialisation: str) -> None:
    if initialisation == "dsd2":
        if layer.bias is None and not isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return
    if initialisation == "he2022":
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
    else:
        nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def build(
    model: str,
    input_shape: tuple[int, ...],
    classes: int,
    arguments: dict[str, Any],
    seed: int = 0,
    draw: int = 0,
    initialisation: str = "pytorch",
) -> nn.Module:
    """A freshly initialised network on the CPU, which is the same for the same seed and draw.

    ``model`` is one of `MODELS` or ``module:factory``. A factory takes the input shape, the number of classes and the
    model's ``arguments``, and returns an `nn.Module`. ``draw`` counts a run's re-initialisations. ``initialisation``
    names a distribution of `initialise`. Raises `ConfigError` for an unknown name or argument.
    """
    if model in MODELS:
        factory = MODELS[model]
    elif ":" in model:
        factory = import_object(model, "model")
    else:
        raise ConfigError(f"model = {model!r}: unknown; allowed: {', '.join(MODELS)}, module:factory")
    try:
        signature(factory).bind(input_shape, classes, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"model_args = {arguments!r}: {model} does not take them ({error})") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "initialisation", draw).initial_seed())
        network = _made(factory, model, input_shape, classes, arguments)
        if not isinstance(network, nn.Module):
            raise ConfigError(f"model = {model!r}: made a {type(network).__name__}, not an nn.Module")
        initialise(network, initialisation)
    return network


def _made(
    factory: Callable[..., nn.Module], model: str, input_shape: tuple[int, ...], classes: int, arguments: dict[str, Any]
) -> nn.Module:
    try:
        return factory(input_shape, classes, **arguments)
    except ConfigError:
        raise
    except ValidationError as error:
        wrong = error.errors()[0]
        raise ConfigError(f"model_args: {wrong['loc'][-1]} = {wrong['input']!r}: {wrong['msg']}") from None
    except Exception as error:
        raise ConfigError(f"model = {model!r}: failed with model_args = {arguments!r} ({error})") from error
