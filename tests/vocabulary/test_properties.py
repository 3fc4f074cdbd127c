"""The vocabulary against a plain Python dict, for every kind of category and every kind of column."""

import datetime as dt
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import UnseenCategoryError, Vocabulary

ZONES = st.sampled_from([dt.timezone(dt.timedelta(hours=hours)) for hours in (-11, 0, 5, 13)])

# Few different values, so that columns meet the categories often, and any value at all.
KINDS = {
    "string": st.sampled_from(["", "a", "A", "a\0", "\0", "ab", "é", "e\u0301", "1"]) | st.text(max_size=5),
    "bytes": st.sampled_from([b"", b"a", b"a\0", b"\xff", b"1"]) | st.binary(max_size=5),
    "integer": st.integers(-3, 8) | st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "date": st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 8)) | st.dates(),
    "timestamp": st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 8)) | st.datetimes(),
    "timestamp[UTC]": st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 8), timezones=ZONES)
    | st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 1, 1), timezones=ZONES),
}


def arrow_chunks(values, cuts):
    places = sorted(cut % (len(values) + 1) for cut in cuts)
    parts = [values[start:end] for start, end in zip([0, *places], [*places, len(values)], strict=True)]
    whole = pa.array(values)
    # A slice with something before and after it, so that every offset is put to use.
    padded = [pa.concat_arrays([whole[:1], pa.array(part, whole.type), whole[:1]]) for part in parts]
    front = len(whole[:1])
    return pa.chunked_array([chunk.slice(front, len(chunk) - 2 * front) for chunk in padded], type=whole.type)


def columns_of(values, kind, cuts):
    """The same column as many libraries have it."""
    yield list(values)
    yield np.array([*values, None], object)[:-1]
    yield pd.Series(values, dtype=object)
    yield arrow_chunks(values, cuts)
    yield arrow_chunks(values, cuts).dictionary_encode()
    if kind in ("string", "integer", "date"):
        yield pl.Series(values, strict=True)
        yield pd.Series(pd.Categorical(pd.Series(values, dtype=object)))
    if kind == "integer" and all(value is None or abs(value) < 2**53 for value in values):
        yield np.array([np.nan if value is None else value for value in values], np.float64)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_encode_is_the_lookup_of_a_dict(kind, data):
    values = KINDS[kind]
    categories = data.draw(st.lists(values, unique=True, min_size=1, max_size=12), label="categories")
    column = data.draw(st.lists(st.none() | st.sampled_from(categories) | values, max_size=30), label="column")
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=3), label="cuts")
    unseen = data.draw(st.sampled_from(["error", "unknown"]), label="unseen")
    vocabulary = Vocabulary(categories, unseen=unseen, missing="own")
    ids = {value: place for place, value in enumerate(categories, start=vocabulary.num_reserved)}
    ids[None] = 0
    for each in columns_of(column, kind, cuts):
        if unseen == "error" and any(value not in ids for value in column):
            with pytest.raises(UnseenCategoryError, match="unseen value"):
                vocabulary.encode(each)
            continue
        encoded = vocabulary.encode(each)
        assert encoded.tolist() == [ids.get(value, 1) for value in column]
        decoded = vocabulary.decode(encoded)
        assert decoded == [value if value in ids else Vocabulary.UNKNOWN for value in column]
    for value in column:
        assert (value in vocabulary) == (value is not None and value in ids)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_fit_is_a_counter(kind, data):
    column = data.draw(st.lists(st.none() | KINDS[kind], max_size=30), label="column")
    cuts = data.draw(st.lists(st.integers(0, 30), max_size=3), label="cuts")
    min_count = data.draw(st.integers(1, 3), label="min_count")
    max_size = data.draw(st.none() | st.integers(1, 5), label="max_size")
    order = data.draw(st.sampled_from(["frequency", "sorted", "first"]), label="order")
    counted = Counter(value for value in column if value is not None)
    kept = sorted((value for value in counted if counted[value] >= min_count), key=lambda v: (-counted[v], v))
    kept = kept[:max_size]
    if order == "sorted":
        kept = sorted(kept)
    elif order == "first":
        kept = sorted(kept, key=list(counted).index)
    missing = column.count(None)
    cut = len(column) - missing - sum(counted[value] for value in kept)
    for each in columns_of(column, kind, cuts):
        vocabulary = Vocabulary.fit(
            each, min_count=min_count, max_size=max_size, order=order, unseen="unknown", missing="own"
        )
        assert list(vocabulary) == kept
        assert vocabulary.counts.tolist() == [missing, cut, *(counted[value] for value in kept)]
        assert np.bincount(vocabulary.encode(each), minlength=len(vocabulary)).tolist() == vocabulary.counts.tolist()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    values=st.lists(st.integers(0, 9), min_size=256, max_size=256),
)
def test_nested_lists_keep_the_shape_numpy_sees(shape, values):
    array = np.array(values[: int(np.prod(shape))]).reshape(shape)
    nested = array.tolist()
    vocabulary = Vocabulary(range(10))
    assert tuple(vocabulary.encode(nested).shape) == np.shape(nested)
    assert vocabulary.encode(nested).tolist() == nested
    assert vocabulary.encode(array).tolist() == nested
    assert vocabulary.decode(array) == nested
