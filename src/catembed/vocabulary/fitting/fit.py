"""Learning a vocabulary: count, cut, order; from columns, from files, from what was learned before.

Ties in frequency go to the smaller value, so the order of the rows never decides an id (except under
``order="first"``, which asks for just that). The kept set is the same whatever the order. Results depend neither on
the number of threads, nor on how rows come in batches or files, nor on what went to temporary files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from catembed.errors import VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.fitting.crew import work
from catembed.vocabulary.fitting.progress import Progress
from catembed.vocabulary.fitting.sources import Batch, open_files
from catembed.vocabulary.fitting.tally import Choice, KindError, Learned, Tally
from catembed.vocabulary.kinds import Column
from catembed.vocabulary.lists import read_values
from catembed.vocabulary.text import InBags

__all__ = ["Learned", "combine", "learn", "learn_files"]

MEMORY = 1 << 30  # bytes that counts may take before they go to temporary files
_FILE = 1 << 40  # more rows than a file has: a position is the file's number times this, and the row
_NO_FIRST = 'order="first" is not for bags in files, whose values are counted in no order; choose another order'
_ADVICE = "drop or fill them, or choose"


def learn(
    batches: Iterable[Column],
    *,
    min_count: int = 1,
    max_size: int | None = None,
    order: str = "frequency",
    buckets: int | None = None,
    missing: str = "count",
    memory: int = MEMORY,
) -> Learned:
    """Learn from columns, which are batches of one.

    Args:
        batches: the columns, taken one after the other; each may be of any shape.
        min_count: values that occur less often are left out.
        max_size: at most so many are kept: the most frequent ones, ties going to the smaller value.
        order: ``"frequency"``, ``"sorted"`` or ``"first"``.
        buckets: how many numbers tell what was left out; None for one.
        missing: ``"error"`` to stop at the first batch with missing values, else ``"count"``.
        memory: how many bytes of counts are held in memory; what is more goes to temporary files.

    Raises:
        VocabularyError: batches of different kinds, damaged Arrow memory, missing values where they are an error.
        OSError: temporary files cannot be written.
    """
    tally = Tally(Choice(min_count, max_size, order, buckets), torch.get_num_threads(), memory)
    try:
        base = 0
        for number, column in enumerate(batches):
            if tally.add(column, base, f"batch {number}") and missing == "error":
                place = f"batch {number}, which begins with row {base:,}: " if number else ""
                raise VocabularyError(place + messages.missing(column, _ADVICE))
            base += sum(map(len, column.parts))
        return tally.finish()
    finally:
        tally.close()


def learn_files(
    paths: Any,
    columns: Sequence[str],
    *,
    min_count: int = 1,
    max_size: int | None = None,
    order: str = "frequency",
    buckets: int | None = None,
    missing: str = "count",
    text: Sequence[str] = (),
    separator: str | None = None,
    progress: bool = False,
    memory: int = MEMORY,
) -> dict[str, Learned]:
    """Learn from columns of files, all of them in one pass; the first appearance counts in the order of the files.

    Args:
        paths: a file, a glob or a list of them: Parquet, Arrow IPC (``.arrow``, ``.feather``, ``.ipc``), CSV and TSV
            (also ``.gz``, ``.bz2``, ``.zst``).
        columns: which columns.
        min_count: as in ``learn``, and so are ``max_size``, ``order``, ``buckets`` and ``memory``.
        max_size: see ``learn``.
        order: see ``learn``.
        buckets: see ``learn``.
        missing: ``"error"`` to stop at missing values, else ``"count"``.
        text: columns that a CSV holds as text, even where all values look like numbers.
        separator: where to split the strings of all columns, into values of their own.
        progress: show on stderr how far it is.
        memory: see ``learn``; for all columns together.

    Raises:
        VocabularyError: no such file or column, a file that cannot be read, columns of different kinds, missing values
            where they are an error.
        OSError: temporary files cannot be written.
    """
    columns = list(dict.fromkeys(columns))
    if separator is not None and order == "first":
        raise VocabularyError(_NO_FIRST)
    unknown = [name for name in text if name not in columns]
    if unknown:
        raise VocabularyError(f"text names {unknown[0]!r}, which is none of the columns to read: {columns}")
    feeds, size = open_files(paths, columns, text)
    threads = torch.get_num_threads()
    choice = Choice(min_count, max_size, order, buckets)
    tallies = [Tally(choice, threads, memory // max(len(columns), 1)) for _ in columns]
    try:
        with Progress(size, progress) as tell:

            def count(batch: Batch, thread: int) -> None:
                for name, tally, array in zip(columns, tallies, batch.columns, strict=True):
                    _count(tally, batch, name, array, thread, missing, separator)
                tell(len(batch.columns[0]) if columns else 0, batch.size)

            work(feeds, count, threads)
            return {name: tally.finish() for name, tally in zip(columns, tallies, strict=True)}
    finally:
        for tally in tallies:
            tally.close()


def _count(tally: Tally, batch: Batch, name: str, array: Any, thread: int, missing: str, separator: str | None) -> None:
    """Count one column of a batch; errors name the file and the column."""
    what = f"{batch.path}: column {name!r}"
    try:
        column = read_values(array, separator)
    except VocabularyError as fact:
        raise VocabularyError(f"{_rows(what, batch)}: {fact}") from None
    if isinstance(column.shape, InBags) and tally.ordered_by_appearance:  # places among values overlap those of rows
        raise VocabularyError(f"{what}: {_NO_FIRST}")
    try:
        gone = tally.add(column, batch.file * _FILE + batch.row, what, thread)
    except KindError:
        raise
    except VocabularyError as fact:
        raise VocabularyError(f"{_rows(what, batch)}: {fact}") from None
    if gone and missing == "error":
        raise VocabularyError(f"{_rows(what, batch)}: {messages.missing(column, _ADVICE)}")


def _rows(what: str, batch: Batch) -> str:
    """What a message is about, where positions in it are counted from the beginning of the batch."""
    return f"{what}, in the rows from {batch.row:,} on" if batch.row else what


def combine(
    parts: Sequence[Learned], *, min_count: int = 1, max_size: int | None = None, order: str = "frequency"
) -> Learned:
    """What one pass over all rows would have learned, from what was learned of each part of them.

    That holds where the parts were learned with ``min_count=1`` and without ``max_size``: what was left out then stays
    left out, and is in ``cut``. For ``order="first"`` the parts must be in that order themselves.

    Raises:
        VocabularyError: parts of different kinds, or whose ``cut`` have different lengths.
    """
    lengths = sorted({len(part.cut) for part in parts})
    if len(lengths) > 1:
        raise VocabularyError(
            f"values left out were counted in {lengths[0]} and in {lengths[-1]} buckets; use one number"
        )
    buckets = lengths[0] if lengths else 1
    tally = Tally(Choice(min_count, max_size, order, buckets), 1, MEMORY)
    try:
        base = 0
        for number, part in enumerate(parts):
            tally.add_counted(part.values, part.counts, part.missing, part.kind, base, f"part {number}")
            base += len(part.values)
        whole = tally.finish()
    finally:
        tally.close()
    return whole._replace(cut=sum((part.cut for part in parts), whole.cut))
