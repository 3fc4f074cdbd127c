"""``Encode``: rows of every form become the ids that the collection makes itself; in real workers too."""

import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import catembed
from catembed import (
    CategoryEmbedding,
    EmbeddingBag,
    EmbeddingCollection,
    TableError,
    UnseenCategoryError,
    Vocabulary,
    VocabularyError,
)
from catembed.data import Encode

OTHERS = ["late", "count", "weekend"]


def expected(collection, table, rows=slice(None)):
    ids = collection.encoder().encode({name: table[name][rows] for name in collection.inputs})
    return {"ids": dict(ids), **{name: torch.tensor(table[name][rows], dtype=kind(name)) for name in OTHERS}}


def kind(name):
    return {"late": torch.float64, "count": torch.int64, "weekend": torch.bool}[name]


@pytest.mark.parametrize("made", [dict, pd.DataFrame, pl.DataFrame, pa.table, pa.RecordBatch.from_pydict])
def test_tables_and_rows_give_the_same_batch(collection, table, rows, same, made):
    encode = Encode(collection, others=OTHERS)
    assert same(encode(made(table)), expected(collection, table))
    assert same(encode(rows), expected(collection, table))


def test_ids_are_those_of_the_collection(collection, table):
    ids = Encode(collection)(table)["ids"]
    direct = collection.encode({name: table[name] for name in collection.inputs})
    for name in collection:
        if name != "seen":  # which the collection hands on as it is
            assert all(map(torch.equal, ids[name], direct[name]))
    vectors = collection({name: table[name] for name in collection.inputs})
    assert torch.equal(collection(ids=ids), vectors)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_give_what_the_main_process_gives(collection, table, rows, same, method):
    loader = DataLoader(
        rows,
        batch_size=8,
        collate_fn=Encode(collection, others=OTHERS),
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == 3
        for at, batch in enumerate(batches):
            assert same(batch, expected(collection, table, slice(8 * at, 8 * at + 8)))


class Tables(Dataset):
    def __init__(self, table):
        self.table = table

    def __len__(self):
        return len(self.table)

    def __getitems__(self, indices):
        return self.table.take(indices)

    def __getitem__(self, index):
        raise AssertionError("rows are asked for in batches")


def test_a_dataset_that_gives_arrow_batches(collection, table, same):
    loader = DataLoader(Tables(pa.table(table)), batch_size=10, collate_fn=Encode(collection, others=OTHERS))
    assert same(next(iter(loader)), expected(collection, table, slice(10)))


def test_weights_do_not_travel():
    collection = EmbeddingCollection({"fruit": CategoryEmbedding(["apple", "banana"], 100_000)})
    assert len(pickle.dumps(collection)) > 800_000
    assert len(pickle.dumps(Encode(collection))) < 5_000


def test_a_vocabulary_from_a_file_travels_as_its_path(tmp_path):
    path = tmp_path / "users.safetensors"
    catembed.save(path, Vocabulary([f"user {at}" for at in range(10_000)]))
    collection = EmbeddingCollection({"user": CategoryEmbedding(catembed.load(path), 2)})
    sent = bytes(ForkingPickler.dumps(Encode(collection)))
    assert len(sent) < 3_000
    assert pickle.loads(sent)({"user": ["user 17"]})["ids"]["user"].tolist() == [17]


def test_vocabularies_do_not_grow():
    vocabulary = Vocabulary(["apple"], unseen="grow")
    batch = Encode(EmbeddingCollection({"fruit": CategoryEmbedding(vocabulary, 2)}))([{"fruit": "kiwi"}])
    assert (batch["ids"]["fruit"].tolist(), len(vocabulary)) == ([vocabulary.unknown_id], 2)


def test_an_encoder_knows_how_far_its_vocabulary_grew():
    vocabulary = Vocabulary(["apple"], unseen="grow")
    layer = CategoryEmbedding(vocabulary, 2)
    encoder = EmbeddingCollection({"fruit": layer}).encoder()
    layer.encode(["kiwi", "plum"], grow=True)
    assert dict(encoder.items())["fruit"].num_embeddings == len(vocabulary) == 4


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_bags_of_ids_in_tensors(same, dtype):
    matrix = torch.tensor([[1, 2], [3, 0]], dtype=dtype)
    nested = torch.nested.nested_tensor([torch.tensor([1, 2]), torch.tensor([3])], layout=torch.jagged)
    collection = EmbeddingCollection({"seen": EmbeddingBag(4, 2, padding_idx=0)})
    for given, offsets in ((matrix, [0, 2, 4]), (nested, [0, 2, 3])):
        ids = Encode(collection)({"seen": given})["ids"]
        assert ids["seen"].offsets.tolist() == offsets
        assert torch.equal(collection(ids=ids), collection(ids={"seen": given}))


def test_others_take_the_types_that_torch_gives_them(same):
    fruit = EmbeddingCollection({"fruit": CategoryEmbedding(["apple", "banana"], 2)})
    given = {
        "python": ([1.0, 2], torch.tensor([1.0, 2.0], dtype=torch.float64)),
        "numpy": ([np.float32(1), np.float32(2)], torch.tensor([1.0, 2.0])),
        "vectors": ([np.zeros(3), np.ones(3)], torch.tensor([[0.0] * 3, [1.0] * 3], dtype=torch.float64)),
        "tensors": ([torch.tensor(1), torch.tensor(2)], torch.tensor([1, 2])),
        "small": (np.array([1, 2], np.uint16), torch.tensor([1, 2], dtype=torch.uint16)),
        "swapped": (np.array([1, 2], ">i4"), torch.tensor([1, 2], dtype=torch.int32)),
        "arrow": (pa.chunked_array([[1.5], [None]]), torch.tensor([1.5, torch.nan], dtype=torch.float64)),
        "fixed": (pa.array([[1, 2], [3, 4]], pa.list_(pa.int32(), 2)), torch.tensor([[1, 2], [3, 4]]).int()),
        "pandas": (pd.Series([True, False], index=[7, 3]), torch.tensor([True, False])),
    }
    table = {"fruit": ["apple", "banana"], **{name: column for name, (column, _) in given.items()}}
    batch = Encode(fruit, others=list(given))(table)
    for name, (_, wanted) in given.items():
        assert batch[name].dtype == wanted.dtype, name
        torch.testing.assert_close(batch[name], wanted, equal_nan=True, rtol=0, atol=0)


# Refused


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([2**63, 1], f"integer {2**63} in row 0, which would become the float64"),
        ([0.5, 2**53 + 1], f"integer {2**53 + 1} in row 1, which would become the float64 9007199254740992.0"),
        ([[0.5, 1], [2**53 + 1, 0]], f"integer {2**53 + 1} in row 1"),
        ([np.float16(1), np.int64(2**53 + 1)], f"integer {2**53 + 1} in row 1"),
        ([10**400, 0.5], "an integer beyond 64 bits"),
    ],
)
def test_integers_do_not_lose_digits(values, told):
    fruit = EmbeddingCollection({"fruit": CategoryEmbedding(["apple"], 2)})
    with pytest.raises(TableError, match=f"column 'late' among others= has (the )?{told}"):
        Encode(fruit, others=["late"])({"fruit": ["apple"] * 2, "late": values})
    kept = Encode(fruit, others=["late"])({"fruit": ["apple"] * 3, "late": [2**53, 0.5, float("inf")]})
    assert kept["late"].tolist() == [2**53, 0.5, float("inf")]


