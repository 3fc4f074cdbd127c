"""The stored form: what it is, that it comes back, and that nothing unsound is ever taken for a vocabulary."""

import copy
import datetime as dt
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import Vocabulary
from catembed.errors import FormatError

VOCABULARIES = {
    "string": Vocabulary(["apple", "", "naïve\0", "😀"], name="fruit"),
    "bytes": Vocabulary([b"\xff\0", b""], unseen="unknown"),
    "integer": Vocabulary([-(2**63), 2**63 - 1, 0], missing="own"),
    "boolean": Vocabulary([True, False]),
    "date": Vocabulary([dt.date.min, dt.date.max]),
    "timestamp": Vocabulary([dt.datetime.min, dt.datetime.max]),
    "timestamp[UTC]": Vocabulary([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)]),
    "empty": Vocabulary([], unseen="unknown", missing="own"),
    "no strings": Vocabulary(np.array([], np.dtypes.StringDType())),
    "fitted": Vocabulary.fit(["b", "a", "b", None], unseen="unknown", missing="own", name="letters"),
}
each_vocabulary = pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES.keys())


def same(one, other):
    assert one == other
    assert (one.fingerprint, one.name, one.kind, len(one)) == (other.fingerprint, other.name, other.kind, len(other))
    assert list(one) == list(other)
    assert (one.counts is None) == (other.counts is None)
    assert one.counts is None or one.counts.tolist() == other.counts.tolist()
    column = list(one)
    assert one.encode(column).equal(other.encode(column))


@each_vocabulary
def test_arrays_come_back(vocabulary):
    header, arrays = vocabulary.to_arrays()
    same(Vocabulary.from_arrays(json.loads(json.dumps(header)), arrays), vocabulary)
    strided = {name: np.repeat(array, 2)[::2] for name, array in arrays.items()}
    same(Vocabulary.from_arrays(header, strided), vocabulary)


@each_vocabulary
def test_copies(vocabulary):
    same(pickle.loads(pickle.dumps(vocabulary)), vocabulary)
    for other in (copy.copy(vocabulary), copy.deepcopy([vocabulary])[0]):
        same(other, vocabulary)
        assert other is not vocabulary


@each_vocabulary
def test_stored_arrays_cannot_change_the_vocabulary(vocabulary):
    assert not any(array.flags.writeable for array in vocabulary.to_arrays()[1].values())


def test_text_is_bytes_and_offsets():
    header, arrays = VOCABULARIES["string"].to_arrays()
    assert arrays.keys() == {"categories.bytes", "categories.offsets"}
    assert arrays["categories.bytes"].tobytes() == "applenaïve\0😀".encode()
    assert arrays["categories.bytes"].dtype == np.uint8
    assert arrays["categories.offsets"].tolist() == [0, 5, 5, 12, 16]
    assert arrays["categories.offsets"].dtype == np.int64
    fingerprint = VOCABULARIES["string"].fingerprint
    assert header == {
        "kind": "string",
        "unseen": "error",
        "missing": "error",
        "name": "fruit",
        "fingerprint": fingerprint,
    }


@pytest.mark.parametrize(
    ("vocabulary", "values", "dtype"),
    [
        (Vocabulary([3, -1]), [3, -1], np.int64),
        (Vocabulary([True, False]), [1, 0], np.uint8),
        (Vocabulary([dt.date(1970, 1, 3)]), [2], np.int64),
        (Vocabulary([dt.datetime(1970, 1, 1, 0, 0, 1)]), [1_000_000], np.int64),
        (Vocabulary([]), [], np.int64),
    ],
)
def test_other_kinds_are_one_array(vocabulary, values, dtype):
    _, arrays = vocabulary.to_arrays()
    assert arrays.keys() == {"categories"}
    assert arrays["categories"].tolist() == values
    assert arrays["categories"].dtype == dtype


def test_counts_are_stored_for_every_id():
    _, arrays = VOCABULARIES["fitted"].to_arrays()
    assert arrays["counts"].tolist() == [1, 0, 2, 1]
    assert arrays["counts"].dtype == np.int64


