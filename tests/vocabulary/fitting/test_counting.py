"""Learning from columns: what is counted, kept and ordered, whatever the batches, the threads and the memory."""

import datetime as dt
import errno
import os
import tempfile
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from catembed import VocabularyError
from catembed.kernels.reference_hash import hash_bytes
from catembed.vocabulary.columns import read
from catembed.vocabulary.fitting import counting, fit, selection, spill, tally
from catembed.vocabulary.fitting.fit import combine, learn

ORDERS = ("frequency", "sorted", "first")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def eager(monkeypatch):
    """Every column is worth a thread, every counter is soon divided."""
    monkeypatch.setattr(tally, "_AT_LEAST", 1)
    monkeypatch.setattr(counting, "_LARGE", 1)


def plainly(values, *, min_count=1, max_size=None, order="frequency"):
    """The same with Python's own Counter: categories, counts, missing values, occurrences left out."""
    present = [value for value in values if value is not None]
    counts = Counter(present)
    ranked = sorted((value for value in counts if counts[value] >= min_count), key=lambda v: (-counts[v], v))[:max_size]
    if order != "frequency":
        ranked.sort(key=present.index if order == "first" else None)
    kept = [counts[value] for value in ranked]
    return ranked, kept, len(values) - len(present), len(present) - sum(kept)


def told(learned):
    return learned.values.to_pylist(), learned.counts.tolist(), learned.missing, int(learned.cut.sum())


def batches_of(values, sizes, as_dictionary=False, arrow_type=None):
    """The values in batches, the last one having all that is left."""
    ends = [*np.cumsum(sizes).tolist(), len(values)]
    begin = 0
    for end in ends:
        array = pa.array(values[begin:end], arrow_type or pa.string())
        yield read(array.dictionary_encode() if as_dictionary else array)
        begin = max(begin, end)


