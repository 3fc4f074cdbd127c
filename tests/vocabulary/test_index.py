"""`Index`: against a dict, through every growth; among threads, in forks, after interruptions; and what it weighs."""

import copy
import os
import signal
import sys
import threading
import time
import unicodedata
import weakref
from itertools import chain, pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import FormatError, Vocabulary
from catembed.kernels.spans import from_bytes, from_words
from catembed.vocabulary import index as module
from catembed.vocabulary.forms import spans, to_store
from catembed.vocabulary.index import Index


def text(values):
    return spans(pa.array(values, pa.large_binary()))


def words(values):
    return spans(pa.array(values, pa.int64()))


def empty(of=text, **how):
    return Index(*to_store(pa.array([], pa.large_binary() if of is text else pa.int64())), **how)


def find(index, column):
    ids = np.full(column.count, -9)
    hits = index.find(column, ids, missing=-2)
    assert hits == (ids >= 0).sum()
    return ids.tolist()


def holds(index, known, of=text):
    """Whether the index is this dict, by all that it tells of itself."""
    octets, offsets = index.arrays()
    if of is text:
        stored = [octets[begin:end].tobytes() for begin, end in pairwise(offsets)]
    else:
        assert offsets is None
        stored = octets.view(np.int64).tolist()
    ones = [value if of is text else value.to_bytes(8, "little", signed=True) for value in known]
    return (
        len(index) == len(known)
        and stored == list(known)
        and find(index, of(list(known))) == list(known.values()) == [index.find_bytes(value) for value in ones]
    )


VALUES = {
    "text": (text, st.sampled_from([b"", b"a", b"\0", b"\0\0", b"x" * 200]) | st.binary(max_size=20)),
    "words": (words, st.integers(-3, 40) | st.integers(-(2**63), 2**63 - 1)),
    "words close together": (words, st.integers(-(2**63), -(2**63) + 30)),
}


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=50, deadline=None, derandomize=True)
@given(data=st.data())
def test_an_index_is_a_dict(kind, data):
    of, values = VALUES[kind]
    pairs = [(empty(of), {})]
    for _ in range(data.draw(st.integers(1, 12), label="steps")):
        index, known = data.draw(st.sampled_from(pairs), label="index")
        column = data.draw(st.lists(st.none() | values, max_size=40), label="column")
        step = data.draw(st.sampled_from(["add", "add", "add some", "find", "copy"]), label="step")
        if step == "copy":
            pairs.append((index.copy(), dict(known)))
        elif step == "find":
            assert find(index, of(column)) == [-2 if v is None else known.get(v, -1) for v in column]
        else:
            limit = len(known) + 3 if step == "add some" else 2**32 - 1
            for value in column:
                if value is not None and len(known) < limit:
                    known.setdefault(value, len(known))
            expected = [-1 if value is None else known.get(value, -1) for value in column]
            assert index.add(of(column), limit).tolist() == expected
    for each, model in pairs:
        assert holds(each, model, of)


@pytest.mark.parametrize("kind", VALUES)
def test_many_small_additions_through_every_growth(kind):
    of = VALUES[kind][0]
    index, known, rng = empty(of), {}, np.random.default_rng(0)
    tables = set()
    while len(known) < 3000:
        numbers = rng.integers(0, 6000, rng.integers(1, 9)).tolist()
        column = [b"%d" % n * (n % 6 + 1) for n in numbers] if of is text else [n << 40 for n in numbers]
        for value in column:
            known.setdefault(value, len(known))
        assert index.add(of(column)).tolist() == [known[value] for value in column]
        tables.add(len(index._now.table.words))
    assert len(tables) > 5
    assert holds(index, known, of)
    octets, offsets = index.arrays()
    assert Index(octets, offsets, seed=index.seed, table=index.table()).is_sound()


