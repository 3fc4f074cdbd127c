"""The layout of a file: named tensors and a JSON header as the bytes of one ``.safetensors`` file, and back.

Any safetensors reader can read it. Beyond that format: the last tensor, the table, begins at a page; everything has a
checksum. Rules: nothing read is trusted, what is refused is a ``FormatError`` that says why; tensors are views of the
memory given, not copies. Specified in docs/format.md.
Known limits: checksums find damage, not malice; little-endian machines only.
"""

from __future__ import annotations

import json
import math
import sys
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from typing import Any, NamedTuple

import torch
from torch import Tensor

from catembed.errors import FormatError

__all__ = ["pack", "unpack"]

VERSION = 3  # what is written
READABLE = (1, 2, 3)
PAGE = 4096  # the table begins at a multiple of this
BLOCK = 1 << 24  # bytes under one CRC-32
LONGEST_HEADER = 100_000_000  # as in the safetensors library
NO_CHECKSUM = "0" * 32

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "C64": torch.complex64,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


# Tensors to bytes


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> list[memoryview]:
    """The bytes of a file, in parts that follow each other; those of contiguous CPU tensors share their memory.

    Args:
        tensors: strided tensors by name. The last one is the table: it lies at the end, and begins at a page.
        header: what JSON can hold.

    Raises:
        TypeError: a tensor of a dtype or layout that the file cannot hold, or of no values (on the meta device).
    """
    if sys.byteorder != "little":
        raise RuntimeError("catembed files are written on little-endian machines only")
    names = list(tensors)
    # Going back from the page at which the table begins, narrower and narrower items are all aligned.
    names = sorted(names[:-1], key=lambda name: tensors[name].dtype.itemsize) + names[-1:]
    parts = {name: _bytes_of(name, tensors[name]) for name in names}
    entries: dict[str, Any] = {}
    end = 0
    for name, part in parts.items():
        begin, end = end, end + len(part)
        tensor = tensors[name]
        entries[name] = {"dtype": _CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    facts = {"version": VERSION, "crc32": {name: _crcs(part) for name, part in parts.items()}, "header": header}
    metadata = {"catembed": json.dumps(facts, allow_nan=False), "catembed.checksum": NO_CHECKSUM}
    text = json.dumps({"__metadata__": metadata, **entries}, allow_nan=False).encode()
    before_table = end - len(parts[names[-1]]) if names else 0
    text += b" " * (-(8 + len(text) + before_table) % PAGE)
    if len(text) > LONGEST_HEADER:
        raise ValueError(f"the header would have {len(text):,} bytes, allowed are {LONGEST_HEADER:,}")
    head = len(text).to_bytes(8, "little") + text
    place = head.index(NO_CHECKSUM.encode(), head.index(b'"catembed.checksum"'))
    head = head[:place] + _checksum(head).encode() + head[place + len(NO_CHECKSUM) :]
    return [memoryview(head), *parts.values()]


def _bytes_of(name: str, tensor: Tensor) -> memoryview:
    if tensor.dtype not in _CODES or tensor.layout != torch.strided or tensor.is_meta:
        raise TypeError(
            f"tensor {name!r} cannot be stored (got {tensor.dtype}, {tensor.layout}, on {tensor.device}): it must be "
            f"strided, have values and one of the dtypes {', '.join(str(dtype) for dtype in _CODES)}"
        )
    flat = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().view(-1)
    if not flat.numel():
        return memoryview(b"")
    return flat.view(torch.uint8).numpy().data


def _crcs(part: memoryview) -> list[str]:
    """The CRC-32 of every block, as eight hex digits; on several threads, since ``zlib`` lets go of the lock."""
    starts = range(0, len(part), BLOCK)
    if len(starts) < 2:
        return [f"{zlib.crc32(part[start : start + BLOCK]):08x}" for start in starts]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return list(pool.map(lambda start: f"{zlib.crc32(part[start : start + BLOCK]):08x}", starts))


def _checksum(head: bytes) -> str:
    """Of the length and the JSON header, the checksum's own digits being zeros."""
    return blake2b(head, digest_size=16).hexdigest()


# Bytes to tensors


class _Entry(NamedTuple):
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # in the file, not in its data
    end: int


def unpack(memory: Any, *, verify: bool = True) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors, as views of ``memory``, and the header of a file's bytes.

    Args:
        memory: a writable buffer (``mmap``, ``bytearray``).
        verify: False leaves out the checksums, and so the reading, of the table, which is the last tensor, and of all
            tensors of more than 16 MiB.

    Raises:
        FormatError: anything that ``pack`` would not have written.
    """
    if sys.byteorder != "little":
        raise RuntimeError("catembed files are read on little-endian machines only")
    head, parsed = _read_head(memory)
    facts = _read_facts(parsed.pop("__metadata__", None), head)
    entries = _read_entries(parsed, start=len(head), size=len(memory))
    _check_crcs(facts["crc32"], entries, memory, verify)
    return {entry.name: _tensor(entry, memory) for entry in entries}, facts["header"]


def _read_head(memory: Any) -> tuple[bytes, dict[str, Any]]:
    size = len(memory)
    if size < 8:
        raise FormatError(f"truncated: {size} bytes, where a safetensors file has 8 for the length of its header alone")
    length = int.from_bytes(memory[:8], "little")
    if length > LONGEST_HEADER:
        raise FormatError(f"no safetensors file: its header claims {length:,} bytes, allowed are {LONGEST_HEADER:,}")
    if length > size - 8:
        raise FormatError(f"truncated: its header claims {length:,} bytes, the file has {size - 8:,} after its length")
    head = bytes(memory[: 8 + length])
    if head[8:9] != b"{":
        raise FormatError(f"no safetensors file: the header begins with {head[8:9]!r} instead of b'{{'")
    return head, _parse(head[8:], "header")


def _parse(text: bytes | str, what: str) -> dict[str, Any]:
    """A JSON object, by the letter: no key twice, no NaN, no infinities."""
    try:
        parsed = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except FormatError:
        raise
    except (ValueError, RecursionError) as error:
        raise FormatError(f"the {what} is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise FormatError(f"the {what} must be a JSON object (got {type(parsed).__name__})")
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen = dict(pairs)
    if len(seen) < len(pairs):
        keys = [key for key, _ in pairs]
        raise FormatError(f"the header has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return seen


def _refuse_constant(text: str) -> Any:
    raise FormatError(f"the header has the number {text}, which is not JSON")


def _read_facts(metadata: Any, head: bytes) -> dict[str, Any]:
    """What catembed says about the file in the metadata; checks the version, then the header's checksum."""
    if not isinstance(metadata, dict) or not isinstance(metadata.get("catembed"), str):
        raise FormatError("a safetensors file, but not one of catembed: its metadata has no text 'catembed'")
    facts = _parse(metadata["catembed"], "metadata 'catembed'")
    version = facts.get("version")
    if type(version) is not int or version not in READABLE:
        known = f"{READABLE[0]} to {READABLE[-1]}"
        raise FormatError(f"unknown version {version!r}: this release reads versions {known}; a newer one may read it")
    stored = metadata.get("catembed.checksum")
    if (
        not isinstance(stored, str)
        or len(stored) != len(NO_CHECKSUM)
        or set(metadata)
        != {
            "catembed",
            "catembed.checksum",
        }
    ):
        raise FormatError(f"the metadata must be 'catembed' and 'catembed.checksum' (got {sorted(metadata)})")
    blank = head.replace(stored.encode(errors="replace"), NO_CHECKSUM.encode())
    if _checksum(blank) != stored:
        raise FormatError("the header does not match its checksum: it is damaged, or another program rewrote the file")
    if set(facts) != {"version", "crc32", "header"} or not all(isinstance(facts[k], dict) for k in ("crc32", "header")):
        raise FormatError(f"the metadata 'catembed' must have version, crc32 and header (got {sorted(facts)})")
    return facts


def _read_entries(parsed: dict[str, Any], start: int, size: int) -> list[_Entry]:
    """The tensors in the order of their bytes, which they cover without a hole."""
    entries = sorted(
        (_read_entry(name, entry, start) for name, entry in parsed.items()), key=lambda e: (e.begin, e.end)
    )
    end = start
    for entry in entries:
        if entry.begin != end:
            fault = "overlaps the tensor before it" if entry.begin < end else f"leaves {entry.begin - end} bytes unused"
            raise FormatError(f"tensor {entry.name!r} {fault}: it begins at byte {entry.begin}, expected was {end}")
        if entry.begin % entry.dtype.itemsize:
            raise FormatError(
                f"tensor {entry.name!r} of {entry.dtype} begins at byte {entry.begin}, which is unaligned"
            )
        end = entry.end
    if end > size:
        raise FormatError(f"truncated: the tensors end at byte {end:,}, the file at {size:,}")
    if end < size:
        raise FormatError(f"{size - end:,} bytes follow the last tensor, which ends at byte {end:,}")
    if entries and entries[-1].begin % PAGE:
        raise FormatError(f"the last tensor begins at byte {entries[-1].begin}, which is no multiple of {PAGE}")
    return entries


def _read_entry(name: str, entry: Any, start: int) -> _Entry:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"tensor {name!r} must have dtype, shape and data_offsets (got {entry!r:.200})")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry["dtype"], str) else None
    if dtype is None:
        raise FormatError(f"tensor {name!r} has the unknown dtype {entry['dtype']!r:.50}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _are_counts(shape) or math.prod(n or 1 for n in shape) >= 1 << 60:
        raise FormatError(f"tensor {name!r} has the impossible shape {shape!r:.200}")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"tensor {name!r} has the offsets {offsets!r:.200}, they must be [begin, end], begin <= end")
    needed = math.prod(shape) * dtype.itemsize
    if offsets[1] - offsets[0] != needed:
        raise FormatError(
            f"tensor {name!r} of {dtype} and shape {tuple(shape)} takes {needed:,} bytes, its offsets {offsets} give "
            f"it {offsets[1] - offsets[0]:,}"
        )
    return _Entry(name, dtype, tuple(shape), start + offsets[0], start + offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_crcs(stored: dict[str, Any], entries: list[_Entry], memory: Any, verify: bool) -> None:
    if set(stored) != {entry.name for entry in entries}:
        raise FormatError(f"checksums are of {sorted(stored)}, the tensors are {sorted(e.name for e in entries)}")
    for entry in entries:
        crcs, blocks = stored[entry.name], -(-(entry.end - entry.begin) // BLOCK)
        if not isinstance(crcs, list) or len(crcs) != blocks:
            raise FormatError(f"tensor {entry.name!r} must have {blocks} checksums (got {crcs!r:.200})")
        if not verify and (entry is entries[-1] or blocks > 1):
            continue
        found = _crcs(memoryview(memory)[entry.begin : entry.end])
        damaged = [block for block in range(blocks) if crcs[block] != found[block]]
        if damaged:
            first = entry.begin + damaged[0] * BLOCK
            raise FormatError(
                f"tensor {entry.name!r} is damaged: {len(damaged)} of {blocks} blocks do not match their checksum, "
                f"the first at bytes {first:,} to {min(first + BLOCK, entry.end):,}"
            )


def _tensor(entry: _Entry, memory: Any) -> Tensor:
    if entry.begin == entry.end:
        return torch.empty(entry.shape, dtype=entry.dtype)
    count = (entry.end - entry.begin) // entry.dtype.itemsize
    return torch.frombuffer(memory, dtype=entry.dtype, count=count, offset=entry.begin).view(entry.shape)
