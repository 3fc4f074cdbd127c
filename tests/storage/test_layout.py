"""The bytes of a file: what goes in comes out, other readers read it, and damage or forgery is told."""

import json
import zlib
from hashlib import blake2b

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as load_with_safetensors
from safetensors.torch import save as save_with_safetensors

from catembed import FormatError
from catembed.storage import layout, pack, unpack

DTYPES = list(layout._DTYPES.values())


def packed(tensors, header=None):
    return bytearray().join(pack(tensors, {} if header is None else header))


def small():
    return {
        "names": torch.arange(13, dtype=torch.uint8),
        "counts": torch.tensor([3, 1, 4]),
        "weight": torch.linspace(-1, 1, 15).view(3, 5),
    }


def bits(tensor):
    return tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).tolist() if tensor.numel() else []


def assert_same(got, expected):
    assert set(got) == set(expected)
    for name in expected:
        assert bits(got[name]) == bits(expected[name])


def rewritten(data, change):
    """The file after ``change(parsed header, facts)``, with the header's checksum made right again: a forgery."""
    length = int.from_bytes(data[:8], "little")
    parsed = json.loads(data[8 : 8 + length])
    facts = json.loads(parsed["__metadata__"]["catembed"])
    change(parsed, facts)
    parsed["__metadata__"]["catembed"] = json.dumps(facts)
    return sealed(json.dumps(parsed), data[8 + length :])


def sealed(text, body, past_page=0):
    """A file of this header, with its checksum made right; its weight, after 37 bytes, begins ``past_page`` a page."""
    text = text.rstrip(" ")
    text += " " * ((past_page - (8 + len(text) + 37)) % 4096)
    start = text.index('"catembed.checksum"') + len('"catembed.checksum": "')
    text = text[:start] + "0" * 32 + text[start + 32 :]
    digest = blake2b(len(text).to_bytes(8, "little") + text.encode(), digest_size=16).hexdigest()
    text = text[:start] + digest + text[start + 32 :]
    return bytearray(len(text).to_bytes(8, "little") + text.encode() + body)


# In and out


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (0, 5), (3, 0), (), (7,), (2, 3, 4)])
def test_tensors_come_back_bit_for_bit(dtype, shape):
    count = torch.Size(shape).numel()
    tensor = torch.randint(0, 256, (count * dtype.itemsize,), dtype=torch.uint8).view(dtype).view(shape)
    tensors = {"odd": torch.zeros(3, dtype=torch.uint8), "table": tensor}
    got, header = unpack(packed(tensors, {"a": [1, "ü", None, 0.5]}))
    assert_same(got, tensors)
    assert header == {"a": [1, "ü", None, 0.5]}


def test_nothing_at_all_is_a_file_too():
    assert unpack(packed({})) == ({}, {})


def test_what_is_not_contiguous_is_written_as_it_reads():
    base = torch.arange(24.0).view(4, 6)
    tensors = {"complex": torch.tensor([1 + 2j]).to(torch.complex64).conj(), "rows": base.t()[::2]}
    got, _ = unpack(packed(tensors))
    assert got["complex"].tolist() == [1 - 2j]
    assert got["rows"].tolist() == base.t()[::2].tolist()


def test_the_safetensors_library_reads_it(tmp_path):
    data = packed(small())
    assert_same(load_with_safetensors(bytes(data)), small())
    (tmp_path / "x.safetensors").write_bytes(data)
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["catembed"])["version"] == 3
        assert torch.equal(file.get_slice("weight")[1:2], small()["weight"][1:2])


@pytest.mark.parametrize("odd", range(9))
def test_the_table_begins_at_a_page_and_every_item_is_aligned(odd):
    tensors = {"wide": torch.arange(3), "odd": torch.zeros(odd, dtype=torch.uint8), "half": torch.zeros(3).half()}
    data = packed({**tensors, "table": torch.ones(2, 3)})
    length = int.from_bytes(data[:8], "little")
    parsed = json.loads(data[8 : 8 + length])
    del parsed["__metadata__"]
    begins = {name: 8 + length + entry["data_offsets"][0] for name, entry in parsed.items()}
    assert begins["table"] % 4096 == 0
    assert begins["table"] == max(begins.values())
    assert begins["wide"] % 8 == 0
    assert begins["half"] % 2 == 0


def test_tensors_are_views_of_the_memory():
    data = packed(small())
    got, _ = unpack(data)
    got["weight"][2, 4] = 7.0
    assert bytes(data[-4:]) == torch.tensor([7.0]).numpy().tobytes()
    assert got["weight"].untyped_storage().nbytes() == 3 * 5 * 4


