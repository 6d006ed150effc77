"""Training in JAX, as a rival in the race of 90_performance: vmap over runs, scan over steps, compiled by jit.

It needs the extra ``bench``. `train` takes the place of `dsdlib.engine.loop.train` for sequences of linear layers and
ReLUs: the same data, masks and batches, and the same weights up to rounding.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import torch
from jax import lax
from jax import numpy as jnp
from torch import Tensor, nn

from dsdlib.config import ConfigError
from dsdlib.engine.device import PLAIN, Engine
from dsdlib.engine.network import Network
from dsdlib.engine.rounds import measure
from dsdlib.engine.stack import Stack
from dsdlib.engine.step import Recipe, TrainingData

# One thread, as the engine has. JAX reads this when it computes for the first time.
os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")


def rounds(stack: Stack) -> list[dict[str, Any]]:
    """All rounds of a stack, pruned and measured as the engine does it and trained by JAX. Returns a row a run and
    round."""
    state, rows = stack.fresh(), []
    for round_ in range(stack.shared.rounds + 1):
        if round_ > 0:
            state = stack.rewind(stack.prune(state, round_), round_)
        parts = stack.network, state.weights, state.masks, stack.data
        state = replace(state, weights=train(*parts, stack.recipe(round_), stack.generators("order", round_)))
        stack.dense = state if round_ == 0 else stack.dense  # where one-shot pruning begins
        measures = zip(stack.configs, measure(stack, state, round_), strict=True)
        rows += [{"seed": config.seed, **row} for config, row in measures]
    return rows


def train(
    network: Network,
    weights: Tensor,
    masks: Tensor,
    data: TrainingData,
    recipe: Recipe,
    generators: list[torch.Generator],
    engine: Engine = PLAIN,
) -> Tensor:
    """What `dsdlib.engine.loop.train` returns, up to rounding: the trained weights, (runs, parameters).

    Compiling takes a second or two for each shape of stack and batch. ``engine`` is not used. Raises `ConfigError` for
    whatever this program would train differently.
    """
    check(network, data, recipe)
    parameters, masks = _arrays(network, weights * masks), _arrays(network, masks * network.trained)
    carry = parameters, [jnp.zeros_like(part) for part in parameters]
    one_epoch = _compiled(recipe.batch_size, recipe.momentum)
    x, decay = _array(data.x.flatten(1)), _array(recipe.weight_decay)
    for epoch in range(recipe.epochs):
        order = torch.stack([torch.randperm(data.rows.shape[1], generator=rng) for rng in generators])
        samples = _array(data.rows.gather(1, order)), _array(data.labels.gather(1, order))
        carry = one_epoch(carry, masks, samples, _array(recipe.lr * recipe.lr_factor(epoch)), decay, x)
    return torch.cat([torch.from_numpy(jax.device_get(part).copy()).flatten(1) for part in carry[0]], 1)


def check(network: Network, data: TrainingData, recipe: Recipe) -> None:
    """Raise `ConfigError` that says what this program does not do."""
    layers = [layer for layer in network.module if not isinstance(layer, nn.Flatten)] if network.stackable else []
    alternating = [nn.Linear, nn.ReLU] * (len(layers) // 2) + [nn.Linear]
    if [type(layer) for layer in layers] != alternating or any(layer.bias is None for layer in layers[::2]):
        raise ConfigError("the JAX program takes linear layers with biases, and a ReLU between any two")
    if data.teachers or recipe.augment or recipe.optimizer != "sgd" or recipe.first_step:
        raise ConfigError("the JAX program has no teachers, augmentation, Adam, or weight rewinding")


@cache
def _compiled(batch_size: int, momentum: float) -> Callable[..., Any]:
    epoch = partial(_epoch, batch_size=batch_size, momentum=momentum)
    return jax.jit(jax.vmap(epoch, in_axes=(0, 0, 0, 0, 0, None)), donate_argnums=0)


def _epoch(carry, masks, samples, rate, decay, x, *, batch_size, momentum):
    """An epoch of one run: a scan over its full batches, and a step on the samples left over.

    ``samples`` are rows of ``x`` and their labels, each (n,), in the order of the epoch.
    """

    def loss(parameters, rows, labels):
        scores = jax.nn.log_softmax(_logits(parameters, x[rows]))
        return -jnp.take_along_axis(scores, labels[:, None], 1).mean()

    def step(carry, batch):
        parameters, velocity = carry
        gradient = jax.grad(loss)(parameters, *batch)
        velocity = [momentum * v + g + decay * w for v, g, w in zip(velocity, gradient, parameters, strict=True)]
        moved = zip(parameters, velocity, masks, strict=True)
        return ([w - rate * mask * v for w, v, mask in moved], velocity), None

    full = len(samples[0]) // batch_size * batch_size
    carry, _ = lax.scan(step, carry, tuple(part[:full].reshape(-1, batch_size) for part in samples))
    return step(carry, tuple(part[full:] for part in samples))[0] if full < len(samples[0]) else carry


def _logits(parameters, x):
    """A network's output (n, classes) for inputs (n, features); ``parameters`` are weight, bias, weight, bias, …"""
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        x = jax.nn.relu(x @ weight.T + bias)
    return x @ parameters[-2].T + parameters[-1]


def _arrays(network: Network, values: Tensor) -> list:
    return [_array(part.contiguous()) for part in network.parameters(values).values()]


def _array(tensor: Tensor) -> Any:
    return jnp.asarray(tensor.numpy())
