"""Files are whole or absent, and damage of their content is noticed."""

import errno
import random
import runpy
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from dsdlib.study.files import Damage, load_tensors, read_rows, save_tensors, write_rows, write_whole

change_header = runpy.run_path(str(Path(__file__).parents[1] / "drill.py"))["change_header"]

ROWS = [{"round": n, "accuracy": n / 7, "dataset": "digits", "teacher": None} for n in range(5)]
TENSORS = {
    "1.weight": torch.linspace(-1, 1, 60).view(6, 10),
    "2.num_batches_tracked": torch.tensor(7),
    "mask.1.weight": torch.arange(60).view(6, 10) % 3 > 0,
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    equal = (tensor.dtype == other[name].dtype and torch.equal(tensor, other[name]) for name, tensor in one.items())
    return one.keys() == other.keys() and all(equal)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "rounds.parquet"
    file.write_text("old")

    def write_half(path: Path) -> None:
        path.write_text("ne")
        raise OSError(errno.ENOSPC, "Error writing bytes")

    with pytest.raises(OSError, match=f"No space left on device: '{file}'"):
        write_whole(file, write_half)
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["rounds.parquet"]
    with file.open() as reader:
        write_whole(file, lambda path: path.write_text("new"))
        assert reader.read() == "old", "whoever reads meanwhile reads the old file to its end"
    assert file.read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["rounds.parquet"]


def save(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    save_tensors(path, tensors, "a3", 7)


def load(path: Path) -> dict[str, torch.Tensor]:
    return load_tensors(path, "a3", 7)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", ROWS)
    assert read_rows(tmp_path / "rows") == ROWS
    save(tmp_path / "tensors", TENSORS)
    assert same(load(tmp_path / "tensors"), TENSORS)
    save(tmp_path / "tensors", {"1.weight": TENSORS["1.weight"].mT})
    assert torch.equal(load(tmp_path / "tensors")["1.weight"], TENSORS["1.weight"].mT)


def test_tensors_without_an_owner_are_read_as_earlier_versions_wrote_them(tmp_path: Path) -> None:
    checksum = 0
    for name in sorted(TENSORS):
        checksum = zlib.crc32(TENSORS[name].numpy().tobytes(), zlib.crc32(name.encode(), checksum))
    safetensors.torch.save_file(TENSORS, tmp_path / "tensors", {"crc32": f"{checksum:08x}"})
    assert same(load(tmp_path / "tensors"), TENSORS)
    safetensors.torch.save_file(TENSORS, tmp_path / "tensors", {"crc32": "00000000"})
    with pytest.raises(Damage, match=r"tensors cannot be read .*checksum"):
        load(tmp_path / "tensors")


@pytest.mark.parametrize(("run", "round_"), [("a3", 8), ("a3", "rewind"), ("b4", 7)])
def test_tensors_of_another_run_or_round_are_noticed(run: str, round_: int | str, tmp_path: Path) -> None:
    save_tensors(tmp_path / "tensors", TENSORS, run, round_)
    with pytest.raises(Damage, match=rf"tensors cannot be read \(it belongs to round {round_} of run {run}\)"):
        load(tmp_path / "tensors")


def swap_names(header: dict) -> None:
    header["1.weight"], header["2.weight"] = header["2.weight"], header["1.weight"]


def change_type(header: dict) -> None:
    header["1.weight"]["dtype"] = "I32"


def change_shape(header: dict) -> None:
    header["1.weight"]["shape"] = [10, 6]


def forget_owner(header: dict) -> None:
    del header["__metadata__"]["run"], header["__metadata__"]["round"]


@pytest.mark.parametrize("change", [swap_names, change_type, change_shape, forget_owner])
def test_a_changed_description_of_tensors_is_noticed(change: Callable[[dict], None], tmp_path: Path) -> None:
    file = tmp_path / "tensors"
    save(file, {"1.weight": torch.arange(60.0).view(6, 10), "2.weight": torch.arange(60.0, 120.0).view(6, 10)})
    change_header(file, change)
    assert len(safetensors.torch.load_file(file)) == 2, "the format itself allows it"
    with pytest.raises(Damage, match=r"tensors cannot be read .*checksum"):
        load(file)


@pytest.mark.parametrize("read", [read_rows, load])
def test_what_is_no_file_is_damage(read: Callable, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "absent")
    (tmp_path / "circular").symlink_to(tmp_path / "circular")
    for name, why in (
        ("folder", "is not a file .*directory"),
        ("dangling", "is a link to an absent file"),
        ("circular", "is not a file .*symbolic links"),
    ):
        with pytest.raises(Damage, match=f"{name} {why}"):
            read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent")


@pytest.mark.parametrize(
    ("write", "read", "content"),
    [(write_rows, read_rows, ROWS), (save, load, TENSORS)],
    ids=["rows", "tensors"],
)
def test_no_flipped_bit_goes_unnoticed_that_changes_the_content(
    write: Callable, read: Callable, content: object, tmp_path: Path
) -> None:
    file, rng, noticed = tmp_path / "file", random.Random(0), 0
    write(file, content)
    written = file.read_bytes()
    for position in range(0, len(written), 3):
        flipped = bytes([written[position] ^ 1 << rng.randrange(8)])
        file.write_bytes(written[:position] + flipped + written[position + 1 :])
        try:
            found = read(file)
        except Damage as error:
            assert str(error).startswith("file cannot be read")
            noticed += 1
        else:
            assert same(found, content) if read is load else found == content
    assert noticed > len(written) / 3 / 5