@pytest.mark.parametrize(
    ("change", "error", "told"),
    [
        (lambda rows: rows[2].pop("hour"), TableError, "row 2 of the batch has no column 'hour'; it has 'origin'"),
        (lambda rows: rows[3].pop("late"), TableError, "row 3 of the batch has no column 'late'"),
        (lambda rows: rows.clear(), TableError, "no rows"),
        (lambda rows: rows.insert(1, ("JFK", 1)), TypeError, r"a row is a dict.*got tuple in row 1"),
        (lambda rows: rows[1].update(hour=8), UnseenCategoryError, "column 'hour'.*8"),
        (lambda rows: rows[1].update(late="soon"), TableError, r"'late' among others= holds no numbers.*soon in row 1"),
        (lambda rows: rows[1].update(late=None), TableError, r"'late' among others= holds no numbers.*None in row 1"),
        (lambda rows: rows[1].update(late=[1.0, 2.0]), TableError, "'late' among others= has rows of different shapes"),
        (lambda rows: rows[1].update(shop="x"), VocabularyError, "column 'shop'"),
    ],
)  # fmt: skip
def test_rows_that_are_refused(collection, rows, change, error, told):
    change(rows)
    encode = Encode(collection, others=["late"])
    with pytest.raises(error, match=told):
        encode(rows)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hour": None}, "the table has no column 'hour'; it has 'origin'"),
        ({"hour": [5, 6]}, "columns differ in length: column 'origin' has 23 rows, column 'hour' 2"),
        ({"late": [1.0]}, "columns differ in length: column 'origin' has 23 rows, column 'late' 1"),
        ({"late": pa.array(["x"] * 23)}, r"'late' among others= holds no numbers \(got string, x in row 0"),
        ({"late": pa.array([1, None])}, "'late' among others= lacks a value in row 1"),
        ({"late": np.array(["2020-01-01"] * 23, "M8[D]")}, "'late' among others= holds no numbers"),
        ({"late": pd.array([1, None] * 12, "Int64")[:23]}, "'late' among others= lacks a value in row 1"),
        ({"late": torch.tensor(1.0)}, "column 'late' is a single value"),
    ],
)
def test_tables_that_are_refused(collection, table, change, told):
    table = {name: column for name, column in (table | change).items() if column is not None}
    with pytest.raises(TableError, match=told):
        Encode(collection, others=["late"])(table)


@pytest.mark.parametrize(
    ("others", "error", "told"),
    [
        (["late", "hour"], TableError, "'hour' is among others=, and is one that the collection reads"),
        (["route"], TableError, "'route' is among others="),
        (["ids"], TableError, "others= has 'ids', the name of the ids"),
        (["late", "late"], TableError, "others= has 'late' twice"),
        ("late", TypeError, "a list of columns' names"),
        ([1], TypeError, "a list of columns' names"),
    ],
)
def test_others_that_are_refused(collection, others, error, told):
    with pytest.raises(error, match=told):
        Encode(collection, others=others)


def test_a_layer_is_no_collection():
    with pytest.raises(TypeError, match=r"by an EmbeddingCollection.*got CategoryEmbedding"):
        Encode(CategoryEmbedding(["a"], 2))


def test_it_prints_and_is_loaded_when_asked_for(collection):
    assert repr(Encode(collection, others=["late"])).startswith("Encode(['origin', 'hour'")
    assert catembed.data.Encode is Encode