CHOICES = st.fixed_dictionaries(
    {
        "order": st.sampled_from(ORDERS),
        "min_count": st.integers(1, 3),
        "max_size": st.one_of(st.none(), st.integers(1, 6)),
    }
)


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from("abcd"), st.text(max_size=3)), max_size=60),
    sizes=st.lists(st.integers(0, 20), max_size=4),
    coded=st.booleans(),
    number=st.sampled_from([1, 2, 5]),
    memory=st.sampled_from([1, 2**30]),
    choice=CHOICES,
)
@settings(deadline=None, max_examples=200)
def test_as_python_counts(values, sizes, coded, number, memory, choice):
    """With all threads, and no memory to speak of."""
    before, at_least, large = torch.get_num_threads(), tally._AT_LEAST, counting._LARGE
    try:
        torch.set_num_threads(number)
        tally._AT_LEAST = counting._LARGE = 1
        learned = learn(batches_of(values, sizes, coded), memory=memory, **choice)
    finally:
        torch.set_num_threads(before)
        tally._AT_LEAST, counting._LARGE = at_least, large
    assert told(learned) == plainly(values, **choice)
    assert learned.counts.dtype == learned.cut.dtype == np.int64


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("max_size", [None, 1000])
def test_threads_batches_and_memory_change_nothing(order, max_size, threads):
    rng = np.random.default_rng(0)
    values = [f"v{n}" for n in rng.integers(0, 60_000, 200_000) // rng.integers(1, 60, 200_000)]
    expected = plainly(values, order="frequency", max_size=max_size, min_count=2)
    if order != "frequency":
        kept = set(expected[0])
        counts = dict(zip(*expected[:2], strict=True))
        ranked = sorted(kept) if order == "sorted" else [value for value in dict.fromkeys(values) if value in kept]
        expected = (ranked, [counts[value] for value in ranked], *expected[2:])
    for number, sizes, memory in [(1, [], 2**30), (2, [], 2**30), (3, [70_000] * 2, 2**19), (2, [50_000] * 3, 2**16)]:
        threads(number)
        learned = learn(batches_of(values, sizes), order=order, max_size=max_size, min_count=2, memory=memory)
        assert told(learned) == expected


DAY = dt.date(2024, 1, 1)
MOMENT = dt.datetime(2024, 1, 1, 12)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (["b", None, "a", "b", ""], "string"),
        ([b"b", None, b"\xff", b"b", b""], "bytes"),
        ([3, None, -1, 3, 2**63 - 1], "integer"),
        ([True, None, False, True], "boolean"),
        ([DAY, None, DAY - dt.timedelta(99_999), DAY], "date"),
        ([MOMENT, None, MOMENT.replace(year=1960), MOMENT], "timestamp"),
        (
            [MOMENT.replace(tzinfo=dt.UTC), None, MOMENT.replace(tzinfo=dt.UTC, year=2), MOMENT.replace(tzinfo=dt.UTC)],
            "timestamp[UTC]",
        ),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("memory", [1, 2**30])
def test_every_kind(values, kind, order, memory, eager):
    learned = learn([read(values)], order=order, memory=memory)
    assert told(learned) == plainly(values, order=order)
    assert learned.kind == kind
    learned.values.validate(full=True)


@pytest.mark.parametrize("make", [pa.array, pd.Series, lambda v: pd.Series(v, dtype="category"), pl.Series])
@pytest.mark.parametrize("order", ORDERS)
def test_columns_of_any_library(make, order):
    values = ["x", None, "y", "x", "z", None]
    assert told(learn([read(make(values))], order=order)) == plainly(values, order=order)


def test_a_dictionary_counts_by_value():
    """Entries that are missing, are there twice, or are used by no row."""
    dictionary = pa.array(["unused", "a", None, "a", "b"])
    codes = pa.array([1, 3, 3, 2, None, 4, 1], pa.int8())
    column = read(pa.DictionaryArray.from_arrays(codes, dictionary))
    for order in ORDERS:
        assert told(learn([column], order=order)) == (["a", "b"], [4, 1], 2, 0)
    assert told(learn([read(["b"]), column], order="first"))[0] == ["b", "a"]


def test_text_in_views_and_slices():
    values = ["a text that is no short one", None, "b", "a text that is no short one", "c"]
    for layout in (pa.string(), pa.large_string(), pa.string_view()):
        column = read(pa.array(values, pa.string()).cast(layout)[1:])
        assert told(learn([column])) == plainly(values[1:])
    chunked = pa.chunked_array([values[:2], [], values[2:]], pa.string())
    assert told(learn([read(chunked)], order="first")) == plainly(values, order="first")


@pytest.mark.parametrize("column", [[], [None, float("nan")], pa.nulls(3)])
def test_nothing_to_learn(column):
    learned = learn([read(column)], max_size=3, order="sorted")
    assert (len(learned.values), learned.counts.tolist(), learned.kind) == (0, [], None)
    assert learned.missing == len(column)
    assert learn([]).kind is None


def test_a_kind_without_a_value_is_known():
    learned = learn([read(pa.array([], pa.int8())), read([None])])
    assert learned.kind == "integer"
    assert learned.values.type == pa.int64()


def test_columns_of_any_shape():
    assert told(learn([read([["a", "b"], ["b", None]])])) == (["b", "a"], [2, 1], 1, 0)


def test_values_left_out_in_buckets():
    values = ["a"] * 3 + ["b", "c", "d", "d"]
    learned = learn([read(values)], max_size=1, buckets=5)
    expected = [0] * 5
    for value in values[3:]:
        expected[hash_bytes(value.encode(), 0) * 5 >> 64] += 1
    assert learned.cut.tolist() == expected
    assert learn([read(values)], min_count=3, buckets=5).cut.tolist() == expected
    numbers = learn([read([7, 7, -1])], max_size=1, buckets=3).cut.tolist()
    assert numbers == [int(hash_bytes((-1).to_bytes(8, "little", signed=True), 0) * 3 >> 64 == n) for n in range(3)]


def test_batches_of_different_kinds():
    with pytest.raises(VocabularyError) as caught:
        learn([read([None]), read(["1"]), read(["2"]), read([3])])
    assert str(caught.value) == (
        "batch 3 holds integers, but batch 1 holds strings, and values of different types are never equal; convert all "
        "of them to one type, for example to strings"
    )


def test_it_stops_at_missing_values_where_they_are_an_error():
    with pytest.raises(VocabularyError, match=r"^2 missing values at positions 1, 2 \(None"):
        learn([read(["a", None, None])], missing="error")

    def batches():
        yield read(["a"] * 1500)
        yield read(["a", None])
        raise AssertionError("it did not stop")

    with pytest.raises(VocabularyError, match=r"^batch 1, which begins with row 1,500: 1 missing value at position 1 "):
        learn(batches(), missing="error")


def damaged(octets, layout=None):
    """An Arrow array of three texts, the second of which is these bytes."""
    offsets = np.array([0, 1, 1 + len(octets), 2 + len(octets)], np.int32)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"a" + octets + b"b")]
    return pa.Array.from_buffers(layout or pa.string(), 3, buffers)


@pytest.mark.parametrize("octets", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"longer than a word \xf5"])
def test_text_that_is_no_unicode(octets, eager):
    for memory in (1, 2**30):
        with pytest.raises(VocabularyError, match="damaged"):
            learn([read(["x"]), read(damaged(octets))], memory=memory)
    learned = learn([read(damaged(octets, pa.binary()))])
    assert sorted(learned.values.to_pylist()) == sorted([b"a", octets, b"b"])


