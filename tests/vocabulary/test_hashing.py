"""`HashVocabulary`: ids that are the hash and nothing else; kinds, missing values, and how it travels."""

import copy
import datetime as dt
import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

import catembed
from catembed import FormatError, HashVocabulary, OutOfRangeError, UnseenCategoryError, Vocabulary, VocabularyError
from catembed.kernels.reference_hash import hash_bytes

WORDS = ["banana", "kiwi", "", "é", "x" * 100]
KINDS = {
    "string": (WORDS, [word.encode() for word in WORDS]),
    "bytes": ([b"", b"\xff\0", b"banana"], [b"", b"\xff\0", b"banana"]),
    "integer": ([0, -1, 2**63 - 1], [bytes(8), b"\xff" * 8, b"\xff" * 7 + b"\x7f"]),
    "boolean": ([True, False], [b"\1" + bytes(7), bytes(8)]),
    "date": ([dt.date(1970, 1, 3)], [b"\2" + bytes(7)]),
    "timestamp": ([dt.datetime(1970, 1, 1, 0, 0, 0, 5)], [b"\5" + bytes(7)]),
    "timestamp[UTC]": ([dt.datetime(1970, 1, 1, 0, 0, 0, 5, tzinfo=dt.UTC)], [b"\5" + bytes(7)]),
}


def buckets(values, count, seed=0):
    return [hash_bytes(value, seed) * count >> 64 for value in values]


@pytest.mark.parametrize("kind", KINDS)
def test_an_id_is_the_hash_of_the_bytes(kind):
    values, octets = KINDS[kind]
    vocabulary = HashVocabulary(1000, kind=kind)
    assert vocabulary.encode(values).tolist() == buckets(octets, 1000)
    assert [int(vocabulary.encode(value)) for value in values] == buckets(octets, 1000)
    own = HashVocabulary(1000, kind=kind, missing="own", hashes=3)
    ids = own.encode([*values, None])
    assert ids.dtype == torch.int64
    assert ids.shape == (len(values) + 1, 3)
    assert ids[-1].tolist() == [0, 0, 0]
    for place in range(3):
        assert ids[:-1, place].tolist() == [1 + bucket for bucket in buckets(octets, 1000, place)]


def test_the_documented_ids_stay():
    """The file format's contract: rows of saved layers are found by them."""
    assert HashVocabulary(1000).encode(["banana", "kiwi", "banana"]).tolist() == [770, 942, 770]
    assert HashVocabulary(10, missing="own").encode([["a"], [None]]).tolist() == [[3], [0]]


def test_several_hashes_rarely_agree_in_all():
    ids = HashVocabulary(100, hashes=2).encode([str(i) for i in range(2000)])
    assert set(ids.flatten().tolist()) == set(range(100))
    alone = len(torch.unique(ids[:, 0]))
    pairs = len(torch.unique(ids, dim=0))
    assert alone == 100
    # Of 10,000 pairs, 2,000 throws leave 10,000 · (1 - e^-0.2) = 1,813 apart, give or take 13; 6 deviations.
    assert abs(pairs - 1813) < 80
    assert abs(np.corrcoef(ids.numpy().T)[0, 1]) < 6 / np.sqrt(2000)


COLUMNS = {
    "list": ["a", None, "b", "a"],
    "array": np.array(["a", None, "b", "a"], object),
    "Arrow": pa.array(["a", None, "b", "a"]),
    "slice": pa.array(["x", "a", None, "b", "a", "x"], pa.large_string()).slice(1, 4),
    "chunks": pa.chunked_array([["a", None], ["b", "a"], pa.array([], pa.string())]),
    "views": pa.array(["a", None, "b", "a"], pa.string_view()),
    "dictionary": pa.array(["a", None, "b", "a"]).dictionary_encode(),
    "category": pd.Series(["a", None, "b", "a"], dtype="category"),
    "Enum": pl.Series(["a", None, "b", "a"], dtype=pl.Enum(["unused", "b", "a"])),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS.keys())
