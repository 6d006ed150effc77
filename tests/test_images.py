"""Image folders and torchvision's data sets, real ones where they are at hand; the cache of decoded images."""

import gzip
import hashlib
import os
import pickle
import tarfile
import warnings
import zlib
from pathlib import Path
from struct import pack

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dsdlib import data, images
from dsdlib.config import ConfigError, RunConfig
from dsdlib.noise import confusions, labels_for

SHARED = Path(__file__).parents[2] / "shared" / "data"
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DIGITS = tuple("0123456789")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty data folder."""
    monkeypatch.setenv("DSDLIB_DATA", str(tmp_path))
    yield tmp_path
    data._load.cache_clear()  # not to keep real data in memory


def load(name):
    """The data set, as another process would load it."""
    data._load.cache_clear()
    return data.load(name)


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


def png(path, pixels, bits):
    """Write colours (height, width, 3) as a PNG of 8 or 16 bits a channel, by the format's specification."""

    def chunk(kind, content):
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    height, width, _ = pixels.shape
    rows = [b"\0" + row.astype(f">u{bits // 8}").tobytes() for row in pixels]
    header = pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"".join(rows))), chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def test_test_images_of_another_size_than_the_training_images_are_refused(folder):
    root = image_folder(folder / "sizes")
    for path in root.glob("test/*/*.png"):
        Image.new("RGB", (5, 6)).save(path)
    with pytest.raises(ConfigError, match=r"test.*cat.*000\.png: \(6, 5\) pixels, but .*train.*000\.png has \(5, 6\)"):
        load("folder:sizes")


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_images_of_more_than_8_bits_a_channel_are_refused(mode, folder):
    odd = image_folder(folder / "deep") / "train" / "dog" / "900.tiff"
    Image.fromarray(np.full((5, 6), 700, {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])).save(odd)
    assert Image.open(odd).mode == mode
    with pytest.raises(ConfigError, match=rf"900\.tiff: its pixels are '{mode}', more than 8 bits"):
        load("folder:deep")


@pytest.mark.parametrize("bits", [8, 16])
def test_colours_of_8_or_16_bits_are_read_right(bits, folder):
    path = image_folder(folder / "colours") / "train" / "cat" / "000.png"
    pixels = np.random.default_rng(0).integers(0, 256, (5, 6, 3))
    png(path, pixels * 2 ** (bits - 8) + (bits == 16) * 99, bits)
    found = images.read_folder("folder:colours", folder / "colours").tensors["train_x"][0]
    assert (found.numpy() == pixels).all()


def test_grey_and_transparent_images_are_read_as_colours(folder):
    root = image_folder(folder / "modes", count=4)
    for number, (mode, colour) in enumerate({"L": 7, "LA": (7, 9), "RGBA": (7, 8, 9, 0), "P": 0}.items()):
        Image.new(mode, (6, 5), colour).save(root / "train" / "cat" / f"{2 * number:03}.png")
    found = images.read_folder("folder:modes", root).tensors["train_x"][:, 0, 0].tolist()
    assert found[0] == found[2] == [7, 7, 7] and found[4] == [7, 8, 9] and found[6] == [0, 0, 0]


