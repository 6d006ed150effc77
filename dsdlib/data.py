"""Data sets by name, as tensors in memory, and the augmentation of images.

Files are looked for in the data folder: the environment variable ``DSDLIB_DATA``, or else this user's cache folder.
``python -m dsdlib.data mnist`` downloads a data set into it.
"""

import argparse
import hashlib
import importlib
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import platformdirs
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.nn.functional import pad

from dsdlib.config import ConfigError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TORCHVISION = {"mnist": "MNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100", "flowers102": "Flowers102"}
ALLOWED = f"digits, {', '.join(TORCHVISION)}, folder:NAME, module:function"


@dataclass(frozen=True)
class Dataset:
    """Training and test data: inputs (n, …) in float32, which for images are (n, channels, height, width), and true
    labels (n,) in int64. ``superclass`` (classes,) holds the super-class of each class, if there are any."""

    name: str
    class_names: tuple[str, ...]
    train_x: torch.Tensor
    train_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    superclass: np.ndarray | None = None

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
    """The folder with the files of data sets."""
    return Path(os.environ.get("DSDLIB_DATA") or platformdirs.user_cache_path("dsdlib")).expanduser()


def load(name: str) -> Dataset:
    """The data set of that name: one of `ALLOWED`.

    Raises `ConfigError` for an unknown name, for data that are not on this machine, with the folder and the command
    that downloads them, and for data that no run can use.
    """
    return _load(name, data_folder())


@lru_cache(maxsize=2)
def _load(name: str, root: Path) -> Dataset:
    if name == "digits":
        return _digits()
    if name in TORCHVISION:
        return _torchvision(name, root)
    if name.startswith("folder:"):
        return _folder(name, root / name.removeprefix("folder:"))
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
    images = (images - images[train].mean()) / images[train].std()
    names = tuple(str(name) for name in bunch.target_names)
    return Dataset("digits", names, images[train], labels[train], images[test], labels[test])


def _torchvision(name: str, root: Path, download: bool = False) -> Dataset:
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION[name])
    splits = ("train", "test") if name == "flowers102" else (True, False)
    options = [{"split" if name == "flowers102" else "train": split} for split in splits]
    try:
        train, test = (kind(root, download=download, **option) for option in options)
    except RuntimeError as error:
        raise ConfigError(
            f"dataset = {name!r}: not found in {root}. Download it with `python -m dsdlib.data {name}`, "
            f"or set DSDLIB_DATA to the folder that torchvision's {TORCHVISION[name]} lies in ({error})"
        ) from None
    if name == "flowers102":
        tensors = [*_flowers(train), *_flowers(test)]
        return Dataset(name, tuple(f"flower {i}" for i in range(102)), *tensors)
    names = tuple(map(str, range(10))) if name == "mnist" else tuple(train.classes)
    tensors = [t for part in (train, test) for t in (_normalised(part.data), torch.as_tensor(part.targets))]
    return Dataset(name, names, *tensors, superclass=_superclasses(root) if name == "cifar100" else None)


