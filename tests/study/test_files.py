"""Files are whole or absent, and damage of their content is noticed."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dsdlib.study.files import Damage, load_tensors, read_rows, save_tensors, write_rows, write_whole

ROWS = [{"round": n, "accuracy": n / 7, "dataset": "digits", "teacher": None} for n in range(5)]
TENSORS = {
    "1.weight": torch.linspace(-1, 1, 60).view(6, 10),
    "2.num_batches_tracked": torch.tensor(7),
    "mask.1.weight": torch.arange(60).view(6, 10) % 3 > 0,
}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "rounds.parquet"
    file.write_text("old")

    def write_half(path: Path) -> None:
        path.write_text("ne")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_whole(file, write_half)
    assert file.read_text() == "old" and [path.name for path in tmp_path.iterdir()] == ["rounds.parquet"]
    with file.open() as reader:
        write_whole(file, lambda path: path.write_text("new"))
        assert reader.read() == "old", "whoever reads meanwhile reads the old file to its end"
    assert file.read_text() == "new" and [path.name for path in tmp_path.iterdir()] == ["rounds.parquet"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows", ROWS)
    assert read_rows(tmp_path / "rows") == ROWS
    save_tensors(tmp_path / "tensors", {name: tensor.mT for name, tensor in TENSORS.items() if tensor.ndim > 1})
    assert torch.equal(load_tensors(tmp_path / "tensors")["1.weight"], TENSORS["1.weight"].mT)


@pytest.mark.parametrize(
    ("write", "read", "content"),
    [(write_rows, read_rows, ROWS), (save_tensors, load_tensors, TENSORS)],
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
            assert same(found, content) if read is load_tensors else found == content
    assert noticed > len(written) / 3 / 5
