"""Label noise, and the split and labels of a run.

`corrupt` makes an exact number of labels wrong (He et al. 2022, section 3). `labels_for` draws a run's validation split
from its training data and gives both parts their labels: the true ones with noise, or labels that people gave.
"""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.model_selection import train_test_split

from dsdlib.config import ConfigError, RunConfig
from dsdlib.data import Dataset, data_folder
from dsdlib.seeding import numpy_generator

# Asymmetric noise of He et al. 2022, by class name: mistakes that people make. Other classes keep their labels.
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
    """A copy of ``labels`` (n,) with noise of a kind at a rate between 0 and 1.

    ``symmetric``: exactly round(rate·n) labels are changed, each to another class, drawn uniformly.
    ``uniform``: exactly round(rate·n) labels are drawn anew, uniformly over all classes, so that a share of about
    rate·(1 − 1/classes) ends up wrong.
    ``pairflip``: in each class, exactly round(rate·n_class) labels become the next class.
    ``asymmetric``: in each class of ``confusions`` (class → class), as many become the class that it maps to.

    Raises `ConfigError` for noise among fewer than two classes.
    """
    if rate and classes < 2:
        raise ConfigError(
            f"noise_rate = {rate}: there is no wrong label where there is only {classes} class; allowed: 0"
        )
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
    """The class that each class becomes by asymmetric noise.

    With ``superclass`` (classes,), as in CIFAR-100, it is the next class of the same super-class. For digits and
    CIFAR-10, which are recognised by their class names, it is `ASYMMETRIC`. For other data the result is empty.
    """
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
    """One run's split of a data set's training data, as positions in it, and the labels of both parts."""

    train_rows: torch.Tensor  # (n_train,)
    train_labels: torch.Tensor  # (n_train,), with noise
    corrupted: torch.Tensor  # (n_train,) bool: where the training label is not the true one
    validation_rows: torch.Tensor  # (n_validation,), which may be 0
    validation_labels: torch.Tensor  # (n_validation,), with noise of the same kind and rate


def labels_for(config: RunConfig, dataset: Dataset) -> Labels:
    """The run's split of the training data and its labels, both drawn from its seed.

    The validation split is stratified by the true labels. Its own labels are as noisy as the training labels, since in
    practice nobody who has only noisy labels to train on has clean ones to choose a round by. Raises `ConfigError` for
    a split that is not possible, and for labels of people that do not belong to the data set.
    """
    truth = dataset.train_y.numpy()
    rows = np.arange(len(truth))
    train, validation = rows, rows[:0]
    if config.validation_fraction:
        state = int(numpy_generator(config.seed, "split").integers(2**31))
        train, validation = _split(config, truth, state)
    if config.noise_kind == "human":
        noisy = _human_labels(config.noise_labels, truth, dataset.classes)
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


def _human_labels(where: str, truth: np.ndarray, classes: int) -> np.ndarray:
    """Labels that people gave, as those of CIFAR-10N: FILE:NAME, a named array of an .npz in the data folder.

    If the file has an array ``clean_label``, it must be the data set's true labels ``truth``.
    """
    file, _, name = where.partition(":")
    path = data_folder() / file
    if not path.is_file():
        raise ConfigError(f"noise_labels = {where!r}: no file {path}; put it there or set DSDLIB_DATA")
    try:
        with np.load(path) as arrays:
            held = {one: arrays[one] for one in arrays.files if one in (name, "clean_label")}
            names = ", ".join(arrays.files)
    except Exception as error:  # a damaged file may raise anything
        raise ConfigError(f"noise_labels = {where!r}: {path} cannot be read as .npz ({error})") from None
    if name not in held:
        raise ConfigError(f"noise_labels = {where!r}: {path} holds {names}")
    labels, clean = held[name], held.get("clean_label", truth)
    if labels.shape != truth.shape or not np.array_equal(clean, truth):
        raise ConfigError(
            f"noise_labels = {where!r}: {path} was made for other images than this data set's, or has them in another "
            f"order; its labels are {labels.shape}, the data set's {truth.shape}"
        )
    _check_labels(f"noise_labels = {where!r}: {path}", labels, classes)
    return labels.astype(np.int64)


def _check_labels(what: str, labels: np.ndarray, classes: int) -> None:
    if labels.dtype.kind not in "iuf":
        raise ConfigError(f"{what} holds {labels.dtype} values; allowed: whole numbers from 0 to {classes - 1}")
    wrong = np.flatnonzero(~np.isin(labels, np.arange(classes)))
    if len(wrong):
        raise ConfigError(
            f"{what} holds {labels[wrong[0]]} at position {wrong[0]}; allowed: whole numbers from 0 to {classes - 1}"
        )


def at_hand(labels: list[str]) -> list[str]:
    """The FILE:NAME of people's labels whose file is in the data folder. Prints a line that names all others."""
    found = [where for where in labels if (data_folder() / where.partition(":")[0]).is_file()]
    if missing := [where for where in labels if where not in found]:
        print(f"Left out, as {data_folder()} has no such file: {', '.join(missing)}")
    return found
