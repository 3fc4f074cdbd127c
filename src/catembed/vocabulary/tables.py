"""A table of any library as named columns: dicts, pandas, polars, Arrow, and whatever speaks Arrow's C interface.

Nothing is converted here: a column is what the table's own library gives for its name.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from catembed.errors import TableError

__all__ = ["check_columns", "columns_of"]


def columns_of(rows: Any) -> Mapping[str, Any]:
    """The columns of a table by their names.

    Raises:
        TableError: something that has no named columns; two columns of one name.
    """
    if isinstance(rows, Mapping):
        return rows
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        names = list(rows.columns)
        _check_distinct(names)
        return {name: rows[name] for name in names}
    if type(rows).__module__.startswith("polars.") and hasattr(rows, "get_columns"):
        return {column.name: column for column in rows.get_columns()}
    table = _arrow_table(rows)
    if table is None:
        raise TableError(
            f"a {type(rows).__name__} has no named columns: pass a dict of columns, a DataFrame or an Arrow table"
        )
    _check_distinct(table.column_names)
    return dict(zip(table.column_names, table.columns, strict=True))


def _arrow_table(rows: Any) -> Any:
    """An Arrow table or record batch of what is one, or speaks its interface; None for all else, columns too."""
    stream = hasattr(rows, "__arrow_c_stream__")
    if not stream and not hasattr(rows, "__arrow_c_array__"):
        return None
    import pyarrow as pa

    if isinstance(rows, (pa.Table, pa.RecordBatch)):
        return rows
    if isinstance(rows, (pa.Array, pa.ChunkedArray)):
        return None
    try:
        return pa.table(rows) if stream else pa.record_batch(rows)
    except (pa.ArrowException, TypeError, ValueError):
        return None


def _check_distinct(names: Sequence[Any]) -> None:
    twice = sorted({str(name) for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"the table has several columns of one name: {', '.join(map(repr, twice))}; rename them")


def check_columns(found: Sequence[Any], wanted: Sequence[str], reader: str) -> None:
    """Raise ``TableError`` where columns are missing, or there are columns that ``reader`` does not read."""
    if list(found) == list(wanted):
        return
    missing = [name for name in wanted if name not in found]
    if missing:
        raise TableError(f"{reader} needs {_listed(missing)}, which the table does not have (got {_shown(found)})")
    extra = [name for name in found if name not in wanted]
    if extra:
        raise TableError(
            f"{reader} does not read {_listed(extra)}: leave out what it does not read (it reads {_shown(wanted)})"
        )


def _listed(names: Sequence[Any]) -> str:
    return f"column{'s' if len(names) > 1 else ''} {_shown(names)}"


def _shown(names: Sequence[Any]) -> str:
    names = list(names)
    return ", ".join(map(repr, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "") or "none"
