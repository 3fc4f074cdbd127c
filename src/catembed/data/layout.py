"""What a file of encoded rows holds: its header and the names of its tensors, as docs/format.md specifies them.

Rule: what is read is not trusted: columns are there in full, of the types and lengths that the header says, or it is a
``FormatError``. Offsets and ids are checked where they are used, and all at once if everything is to be verified, since
opening must not take time for each row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from catembed.data.batch import IDS
from catembed.errors import FormatError, TableError
from catembed.functional import Jagged
from catembed.nn import EncodedColumn, Encoder

__all__ = ["CONTENT", "Stored", "check_values", "check_vocabularies", "header_of", "stored", "tensor_names"]

CONTENT = "EncodedRows"
_KEYS = {"content", "rows", "columns", "booleans"}
_COLUMN_KEYS = {"num_embeddings", "bags", "separator", "fingerprint"}
_CHECKED = 1 << 22  # offsets at a time
_IDS, _OTHERS, _VALUES, _OFFSETS = "ids.", "others.", ".values", ".offsets"


class Stored(NamedTuple):
    """The columns of a file."""

    rows: int
    ids: dict[str, Tensor | Jagged]
    others: dict[str, Tensor]
    booleans: frozenset[str]  # of the others: stored as bytes


def tensor_names(encoder: Encoder, others: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The tensor of each column, of bags the values and the offsets; others have theirs under ``others.`` and so on.

    Raises:
        TableError: columns whose tensors would have one name.
    """
    names = {f"{_IDS}{name}": _names(name, column.bags) for name, column in encoder.items()}
    names |= {f"{_OTHERS}{name}": (f"{_OTHERS}{name}",) for name in others}
    owners: dict[str, str] = {}
    for column, tensors in names.items():
        for tensor in tensors:
            if tensor in owners:
                raise TableError(f"columns {owners[tensor]!r} and {column!r} both make a tensor {tensor!r}; rename one")
            owners[tensor] = column
    return names


def _names(name: str, bags: bool) -> tuple[str, ...]:
    return (f"{_IDS}{name}{_VALUES}", f"{_IDS}{name}{_OFFSETS}") if bags else (f"{_IDS}{name}",)


def header_of(encoder: Encoder, rows: int, booleans: Sequence[str]) -> dict[str, Any]:
    """The header: which vocabulary each column was encoded with."""
    columns = {name: _header_of_column(column) for name, column in encoder.items()}
    return {"content": CONTENT, "rows": rows, "columns": columns, "booleans": sorted(booleans)}


def _header_of_column(column: EncodedColumn) -> dict[str, Any]:
    fingerprint = None if column.vocabulary is None else column.vocabulary.fingerprint
    facts = {"num_embeddings": column.num_embeddings, "bags": column.bags, "separator": column.separator}
    return {**facts, "fingerprint": fingerprint}


# Reading, which trusts nothing


