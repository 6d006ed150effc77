"""Files that are whole or absent, with checksums: rows as parquet, tensors as safetensors."""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from dsdlib.engine.rows import Row

if TYPE_CHECKING:
    from torch import Tensor


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Call ``write`` with a temporary path beside ``path``, then rename the result to ``path``.

    Whenever the process is killed, ``path`` holds the old content or the new one. The caller holds the run's lock, so
    the temporary file of a killed process is simply overwritten. Raises OSError that names ``path`` if it cannot be
    written, as on a full disk.
    """
    temporary = path.with_name(f"{path.name}.part")
    try:
        write(temporary)
        temporary.replace(path)
    except OSError as error:  # pyarrow's names no file, and Python's not always
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


class Damage(ValueError):
    """A file does not hold what was written."""


def read_whole(path: Path, parse: Callable[[bytes], Any]) -> Any:
    """Parse the content of a file. It is read at once, so that the file may be replaced meanwhile.

    Raises `Damage` that names the file if it is not a file or cannot be parsed, and FileNotFoundError if it is absent.
    Other errors of the system (no permission, too many open files, no memory) say nothing about the content and are
    raised as they are.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise Damage(f"{path.name} is a link to an absent file") from None
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    except OSError as error:
        if error.errno in (errno.EISDIR, errno.ELOOP):
            raise Damage(f"{path.name} is not a file ({error.strerror})") from None
        raise
    try:
        return parse(content)
    except MemoryError:
        raise
    except Exception as error:
        raise Damage(f"{path.name} cannot be read ({error})") from error


def write_rows(path: Path, rows: list[Row]) -> None:
    """Write rows as parquet with page checksums. The columns are those of the last row.

    Parquet has no checksum of the columns' names and types, so these are stored a second time, as metadata.
    """
    table = pa.table({name: [row.get(name) for row in rows] for name in rows[-1]})
    table = table.replace_schema_metadata({"columns": json.dumps(_columns(table))})
    write_whole(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def _columns(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def read_rows(path: Path) -> list[Row]:
    """Rows that `write_rows` wrote. Raises what `read_whole` does."""
    return read_whole(path, _parse_rows)


def _parse_rows(content: bytes) -> list[Row]:
    table = pq.read_table(pa.BufferReader(content), page_checksum_verification=True)
    stored = (table.schema.metadata or {}).get(b"columns")
    if stored is None:  # the file was written by pandas, as early versions did
        valid = [column["name"] for column in table.schema.pandas_metadata["columns"]] == table.column_names
    else:
        valid = json.loads(stored) == _columns(table)
    if not valid:
        raise ValueError("it does not hold the columns that were written")
    return table.to_pylist()


def save_tensors(path: Path, tensors: dict[str, Tensor], run: str, round_: int | str) -> None:
    """Write tensors of a run (its key) and round as safetensors.

    The file has a checksum, which the format itself lacks. It covers the run, the round, and the tensors' names, types,
    shapes and numbers.
    """
    import safetensors.torch

    contiguous = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    owner = {"run": run, "round": str(round_)}
    content = safetensors.torch.save(contiguous, owner | {"crc32": _checksum(contiguous, owner)})
    write_whole(path, lambda temporary: temporary.write_bytes(content))


def load_tensors(path: Path, run: str, round_: int | str) -> dict[str, Tensor]:
    """Tensors that `save_tensors` wrote for that run and round. Raises what `read_whole` does."""
    return read_whole(path, lambda content: _parse_tensors(content, run, str(round_)))


def _parse_tensors(content: bytes, run: str, round_: str) -> dict[str, Tensor]:
    import safetensors.torch  # which imports torch: here, as a table of finished runs does not need it

    tensors, length = safetensors.torch.load(content), int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    owner = {name: metadata[name] for name in ("run", "round") if name in metadata}  # earlier versions wrote none
    if metadata["crc32"] != _checksum(tensors, owner):
        raise ValueError("its tensors do not have the stored checksum")
    if owner and owner != {"run": run, "round": round_}:
        raise ValueError(f"it belongs to round {owner['round']} of run {owner['run']}")
    return tensors


def _checksum(tensors: dict[str, Tensor], owner: dict[str, str]) -> str:
    checksum = zlib.crc32(json.dumps(owner, sort_keys=True).encode()) if owner else 0
    for name in sorted(tensors):
        described = f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}" if owner else name
        checksum = zlib.crc32(tensors[name].numpy().tobytes(), zlib.crc32(described.encode(), checksum))
    return f"{checksum:08x}"