def test_large_tensors_have_a_checksum_for_every_block(monkeypatch):
    monkeypatch.setattr(layout, "BLOCK", 64)
    table = torch.arange(100.0).view(20, 5)
    data = packed({"table": table})
    at = len(data) - 400
    facts = json.loads(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]["catembed"])
    assert facts["crc32"]["table"] == [
        f"{zlib.crc32(data[i : min(i + 64, len(data))]):08x}" for i in range(at, len(data), 64)
    ]
    assert torch.equal(unpack(data)[0]["table"], table)
    data[at + 64 * 3 + 1] ^= 1
    data[at + 64 * 5] ^= 1
    with pytest.raises(FormatError, match=rf"2 of 7 blocks .* first at bytes {at + 192:,} to {at + 256:,}"):
        unpack(data)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(2, dtype=torch.bool),
        torch.ones(2, device="meta"),
        torch.eye(2).to_sparse(),
        torch.ones(2).to(torch.complex128),
    ],
    ids=["bool", "meta", "sparse", "complex128"],
)
def test_what_the_file_cannot_hold_is_refused(tensor):
    with pytest.raises(TypeError, match="tensor 'x' cannot be stored"):
        pack({"x": tensor}, {})


def test_a_header_that_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        pack({}, {"x": float("nan")})
    with pytest.raises(TypeError):
        pack({}, {"x": object()})


# Damage


def test_every_truncation_is_told():
    data = packed(small())
    for size in range(len(data)):
        with pytest.raises(FormatError):
            unpack(bytearray(data[:size]))


def test_every_flipped_bit_is_told():
    data = packed(small(), {"name": "fruit"})
    for at in range(len(data)):
        for bit in range(8):
            data[at] ^= 1 << bit
            with pytest.raises(FormatError):
                unpack(data)
            data[at] ^= 1 << bit
    assert_same(unpack(data)[0], small())


def test_without_verify_only_the_table_is_not_looked_at():
    data = packed(small())
    table = 15 * 4
    data[-1] ^= 1
    assert unpack(data, verify=False)[0]["weight"][2, 4] != 1.0
    for at in range(len(data) - table):
        data[at] ^= 4
        with pytest.raises(FormatError):
            unpack(data, verify=False)
        data[at] ^= 4


def test_garbage_of_every_length_is_told():
    generator = torch.Generator().manual_seed(0)
    for size in range(200):
        garbage = torch.randint(0, 256, (size,), dtype=torch.uint8, generator=generator).numpy().tobytes()
        for length in (garbage[:8], max(0, size - 8).to_bytes(8, "little")):
            with pytest.raises(FormatError):
                unpack(bytearray(length + garbage[8:]))


@pytest.mark.parametrize("claim", [2 << 30, 1 << 63, (1 << 64) - 1, 100_000_001])
def test_a_header_that_claims_too_much_is_told(claim):
    data = packed(small())
    data[:8] = claim.to_bytes(8, "little")
    with pytest.raises(FormatError, match="header claims"):
        unpack(data)


def test_a_header_longer_than_any_is_neither_read_nor_written(monkeypatch):
    data = packed(small())
    monkeypatch.setattr(layout, "LONGEST_HEADER", 1000)
    with pytest.raises(FormatError, match=r"allowed are 1,000"):
        unpack(data)
    with pytest.raises(ValueError, match=r"allowed are 1,000"):
        packed(small())


@pytest.mark.parametrize(
    "text", [b"[" * 90_000, b'{"a":' * 90_000, b"{" + b'"' * 3, b'{"\xff": 1}', b"{}x", b"", b" {}"]
)
def test_a_header_that_is_no_json_object_is_told(text):
    with pytest.raises(FormatError):
        unpack(bytearray(len(text).to_bytes(8, "little") + text))


def test_files_of_others_are_told():
    for metadata in (None, {"format": "pt"}):
        data = bytearray(save_with_safetensors({"weight": torch.ones(3, 5)}, metadata))
        with pytest.raises(FormatError, match="not one of catembed"):
            unpack(data)


def test_a_file_that_another_program_wrote_again_is_told():
    data = packed(small())
    length = int.from_bytes(data[:8], "little")
    metadata = json.loads(data[8 : 8 + length])["__metadata__"]
    again = save_with_safetensors(load_with_safetensors(bytes(data)), metadata)
    with pytest.raises(FormatError, match="another program rewrote"):
        unpack(bytearray(again))


# Forgery: all checksums are right, so the checks behind them have to hold


def test_a_forgery_that_changes_nothing_is_read():
    got, header = unpack(rewritten(packed(small(), {"name": "fruit"}), lambda parsed, facts: None))
    assert_same(got, small())
    assert header == {"name": "fruit"}


def move(name, *offsets):
    return lambda parsed, facts: parsed[name].update(data_offsets=list(offsets))


def put(name, **entry):
    return lambda parsed, facts: parsed[name].update(entry)


def fact(**change):
    return lambda parsed, facts: facts.update(change)