def stored(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Stored:
    """The columns of a file that was read; raises ``FormatError`` on anything that is not laid out as specified."""
    if header.get("content") != CONTENT:
        raise FormatError(
            f"the file holds no encoded rows but {header.get('content')!r:.200}; catembed.load may read it"
        )
    if set(header) != _KEYS:
        raise FormatError(f"the header of encoded rows must have {sorted(_KEYS)} (got {sorted(header)})")
    rows, columns, booleans = header["rows"], header["columns"], header["booleans"]
    if type(rows) is not int or rows < 0 or not isinstance(columns, dict) or not _are_texts(booleans):
        raise FormatError(
            "the header of encoded rows must have a number of rows, columns by name and names of booleans"
        )
    left = dict(tensors)
    ids = {name: _stored_ids(name, entry, rows, left) for name, entry in columns.items()}
    others: dict[str, Tensor] = {}
    for name, tensor in left.items():
        if not name.startswith(_OTHERS):
            raise FormatError(f"encoded rows have no tensor {name!r}")
        column = name.removeprefix(_OTHERS)
        if column == IDS or column in ids:
            raise FormatError(f"tensor {name!r} has the name of {'the ids' if column == IDS else 'a column of ids'}")
        others[column] = tensor
        if not tensor.dim() or len(tensor) != rows:
            raise FormatError(f"tensor {name!r} must have {rows:,} rows (got shape {tuple(tensor.shape)})")
    for name in booleans:
        if name not in others or others[name].dtype != torch.uint8:
            raise FormatError(f"column {name!r} is said to hold booleans, but there is no tensor of uint8 for it")
    return Stored(rows, ids, others, frozenset(booleans))


def _are_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _stored_ids(name: str, entry: Any, rows: int, left: dict[str, Tensor]) -> Tensor | Jagged:
    sound = isinstance(entry, dict) and set(entry) == _COLUMN_KEYS and type(entry["bags"]) is bool
    sound = sound and all(isinstance(entry[key], str | None) for key in ("separator", "fingerprint"))
    if not sound or type(entry["num_embeddings"]) is not int or entry["num_embeddings"] < 0:
        raise FormatError(f"column {name!r} must have {sorted(_COLUMN_KEYS)} in the header (got {entry!r:.200})")
    found = [left.pop(each, None) for each in _names(name, entry["bags"])]
    ids = found[0]
    if ids is None or ids.dtype not in (torch.int32, torch.int64) or not ids.dim():
        raise FormatError(f"column {name!r} needs ids of int32 or int64 (got {None if ids is None else ids.dtype})")
    if not entry["bags"]:
        if len(ids) != rows:
            raise FormatError(f"column {name!r} must have {rows:,} ids (got shape {tuple(ids.shape)})")
        return ids
    offsets = found[1]
    if offsets is None or offsets.dtype != torch.int64 or offsets.shape != (rows + 1,) or ids.dim() != 1:
        raise FormatError(f"column {name!r} has bags, so it needs flat ids and {rows + 1:,} offsets of int64")
    if int(offsets[0]) != 0 or int(offsets[-1]) != len(ids):
        raise FormatError(f"the offsets of column {name!r} must run from 0 to the number of ids, {len(ids):,}")
    return Jagged(ids, offsets)


def check_values(header: Mapping[str, Any], columns: Stored) -> None:
    """Raise ``FormatError`` where offsets decrease or ids are outside their table; reads all of them."""
    for name, column in columns.ids.items():
        values = column
        if isinstance(column, Jagged):
            values = column.values
            for begin in range(0, columns.rows, _CHECKED):
                part = column.offsets[begin : begin + _CHECKED + 1]
                if bool((part[1:] < part[:-1]).any()):
                    raise FormatError(f"the offsets of column {name!r} are damaged: they decrease")
        assert isinstance(values, Tensor)
        if values.numel():
            low, high = (int(bound) for bound in torch.aminmax(values))
            count = header["columns"][name]["num_embeddings"]
            if low < 0 or high >= count:
                raise FormatError(f"column {name!r} has the id {low if low < 0 else high}, of {count:,} ids")


def check_vocabularies(header: Mapping[str, Any], encoder: Encoder) -> None:
    """Raise ``FormatError``, naming the column, where rows were encoded for another collection than this one."""
    columns = header["columns"]
    if set(columns) != set(encoder.names):
        told = f"{', '.join(map(repr, columns))}, the collection {', '.join(map(repr, encoder.names))}"
        raise FormatError(f"the file has the columns {told}")
    for name, column in encoder.items():
        wanted = _header_of_column(column)
        for key, was in columns[name].items():
            if was == wanted[key] or (key == "num_embeddings" and wanted["fingerprint"] is not None):
                continue
            if key == "fingerprint":
                raise FormatError(
                    f"column {name!r} was encoded with another vocabulary than the collection's (its fingerprint is "
                    f"{was!s:.16}…, the collection's {wanted[key]!s:.16}…): encode the table again"
                )
            raise FormatError(f"column {name!r} was encoded with {key}={was!r}, the collection has {wanted[key]!r}")
