"""`find`, `find_one`, `fill`, `insert`: twin and definition alike, to the last word of the table; and attacks.

Sixteen bytes that begin with the second key of a seed are multiplied by zero, so all of them have one hash under that
seed: this is how values are made here that collide entirely, in bucket and in tag.
"""

import numpy as np
import pyarrow as pa
import pytest
import torch

from catembed.kernels import reference_find as defined
from catembed.kernels.dispatch import kernel
from catembed.kernels.reference_hash import _mixed, hash_bytes
from catembed.kernels.spans import FIXED, OFFSETS32, VIEWS, Spans, from_bytes, from_words
from catembed.kernels.table import FULL, buckets_for, empty_table, wrap_table
from catembed.vocabulary.forms import spans, to_store

CPU = torch.device("cpu")
find, find_one, fill, insert = (kernel(name, CPU) for name in ("find", "find_one", "fill", "insert"))


def key_of(seed):
    return _mixed((seed + 2 * 0x9E3779B97F4A7C15) % 2**64).to_bytes(8, "little")


def colliding(seed, count):
    return [key_of(seed) + place.to_bytes(8, "little") for place in range(count)]


def seed_whose_collision_is_at(bucket, buckets):
    return next(seed for seed in range(10_000) if hash_bytes(colliding(seed, 1)[0], seed) * buckets >> 64 == bucket)


def store(values):
    """Categories as the index keeps them; also where there are none."""
    octets, offsets = to_store(pa.array(values, pa.large_binary()))
    return from_bytes(octets, offsets)


def stored_words(values):
    return from_words(np.array(values, np.int64))


def found(values, categories, table, function=find, **how):
    ids = np.full(values.count, -9)
    how = {"base": 0, "absent": -1, "missing": -2} | how
    hits = function(values, categories, table, how["base"], how["absent"], how["missing"], ids)
    return hits, ids.tolist()


def filled(categories, seed, function=fill, buckets=None):
    table = empty_table(categories.count if buckets is None else 6 * buckets, seed)
    assert function(categories, table) == -1
    return table


WORDS = [f"value {i}".encode() * (i % 4) + str(i).encode() for i in range(500)]
SETS = {
    "text": (WORDS[:200], 5),
    "words": ([i.to_bytes(8, "little") for i in range(150)], 0),
    "one": ([b""], 1),
    "none": ([], 1),
    "collisions": (colliding(11, 45), 11),
    "collisions among others": (colliding(-4, 30) + WORDS[:100], -4),
}


@pytest.mark.parametrize("name", SETS)
def test_fill_writes_the_words_of_its_definition(name):
    values, seed = SETS[name]
    tables = [filled(store(values), seed, function) for function in (fill, defined.fill)]
    assert np.array_equal(tables[0].words, tables[1].words)
    if name == "words":
        numbers = stored_words([int.from_bytes(value, "little") for value in values])
        assert np.array_equal(filled(numbers, seed).words, tables[0].words)


@pytest.mark.parametrize("name", SETS)
def test_find_finds_what_its_definition_finds(name, layouts):
    values, seed = SETS[name]
    table = filled(store(values), seed)
    asked = [*values[::7], None, b"no such value, and a long one", b"", *values[:3], None]
    place = {value: i for i, value in enumerate(values)}
    expected = [-2 if value is None else 100 + place[value] if value in place else -1 for value in asked]
    hits = sum(id >= 100 for id in expected)
    for called, array in layouts(asked):
        for function in (find, defined.find):
            assert found(spans(array), store(values), table, function, base=100) == (hits, expected), called
    categories = store(values)
    facts = categories.facts(), table.address, table.buckets, table.seed
    for function in (find_one, defined.find_one):
        ones = [function(value, *facts) for value in asked if value is not None]
        assert ones == [place.get(value, -1) for value in asked if value is not None]


def test_words_are_found_in_columns_of_words_and_of_eight_bytes(layouts):
    numbers = [-1, 0, 1, 2**63 - 1, -(2**63), *range(2, 40)]
    table = filled(stored_words(numbers), 3)
    asked = [0, None, 5, 2**62, -1, 39, None, -(2**63), 40]
    values = [None if number is None else number.to_bytes(8, "little", signed=True) for number in asked]
    expected = [-2 if n is None else numbers.index(n) if n in numbers else -1 for n in asked]
    names = [name for name, _ in layouts(values)]
    assert "int64" in names
    assert "slice of fixed_size_binary" in names
    for name, array in layouts(values):
        for function in (find, defined.find):
            assert found(spans(array), stored_words(numbers), table, function)[1] == expected, name
    categories = stored_words(numbers)
    facts = categories.facts(), table.address, table.buckets, table.seed
    assert [find_one(value, *facts) for value in values if value is not None] == [e for e in expected if e != -2]
    assert [find_one(value, *facts) for value in (b"", b"\0" * 7, b"\0" * 9)] == [-1, -1, -1]


