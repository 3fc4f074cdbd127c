"""Vocabularies that grow: admission, limits, `add` and `observe`; and that what they learned is kept everywhere."""

import copy
import pickle
import sys
import threading
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import catembed
from catembed import UnseenCategoryError, Vocabulary, VocabularyError


def ids(vocabulary, column, grow=True):
    return vocabulary.encode(column, grow=grow).tolist()


def saved(vocabulary, tmp_path):
    catembed.save(tmp_path / "v.safetensors", vocabulary)
    return catembed.load(tmp_path / "v.safetensors")


def stored(vocabulary, tmp_path):
    return Vocabulary.from_arrays(*vocabulary.to_arrays(index=True))


WAYS = {
    "pickle": lambda vocabulary, tmp_path: pickle.loads(pickle.dumps(vocabulary)),
    "file": saved,
    "arrays": stored,
    "copy": lambda vocabulary, tmp_path: copy.copy(vocabulary),
    "deepcopy": lambda vocabulary, tmp_path: copy.deepcopy([vocabulary])[0],
}
each_way = pytest.mark.parametrize("way", WAYS)


# Ids


def test_new_values_get_the_next_ids_in_order_of_appearance():
    vocabulary = Vocabulary(["m", "k"], unseen="grow", missing="own")
    assert ids(vocabulary, ["z", "m", None, "a", "z", "k", "b"]) == [4, 2, 0, 5, 4, 3, 6]
    assert ids(vocabulary, [["b", "c"], ["a", "m"]]) == [[6, 7], [5, 2]]
    assert int(vocabulary.encode("d", grow=True)) == 8
    assert list(vocabulary) == ["m", "k", "z", "a", "b", "c", "d"]
    assert (len(vocabulary), vocabulary.num_reserved, vocabulary.unknown_id) == (9, 2, 1)


def test_nothing_grows_unless_asked():
    vocabulary = Vocabulary(["a"], unseen="grow")
    fingerprint = vocabulary.fingerprint
    for column in (["b", "a"], "b", pa.array(["c"]).dictionary_encode()):
        vocabulary.encode(column)
    assert "b" not in vocabulary
    assert ids(vocabulary, ["b", "a"], grow=False) == [0, 1]
    assert (list(vocabulary), vocabulary.fingerprint) == (["a"], fingerprint)
    vocabulary.encode(["b"], grow=True)
    assert "b" in vocabulary
    assert vocabulary.fingerprint == Vocabulary(["a", "b"], unseen="grow").fingerprint != fingerprint


@settings(max_examples=40, deadline=None, derandomize=True)
@given(columns=st.lists(st.lists(st.none() | st.text("abcdé", max_size=3), max_size=20), max_size=8))
def test_an_id_never_moves(columns):
    vocabulary, known = Vocabulary(["a"], unseen="grow", missing="own"), {"a": 2}
    for column in columns:
        for value in column:
            if value is not None:
                known.setdefault(value, len(known) + 2)
        assert ids(vocabulary, column) == [0 if value is None else known[value] for value in column]
        assert vocabulary.encode(list(known)).tolist() == list(known.values())
        assert vocabulary.decode(list(known.values())) == list(known)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(pd.Categorical(["y", "x", "y", None], categories=["unused", "x", "a", "y"])),
        pl.Series(["y", "x", "y", None], dtype=pl.Enum(["unused", "x", "a", "y"])),
        pl.Series(["unused", "a", "y", "x", "y", None], dtype=pl.Categorical)[2:],
        pa.DictionaryArray.from_arrays(pa.array([3, 1, 3, None]), pa.array(["unused", "x", "a", "y"])),
        pa.DictionaryArray.from_arrays(pa.array([4, 1, 4, None], pa.int8()), pa.array(["unused", "x", "a", "y", "y"])),
    ],
    ids=["pandas", "Enum", "Categorical", "Arrow", "Arrow, an entry twice"],
)
def test_only_values_that_are_used_become_categories(column):
    for grow in (lambda vocabulary: vocabulary.encode(column, grow=True), lambda vocabulary: vocabulary.add(column)):
        vocabulary = Vocabulary(["a"], unseen="grow", missing="own")
        assert grow(vocabulary).tolist() == [3, 4, 3, 0]
        assert list(vocabulary) == ["a", "y", "x"]


