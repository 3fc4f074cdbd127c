"""A vocabulary's categories as plain arrays and back, and their fingerprint.

Text and bytes are ``categories.bytes`` (uint8) and ``categories.offsets`` (int64, one more than there are
categories, the first 0); booleans are ``categories`` as uint8, all other kinds ``categories`` as int64 (dates
as days, timestamps as microseconds since 1970). Read by ``restored.py``.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from catembed.errors import FormatError
from catembed.vocabulary.kinds import ARROW_TYPES
from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import show

HEADER_KEYS = {"kind", "unseen", "missing", "name", "fingerprint"}
MORE_KEYS = {"buckets": None, "min_count": 1, "max_size": None, "index_seed": None}  # and what their absence means

Arrays = dict[str, np.ndarray]


def to_arrays(name: str, octets: np.ndarray, offsets: np.ndarray | None, kind: str) -> Arrays:
    """Values, as the index has them, as plain arrays under ``name``; without a copy, but for booleans."""
    if offsets is not None:
        return {f"{name}.bytes": octets.view(), f"{name}.offsets": offsets.view()}
    words = octets.view(np.int64)
    return {name: words.astype(np.uint8) if kind == "boolean" else words}


def read_header(header: Mapping[str, Any]) -> dict[str, Any]:
    """The header with every key present and of the right type; raises ``FormatError``."""
    if not isinstance(header, Mapping):
        raise FormatError(f"a vocabulary header is a mapping, got {type(header).__name__}")
    if not HEADER_KEYS <= set(header) <= HEADER_KEYS | set(MORE_KEYS):
        got = sorted(map(str, header))
        raise FormatError(
            f"a vocabulary header has the keys {sorted(HEADER_KEYS)} and may have {sorted(MORE_KEYS)}, got {got}"
        )
    kind, name, fingerprint = header["kind"], header["name"], header["fingerprint"]
    if not isinstance(kind, str) or kind not in ARROW_TYPES:
        raise FormatError(f"unknown kind of categories {show(kind)}; known are {', '.join(ARROW_TYPES)}")
    if name is not None and not isinstance(name, str):
        raise FormatError(f"a vocabulary's name is a string or null, got {show(name)}")
    if not isinstance(fingerprint, str):
        raise FormatError(f"a vocabulary's fingerprint is a string, got {show(fingerprint)}")
    seed = header.get("index_seed", 0)
    if type(seed) is not int or not -(2**63) <= seed < 2**63:
        raise FormatError(f"the seed of a vocabulary's index is an integer of 64 bits, got {show(seed)}")
    return {**MORE_KEYS, **header}


def check_offsets(name: str, offsets: np.ndarray) -> None:
    """Raise ``FormatError`` where offsets decrease, and so, running from 0 to the end, leave the bytes between."""
    falls = offsets[1:] < offsets[:-1]
    if falls.any():
        place = int(falls.argmax())
        raise FormatError(
            f"'{name}.offsets' must not decrease, got {offsets[place]} and then {offsets[place + 1]} at "
            f"position {place + 1}"
        )


def fingerprint(octets: np.ndarray, offsets: np.ndarray | None, kind: str, policies: Policies) -> str:
    """SHA-256 over kind, policies and the categories in id order; equal on every machine and version."""
    facts = {"kind": kind, **policies.identity()}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode())
    for name, array in sorted(to_arrays("categories", octets, offsets, kind).items()):
        digest.update(f"\n{name} {len(array)}\n".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).data)
    return digest.hexdigest()
