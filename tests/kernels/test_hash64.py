"""`hash64`: words written down for good, twin and definition alike in every layout, and how well it spreads."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from catembed.kernels.dispatch import kernel
from catembed.kernels.reference_hash import hash64 as defined
from catembed.kernels.reference_hash import hash_bytes
from catembed.kernels.spans import Spans, from_bytes, from_words
from catembed.vocabulary.forms import spans

hash64 = kernel("hash64", torch.device("cpu"))

SEEDS = [0, 1, -1, 2**63 - 1, -(2**63)]
RNG = np.random.default_rng(0)
MILLION = 1_000_000

# The contract of docs/format.md: buckets and fresh rows of every file written so far depend on these.
KNOWN = {
    b"": (0x1BB36368767A80D5, 0x279ADE77D7A12153, 0x92E3AAACBD94A33F),
    b"a": (0x38502AD8097FA0A5, 0x1C70E62921B9B88C, 0x1249237E868DA9E3),
    b"banana": (0xC5538E0E8C528742, 0x216FE234E005064D, 0xB384812780CB520F),
    "naïve".encode(): (0xDE8D63594807DF8A, 0x711DD5D2099419F3, 0x956331534BDD2299),
    bytes(range(8)): (0xF00C40701680658E, 0x8ACB830DCAF6D778, 0xC56D126B78B786D3),
    bytes(range(16)): (0xD6785B27F6EA174A, 0x8861159559155481, 0xAADA0CD3A1D46574),
    bytes(range(17)): (0x1E3B3BC338994322, 0x0DC8BC11A2057E1A, 0xDEF7183A706B6DC7),
    bytes(range(33)): (0x0E4ADA4765C3EB78, 0x5F9DE2EC749AE767, 0xD0AC9062A66CB1E5),
    b"\0" * 16: (0x523CFE3526FC711D, 0xA906A7A1186DE7D0, 0x987645F8C326A897),
    b"\xff" * 100: (0x65C59CC94C63E834, 0xF9B22510E0AEBE4C, 0x969F48F5AB74E6C8),
}


def of_bytes(values):
    return spans(pa.array(values, pa.large_binary()))


@pytest.mark.parametrize("seed", [0, 1, -1])
@pytest.mark.parametrize("value", KNOWN, ids=repr)
def test_the_words_of_the_contract(value, seed):
    word = KNOWN[value][[0, 1, -1].index(seed)]
    assert hash_bytes(value, seed) == word
    assert hash64(of_bytes([value]), seed).tolist() == [word]


def test_a_number_is_hashed_as_its_eight_bytes():
    numbers = [0, -1, 42, 2**63 - 1, -(2**63)]
    expected = [hash_bytes(number.to_bytes(8, "little", signed=True), 7) for number in numbers]
    assert hash64(from_words(np.array(numbers)), 7).tolist() == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_twin_and_definition_agree_for_every_length(seed):
    values = [RNG.bytes(length) for length in range(201)]
    given = of_bytes(values)
    hashes = hash64(given, seed)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [hash_bytes(value, seed) for value in values] == defined(given, seed).tolist()


def test_bytes_around_a_value_are_no_part_of_it():
    """Wherever it stands: short values are read byte by byte or by overlapping words."""
    for length in [*range(20), 31, 32, 33]:
        value = RNG.bytes(length)
        for begin in range(9):
            octets = np.frombuffer(RNG.bytes(begin) + value + RNG.bytes(9), np.uint8)
            given = from_bytes(octets, np.array([begin, begin + length]))
            assert hash64(given, 3).tolist() == [hash_bytes(value, 3)]


def test_every_bit_and_the_length_count():
    for length in (1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64):
        value = RNG.bytes(length)
        changed = [value, value + b"\0", b"\0" + value, value[:-1]]
        for bit in range(8 * length):
            flipped = bytearray(value)
            flipped[bit // 8] ^= 1 << bit % 8
            changed.append(bytes(flipped))
        distinct = set(changed)
        assert len(np.unique(hash64(of_bytes(list(distinct)), 0))) == len(distinct)


MIXED = [b"", None, b"a", "naïve".encode(), b"x" * 12, b"y" * 13, None, b"z" * 16, b"w" * 17, b"v" * 100, b"\0", None]
COLUMNS = {
    "text": MIXED,
    "bytes": [b"\xff\xfe", *MIXED, b"\x80" * 40],
    "one size": [b"abc", None, b"xyz", b"\0\0\0"],
    "one long size": [b"a" * 21, None, b"b" * 21],
    "words": [b"12345678", None, b"\xff" * 8, b"\0" * 8, b"abcdefgh"],
    "all missing": [None] * 11 + [b"12345678"],
    "none missing": [b"12345678"] * 9,
    "many": [None if i % 7 == 3 else str(i).encode() * (i % 5) for i in range(200)],
}


@pytest.mark.parametrize("column", COLUMNS)
def test_every_layout_gives_the_same(column, layouts):
    values = COLUMNS[column]
    expected = [0 if value is None else hash_bytes(value, -5) for value in values]
    names = set()
    for name, array in layouts(values):
        names.add(name)
        assert hash64(spans(array), -5).tolist() == expected, name
        for start in range(1, min(10, len(values))):  # bitmaps that begin inside a byte
            part = array.slice(start, len(values) - start - 1)
            assert hash64(spans(part), -5).tolist() == expected[start:-1], (name, start)
    assert {"binary", "large_binary", "binary_view", "slice of binary_view"} <= names
    assert ("int64" in names) == (column in ("words", "all missing", "none missing"))
    assert ("string_view" in names) == (column not in ("bytes", "words"))


def test_no_values():
    for kind in (pa.int64(), pa.string(), pa.large_binary(), pa.string_view(), pa.binary(3)):
        hashes = hash64(spans(pa.array([], kind)), 0)
        assert (hashes.dtype, hashes.shape) == (np.uint64, (0,))


def test_hashes_do_not_depend_on_threads(threads):
    given = spans(pa.array(np.arange(70_000)).cast(pa.string()))
    threads(1)
    alone = hash64(given, 1)
    threads(4)
    assert np.array_equal(hash64(given, 1), alone)
    assert alone[69_999] == hash_bytes(b"69999", 1)


@pytest.mark.parametrize(
    "offsets", [[0, 2, 9, 4], [0, -1, 3, 4], [0, 3, 2, 4], [0, 2, 2**62, 4], [0, 2, 6, 4]], ids=repr
)
def test_offsets_that_leave_the_bytes_are_told_with_their_place(offsets):
    for given in (from_bytes(np.zeros(5, np.uint8), np.array(offsets)), narrow(offsets)):
        for function in (hash64, defined):
            with pytest.raises(IndexError, match=r"value (0|1) "):
                function(given, 0)


def narrow(offsets):
    places, octets = np.array(offsets).clip(-(2**31), 2**31 - 1).astype(np.int32), np.zeros(5, np.uint8)
    return Spans(3, 1, places.ctypes.data, octets.ctypes.data, 5, 0, 0, (places, octets))


# How well it spreads. A million values: chance alone would give a collision once in 40 million such tests.

STRINGS = pa.array(np.arange(MILLION)).cast(pa.string())
SETS = {
    "numbers": from_words(np.arange(MILLION)),
    "multiples of 2³²": from_words(np.arange(MILLION) << 32),
    "strings of digits": spans(STRINGS),
    "strings of one beginning": spans(pc.call_function("binary_join_element_wise", ["user/2024/", STRINGS, ""])),
}


def deviation(places, bins):
    """By how many standard deviations the chi-squared of a histogram leaves what chance would give."""
    expected = len(places) / bins
    found = np.bincount(places.astype(np.int64), minlength=bins)
    return (((found - expected) ** 2).sum() / expected - (bins - 1)) / np.sqrt(2 * (bins - 1))


@pytest.mark.parametrize("seed", [0, -1])
@pytest.mark.parametrize("name", SETS)
def test_a_million_values_in_a_row_do_not_collide_and_spread_evenly(name, seed):
    """Low bits are the tags of the table, high bits its buckets. Chance stays within 6 deviations, always."""
    hashes = hash64(SETS[name], seed)
    assert len(np.unique(hashes)) == MILLION
    assert abs(deviation(hashes & np.uint64(0xFFFF), 1 << 16)) < 6
    assert abs(deviation(hashes >> np.uint64(48), 1 << 16)) < 6
    buckets = 166_667  # as a table for a million has
    assert abs(deviation((hashes >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32), buckets)) < 6


@pytest.mark.parametrize("length", [3, 8, 12, 24])
def test_a_flipped_bit_flips_each_bit_of_the_hash_half_of_the_time(length):
    """All but the edge of what 2,048 throws of a coin give: 6 standard deviations of 0.011."""
    samples = 2048
    values = RNG.integers(0, 256, (samples, length), np.uint8)
    offsets = np.arange(samples + 1) * length
    before = hash64(from_bytes(values.reshape(-1), offsets), 0)
    for bit in range(8 * length):
        changed = values.copy()
        changed[:, bit // 8] ^= np.uint8(1 << bit % 8)
        flips = before ^ hash64(from_bytes(changed.reshape(-1), offsets), 0)
        rates = np.unpackbits(flips.view(np.uint8).reshape(samples, 8), axis=1).mean(0)
        assert np.abs(rates - 0.5).max() < 6 * 0.5 / np.sqrt(samples)


def test_values_made_to_collide_under_one_seed_do_not_under_another():
    """Sixteen bytes that begin with a key make a product of zero: only who knows the seed can find them."""
    key = int.to_bytes(0x6E789E6AA1B965F4, 8, "little")  # the second of the seed 0
    values = of_bytes([key + number.to_bytes(8, "little") for number in range(1000)])
    assert len(np.unique(hash64(values, 0))) == 1
    assert len(np.unique(hash64(values, 1))) == 1000