def test_a_refused_column_leaves_everything_as_it_was():
    vocabulary = Vocabulary(["a"], unseen="grow")
    with pytest.raises(UnseenCategoryError, match="missing value at position 1"):
        vocabulary.encode(["b", None, "c"], grow=True)
    with pytest.raises(VocabularyError, match="mixed types"):
        vocabulary.encode(["b", 1], grow=True)
    with pytest.raises(VocabularyError, match=r"the column holds integers \(1 at position 0\)"):
        vocabulary.encode([1], grow=True)
    offsets = pa.py_buffer(np.array([0, 2**30, 3], np.int32))
    damaged = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"xyz")])
    with pytest.raises(VocabularyError, match="damaged"):
        vocabulary.encode(damaged, grow=True)
    surrogate = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.py_buffer(np.array([0, 3], np.int32)), pa.py_buffer(b"\xed\xa0\x80")]
    )
    with pytest.raises(VocabularyError, match="damaged"):
        vocabulary.encode(surrogate, grow=True)
    assert list(vocabulary) == ["a"]


@pytest.mark.parametrize("min_count", [1, 2])
@pytest.mark.parametrize(
    ("first", "other"), [(["x", "y"], [1, 2]), ([1, 2], ["x", "y"]), ([b"x"], ["x"]), ([True], [1])]
)
def test_an_empty_vocabulary_takes_the_kind_of_the_first_values(first, other, min_count):
    """Also where those have not been seen often enough to become categories."""
    vocabulary = Vocabulary([], unseen="grow", min_count=min_count, missing="own")
    fingerprint = vocabulary.fingerprint
    assert ids(vocabulary, [None]) == [0]
    assert (vocabulary.kind, vocabulary.fingerprint) == ("empty", fingerprint)
    vocabulary.encode(first, grow=True)
    assert vocabulary.kind == Vocabulary(first).kind
    assert vocabulary.fingerprint != fingerprint
    with pytest.raises(VocabularyError, match="the column holds"):
        vocabulary.encode(other, grow=True)
    again = pickle.loads(pickle.dumps(vocabulary))
    for each in (vocabulary, again):
        assert ids(each, [None, *first]) == [0, *range(2, 2 + len(first))]
        assert list(each) == first


# Admission


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("values", [st.sampled_from("abcdefgh"), st.integers(-2, 5)], ids=["text", "integers"])
def test_min_count_is_exact(values, data):
    """All of one call count before any of them is admitted; whatever way the vocabulary has gone in between."""
    min_count = data.draw(st.integers(1, 4))
    vocabulary = Vocabulary([], unseen="grow", missing="own", min_count=min_count)
    seen, known = Counter(), {}
    for column in data.draw(st.lists(st.lists(st.none() | values, max_size=12), max_size=8)):
        new = [value for value in column if value is not None and value not in known]
        seen.update(new)
        for value in new:
            if seen[value] >= min_count:
                known.setdefault(value, len(known) + 2)
        assert ids(vocabulary, column) == [0 if value is None else known.get(value, 1) for value in column]
        if data.draw(st.booleans()):
            vocabulary = WAYS[data.draw(st.sampled_from(["pickle", "arrays", "copy"]))](vocabulary, None)


@each_way
@pytest.mark.parametrize("column", [["x", "y", "x"], [1, 2, 1], [b"x", b"y", b"x"], [True, False, True]], ids=repr)
def test_values_that_wait_are_kept(way, column, tmp_path):
    vocabulary = Vocabulary([], unseen="grow", min_count=3)
    assert ids(vocabulary, column) == [0, 0, 0]
    other = WAYS[way](vocabulary, tmp_path)
    assert ids(other, column) == [1, 0, 1]
    assert ids(vocabulary, column[:1]) == [1]  # each counts for itself
    assert ids(vocabulary, column[1:2]) == [0]
    assert ids(other, column[1:2]) == [2]


def test_waiting_goes_on_through_thousands_of_admissions():
    """The room is cleared of those admitted by and by; nobody who waits is lost by that."""
    vocabulary = Vocabulary([], unseen="grow", min_count=2)
    vocabulary.encode(["patient"], grow=True)
    for start in range(0, 6000, 600):
        column = [f"v{i}" for i in range(start, start + 600)]
        assert set(ids(vocabulary, column)) == {0}
        assert ids(vocabulary, column) == list(range(start + 1, start + 601))
    assert len(vocabulary._waiting.waiting(2)[2]) == 1
    assert len(vocabulary._waiting._counts) < 4000
    assert ids(vocabulary, ["patient"]) == [6001]