@pytest.mark.parametrize("hashes", [1, 2])
def test_every_library_gives_the_same(column, hashes):
    a, b = (HashVocabulary(50, missing="own", hashes=hashes).encode(value).tolist() for value in "ab")
    missing = 0 if hashes == 1 else [0] * hashes
    assert HashVocabulary(50, missing="own", hashes=hashes).encode(column).tolist() == [a, missing, b, a]


def test_shapes():
    for hashes, end in ((1, ()), (4, (4,))):
        vocabulary = HashVocabulary(9, hashes=hashes, missing="own")
        assert vocabulary.encode("a").shape == end
        assert vocabulary.encode(None).shape == end
        assert vocabulary.encode([["a", None], ["b", "c"]]).shape == (2, 2, *end)
        assert vocabulary.encode([]).shape == (0, *end)
        assert vocabulary.encode([None, None]).tolist() == torch.zeros(2, *end, dtype=torch.int64).tolist()


def test_what_it_is():
    vocabulary = HashVocabulary(7, missing="own", name="clicks", hashes=2)
    assert (len(vocabulary), vocabulary.num_reserved, vocabulary.first_bucket) == (8, 8, 1)
    assert (vocabulary.buckets, vocabulary.hashes, vocabulary.kind, vocabulary.name) == (7, 2, "string", "clicks")
    assert (vocabulary.missing, vocabulary.missing_id, vocabulary.unknown_id) == ("own", 0, None)
    assert (list(vocabulary), vocabulary.counts, "a" in vocabulary) == ([], None, False)
    assert vocabulary.decode([0, 1, 7]) == [None, Vocabulary.UNKNOWN, Vocabulary.UNKNOWN]
    with pytest.raises(OutOfRangeError, match="column 'clicks'"):
        vocabulary.decode(8)
    assert len(HashVocabulary(7)) == 7


def test_repr():
    assert repr(HashVocabulary(7)) == "HashVocabulary(7)"
    shown = repr(HashVocabulary(7, hashes=2, kind="integer", missing="own", name="x"))
    assert shown == "HashVocabulary(7, hashes=2, kind='integer', missing='own', name='x')"
    assert eval(shown) == HashVocabulary(7, hashes=2, kind="integer", missing="own")


def test_equality_is_that_of_ids():
    made = [
        HashVocabulary(7),
        HashVocabulary(8),
        HashVocabulary(7, hashes=2),
        HashVocabulary(7, kind="integer"),
        HashVocabulary(7, missing="own"),
        Vocabulary(pa.array([], pa.string()), unseen="hash", buckets=7),
        Vocabulary([], unseen="hash", buckets=7),
    ]
    assert [[one == other for other in made].count(True) for one in made] == [1] * len(made)
    assert len({vocabulary.fingerprint for vocabulary in made}) == len({*made}) == len(made)
    assert HashVocabulary(7, name="x") == made[0]


@pytest.mark.parametrize("kind", KINDS)
def test_values_of_another_kind_are_refused(kind):
    vocabulary = HashVocabulary(7, kind=kind, name="x", missing="own")
    for other, (values, _) in KINDS.items():
        if other != kind:
            with pytest.raises(VocabularyError, match=r"column 'x': the column holds .*, but the vocabulary holds"):
                vocabulary.encode([None, values[0]])


def test_missing_values_are_refused_where_they_have_no_row():
    with pytest.raises(UnseenCategoryError, match=r'missing value at position 1 .*missing="own"') as told:
        HashVocabulary(7).encode(["a", None])
    assert "unknown" not in str(told.value)  # there is no such row to offer
    with pytest.raises(UnseenCategoryError, match="missing value"):
        HashVocabulary(7).encode([None])


def test_it_does_not_grow():
    with pytest.raises(VocabularyError, match="does not grow"):
        HashVocabulary(7).encode(["a"], grow=True)
    assert not hasattr(HashVocabulary(7), "add")


