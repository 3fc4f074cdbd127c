"""A table from wherever it is: CSV, Parquet and Arrow IPC files, globs of them, and tables already in memory.

Every way in gives a ``pyarrow.Table`` with distinct column names. A CSV is read strictly: a line with the wrong number
of fields is refused, as is a column that turns from numbers to text after its beginning.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, ipc, parquet

from catembed.errors import TableError

_PARQUET = (".parquet", ".pq", ".brotli")
_ARROW = (".arrow", ".feather", ".ipc")
_CSV = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".csv.bz2", ".csv.zip")
_ENDINGS = ".csv, .tsv (also .gz, .bz2 and .zip), .parquet, .arrow, .feather"
# What a CSV writes for a missing value. "None" and "NULL" could be names, but hardly in a column of data.
_NULLS = ["", "NA", "N/A", "n/a", "#N/A", "NaN", "nan", "-nan", "null", "NULL", "None", "<NA>", "?", " ?"]


def read(source: Any, text: Sequence[str] = ()) -> pa.Table:
    """Read a file, the files of a glob (one after the other, in name order), or a table in memory.

    Args:
        source: the file, glob or table.
        text: columns that a CSV holds as text, even where all of them look like numbers.

    Raises:
        TableError: no such file, an unknown ending, a file that cannot be read, duplicate column names, no rows.
    """
    table = _read_paths(os.fspath(source), text) if isinstance(source, (str, os.PathLike)) else _from_memory(source)
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise TableError(f"the table has several columns of one name: {', '.join(map(repr, twice))}; rename them")
    if not table.num_columns or not table.num_rows:
        raise TableError(f"the table is empty: {table.num_rows} rows, {table.num_columns} columns")
    return pa.table([_plain(column) for column in table.columns], names=table.column_names)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Categoricals by value, never by code; views and decimals as types with more functions."""
    if pa.types.is_dictionary(column.type) and isinstance(column.type.value_type, pa.BaseExtensionType):
        return column  # Arrow cannot decode them; classify leaves them out
    kind = _without_views(column.type)
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    return column.cast(pa.float64()) if pa.types.is_decimal(column.type) else column


def _without_views(type: pa.DataType) -> pa.DataType:
    """The type with large text and bytes in the place of views, in dictionaries, lists and structs as well."""
    if pa.types.is_string_view(type):
        return pa.large_string()
    if pa.types.is_binary_view(type):
        return pa.large_binary()
    if pa.types.is_dictionary(type):
        return pa.dictionary(type.index_type, _without_views(type.value_type), type.ordered)
    if pa.types.is_struct(type):
        return pa.struct([each.with_type(_without_views(each.type)) for each in type])
    if pa.types.is_list(type) or pa.types.is_large_list(type) or pa.types.is_fixed_size_list(type):
        value = _without_views(type.value_type)
        if value == type.value_type:
            return type
        if pa.types.is_fixed_size_list(type):
            return pa.list_(value, type.list_size)
        return pa.list_(value) if pa.types.is_list(type) else pa.large_list(value)
    return type


def text_columns(table: pa.Table) -> list[str]:
    """The columns of text in a table that was read."""
    text = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
    return [field.name for field in table.schema if any(each(field.type) for each in text)]


def _read_paths(path: str | bytes, text: Sequence[str]) -> pa.Table:
    path = os.fsdecode(path)
    if os.path.isdir(path):
        raise TableError(f"{path} is a folder; name its files, for instance '{os.path.join(path, '*.parquet')}'")
    paths = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    if not paths:
        what = "no file matches" if glob.has_magic(path) else "no such file:"
        raise TableError(f"{what} {path}")
    tables = [_read_file(each, text) for each in paths]
    if len(tables) == 1:
        return tables[0]
    for each, table in zip(paths, tables, strict=True):
        if table.column_names != tables[0].column_names:
            raise TableError(
                f"{each} has other columns than {paths[0]}: {table.column_names}, {tables[0].column_names}"
            )
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as fact:
        raise TableError(f"the files of {path} do not fit together: {_first_line(fact)}") from None


