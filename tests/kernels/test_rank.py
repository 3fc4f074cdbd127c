"""`rank`: the order of records, against the definition."""

from zlib import crc32

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed.kernels import reference_count
from catembed.kernels.cpu.choose import choose
from catembed.kernels.cpu.gather import gather
from catembed.kernels.cpu.rank import rank
from catembed.kernels.records import HEAD, PARTS
from catembed.vocabulary.fitting.counting import Counter, Plan
from catembed.vocabulary.forms import spans

PLAN = Plan(seed=7, head=HEAD + 8, text=False, limit=2**62)
ORDERS = st.sampled_from(["frequency", "sorted", "first"])


def ranked(values, counts, firsts, order, *, numeric=False):
    """The values in the order that the kernel gives them, and the reference."""
    counter = Counter(PLAN)
    array = pa.array(values, pa.int64() if numeric else pa.large_binary())
    counter.add(spans(array), 0, len(values), weights=np.array(counts, np.int64), firsts=np.array(firsts, np.int64))
    counter.divide()
    places = []
    for number in range(PARTS):
        records = counter._parts[number].records()
        found = np.empty(records.entries, np.int64)
        choose(*records.span, PLAN.head, 1, found, np.zeros(1, np.int64))
        places.append(found)
    places = np.concatenate(places)
    rank(places, PLAN.head, order, numeric=numeric)
    octets, offsets, often = gather(places, PLAN.head)
    ours = [(octets[a:b].tobytes(), n) for a, b, n in zip(offsets, offsets[1:], often.tolist(), strict=False)]
    given = [value.to_bytes(8, "little", signed=True) for value in values] if numeric else values
    theirs = reference_count.rank(list(zip(given, counts, firsts, strict=True)), order, numeric=numeric)
    return ours, [(value, often) for value, often, _ in theirs]


def assert_ranked(values, order, *, spread=4, numeric=False):
    counts = [1 + crc32(repr(value).encode()) % spread for value in values]
    firsts = np.random.default_rng(1).permutation(len(values)).tolist()
    ours, theirs = ranked(values, counts, firsts, order, numeric=numeric)
    assert ours == theirs


@given(
    values=st.sets(st.one_of(st.binary(max_size=20), st.text("ab\0", max_size=30).map(str.encode)), max_size=120),
    order=ORDERS,
)
@settings(deadline=None, max_examples=150)
def test_any_bytes(values, order):
    assert_ranked(sorted(values, key=crc32), order)


@given(values=st.sets(st.integers(-(2**63), 2**63 - 1), max_size=100), order=ORDERS)
@settings(deadline=None, max_examples=60)
def test_numbers_sort_as_numbers(values, order):
    assert_ranked(list(values), order, numeric=True)


@pytest.mark.parametrize("order", ["frequency", "sorted", "first"])
@pytest.mark.parametrize("ending", [b"", b"\0", b"/and/more/of/it"])
def test_long_shared_beginnings(order, ending):
    rng = np.random.default_rng(0)
    values = {b"https://example.org/shared/path/" + str(n).encode() + ending for n in rng.integers(0, 10**6, 3000)}
    assert_ranked(sorted(values, key=crc32), order)


def test_values_that_begin_with_each_other():
    values = (
        [b"a" * n for n in range(300)]
        + [b"\0" * n for n in range(1, 300)]
        + [b"a" * 100 + b"\0" * n for n in range(1, 99)]
    )
    assert_ranked(values, "sorted", spread=1)
    assert_ranked(values, "frequency", spread=2)


def test_values_of_a_megabyte():
    values = [b"x" * 2**20 + bytes([n]) for n in range(40)]
    assert_ranked(values, "sorted", spread=1)


@pytest.mark.parametrize("order", ["frequency", "sorted", "first"])
@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_many_values_on_any_number_of_threads(order, skewed, number, threads):
    threads(number)
    rng = np.random.default_rng(0)
    numbers = np.unique(rng.integers(0, 10**9, 150_000))
    values = [f"{'common' if skewed and n % 50 else n % 7} {n}".encode() for n in rng.permutation(numbers).tolist()]
    assert_ranked(values, order, spread=3 if skewed else 1000)
    assert_ranked(numbers.tolist(), order, spread=2, numeric=True)


def test_one_large_segment_that_nothing_divides(threads):
    """Values of which one ends before any byte differs."""
    threads(3)
    values = [b"same" + b"\0" * n for n in range(5)] + [b"same\0\0\0\0\0\0" + str(n).encode() for n in range(110_000)]
    assert_ranked(values, "sorted", spread=1)


def test_no_values():
    for order in ("frequency", "sorted", "first"):
        places = np.empty(0, np.int64)
        rank(places, PLAN.head, order, numeric=False)
        assert len(places) == 0


def test_first_positions_must_be_there():
    with pytest.raises(ValueError, match="no first positions"):
        rank(np.empty(0, np.int64), HEAD, "first", numeric=False)