def test_a_copy_goes_its_own_way_while_memory_is_shared():
    first = Index(*to_store(pa.array([b"a", b"b"], pa.large_binary())))
    second = first.copy()
    assert np.shares_memory(first.arrays()[0], second.arrays()[0])
    assert second.seed == first.seed
    second.add(text([b"c"]))
    third = second.copy()
    assert np.shares_memory(third.arrays()[0], second.arrays()[0])
    third.add(text([b"d"]))
    second.add(text([b"e", b"f"]))
    first.add(text([b"g"]))
    assert holds(first, {b"a": 0, b"b": 1, b"g": 2})
    assert holds(second, {b"a": 0, b"b": 1, b"c": 2, b"e": 3, b"f": 4})
    assert holds(third, {b"a": 0, b"b": 1, b"c": 2, b"d": 3})


def test_the_first_duplicate_is_told():
    octets, offsets = to_store(pa.array([b"a", b"b", b"a", b"b"], pa.large_binary()))
    assert Index(octets, offsets).duplicate == 2
    assert Index(octets[:2], offsets[:3]).duplicate is None
    assert Index(np.array([4, 5, 5]).view(np.uint8), None).duplicate == 2


@pytest.mark.parametrize("of", [text, words])
def test_only_the_table_of_these_values_is_sound(of):
    values = [b"%d" % i for i in range(40)] if of is text else list(range(40))
    kind = pa.large_binary() if of is text else pa.int64()
    octets, offsets = to_store(pa.array(values, kind))
    right = Index(octets, offsets, seed=1)
    assert right.is_sound()
    assert Index(octets, offsets, seed=1, table=right.table()).is_sound()
    others = to_store(pa.array(values[::-1], kind))
    for table in (
        Index(*others, seed=1).table(),
        Index(octets, offsets, seed=2).table(),
        np.zeros_like(right.table()),
        np.tile(right.table(), 2),
    ):
        assert not Index(octets, offsets, seed=1, table=table).is_sound()
    assert not Index(np.zeros(16, np.uint8), None, seed=1).is_sound()  # the same value twice


def test_nothing_is_added_to_values_that_nobody_checked_and_that_are_damaged():
    """Or values behind the damage would be given other ids than they have."""
    octets, offsets = to_store(pa.array([b"a", b"b", b"c"], pa.large_binary()))
    table = Index(octets, offsets, seed=1).table()
    for bad in ([0, 2**40, 2, 3], [0, -1, 2, 3]):
        index = Index(octets, np.array(bad), seed=1, table=table)
        with pytest.raises(FormatError, match="damaged"):
            index.add(text([b"d"]))
        assert (len(index), index.find_bytes(b"d")) == (3, -1)


def test_a_wrong_table_is_left_behind_when_values_are_added():
    """A full one too, in which no place would ever be found."""
    values = [b"%d" % i for i in range(40)]
    octets, offsets = to_store(pa.array(values, pa.large_binary()))
    table = np.full(8 * 7, -1)
    index = Index(octets, offsets, seed=1, table=table)
    assert index.add(text([b"39", b"new", b"0"])).tolist() == [39, 40, 0]
    assert (table == -1).all()
    assert holds(index, {value: place for place, value in enumerate([*values, b"new"])})


# Additions that come to nothing


def test_an_unsound_value_adds_nothing():
    index, known = empty(), {b"aa": 0, b"b": 1}
    index.add(text([b"aa", b"b"]))
    for room in (3, 100):
        octets = np.frombuffer(b"abcdef" + b"-" * room, np.uint8)
        bad = from_bytes(octets, np.array([0, 1, 2, 3, 2**40, 5]))
        with pytest.raises(IndexError, match="value 3 lies outside its buffer"):
            index.add(bad)
        assert holds(index, known)
    assert index.add(text([b"c", b"a"])).tolist() == [2, 3]
    assert holds(index, known | {b"c": 2, b"a": 3})


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("done", [0, 1, 5, 17, 300])
@pytest.mark.parametrize("before", [0, 1, 40])
def test_an_interrupted_addition_adds_nothing(monkeypatch, before, done):
    known = {b"old %d" % i: i for i in range(before)}
    index = empty()
    index.add(text(list(known)))
    real = module.kernel
    new = [b"new %d" % i for i in range(400)]

    def interrupting(name, device):
        def insert(values, *rest):
            *others, start, ids = rest
            stopped = real("insert", device)(values._replace(count=done), *others, min(start, done), ids)
            if stopped < done:  # it needs room, and comes back
                return stopped
            raise Interrupted

        return insert if name == "insert" else real(name, device)

    monkeypatch.setattr(module, "kernel", interrupting)
    with pytest.raises(Interrupted):
        index.add(text(new))
    assert holds(index, known)
    other = index.copy()
    with pytest.raises(Interrupted):
        index.add(text(new[::-1]))
    monkeypatch.undo()
    for each in (index, other):
        assert find(each, text(new)) == [-1] * 400
        assert each.add(text(new[200:])).tolist() == list(range(before, before + 200))
        assert holds(each, known | {value: before + i for i, value in enumerate(new[200:])})