@pytest.mark.parametrize("content", [b"", b"not an image", "cut", "tail lost"])
def test_an_image_that_cannot_be_read_is_named(content, folder):
    path = image_folder(folder / "pets", size=(60, 50)) / "test" / "cat" / "002.png"
    whole = path.read_bytes()
    cut = {"cut": whole[:30], "tail lost": whole[: len(whole) // 2]}
    path.write_bytes(cut.get(content, content))
    with pytest.raises(ConfigError, match=r"test.*cat.*002\.png: cannot be read as an image"):
        load("folder:pets")
    assert not (folder / "pets.decoded.safetensors").exists()


def same(one, other):
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("train_x", "train_y", "test_x", "test_y")]
    return one.class_names == other.class_names and all(torch.equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.fixture
def decoded(monkeypatch):
    """The paths of the images that are decoded from now on."""
    paths, real = [], images._pixels
    monkeypatch.setattr(images, "_pixels", lambda path: [paths.append(path), real(path)][1])
    return paths


def test_an_image_folder_is_decoded_once_for_all_processes(folder, decoded):
    root = image_folder(folder / "deep" / "pets")
    first = load("folder:deep/pets")
    assert len(decoded) == 12
    assert set(os.listdir(root)) == {"train", "test"}
    assert set(os.listdir(folder / "deep")) == {"pets", "pets.decoded.safetensors"}
    assert same(load("folder:deep/pets"), first) and first.checksum() == load("folder:deep/pets").checksum()
    assert len(decoded) == 12


def test_the_cache_is_made_anew_when_a_files_name_size_or_time_changes_or_one_comes_or_goes(folder, decoded):
    root = image_folder(folder / "pets")
    one = root / "train" / "dog" / "001.png"

    def touch():
        os.utime(one, ns=(0, one.stat().st_mtime_ns + 1))

    def recolour():
        time = one.stat().st_mtime_ns
        Image.effect_noise((6, 5), 50).convert("RGB").save(one)
        os.utime(one, ns=(time, time))

    def rename():
        one.rename(one.with_name("002.png"))

    def add():
        Image.new("RGB", (6, 5), (200, 0, 0)).save(root / "test" / "cat" / "new.png")

    def remove():
        (root / "test" / "dog" / "001.png").unlink()

    load("folder:pets")
    for change in (touch, recolour, rename, add, remove):
        decoded.clear()
        change()
        changed = load("folder:pets")
        assert len(decoded) == 12 + (change is add), change
        assert same(load("folder:pets"), changed)
        assert len(decoded) == 12 + (change is add)
    assert len(changed.train_y) == 6 and len(changed.test_y) == 6
    (root / "notes.txt").write_text("beside the parts, this is no image")
    load("folder:pets")
    assert len(decoded) == 12


def test_a_damaged_cache_is_decoded_anew_with_a_warning(folder, decoded):
    image_folder(folder / "pets")
    first, cache = load("folder:pets"), folder / "pets.decoded.safetensors"
    whole = cache.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [b"", whole[:5], whole[:-1], whole + b"x", b"rubbish" * 99]
    for place in rng.integers(0, len(whole), 150).tolist():
        damaged.append(whole[:place] + bytes([whole[place] ^ 1 << int(rng.integers(8))]) + whole[place + 1 :])
    warned = 0
    for content in damaged:
        decoded.clear()
        cache.write_bytes(content)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert same(load("folder:pets"), first)
        assert len(decoded) == 12
        warned += any("pets.decoded.safetensors is damaged and is made anew" in str(w.message) for w in caught)
        assert same(load("folder:pets"), first) and len(decoded) == 12
    assert warned > len(damaged) / 2  # the others were damaged where the cache says what it was made of
    cache.write_bytes(whole[:99])
    with pytest.warns(UserWarning, match="is damaged and is made anew"):
        load("folder:pets")


@pytest.mark.parametrize("where", ["writing", "renaming"])
def test_where_no_cache_can_be_written_images_are_just_decoded(where, folder, decoded, monkeypatch):
    image_folder(folder / "pets")
    if where == "writing":

        def full(tensors, path, metadata):
            Path(path).write_bytes(b"half")
            raise images.SafetensorError("I/O error: No space left on device (os error 28)")

        monkeypatch.setattr(images, "save_file", full)
    else:
        (folder / "pets.decoded.safetensors" / "in the way").mkdir(parents=True)
        monkeypatch.setattr(images, "_read_cache", lambda cache, fingerprint: None)
    assert same(load("folder:pets"), load("folder:pets"))
    assert len(decoded) == 24
    assert not list(folder.glob("*.part"))


def tiny_mnist(root, n):
    """Files in MNIST's own format with random images."""
    rng = np.random.default_rng(n)
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    for part, size in (("train", n), ("t10k", 5)):
        pixels, labels = rng.integers(0, 256, (size, 28, 28), np.uint8), np.arange(size, dtype=np.uint8) % 10
        (raw / f"{part}-images-idx3-ubyte").write_bytes(pack(">4I", 0x803, size, 28, 28) + pixels.tobytes())
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(pack(">2I", 0x801, size) + labels.tobytes())


def test_torchvisions_data_sets_are_decoded_once_too(folder, monkeypatch):
    tiny_mnist(folder, 20)
    first, cache = load("mnist"), folder / "MNIST.decoded.safetensors"
    assert set(load_file(cache)) == {"train_x", "train_y", "test_x", "test_y"}
    with monkeypatch.context() as patch:
        patch.setattr(images, "_torchvision_parts", lambda *args: pytest.fail("decoded again"))
        again = load("mnist")
    assert same(first, again) and len(first.train_y) == 20
    pixels = (first.train_x[0, 0] * 0.3081 + 0.1307).mul(255).round().byte().numpy().tobytes()
    assert pixels == (folder / "MNIST" / "raw" / "train-images-idx3-ubyte").read_bytes()[16 : 16 + 784]
    tiny_mnist(folder, 30)
    assert len(load("mnist").train_y) == 30


def test_the_cache_keeps_superclasses_and_types(folder, monkeypatch):
    tensors = {f"{part}_x": torch.randint(256, (9, 4, 4, 3), dtype=torch.uint8) for part in ("train", "test")}
    tensors |= {f"{part}_y": torch.arange(9) for part in ("train", "test")}
    made = images.Images(tuple("abcdefghi"), tensors | {"superclass": torch.arange(9) // 3})
    (folder / "cifar-100-python").mkdir()
    (folder / "cifar-100-python" / "train").write_bytes(b"whatever")
    monkeypatch.setattr(images, "_decode_torchvision", lambda name, root: made)
    one, other = load("cifar100"), load("cifar100")
    assert same(one, other) and other.superclass.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_superclasses_are_read_from_cifar100s_own_file(tmp_path):
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(20), 5))
    fine = rng.permutation(np.repeat(np.arange(100), 2))
    (tmp_path / "cifar-100-python").mkdir()
    with (tmp_path / "cifar-100-python" / "train").open("wb") as file:
        pickle.dump({"fine_labels": fine.tolist(), "coarse_labels": truth[fine].tolist()}, file)
    superclass = images._superclasses(tmp_path)
    assert (superclass == truth).all()
    goes = confusions(tuple(map(str, range(100))), superclass)
    assert sorted(goes) == sorted(goes.values()) == list(range(100))
    assert all(truth[a] == truth[b] and a != b for a, b in goes.items())


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
