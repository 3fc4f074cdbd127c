"""Values and files made to do harm: many values of one hash, tables that hold junk, chunks, dictionaries, races."""

import sys
import threading

import numpy as np
import pyarrow as pa
import pytest

from catembed import Vocabulary
from catembed.errors import FormatError
from catembed.kernels.reference_hash import hash_bytes
from catembed.kernels.table import CROWDED, REACH, buckets_for, empty_table
from catembed.vocabulary import columns
from catembed.vocabulary.forms import spans
from catembed.vocabulary.index import Index


def colliding(seed, count):
    """Values of one hash under a seed: the first word is its second key, so the product is zero whatever follows."""
    state = (seed + 2 * 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    key = (state ^ state >> 31).to_bytes(8, "little")
    values = [key + number.to_bytes(8, "little") for number in range(count)]
    assert len({hash_bytes(value, seed) for value in values[:50]}) == 1
    return values


def text(values):
    return np.frombuffer(b"".join(values), np.uint8), np.cumsum([0, *map(len, values)], dtype=np.int64)


MANY = 20 * REACH  # more than all buckets hold in which values of one hash can stand


def test_values_of_one_hash_get_another_seed():
    values = colliding(5, MANY)
    index = Index(*text(values), seed=5)
    assert index.duplicate is None
    assert index.seed != 5
    assert [index.find_bytes(value) for value in values] == list(range(MANY))


def test_values_of_one_hash_that_are_added_get_another_seed():
    values = colliding(5, MANY)
    index = Index(*text([b"first"]), seed=5)
    ids = index.add(spans(pa.array(values, pa.binary())))
    assert ids.tolist() == list(range(1, MANY + 1))
    assert index.seed != 5
    assert [index.find_bytes(value) for value in [b"first", *values]] == list(range(MANY + 1))


@pytest.mark.parametrize("module", ["catembed.kernels.cpu.fill", "catembed.kernels.reference_find"])
def test_a_table_of_a_known_seed_refuses_a_crowd(module):
    __import__(module)
    octets, offsets = text(colliding(5, MANY))
    values = spans(pa.Array.from_buffers(pa.large_binary(), MANY, [None, pa.py_buffer(offsets), pa.py_buffer(octets)]))
    assert sys.modules[module].fill(values, empty_table(MANY, 5)) == CROWDED


def test_a_stored_index_with_more_than_its_categories_is_refused():
    header, arrays = Vocabulary([f"v{i}" for i in range(100)]).to_arrays(index=True)
    table = arrays["index"].copy()
    entries = table.view(np.uint16).reshape(-1, 32)
    roomy = int(np.argmin(entries[:, 30]))
    entries[roomy, 30] += 1  # every category is still found at its own id
    with pytest.raises(FormatError, match="index is not that of the stored categories"):
        Vocabulary.from_arrays(header, arrays | {"index": table})


def test_a_table_of_junk_ends_every_search():
    index = Index(*text([b"a", b"b"]), seed=1)
    junk = np.zeros((buckets_for(60_000), 8), np.uint64)
    junk.view(np.uint16).reshape(-1, 32)[:, 30] = 10  # all buckets full, of entries that lead nowhere
    full = Index(*index.arrays(), seed=1, table=junk.reshape(-1).view(np.int64))
    asked = pa.array([f"value {i}" for i in range(200_000)])
    ids = np.empty(len(asked), np.int64)
    full.find(spans(asked), ids)  # 10,000 buckets for each of them would take minutes
    assert (ids == -1).all()


def test_more_categories_than_max_size_are_refused_when_read():
    header, arrays = Vocabulary(["a", "b"], unseen="grow").to_arrays()
    with pytest.raises(FormatError, match="2 categories are more than max_size=1"):
        Vocabulary.from_arrays(header | {"max_size": 1}, arrays)


def test_readers_of_an_empty_vocabulary_that_takes_a_kind_see_one_or_the_other():
    for _ in range(100):
        vocabulary = Vocabulary([], unseen="grow")
        faults = []

        def read(vocabulary=vocabulary, faults=faults):
            try:
                for _ in range(50):
                    assert len(vocabulary.categories) in (0, 3)
                    vocabulary.encode(["a", "c"])
            except Exception as fault:
                faults.append(fault)

        reader = threading.Thread(target=read)
        reader.start()
        vocabulary.encode(["a", "b", "c"], grow=True)
        reader.join()
        assert not faults


# Dictionaries


def test_chunks_of_one_dictionary_read_it_once():
    dictionary = pa.array([f"v{i}" for i in range(50)])
    codes = np.random.default_rng(0).integers(0, 50, 1000)
    whole = pa.DictionaryArray.from_arrays(pa.array(codes), dictionary)
    chunked = pa.chunked_array([whole[i : i + 100] for i in range(0, 1000, 100)])
    column = columns.read(chunked)
    assert len(column.parts) == 1
    assert Vocabulary(dictionary).encode(chunked).tolist() == codes.tolist()
    other = pa.DictionaryArray.from_arrays(pa.array([1, 0]), pa.array(["v7", "v9"]))
    mixed = pa.chunked_array([whole[:100], other.slice(0, 2), whole[100:200]])
    assert Vocabulary(dictionary).encode(mixed).tolist() == [*codes[:100], 9, 7, *codes[100:200]]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.large_string()])
def test_few_rows_of_a_large_dictionary_read_only_what_they_use(kind):
    dictionary = pa.array([*(f"v{i}" for i in range(5000)), None], kind)
    codes = pa.array([4999, None, 3, 5000, 3])
    column = pa.DictionaryArray.from_arrays(codes, dictionary)
    vocabulary = Vocabulary([f"v{i}" for i in range(5000)], missing="own")
    assert vocabulary.encode(column).tolist() == [5000, 0, 4, 0, 4]
    assert len(columns.read(column).parts[0].values) == 5
    assert vocabulary.encode(column[:0]).tolist() == []


def test_used_entries_of_a_damaged_dictionary_are_checked():
    offsets = np.arange(2001, dtype=np.int32) * 2
    octets = np.full(4000, ord("a"), np.uint8)
    octets[200:202] = 0xFF
    dictionary = pa.Array.from_buffers(pa.string(), 2000, [None, pa.py_buffer(offsets), pa.py_buffer(octets)])
    vocabulary = Vocabulary(["aa"], unseen="unknown")
    assert vocabulary.encode(pa.DictionaryArray.from_arrays(pa.array([5, 7]), dictionary)).tolist() == [1, 1]
    with pytest.raises(ValueError, match="the Arrow column is damaged: Invalid UTF8"):
        vocabulary.encode(pa.DictionaryArray.from_arrays(pa.array([5, 100]), dictionary))