def test_damaged_columns_are_refused():
    offsets = pa.py_buffer(np.array([0, 2**30, 3], np.int32))
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"xyz")])
    with pytest.raises(VocabularyError, match="damaged"):
        HashVocabulary(7).encode(column)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"buckets": 0}, "buckets must be an integer of at least 1, got 0"),
        ({"buckets": 2**32}, "at most 4,294,967,295"),
        ({"buckets": None}, "buckets"),
        ({"buckets": "7"}, "buckets must be an integer of at least 1, got '7'"),
        ({"buckets": 7, "hashes": 0}, "hashes must be an integer of at least 1, got 0"),
        ({"buckets": 7, "hashes": 65}, "hashes must be at most 64, got 65"),
        ({"buckets": 7, "hashes": 1.5}, "hashes must be an integer"),
        ({"buckets": 7, "kind": "text"}, "kind must be one of .*, got 'text'"),
        ({"buckets": 7, "kind": "empty"}, "kind must be one of"),
        ({"buckets": 7, "missing": "unknown"}, 'missing must be one of "error", "own", got \'unknown\''),
        ({"buckets": 7, "name": 3}, "name must be a string or None, got 3"),
    ],
)
def test_what_makes_no_vocabulary_is_refused(options, message):
    with pytest.raises(VocabularyError, match=message):
        HashVocabulary(**options)


# On its way

MADE = HashVocabulary(70, hashes=3, kind="integer", missing="own", name="clicks")


def saved(vocabulary, tmp_path):
    catembed.save(tmp_path / "v.safetensors", vocabulary)
    return catembed.load(tmp_path / "v.safetensors")


@pytest.mark.parametrize(
    "way",
    [
        lambda vocabulary, _: pickle.loads(pickle.dumps(vocabulary)),
        lambda vocabulary, _: copy.copy(vocabulary),
        lambda vocabulary, _: copy.deepcopy(vocabulary),
        lambda vocabulary, _: HashVocabulary.from_arrays(json.loads(json.dumps(vocabulary.to_arrays()[0])), {}),
        saved,
    ],
    ids=["pickle", "copy", "deepcopy", "arrays", "file"],
)
def test_it_comes_back(way, tmp_path):
    back = way(MADE, tmp_path)
    assert type(back) is HashVocabulary
    assert (back, repr(back), back.fingerprint) == (MADE, repr(MADE), MADE.fingerprint)
    assert back.encode([1, None, 5]).equal(MADE.encode([1, None, 5]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"buckets": 71}, "do not match their fingerprint"),
        ({"hashes": 2}, "do not match their fingerprint"),
        ({"missing": "error"}, "do not match their fingerprint"),
        ({"hash_kind": "string"}, "do not match their fingerprint"),
        ({"fingerprint": 7}, "do not match their fingerprint"),
        ({"buckets": -1}, "stored vocabulary: buckets"),
        ({"buckets": [1]}, "stored vocabulary: buckets"),
        ({"hashes": "3"}, "stored vocabulary: hashes"),
        ({"hash_kind": None}, "stored vocabulary: kind"),
        ({"missing": {}}, "stored vocabulary: missing"),
        ({"name": 7}, "stored vocabulary: name"),
        ({"more": 7}, "header"),
    ],
    ids=repr,
)
def test_a_forged_header_is_refused(change, message):
    header, arrays = MADE.to_arrays()
    assert arrays == {}
    with pytest.raises(FormatError, match=message):
        HashVocabulary.from_arrays(header | change, {})


def test_a_header_with_something_missing_and_arrays_are_refused():
    header, _ = MADE.to_arrays()
    with pytest.raises(FormatError, match="no arrays"):
        HashVocabulary.from_arrays(header, {"categories": np.zeros(1, np.int64)})
    for key in header:
        with pytest.raises(FormatError, match="header"):
            HashVocabulary.from_arrays({other: header[other] for other in header if other != key}, {})
