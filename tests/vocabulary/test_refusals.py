"""What no vocabulary takes for a column, and what it never takes for one another."""

import datetime as dt
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import UnseenCategoryError, Vocabulary, VocabularyError

FRUIT = ["apple", "banana", "candy"]
DAY = dt.date(2024, 2, 29)
MOMENT = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)
NOON = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"apple"}, "a set is no column.*sorted"),
        ({"apple": 1}, "a dict is no column"),
        ({"apple": 1}.keys(), "a dict_keys is no column"),
        (pd.DataFrame({"a": FRUIT}), r"a DataFrame is many columns.*frame\['city'\]"),
        (pd.MultiIndex.from_tuples([("a", "b")]), "a MultiIndex is many columns"),
        (pl.DataFrame({"a": FRUIT}), r"a table is many columns, here \['a'\]"),
        (pa.table({"a": FRUIT}), r"a table is many columns, here \['a'\]"),
        (pa.array([decimal.Decimal(1)]), "Arrow column of type decimal128"),
        (pa.array([dt.time(1)]), "Arrow column of type time64"),
        (pd.Series(pd.to_timedelta([1])), "dtype timedelta64"),
        (pd.Series([pd.Period("2024")]), "period"),
        (np.array([1j]), "dtype complex128"),
        (np.zeros(1, "i4,i4"), "dtype .*'f0'"),
        (torch.ones(1, dtype=torch.bfloat16), "this Tensor cannot be read"),
        (torch.ones(1).to_sparse(), "this Tensor cannot be read"),
        (object(), "<object object at .*> is of type object"),
        (["apple", decimal.Decimal(1)], r"Decimal\('1'\) at position 1 is of type decimal.Decimal"),
        (bytearray(b"a"), "of type bytearray"),
        (memoryview(b"a"), "of type memoryview"),
        ([Vocabulary.UNKNOWN], "<unknown> at position 0"),
    ],
)
def test_what_is_no_column_is_refused(column, message):
    for action in (Vocabulary, Vocabulary.fit, Vocabulary(FRUIT, unseen="unknown").encode):
        with pytest.raises(VocabularyError, match=message):
            action(column)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([["apple"]]), "Arrow column of type list<item: string> holds lists"),
        (pl.Series([["apple"]]), "Arrow column of type large_list"),
        (np.array([["a"], ["b", "c"]], object), r"\['a'\] at position 0 is of type list"),
        ([["a"], ["b", "c"]], "ragged nested lists"),
    ],
)
def test_lists_of_categories_are_no_categories(column, message):
    for action in (Vocabulary, Vocabulary(FRUIT, unseen="unknown").encode):
        with pytest.raises(VocabularyError, match=f"{message}.*CategoryEmbedding made with pooling= takes them"):
            action(column)


def test_an_iterator_is_no_column_but_may_be_batches():
    for action in (Vocabulary, Vocabulary(FRUIT).encode):
        with pytest.raises(VocabularyError, match="a generator is no column"):
            action(value for value in FRUIT)
    with pytest.raises(VocabularyError, match="an iterator gives batches, each of them a column, got a single value"):
        Vocabulary.fit(value for value in FRUIT)
    assert list(Vocabulary.fit([value] for value in FRUIT)) == FRUIT


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["apple", 1], r"strings \('apple' at position 0\) and integers \(1 at position 1\)"),
        ([1, None, "apple"], r"integers \(1 at position 0\) and strings \('apple' at position 2\)"),
        ([[1], ["1"]], r"integers \(1 at position \(0, 0\)\) and strings \('1' at position \(1, 0\)\)"),
        ([1, True], r"integers \(1 at position 0\) and booleans \(True at position 1\)"),
        ([1.0, True], r"integers \(1.0 at position 0\) and booleans"),
        (["a", b"a"], r"strings \('a' at position 0\) and bytes \(b'a' at position 1\)"),
        ([DAY, MOMENT], r"dates \(2024-02-29 at position 0\) and timestamps without a time zone"),
        ([MOMENT, NOON], r"timestamps without a time zone .* and timestamps with a time zone"),
        (np.array(["a", 1], object), "strings .* and integers"),
        (pd.Series(["a", 1]), "strings .* and integers"),
        (pd.Series(["a", 1] * 9, dtype="category"), "strings .* and integers"),
        ([np.array(["a"]), np.array([1])], "strings at position 0 and integers at position 1"),
    ],
)
def test_mixed_types_are_refused_by_name_and_position(column, message):
    for action in (Vocabulary, Vocabulary.fit, Vocabulary(FRUIT, unseen="unknown").encode):
        with pytest.raises(VocabularyError, match=f"mixed types: {message}"):
            action(column)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([1.0, 1.5, 2.5], "1.5 at position 1 is no whole number"),
        (1.5, "^1.5 is no whole number"),
        (np.array([[1.0], [np.inf]]), r"inf at position \(1, 0\)"),
        ([-np.inf], "-inf at position 0"),
        (pd.Series([0.5, None]), "0.5 at position 0 is no whole number"),
        (pa.array([1.0, 0.25]), "0.25 at position 1"),
        (pl.Series([1.0, 0.25]), "0.25 at position 1"),
        (torch.tensor([0.5]), "0.5 at position 0"),
        (pd.Series([1.0, 0.5] * 9, dtype="category"), "0.5 at position 1"),
        ([2.0**53], "too large for a float"),
        (np.array([2.0**53]), "too large for float64 .* below 9007199254740992"),
        (np.array([2.0**24], np.float32), "too large for float32 .* below 16777216"),
        ([np.float32(2.0**24)], "too large for a float .* below 16777216"),
        (["a", 0.5], "0.5 at position 1 is no whole number"),
    ],
)
def test_floats_that_are_no_exact_integers_are_refused(column, message):
    for action in (Vocabulary, Vocabulary.fit, Vocabulary([1], unseen="unknown", missing="own").encode):
        with pytest.raises(VocabularyError, match=message):
            action(column)


