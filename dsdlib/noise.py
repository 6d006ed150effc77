"""Label noise: some training labels made wrong, by an exact count (He et al. 2022, section 3)."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import Dataset, data_folder
from dsdlib.seeding import numpy_generator

# He et al. 2022: mistakes that people make, by class name. A class not named keeps its labels.
ASYMMETRIC = (
    {"2": "7", "3": "8", "5": "6", "6": "5"},
    {"truck": "automobile", "bird": "airplane", "deer": "horse", "cat": "dog", "dog": "cat"},
)


def corrupt(
    labels: np.ndarray,
    kind: str,
    rate: float,
    classes: int,
    confusions: dict[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    """A copy of ``labels`` (n,) with noise of a kind at a rate.

    symmetric: exactly round(rate·n) labels become another class, never the true one. uniform: as many are drawn
    anew over all classes, so that about rate·(1 − 1/classes) end up wrong. pairflip: in each class exactly
    round(rate·n_class) become the next class. asymmetric: likewise, along ``confusions`` (class → class).
    """
    noisy = labels.copy()
    if kind == "symmetric":
        chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
        noisy[chosen] = (labels[chosen] + rng.integers(1, classes, len(chosen))) % classes
    elif kind == "uniform":
        chosen = rng.permutation(len(labels))[: round(rate * len(labels))]
        noisy[chosen] = rng.integers(0, classes, len(chosen))
    elif kind == "pairflip":
        _flip(labels, noisy, {c: (c + 1) % classes for c in range(classes)}, rate, rng)
    elif kind == "asymmetric":
        _flip(labels, noisy, confusions, rate, rng)
    else:
        raise ConfigError(f"noise_kind = {kind!r}: no rate makes it; allowed: symmetric, uniform, pairflip, asymmetric")
    return noisy


def _flip(labels: np.ndarray, noisy: np.ndarray, to: dict[int, int], rate: float, rng: np.random.Generator) -> None:
    for source, target in to.items():
        members = rng.permutation(np.flatnonzero(labels == source))
        noisy[members[: round(rate * len(members))]] = target


def confusions(class_names: tuple[str, ...], superclass: np.ndarray | None) -> dict[int, int]:
    """Which class is taken for which: by name for digits and CIFAR-10, and within the super-class (classes,) where
    there are any (CIFAR-100: the next class of the same super-class). Empty where nothing is known."""
    if superclass is not None:
        groups = [np.flatnonzero(superclass == s) for s in np.unique(superclass)]
        return {int(a): int(b) for group in groups for a, b in zip(group, np.roll(group, -1), strict=True)}
    number = {name: i for i, name in enumerate(class_names)}
    for by_name in ASYMMETRIC:
        if by_name.keys() <= number.keys():
            return {number[a]: number[b] for a, b in by_name.items()}
    return {}


@dataclass(frozen=True)
class Labels:
    """One run's share of the training data: positions in it, and labels as the run sees them."""

    train_rows: torch.Tensor  # (n_train,)
    train_labels: torch.Tensor  # (n_train,), with noise
    corrupted: torch.Tensor  # (n_train,) bool: where the label is not the true one
    validation_rows: torch.Tensor  # (n_validation,), may be empty
    validation_labels: torch.Tensor  # (n_validation,), as noisy as the training labels


def labels_for(config: RunConfig, dataset: Dataset) -> Labels:
    """The run's split of the training data and its noise, both drawn from its seed.

    The validation split is taken from the training data, stratified, and its labels are as noisy as the rest: whoever
    has only noisy labels to train on has no clean ones to choose by.
    """
    truth = dataset.train_y.numpy()
    rows = np.arange(len(truth))
    train, validation = rows, rows[:0]
    if config.validation_fraction:
        state = int(numpy_generator(config.seed, "split").integers(2**31))
        train, validation = _split(config, truth, state)
    if config.noise_kind == "human":
        noisy = _human_labels(config.noise_labels, truth)
        train_labels, validation_labels = noisy[train], noisy[validation]
    else:
        train_labels, validation_labels = (
            corrupt(
                truth[part],
                config.noise_kind,
                config.noise_rate,
                dataset.classes,
                confusions(dataset.class_names, dataset.superclass),
                numpy_generator(config.seed, f"noise {name}"),
            )
            for name, part in (("train", train), ("validation", validation))
        )
    return Labels(
        torch.from_numpy(train),
        torch.from_numpy(train_labels),
        torch.from_numpy(train_labels != truth[train]),
        torch.from_numpy(validation),
        torch.from_numpy(validation_labels),
    )


def _split(config: RunConfig, truth: np.ndarray, state: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        train, validation = train_test_split(
            np.arange(len(truth)), test_size=config.validation_fraction, random_state=state, stratify=truth
        )
    except ValueError as error:
        raise ConfigError(f"validation_fraction = {config.validation_fraction}: {error}") from None
    return np.sort(train), np.sort(validation)


def _human_labels(where: str, truth: np.ndarray) -> np.ndarray:
    """Labels that people gave (CIFAR-10N): FILE:NAME, a named array of an .npz in the data folder."""
    file, _, name = where.partition(":")
    path = data_folder() / file
    if not path.is_file():
        raise ConfigError(f"noise_labels = {where!r}: no file {path}; put it there or set DSDLIB_DATA")
    with np.load(path) as arrays:
        if name not in arrays:
            raise ConfigError(f"noise_labels = {where!r}: {path} holds {', '.join(arrays.files)}")
        labels = arrays[name].astype(np.int64)
        clean = arrays.get("clean_label", truth)
    if len(labels) != len(truth) or (clean != truth).any():
        raise ConfigError(f"noise_labels = {where!r}: made for other images than this data set's, or in another order")
    return labels


def at_hand(labels: list[str]) -> list[str]:
    """Those FILE:NAME of people's labels whose file is in the data folder; the others are named in a line of output."""
    found = [where for where in labels if (data_folder() / where.partition(":")[0]).is_file()]
    if missing := [where for where in labels if where not in found]:
        print(f"Left out, as {data_folder()} has no such file: {', '.join(missing)}")
    return found