# Threads and forks


@pytest.fixture
def hasty():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


BATCH = 7


@pytest.mark.parametrize("kind", VALUES)
def test_readers_see_all_of_an_addition_or_nothing(kind, hasty):
    of = VALUES[kind][0]
    total = BATCH * 120
    values = [b"%d" % (i * 7919) * (i % 4 + 1) if of is text else i * 7919 for i in range(total)]
    column = of(values)
    batches = [of(values[at : at + BATCH]) for at in range(0, total, BATCH)]
    ones = [value if of is text else value.to_bytes(8, "little", signed=True) for value in values]
    torn, seen, searches = [], set(), []

    def read(index, begun, ended):
        ids, last = np.empty(total, np.int64), 0
        begun.set()
        while last < total:
            end = ended.is_set()
            found = index.find(column, ids)
            one = index.find_bytes(ones[found - 1])
            if (ids[:found] != np.arange(found)).any() or (ids[found:] != -1).any() or found % BATCH or found < last:
                torn.append(ids.tolist())
            if found and one != found - 1:
                torn.append(one)
            if end and found < total:
                torn.append("the last addition was not seen")
                break
            seen.add(found)
            searches.append(found)
            last = found

    for _ in range(15):
        index, begun, ended = empty(of), threading.Event(), threading.Event()
        readers = [threading.Thread(target=read, args=(index, begun, ended)) for _ in range(2)]
        for reader in readers:
            reader.start()
        begun.wait()
        for place, batch in enumerate(batches):
            assert index.add(batch).tolist() == list(range(BATCH * place, BATCH * place + BATCH))
            before = len(searches)
            while place % 16 == 8 and len(searches) < before + 3 and readers[0].is_alive():  # one of three began since
                time.sleep(0)
        ended.set()
        for reader in readers:
            reader.join()
    assert not torn
    assert len(seen) > 3  # some were under way


def test_memory_stays_while_one_value_is_searched_in_it(monkeypatch):
    index, real = empty(), module.kernel
    index.add(text([b"a"]))
    words = weakref.ref(index._now.table.words)

    def growing(name, device):
        def find_one(*facts):
            index.add(text([b"%d" % i for i in range(1000)]))
            assert words() is not None
            return real("find_one", device)(*facts)

        return find_one if name == "find_one" else real(name, device)

    monkeypatch.setattr(module, "kernel", growing)
    assert index.find_bytes(b"a") == 0
    monkeypatch.undo()
    assert words() is None


def test_additions_of_several_threads_take_turns(hasty):
    index, results = empty(), {}
    values = [[b"%d" % n for n in np.random.default_rng(i).permutation(400)] for i in range(4)]

    def add(which):
        results[which] = [index.add(text(values[which][at : at + 5])).tolist() for at in range(0, 400, 5)]

    threads = [threading.Thread(target=add, args=(which,)) for which in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index) == 400
    ids = {value: index.find_bytes(value) for value in values[0]}
    assert sorted(ids.values()) == list(range(400))
    for which in range(4):
        assert list(chain.from_iterable(results[which])) == [ids[value] for value in values[which]]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("done", [0, 2, 60])