def test_the_largest_exact_floats_pass():
    assert list(Vocabulary(np.array([2.0**53 - 1, 1 - 2.0**53]))) == [2**53 - 1, 1 - 2**53]
    assert list(Vocabulary(np.array([2.0**24 - 1], np.float32))) == [2**24 - 1]


@pytest.mark.parametrize(
    "column",
    [
        [0, 2**63],
        [0, -(2**63) - 1],
        np.array([0, 2**63], np.uint64),
        np.array([0, 2**63], ">u8"),
        pl.Series([0, 2**63], dtype=pl.UInt64),
    ],
)
def test_integers_beyond_64_bits_are_refused(column):
    with pytest.raises(VocabularyError, match=r"922337203685477580. at position 1 does not fit int64; use strings"):
        Vocabulary([0], unseen="unknown").encode(column)


def test_the_whole_range_of_int64_is_kept():
    extremes = [-(2**63), 2**63 - 1, 0]
    vocabulary = Vocabulary(extremes)
    assert vocabulary.encode(extremes).tolist() == [0, 1, 2]
    assert vocabulary.decode([0, 1, 2]) == extremes
    assert vocabulary.encode(np.array([2**63 - 1], np.uint64)).tolist() == [1]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pd.Timestamp("2024-01-01T00:00:00.000000001"), "^2024-01-01 00:00:00.000000001 is finer than a microsecond"),
        (np.array(["2024-01-01T00:00:00.000000001"], "M8[ns]"), "at position 0 is finer than a microsecond"),
        ([np.datetime64("2024-01-01T00:00:00.000000001")], "at position 0 is finer than a microsecond"),
        (pa.array([1], pa.timestamp("ns")), "finer than a microsecond"),
        (np.array([2**62], "M8[s]"), "outside the years 1 to 9999"),
        ([np.datetime64(2**62, "s")], "outside the years 1 to 9999"),
        (pa.array([2**30], pa.date32()), "outside the years 1 to 9999"),
        (pa.array([2**62], pa.timestamp("s")), "outside the years 1 to 9999"),
        (np.array(["-0001-01-01"], "M8[D]"), "outside the years 1 to 9999"),
    ],
)
def test_times_that_would_be_cut_or_wrap_are_refused(column, message):
    for action in (Vocabulary.fit, Vocabulary([MOMENT], unseen="unknown").encode):
        with pytest.raises(VocabularyError, match=message):
            action(column)


def test_damaged_arrow_memory_is_refused():
    offsets = pa.py_buffer(np.array([0, 1 << 40, 6], np.int64))
    column = pa.Array.from_buffers(pa.large_string(), 2, [None, offsets, pa.py_buffer(b"abcdef")])
    with pytest.raises(VocabularyError, match="the Arrow column is damaged"):
        Vocabulary(["abc"], unseen="unknown").encode(column)
    invalid = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 2], np.int32)), pa.py_buffer(b"\xff\xfe")]
    )
    with pytest.raises(VocabularyError, match="the Arrow column is damaged: Invalid UTF8"):
        Vocabulary.fit(invalid)


# One type is never another


@pytest.mark.parametrize(
    ("categories", "value", "words"),
    [
        ([1, 2], "1", r"holds strings \('1'\), but the vocabulary holds integers"),
        (["1", "2"], 1, r"holds integers \(1\), but the vocabulary holds strings"),
        ([1, 0], True, r"holds booleans \(True\), but the vocabulary holds integers"),
        ([True, False], 1, r"holds integers \(1\), but the vocabulary holds booleans"),
        ([True, False], 1.0, r"holds integers \(1\), but the vocabulary holds booleans"),
        (["a"], b"a", r"holds bytes \(b'a'\), but the vocabulary holds strings"),
        (
            [DAY],
            dt.datetime(2024, 2, 29),
            r"holds timestamps without a time zone \(2024-02-29 00:00:00\), .* holds dates",
        ),
        ([MOMENT], DAY, r"holds dates \(2024-02-29\), .* holds timestamps without a time zone"),
        ([MOMENT], NOON, "holds timestamps with a time zone .* holds timestamps without a time zone"),
        ([NOON], MOMENT, "holds timestamps without a time zone .* holds timestamps with a time zone"),
        ([19782], DAY, "holds dates .* holds integers"),
    ],
)
def test_a_value_of_another_type_is_never_equal(categories, value, words):
    for unseen in ("error", "unknown"):
        vocabulary = Vocabulary(categories, unseen=unseen, name="c")
        with pytest.raises(VocabularyError, match=f"^column 'c': the column {words}") as caught:
            vocabulary.encode(value)
        assert not isinstance(caught.value, UnseenCategoryError)
        assert value not in vocabulary


def test_a_mismatch_names_the_first_value_that_is_there():
    with pytest.raises(VocabularyError, match=r"strings \('1' at position \(1, 0\)\)"):
        Vocabulary([1], missing="own").encode([[None], ["1"]])
    with pytest.raises(VocabularyError, match=r"strings \('1' at position 1\)"):
        Vocabulary([1], missing="own").encode(pd.Series([None, "1", "1", "1"], dtype="category"))
