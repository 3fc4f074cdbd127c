"""Columns of Parquet, CSV and Arrow files, batch by batch, in bounded memory.

``open_files`` looks at every file before any is read: whether it is there and has the columns. It gives feeds, each a
run of batches that is read in order; feeds are independent of each other, so threads read and count several at once.

A CSV is read strictly: the type of a column is told by the file's first four megabytes, or by more where they hold no
value of it, and a value further down that does not fit is refused, never turned into text in silence. ``text`` names
the columns that are text whatever they look like.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import csv, ipc, parquet

from catembed.errors import VocabularyError
from catembed.vocabulary.text import show

__all__ = ["Batch", "Feed", "open_files"]

_PARQUET = (".parquet", ".pq")
_ARROW = (".arrow", ".feather", ".ipc")
_PACKED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_CSV = tuple(f"{kind}{packed}" for kind in (".csv", ".tsv") for packed in ("", *_PACKED))
_ENDINGS = ".parquet, .pq, .arrow, .feather, .ipc, .csv and .tsv (also .gz, .bz2 and .zst)"
# What a CSV writes for a missing value: as ``catembed.tabular`` has it.
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "<NA>", "?", " ?"]
_ROWS = 131_072  # of a Parquet file at a time
_BLOCK = 1 << 22  # bytes of a CSV at a time; no line may be longer
_MOST = 1 << 28  # bytes of a CSV that are looked at for a type
_AS_TEXT = "; to read the column as text, pass text=True, or text=[…] with the names of such columns"  # of a CSV
_BUFFER = 1 << 20  # bytes read from a Parquet file at a time
_PLAIN = 4  # bytes that Parquet puts before a text: a column with fewer for each value is in codes


class Batch(NamedTuple):
    """Some rows of a file: one column for each that was asked for."""

    columns: list[pa.Array]
    file: int  # which of the files, counted from 0
    path: str
    row: int  # of the file, where the batch begins
    size: int  # how many bytes of the files have been read for it, about


class Feed(NamedTuple):
    """A run of batches; ``start`` opens the file and gives them one after the other."""

    start: Callable[[], Iterator[Batch]]


class _File(NamedTuple):
    number: int
    path: str
    size: int
    columns: list[str]
    text: frozenset[str]


def open_files(paths: Any, columns: Sequence[str], text: Sequence[str] = ()) -> tuple[list[Feed], int]:
    """The feeds of some files in their order, and how many bytes these have.

    Args:
        paths: a file, a glob, or a list of them. The files of a glob come in the order of their names.
        columns: which columns to read.
        text: those of them that a CSV holds as text, even where all values look like numbers.

    Raises:
        VocabularyError: no such file, an ending that tells nothing, a file that cannot be read, a column that a file
            does not have.
    """
    found = _expand(paths)
    feeds: list[Feed] = []
    size = 0
    for number, path in enumerate(found):
        file = _File(number, path, os.path.getsize(path), list(columns), frozenset(text))
        size += file.size
        feeds += _explained(path, lambda file=file: _FEEDS[_format(file.path)](file))
    return feeds, size


def _expand(paths: Any) -> list[str]:
    listed = [paths] if isinstance(paths, (str, bytes, os.PathLike)) else list(paths)
    found: list[str] = []
    for one in listed:
        if not isinstance(one, (str, bytes, os.PathLike)):
            raise VocabularyError(f"a path is a string or a pathlib.Path, got {show(one)}")
        path = os.fsdecode(one)
        if os.path.isdir(path):
            raise VocabularyError(
                f"{path} is a folder; name its files, for instance '{os.path.join(path, '*.parquet')}'"
            )
        matches = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
        matches = [match for match in matches if not os.path.isdir(match)]
        if not matches:
            raise VocabularyError(f"{'no file matches' if glob.has_magic(path) else 'no such file:'} {path}")
        found += matches
    if not found:
        raise VocabularyError("no files were given")
    return found


def _format(path: str) -> str:
    low = path.lower()
    for name, endings in (("parquet", _PARQUET), ("arrow", _ARROW), ("csv", _CSV)):
        if low.endswith(endings):
            return name
    raise VocabularyError(f"{path}: the ending tells how a file is read; known are {_ENDINGS}")


def _explained(path: str, function: Callable[[], Any]) -> Any:
    """Call a function; errors of Arrow and of the system name the file."""
    try:
        return function()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fact:
        reason = " ".join(str(fact).split("\n")[0].split()) or type(fact).__name__
        advice = _AS_TEXT if "conversion error" in reason else ""
        raise VocabularyError(f"{path} cannot be read: {reason}{advice}") from None


def _each(file: _File, batches: Iterator[tuple[list[pa.Array], int, int]]) -> Iterator[Batch]:
    """Batches given as columns, first row and size; with errors that name the file."""
    ended = object()
    while True:
        got = _explained(file.path, lambda: next(batches, ended))
        if got is ended:
            return
        columns, row, size = got
        yield Batch(columns, file.number, file.path, row, size)


def _check_columns(file: _File, names: Sequence[str]) -> None:
    for column in file.columns:
        if names.count(column) != 1:
            there = f"its columns are {', '.join(map(repr, names))}" if names else "it has none"
            wrong = "no column" if column not in names else "several columns"
            raise VocabularyError(f"{file.path} has {wrong} {column!r}; {there}")


# Parquet


def _parquet_feeds(file: _File) -> list[Feed]:
    """One feed for each row group; columns that are in codes throughout are read as codes."""
    with parquet.ParquetFile(file.path) as opened:
        metadata, schema = opened.metadata, opened.schema_arrow
    _check_columns(file, schema.names)
    if not metadata.num_rows:
        return [Feed(lambda: iter([_no_rows(file, schema)]))]
    feeds, row = [], 0
    for group in range(metadata.num_row_groups):
        feeds.append(Feed(lambda group=group, row=row: _each(file, _read_group(file, metadata, group, row))))
        row += metadata.row_group(group).num_rows
    return feeds


def _read_group(file: _File, metadata: Any, group: int, row: int) -> Iterator[tuple[list[pa.Array], int, int]]:
    facts = metadata.row_group(group)
    share = file.size / max(metadata.num_rows, 1)
    coded = _in_codes(facts, file.columns)
    with parquet.ParquetFile(file.path, metadata=metadata, buffer_size=_BUFFER, read_dictionary=coded) as opened:
        batches = opened.iter_batches(_ROWS, row_groups=[group], columns=file.columns, use_threads=False)
        for batch in batches:
            yield [batch.column(name) for name in file.columns], row, round(share * len(batch))
            row += len(batch)


def _in_codes(group: Any, columns: list[str]) -> list[str]:
    """Text columns of a row group that are too small not to be in codes."""
    coded = []
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema in columns and chunk.physical_type == "BYTE_ARRAY" and chunk.has_dictionary_page:
            gone = chunk.statistics.null_count if chunk.statistics is not None else None
            if chunk.total_uncompressed_size < _PLAIN * (chunk.num_values - (gone or 0)):
                coded.append(chunk.path_in_schema)
    return coded


def _no_rows(file: _File, schema: pa.Schema) -> Batch:
    """A batch that has nothing to say but the types."""
    return Batch([pa.array([], schema.field(name).type) for name in file.columns], file.number, file.path, 0, file.size)


# Arrow IPC


def _arrow_feeds(file: _File) -> list[Feed]:
    with pa.memory_map(file.path) as source, _open_arrow(source) as opened:
        schema = opened.schema
    _check_columns(file, schema.names)
    return [Feed(lambda: _each(file, _read_arrow(file, schema)))]


def _open_arrow(source: Any) -> Any:
    try:
        return ipc.open_file(source)
    except pa.ArrowInvalid:
        source.seek(0)
        return ipc.open_stream(source)


def _read_arrow(file: _File, schema: pa.Schema) -> Iterator[tuple[list[pa.Array], int, int]]:
    yield _no_rows(file, schema).columns, 0, 0
    with pa.memory_map(file.path) as source, _open_arrow(source) as opened:
        row, done = 0, 0
        whole = getattr(opened, "num_record_batches", None)
        batches = opened if whole is None else map(opened.get_batch, range(whole))
        for batch in batches:
            size = source.tell() - done if whole is None else file.size // whole
            yield [batch.column(name) for name in file.columns], row, size
            row, done = row + len(batch), done + size


# CSV


def _csv_feeds(file: _File) -> list[Feed]:
    if not file.size:
        raise VocabularyError(f"{file.path} is empty; a CSV has at least a line of column names")
    with _open_csv(file, None, {}, _BLOCK) as opened:
        names = opened.schema.names
    _check_columns(file, names)
    return [Feed(lambda: _each(file, _read_csv(file)))]


def _open_csv(
    file: _File, columns: list[str] | None, types: dict[str, pa.DataType], block: int, raw: Any = None
) -> Any:
    """A reader of record batches; ``raw`` is the file, where it is already open."""
    raw = pa.OSFile(file.path) if raw is None else raw
    codec = next((codec for ending, codec in _PACKED.items() if file.path.lower().endswith(ending)), None)
    return csv.open_csv(
        raw if codec is None else pa.CompressedInputStream(raw, codec),
        read_options=csv.ReadOptions(block_size=block),
        parse_options=csv.ParseOptions(
            delimiter="\t" if ".tsv" in file.path.lower() else ",", newlines_in_values=False
        ),
        convert_options=csv.ConvertOptions(
            null_values=_NULLS,
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
            column_types=types,
            include_columns=columns,
        ),
    )


def _read_csv(file: _File) -> Iterator[tuple[list[pa.Array], int, int]]:
    types = _csv_types(file)
    row, done = 0, 0
    raw = pa.OSFile(file.path)
    with _open_csv(file, file.columns, types, _BLOCK, raw) as opened:
        for batch in opened:
            at = file.size if raw.closed else raw.tell()
            yield [batch.column(name) for name in file.columns], row, at - done
            row, done = row + len(batch), at
    yield [pa.array([], types[name]) for name in file.columns], row, file.size - done


def _csv_types(file: _File) -> dict[str, pa.DataType]:
    """The type of each column, from as much of the file as it takes to see a value in each."""
    block = _BLOCK
    while True:
        given = {name: pa.string() for name in file.columns if name in file.text}
        with _open_csv(file, file.columns, given, block) as opened:
            schema = opened.schema
        if block >= _MOST or not any(pa.types.is_null(field.type) for field in schema):
            break
        if block > file.size and not file.path.lower().endswith(tuple(_PACKED)):
            break
        block *= 16
    for field in schema:
        if pa.types.is_binary(field.type):
            raise VocabularyError(
                f"{file.path}: column {field.name!r} is not UTF-8 text; convert the file (iconv -t utf-8)"
            )
    return {field.name: field.type for field in schema}


_FEEDS = {"parquet": _parquet_feeds, "arrow": _arrow_feeds, "csv": _csv_feeds}