def _read_file(path: str, text: Sequence[str]) -> pa.Table:
    low = path.lower()
    try:
        if low.endswith(_CSV):
            return _read_csv(path, "\t" if ".tsv" in low else ",", text)
        if low.endswith(_PARQUET):
            return parquet.ParquetFile(path).read()
        if low.endswith(_ARROW):
            return _read_arrow(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fact:
        raise TableError(f"{path} cannot be read: {_first_line(fact)}") from None
    raise TableError(f"{path}: the ending tells how a file is read; known are {_ENDINGS}")


def _read_arrow(path: str) -> pa.Table:
    with pa.memory_map(path) as file:
        try:
            return ipc.open_file(file).read_all()
        except pa.ArrowInvalid:
            file.seek(0)
            return ipc.open_stream(file).read_all()


def _read_csv(path: str, delimiter: str, text: Sequence[str]) -> pa.Table:
    parse = csv.ParseOptions(delimiter=delimiter, newlines_in_values=False)
    convert = csv.ConvertOptions(
        null_values=_NULLS,
        strings_can_be_null=True,
        quoted_strings_can_be_null=True,
        column_types=dict.fromkeys(text, pa.string()),
    )
    # One block for the whole file: types are decided by all of it, not by its first megabyte.
    if path.lower().endswith(".zip"):
        data = _unzip(path)
    else:
        with pa.input_stream(path, compression="detect") as stream:
            data = stream.read()
    if not data.strip():
        raise TableError(f"{path} is empty")
    block = min(len(data) + 1, 2**31 - 1)
    table = csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(block_size=block),
        parse_options=parse,
        convert_options=convert,
    )
    for field in table.schema:
        if pa.types.is_binary(field.type):
            raise TableError(f"{path}: column {field.name!r} is not UTF-8 text; convert the file (iconv -t utf-8)")
    return table


def _unzip(path: str) -> bytes:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if len(names) != 1:
                raise TableError(f"{path} holds {len(names)} files; one CSV was expected")
            return archive.read(names[0])
    except zipfile.BadZipFile as fact:
        raise TableError(f"{path} cannot be read: {fact}") from None


def _from_memory(source: Any) -> pa.Table:
    if isinstance(source, pa.Table):
        return source
    if isinstance(source, pa.RecordBatch):
        return pa.Table.from_batches([source])
    try:
        if isinstance(source, Mapping):
            return pa.table({str(name): pa.array(values) for name, values in source.items()})
        if type(source).__module__.split(".")[0] == "pandas":
            names = [str(name) for name in source.columns]
            return pa.Table.from_pandas(source, preserve_index=False).rename_columns(names)
        if hasattr(source, "__arrow_c_stream__"):
            return pa.table(source)
    except (pa.ArrowException, ValueError) as fact:
        raise TableError(_in_memory_problem(fact)) from None
    raise TableError(
        f"a table is a path, a pandas, polars or Arrow table, or a dict of columns; got {type(source).__name__}"
    )


def _in_memory_problem(fact: Exception) -> str:
    column = fact.args[-1] if len(fact.args) > 1 else ""
    if "duplicate" in str(fact).lower():
        return f"the table has several columns of one name: {_first_line(fact)}; rename them"
    return f"the table cannot be read ({_first_line(fact)}) {column}".rstrip() + "; a column holds values of one type"


def _first_line(fact: BaseException) -> str:
    return " ".join(str(fact).split("\n")[0].split()) or type(fact).__name__


def write(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a table to a ``.csv``, ``.parquet`` or ``.arrow`` file: completely or not at all.

    Raises:
        TableError: another ending, or a place that cannot be written.
    """
    path = Path(path)
    check_file(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix == ".csv":
            csv.write_csv(table, partial)
        elif path.suffix == ".parquet":
            parquet.write_table(table, partial)
        else:
            with ipc.new_file(partial, table.schema) as file:
                file.write_table(table)
        os.replace(partial, path)
    except (OSError, pa.ArrowException) as fact:
        raise TableError(f"{path} cannot be written: {_first_line(fact)}") from None
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse, before any work is done, a path that ``write`` would refuse."""
    path = Path(path)
    if path.suffix not in (".csv", ".parquet", ".arrow"):
        raise TableError(f"{path}: the ending tells how a file is written: .csv, .parquet or .arrow")
    if not path.parent.is_dir():
        raise TableError(f"{path} cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise TableError(f"{path} cannot be written: it is a folder")
