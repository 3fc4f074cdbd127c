"""`fresh_rows`: published words of Philox, twin and definition alike, rows that depend on nothing but (seed, key)."""

import math

import numpy as np
import pytest
import torch

from catembed.kernels import reference_fresh
from catembed.kernels.cpu import fresh_rows as compiled
from catembed.kernels.dispatch import kernel

fresh_rows = kernel("fresh_rows", torch.device("cpu"))

# counter, key, words: the known answers that Random123, the authors' own library, ships for philox4x32-10
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
SEEDS = [0, 1, -1, 2**63, 0x299F31D0A4093822]


def drawn(keys, columns, seed=3, dtype=torch.float32, function=fresh_rows):
    out = torch.full((len(keys), columns), math.nan, dtype=dtype)
    function(out, seed, torch.as_tensor(keys))
    return out


def some_keys(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randint(-(2**63), 2**63 - 1, (count,), generator=generator)
    keys[: min(count, 4)] = torch.tensor([0, -1, 2**63 - 1, -(2**63)])[:count]
    return keys


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_published_words(counter, key, words):
    seed = key[0] | key[1] << 32
    assert tuple(reference_fresh.philox(torch.tensor(counter), seed).tolist()) == words
    assert compiled.philox(*map(np.uint64, counter), np.uint64(seed)) == words


@pytest.mark.parametrize("seed", SEEDS)
def test_words_of_the_twin_are_those_of_the_definition(seed):
    counters = torch.randint(2**32, (500, 4))
    expected = reference_fresh.philox(counters, seed).tolist()
    bits = np.uint64(seed % 2**64)
    assert [list(compiled.philox(*map(np.uint64, row), bits)) for row in counters.tolist()] == expected


def test_the_construction_word_for_word():
    """As the docstring tells it, with Python's own numbers."""
    seed, key = 0x0123456789ABCDEF, -5
    bits = key % 2**64
    row = []
    for block in range(2):
        x = reference_fresh.philox(torch.tensor([block, 0, bits % 2**32, bits >> 32]), seed).tolist()
        for r, t in ((x[0], x[1]), (x[2], x[3])):
            radius, angle = math.sqrt(-2 * math.log((r + 0.5) / 2**32)), (t + 0.5) * (2 * math.pi / 2**32)
            row += [radius * math.cos(angle), radius * math.sin(angle)]
    # The C library's functions may differ from torch's and LLVM's in the last bits.
    for function in (fresh_rows, reference_fresh.fresh_rows):
        got = drawn([key], 7, seed, torch.float64, function)[0]
        torch.testing.assert_close(got, torch.tensor(row[:7], dtype=torch.float64), rtol=1e-15, atol=0)


@pytest.mark.parametrize("columns", [0, 1, 3, 4, 5, 64])
@pytest.mark.parametrize("count", [0, 1, 3000])
def test_float32_is_within_2_ulp_of_the_definition(count, columns):
    keys = some_keys(count)
    ours = drawn(keys, columns)
    theirs = drawn(keys, columns, function=reference_fresh.fresh_rows)
    assert ((ours.view(torch.int32) - theirs.view(torch.int32)).abs() <= 2).all()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-14), (torch.bfloat16, 2**-7), (torch.float16, 2**-10)])
def test_other_dtypes_hold_the_same_numbers(dtype, rtol):
    keys = some_keys(1000)
    ours = drawn(keys, 13, dtype=dtype)
    # A 16-bit number may fall on either side of a tie that the definition's float32 is an ulp from.
    torch.testing.assert_close(
        ours, drawn(keys, 13, dtype=dtype, function=reference_fresh.fresh_rows), rtol=rtol, atol=0
    )
    torch.testing.assert_close(ours, drawn(keys, 13).to(dtype), rtol=max(rtol, 1e-7), atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_same_bits_on_any_number_of_threads_and_in_any_company(dtype, threads):
    keys = some_keys(5001)
    threads(1)
    expected = drawn(keys, 17, dtype=dtype)
    for number in (2, 8):
        threads(number)
        assert torch.equal(drawn(keys, 17, dtype=dtype), expected)
    order = torch.randperm(len(keys))
    assert torch.equal(drawn(keys[order], 17, dtype=dtype), expected[order])
    assert torch.equal(drawn(keys[::7], 17, dtype=dtype), expected[::7])
    assert torch.equal(drawn(keys[42:43], 17, dtype=dtype), expected[42:43])
    assert torch.equal(drawn(keys, 9, dtype=dtype), expected[:, :9])  # nor on how wide the row is


def test_rows_of_a_table_are_written_in_place():
    table = torch.zeros(10, 6)
    fresh_rows(table[4:7], 3, torch.arange(3))
    assert torch.equal(table[4:7], drawn(range(3), 6))
    assert not table[:4].any()
    assert not table[7:].any()


def test_seed_and_key_each_count_with_all_their_bits():
    rows = [drawn([1 << bit], 4) for bit in range(63)] + [drawn([-(2**63)], 4), drawn([0], 4)]
    rows += [drawn([0], 4, seed=3 ^ (1 << bit)) for bit in range(64)]
    assert len(torch.cat(rows).unique(dim=0)) == len(rows)
    assert torch.equal(drawn([5], 4, seed=-1), drawn([5], 4, seed=2**64 - 1))


def test_mean_variance_and_shape_are_those_of_n_0_1():
    values = drawn(range(40_000), 32, dtype=torch.float64).flatten()
    n = len(values)
    # Five standard deviations of each estimate.
    assert abs(values.mean()) < 5 / n**0.5
    assert abs(values.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((values**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 5 * (96 / n) ** 0.5
    share = (values[:, None] < torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0])).double().mean(0)
    expected = torch.special.ndtr(torch.tensor([-3.0, -1.0, 0.0, 1.0, 3.0]).double())
    assert ((share - expected).abs() < 5 * (expected * (1 - expected) / n) ** 0.5).all()


@pytest.mark.parametrize("keys", [range(20_000), [i << 32 for i in range(20_000)]], ids=["low", "high"])
def test_neighbouring_keys_columns_and_seeds_are_independent(keys):
    rows = drawn(keys, 8, dtype=torch.float64)
    other = drawn(keys, 8, seed=4, dtype=torch.float64)
    bound = 5 / len(rows) ** 0.5
    for one, two in ((rows[1:], rows[:-1]), (rows, other)):
        assert (((one.T @ two) / len(one)).abs() < bound).all()
        assert ((((one**2 - 1).T @ (two**2 - 1)) / 2 / len(one)).abs() < bound).all()
    columns = (rows.T @ rows) / len(rows)
    assert ((columns - columns.diag().diag()).abs() < bound).all()
