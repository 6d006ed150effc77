"""What the network of a stored round does: the wrong labels it reproduces, the weights it keeps, its epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from dsdlib.config import RunConfig
from dsdlib.data import Dataset, load
from dsdlib.noise import Labels, labels_for
from dsdlib.study.runs import load_masks, load_model
from dsdlib.study.store import Store

SHOWN, JUDGED = 24, 240  # images with wrong labels that are shown, and over which shares are counted
FATES = ("memorised", "recovered", "other")


@dataclass(frozen=True)
class WrongLabels:
    """Training images with wrong labels, and what the network of a round predicts for them.

    ``rows`` are their positions in the data set's training data; ``given``, ``true`` and ``predicted`` are class
    numbers. All are (n,).
    """

    dataset: Dataset
    rows: np.ndarray
    given: np.ndarray
    true: np.ndarray
    predicted: np.ndarray

    @property
    def fates(self) -> np.ndarray:
        """Whether the prediction is the wrong label (*memorised*), the true class (*recovered*) or an *other* one."""
        return np.where(
            self.predicted == self.given, FATES[0], np.where(self.predicted == self.true, FATES[1], FATES[2])
        )


def nearest(rounds: Iterable[int], cursor: int) -> int | None:
    """The round nearest to the cursor, the earlier of two; None if there is none."""
    return min(sorted(rounds), key=lambda round_: abs(round_ - cursor), default=None)


@lru_cache(maxsize=64)
def wrong_labels(store: Store, config: RunConfig, round_: int) -> WrongLabels | None:
    """The first `JUDGED` training images with wrong labels and their predictions; None if no label is wrong.

    They are the same images in every round of a run. Raises `ConfigError` if the data set is not on this machine, and
    FileNotFoundError if the round's weights are not stored.
    """
    dataset, labels = load(config.dataset), _labels(config)
    chosen = labels.corrupted.nonzero().flatten()[:JUDGED]
    if not len(chosen):
        return None
    rows = labels.train_rows[chosen]
    with torch.no_grad():
        predicted = load_model(config, round_, store.root)(dataset.train_x[rows]).argmax(1)
    numbers = (rows, labels.train_labels[chosen], dataset.train_y[rows], predicted)
    return WrongLabels(dataset, *(tensor.numpy() for tensor in numbers))


@lru_cache(maxsize=8)
def _labels(config: RunConfig) -> Labels:
    return labels_for(config, load(config.dataset))


@lru_cache(maxsize=64)
def first_mask(store: Store, config: RunConfig, round_: int) -> np.ndarray:
    """How many weights of the first pruned layer are left at each pixel, (height, width).

    For a convolution these are the places of its kernel. Raises what `wrong_labels` does.
    """
    masks = load_masks(config, round_, store.root)
    network = load_model(config, round_, store.root)
    mask = next(masks[name] for name, _ in network.named_parameters() if name in masks)
    if mask.ndim > 2:
        return mask.sum((0, 1)).numpy()
    shape, left = load(config.dataset).input_shape, mask.sum(0)
    if math.prod(shape) != len(left) or len(shape) < 2:
        return left.view(1, -1).numpy()
    return left.view(-1, *shape[-2:]).sum(0).numpy()
