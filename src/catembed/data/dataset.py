"""``EncodedDataset``: the file that ``write_ids`` wrote, as a dataset of torch's, mapped into memory.

Rules: opening reads the header, and tensors of up to 16 MiB for their checksums; nothing more, however many rows there
are. Rows are gathered from the map for whole batches at a time. A dataset that is sent to another process travels as
its path and is opened there; the file must still be the one that was opened first, as its checksums tell.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from catembed.data.batch import IDS, Batch, encoder_of
from catembed.data.layout import check_values, check_vocabularies, stored
from catembed.errors import FormatError
from catembed.functional import Jagged
from catembed.nn import EmbeddingCollection, Encoder
from catembed.storage import map_file, unpack

__all__ = ["EncodedDataset"]

# Torch gathers no unsigned integers but bytes, whose bits are those of signed ones.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


class EncodedDataset(Dataset[Batch]):
    """Rows that are encoded: ``dataset[i]`` is one, a list, a slice or a tensor of numbers gives a batch of them.

    Args:
        path: the file that ``write_ids`` wrote.
        collection: if given, the file must have been encoded with its vocabularies.
        verify: check everything, checksums, offsets and ids, which reads the whole file. Otherwise opening reads the
            header and tensors of up to 16 MiB.

    Raises:
        FormatError: a file that is truncated, damaged, or no such file; rows encoded with another vocabulary than the
            collection's, with the column's name.
        OSError: a file that cannot be opened.

    A batch is ``{"ids": {column: ids}, other column: tensor, …}``: ids are int64, those of bags a ``Jagged``.

    >>> import tempfile
    >>> from torch.utils.data import DataLoader
    >>> from catembed import CategoryEmbedding
    >>> from catembed.data import write_ids
    >>> collection = EmbeddingCollection({"origin": CategoryEmbedding(["JFK", "SFO"], 4)})
    >>> path = tempfile.mkdtemp() + "/flights.safetensors"
    >>> write_ids(path, collection, {"origin": ["SFO", "JFK", "JFK"], "late": [7, 0, 1]}, others=["late"])
    >>> dataset = EncodedDataset(path, collection)
    >>> len(dataset), dataset[[2, 0]]
    (3, {'ids': {'origin': tensor([0, 1])}, 'late': tensor([1, 7])})
    >>> for batch in DataLoader(dataset, batch_size=2, shuffle=True, collate_fn=dataset.collate):
    ...     vectors = collection(ids=batch["ids"])
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        collection: EmbeddingCollection | Encoder | None = None,
        *,
        verify: bool = False,
    ) -> None:
        self.path = os.path.abspath(path)
        memory = map_file(path)
        try:
            tensors, self._header = unpack(memory, verify=verify)
            self._stored = stored(self._header, tensors)
            if verify:
                check_values(self._header, self._stored)
            if collection is not None:
                check_vocabularies(self._header, encoder_of(collection))
        except FormatError as fact:
            raise FormatError(f"{os.fspath(path)}: {fact}") from None
        self._digest = _digest(memory)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that have ids."""
        return tuple(self._stored.ids)

    @property
    def others(self) -> tuple[str, ...]:
        """The other columns."""
        return tuple(self._stored.others)

    def __len__(self) -> int:
        """How many rows there are."""
        return self._stored.rows

    def __getitem__(self, index: Any) -> Batch:
        """One row, for an integer; a batch, for a slice, or a list or tensor of integers."""
        if isinstance(index, slice):
            rows = range(*index.indices(len(self)))
            return self._batch(torch.arange(len(rows)) * rows.step + rows.start)
        if hasattr(index, "__index__") and not getattr(index, "ndim", 0):
            return self._row(self._batch(torch.tensor([self._checked(index.__index__())])))
        return self._gathered(index)

    def __getitems__(self, indices: Any) -> Batch:
        """A batch; what a ``DataLoader`` asks for, to give it to ``collate``."""
        return _Gathered(self._gathered(indices))

    def _gathered(self, indices: Any) -> Batch:
        index = torch.as_tensor(indices)
        if index.dim() != 1 or (len(index) and (index.is_floating_point() or index.dtype == torch.bool)):
            raise TypeError(f"rows are asked for by their numbers (got {index.dtype} of shape {tuple(index.shape)})")
        index = index.long()
        if index.numel():
            low, high = (int(bound) for bound in torch.aminmax(index))
            self._checked(high)
            self._checked(low)
            if low < 0:
                index = torch.where(index < 0, index + len(self), index)
        return self._batch(index)

    def _checked(self, at: int) -> int:
        if not -len(self) <= at < len(self):
            raise IndexError(f"there is no row {at}: the dataset has {len(self):,}")
        return at % len(self)

    def _batch(self, index: Tensor) -> Batch:
        ids = {name: self._ids(name, column, index) for name, column in self._stored.ids.items()}
        return {IDS: ids, **{name: self._numbers(name, index) for name in self._stored.others}}

    def _ids(self, name: str, column: Tensor | Jagged, index: Tensor) -> Tensor | Jagged:
        if isinstance(column, Tensor):
            return column.index_select(0, index).long()
        starts, ends = column.offsets.index_select(0, index), column.offsets.index_select(0, index + 1)
        lengths = ends - starts
        if len(index) and (
            bool((lengths < 0).any()) or bool((starts < 0).any()) or int(ends.max()) > len(column.values)
        ):
            raise FormatError(f"{self.path}: the offsets of column {name!r} are damaged")
        offsets = torch.nn.functional.pad(lengths.cumsum(0), (1, 0))
        places = torch.repeat_interleave(starts - offsets[:-1], lengths) + torch.arange(int(offsets[-1]))
        return Jagged(column.values.index_select(0, places).long(), offsets)

    def _numbers(self, name: str, index: Tensor) -> Tensor:
        column = self._stored.others[name]
        signed = _SIGNED.get(column.dtype)
        if signed is not None:
            return column.view(signed).index_select(0, index).view(column.dtype)
        found = column.index_select(0, index)
        return found != 0 if name in self._stored.booleans else found

    def batches(
        self, batch_size: int, *, shuffle: bool = True, seed: int | None = None, drop_last: bool = False
    ) -> Iterator[Batch]:
        """All rows once, in batches: several times faster than a ``DataLoader``, which handles each row's number alone.

        ``seed`` tells the order, such as the epoch's number; without one it comes from torch's own generator.

        >>> import tempfile
        >>> from catembed import CategoryEmbedding
        >>> from catembed.data import write_ids
        >>> path = tempfile.mkdtemp() + "/fruit.safetensors"
        >>> collection = EmbeddingCollection({"fruit": CategoryEmbedding(["apple", "banana"], 2)})
        >>> write_ids(path, collection, {"fruit": ["banana", "apple", "banana"]})
        >>> [len(batch["ids"]["fruit"]) for batch in EncodedDataset(path).batches(2, seed=0)]
        [2, 1]
        """
        if type(batch_size) is not int or batch_size < 1:
            raise ValueError(f"batch_size must be a positive integer (got {batch_size!r})")
        generator = None if seed is None else torch.Generator().manual_seed(operator.index(seed))
        return self._epoch(batch_size, shuffle, generator, drop_last)

    def _epoch(
        self, batch_size: int, shuffle: bool, generator: torch.Generator | None, drop_last: bool
    ) -> Iterator[Batch]:
        rows = len(self)
        order = torch.randperm(rows, generator=generator) if shuffle else None
        for begin in range(0, rows - rows % batch_size if drop_last else rows, batch_size):
            end = min(begin + batch_size, rows)
            yield self._batch(torch.arange(begin, end) if order is None else order[begin:end])

    def collate(self, batch: Any) -> Batch:
        """The ``collate_fn`` for a ``DataLoader``: a batch as it is; single rows, which some wrappers get, as one."""
        if isinstance(batch, Mapping):
            return dict(batch)
        ids = {name: self._joined(name, [row[IDS][name] for row in batch]) for name in self.columns}
        return {IDS: ids, **{name: torch.stack([row[name] for row in batch]) for name in self.others}}

    def _joined(self, name: str, rows: Sequence[Tensor]) -> Tensor | Jagged:
        if isinstance(self._stored.ids[name], Tensor):
            return torch.stack(list(rows))
        return Jagged(torch.cat(list(rows)), torch.tensor([0, *map(len, rows)]).cumsum(0))

    def _row(self, batch: Batch) -> Batch:
        """The one row of a batch; of a bag its ids."""
        ids = {name: column.values if isinstance(column, Jagged) else column[0] for name, column in batch[IDS].items()}
        return {IDS: ids, **{name: batch[name][0] for name in self.others}}

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (type(self), self.path, self._digest)

    def __repr__(self) -> str:
        return (
            f"EncodedDataset({self.path!r}, rows={len(self)}, columns={list(self.columns)}, others={list(self.others)})"
        )


class _Gathered(Batch):
    """A batch on its way to ``collate``; torch's own would take it for a list of rows."""

    def __missing__(self, key: Any) -> Any:
        if isinstance(key, int):
            raise TypeError("this is a batch, not a list of rows: give the DataLoader collate_fn=dataset.collate")
        raise KeyError(key)


def _reopened(kind: type[EncodedDataset], path: str, digest: str) -> EncodedDataset:
    dataset = kind(path)
    if dataset._digest != digest:
        raise FormatError(
            f"{path}: the file was replaced since the dataset was opened that came from it; open it again"
        )
    return dataset


def _digest(memory: Any) -> str:
    """Of a file's header, which has the checksums of everything."""
    return blake2b(memory[8 : 8 + int.from_bytes(memory[:8], "little")], digest_size=16).hexdigest()
