"""Missing values in every kind of column, and columns that hold nothing else."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import Vocabulary, VocabularyError

FRUIT = ["apple", "banana", "candy"]
DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)


@pytest.mark.parametrize(
    "column",
    [
        ["candy", None],
        ["candy", float("nan")],
        ["candy", np.float32("nan")],
        ["candy", pd.NA],
        ["candy", pd.NaT],
        ["candy", np.datetime64("NaT")],
        np.array(["candy", None], object),
        np.array(["candy", np.nan], object),
        np.ma.array(["candy", "apple"], mask=[False, True]),
        pd.Series(["candy", None]),
        pd.Series(["candy", pd.NA], dtype="string"),
        pd.Series(["candy", None], dtype="category"),
        pd.Series(["candy", None] * 3, dtype="category")[:2],
        pa.array(["candy", None]),
        pa.array(["candy", None]).dictionary_encode(),
        pa.array(["candy", None]).dictionary_encode(null_encoding="encode"),
        pl.Series(["candy", None]),
        pl.Series(["candy", None], dtype=pl.Categorical),
        [pa.scalar("candy"), pa.scalar(None, pa.string())],
        [np.array("candy"), np.array(np.nan)],
    ],
)
def test_missing_text(column):
    assert Vocabulary(FRUIT, missing="own").encode(column).tolist() == [3, 0]


@pytest.mark.parametrize("chunks", [[], [0], [3], [2, 0, 1]])
def test_dictionaries_of_nothing(chunks):
    column = pa.chunked_array(
        [pa.nulls(size).dictionary_encode() for size in chunks], type=pa.dictionary(pa.int32(), pa.null())
    )
    assert Vocabulary(FRUIT, missing="own").encode(column).tolist() == [0] * sum(chunks)


@pytest.mark.parametrize("values", [["a", "b"], [1, 2], [True, False], [b"a", b""], [DAY, DAY], [MOMENT] * 2])
def test_chunks_of_dictionaries_of_every_kind(values):
    column = pa.chunked_array([pa.array([value] * 3).dictionary_encode() for value in values])
    assert Vocabulary.fit(column, order="first").encode(column).tolist()[::3] == [0, len(set(values)) - 1]


def test_levels_that_no_row_uses_are_not_looked_at():
    arrow = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, 2]), pa.array([1.0, 0.5, 3.0]))
    pandas = pd.Series(pd.Categorical([1, 3, 1, 1], categories=[1, "one", 3]))
    assert Vocabulary([1, 3]).encode(arrow).tolist() == [0, 0, 0, 1]
    assert Vocabulary([1, 3]).encode(pandas).tolist() == [0, 1, 0, 0]
    with pytest.raises(VocabularyError, match=r"0\.5 at position 1 is no whole number"):
        Vocabulary([1]).encode(pa.DictionaryArray.from_arrays(pa.array([0, 1, 0, 0]), pa.array([1.0, 0.5])))


def test_missing_in_a_long_dictionary():
    levels = pa.array([None, "candy"])
    column = pa.DictionaryArray.from_arrays(pa.array([1, 0, None, 1]), levels)
    assert Vocabulary(FRUIT, missing="own").encode(column).tolist() == [3, 0, 0, 3]


@pytest.mark.parametrize(
    "column",
    [
        [2, None],
        [2.0, float("nan")],
        np.array([2, np.nan]),
        np.array([2, np.nan], np.float32),
        np.ma.array([2, 1], mask=[False, True]),
        np.ma.array([2, 1.5], mask=[False, True]),
        pd.Series([2, None]),
        pd.Series([2, None], dtype="Int64"),
        pd.Series([2, None], dtype="Float64"),
        pa.array([2, None]),
        pa.array([2.0, None]),
        pa.array([2.0, float("nan")]),
        pl.Series([2, None]),
        torch.tensor([2, float("nan")]),
    ],
)
def test_missing_integers(column):
    assert Vocabulary([0, 1, 2], missing="own").encode(column).tolist() == [3, 0]


@pytest.mark.parametrize("column", [None, pd.NA, pd.NaT, float("nan"), np.nan, pa.scalar(None), np.datetime64("NaT")])
def test_one_missing_value(column):
    ids = Vocabulary(FRUIT, missing="own").encode(column)
    assert ids.shape == ()
    assert ids.item() == 0


def test_missing_dates_and_booleans():
    day, moment = Vocabulary([DAY], missing="own"), Vocabulary([MOMENT], missing="own")
    assert day.encode([DAY, None]).tolist() == [1, 0]
    assert day.encode(pa.array([DAY, None])).tolist() == [1, 0]
    assert moment.encode([pd.NaT, MOMENT]).tolist() == [0, 1]
    assert moment.encode(pd.Series([None, MOMENT])).tolist() == [0, 1]
    assert moment.encode(np.array([MOMENT, "NaT"], "M8[us]")).tolist() == [1, 0]
    assert Vocabulary([True], missing="own").encode(pa.array([None, True])).tolist() == [0, 1]


@pytest.mark.parametrize("column", [[np.nan] * 2, pd.Series([None, np.nan]), pa.nulls(2), pa.nulls(2, pa.date32())])
def test_a_column_of_missing_values_has_no_type_to_mismatch(column):
    assert Vocabulary(FRUIT, missing="own").encode(column).tolist() == [0, 0]
