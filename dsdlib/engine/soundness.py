"""Checks of a network before any training: what would be trained, evaluated or stored wrongly is refused by name.

They build on what the engine does with a network: it holds all parameters in one vector, evaluates images in batches of
any size, and repeats a run from its seed.
"""

from typing import NoReturn

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parameters_to_vector

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import Dataset
from dsdlib.engine.network import Network
from dsdlib.models import BATCHNORMS, WEIGHTED


def check_parameters(config: RunConfig, network: nn.Module) -> None:
    """Refuse parameters and buffers that could not be trained, pruned, or stored."""
    first_names = dict([*network.named_parameters(), *network.named_buffers()])
    stored = network.state_dict()
    for name, part in [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]:
        if name not in first_names:
            _refuse(config, f"{name} is shared by two layers, which is not supported")
        if name not in stored:
            _refuse(config, f"{name} is a non-persistent buffer, which cannot be stored and restored")
        if getattr(part, "_post_accumulate_grad_hooks", None):
            _refuse(config, f"{name} has a hook that is called after gradients are accumulated, which is not supported")
    for name, layer in network.named_modules():
        if isinstance(layer, WEIGHTED) and "weight" not in dict(layer.named_parameters(recurse=False)):
            _refuse(
                config,
                f"{name}.weight is not a parameter itself (as with weight_norm or spectral_norm), and cannot be pruned",
            )
        if isinstance(layer, BATCHNORMS) and layer.running_mean is None:
            _refuse(
                config, f"{name} has no running statistics, so that its output for an image depends on the other images"
            )
    _check_values(config, network)


def _check_values(config: RunConfig, network: nn.Module) -> None:
    """Refuse parameters that cannot lie in one vector, each at a place of its own."""
    owners, dtype = {}, None
    for name, part in network.named_parameters():
        if is_lazy(part):
            _refuse(config, f"{name} is not initialised yet, as in lazy layers; give the layer its sizes")
        dtype = dtype or part.dtype
        if part.dtype != dtype or dtype not in (torch.float32, torch.float64):
            _refuse(config, f"{name} is {part.dtype}; allowed: all parameters torch.float32, or all torch.float64")
        if not part.isfinite().all():
            _refuse(config, f"{name} has initial values that are not finite")
        if part.numel() and (other := owners.setdefault(part.data_ptr(), name)) != name:
            _refuse(config, f"{name} shares its memory with {other}, which is not supported")


@torch.no_grad()
def check_logits(config: RunConfig, network: nn.Module, dataset: Dataset) -> None:
    """Refuse a network, in evaluation mode, whose logits are not a function of its parameters and of one image."""
    original = dataset.train_x[:2]
    images, vector = original.clone(), parameters_to_vector(network.parameters())
    try:
        logits = network(images)
        unchanged = torch.equal(images, original)
        again, alone = network(original.clone()), network(original[:1].clone())
    except Exception as error:
        _refuse(config, f"cannot take {dataset.input_shape} inputs ({error})")
    if not unchanged:
        _refuse(config, "changes its input images in place")
    found = tuple(logits.shape) if torch.is_tensor(logits) else f"a {type(logits).__name__}"
    if found != (len(images), dataset.classes):
        _refuse(config, f"returns {found} for {len(images)} images of {dataset.classes} classes")
    if not logits.isfinite().all():
        _refuse(config, "its initial logits are not finite")
    if not torch.equal(logits, again):
        _refuse(config, "its logits in evaluation mode are random")
    if not _close(logits[:1], alone):
        _refuse(config, "its logits for an image depend on the other images of the batch")
    try:
        by_engine = Network(network).forward_function(vector.unsqueeze(0))(original.clone().unsqueeze(0))[0]
    except Exception as error:
        _refuse(config, f"cannot be called with other parameters ({error})")
    if not _close(logits, by_engine):
        _refuse(config, "its logits differ when it is called with the same parameters from outside")


def _close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether logits are equal up to rounding."""
    return torch.allclose(one, other, rtol=0, atol=1e-3 * one.abs().max().item() or 1e-6)


def check_training(config: RunConfig, network: nn.Module, images: torch.Tensor) -> None:
    """Refuse a network, in training mode, that cannot be trained on ``images``, has parameters that it does not use, or
    draws random numbers that no seed decides."""
    trained = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    holder, given, logits = Network(network), images.clone(), []
    buffers = holder.buffers()
    try:
        with torch.random.fork_rng(devices=[]):
            for _ in range(2):
                torch.manual_seed(0)
                holder.set_buffers(buffers)
                logits.append(network(given))
        gradients = torch.autograd.grad(logits[-1].sum(), list(trained.values()), allow_unused=True)
    except Exception as error:
        _refuse(config, f"cannot be trained on a batch of {len(images)} (batch_size = {config.batch_size}; {error})")
    if not torch.equal(given, images):
        _refuse(config, "changes its input images in place")
    if unused := [name for name, gradient in zip(trained, gradients, strict=True) if gradient is None]:
        _refuse(config, f"does not use its parameter {unused[0]}")
    if not torch.equal(*logits):
        _refuse(config, "its logits in training mode use random numbers that PyTorch's seed does not decide")


def _refuse(config: RunConfig, why: str) -> NoReturn:
    raise ConfigError(f"model = {config.model!r}: {why}")
