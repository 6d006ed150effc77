"""Data sets of every kind; augmentation by brute force; the data's checks before a run."""

import gzip
import hashlib
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import pad

from dsdlib import data
from dsdlib.config import ConfigError, RunConfig
from dsdlib.engine.build import check
from dsdlib.noise import confusions, labels_for

SHARED = Path(__file__).parents[2] / "shared" / "data"


CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


DIGITS = tuple("0123456789")


def test_digits_are_all_of_scikit_learns_images_normalised_by_the_training_images():
    digits = data.load("digits")
    assert (digits.input_shape, digits.classes, len(digits.train_y), len(digits.test_y)) == ((1, 8, 8), 10, 1297, 500)
    assert digits.train_x.mean().item() == pytest.approx(0, abs=1e-5)
    assert digits.train_x.std().item() == pytest.approx(1, abs=1e-5)
    images = torch.cat([digits.train_x, digits.test_x]).flatten(1)
    assert len(images.unique(dim=0)) == 1797


def image_folder(root, classes=("cat", "dog"), size=(6, 5), count=3):
    """PNGs whose red value tells the part, the class and the number."""
    for p, part in enumerate(("train", "test")):
        for c, name in enumerate(classes):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", size, (100 * p + 10 * c + i, 0, 255)).save(root / part / name / f"{c + 2 * i:03}.png")
    return root


def test_an_image_folder_is_read_in_the_order_of_its_file_names_and_normalised(tmp_path, monkeypatch):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    image_folder(tmp_path / "pets")
    pets = data.load("folder:pets")
    assert pets.class_names == ("cat", "dog")
    assert pets.input_shape == (3, 5, 6)
    assert pets.train_y.tolist() == pets.test_y.tolist() == [0, 1, 0, 1, 0, 1]
    red = pets.train_x[:, 0, 2, 2] * 0.229 + 0.485
    assert (red * 255).round().tolist() == [0, 10, 1, 11, 2, 12]
    assert (pets.test_x[:, 2] * 0.225 + 0.406).tolist()[0][0][0] == pytest.approx(1)
    assert ((pets.test_x[:, 0, 0, 0] * 0.229 + 0.485) * 255).round().tolist() == [100, 110, 101, 111, 102, 112]


def test_an_image_folder_with_faults_is_refused_and_the_fault_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    image_folder(tmp_path / "sizes")
    Image.new("RGB", (7, 5)).save(tmp_path / "sizes" / "test" / "dog" / "odd.png")
    with pytest.raises(ConfigError, match=r"odd\.png: \(5, 7\) pixels"):
        data.load("folder:sizes")
    (image_folder(tmp_path / "classes") / "train" / "dog").rename(tmp_path / "classes" / "train" / "wolf")
    with pytest.raises(ConfigError, match=r"\['dog', 'wolf'\] are in only one"):
        data.load("folder:classes")
    (tmp_path / "half" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"no folder .*half/test"):
        data.load("folder:half")
    (tmp_path / "half" / "test" / "cat").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"folder:half.*cat"):
        data.load("folder:half")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100", "flowers102"])
def test_absent_data_says_where_it_was_looked_for_and_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        data.load(name)
    assert str(tmp_path) in str(caught.value)
    assert f"python -m dsdlib.data {name}" in str(caught.value)
    with pytest.raises(ConfigError, match="dataset = 'cifar11': unknown; allowed: digits, mnist"):
        data.load("cifar11")


def test_superclasses_are_read_from_cifar100s_own_file(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(20), 5))
    fine = rng.permutation(np.repeat(np.arange(100), 2))
    (tmp_path / "cifar-100-python").mkdir()
    with (tmp_path / "cifar-100-python" / "train").open("wb") as file:
        pickle.dump({"fine_labels": fine.tolist(), "coarse_labels": truth[fine].tolist()}, file)
    superclass = data._superclasses(tmp_path)
    assert (superclass == truth).all()
    goes = confusions(tuple(map(str, range(100))), superclass)
    assert sorted(goes) == sorted(goes.values()) == list(range(100))
    assert all(truth[a] == truth[b] and a != b for a, b in goes.items())


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
    )
    monkeypatch.syspath_prepend(tmp_path)
    good = data.load("their_data:good")
    assert (good.classes, good.input_shape) == (3, (4,))
    assert (good.train_x.dtype, good.train_y.dtype) == (torch.float32, torch.int64)
    refused = {"three": "four tensors", "uneven": "shapes", "negative": "whole numbers from 0"}
    refused |= {"halves": "whole numbers from 0", "infinite": "finite", "empty": "0 test inputs"}
    for name, message in refused.items():
        with pytest.raises(ConfigError, match=f"their_data:{name}.*{message}"):
            data.load(f"their_data:{name}")


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


MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}


@pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason="needs MNIST in ../shared/data beside the clone")
def test_real_mnist(tmp_path, monkeypatch):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, checksum in MD5.items():
        content = gzip.decompress((SHARED / "MNIST" / "raw" / f"{name}.gz").read_bytes())
        assert hashlib.md5(content).hexdigest() == checksum
        (raw / name).write_bytes(content)
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    mnist = data.load("mnist")
    assert (mnist.train_x.shape, mnist.test_x.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert mnist.class_names == DIGITS
    assert mnist.train_y.bincount().tolist()[:3] == [5923, 6742, 5958]
    assert mnist.train_x.mean().item() == pytest.approx(0, abs=1e-3)
    assert mnist.train_x.std().item() == pytest.approx(1, abs=1e-3)
    assert (mnist.train_x[0, 0] * 0.3081 + 0.1307).mul(255).round().byte().numpy().tobytes() == (
        (raw / "train-images-idx3-ubyte").read_bytes()[16 : 16 + 784]
    )
    data._load.cache_clear()  # not to keep it in memory


@pytest.mark.skipif(not (SHARED / "cifar10-jpeg.tar.xz").is_file(), reason="needs CIFAR-10 as JPEG in ../shared/data")
def test_the_real_jpeg_copy_of_cifar10_in_its_original_order(tmp_path, monkeypatch):
    with tarfile.open(SHARED / "cifar10-jpeg.tar.xz") as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and int(Path(parts[-1]).stem) < (300 if parts[0] == "train" else 20):
                archive.extract(member, tmp_path / "cifar10-jpeg", filter="data")
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    cifar = data.load("folder:cifar10-jpeg")
    assert cifar.class_names == CIFAR10
    assert (cifar.train_x.shape, cifar.test_x.shape) == ((300, 3, 32, 32), (200, 3, 32, 32))
    with np.load(SHARED / "cifar10n-human-labels.npz") as people:
        assert (cifar.train_y.numpy() == people["clean_label"][:300]).all()
        np.savez(tmp_path / "people.npz", **{name: people[name][:300] for name in people.files})
        config = RunConfig(noise_kind="human", noise_labels="people.npz:worse_label", validation_fraction=0)
        labels = labels_for(config, cifar)
        assert (labels.train_labels.numpy() == people["worse_label"][:300]).all()
        assert (people["worse_label"] != people["clean_label"]).mean() == pytest.approx(0.402, abs=5e-4)
    assert labels.corrupted.double().mean().item() == pytest.approx(0.402, abs=0.1)
    assert len(confusions(cifar.class_names, cifar.superclass)) == 5
