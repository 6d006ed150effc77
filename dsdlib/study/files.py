"""The store: a folder a run, named by its key, written atomically; read as one tidy table.

``results/<key>/`` holds ``config.json``; ``rounds.parquet``, a row a round; ``provenance.json``; where it was asked
for, ``history.parquet``, a row an epoch; and the weights and masks of some rounds, ``round_007.safetensors``: always
the dense round, the best by validation accuracy and the last (from which a stopped run goes on). What was measured on a
run afterwards lies there too (``path-…``, ``slices-…``). A file is there whole or not at all, whenever the process is
killed. ``results/.again`` is where complete runs are trained once more, for something that was not kept.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open
from torch import Tensor


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """As parquet, with checksums; the columns' names and types, which have none, are told twice."""
    table = pa.table({name: [row.get(name) for row in rows] for name in rows[-1]})
    table = table.replace_schema_metadata({"columns": json.dumps(_columns(table))})
    write_whole(path, lambda temporary: pq.write_table(table, temporary, write_page_checksum=True))


def _columns(table: pa.Table) -> dict[str, str]:
    return {field.name: str(field.type) for field in table.schema}


def read_rows(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path, page_checksum_verification=True)
    told = (table.schema.metadata or {}).get(b"columns")
    if told is None:  # written by pandas, as runs once were
        right = [column["name"] for column in table.schema.pandas_metadata["columns"]] == table.column_names
    else:
        right = json.loads(told) == _columns(table)
    if not right:
        raise ValueError(f"{path.name} does not hold the columns that were written")
    return table.to_pylist()


def load_tensors(path: Path) -> dict[str, Tensor]:
    """A safetensors file. Raises ValueError that names it when it is damaged."""
    return reading(path, _read_tensors)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no iterator)
        if file.metadata()["crc32"] != checksum_of(tensors):
            raise ValueError("not the numbers that were written")
    return tensors


def checksum_of(tensors: dict[str, Tensor]) -> str:
    """A checksum, which the format itself lacks."""
    parts = (part for name in sorted(tensors) for part in (name.encode(), tensors[name].numpy().tobytes()))
    return f"{reduce(lambda sum_, part: zlib.crc32(part, sum_), parts, 0):08x}"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """All or nothing: into a file beside it, then renamed over it. Whoever writes holds the run's lock; what a killed
    process left half written is written over by the next."""
    temporary = path.with_name(f"{path.name}.part")
    try:
        write(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def reading(path: Path, read: Callable[[Path], Any]) -> Any:
    """``read(path)``, any failure of which names the file."""
    try:
        return read(path)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
