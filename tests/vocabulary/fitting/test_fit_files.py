"""Learning from files: Parquet, CSV and Arrow, several columns in one pass, in bounded memory."""

import bz2
import datetime as dt
import gzip
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pyarrow import csv, feather, ipc

from catembed import VocabularyError
from catembed.vocabulary.columns import read
from catembed.vocabulary.fitting import progress, sources
from catembed.vocabulary.fitting.fit import learn, learn_files

TABLE = pa.table(
    {
        "city": ["Oslo", None, "Rome", "Oslo", "", "Bonn", "Rome", "Oslo"],
        "year": pa.array([2013, 2013, None, 1999, 2013, 7, 8, 9], pa.int32()),
        "late": [True, False, None, True, True, False, True, True],
        "day": [dt.date(2013, 1, 1 + n // 3) for n in range(8)],
    }
)
COLUMNS = TABLE.column_names


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def told(learned):
    return learned.values.to_pylist(), learned.counts.tolist(), learned.missing, learned.cut.tolist(), learned.kind


def write_parquet(table, path, **options):
    pq.write_table(table, path, **{"row_group_size": max(3, len(table) // 6), **options})


def write_stream(table, path):
    with ipc.new_stream(path, table.schema) as file:
        file.write_table(table, max_chunksize=3)


def write_file(table, path):
    with ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=3)


def write_csv(table, path):
    packed = {".gz": gzip.open, ".bz2": bz2.open}.get(path.suffix, open)
    delimiter = "\t" if ".tsv" in path.name else ","
    if path.suffix == ".zst":
        with pa.output_stream(path, compression="zstd") as file:
            csv.write_csv(table, file, csv.WriteOptions(delimiter=delimiter))
        return
    with packed(path, "wb") as file:
        csv.write_csv(table, file, csv.WriteOptions(delimiter=delimiter))


WRITERS = {
    "table.parquet": write_parquet,
    "TABLE.PQ": write_parquet,
    "table.arrow": write_file,
    "stream.arrow": write_stream,
    "table.ipc": write_file,
    "table.feather": lambda table, path: feather.write_feather(table, path, chunksize=3),
    "table.csv": write_csv,
    "table.tsv": write_csv,
    "table.csv.gz": write_csv,
    "table.csv.bz2": write_csv,
    "table.tsv.zst": write_csv,
}


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize("order", ["frequency", "sorted", "first"])
def test_every_format(name, order, tmp_path):
    table = TABLE
    if "csv" in name or "tsv" in name:  # where the empty text is a missing value
        table = table.set_column(0, "city", [[value or None for value in TABLE["city"].to_pylist()]])
    WRITERS[name](table, tmp_path / name)
    learned = learn_files(tmp_path / name, COLUMNS, order=order)
    assert list(learned) == COLUMNS
    for column in COLUMNS:
        assert told(learned[column]) == told(learn([read(table[column])], order=order))


def test_options(tmp_path):
    write_parquet(TABLE, tmp_path / "t.parquet")
    learned = learn_files(str(tmp_path / "t.parquet"), ["city"], min_count=2, max_size=1, buckets=3)["city"]
    assert told(learned) == told(learn([read(TABLE["city"])], min_count=2, max_size=1, buckets=3))


LARGE = 60_000


@pytest.fixture(scope="module")
def large():
    """Many rows: text with a long tail, text in few values, numbers."""
    rng = np.random.default_rng(0)
    tail = rng.integers(0, 30_000, LARGE) // rng.integers(1, 50, LARGE)
    few = pa.array(["a", "b", None, "d"]).take(pa.array(rng.integers(0, 4, LARGE)))
    return pa.table({"tail": [f"value {n}" for n in tail], "few": few, "number": tail - 300})


@pytest.mark.parametrize("order", ["frequency", "sorted", "first"])
def test_threads_row_groups_files_and_memory_change_nothing(large, order, threads, tmp_path, monkeypatch):
    expected = {name: told(learn([read(large[name])], order=order, min_count=2)) for name in large.column_names}
    write_parquet(large, tmp_path / "one.parquet", row_group_size=LARGE)
    for part in range(4):
        write_parquet(
            large.slice(part * LARGE // 4, LARGE // 4), tmp_path / f"part{part}.parquet", row_group_size=7_000
        )
    write_file(large, tmp_path / "one.arrow")
    write_csv(large, tmp_path / "one.csv")
    monkeypatch.setattr(sources, "_ROWS", 10_000)
    monkeypatch.setattr(sources, "_BLOCK", 1 << 16)
    for paths in ("one.parquet", "part*.parquet", "one.arrow", "one.csv"):
        for number, memory in ((1, 2**30), (3, 2**30), (2, 2**20)):
            threads(number)
            learned = learn_files(tmp_path / paths, large.column_names, order=order, min_count=2, memory=memory)
            assert {name: told(one) for name, one in learned.items()} == expected


def test_text_in_codes_is_counted_by_its_codes(large, tmp_path):
    write_parquet(large, tmp_path / "t.parquet", row_group_size=LARGE, dictionary_pagesize_limit=1000)
    metadata = pq.read_metadata(tmp_path / "t.parquet").row_group(0)
    assert sources._in_codes(metadata, large.column_names) == ["few"]
    feeds, _ = sources.open_files(tmp_path / "t.parquet", ["few", "tail"])
    batch = next(feeds[0].start())
    assert pa.types.is_dictionary(batch.columns[0].type)
    assert pa.types.is_string(batch.columns[1].type)


def test_columns_that_hold_categoricals(tmp_path):
    table = pa.table({"city": TABLE["city"].dictionary_encode()})
    write_parquet(table, tmp_path / "t.parquet")
    write_file(table.combine_chunks(), tmp_path / "t.arrow")
    for name in ("t.parquet", "t.arrow"):
        assert told(learn_files(tmp_path / name, ["city"])["city"]) == told(learn([read(TABLE["city"])]))


def test_files_come_in_their_order(tmp_path):
    for name, values in {"b.csv": "x\nz\n", "a.csv": "x\ny\n", "c.csv": "x\ny\nw\n"}.items():
        (tmp_path / name).write_text(values)
    for paths, expected in [
        (tmp_path / "*.csv", ["y", "z", "w"]),
        ([tmp_path / "c.csv", str(tmp_path / "[ab].csv")], ["y", "w", "z"]),
    ]:
        assert learn_files(paths, ["x"], order="first")["x"].values.to_pylist() == expected


def test_a_file_whose_name_looks_like_a_glob(tmp_path):
    (tmp_path / "a[1].csv").write_text("x\ny\n")
    assert told(learn_files(tmp_path / "a[1].csv", ["x"])["x"])[0] == ["y"]


# Empty things


def test_no_rows(tmp_path):
    write_parquet(TABLE[:0], tmp_path / "t.parquet")
    write_file(TABLE[:0], tmp_path / "t.arrow")
    write_stream(TABLE[:0], tmp_path / "s.arrow")
    for name in ("t.parquet", "t.arrow", "s.arrow"):
        learned = learn_files(tmp_path / name, COLUMNS)
        assert [learned[column].kind for column in COLUMNS] == ["string", "integer", "boolean", "date"]
        assert [len(learned[column].values) for column in COLUMNS] == [0, 0, 0, 0]
    (tmp_path / "t.csv").write_text("city,year\n")
    assert told(learn_files(tmp_path / "t.csv", ["year"])["year"]) == ([], [], 0, [0], None)


def test_files_without_a_byte(tmp_path):
    for name in ("t.parquet", "t.arrow", "t.csv", "t.csv.gz"):
        (tmp_path / name).write_bytes(gzip.compress(b"") if name.endswith(".gz") else b"")
        with pytest.raises(VocabularyError, match=re.escape(str(tmp_path / name))):
            learn_files(tmp_path / name, ["city"])


def test_hidden_nulls(tmp_path):
    table = pa.table({"x": [1.0, float("nan"), None, 2.0, 1.0]})
    write_parquet(table, tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("x,y\n1,a\nNA,\n,null\n2,\n1,b\n")
    for name in ("t.parquet", "t.csv"):
        assert told(learn_files(tmp_path / name, ["x"])["x"]) == ([1, 2], [2, 1], 2, [0], "integer")
    assert told(learn_files(tmp_path / "t.csv", ["y"])["y"]) == (["a", "b"], [1, 1], 3, [0], "string")


def test_missing_values_where_they_are_an_error(tmp_path, threads):
    threads(1)
    write_parquet(TABLE, tmp_path / "t.parquet")
    assert learn_files(tmp_path / "t.parquet", ["day"], missing="error")["day"].missing == 0
    with pytest.raises(VocabularyError) as caught:
        learn_files(tmp_path / "t.parquet", ["city"], missing="error")
    assert str(caught.value).startswith(f"{tmp_path}/t.parquet: column 'city': 1 missing value at position 1 (")
    write_parquet(TABLE[2:], tmp_path / "t.parquet", row_group_size=2)
    with pytest.raises(VocabularyError, match=r"column 'year': 1 missing value at position 0 "):
        learn_files(tmp_path / "t.parquet", ["city", "year"], missing="error")
    write_parquet(TABLE[3:].append_column("n", [[1, 2, 3, None, 5]]), tmp_path / "t.parquet")
    with pytest.raises(VocabularyError, match=r"column 'n', in the rows from 3 on: 1 missing value at position 0 "):
        learn_files(tmp_path / "t.parquet", ["city", "n"], missing="error")


# Refusals


def test_paths_that_lead_nowhere(tmp_path):
    for paths, message in [
        (tmp_path / "none.csv", f"no such file: {tmp_path}/none.csv"),
        (tmp_path / "*.csv", f"no file matches {tmp_path}/*.csv"),
        (tmp_path, f"{tmp_path} is a folder; name its files, for instance '{tmp_path}/*.parquet'"),
        ([], "no files were given"),
        ([3], "a path is a string or a pathlib.Path, got 3"),
    ]:
        with pytest.raises(VocabularyError, match=f"^{re.escape(message)}$"):
            learn_files(paths, ["x"])


def test_an_ending_that_tells_nothing(tmp_path):
    (tmp_path / "t.xlsx").write_text("x\n1\n")
    with pytest.raises(
        VocabularyError, match=r"t.xlsx: the ending tells how a file is read; known are \.parquet, \.pq"
    ):
        learn_files(tmp_path / "t.xlsx", ["x"])


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.csv.gz", "t.csv.zst"])
def test_a_file_that_is_something_else(name, tmp_path):
    (tmp_path / name).write_bytes(b"nonsense" * 100)
    with pytest.raises(VocabularyError, match=rf"^{re.escape(str(tmp_path / name))} cannot be read: "):
        learn_files(tmp_path / name, ["x"])


@pytest.mark.parametrize("name", WRITERS)
def test_a_column_that_is_not_there(name, tmp_path):
    WRITERS[name](TABLE, tmp_path / name)
    expected = f"{tmp_path / name} has no column 'town'; its columns are 'city', 'year', 'late', 'day'"
    with pytest.raises(VocabularyError, match=f"^{re.escape(expected)}$"):
        learn_files(tmp_path / name, ["city", "town"])


def test_two_columns_of_one_name(tmp_path):
    pq.write_table(pa.table([[1], [2]], names=["x", "x"]), tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("x,x\n1,2\n")
    for name in ("t.parquet", "t.csv"):
        with pytest.raises(VocabularyError, match="has several columns 'x'"):
            learn_files(tmp_path / name, ["x"])


def test_files_that_disagree(tmp_path, threads):
    threads(1)
    write_parquet(pa.table({"x": ["1"]}), tmp_path / "a.parquet")
    write_parquet(pa.table({"x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(VocabularyError) as caught:
        learn_files(tmp_path / "*.parquet", ["x"])
    assert str(caught.value) == (
        f"{tmp_path}/b.parquet: column 'x' holds integers, but {tmp_path}/a.parquet: column 'x' holds strings, and "
        "values of different types are never equal; convert all of them to one type, for example to strings"
    )


def test_columns_that_hold_no_categories(tmp_path):
    write_parquet(pa.table({"x": [1.5, 2.0], "y": [[[1]], [[2]]]}), tmp_path / "t.parquet")
    with pytest.raises(VocabularyError, match=r"t.parquet: column 'x': 1.5 at position 0 is no whole number"):
        learn_files(tmp_path / "t.parquet", ["x"])
    with pytest.raises(
        VocabularyError,
        match=r"t.parquet: column 'y': a bag is a list .*there is a list at \[0, 0\]",
    ):
        learn_files(tmp_path / "t.parquet", ["y"])


def test_text_that_is_no_unicode(tmp_path):
    octets = pa.array([b"a", b"\xff\xfe"], pa.binary())
    text = pa.Array.from_buffers(pa.string(), 2, octets.buffers())
    write_parquet(pa.table({"x": text}), tmp_path / "t.parquet", use_dictionary=False)
    write_file(pa.table({"x": text}), tmp_path / "t.arrow")
    for name in ("t.parquet", "t.arrow"):
        with pytest.raises(VocabularyError, match=rf"{name}: column 'x': the Arrow column is damaged"):
            learn_files(tmp_path / name, ["x"])
    (tmp_path / "t.csv").write_bytes(b"x,y\na,1\n\xff\xfe,2\n")
    with pytest.raises(VocabularyError, match=r"t.csv: column 'x' is not UTF-8 text; convert the file"):
        learn_files(tmp_path / "t.csv", ["x"])


# CSV


def test_numbers_that_turn_into_text_further_down(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 1 << 10)
    (tmp_path / "t.csv").write_text("x\n" + "12345\n" * 2_000 + "12a\n")
    with pytest.raises(VocabularyError, match=r"t\.csv cannot be read: .*12a.*; to read the column as text, pass"):
        learn_files(tmp_path / "t.csv", ["x"])
    learned = learn_files(tmp_path / "t.csv", ["x"], text=["x"])["x"]
    assert told(learned) == (["12345", "12a"], [2_000, 1], 0, [0], "string")


def test_a_column_that_begins_with_missing_values(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_BLOCK", 1 << 10)
    (tmp_path / "t.csv").write_text("x,y\n" + ",1\n" * 5_000 + "7,1\n")
    assert told(learn_files(tmp_path / "t.csv", ["x"])["x"]) == ([7], [1], 5_000, [0], "integer")
    (tmp_path / "t.csv").write_text("x,y\n" + ",1\n" * 5_000)
    assert told(learn_files(tmp_path / "t.csv", ["x"])["x"]) == ([], [], 5_000, [0], None)


def test_leading_zeros_are_kept_by_text(tmp_path):
    (tmp_path / "t.csv").write_text("zip\n01234\n1234\n01234\n")
    assert told(learn_files(tmp_path / "t.csv", ["zip"])["zip"])[0] == [1234]
    assert told(learn_files(tmp_path / "t.csv", ["zip"], text=["zip"])["zip"])[0] == ["01234", "1234"]
    with pytest.raises(VocabularyError, match="text names 'zap', which is none of the columns to read"):
        learn_files(tmp_path / "t.csv", ["zip"], text=["zap"])


def test_a_line_with_too_many_fields(tmp_path):
    (tmp_path / "t.csv").write_text("x,y\n1,2\n1,2,3\n")
    with pytest.raises(VocabularyError, match=r"t.csv cannot be read: .*Expected 2 columns, got 3: 1,2,3$"):
        learn_files(tmp_path / "t.csv", ["x"])


# Progress and Ctrl-C


def test_progress_is_told_in_lines_where_there_is_no_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    write_parquet(TABLE, tmp_path / "t.parquet")
    learn_files(tmp_path / "t.parquet", ["city", "day"], progress=True)
    told = capsys.readouterr()
    lines = told.err.splitlines()
    assert not told.out
    assert len(lines) == 4
    assert all(re.fullmatch(r"\d rows  [\d,]+ rows/s  0:0\d left", line) for line in lines[:-1])
    assert re.fullmatch(r"counted 8 rows  [\d,]+ rows/s", lines[-1])
    learn_files(tmp_path / "t.parquet", ["city"])
    assert not capsys.readouterr().err


def test_progress_is_a_bar_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(progress, "_OFTEN", 0.0)
    write_parquet(TABLE, tmp_path / "t.parquet")
    learn_files(tmp_path / "t.parquet", ["city"], progress=True)
    assert "━" in capsys.readouterr().err


INTERRUPTED = """
import sys, threading
from catembed.vocabulary.fitting.fit import learn_files
learn_files(sys.argv[1], ["x"], memory=2**20)  # kernels are compiled
print("begins", flush=True)
try:
    while True:
        learn_files(sys.argv[1], ["x"], memory=2**20)
except KeyboardInterrupt:
    print([thread.name for thread in threading.enumerate() if "fit" in thread.name], flush=True)
"""


@pytest.mark.parametrize("name", ["table.parquet", "table.csv"])
def test_ctrl_c_ends_it_at_once(tmp_path, name):
    WRITERS[name](pa.table({"x": [f"value {n}" for n in range(300_000)]}), tmp_path / name)
    command = [sys.executable, "-c", INTERRUPTED, str(tmp_path / name)]
    environment = os.environ | {"TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "2"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **pipes) as process:
        try:
            assert process.stdout.readline() == "begins\n"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=20) == ("[]\n", "")
        finally:
            process.kill()
    assert [path.name for path in tmp_path.iterdir()] == [name]
