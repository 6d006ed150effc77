"""Images on disk: torchvision's data sets and image folders, decoded once into a cache file beside them.

The cache holds the decoded pixels with a checksum. It is made anew when the name, size or time of any of the files
changes, and when it is damaged; where it cannot be written, images are decoded by every process.
"""

import hashlib
import json
import os
import pickle
import warnings
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dsdlib.config import ConfigError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# torchvision's class and the folder that it keeps its files in, by the name of the data set.
TORCHVISION = {
    "mnist": ("MNIST", "MNIST"),
    "cifar10": ("CIFAR10", "cifar-10-batches-py"),
    "cifar100": ("CIFAR100", "cifar-100-python"),
    "flowers102": ("Flowers102", "flowers-102"),
}


@dataclass(frozen=True)
class Images:
    """The images and labels of a data set as tensors by name.

    ``train_x`` and ``test_x`` are uint8, (n, height, width) or (n, height, width, 3); ``train_y`` and ``test_y`` are
    int64, (n,). CIFAR-100 has ``superclass`` (classes,), too.
    """

    class_names: tuple[str, ...]
    tensors: dict[str, Tensor]

    def checksum(self) -> str:
        """CRC-32 of the class names and of the tensors with their names, types and shapes."""
        total = zlib.crc32(json.dumps(self.class_names).encode())
        for name, tensor in sorted(self.tensors.items()):
            total = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), total)
            total = zlib.crc32(tensor.contiguous().numpy(), total)
        return f"{total:08x}"


def normalised(images: Tensor) -> Tensor:
    """uint8 images (n, h, w) or (n, h, w, 3) as float32 (n, channels, h, w), normalised by the mean and standard
    deviation of MNIST (grey images) or ImageNet (colour images)."""
    grey = images.ndim == 3
    images = images.unsqueeze(1) if grey else images.permute(0, 3, 1, 2)
    mean, std = ((0.1307,), (0.3081,)) if grey else (IMAGENET_MEAN, IMAGENET_STD)
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    return images.float().div_(255).sub_(mean).div_(std).contiguous()


def read_torchvision(name: str, root: Path) -> Images:
    """One of `TORCHVISION`, whose files lie in a folder in ``root``.

    Raises `ConfigError` with the command that downloads it if they do not.
    """
    folder = root / TORCHVISION[name][1]
    return _decoded_once([folder], folder, lambda: _decode_torchvision(name, root))


def download(name: str, root: Path) -> None:
    """Download one of `TORCHVISION` into ``root``."""
    _torchvision_parts(name, root, download=True)


def _torchvision_parts(name: str, root: Path, download: bool = False) -> list:
    """torchvision's training set and test set."""
    from torchvision import datasets

    kind = getattr(datasets, TORCHVISION[name][0])
    splits = ("train", "test") if name == "flowers102" else (True, False)
    options = [{"split" if name == "flowers102" else "train": split} for split in splits]
    try:
        return [kind(root, download=download, **option) for option in options]
    except RuntimeError as error:
        raise ConfigError(
            f"dataset = {name!r}: not found in {root}. Download it with `python -m dsdlib.data {name}`, "
            f"or set DSDLIB_DATA to the folder that torchvision's {kind.__name__} lies in ({error})"
        ) from None


def _decode_torchvision(name: str, root: Path) -> Images:
    parts = dict(zip(("train", "test"), _torchvision_parts(name, root), strict=True))
    if name == "flowers102":
        tensors = {f"{part}_{xy}": value for part, split in parts.items() for xy, value in _flowers(split).items()}
        return Images(tuple(f"flower {i}" for i in range(102)), tensors)
    tensors = {f"{part}_x": torch.as_tensor(split.data) for part, split in parts.items()}
    tensors |= {f"{part}_y": torch.as_tensor(split.targets) for part, split in parts.items()}
    if name == "cifar100":
        tensors["superclass"] = torch.from_numpy(_superclasses(root))
    return Images(tuple(map(str, range(10))) if name == "mnist" else tuple(parts["train"].classes), tensors)


def _flowers(split: torch.utils.data.Dataset) -> dict[str, Tensor]:
    """Images and labels, prepared as in DSD2: the shorter side resized to 156 pixels, the central 128×128 cut out."""
    from torchvision.transforms import functional as F

    images = [np.asarray(F.center_crop(F.resize(image, 156), 128)) for image, _ in split]
    return {"x": torch.from_numpy(np.stack(images)), "y": torch.tensor([label for _, label in split])}


def _superclasses(root: Path) -> np.ndarray:
    """The super-class (0 to 19) of each of CIFAR-100's 100 classes, (100,), from the data set's own file."""
    with (root / "cifar-100-python" / "train").open("rb") as file:
        entry = pickle.load(file, encoding="latin1")
    superclass = np.zeros(100, dtype=int)
    superclass[np.array(entry["fine_labels"])] = entry["coarse_labels"]
    return superclass