def test_fixed_sizes_of_any_length_are_found(layouts):
    values = [bytes([i]) * 5 for i in range(50)]
    table = filled(store(values), 3)
    for name, array in layouts([values[9], None, b"zzzzz", values[0]]):
        assert found(spans(array), store(values), table) == (2, [9, -2, -1, 0]), name


@pytest.mark.parametrize("threads", [1, 3])
def test_ids_do_not_depend_on_threads(threads):
    numbers = np.random.default_rng(0).permutation(60_000)
    table = filled(stored_words(numbers), 1)
    asked = np.arange(-10_000, 60_000)
    expected = np.full(70_000, -1)
    expected[10_000 + numbers] = np.arange(60_000)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        hits, ids = found(stored_words(asked), stored_words(numbers), table)
    finally:
        torch.set_num_threads(before)
    assert (hits, ids) == (60_000, expected.tolist())


# Buckets that are full


@pytest.mark.parametrize("bucket", [0, 3, 6])
@pytest.mark.parametrize("count", [FULL, FULL + 1, 3 * FULL, 42])
def test_a_full_bucket_runs_over_into_the_next_and_the_last_into_the_first(bucket, count):
    buckets = 7
    seed = seed_whose_collision_is_at(bucket, buckets)
    values = colliding(seed, count + 1)
    categories = store(values[:count])
    table = filled(categories, seed, buckets=buckets)
    entries = table.words.view(np.uint16)[:, 30].tolist()
    expected = [0] * buckets
    for place in range(count):
        expected[(bucket + place // FULL) % buckets] += 1
    assert entries == expected
    assert np.array_equal(filled(categories, seed, defined.fill, buckets).words, table.words)
    asked = store(values[::-1])
    for function in (find, defined.find):
        assert found(asked, categories, table, function) == (count, [-1, *reversed(range(count))])


def test_a_table_without_a_free_entry_is_searched_to_its_end_and_no_further():
    seed, buckets = seed_whose_collision_is_at(1, 2), 2
    values = colliding(seed, 2 * FULL)
    table = filled(store(values), seed, buckets=buckets)
    assert found(store([*values, b"x", *colliding(seed, 21)[20:]]), store(values), table)[1] == [*range(20), -1, -1]


# Nothing but equal bytes gives an id


def test_equal_hashes_never_give_a_wrong_id():
    values = colliding(8, 60)
    assert len({hash_bytes(value, 8) for value in values}) == 1
    categories = store(values[::2])
    table = filled(categories, 8)
    expected = [i // 2 if i % 2 == 0 else -1 for i in range(60)]
    assert found(store(values), categories, table) == (30, expected)
    facts = categories.facts(), table.address, table.buckets, table.seed
    assert [find_one(value, *facts) for value in values] == expected


def test_right_tags_with_wrong_ids_give_no_wrong_id():
    values = WORDS[:200]
    table = filled(store(values), 0)
    ids = table.words.view(np.uint32)[:, 5:15]
    ids[:] = (ids + 1) % 200
    hits, got = found(store(values), store(values), table)
    assert all(id in (-1, place) for place, id in enumerate(got))
    assert hits == sum(id >= 0 for id in got) < 200
    assert got == found(store(values), store(values), table, defined.find)[1]


@pytest.mark.parametrize("kind", ["text", "words"])
def test_a_table_of_garbage_gives_right_ids_or_none(kind):
    rng = np.random.default_rng(1)
    numbers = rng.integers(-(2**63), 2**63 - 1, 120)
    categories = store(WORDS[:120]) if kind == "text" else stored_words(numbers)
    asked = store(WORDS[:240]) if kind == "text" else stored_words([*numbers, *range(120)])
    right = filled(categories, 2)
    for attempt in range(300):
        words = rng.integers(0, 2**64 - 1, (buckets_for(120), 8), np.uint64, endpoint=True)
        if attempt % 2:  # half of the words are right ones
            words = np.where(rng.random(words.shape) < 0.5, words, right.words)
        if attempt % 3 == 0:  # ids that exist, under all tags
            words.view(np.uint32)[:, 5:15] %= 120
        table = wrap_table(words, 2)
        hits, ids = found(asked, categories, table)
        assert all(id in (-1, place) for place, id in enumerate(ids[:120]))
        assert ids[120:] == [-1] * 120
        assert hits == sum(id >= 0 for id in ids)
        if attempt < 12:
            assert found(asked, categories, table, defined.find) == (hits, ids)
        facts = categories.facts(), table.address, table.buckets, table.seed
        values = [WORDS[i] if kind == "text" else int(numbers[i]).to_bytes(8, "little", signed=True) for i in range(9)]
        assert [find_one(value, *facts) for value in values] == ids[:9]


def test_ids_beyond_the_count_are_not_looked_at():
    """An index that grows has entries of values that a search begun earlier must not see."""
    table = filled(store(WORDS[:50]), 0)
    some = store(WORDS[:50])._replace(count=20)
    for function in (find, defined.find):
        assert found(store(WORDS[:50]), some, table, function) == (20, [*range(20), *[-1] * 30])


def test_categories_that_lie_outside_their_bytes_are_no_match():
    """In a file that nobody checked."""
    categories = store([b"aaa", b"bbb", b"ccc"])
    table = filled(categories, 0)
    octets, _ = categories.owner
    for bad in ([0, 3, 2**60, 9], [0, -3, 6, 9], [5, 3, 6, 2**40], [-(2**63), 2**63 - 1, 0, 1]):
        torn = from_bytes(octets, np.array(bad))
        hits, ids = found(store([b"aaa", b"bbb", b"ccc"]), torn, table)
        assert all(id in (-1, place) for place, id in enumerate(ids))
        assert hits == sum(id >= 0 for id in ids)
        facts = torn.facts(), table.address, table.buckets, table.seed
        assert [find_one(value, *facts) for value in (b"aaa", b"bbb", b"ccc")] == ids


# Filling and inserting


@pytest.mark.parametrize("function", [fill, defined.fill])
def test_fill_stops_at_the_first_that_is_there_already(function):
    values = [b"a", b"b", b"", b"b", b"a"]
    table = empty_table(5, 0)
    assert function(store(values), table) == 3
    assert function(store(values[:3]), empty_table(3, 0)) == -1
    repeated = [*WORDS, WORDS[77]]
    assert function(store(repeated), empty_table(len(repeated), 0)) == len(WORDS)


@pytest.mark.parametrize("function", [fill, defined.fill])
def test_fill_goes_on_where_it_is_told_to(function):
    whole, parts = filled(store(WORDS[:90]), 4), empty_table(90, 4)
    assert function(store(WORDS[:50]), parts) == -1
    assert function(store(WORDS[:90]), parts, 50) == -1
    assert np.array_equal(whole.words, parts.words)


def test_fill_stops_at_what_lies_outside():
    octets, _ = store([b"aaa", b"bbb"]).owner
    assert fill(from_bytes(octets, np.array([0, 3, 99])), empty_table(2, 0)) == 1


def inserted(values, function, *, room, octets=10_000, seed=0, limit=2**32 - 1, text=True, start=0):
    """What insert returns, and everything that it writes."""
    data, offsets = np.zeros(octets, np.uint8), np.zeros(room + 1 if text else 0, np.int64)
    categories = from_bytes(data, offsets) if text else from_words(data.view(np.int64))._replace(count=room)
    table, state, ids = empty_table(room, seed), np.zeros(3, np.int64), np.full(values.count, -9)
    stopped = function(values, categories, data, offsets, table, state, limit, start, ids)
    return stopped, state.tolist(), ids.tolist(), data.tobytes(), offsets.tolist(), table.words.tolist()


MIX = [b"b", None, b"a", b"b", b"", b"a longer value", None, b"", b"a longer value", b"c" * 40, b"b"]


def test_insert_writes_what_its_definition_writes(layouts):
    for name, array in layouts(MIX):
        for how in ({"room": 20}, {"room": 3}, {"room": 20, "octets": 16}, {"room": 20, "limit": 2}, {"room": 0}):
            for start in (0, 4):
                got = inserted(spans(array), insert, start=start, **how)
                assert got == inserted(spans(array), defined.insert, start=start, **how), (name, how, start)
    stopped, state, ids, data, offsets, _ = inserted(spans(pa.array(MIX)), insert, room=20)
    assert (stopped, state) == (len(MIX), [5, 56, 0])
    assert ids == [0, -1, 1, 0, 2, 3, -1, 2, 3, 4, 0]
    assert data[:56] == b"ba" + b"a longer value" + b"c" * 40
    assert offsets[:6] == [0, 1, 2, 2, 16, 56]


def test_insert_of_words_and_of_values_that_collide():
    numbers = stored_words([5, -1, 5, 2**62, -1, 0, *range(30)])
    assert inserted(numbers, insert, room=40, text=False) == inserted(numbers, defined.insert, room=40, text=False)
    values = store(colliding(6, 50) * 2)
    got = inserted(values, insert, room=60, seed=6)
    assert got == inserted(values, defined.insert, room=60, seed=6)
    assert got[2] == [*range(50)] * 2


@pytest.mark.parametrize("function", [insert, defined.insert])
def test_insert_says_where_it_ran_out_of_room(function):
    values = store([b"aa", b"bb", b"aa", b"cc", b"dd"])
    assert inserted(values, function, room=2)[:3] == (3, [2, 4, 0], [0, 1, 0, -1, -9])
    assert inserted(values, function, room=9, octets=5)[:2] == (3, [2, 4, 0])
    assert inserted(values, function, room=9, limit=3)[:3] == (5, [3, 6, 0], [0, 1, 0, 2, -1])


# Values that lie outside their buffers

KEPT = [np.zeros(4096, np.uint8)]  # one page of zeros, of which the column gets a part


def narrow(offsets, size):
    places = np.array(offsets, np.int32)
    KEPT.append(places)
    return Spans(len(offsets) - 1, OFFSETS32, places.ctypes.data, KEPT[0].ctypes.data, size, 0, 0)


def wide(offsets, size):
    return from_bytes(KEPT[0][:size], np.array(offsets, np.int64))


def viewed(*parts):
    """A column of views: (length, buffer, begin), with two buffers of 20 bytes."""
    words = np.array([[length, 0, buffer, begin] for length, buffer, begin in parts], np.int32)
    buffers = np.array([(KEPT[0].ctypes.data, 20), (KEPT[0].ctypes.data + 100, 20)], np.int64)
    KEPT.extend([words, buffers])
    return Spans(len(parts), VIEWS, words.ctypes.data, buffers.ctypes.data, 2, 0, 0)


GOOD = (13, 1, 7)
UNSOUND = {
    "end beyond": (lambda: narrow([0, 1, 2, 21], 20), 2),
    "begin below": (lambda: narrow([0, -1, 2, 20], 20), 0),
    "decreasing": (lambda: narrow([0, 5, 4, 20], 20), 1),
    "wide, far beyond": (lambda: wide([0, 2**62, 4, 20], 20), 0),
    "wide, far below": (lambda: wide([0, 1, -(2**63), 20], 20), 1),
    "a view too long": (lambda: viewed(GOOD, (21, 0, 0)), 1),
    "a view that ends outside": (lambda: viewed(GOOD, GOOD, (13, 1, 8)), 2),
    "a view of a huge length": (lambda: viewed((2**31 - 1, 0, 2**31 - 1)), 0),
    "a view of a negative length": (lambda: viewed(GOOD, (-1, 0, 0)), 1),
    "a view of a negative place": (lambda: viewed((13, 0, -1)), 0),
    "a view of no buffer": (lambda: viewed(GOOD, (13, 2, 0)), 1),
    "a view of a negative buffer": (lambda: viewed((13, -1, 0)), 0),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_unsound_values_are_told_with_their_place(name):
    make, place = UNSOUND[name]
    categories = store([b"\0", b""])
    table = filled(categories, 0)
    for function in (find, defined.find):
        with pytest.raises(IndexError, match=rf"value {place} "):
            found(make(), categories, table, function)
    for function in (insert, defined.insert):
        with pytest.raises(IndexError, match=rf"value {place} "):
            inserted(make(), function, room=10)


def test_an_unsound_place_of_a_missing_value_is_not_looked_at():
    valid = np.array([0b101], np.uint8)
    broken = np.array([[13, 0, 9, 0], [1, 0, 0, 0]], np.int32)
    given = Spans(2, VIEWS, broken.ctypes.data, 0, 0, valid.ctypes.data, 1)
    for function in (find, defined.find):
        assert found(given, store([b"\0"]), filled(store([b"\0"]), 0), function) == (1, [-2, 0])


def test_of_many_unsound_values_in_several_threads_the_first_is_told():
    offsets = np.arange(80_001) % 7 * 0
    offsets[[30_000, 70_000]] = 99
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        with pytest.raises(IndexError, match="value 29999 "):
            found(wide(offsets, 20), store([b""]), filled(store([b""]), 0))
    finally:
        torch.set_num_threads(before)


def test_values_without_bytes_need_no_buffer():
    nothing = Spans(3, FIXED, 0, 0, 0, 0, 0)
    for function in (find, defined.find):
        assert found(nothing, store([b"a", b""]), filled(store([b"a", b""]), 0), function) == (3, [1, 1, 1])