# Attacks: each changes a sound vocabulary in one way.

TEXT_ATTACKS = {
    "offsets that decrease": (
        {"categories.offsets": [0, 3, 1, 6]},
        "got 3 and then 1 at position 2",
    ),
    "offsets past the bytes": ({"categories.offsets": [0, 1, 3, 7]}, "must run from 0 to 6 .*, got 0 to 7"),
    "offsets short of the bytes": ({"categories.offsets": [0, 1, 3, 5]}, "must run from 0 to 6 .*, got 0 to 5"),
    "offsets that start late": ({"categories.offsets": [1, 1, 3, 6]}, "must run from 0 to 6 .*, got 1 to 6"),
    "negative offsets": ({"categories.offsets": [0, -1, 3, 6]}, "must not decrease"),
    "offsets that jump out and back": ({"categories.offsets": [0, 2**62, 3, 6]}, "must not decrease"),
    "no offsets at all": ({"categories.offsets": []}, "must run from 0 to 6 .*, got nothing"),
    "narrow offsets": (
        {"categories.offsets": np.array([0, 1, 3, 6], np.int32)},
        "int64 array, got int32",
    ),
    "floating offsets": ({"categories.offsets": np.array([0, 1, 3, 6.0])}, "int64 array, got float64"),
    "other byte order": ({"categories.offsets": np.array([0, 1, 3, 6], ">i8")}, "int64 array, got >i8"),
    "offsets in two dimensions": ({"categories.offsets": np.zeros((2, 2), np.int64)}, r"got int64 of shape \(2, 2\)"),
    "offsets in a list": ({"categories.offsets": "list"}, "got str"),
    "signed bytes": ({"categories.bytes": np.zeros(6, np.int8)}, "uint8 array, got int8"),
    "invalid UTF-8": ({"categories.bytes": np.full(6, 0xFF, np.uint8)}, "not sound: Invalid UTF8"),
    "a character cut in two": (
        {"categories.bytes": np.frombuffer("aéééx".encode()[:6], np.uint8)},
        "not sound: Invalid UTF8",
    ),
    "duplicates": (
        {"categories.bytes": np.frombuffer(b"aabbbb", np.uint8), "categories.offsets": [0, 1, 2, 6]},
        "duplicate categories: 'a' at positions 0, 1",
    ),
    "other letters": ({"categories.bytes": np.frombuffer(b"xyyzzZ", np.uint8)}, "do not match their fingerprint"),
    "another cut": ({"categories.offsets": [0, 2, 3, 6]}, "do not match their fingerprint"),
    "too few counts": ({"counts": [1, 1]}, "one entry for each of the 3 ids, got 2"),
    "too many counts": ({"counts": [1, 1, 1, 1]}, "one entry for each of the 3 ids, got 4"),
    "negative counts": ({"counts": [1, -1, 1]}, "must not be negative, got -1 at id 1"),
    "floating counts": ({"counts": np.ones(3)}, "int64 array, got float64"),
    "an array too many": ({"categories": [1]}, "kind 'string' has the arrays .*, got .*'categories'"),
    "an array too few": ({"categories.bytes": None}, r"has the arrays .*, got \['categories.offsets'\]"),
}


@pytest.mark.parametrize(("changes", "message"), TEXT_ATTACKS.values(), ids=TEXT_ATTACKS.keys())
def test_unsound_arrays_are_refused(changes, message):
    header, arrays = Vocabulary.fit(["x", "yy", "zzz"], order="first").to_arrays()
    Vocabulary.from_arrays(header, arrays)
    for name, value in changes.items():
        arrays[name] = np.array(value, np.int64) if isinstance(value, list) else value
        if value is None:
            del arrays[name]
    with pytest.raises(FormatError, match=message):
        Vocabulary.from_arrays(header, arrays)