def test_what_was_added_by_hand_does_not_wait():
    vocabulary = Vocabulary(["a"], unseen="grow", min_count=3)
    vocabulary.encode(["b"], grow=True)
    assert vocabulary.add(["b"]).tolist() == [2]
    assert ids(vocabulary, ["b"]) == ids(vocabulary, ["b"], grow=False) == [2]


# Limits


def test_a_full_vocabulary_says_so_once_and_goes_on():
    vocabulary = Vocabulary(["a"], unseen="grow", max_size=3, name="fruit")
    with pytest.warns(UserWarning, match=r"column 'fruit': the vocabulary is full.*max_size=3.*'d'") as told:
        assert ids(vocabulary, ["b", "c", "d", "a", "e", "d"]) == [2, 3, 0, 1, 0, 0]
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(vocabulary, ["x", "c", "d"]) == [0, 3, 0]
    assert list(vocabulary) == ["a", "b", "c"]


@pytest.mark.parametrize("missing", ["own", "unknown"])
def test_a_full_vocabulary_with_values_that_wait(missing):
    vocabulary = Vocabulary([], unseen="grow", max_size=1, min_count=2, missing=missing)
    assert ids(vocabulary, ["a", "b", None]) == [vocabulary.unknown_id] * 2 + [0]
    with pytest.warns(UserWarning, match="'b'"):
        assert ids(vocabulary, ["a", "b"]) == [vocabulary.num_reserved, vocabulary.unknown_id]
    assert ids(vocabulary, ["b", "b", "a"]) == [vocabulary.unknown_id] * 2 + [vocabulary.num_reserved]


# Adding


@pytest.mark.parametrize("unseen", ["error", "unknown", "hash", "grow"])
def test_add_is_there_for_every_policy(unseen):
    vocabulary = Vocabulary(["a"], unseen=unseen, buckets=3 if unseen == "hash" else None)
    base = vocabulary.num_reserved
    assert vocabulary.add([["b", "a"], ["c", "b"]]).tolist() == [[base + 1, base], [base + 2, base + 1]]
    assert vocabulary.add("d").shape == ()
    assert vocabulary.add([]).tolist() == []
    assert list(vocabulary) == ["a", "b", "c", "d"]
    assert vocabulary.encode(["d", "a"]).tolist() == [base + 3, base]


def test_add_takes_missing_values_only_where_they_have_a_row():
    vocabulary = Vocabulary(["a"], missing="own")
    assert vocabulary.add(["b", None]).tolist() == [2, 0]
    vocabulary = Vocabulary(["a"])
    with pytest.raises(UnseenCategoryError, match="missing value at position 1"):
        vocabulary.add(["b", None])
    assert list(vocabulary) == ["a"]


@pytest.mark.parametrize("start", [[], ["a"]])
def test_add_beyond_max_size_adds_nothing(start):
    vocabulary = Vocabulary(start, unseen="grow", max_size=2)
    before = (vocabulary.fingerprint, vocabulary.kind)
    with pytest.raises(VocabularyError, match="more than max_size=2; nothing was added"):
        vocabulary.add(["a", "b", "c", "b"])
    assert (list(vocabulary), vocabulary.fingerprint, vocabulary.kind) == (start, *before)
    assert vocabulary == Vocabulary(start, unseen="grow")
    assert vocabulary.add(["a", "b", "b"]).tolist() == [1, 2, 2]
    with pytest.raises(VocabularyError, match="max_size=2"):
        vocabulary.add(["c"])
    assert vocabulary.add(["b"]).tolist() == [2]


def test_add_of_another_kind_is_refused():
    vocabulary = Vocabulary(["a"], unseen="grow", max_size=2)
    with pytest.raises(VocabularyError, match="the column holds integers"):
        vocabulary.add([1, 2, 3])
    assert list(vocabulary) == ["a"]