def read_folder(name: str, folder: Path) -> Images:
    """An image folder with train/<class>/* and test/<class>/*: images of one size, in the order of file names.

    Raises `ConfigError` with ``name``, or with the file, for a folder without these, for parts with different classes,
    and for an image that cannot be read, has another size than the first one, or more than 8 bits a channel.
    """
    for part in ("train", "test"):
        if not (folder / part).is_dir():
            raise ConfigError(
                f"dataset = {name!r}: no folder {folder / part}; put train/<class>/ and test/<class>/ there"
            )
    return _decoded_once([folder / "train", folder / "test"], folder, lambda: _decode_folder(name, folder))


def _decode_folder(name: str, folder: Path) -> Images:
    from torchvision.datasets import ImageFolder

    try:
        train, test = ImageFolder(folder / "train"), ImageFolder(folder / "test")
    except FileNotFoundError as error:
        raise ConfigError(f"dataset = {name!r}: {error}") from None
    if train.classes != test.classes:
        odd = sorted(set(train.classes) ^ set(test.classes))
        raise ConfigError(f"dataset = {name!r}: classes {odd} are in only one of {folder}/train and {folder}/test")
    tensors, first = {}, None
    for part, found in (("train", train), ("test", test)):
        samples = sorted(found.samples, key=lambda sample: (Path(sample[0]).stem, sample[1]))
        images = []
        for path, _ in samples:
            images.append(_pixels(path))
            first = first or (path, images[0].shape[:2])
            if images[-1].shape[:2] != first[1]:
                raise ConfigError(f"{path}: {images[-1].shape[:2]} pixels, but {first[0]} has {first[1]}")
        tensors[f"{part}_x"] = torch.from_numpy(np.stack(images))
        tensors[f"{part}_y"] = torch.tensor([label for _, label in samples])
    return Images(tuple(train.classes), tensors)


def _pixels(path: str) -> np.ndarray:
    """An image's colours, (height, width, 3) in uint8."""
    try:
        with Image.open(path) as image:
            mode, pixels = image.mode, np.asarray(image.convert("RGB"))
    except Exception as error:  # Pillow has no class of its own for damaged files
        raise ConfigError(f"{path}: cannot be read as an image ({error})") from None
    if mode[0] in "IF":  # converted to RGB, values above 255 would all become 255
        raise ConfigError(f"{path}: its pixels are {mode!r}, more than 8 bits a channel; allowed: 8 bits")
    return pixels


def _decoded_once(sources: list[Path], folder: Path, decode: Callable[[], Images]) -> Images:
    """What ``decode`` returns, from the cache file beside ``folder`` if it was made of these source folders as they are
    now."""
    cache, fingerprint = folder.with_name(f"{folder.name}.decoded.safetensors"), _fingerprint(sources)
    images = _read_cache(cache, fingerprint)
    if images is None:
        images = decode()
        _write_cache(cache, fingerprint, images)
    return images


def _fingerprint(folders: list[Path]) -> str:
    """SHA-256 of the names, sizes and modification times of all files in the folders."""
    digest = hashlib.sha256()
    for top in folders:
        for folder, within, files in os.walk(top, followlinks=True):
            within.sort()  # the order in which os.walk goes on
            for file in sorted(files):
                with suppress(FileNotFoundError):  # a link that leads nowhere
                    status = (Path(folder) / file).stat()
                    entry = top.name, os.path.relpath(folder, top), file, status.st_size, status.st_mtime_ns
                    digest.update(repr(entry).encode())
    return digest.hexdigest()


def _read_cache(cache: Path, fingerprint: str) -> Images | None:
    """The images in the cache file, or None if it is absent, damaged, or made of other files."""
    try:
        with safe_open(cache, "pt") as file:
            metadata = file.metadata()
            if metadata["sources"] != fingerprint:
                return None
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no iterator)
        images = Images(tuple(json.loads(metadata["class_names"])), tensors)
        if images.checksum() != metadata["crc32"]:
            raise ValueError("its checksum differs")
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file may raise anything
        warnings.warn(f"{cache} is damaged and is made anew ({error})", stacklevel=2)
        return None
    return images


def _write_cache(cache: Path, fingerprint: str, images: Images) -> None:
    """Write the cache file as a whole or not at all; not at all where the folder is read-only or the disk full."""
    temporary = cache.with_name(f"{cache.name}.{os.getpid()}.part")
    class_names = json.dumps(images.class_names)
    metadata = {"sources": fingerprint, "class_names": class_names, "crc32": images.checksum()}
    with suppress(OSError, SafetensorError):
        save_file({name: tensor.contiguous() for name, tensor in images.tensors.items()}, temporary, metadata)
        temporary.replace(cache)
    with suppress(OSError):
        temporary.unlink()