def test_offsets_that_lead_out_of_memory():
    array = damaged(b"abc")
    offsets = np.array([0, 1, 2_000_000, 5], np.int32)
    array = pa.Array.from_buffers(pa.string(), 3, [None, pa.py_buffer(offsets), array.buffers()[2]])
    with pytest.raises(VocabularyError, match="damaged"):
        learn([read(array)])


def test_codes_that_point_at_nothing():
    codes = pa.array([0, 1, 7, 0, 0], pa.int8())
    array = pa.DictionaryArray.from_arrays(codes, pa.array(["a", "b"]), safe=False)
    with pytest.raises(VocabularyError):
        learn([read(array)])


# Temporary files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder for temporary files, all of which have been closed at the end."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made, make = [], tempfile.TemporaryFile

    def remember(**options):
        made.append(make(**options))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    yield tmp_path
    assert made
    assert all(file.closed for file in made)


def open_files_in(folder):
    links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
    return [os.readlink(link) for link in links if os.path.islink(link) and os.readlink(link).startswith(str(folder))]


def test_what_does_not_fit_into_memory_goes_to_a_file_that_goes_away(folder, threads, monkeypatch):
    threads(2)
    written = []
    write = spill.Spill.write

    def note(self, part, records):
        written.append(len(records))
        assert open_files_in(folder)
        return write(self, part, records)

    monkeypatch.setattr(spill.Spill, "write", note)
    values = [f"value {n}" for n in np.random.default_rng(0).integers(0, 40_000, 150_000)]
    assert told(learn(batches_of(values, [30_000] * 4), memory=2**20)) == plainly(values)
    assert sum(written) > 2**21
    assert not list(folder.iterdir())


@pytest.mark.parametrize("error", [VocabularyError, KeyboardInterrupt])
def test_temporary_files_go_away_whatever_happens(error, folder):
    def batches():
        yield read([f"value {n}" for n in range(20_000)])
        assert open_files_in(folder)
        raise error

    with pytest.raises(error):
        learn(batches(), memory=2**16)
    assert not list(folder.iterdir())


def test_a_full_disk_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    class Full:
        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            pass

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full())
    with pytest.raises(OSError, match=r"No space left on device.*TMPDIR") as caught:
        learn([read([f"value {n}" for n in range(20_000)])], memory=2**16)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path)


def test_a_folder_that_is_not_there_is_told_of(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere/at/all")
    with pytest.raises(OSError, match="TMPDIR"):
        learn([read([f"value {n}" for n in range(20_000)])], memory=2**16)


def test_memory_holds_no_more_than_what_can_still_be_kept(folder, threads, monkeypatch):
    threads(1)
    held, keep = [], selection.Selection.keep

    def note(self, *found):
        held.append(sum(map(len, self._places)))
        keep(self, *found)

    monkeypatch.setattr(selection.Selection, "keep", note)
    values = [f"value {n}" for n in range(20_000)] + ["b", "a", "a"]
    learned = learn([read(values)], max_size=50, memory=2**16)
    assert told(learned) == plainly(values, max_size=50)
    assert len(held) > 16
    assert max(held) < 6_000


# Putting together what was learned


@given(
    values=st.lists(st.one_of(st.none(), st.sampled_from("abcdefgh")), max_size=40),
    sizes=st.lists(st.integers(0, 20), max_size=3),
    choice=CHOICES,
)
@settings(deadline=None, max_examples=100)
def test_parts_give_what_one_pass_gives(values, sizes, choice):
    parts = [learn([column], order=choice["order"]) for column in batches_of(values, sizes)]
    assert told(combine(parts, **choice)) == plainly(values, **choice)


def test_parts_of_every_kind():
    for values in ([1, 2, 2], [DAY], [True, False], [b"x"], []):
        learned = learn([read(values)])
        assert told(combine([learned, learned])) == plainly(values * 2)
        assert combine([learned]).kind == learned.kind


def test_parts_keep_what_was_left_out_in_its_buckets():
    parts = [learn([read(["a", "a", "b"])], min_count=2, buckets=4), learn([read(["c", None])], buckets=4)]
    whole = combine(parts, max_size=1)
    cut = [0] * 4
    for value in (b"b", b"c"):
        cut[hash_bytes(value, 0) * 4 >> 64] += 1
    assert (told(whole)[:3], whole.cut.tolist()) == ((["a"], [2], 1), cut)
    with pytest.raises(VocabularyError, match="in 1 and in 4 buckets"):
        combine([parts[0], learn([read(["a"])])])


def test_parts_of_different_kinds():
    with pytest.raises(VocabularyError, match="part 1 holds integers, but part 0 holds strings"):
        combine([learn([read(["a"])]), learn([read([1])])])


def test_the_memory_there_is_unless_told_otherwise():
    assert fit.MEMORY == 2**30
