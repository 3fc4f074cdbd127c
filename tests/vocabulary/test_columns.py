"""Every kind of column that a vocabulary takes, and every one that it refuses."""

import datetime as dt
import enum

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from catembed import Vocabulary, VocabularyError

FRUIT = ["apple", "banana", "candy"]
UTC = dt.UTC
BERLIN = dt.timezone(dt.timedelta(hours=1))


class OnlyArrowArray:
    """Speaks Arrow's C interface and nothing else."""

    def __init__(self, array):
        self.array = array

    def __arrow_c_array__(self, requested_schema=None):
        return self.array.__arrow_c_array__(requested_schema)


class OnlyArrowStream:
    def __init__(self, chunked):
        self.chunked = chunked

    def __arrow_c_stream__(self, requested_schema=None):
        return self.chunked.__arrow_c_stream__(requested_schema)


class OnlyNumPyArray:
    def __init__(self, array):
        self.array = array

    def __iter__(self):
        return iter(self.array)

    def __array__(self, dtype=None, copy=None):
        return self.array


WANTED = ["candy", "apple", "candy"]

TEXT = {
    "list": WANTED,
    "tuple": tuple(WANTED),
    "numpy object": np.array(WANTED, object),
    "numpy str": np.array(WANTED),
    "numpy StringDType": np.array(WANTED, np.dtypes.StringDType()),
    "numpy strided": np.array([value for value in WANTED for _ in range(2)])[::2],
    "list of numpy str": [np.str_(value) for value in WANTED],
    "list of Arrow scalars": [pa.scalar(value) for value in WANTED],
    "pandas object": pd.Series(WANTED, dtype=object),
    "pandas str": pd.Series(WANTED),
    "pandas string": pd.Series(WANTED, dtype="string"),
    "pandas string[python]": pd.Series(WANTED, dtype=pd.StringDtype("python")),
    "pandas Arrow": pd.Series(WANTED, dtype=pd.ArrowDtype(pa.string())),
    "pandas category": pd.Series(WANTED, dtype="category"),
    "pandas category, other levels": pd.Series(pd.Categorical(WANTED, ["zebra", "candy", "banana", "apple"])),
    "pandas category, few levels": pd.Series(pd.Categorical(WANTED, ["candy", "apple"])),
    "pandas Index": pd.Index(WANTED),
    "pandas CategoricalIndex": pd.CategoricalIndex(WANTED),
    "pandas array": pd.array(WANTED),
    "Arrow string": pa.array(WANTED),
    "Arrow large_string": pa.array(WANTED, pa.large_string()),
    "Arrow string_view": pa.array(WANTED, pa.string_view()),
    "Arrow sliced": pa.array(["apple", *WANTED, "apple"]).slice(1, 3),
    "Arrow dictionary": pa.array(WANTED).dictionary_encode(),
    "Arrow dictionary, sliced": pa.array(["banana", *WANTED]).dictionary_encode().slice(1),
    "Arrow dictionary, repeating": pa.DictionaryArray.from_arrays([0, 1, 2], pa.array(["candy", "apple", "candy"])),
    "Arrow chunks": pa.chunked_array([WANTED[:1], [], WANTED[1:]]),
    "Arrow chunks, each its dictionary": pa.chunked_array(
        [pa.array(part).dictionary_encode() for part in (WANTED[:1], WANTED[1:])]
    ),
    "Arrow run ends": pa.compute.run_end_encode(pa.array(WANTED)),
    "polars String": pl.Series(WANTED),
    "polars chunks": pl.concat([pl.Series(WANTED[:1]), pl.Series(WANTED[1:])], rechunk=False),
    "polars Categorical": pl.Series(WANTED, dtype=pl.Categorical),
    "polars Enum": pl.Series(WANTED, dtype=pl.Enum(["candy", "zebra", "apple"])),
    "polars Object": pl.Series(WANTED, dtype=pl.Object),
    "C array": OnlyArrowArray(pa.array(WANTED)),
    "C stream": OnlyArrowStream(pa.chunked_array([WANTED])),
    "__array__": OnlyNumPyArray(np.array(WANTED)),
}


@pytest.mark.parametrize("column", TEXT.values(), ids=TEXT.keys())
def test_text_of_any_library(column):
    ids = Vocabulary(FRUIT).encode(column)
    assert ids.dtype == torch.int64
    assert ids.tolist() == [2, 0, 2]
    assert Vocabulary(FRUIT).encode(WANTED).equal(ids)
    learned = Vocabulary.fit(column, order="first")
    assert list(learned) == ["candy", "apple"]
    assert learned.counts.tolist() == [2, 1]