# names: bytes 0 to 13, counts: 13 to 37, weight: 37 to 97
FORGERIES = {
    "overlapping": (move("counts", 12, 36), "overlaps"),
    "the same bytes twice": (move("counts", 0, 24), "overlaps|unused"),
    "a hole": (move("counts", 14, 38), "unused"),
    "decreasing": (move("counts", 37, 13), "begin <= end"),
    "too short": (move("counts", 13, 36), "takes 24 bytes"),
    "out of bounds": (lambda p, f: p["weight"].update(shape=[4, 5], data_offsets=[37, 117]), "truncated"),
    "far out of bounds": (
        lambda p, f: p["weight"].update(shape=[1 << 40, 5], data_offsets=[37, 37 + 20 * (1 << 40)]),
        "truncated",
    ),
    "stops short": (lambda p, f: p["weight"].update(shape=[2, 5], data_offsets=[37, 77]), "follow the last tensor"),
    "negative offset": (move("names", -13, 0), "offsets"),
    "float offset": (move("names", 0, 13.0), "offsets"),
    "bool offset": (move("names", False, 13), "offsets"),
    "three offsets": (move("names", 0, 13, 13), "offsets"),
    "huge offset": (move("names", 0, 10**30), "takes 13 bytes"),
    "negative shape": (put("weight", shape=[-3, -5]), "impossible shape"),
    "huge shape": (put("weight", shape=[0, 1 << 62]), "impossible shape"),
    "another shape": (put("weight", shape=[5, 5]), "takes 100 bytes"),
    "shape is no list": (put("weight", shape="35"), "impossible shape"),
    "another dtype": (put("weight", dtype="F16"), "takes 30 bytes"),
    "unknown dtype": (put("weight", dtype="F33"), "unknown dtype"),
    "dtype is no text": (put("weight", dtype=["F32"]), "unknown dtype"),
    "one key more": (put("weight", stride=[5, 1]), "must have dtype, shape and data_offsets"),
    "an entry is no object": (lambda p, f: p.update(weight=[1]), "must have dtype"),
    "a tensor is gone": (lambda p, f: p.pop("names"), "unused"),
    "version 4": (fact(version=4), "unknown version 4: this release reads versions 1 to 3"),
    "version true": (fact(version=True), "unknown version True"),
    "no version": (lambda p, f: f.pop("version"), "unknown version None"),
    "no header": (lambda p, f: f.pop("header"), "must have version, crc32 and header"),
    "header is no object": (fact(header=[1]), "must have version, crc32 and header"),
    "one fact more": (fact(more=1), "must have version, crc32 and header"),
    "NaN": (fact(header={"max_norm": float("nan")}), "number NaN"),
    "infinity": (fact(header={"max_norm": -float("inf")}), "number -Infinity"),
    "no checksums": (fact(crc32={}), "checksums are of"),
    "checksum of another tensor": (lambda p, f: f["crc32"].update(other=["00000000"]), "checksums are of"),
    "too few checksums": (lambda p, f: f["crc32"].update(weight=[]), "must have 1 checksums"),
    "too many checksums": (lambda p, f: f["crc32"]["weight"].append("00000000"), "must have 1 checksums"),
    "checksum is no text": (lambda p, f: f["crc32"].update(weight=[7]), "is damaged"),
    "more metadata": (lambda p, f: p["__metadata__"].update(note="hi"), "metadata must be"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_headers_are_told(kind):
    change, reason = FORGERIES[kind]
    with pytest.raises(FormatError, match=reason):
        unpack(rewritten(packed(small()), change))


def test_items_that_are_not_aligned_are_told():
    def swap(parsed, facts):
        parsed["counts"]["data_offsets"], parsed["names"]["data_offsets"] = [0, 24], [24, 37]

    with pytest.raises(FormatError, match=r"'counts' of torch.int64 begins at byte .* unaligned"):
        unpack(rewritten(packed(small()), swap))


def test_a_table_that_begins_within_a_page_is_told():
    data = packed(small())
    length = int.from_bytes(data[:8], "little")
    text, body = data[8 : 8 + length].decode(), data[8 + length :]
    assert_same(unpack(sealed(text, body))[0], small())
    with pytest.raises(FormatError, match=r"no multiple of 4096"):
        unpack(sealed(text, body, past_page=8))


@pytest.mark.parametrize("key", ["weight", "__metadata__", "dtype", "version"])
def test_a_key_that_is_there_twice_is_told(key):
    data = packed(small())
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].decode()
    quoted = '\\"version\\": ' if key == "version" else f'"{key}": '
    start = text.index(quoted)
    value, end = json.JSONDecoder().raw_decode(text[start + len(quoted) :])
    twice = text[: start + len(quoted) + end] + ", " + quoted + json.dumps(value) + text[start + len(quoted) + end :]
    with pytest.raises(FormatError, match=f"key '{key}' twice"):
        unpack(sealed(twice, data[8 + length :]))
