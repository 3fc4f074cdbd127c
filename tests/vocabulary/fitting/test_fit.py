"""Learning a vocabulary from a column."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from catembed import UnseenCategoryError, Vocabulary, VocabularyError

COLUMN = ["b", "d", "a", "b", "c", "c", "d", "b", "e"]


@pytest.mark.parametrize(
    ("order", "categories", "counts"),
    [
        ("frequency", ["b", "c", "d", "a", "e"], [3, 2, 2, 1, 1]),
        ("sorted", ["a", "b", "c", "d", "e"], [1, 3, 2, 2, 1]),
        ("first", ["b", "d", "a", "c", "e"], [3, 2, 1, 2, 1]),
    ],
)
def test_orders(order, categories, counts):
    vocabulary = Vocabulary.fit(COLUMN, order=order)
    assert list(vocabulary) == categories
    assert vocabulary.counts.tolist() == counts
    assert vocabulary.counts.dtype == np.int64


def test_frequency_is_the_default_and_ignores_the_order_of_the_rows():
    assert Vocabulary.fit(COLUMN) == Vocabulary.fit(COLUMN[::-1], order="frequency")
    assert Vocabulary.fit(COLUMN, max_size=2) == Vocabulary.fit(COLUMN[::-1], max_size=2)


@pytest.mark.parametrize(("order", "kept"), [("frequency", ["b", "c"]), ("sorted", ["b", "c"]), ("first", ["b", "c"])])
def test_max_size_keeps_the_most_frequent_whatever_the_order(order, kept):
    # c and d tie: the smaller value stays.
    assert list(Vocabulary.fit(COLUMN, max_size=2, order=order)) == kept


def test_max_size_and_first_appearance():
    assert list(Vocabulary.fit(COLUMN, max_size=3, order="first")) == ["b", "d", "c"]
    assert len(Vocabulary.fit(COLUMN, max_size=3, unseen="unknown", missing="own")) == 5
    assert len(Vocabulary.fit(COLUMN, max_size=100)) == 5


def test_min_count_cuts_and_the_unknown_row_counts_what_was_cut():
    vocabulary = Vocabulary.fit(COLUMN, min_count=2, unseen="unknown")
    assert list(vocabulary) == ["b", "c", "d"]
    assert vocabulary.counts.tolist() == [2, 3, 2, 2]
    assert vocabulary.encode(["a", "b", "e"]).tolist() == [0, 1, 0]
    assert Vocabulary.fit(COLUMN, min_count=2, max_size=1, unseen="unknown").counts.tolist() == [6, 3]
    assert list(Vocabulary.fit(COLUMN, min_count=4)) == []


def test_what_was_cut_is_unseen_without_an_unknown_row():
    vocabulary = Vocabulary.fit(COLUMN, min_count=2)
    assert vocabulary.counts.tolist() == [3, 2, 2]
    with pytest.raises(UnseenCategoryError, match="'a', 'e'"):
        vocabulary.encode(COLUMN)


@pytest.mark.parametrize(
    ("unseen", "missing", "counts"),
    [
        ("error", "own", [2, 2, 1]),
        ("unknown", "own", [2, 0, 2, 1]),
        ("unknown", "unknown", [2, 2, 1]),
    ],
)
@pytest.mark.parametrize("make", [list, pa.array, pd.Series, lambda v: pd.Series(v, dtype="category"), pl.Series])
def test_missing_values_are_counted(make, unseen, missing, counts):
    vocabulary = Vocabulary.fit(make(["x", None, "y", "x", None]), unseen=unseen, missing=missing)
    assert list(vocabulary) == ["x", "y"]
    assert vocabulary.counts.tolist() == counts


def test_the_unknown_row_counts_cut_and_missing_values_it_stands_for():
    vocabulary = Vocabulary.fit(["x", None, "y", "x"], min_count=2, unseen="unknown", missing="unknown")
    assert vocabulary.counts.tolist() == [2, 2]


def test_missing_values_need_a_policy():
    with pytest.raises(VocabularyError) as caught:
        Vocabulary.fit(["x", None, float("nan")], name="letters")
    assert str(caught.value) == (
        "column 'letters': 2 missing values at positions 1, 2 (None, NaN and the like): drop or fill them, or choose "
        'missing="own" (a row of their own) or missing="unknown" (the unknown row)'
    )


def test_a_column_of_missing_values_only():
    vocabulary = Vocabulary.fit([None, float("nan")], missing="own", unseen="unknown")
    assert vocabulary.kind == "empty"
    assert vocabulary.counts.tolist() == [2, 0]
    assert vocabulary.encode(["a", None]).tolist() == [1, 0]


@pytest.mark.parametrize("order", ["frequency", "sorted", "first"])
def test_empty_columns(order):
    assert Vocabulary.fit([], order=order).kind == "empty"
    assert Vocabulary.fit([], max_size=1, order=order).counts.tolist() == []
    assert Vocabulary.fit(pa.array([], pa.int8()), order=order).kind == "integer"


def test_unused_levels_are_no_categories():
    column = pd.Series(pd.Categorical(["b", "a", "b", "b"], ["a", "b", "unused"]))
    for each in (column, pa.Array.from_pandas(column), pl.Series(column.tolist(), dtype=pl.Enum(["a", "b", "z"]))):
        vocabulary = Vocabulary.fit(each)
        assert list(vocabulary) == ["b", "a"]
        assert vocabulary.counts.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ([3, -1, 3, 2, 2], [2, 3, -1]),
        ([True, False, True], [True, False]),
        ([b"b", b"a"], [b"a", b"b"]),
        ([dt.date(2024, 1, 2), dt.date(2024, 1, 1)], [dt.date(2024, 1, 1), dt.date(2024, 1, 2)]),
        ([dt.datetime(2024, 1, 2), dt.datetime(2024, 1, 1)], [dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 2)]),
    ],
)
def test_every_kind(column, expected):
    assert list(Vocabulary.fit(column)) == expected
    assert list(Vocabulary.fit(column, order="sorted")) == sorted(expected)


def test_text_is_sorted_by_code_point():
    words = ["é", "z", "Z", "a", "😀", "", "\uffff"]
    assert list(Vocabulary.fit(words, order="sorted")) == sorted(words)


def test_columns_of_any_shape():
    vocabulary = Vocabulary.fit([["a", "b"], ["b", "c"]])
    assert list(vocabulary) == ["b", "a", "c"]
    assert vocabulary.encode([["a", "b"]]).tolist() == [[1, 0]]
    assert list(Vocabulary.fit(np.array([[1, 2], [2, 3]]))) == [2, 1, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_count": 0}, "min_count must be an integer of at least 1, got 0"),
        ({"min_count": 1.5}, "min_count must be an integer of at least 1, got 1.5"),
        ({"min_count": True}, "min_count must be an integer"),
        ({"max_size": 0}, "max_size must be an integer of at least 1, got 0"),
        ({"max_size": "10"}, "max_size must be an integer of at least 1, got '10'"),
        ({"order": "random"}, 'order must be one of "frequency", "sorted", "first", got \'random\''),
        ({"order": None}, "order must be one of"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary.fit(COLUMN, **options)


def test_counts_cannot_be_changed():
    vocabulary = Vocabulary.fit(COLUMN)
    with pytest.raises(ValueError, match="read-only"):
        vocabulary.counts[0] = 9