HEADER_ATTACKS = {
    "unknown kind": ({"kind": "float"}, "unknown kind of categories 'float'; known are string, bytes"),
    "kind of a wrong type": ({"kind": ["string"]}, "unknown kind of categories"),
    "another kind": ({"kind": "bytes"}, "do not match their fingerprint"),
    "a kind of other arrays": ({"kind": "integer"}, r"kind 'integer' has the arrays \['categories'\]"),
    "unknown policy": ({"unseen": "skip"}, "unseen must be one of"),
    "buckets without their policy": ({"buckets": 3}, "buckets= go together"),
    "buckets of a wrong type": ({"unseen": "hash", "buckets": "3"}, "buckets must be an integer"),
    "an index seed without an index": ({"index_seed": 3}, r"has the arrays .*, got \["),
    "another policy": ({"unseen": "unknown"}, "counts|fingerprint"),
    "policies that do not go together": ({"missing": "unknown"}, "needs an unknown row"),
    "policy of a wrong type": ({"missing": None}, "missing must be one of"),
    "name of a wrong type": ({"name": 3}, "name is a string or null, got 3"),
    "fingerprint of a wrong type": ({"fingerprint": None}, "fingerprint is a string, got None"),
    "another fingerprint": ({"fingerprint": "0" * 64}, "do not match their fingerprint"),
    "a key too many": ({"pickle": "x"}, "has the keys .*, got .*pickle"),
    "a key too few": ({"kind": KeyError}, "has the keys"),
}


@pytest.mark.parametrize(("changes", "message"), HEADER_ATTACKS.values(), ids=HEADER_ATTACKS.keys())
def test_unsound_headers_are_refused(changes, message):
    header, arrays = Vocabulary.fit(["x", "yy", "zzz"]).to_arrays()
    for key, value in changes.items():
        header[key] = value
        if value is KeyError:
            del header[key]
    with pytest.raises(FormatError, match=message):
        Vocabulary.from_arrays(header, arrays)


@pytest.mark.parametrize(
    ("vocabulary", "values", "message"),
    [
        (Vocabulary([True]), np.array([2], np.uint8), "booleans are stored as 0 and 1, got 2"),
        (Vocabulary([dt.date.min]), np.array([2**40]), "outside the years 1 to 9999"),
        (Vocabulary([dt.date.min]), np.array([-(2**31)]), "outside the years 1 to 9999"),
        (Vocabulary([dt.datetime.min]), np.array([2**62]), "outside the years 1 to 9999"),
        (Vocabulary([]), np.array([1]), "kind 'empty' has no categories, got 1"),
        (Vocabulary([1, 2]), np.array([1, 1]), "duplicate categories: 1 at positions 0, 1"),
        (Vocabulary([1, 2]), np.array([1, 3]), "do not match their fingerprint"),
    ],
)
def test_unsound_values_are_refused(vocabulary, values, message):
    header, arrays = vocabulary.to_arrays()
    with pytest.raises(FormatError, match=message):
        Vocabulary.from_arrays(header, arrays | {"categories": values})


@pytest.mark.parametrize(("header", "arrays"), [(None, {}), ([], {}), ("kind", {}), ({}, {}), ({1: 2}, {})])
def test_headers_that_are_none(header, arrays):
    with pytest.raises(FormatError, match="a vocabulary header"):
        Vocabulary.from_arrays(header, arrays)
    with pytest.raises(FormatError, match="arrays are a mapping, got NoneType"):
        Vocabulary.from_arrays(Vocabulary([1]).to_arrays()[0], None)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data(), which=st.sampled_from(sorted(VOCABULARIES)))
def test_no_changed_bit_goes_unseen(data, which):
    vocabulary = VOCABULARIES[which]
    header, arrays = vocabulary.to_arrays()
    name = data.draw(st.sampled_from(sorted(set(arrays) - {"counts"})))
    octets = bytearray(arrays[name].tobytes())
    if not octets:
        return
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] ^= 1 << data.draw(st.integers(0, 7))
    arrays[name] = np.frombuffer(bytes(octets), arrays[name].dtype)
    with pytest.raises(FormatError):
        Vocabulary.from_arrays(header, arrays)
