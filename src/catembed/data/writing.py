"""``write_ids``: a table encoded up front, into one file that training reads by mapping.

How: batches are encoded one by one, each column is appended to a file of its own that has no name, and at the end these
become the tensors of one file, which takes its name when it is whole (``storage.atomic``). So memory holds one batch,
and a crash leaves what was there before; the disk needs room for the ids twice. A process that is killed while that one
file is written and synced, at the end, may leave it behind beside it, as all saving may (``.catembed-*.tmp``).
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from catembed.data.batch import IDS, encode_batch, encoder_of, names_of, rows_in
from catembed.data.layout import header_of, tensor_names
from catembed.data.source import tables_of, told_where
from catembed.errors import OutOfRangeError, TableError
from catembed.functional import Jagged
from catembed.nn import EmbeddingCollection, EncodedColumn, Encoder
from catembed.storage import write_file
from catembed.vocabulary import CrossVocabulary

__all__ = ["write_ids"]


def write_ids(
    path: str | os.PathLike[str],
    collection: EmbeddingCollection | Encoder,
    source: Any,
    *,
    others: Sequence[str] = (),
    batch_size: int = 65_536,
) -> None:
    """Encode a table into one ``.safetensors`` file of ids, for ``EncodedDataset``; a crash leaves the old one.

    Args:
        path: the file to write; one that is there is replaced when the new one is whole.
        collection: its vocabularies encode.
        source: a table (a DataFrame, an Arrow table, a dict of columns); or a list of rows, each a dict; or tables one
            after the other: an iterator, such as ``pyarrow.dataset`` and Arrow's readers give, or a list of DataFrames
            or Arrow tables; or the paths of Parquet, CSV or Arrow files, as ``Vocabulary.fit`` takes them. It may be
            larger than memory, and have columns that are not read.
        others: the columns to keep besides: targets, numbers. They keep their dtype.
        batch_size: how many rows are encoded at a time.

    Raises:
        TableError: columns that are missing, or of different lengths; others that are no numbers; no rows at all.
        UnseenCategoryError: as each column's vocabulary raises it, with the column's name.
        OutOfRangeError: ids, where the source holds ids, outside their table.
        VocabularyError: values of another kind than the categories; a file that cannot be read.
        OSError: the file cannot be written; the old one is as it was.

    >>> import tempfile
    >>> from catembed import CategoryEmbedding
    >>> collection = EmbeddingCollection({"origin": CategoryEmbedding(["JFK", "SFO"], 4)})
    >>> path = tempfile.mkdtemp() + "/flights.safetensors"
    >>> write_ids(path, collection, {"origin": ["SFO", "JFK"], "late": [True, False]}, others=["late"])
    >>> from catembed.data import EncodedDataset
    >>> EncodedDataset(path, collection)[0]
    {'ids': {'origin': tensor(1)}, 'late': tensor(True)}
    """
    encoder = encoder_of(collection)
    names = names_of(encoder, others)
    if type(batch_size) is not int or batch_size < 1:
        raise ValueError(f"batch_size must be a positive integer (got {batch_size!r})")
    tensors = tensor_names(encoder, names)
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    with contextlib.ExitStack() as open_files:
        spills = {
            tensor: open_files.enter_context(_Spill(column, os.path.dirname(target)))
            for column, parts in tensors.items()
            for tensor in parts
        }
        rows = 0
        for table in tables_of(source, encoder.inputs, names, _text(encoder), batch_size):
            with told_where(rows):
                batch = encode_batch(encoder, names, table)
                for name, column in encoder.items():
                    _append(name, batch[IDS][name], column, rows, [spills[each] for each in tensors[f"ids.{name}"]])
                for name in names:
                    spills[f"others.{name}"].append(batch[name], rows)
            rows += rows_in("", next(iter(batch[IDS].values())))
        if not rows:
            raise TableError("there are no rows to write")
        booleans = [name for name in names if spills[f"others.{name}"].dtype == torch.bool]
        write_file(path, {name: spill.tensor() for name, spill in spills.items()}, header_of(encoder, rows, booleans))


def _text(encoder: Encoder) -> tuple[str, ...]:
    """The columns that hold text, whatever a CSV makes them look like."""
    names: set[str] = set()
    for name, column in encoder.items():
        if isinstance(column.vocabulary, CrossVocabulary):
            kinds = zip(column.vocabulary.columns, column.vocabulary.kinds, strict=True)
            names |= {source for source, kind in kinds if kind == "string"}
        elif column.vocabulary is not None and column.vocabulary.kind == "string":
            names.add(name)
    return tuple(name for name in encoder.inputs if name in names)


def _append(name: str, ids: Tensor | Jagged, column: EncodedColumn, row: int, spills: Sequence[_Spill]) -> None:
    """The ids of one batch, in the smallest integers that hold every id of the table."""
    if isinstance(ids, Jagged) != column.bags:
        raise TableError(f"column {name!r} has {'no bags' if column.bags else 'bags'}, unlike its layer")
    values = ids.values if isinstance(ids, Jagged) else ids
    if values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool:
        raise TypeError(f"column {name!r} holds {values.dtype}, which are no ids")
    unsigned = values.dtype == torch.uint64
    values = values.view(torch.int64) if unsigned else values.long()  # torch compares no wide unsigned integers
    if values.numel():
        low, high = (int(bound) for bound in torch.aminmax(values))
        if low < 0 or high >= column.num_embeddings:
            bad = high if low >= 0 else low + (1 << 64) * unsigned
            raise OutOfRangeError(
                f"index out of range in self: column {name!r} has the id {bad}, allowed are 0 to "
                f"{column.num_embeddings - 1:,}"
            )
    narrow = torch.int32 if column.num_embeddings <= 1 << 31 else torch.int64
    before = spills[0].rows
    spills[0].append(values.to(narrow), row)
    if isinstance(ids, Jagged):
        offsets = ids.offsets.long() + before
        spills[1].append(offsets if not row else offsets[1:], row)


class _Spill:
    """A column on its way to the file: batches one after the other, in a file that has no name and so never stays."""

    dtype: torch.dtype | None = None  # of the first batch, and so of all
    rows = 0

    def __init__(self, column: str, folder: str) -> None:
        self._column = column.partition(".")[2]
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".catembed-", suffix=".tmp")  # noqa: SIM115
        self._shape: tuple[int, ...] = ()

    def __enter__(self) -> _Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, values: Tensor, row: int) -> None:
        """The rows of another batch, which begins at ``row`` of the source."""
        shape = tuple(values.shape[1:])
        if self.dtype is None:
            self.dtype, self._shape = values.dtype, shape
        if values.dtype != self.dtype or shape != self._shape:
            raise TableError(
                f"column {self._column!r} holds {values.dtype} of shape {(len(values), *shape)} from row {row:,} on, "
                f"before it {self.dtype} of shape {(self.rows, *self._shape)}: give all tables the same type"
            )
        plain = values.detach().cpu().contiguous()
        if plain.numel():
            self._file.write(plain.reshape(-1).view(torch.uint8).numpy().data)
        self.rows += len(values)

    def tensor(self) -> Tensor:
        """All rows, mapped; booleans as bytes, which every reader knows."""
        self._file.flush()
        dtype = torch.uint8 if self.dtype == torch.bool else self.dtype
        size = os.fstat(self._file.fileno()).st_size
        if not size:
            return torch.empty((self.rows, *self._shape), dtype=dtype)
        # A private, writable map, because torch warns of read-only memory; nothing is written to it.
        memory = mmap.mmap(self._file.fileno(), size, access=mmap.ACCESS_COPY)
        assert dtype is not None
        return torch.frombuffer(memory, dtype=dtype).view(self.rows, *self._shape)
