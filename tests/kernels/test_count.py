"""The kernels of counting against their definition: records, the table that finds them, what is chosen of them."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference_count
from catembed.kernels.cpu.choose import choose
from catembed.kernels.cpu.compact import compact
from catembed.kernels.cpu.count import count
from catembed.kernels.cpu.gather import gather
from catembed.kernels.cpu.hash64 import hash64
from catembed.kernels.cpu.leave_out import leave_out
from catembed.kernels.cpu.strange_text import strange_text
from catembed.kernels.cpu.tally import tally
from catembed.kernels.records import HEAD, read_records
from catembed.kernels.spans import OFFSETS64, Spans
from catembed.vocabulary.fitting.counting import Counter, Plan, Records, merged, settle
from catembed.vocabulary.forms import spans

PLAN = Plan(seed=7, head=HEAD + 8, text=False, limit=2**62)
NONE = np.empty(0, np.int64)
VALUES = st.lists(
    st.one_of(st.none(), st.binary(max_size=20), st.sampled_from([b"", b"a", b"\0", b"a\0"])), max_size=80
)


def everything(*counters):
    """What some counters hold together, as the reference tells it."""
    runs = [records for number in range(settle(counters)) for records in merged(counters, number)]
    found = [
        one
        for records in runs
        for one in read_records(records.room.view(np.uint8)[: records.used], counters[0].plan.head)
    ]
    assert len({value for value, *_ in found}) == len(found) == sum(records.entries for records in runs)
    return {value: rest for value, *rest in found}


@given(values=VALUES, weighted=st.booleans(), level=st.sampled_from([-1, 0, 2]), cut=st.integers(0, 80))
@settings(deadline=None, max_examples=150)
def test_counts_are_those_of_the_definition(values, weighted, level, cut):
    array = pa.array(values, pa.binary())
    weights = np.arange(len(values)) % 3 if weighted else NONE
    firsts = np.arange(len(values))[::-1].copy() if weighted else NONE
    counter, cut = Counter(PLAN, level), min(cut, len(values))
    gone = counter.add(spans(array), 0, cut, base=10, weights=weights, firsts=firsts)
    gone += counter.add(spans(array), cut, len(values), base=10, weights=weights, firsts=firsts)
    facts = (
        zip(weights.tolist(), firsts.tolist(), strict=True) if weighted else ((1, 10 + i) for i in range(len(values)))
    )
    expected, missing = reference_count.count((value, *fact) for value, fact in zip(values, facts, strict=True))
    assert gone == missing
    assert everything(counter) == {value: list(fact) for value, fact in expected.items()}


@pytest.mark.parametrize("layout", [pa.string(), pa.large_string(), pa.string_view(), pa.binary(1)])
def test_any_layout_and_slices(layout):
    letters = list("abacabad")
    array = pa.array(letters, pa.string()).cast(layout)
    for begin in range(3):
        counter = Counter(PLAN)
        part = array[begin:]
        counter.add(spans(part), 0, len(part))
        assert {value: often for value, (often, _) in everything(counter).items()} == {
            letter.encode(): letters[begin:].count(letter) for letter in letters[begin:]
        }


def test_words_are_counted_by_their_eight_bytes():
    counter = Counter(PLAN)
    numbers = pa.array([3, None, -(2**63), 3, 2**63 - 1])
    assert counter.add(spans(numbers), 0, 5) == 1
    assert {
        int.from_bytes(value, "little", signed=True): often for value, (often, _) in everything(counter).items()
    } == {
        3: 2,
        -(2**63): 1,
        2**63 - 1: 1,
    }


def test_many_values_in_several_counters():
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 50_000, 200_000)
    array = pa.array([f"value {n:x}" for n in numbers], pa.string())
    counters = [Counter(PLAN) for _ in range(3)]
    for share, counter in enumerate(counters):
        counter.add(spans(array), 200_000 * share // 3, 200_000 * (share + 1) // 3)
    unique, firsts, counts = np.unique(numbers, return_index=True, return_counts=True)
    assert everything(*counters) == {
        f"value {n:x}".encode(): [often, first]
        for n, first, often in zip(unique.tolist(), firsts.tolist(), counts.tolist(), strict=True)
    }


def test_hashes_of_one_tag():
    """They are told apart by their bytes: a tag and a place say only where to look."""
    many = pa.array([f"{n}" for n in range(300_000)], pa.string())
    hashes = hash64(spans(many), PLAN.seed)
    alike = many.take(pa.array(np.flatnonzero((hashes & np.uint64(0xFFFF)) == (hashes[0] & np.uint64(0xFFFF)))))
    counter = Counter(PLAN)
    for _ in range(2):
        counter.add(spans(alike), 0, len(alike))
    assert everything(counter) == {value.encode(): [2, i] for i, value in enumerate(alike.to_pylist())}


def test_a_value_outside_its_buffer_is_named():
    offsets, octets = np.array([0, 1, 9, 10]), np.frombuffer(b"abcde", np.uint8)
    values = Spans(3, OFFSETS64, offsets.ctypes.data, octets.ctypes.data, len(octets), 0, 0, (offsets, octets))
    facts = np.zeros((1, 6), np.int64)
    with pytest.raises(IndexError, match="value 1 lies outside its buffer"):
        count(values, NONE, NONE, 0, 0, 3, facts, HEAD, -1, 0, np.zeros(3, np.int64))
    with pytest.raises(IndexError, match="value 1 lies outside its buffer"):
        Counter(PLAN).add(values, 0, 3)


def records_of(counted):
    """Records of these values, counts and first positions."""
    counter = Counter(PLAN)
    array = pa.array([value for value, *_ in counted], pa.large_binary())
    weights, firsts = (np.array([one[k] for one in counted], np.int64) for k in (1, 2))
    counter.add(spans(array), 0, len(counted), weights=weights, firsts=firsts)
    return counter.take(0)


def places_of(records):
    places = np.empty(records.entries, np.int64)
    assert choose(*records.span, PLAN.head, 1, places, np.zeros(1, np.int64)) == records.entries
    return places


@given(counts=st.dictionaries(st.binary(max_size=9), st.integers(1, 5), max_size=40), buckets=st.sampled_from([1, 7]))
@settings(deadline=None, max_examples=80)
def test_what_is_chosen_and_what_is_cut(counts, buckets):
    counted = [(value, often, n) for n, (value, often) in enumerate(counts.items())]
    records = records_of(counted)
    places, cut = np.empty(len(counted), np.int64), np.zeros(buckets, np.int64)
    found = choose(*records.span, PLAN.head, 3, places, cut)
    kept, expected = reference_count.choose(counted, 3, buckets)
    assert cut.tolist() == expected
    places = places[:found].copy()
    room = compact(places, PLAN.head)
    assert read_records(room.view(np.uint8), PLAN.head) == kept
    octets, offsets, often = gather(places, PLAN.head)
    assert [octets[a:b].tobytes() for a, b in pairwise(offsets)] == [one[0] for one in kept]
    assert often.tolist() == [one[1] for one in kept]
    left = np.zeros(buckets, np.int64)
    leave_out(places_of(records), PLAN.head, left)
    assert left.tolist() == reference_count.choose(counted, 2**40, buckets)[1]


@given(
    value=st.one_of(st.binary(max_size=24), st.text(max_size=8).map(lambda text: text.encode("utf-8", "surrogatepass")))
)
@settings(deadline=None, max_examples=400)
def test_what_is_text(value):
    records = records_of([(b"plain", 1, 0), (value, 1, 1), ("für".encode(), 1, 2)])
    try:
        value.decode()
    except UnicodeDecodeError:
        assert strange_text(*records.span, PLAN.head) == places_of(records)[1]
    else:
        assert strange_text(*records.span, PLAN.head) == 0


@pytest.mark.parametrize("lead", range(0x80, 0x100))
def test_text_byte_by_byte(lead):
    for rest in (
        b"",
        b"\x80",
        b"\x8f\x80",
        b"\x90\x80",
        b"\x9f\x80\x80",
        b"\xa0\x80",
        b"\xbf\xbf\xbf",
        b"\xc0",
        b"\x80" * 3,
    ):
        value = bytes([lead]) + rest
        try:
            value.decode()
            sound = True
        except UnicodeDecodeError:
            sound = False
        assert (strange_text(*records_of([(value, 1, 0)]).span, PLAN.head) == 0) == sound, value


@given(codes=st.lists(st.integers(-1, 5), max_size=50))
@settings(deadline=None, max_examples=60)
def test_codes(codes):
    counts, firsts = np.zeros(6, np.int64), np.full(6, -9, np.int64)
    assert tally(np.array(codes, np.int64), 100, counts, firsts) == codes.count(-1)
    assert counts.tolist() == [codes.count(code) for code in range(6)]
    assert firsts.tolist() == [100 + codes.index(code) if code in codes else -9 for code in range(6)]
    again = np.zeros(6, np.int64)
    assert tally(np.array(codes, np.int64), 100, again, NONE) == codes.count(-1)
    assert again.tolist() == counts.tolist()


@pytest.mark.parametrize("bad", [6, -2, 2**62, -(2**63)])
def test_a_code_that_points_at_nothing_is_named(bad):
    with pytest.raises(IndexError, match=rf"code {bad} at position 2 is outside \[-1, 6\)"):
        tally(np.array([0, 1, bad, bad]), 0, np.zeros(6, np.int64), NONE)


def test_records_are_read_as_they_are_written():
    records = records_of([(b"", 3, 5), (b"12345678", 1, 6), (b"123456789", 2, 7)])
    assert read_records(records.room.view(np.uint8)[: records.used], PLAN.head) == [
        (b"", 3, 5),
        (b"12345678", 1, 6),
        (b"123456789", 2, 7),
    ]
    assert isinstance(records, Records)
