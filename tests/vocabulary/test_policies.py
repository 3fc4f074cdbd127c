"""Every policy against a model in plain Python, for every pattern of nulls, slices and chunks in every library."""

import datetime as dt
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import UnseenCategoryError, Vocabulary, VocabularyError
from catembed.kernels.reference_hash import hash_bytes

KINDS = {
    "string": st.sampled_from(["", "a", "b", "a\0", "é", "e\u0301", "a long value that no view holds"])
    | st.text("abc"),
    "bytes": st.sampled_from([b"", b"a", b"\xff", b"a long value that no view holds"]) | st.binary(max_size=3),
    "integer": st.integers(-3, 8) | st.integers(-(2**63), 2**63 - 1),
    "boolean": st.booleans(),
    "date": st.dates(dt.date(2024, 1, 1), dt.date(2024, 1, 8)) | st.dates(),
    "timestamp": st.datetimes(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, 0, 0, 0, 8)) | st.datetimes(),
}
POLICIES = [
    {"unseen": unseen, "missing": missing} | ({"buckets": 3} if unseen == "hash" else {})
    for unseen in ("error", "unknown", "hash", "grow")
    for missing in ("error", "own", "unknown")
    if missing != "unknown" or unseen in ("unknown", "grow")
]


def octets(value):
    """The bytes that are hashed: docs/format.md."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, dt.datetime):
        value = (value - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    elif isinstance(value, dt.date):
        value = (value - dt.date(1970, 1, 1)).days
    return int(value).to_bytes(8, "little", signed=True)


class Model:
    """A vocabulary as a dict."""

    def __init__(self, categories, unseen, missing, buckets=None):
        self.unseen, self.missing, self.buckets = unseen, missing, buckets
        self.own = int(missing == "own")
        self.reserved = self.own + (buckets or int(unseen in ("unknown", "grow")))
        self.ids = {value: id for id, value in enumerate(categories, start=self.reserved)}

    def encode(self, column, grow=False):
        """The ids, or None where it raises."""
        if self.missing == "error" and None in column:
            return None
        if self.unseen == "error" and any(value is not None and value not in self.ids for value in column):
            return None
        return [self.one(value, grow) for value in column]

    def one(self, value, grow):
        if value is None:
            return 0
        if grow:
            self.ids.setdefault(value, len(self.ids) + self.reserved)
        if value in self.ids:
            return self.ids[value]
        return self.own + (hash_bytes(octets(value), 0) * self.buckets >> 64 if self.unseen == "hash" else 0)


def chunked(values, cuts, kind=None):
    """Chunks that are slices, with other values before and behind them."""
    whole = pa.array(values, kind)
    spare = pa.array([next((value for value in values if value is not None), None), None], whole.type)
    places = sorted(cut % (len(values) + 1) for cut in cuts)
    parts = [values[start:end] for start, end in zip([0, *places], [*places, len(values)], strict=True)]
    padded = [pa.concat_arrays([spare, pa.array(part, whole.type), spare]) for part in parts]
    return pa.chunked_array([chunk.slice(2, len(chunk) - 4) for chunk in padded], type=whole.type)


def columns_of(values, kind, cuts):
    yield "list", values
    yield "objects", np.array([*values, None], object)[:-1]
    yield "pandas objects", pd.Series(values, dtype=object)
    yield "chunks", chunked(values, cuts)
    yield "one slice", chunked(values, []).chunk(0)
    yield "dictionary", chunked(values, cuts).dictionary_encode()
    yield "dictionary of one chunk", chunked(values, []).chunk(0).dictionary_encode()
    if any(value is not None for value in values):
        levels = [None, *dict.fromkeys(value for value in values if value is not None)]
        codes = pa.array([levels.index(value) for value in values] * 2, pa.int8()).slice(len(values))
        yield "a dictionary with a null in it", pa.DictionaryArray.from_arrays(codes, pa.array(levels))
        yield "pandas category", pd.Series(values, dtype=object).astype("category")
        yield "polars", pl.Series(values, strict=True)
    if kind in ("string", "bytes"):
        text = kind == "string"
        yield "narrow", chunked(values, cuts, pa.string() if text else pa.binary())
        yield "wide", chunked(values, cuts, pa.large_string() if text else pa.large_binary())
        yield "views", chunked(values, [], pa.string_view() if text else pa.binary_view()).chunk(0)
    if kind == "string":
        yield "polars slice", pl.Series(["x", *values, "y"], dtype=pl.String)[1 : len(values) + 1]
        yield "Categorical", pl.Series(values, dtype=pl.Categorical)
        yield "Enum", pl.Series(values, dtype=pl.Enum(list(dict.fromkeys(["unused", *filter(None, values), ""]))))
        yield "Arrow in pandas", pd.Series(values, dtype=pd.ArrowDtype(pa.large_string()))
        yield "StringDtype", pd.Series(values, dtype="string")
    if kind == "integer":
        yield "nullable", pd.Series(values, dtype="Int64")
        if None not in values:
            yield "NumPy", np.array([0, *values], np.int64)[1:]
            yield "strided", np.repeat(np.array(values, np.int64), 2)[::2]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_policy_in_every_library(kind, data):
    values = KINDS[kind]
    policy = data.draw(st.sampled_from(POLICIES), label="policy")
    categories = data.draw(st.lists(values, unique=True, max_size=6), label="categories")
    nulls = st.none() if data.draw(st.booleans(), label="nulls") else st.nothing()
    column = data.draw(st.lists(nulls | values | st.sampled_from([*categories, *categories] or [None]), max_size=20))
    cuts = data.draw(st.lists(st.integers(0, 20), max_size=3), label="cuts")
    grow = policy["unseen"] == "grow" and data.draw(st.booleans(), label="grow")
    if kind == "boolean" and not categories:
        categories = [True]
    for name, each in columns_of(column, kind, cuts):
        model, vocabulary = Model(categories, **policy), Vocabulary(categories, **policy)
        for _ in range(2):  # what it has learned, it knows
            expected = model.encode(column, grow)
            if expected is None:
                with pytest.raises(UnseenCategoryError):
                    vocabulary.encode(each, grow=grow)
                assert list(vocabulary) == list(model.ids)
                continue
            ids = vocabulary.encode(each, grow=grow)
            assert ids.tolist() == expected, name
            assert list(vocabulary) == list(model.ids), name
            others = {None: None if policy["missing"] == "own" else Vocabulary.UNKNOWN}
            others |= dict(zip(model.ids, model.ids, strict=True))
            assert vocabulary.decode(ids) == [others.get(value, Vocabulary.UNKNOWN) for value in column], name


def test_buckets_are_the_same_in_every_process():
    code = """
