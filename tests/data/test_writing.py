"""``write_ids``: from every source the same file; whatever happens, the file is the old one or the new one, whole."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import torch
from pyarrow import csv, parquet
from safetensors import safe_open
from safetensors.torch import load_file

from catembed import (
    CategoryEmbedding,
    Embedding,
    EmbeddingBag,
    EmbeddingCollection,
    OutOfRangeError,
    TableError,
    UnseenCategoryError,
    Vocabulary,
    VocabularyError,
)
from catembed.data import Encode, EncodedDataset, write_ids

OTHERS = ["late", "count", "weekend"]


def test_any_safetensors_reader_opens_it(tmp_path, collection, table):
    path = tmp_path / "rows.safetensors"
    write_ids(path, collection, table, others=OTHERS, batch_size=7)
    tensors = load_file(path)
    ids = Encode(collection)(table)["ids"]
    plain = {f"ids.{name}": ids[name] for name in ("origin", "hour", "user", "shop", "route")}
    bags = {f"ids.{name}.values": ids[name].values for name in ("tags", "seen")}
    others = {"others.late": torch.tensor(table["late"], dtype=torch.float64), "others.count": torch.arange(23)}
    assert set(tensors) == {*plain, *bags, *others, "others.weekend", "ids.tags.offsets", "ids.seen.offsets"}
    for name, wanted in (plain | bags).items():
        assert tensors[name].dtype == torch.int32
        assert torch.equal(tensors[name].long(), wanted), name
    for name in ("tags", "seen"):
        assert torch.equal(tensors[f"ids.{name}.offsets"], ids[name].offsets)
    for name, wanted in others.items():
        assert tensors[name].dtype == wanted.dtype
        assert torch.equal(tensors[name], wanted)
    assert tensors["others.weekend"].tolist() == [int(value) for value in table["weekend"]]
    with safe_open(path, "pt") as opened:
        assert collection["origin"].vocabulary.fingerprint in opened.metadata()["catembed"]


def sources(table, tmp_path):
    arrow = pa.table(table)
    batches = arrow.to_batches(max_chunksize=5)
    parquet.write_table(arrow, tmp_path / "rows.parquet", row_group_size=9)
    return {
        "dict": table,
        "pandas": pd.DataFrame(table, index=range(100, 123)),
        "polars": pl.DataFrame(table),
        "table": arrow,
        "batches": iter(batches),
        "reader": pa.RecordBatchReader.from_batches(arrow.schema, batches),
        "dicts": ({name: column[at : at + 4] for name, column in table.items()} for at in range(0, 23, 4)),
        "frames": [pd.DataFrame(table)[:11], pd.DataFrame(table)[11:]],
        "dataset": ds.dataset(arrow),
        "parquet": str(tmp_path / "rows.parquet"),
        "paths": [tmp_path / "rows.parquet"],
    }


@pytest.mark.parametrize(
    "source",
    [
        "dict", "pandas", "polars", "table", "batches", "reader", "dicts", "frames", "dataset", "parquet", "paths",
    ],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [4, 100])
def test_every_source_gives_the_same_file(tmp_path, collection, table, same, source, batch_size):
    path = tmp_path / "rows.safetensors"
    write_ids(path, collection, sources(table, tmp_path)[source], others=OTHERS, batch_size=batch_size)
    wanted = Encode(collection, others=OTHERS)(table)
    assert same(EncodedDataset(path, collection, verify=True)[:], wanted)
    assert {each for each in os.listdir(tmp_path) if each.endswith(".tmp")} == set()


def test_a_list_of_rows(tmp_path, collection, rows, same):
    write_ids(tmp_path / "rows", collection, rows, others=OTHERS, batch_size=5)
    assert same(EncodedDataset(tmp_path / "rows", verify=True)[:], Encode(collection, others=OTHERS)(rows))
    bags = EmbeddingCollection({"t": CategoryEmbedding(["x", "y", "z"], 1, pooling="sum", separator="|")})
    rows = [{"t": ["x", "y"]}, {"t": ["z"]}]
    write_ids(tmp_path / "bags", bags, rows)
    assert same(EncodedDataset(tmp_path / "bags")[:], Encode(bags)(rows))


def test_what_holds_dicts_says_whether_they_are_rows(tmp_path, collection, table, rows, same):
    for source in (dict(enumerate(rows)).values(), dict.fromkeys([1], table).values()):
        with pytest.raises(TableError, match=r"give list\(source\) for rows, iter\(source\) for tables"):
            write_ids(tmp_path / "ids", collection, source)
    write_ids(tmp_path / "ids", collection, dict.fromkeys([1], pd.DataFrame(table)).values())
    assert same(EncodedDataset(tmp_path / "ids")[:], Encode(collection)(rows))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_numbers_have_one_type_however_they_are_cut(tmp_path, batch_size):
    write_plain(
        tmp_path / "ids", {"a": ["x"] * 4, "n": [0] * 4, "y": [1, 2, 2.5, 3]}, others=["y"], batch_size=batch_size
    )
    assert EncodedDataset(tmp_path / "ids")[:]["y"].tolist() == [1, 2, 2.5, 3]
    rows = [{"a": "x", "n": 0, "y": value} for value in (True, 2, 3.5)]
    write_plain(tmp_path / "ids", rows, others=["y"], batch_size=batch_size)
    assert EncodedDataset(tmp_path / "ids")[:]["y"].tolist() == [1, 2, 3.5]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_ids(tmp_path, dtype):
    write_plain(tmp_path / "ids", {"a": torch.tensor([1, 0]).to(dtype), "n": torch.tensor([2, 1]).to(dtype)})
    assert EncodedDataset(tmp_path / "ids")[:]["ids"]["n"].tolist() == [2, 1]
    high = torch.iinfo(dtype).max
    with pytest.raises(OutOfRangeError, match=f"column 'n' has the id {high}, allowed are 0 to 2"):
        write_plain(tmp_path / "ids", {"a": ["x"], "n": torch.tensor([high], dtype=dtype)})


@pytest.mark.parametrize("batch_size", [1, 100])
def test_bags_of_ids_in_tensors(tmp_path, batch_size):
    collection = EmbeddingCollection({"seen": EmbeddingBag(4, 2, padding_idx=0)})
    matrix = torch.tensor([[1, 2], [3, 0], [0, 0]])
    nested = torch.nested.nested_tensor([torch.tensor(ids).long() for ids in ([1, 2], [3], [])], layout=torch.jagged)
    for given in (matrix, nested):
        write_ids(tmp_path / "ids", collection, {"seen": given}, batch_size=batch_size)
        ids = EncodedDataset(tmp_path / "ids", collection, verify=True)[:]["ids"]
        assert torch.equal(collection(ids=ids), collection(ids={"seen": given}))


def test_an_encoder_whose_vocabulary_grew(tmp_path):
    layer = CategoryEmbedding(Vocabulary(["x"], unseen="grow"), 1)
    encoder = EmbeddingCollection({"a": layer}).encoder()
    layer.encode(["y", "z"], grow=True)
    write_ids(tmp_path / "ids", encoder, {"a": ["z", "x"]})
    assert (
        EncodedDataset(tmp_path / "ids", encoder, verify=True)[:]["ids"]["a"].tolist()
        == layer.encode(["z", "x"]).tolist()
    )


def test_text_that_looks_like_numbers_in_a_csv(tmp_path):
    csv.write_csv(pa.table({"zip": ["01234", "00501"], "x": [1, 2]}), tmp_path / "rows.csv")
    collection = EmbeddingCollection({"zip": CategoryEmbedding(["00501", "01234"], 2)})
    write_ids(tmp_path / "ids", collection, tmp_path / "rows.csv", others=["x"])
    dataset = EncodedDataset(tmp_path / "ids", collection)
    assert (dataset[:]["ids"]["zip"].tolist(), dataset[:]["x"].tolist()) == ([1, 0], [1, 2])


def test_large_tables_take_wide_ids(tmp_path):
    big = Embedding((1 << 31) + 1, 1, device="meta")
    write_ids(tmp_path / "ids", EmbeddingCollection({"a": big}), {"a": [1 << 31, 0]})
    assert load_file(tmp_path / "ids")["ids.a"].tolist() == [1 << 31, 0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_with_the_rows(tmp_path):
    collection = EmbeddingCollection({"a": CategoryEmbedding(["x", "y"], 1)})
    column = pa.array(["x", "y"] * 100_000)
    seen = []

    def batches():
        for _ in range(50):
            yield {"a": column}
            told = Path("/proc/self/status").read_text().split("RssAnon:")[1].split()[0]
            seen.append(int(told) << 10)

    write_ids(tmp_path / "ids", collection, batches())
    assert len(EncodedDataset(tmp_path / "ids")) == 10_000_000
    assert max(seen[5:]) < seen[5] + 10_000_000  # the ids alone are 40 MB


# Whatever happens


def test_an_error_in_the_middle_leaves_the_old_file(tmp_path, collection, table):
    path = tmp_path / "rows.safetensors"
    write_ids(path, collection, table)
    before = path.read_bytes()

    def failing():
        yield table
        yield table | {"origin": ["ORD"] * 23}

    with pytest.raises(UnseenCategoryError, match="column 'origin'") as caught:
        write_ids(path, collection, failing())
    assert caught.value.__notes__ == ["(in the batch that begins at row 23 of the source)"]
    assert (os.listdir(tmp_path), path.read_bytes()) == (["rows.safetensors"], before)


KILLED = """
import os, signal, sys
from catembed import CategoryEmbedding, EmbeddingCollection
from catembed.data import write_ids