INTEGERS = {
    "list": [30, -10, 30],
    "range": range(30, 31),
    "list of floats": [30.0, -10.0, 30.0],
    "list of numpy": [np.int8(30), np.int64(-10), np.float32(30)],
    "numpy int8": np.array([30, -10, 30], np.int8),
    "numpy big-endian": np.array([30, -10, 30], ">i4"),
    "numpy reversed view": np.array([30, -10, 30])[::-1],
    "numpy float16": np.array([30, -10, 30], np.float16),
    "numpy longdouble": np.array([30, -10, 30], np.longdouble),
    "numpy uint64": np.array([30], np.uint64),
    "numpy object": np.array([30, -10, 30], object),
    "pandas int": pd.Series([30, -10, 30]),
    "pandas Int64": pd.Series([30, -10, 30], dtype="Int64"),
    "pandas float category": pd.Series([30.0, -10.0, 30.0], dtype="category"),
    "pandas sparse": pd.Series(pd.arrays.SparseArray([30, -10, 30])),
    "pandas RangeIndex": pd.RangeIndex(30, 31),
    "Arrow int16": pa.array([30, -10, 30], pa.int16()),
    "Arrow double": pa.array([30.0, -10.0, 30.0]),
    "Arrow dictionary": pa.array([30, -10, 30]).dictionary_encode(),
    "polars": pl.Series([30, -10, 30]),
    "polars float": pl.Series([30.0, -10.0, 30.0]),
    "torch": torch.tensor([30, -10, 30]),
    "torch int8": torch.tensor([30, -10, 30], dtype=torch.int8),
    "torch float with a gradient": torch.tensor([30.0, -10.0, 30.0], requires_grad=True),
    "enum": [enum.IntEnum("Level", {"high": 30}).high],
}


@pytest.mark.parametrize("column", INTEGERS.values(), ids=INTEGERS.keys())
def test_integers_of_any_library(column):
    ids = Vocabulary([-10, 20, 30]).encode(column).tolist()
    assert ids == [2, 0, 2][: len(ids)]
    assert len(ids) == len(column)


@pytest.mark.parametrize(
    "column",
    [
        [True, False],
        [np.True_, np.False_],
        np.array([True, False]),
        np.array([True, False], object),
        pd.Series([True, False]),
        pd.Series([True, False], dtype="boolean"),
        pa.array([True, False]),
        pl.Series([True, False]),
        torch.tensor([True, False]),
    ],
)
def test_booleans_of_any_library(column):
    assert Vocabulary([False, True]).encode(column).tolist() == [1, 0]
    assert Vocabulary([False, True]).kind == "boolean"


@pytest.mark.parametrize(
    "column",
    [
        [b"\xff\0", b""],
        np.array([b"\xff\0", b""], object),
        pa.array([b"\xff\0", b""]),
        pa.array([b"\xff\0", b""], pa.large_binary()),
        pa.array([b"\xff\0", b""], pa.binary_view()),
        pa.array([b"\xff\0", b""]).dictionary_encode(),
        pl.Series([b"\xff\0", b""]),
    ],
)
def test_bytes_of_any_library(column):
    assert Vocabulary([b"", b"\xff", b"\xff\0"]).encode(column).tolist() == [2, 0]


def test_fixed_width_bytes():
    vocabulary = Vocabulary([b"ab", b"cd"])
    assert vocabulary.encode(np.array([b"cd", b"ab"])).tolist() == [1, 0]
    assert vocabulary.encode(pa.array([b"cd"], pa.binary(2))).tolist() == [1]


DAY = dt.date(2024, 2, 29)


@pytest.mark.parametrize(
    "column",
    [
        [DAY],
        [np.datetime64("2024-02-29")],
        [np.datetime64("2024-02-29"), DAY],
        np.array([DAY], object),
        np.array(["2024-02-29"], "M8[D]"),
        pd.Series([DAY]),
        pa.array([DAY]),
        pa.array([DAY]).cast(pa.date64()),
        pl.Series([DAY]),
    ],
)
def test_dates_of_any_library(column):
    vocabulary = Vocabulary([dt.date(1, 1, 1), DAY, dt.date(9999, 12, 31)])
    assert vocabulary.encode(column).tolist() == [1] * len(column)
    assert vocabulary.decode([0, 1, 2]) == [dt.date(1, 1, 1), DAY, dt.date(9999, 12, 31)]


@pytest.mark.parametrize("unit", ["Y", "M"])
def test_coarse_numpy_dates_are_the_first_day(unit):
    column = np.array(["2024-01-15", "NaT"], f"M8[{unit}]")
    assert Vocabulary([dt.date(2024, 1, 1)], missing="own").encode(column).tolist() == [1, 0]


MOMENT = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)


@pytest.mark.parametrize(
    "column",
    [
        [MOMENT],
        [pd.Timestamp(MOMENT)],
        [np.datetime64(MOMENT)],
        [np.datetime64(MOMENT), MOMENT],
        np.array([MOMENT], "M8[us]"),
        np.array([MOMENT], "M8[ns]"),
        np.array([MOMENT], object),
        pd.Series([MOMENT]),
        pd.Series([MOMENT]).astype("datetime64[ns]"),
        pd.DatetimeIndex([MOMENT]),
        pa.array([MOMENT]),
        pa.array([MOMENT], pa.timestamp("ns")),
        pl.Series([MOMENT]),
        pl.Series([MOMENT], dtype=pl.Datetime("ns")),
    ],
)
def test_timestamps_of_any_library_and_unit(column):
    vocabulary = Vocabulary([dt.datetime.min, MOMENT, dt.datetime.max])
    assert vocabulary.encode(column).tolist() == [1] * len(column)
    assert vocabulary.decode([0, 1, 2]) == [dt.datetime.min, MOMENT, dt.datetime.max]