from catembed import Vocabulary
vocabulary = Vocabulary(["apple"], unseen="hash", buckets=1000, missing="own")
print(*vocabulary.encode(["apple", "kiwi", None, "", "x" * 99]).tolist())
"""
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    kiwi, nothing, long = (1 + (hash_bytes(value, 0) * 1000 >> 64) for value in (b"kiwi", b"", b"x" * 99))
    assert list(map(int, run.stdout.split())) == [1001, kiwi, 0, nothing, long]


@pytest.mark.parametrize("buckets", [1, 2, 7, 2**20, 2**32 - 1])
def test_buckets_are_all_used_and_none_beyond(buckets):
    vocabulary = Vocabulary([], unseen="hash", buckets=buckets, missing="own")
    values = [str(i) for i in range(4000)]
    ids = vocabulary.encode(values).numpy()
    assert ids.tolist() == [1 + (hash_bytes(value.encode(), 0) * buckets >> 64) for value in values]
    assert 1 <= ids.min() <= ids.max() <= buckets
    if buckets <= 7:
        assert set(ids) == set(range(1, buckets + 1))
    assert vocabulary.encode(["0"]).tolist() == [ids[0]]
    assert int(vocabulary.encode("0")) == ids[0]


def test_buckets_missing_and_categories_lie_apart():
    vocabulary = Vocabulary(["a", "b"], unseen="hash", buckets=4, missing="own")
    assert (vocabulary.num_reserved, len(vocabulary), vocabulary.missing_id, vocabulary.unknown_id) == (5, 7, 0, None)
    assert (vocabulary.first_bucket, vocabulary.buckets) == (1, 4)
    assert vocabulary.encode(["a", None, "b"]).tolist() == [5, 0, 6]
    unknown = Vocabulary.UNKNOWN
    assert vocabulary.decode(range(7)) == [None, unknown, unknown, unknown, unknown, "a", "b"]
    assert Vocabulary(["a"], unseen="hash", buckets=4).first_bucket == 0
    with pytest.raises(UnseenCategoryError, match="missing value at position 1"):
        Vocabulary(["a"], unseen="hash", buckets=4).encode(["a", None])


def test_a_value_keeps_its_bucket_whatever_the_categories():
    values = [f"new {i}" for i in range(50)]
    ids = [Vocabulary(known, unseen="hash", buckets=9).encode(values).tolist() for known in (["a"], ["b", "c"], [])]
    assert ids[0] == ids[1] == ids[2]


def test_fit_counts_what_is_cut_in_its_buckets():
    column = ["a", "b", "a", "c", None, "d", "a", "b", "e"]
    vocabulary = Vocabulary.fit(column, min_count=2, unseen="hash", buckets=3, missing="own")
    assert list(vocabulary) == ["a", "b"]
    seen = Counter(vocabulary.encode(column).tolist())
    assert vocabulary.counts.tolist() == [seen[id] for id in range(len(vocabulary))]
    assert sum(vocabulary.counts) == len(column)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unseen": "hash"}, "go together"),
        ({"unseen": "unknown", "buckets": 3}, "go together"),
        ({"unseen": "hash", "buckets": 0}, "buckets must be an integer of at least 1, got 0"),
        ({"unseen": "hash", "buckets": 2.0}, "buckets must be an integer of at least 1, got 2.0"),
        ({"unseen": "hash", "buckets": True}, "got True"),
        ({"unseen": "hash", "buckets": 2**32}, "at most 4,294,967,295, got 4,294,967,296"),
        ({"unseen": "hash", "buckets": 3, "missing": "unknown"}, "there is none"),
        ({"unseen": "hash", "buckets": 3, "min_count": 2}, 'are for unseen="grow"'),
        ({"unseen": "error", "max_size": 5}, 'are for unseen="grow"'),
        ({"unseen": "grow", "min_count": 0}, "min_count must be an integer of at least 1, got 0"),
        ({"unseen": "grow", "max_size": -1}, "max_size must be an integer of at least 1, got -1"),
        ({"unseen": "grow", "max_size": 1}, "2 categories are more than max_size=1"),
        ({"unseen": "learn"}, "unseen must be one of .*, got 'learn'"),
    ],
)
def test_policies_that_do_not_go_together_are_refused(options, message):
    with pytest.raises(VocabularyError, match=message):
        Vocabulary(["a", "b"], **options)


@pytest.mark.parametrize("unseen", ["error", "unknown", "hash"])
def test_only_a_growing_vocabulary_grows_by_encoding(unseen):
    vocabulary = Vocabulary(["a"], unseen=unseen, buckets=2 if unseen == "hash" else None)
    with pytest.raises(VocabularyError, match=rf'for vocabularies made with unseen="grow".*unseen="{unseen}".*add'):
        vocabulary.encode(["b"], grow=True)
    assert list(vocabulary) == ["a"]


def test_policies_are_part_of_what_a_vocabulary_is():
    made = [
        Vocabulary(["a"]),
        Vocabulary(["a"], unseen="grow"),
        Vocabulary(["a"], unseen="unknown"),
        Vocabulary(["a"], unseen="hash", buckets=1),
        Vocabulary(["a"], unseen="hash", buckets=2),
        Vocabulary(["a"], unseen="hash", buckets=2, missing="own"),
    ]
    assert len({vocabulary.fingerprint for vocabulary in made}) == len(made)
    assert [[one == other for other in made].count(True) for one in made] == [1] * len(made)
    assert Vocabulary(["a"], unseen="grow", max_size=3, min_count=2) == made[1]  # ids do not depend on these


def test_repr_tells_the_policies():
    assert repr(Vocabulary(["a"], unseen="hash", buckets=3)) == "Vocabulary(['a'], unseen='hash', buckets=3)"
    shown = repr(Vocabulary(["a"], unseen="grow", missing="own", min_count=2, max_size=9, name="x"))
    assert shown == "Vocabulary(['a'], unseen='grow', missing='own', min_count=2, max_size=9, name='x')"