def batches():
    for _ in range(3):
        yield {"a": ["x"] * 100_000}
    os.kill(os.getpid(), signal.SIGKILL)

write_ids(sys.argv[1], EmbeddingCollection({"a": CategoryEmbedding(["x"], 1)}), batches())
"""


def test_a_process_that_is_killed_leaves_nothing(tmp_path):
    run = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "ids")], capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert os.listdir(tmp_path) == []


def write_plain(path, columns, **options):
    collection = EmbeddingCollection({"a": CategoryEmbedding(["x", "y"], 1), "n": Embedding(3, 1)})
    write_ids(path, collection, columns, **options)


@pytest.mark.parametrize(
    ("source", "error", "told"),
    [
        ({"a": [], "n": [], "y": []}, TableError, "no rows to write"),
        ([], TableError, "no rows to write"),
        (iter([]), TableError, "no rows to write"),
        ({"a": ["x"], "n": [0]}, TableError, "no column 'y'; it has 'a', 'n'"),
        ({"a": ["x"], "n": [0, 1], "y": [1]}, TableError, "columns differ in length"),
        ({"a": "x", "n": 0, "y": 1}, TableError, "column 'a' is a single value"),
        ({"a": ["x"], "n": [3], "y": [1]}, OutOfRangeError, "column 'n' has the id 3, allowed are 0 to 2"),
        ({"a": ["x"], "n": [-1], "y": [1]}, OutOfRangeError, "column 'n' has the id -1"),
        ({"a": ["x"], "n": [1.5], "y": [1]}, VocabularyError, "column 'n'"),
        ({"a": ["x"], "n": torch.tensor([1.0]), "y": [1]}, TypeError, "column 'n' holds torch.float32"),
        ({"a": torch.tensor([2]), "n": [0], "y": [1]}, OutOfRangeError, "column 'a' has the id 2"),
        ({"a": ["x"], "n": [0], "y": ["late"]}, TableError, "'y' among others= holds no numbers.*late in row 0"),
        ({"a": [5], "n": [0], "y": [1]}, VocabularyError, "column 'a'"),
        (
            iter([{"a": ["x"], "n": [0], "y": [1]}, {"a": ["x"], "n": [0], "y": [1.5]}]),
            TableError,
            r"column 'y' holds torch.float64 of shape \(1,\) from row 1 on, before it torch.int64",
        ),
        ([{"a": "x", "n": 0, "y": 1}, pa.table({"a": ["x"]})], TypeError, "a row is a dict.*in row 1"),
        ([{"a": "x", "n": 0, "y": 1}, {"a": "x"}], TableError, "row 1 of the batch has no column 'n'"),
        ({"a": ["x"] * 2, "n": [0] * 2, "y": [0.5, 2**53 + 1]}, TableError, "'y' among others= has the integer.*row 1"),
        (5, TableError, "a int has no named columns"),
        ("/no/such/file.csv", VocabularyError, "no such file"),
    ],
)
def test_sources_that_are_refused(tmp_path, source, error, told):
    with pytest.raises(error, match=told):
        write_plain(tmp_path / "ids", source, others=["y"])
    assert os.listdir(tmp_path) == []


def test_paths_and_arguments_that_are_refused(tmp_path, collection, table):
    with pytest.raises(IsADirectoryError):
        write_ids(tmp_path, collection, table)
    with pytest.raises(FileNotFoundError):
        write_ids(tmp_path / "no" / "ids", collection, table)
    with pytest.raises(ValueError, match="batch_size must be a positive integer"):
        write_ids(tmp_path / "ids", collection, table, batch_size=0)
    bags = CategoryEmbedding(Vocabulary(["x"]), 1, pooling="sum")
    alike = EmbeddingCollection({"tags": bags, "tags.values": Embedding(1, 1)})
    with pytest.raises(TableError, match=r"both make a tensor 'ids.tags.values'"):
        write_ids(tmp_path / "ids", alike, table)