@each_way
def test_a_copy_learns_for_itself(way, tmp_path):
    vocabulary = Vocabulary(["a"], unseen="grow", max_size=9)
    vocabulary.add(["b"])
    vocabulary.observe(["b", "b"])
    other = WAYS[way](vocabulary, tmp_path)
    assert other == vocabulary
    assert (other.max_size, other.counts.tolist()) == (9, [0, 0, 2])
    other.add(["c"])
    vocabulary.add(["d", "e"])
    other.observe(["a"])
    assert (list(vocabulary), list(other)) == (["a", "b", "d", "e"], ["a", "b", "c"])
    assert (vocabulary.counts.tolist(), other.counts.tolist()) == ([0, 0, 2, 0, 0], [0, 1, 2, 0])
    assert vocabulary.encode(["c", "e"]).tolist() == [0, 4]


# Observing


def test_observe_counts_what_encode_gives():
    vocabulary = Vocabulary(["a", "b"], unseen="unknown", missing="own")
    assert vocabulary.counts is None
    fingerprint = vocabulary.fingerprint
    vocabulary.observe(["b", None, "x", "b"])
    vocabulary.observe(pa.array(["a", "y"]))
    vocabulary.observe("b")
    vocabulary.observe([])
    assert vocabulary.counts.tolist() == [1, 2, 1, 3]
    assert (vocabulary.fingerprint, list(vocabulary)) == (fingerprint, ["a", "b"])
    vocabulary.add(["c"])
    assert vocabulary.counts.tolist() == [1, 2, 1, 3, 0]
    assert not vocabulary.counts.flags.writeable


def test_observe_goes_on_from_what_was_fitted():
    vocabulary = Vocabulary.fit(["b", "a", "b"], unseen="grow")
    vocabulary.observe(["a", "z"])
    assert (list(vocabulary), vocabulary.counts.tolist()) == (["b", "a"], [1, 2, 2])


def test_observe_that_raises_counts_nothing():
    vocabulary = Vocabulary(["a"])
    vocabulary.observe(["a"])
    for column in (["a", "x"], ["a", None], [1]):
        with pytest.raises((UnseenCategoryError, VocabularyError)):
            vocabulary.observe(column)
    assert vocabulary.counts.tolist() == [1]


# Threads


def test_threads_encode_while_one_grows():
    vocabulary = Vocabulary([], unseen="grow")
    values = [f"v{i}" for i in range(1500)]
    strings, wrong = pa.array(values), []
    done = threading.Event()

    def read():
        last = 0
        while not (done.is_set() and last == len(values)):
            found = vocabulary.encode(strings).numpy()
            known = int((found > 0).sum())
            if (found[:known] != np.arange(1, known + 1)).any() or known < last:
                wrong.append(found.tolist())
                return
            one = values[known - 1]
            if known and (int(vocabulary.encode(one)) != known or vocabulary.decode([known]) != [one]):
                wrong.append(one)
            last = known

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for at in range(0, 1500, 15):
            assert ids(vocabulary, values[at : at + 15]) == list(range(at + 1, at + 16))
        done.set()
        for reader in readers:
            reader.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong


# When it is full


def test_a_full_vocabulary_keeps_nothing_of_what_it_cannot_admit():
    vocabulary = Vocabulary(["a"], unseen="grow", max_size=1, min_count=2)
    with pytest.warns(UserWarning, match="full") as told:
        vocabulary.encode([f"v{i}" for i in range(1000)], grow=True)
    assert told[0].filename == __file__
    assert vocabulary._waiting is None
    assert "waiting.counts" not in vocabulary.to_arrays()[1]


def test_what_is_added_by_hand_waits_no_longer():
    vocabulary = Vocabulary(["a"], unseen="grow", min_count=2)
    vocabulary.encode(["b", "c"], grow=True)
    vocabulary.add(["b"])
    assert vocabulary.to_arrays()[1]["waiting.bytes"].tobytes() == b"c"


def test_rename_and_prune_keep_what_waits():
    vocabulary = Vocabulary(["a", "b"], unseen="grow", min_count=2)
    vocabulary.encode(["c"], grow=True)
    for other in (vocabulary.rename({"a": "A"}), vocabulary.prune([1])[0]):
        assert other.encode(["c"], grow=True).tolist() == [len(other) - 1]
    assert vocabulary.encode(["c"], grow=False).tolist() == [0]


def test_grow_is_refused_before_the_value_is_looked_up():
    with pytest.raises(VocabularyError, match="grow=True"):
        Vocabulary(["a"]).encode("a", grow=True)