def test_a_child_forked_during_an_addition_goes_on(monkeypatch, done):
    """It has neither the thread that adds, nor the rest of what that was adding, nor anyone to free the lock."""
    real, inside, go = module.kernel, threading.Event(), threading.Event()

    def waiting(name, device):
        def insert(values, *rest):
            *others, start, ids = rest
            stopped = real("insert", device)(values._replace(count=done), *others, min(start, done), ids)
            if stopped == done:
                inside.set()
                go.wait(60)
                stopped = real("insert", device)(values, *others, stopped, ids)
            return stopped

        return insert if name == "insert" else real(name, device)

    vocabulary = Vocabulary([b"first", b"second"])
    vocabulary.add([b"third"])
    monkeypatch.setattr(module, "kernel", waiting)
    thread = threading.Thread(target=lambda: vocabulary.add([b"%d" % i for i in range(100)]))
    thread.start()
    assert inside.wait(60)
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends it where it waits for ever
        status = 1
        try:
            monkeypatch.undo()
            known = [b"first", b"second", b"third"]
            right = list(vocabulary) == known and vocabulary.encode(known).tolist() == [0, 1, 2]
            right = right and vocabulary.add([b"7", b"first", b"new", b"0"]).tolist() == [3, 0, 4, 5]
            status = 0 if right and list(vocabulary) == [*known, b"7", b"new", b"0"] else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    go.set()
    thread.join()
    assert status == 0
    assert vocabulary.encode([b"third", b"0", b"99"]).tolist() == [2, 3, 102]


# What it weighs, and what it holds


@pytest.mark.parametrize("count", [1000, 100_000, 123_457])
def test_a_category_costs_at_most_24_bytes_beside_its_own(count):
    strings = pa.array(np.arange(count)).cast(pa.large_string())
    built = Index(*to_store(strings))
    own = built.arrays()[0].nbytes
    assert own < built.nbytes <= own + 24 * count
    numbers = Index(np.arange(count).view(np.uint8), None)
    find(numbers, from_words(np.arange(2 * count)))  # from which on it may know a faster way, and keep that too
    assert numbers.nbytes <= (8 + 24) * count
    assert copy.copy(Vocabulary(strings))._index.nbytes <= own + 24 * count


def test_seeds_are_drawn_for_each_vocabulary():
    seeds = {Vocabulary(["a"])._index.seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(-(2**63) <= seed < 2**63 for seed in seeds)
    assert empty(seed=-5).seed == -5


def test_long_empty_and_strange_strings():
    long = "x" * (1 << 20)
    values = ["", "\0", "\0\0", "a\0", "a", "a\0b", long, long[:-1] + "y", "y" + long[1:], long + "\0", "é", "e\u0301"]
    assert unicodedata.normalize("NFC", values[-1]) == values[-2]
    vocabulary = Vocabulary(values[:6], unseen="unknown")
    assert vocabulary.encode(values).tolist() == [1, 2, 3, 4, 5, 6, *[0] * 6]
    assert vocabulary.add(values).tolist() == list(range(1, 13))
    for column in (values, pa.array(values, pa.string_view()), np.array(values, object)):
        assert vocabulary.encode(column).tolist() == list(range(1, 13))
    for place, value in enumerate(values, start=1):
        assert int(vocabulary.encode(value)) == place
        assert vocabulary.decode(place) == value
    assert vocabulary.encode([long + "x", long[1:], "\0\0\0"]).tolist() == [0, 0, 0]


def test_numbers_next_to_each_other_and_far_apart():
    numbers = np.unique(np.concatenate([np.arange(1000), np.arange(1000) << 50, [-(2**63), 2**63 - 1, -1]]))
    index = empty(words)
    assert index.add(from_words(numbers)).tolist() == list(range(len(numbers)))
    known = {number: place for place, number in enumerate(numbers.tolist())}
    asked = numbers + 1  # the last one wraps to the first
    assert find(index, from_words(asked)) == [known.get(number, -1) for number in asked.tolist()]