def _normalised(images: Any) -> torch.Tensor:
    """uint8 images (n, h, w) or (n, h, w, 3) as float32 (n, channels, h, w), normalised by the mean and standard
    deviation of MNIST (grey images) or ImageNet (colour images)."""
    images = torch.as_tensor(images)
    grey = images.ndim == 3
    images = images.unsqueeze(1) if grey else images.permute(0, 3, 1, 2)
    mean, std = ((0.1307,), (0.3081,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    return images.float().div_(255).sub_(mean).div_(std).contiguous()


def _flowers(split: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels, prepared as in DSD2: the shorter side resized to 156 pixels, the central 128×128 cut out."""
    from torchvision.transforms import functional as F

    images = [np.asarray(F.center_crop(F.resize(image, 156), 128)) for image, _ in split]
    return _normalised(np.stack(images)), torch.tensor([label for _, label in split])


def _superclasses(root: Path) -> np.ndarray:
    """The super-class (0 to 19) of each of CIFAR-100's 100 classes, (100,), from the data set's own file."""
    with (root / "cifar-100-python" / "train").open("rb") as file:
        entry = pickle.load(file, encoding="latin1")
    superclass = np.zeros(100, dtype=int)
    superclass[np.array(entry["fine_labels"])] = entry["coarse_labels"]
    return superclass


def _folder(name: str, root: Path) -> Dataset:
    """An image folder with train/<class>/* and test/<class>/*: images of one size, in the order of file names."""
    from torchvision.datasets import ImageFolder

    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise ConfigError(
                f"dataset = {name!r}: no folder {root / part}; put train/<class>/ and test/<class>/ there"
            )
    try:
        train, test = ImageFolder(root / "train"), ImageFolder(root / "test")
    except FileNotFoundError as error:
        raise ConfigError(f"dataset = {name!r}: {error}") from None
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ConfigError(f"dataset = {name!r}: classes {odd} are in only one of {root}/train and {root}/test")
    return Dataset(name, tuple(train.classes), *_images(train), *_images(test))


def _images(part: Any) -> tuple[torch.Tensor, torch.Tensor]:
    samples = sorted(part.samples, key=lambda sample: (Path(sample[0]).stem, sample[1]))
    images = [np.asarray(part.loader(path)) for path, _ in samples]
    for image, (path, _) in zip(images, samples, strict=True):
        if image.shape != images[0].shape:
            raise ConfigError(f"{path}: {image.shape[:2]} pixels, but {samples[0][0]} has {images[0].shape[:2]}")
    return _normalised(np.stack(images)), torch.tensor([label for _, label in samples])


def import_object(path: str, what: str) -> Callable[..., Any]:
    """The object at ``package.module:name``. Raises `ConfigError` with the path if it cannot be imported."""
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{what} = {path!r}: cannot be imported ({error})") from None


def _users(name: str) -> Dataset:
    """A user's own data: ``module:function``, a function that returns four tensors: training inputs (n, …), training
    labels (n,), test inputs and test labels."""
    parts = import_object(name, "dataset")()
    if not isinstance(parts, tuple | list) or len(parts) != 4 or not all(torch.is_tensor(part) for part in parts):
        raise ConfigError(f"dataset = {name!r}: must return four tensors: train x, train y, test x, test y")
    train_x, train_y, test_x, test_y = parts
    if len(train_x) != len(train_y) or len(test_x) != len(test_y) or train_x.shape[1:] != test_x.shape[1:]:
        raise ConfigError(f"dataset = {name!r}: shapes do not go together: {[tuple(part.shape) for part in parts]}")
    if not (len(train_x) and len(test_x)):
        raise ConfigError(f"dataset = {name!r}: {len(train_x)} training and {len(test_x)} test inputs; both are needed")
    if any(y.is_floating_point() or y.ndim != 1 or y.min() < 0 for y in (train_y, test_y)):
        raise ConfigError(f"dataset = {name!r}: labels must be whole numbers from 0, one for each input")
    if not (train_x.isfinite().all() and test_x.isfinite().all()):
        raise ConfigError(f"dataset = {name!r}: inputs must be finite numbers")
    names = tuple(map(str, range(1 + max(int(train_y.max()), int(test_y.max())))))
    return Dataset(name, names, train_x.float(), train_y.long(), test_x.float(), test_y.long())


def augmented(images: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Random crop and horizontal flip of each image (n, c, h, w), each with draws of its own.

    An image is padded by 4 pixels of zeros on each side, and an area of its size is cut out at a random place and
    mirrored with probability 1/2.
    """
    n, _, height, width = images.shape
    down, across = torch.randint(0, 9, (2, n, 1, 1, 1), generator=rng).to(images.device)
    mirror = torch.randint(0, 2, (n, 1, 1, 1), generator=rng).bool().to(images.device)
    y = torch.arange(height, device=images.device).view(1, 1, -1, 1) + down
    x = torch.arange(width, device=images.device).view(1, 1, 1, -1)
    x = torch.where(mirror, width - 1 - x, x) + across
    image, channel = (
        torch.arange(size, device=images.device).view(shape)
        for size, shape in ((n, (-1, 1, 1, 1)), (images.shape[1], (1, -1, 1, 1)))
    )
    return pad(images, (4, 4, 4, 4))[image, channel, y, x]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m dsdlib.data", description="Download a data set.")
    parser.add_argument("name", choices=TORCHVISION)
    name = parser.parse_args().name
    try:
        dataset = _torchvision(name, data_folder(), download=True)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{name} is in {data_folder()}: {len(dataset.train_y):,} training, {len(dataset.test_y):,} test images")
    return 0


if __name__ == "__main__":
    sys.exit(main())