@pytest.mark.parametrize("unit", ["h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"])
def test_timestamps_of_every_numpy_unit(unit):
    vocabulary = Vocabulary([dt.datetime(1970, 1, 1)], missing="own")
    assert vocabulary.encode(np.array(["1970-01-01T00", "NaT"], f"M8[{unit}]")).tolist() == [1, 0]


NOON = dt.datetime(2024, 2, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "column",
    [
        [NOON],
        [NOON.astimezone(BERLIN)],
        [NOON, NOON.astimezone(BERLIN)],
        [pd.Timestamp(NOON).tz_convert("America/New_York")],
        np.array([NOON.astimezone(BERLIN)], object),
        pd.Series([NOON]).dt.tz_convert("Asia/Tokyo"),
        pa.array([NOON], pa.timestamp("ms", "Asia/Tokyo")),
        pl.Series([NOON]).dt.convert_time_zone("Asia/Tokyo"),
    ],
)
def test_time_zones_are_one_moment(column):
    vocabulary = Vocabulary([NOON])
    assert vocabulary.encode(column).tolist() == [0] * len(column)
    assert vocabulary.decode(0) == NOON
    assert vocabulary.decode(0).utcoffset() == dt.timedelta(0)


# Shapes


def test_shape_of_the_input_is_kept():
    vocabulary = Vocabulary(FRUIT)
    assert vocabulary.encode("banana").shape == ()
    assert vocabulary.encode([["apple"], ["candy"]]).tolist() == [[0], [2]]
    assert vocabulary.encode((("apple", "candy"), ["candy", "apple"])).tolist() == [[0, 2], [2, 0]]
    assert vocabulary.encode([[["apple", "candy"]]]).shape == (1, 1, 2)
    assert vocabulary.encode(np.array([["apple", "candy"]]).T).tolist() == [[0], [2]]
    assert vocabulary.encode(np.array("candy")).shape == ()
    assert vocabulary.encode([np.array(["apple", "candy"])] * 3).tolist() == [[0, 2]] * 3
    assert vocabulary.encode([pd.Series(["apple"]), pa.array(["candy"])]).tolist() == [[0], [2]]
    assert Vocabulary([1, 2]).encode(torch.tensor([[1], [2]])).tolist() == [[0], [1]]
    assert Vocabulary([1, 2]).encode([torch.tensor(2), torch.tensor(1)]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("column", "shape"),
    [
        ([], (0,)),
        ([[], []], (2, 0)),
        (np.empty((0, 3), object), (0, 3)),
        (np.array([]), (0,)),
        (pd.Series([], dtype="category"), (0,)),
        (pa.array([], pa.int8()), (0,)),
        (pa.chunked_array([], pa.string()), (0,)),
        (pl.Series([]), (0,)),
    ],
)
def test_empty_columns_keep_their_shape(column, shape):
    assert Vocabulary(FRUIT).encode(column).shape == shape
    assert Vocabulary([]).encode(column).shape == shape


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([["apple"], ["apple", "candy"]], "a list of 1 at position 0, but a list of 2 at position 1"),
        ([["apple"], "candy"], "a list of 1 at position 0, but 'candy' at position 1"),
        (["apple", ["candy"]], "'apple' at position 0, but a list of 1 at position 1"),
        ([[["apple"]], [[]]], r"a list of 1 at position \(0, 0\), but a list of 0 at position \(1, 0\)"),
        ([np.array(["apple"]), np.array(["a", "b"])], r"shape \(1,\) at position 0, but shape \(2,\) at position 1"),
    ],
)
def test_ragged_lists_are_refused_with_their_position(column, message):
    with pytest.raises(VocabularyError, match=f"ragged .*{message}"):
        Vocabulary(FRUIT).encode(column)


def test_a_list_that_contains_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(VocabularyError, match="nested more than 64 deep"):
        Vocabulary(FRUIT).encode(endless)


# Text


def test_nul_and_the_empty_string_are_text_like_any_other():
    vocabulary = Vocabulary(["a", "a\0", "a\0b", "", "\0"])
    for make in (list, np.array, pd.Series, pa.array, pl.Series, lambda v: np.array(v, object)):
        assert vocabulary.encode(make(["a\0b", "a", ""])).tolist() == [2, 0, 3]
    assert vocabulary.encode(["\0", "a\0"]).tolist() == [4, 1]


def test_unicode_is_compared_by_code_point():
    composed, decomposed = "\u00e9", "e\u0301"
    assert Vocabulary([composed, decomposed, "😀"]).encode([decomposed, "😀"]).tolist() == [1, 2]


@pytest.mark.parametrize(
    "column", [["apple", "\ud800"], pd.Series(["apple", "a\udfff"], dtype=object), np.array(["apple", "\ud800"])]
)
def test_lone_surrogates_are_refused(column):
    with pytest.raises(VocabularyError, match="at position 1 holds a lone surrogate"):
        Vocabulary(FRUIT, unseen="unknown").encode(column)
