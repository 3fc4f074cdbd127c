import gzip

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from catembed import tabular
from catembed.errors import TableError
from catembed.tabular.reading import read, write

ROWS = {"a": [1, 2, None], "b": ["x", None, "z"]}


@pytest.mark.parametrize(
    "source",
    [ROWS, pa.table(ROWS), pa.RecordBatch.from_pydict(ROWS), pl.DataFrame(ROWS), pl.DataFrame(ROWS).to_arrow()],
)
def test_tables_in_memory(source):
    assert read(source).to_pydict() == ROWS


def test_pandas_has_no_index_among_its_columns():
    frame = pd.DataFrame({"a": [1, 2, 3, 4], "b": pd.Categorical(["x", "y", "x", "y"])}).iloc[[3, 0]]
    assert read(frame).to_pydict() == {"a": [4, 1], "b": ["y", "x"]}


@pytest.mark.parametrize("ending", [".csv", ".parquet", ".arrow"])
def test_write_and_read(tmp_path, ending):
    path = tmp_path / f"t{ending}"
    write(pa.table(ROWS), path)
    assert read(path).to_pydict() == ROWS
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_decimals_and_categoricals_are_plain_columns():
    rows = {"a": pa.array(["1.50", "2.25"]).cast(pa.decimal128(5, 2)), "b": pl.Series(["x", "y"], dtype=pl.Categorical)}
    assert read(rows).to_pydict() == {"a": [1.5, 2.25], "b": ["x", "y"]}


def test_arrow_streams_and_compressed_csv(tmp_path):
    with pa.ipc.new_stream(tmp_path / "t.arrow", pa.table(ROWS).schema) as file:
        file.write_table(pa.table(ROWS))
    assert read(tmp_path / "t.arrow").to_pydict() == ROWS
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(b"a\tb\n1\tx\n"))
    assert read(tmp_path / "t.tsv.gz").to_pydict() == {"a": [1], "b": ["x"]}


def test_glob_reads_files_in_name_order(tmp_path):
    for number in (2, 1):
        (tmp_path / f"part{number}.csv").write_text(f"a\n{number}\n")
    assert read(str(tmp_path / "part*.csv")).to_pydict() == {"a": [1, 2]}
    (tmp_path / "part3.csv").write_text("b\n3\n")
    with pytest.raises(TableError, match=r"part3.csv has other columns than .*part1.csv"):
        read(str(tmp_path / "part*.csv"))


def test_csv_types_are_decided_by_the_whole_file(tmp_path):
    (tmp_path / "t.csv").write_text("a\n" + "1\n" * 600_000 + "x\n")  # more than Arrow's usual block
    assert read(tmp_path / "t.csv").schema.field("a").type == pa.string()


def test_text_columns_stay_text(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n01,01\n")
    assert read(tmp_path / "t.csv", text=["b"]).to_pydict() == {"a": [1], "b": ["01"]}


@pytest.mark.parametrize(
    ("name", "content", "part"),
    [
        ("t.csv", b"a,b\n1,2\n3\n4,5\n", "Expected 2 columns, got 1: 3"),
        ("t.csv", b"a,a\n1,2\n", "several columns of one name: 'a'"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"a,b\n", "0 rows"),
        ("t.csv", b"a\n\xff\xfe\n", "column 'a' is not UTF-8"),
        ("t.parquet", b"no parquet at all", "t.parquet cannot be read"),
        ("t.arrow", b"no arrow at all", "t.arrow cannot be read"),
        ("t.csv.gz", b"no gzip", "t.csv.gz cannot be read"),
        ("t.csv.zip", b"no zip", "t.csv.zip cannot be read"),
        ("t.xlsx", b"", "the ending tells how a file is read"),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, part):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TableError, match=part) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_absent_files_are_refused(tmp_path):
    with pytest.raises(TableError, match="no such file"):
        read(tmp_path / "none.csv")
    with pytest.raises(TableError, match="no file matches"):
        read(str(tmp_path / "*.csv"))
    with pytest.raises(TableError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"a": [1, "x"]}, "one type"),
        ({"a": [1], "b": [1, 2]}, "cannot be read"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns of one name"),
        (pd.DataFrame({"a": [1, "x", 2.5]}), "cannot be read"),
        (pa.table({}), "empty"),
        ([1, 2], "got list"),
    ],
)
def test_bad_tables_in_memory_are_refused(source, part):
    with pytest.raises(TableError, match=part):
        read(source)


@pytest.mark.parametrize(("name", "part"), [("p.txt", "ending"), ("no/p.csv", "no folder"), ("d.csv", "is a folder")])
def test_bad_places_to_write_are_refused(tmp_path, name, part):
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(TableError, match=part):
        write(pa.table(ROWS), tmp_path / name)


@pytest.mark.parametrize(
    ("column", "type"),
    [
        (pl.Series([["a", "b"], None, ["a", None]], dtype=pl.Array(pl.String, 2)), pa.list_(pa.large_string(), 2)),
        (pl.Series([[b"a", b"b"], None, [b"a"]], dtype=pl.List(pl.Binary)), pa.large_list(pa.large_binary())),
        (pl.Series([["a"], None, []], dtype=pl.List(pl.String)), pa.large_list(pa.large_string())),
        (pl.Series([b"a", None, b"b"], dtype=pl.Binary), pa.large_binary()),
        (pl.Series(["a", None, "b"], dtype=pl.Categorical), pa.large_string()),
        (pl.Series([{"a": "x"}, None, {"a": "y"}]), pa.struct({"a": pa.large_string()})),
        (pa.array([["a"], None, []], pa.list_(pa.string_view())), pa.list_(pa.large_string())),
        (pa.array([["a"], None, []], pa.list_(pa.binary_view())), pa.list_(pa.large_binary())),
        (pa.array([["a"], None, []], pa.list_(pa.string())), pa.list_(pa.string())),
    ],
)
def test_views_are_read_in_columns_lists_and_dictionaries(column, type):
    source = pl.DataFrame({"c": column}) if isinstance(column, pl.Series) else pa.table({"c": column})
    found = read(source).column("c")
    assert (found.type, found.to_pylist()) == (type, pa.table(source)["c"].to_pylist())


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([["a", "b"], ["a", "c"]] * 40, dtype=pl.Array(pl.String, 2)),
        pl.Series([[b"a", b"b"], [b"a"]] * 40, dtype=pl.List(pl.Binary)),
        pl.Series([["a", "b"], ["a"]] * 40, dtype=pl.List(pl.Categorical)),
        pl.Series(["a", "b"] * 40, dtype=pl.Categorical),
    ],
)
def test_columns_of_views_are_learned_from(column):
    rows = pl.DataFrame({"c": column, "y": [0.5, 1.5] * 40})
    fitted = tabular.fit(rows, "y", epochs=1)
    assert "c" in fitted.layers
    assert fitted.predict(rows).num_rows == 80
