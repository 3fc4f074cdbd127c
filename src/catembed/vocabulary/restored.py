"""A stored vocabulary read back: nothing that it holds is trusted, nothing is copied that can be used where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from catembed.errors import FormatError
from catembed.kernels.table import buckets_for
from catembed.vocabulary import messages
from catembed.vocabulary.admission import WaitingRoom
from catembed.vocabulary.forms import from_store
from catembed.vocabulary.index import Index, count_of
from catembed.vocabulary.kinds import VARIABLE_WIDTH
from catembed.vocabulary.stored import check_offsets
from catembed.vocabulary.text import EMPTY

__all__ = ["Reader"]

_SMALL = 1 << 24  # bytes of arrays that are read and checked in any case
_PROBES = 64  # categories that must be found where not all are looked up

Values = tuple[np.ndarray, "np.ndarray | None"]  # bytes and offsets, as the index takes them


class Reader:
    """The parts of a vocabulary, each checked as it is asked for; raises ``FormatError`` where one is not sound.

    ``whole`` says whether all that the arrays hold is looked at, or only their outline: what costs the same whatever
    their size. Unless ``verify``, large arrays are not read.
    """

    def __init__(self, header: dict[str, Any], arrays: Mapping[str, Any], verify: bool) -> None:
        if not isinstance(arrays, Mapping):
            raise FormatError(f"a vocabulary's arrays are a mapping, got {type(arrays).__name__}")
        self._kind, self._seed, self._arrays = header["kind"], header["index_seed"], arrays
        names = self._names("categories")
        allowed = names | {"counts"} | ({"index"} if self._seed is not None else set())
        if header["min_count"] > 1 and "waiting.counts" in arrays:
            allowed |= self._names("waiting") | {"waiting.counts"}
            names = allowed - {"counts"}
        if not names <= set(arrays) <= allowed or ("index" in arrays) != (self._seed is not None):
            raise FormatError(
                f"a vocabulary of kind {self._kind!r} has the arrays {sorted(names)}, got "
                f"{sorted(map(str, set(arrays) - {'counts'}))}"
            )
        self._most = header["max_size"]
        self.whole = verify or sum(getattr(array, "nbytes", 0) for array in arrays.values()) <= _SMALL

    def _names(self, name: str) -> set[str]:
        return {f"{name}.bytes", f"{name}.offsets"} if self._kind in VARIABLE_WIDTH else {name}

    def index(self) -> Index:
        """The categories, and the stored table or one made anew."""
        octets, offsets = self._values("categories")
        if self._most is not None and count_of(octets, offsets) > self._most:
            raise FormatError(f"{count_of(octets, offsets):,} categories are more than max_size={self._most:,}")
        if "index" not in self._arrays:
            index = Index(octets, offsets, kind=self._kind)
            if index.duplicate is not None:
                if offsets is not None:
                    _check_text("categories", octets, offsets, self._kind)
                raise FormatError(f"stored vocabulary: {messages.duplicates(from_store(octets, offsets, self._kind))}")
            return index
        table = self._checked("index", np.int64)
        words = 8 * buckets_for(count_of(octets, offsets))
        if len(table) != words:
            raise FormatError(f"the index of these categories has {words:,} words, got {len(table):,}")
        index = Index(octets, offsets, kind=self._kind, seed=self._seed, table=table)
        if not (index.is_sound() if self.whole else _finds_some(index, octets, offsets)):
            raise FormatError("the stored index is not that of the stored categories; the data is damaged")
        return index

    def counts(self, ids: int) -> np.ndarray | None:
        """One count for each id, where there are any."""
        if "counts" not in self._arrays:
            return None
        counts = self._checked("counts", np.int64)
        if len(counts) != ids:
            raise FormatError(f"'counts' must have one entry for each of the {ids} ids, got {len(counts)}")
        if self.whole and ids and counts.min() < 0:
            raise FormatError(f"'counts' must not be negative, got {counts.min()} at id {int(counts.argmin())}")
        counts = counts.view()
        counts.setflags(write=False)  # whoever counts on makes a copy
        return counts

    def waiting(self) -> WaitingRoom | None:
        """The values that have not been seen often enough, where there are any."""
        if "waiting.counts" not in self._arrays:
            return None
        octets, offsets = self._values("waiting", whole=True)
        counts, count = self._checked("waiting.counts", np.int64), count_of(octets, offsets)
        if len(counts) != count or (count and counts.min() < 1):
            raise FormatError(f"'waiting.counts' must have a positive entry for each of {count:,} values")
        room = WaitingRoom(octets, offsets, counts.copy())
        if not room.is_sound:
            raise FormatError("'waiting' must hold each value once, within its bytes")
        return room

    def _values(self, name: str, *, whole: bool = False) -> Values:
        if self._kind in VARIABLE_WIDTH:
            return self._text(name, whole or self.whole)
        words = self._checked(name, np.uint8 if self._kind == "boolean" else np.int64)
        if self._kind == EMPTY and len(words):
            raise FormatError(f"a vocabulary of kind {EMPTY!r} has no categories, got {len(words)}")
        if self._kind == "boolean" and len(words) and words.max() > 1:
            raise FormatError(f"booleans are stored as 0 and 1, got {words.max()}")
        first, last = _RANGES.get(self._kind, (None, None))
        if first is not None and self.whole and len(words) and not (first <= words.min() and words.max() <= last):
            raise FormatError(f"a stored {self._kind} lies outside the years 1 to 9999")
        return words.astype(np.int64, copy=False).view(np.uint8), None

    def _text(self, name: str, whole: bool) -> Values:
        octets, offsets = self._checked(f"{name}.bytes", np.uint8), self._checked(f"{name}.offsets", np.int64)
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(octets):
            ends = f"{offsets[0]} to {offsets[-1]}" if len(offsets) else "nothing"
            raise FormatError(f"'{name}.offsets' must run from 0 to {len(octets)} (the bytes), got {ends}")
        if whole:
            _check_text(name, octets, offsets, self._kind)
        return octets, offsets

    def _checked(self, name: str, dtype: type[np.generic]) -> np.ndarray:
        """One of the arrays, its dtype and dimensions as they must be."""
        array = self._arrays[name]
        if not isinstance(array, np.ndarray) or array.ndim != 1 or array.dtype != dtype:
            got = f"{array.dtype} of shape {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise FormatError(f"{name!r} must be a one-dimensional {np.dtype(dtype)} array, got {got}")
        return np.ascontiguousarray(array)


def _check_text(name: str, octets: np.ndarray, offsets: np.ndarray, kind: str) -> None:
    check_offsets(name, offsets)
    try:
        from_store(octets, offsets, kind).validate(full=True)
    except pa.ArrowInvalid as error:
        raise FormatError(f"'{name}.bytes' are not sound: {error}") from None


def _finds_some(index: Index, octets: np.ndarray, offsets: np.ndarray | None) -> bool:
    """Whether some categories, from the first to the last, are found where they stand."""
    count = len(index)
    for place in map(int, np.unique(np.linspace(0, count - 1, _PROBES).astype(np.int64)) if count else ()):
        begin, end = (8 * place, 8 * place + 8) if offsets is None else map(int, offsets[place : place + 2])
        if not 0 <= begin <= end <= len(octets) or index.find_bytes(octets[begin:end].tobytes()) != place:
            return False
    return True


_DAYS = tuple(int(np.datetime64(day).astype(np.int64)) for day in ("0001-01-01", "9999-12-31"))
_MICROSECONDS = (_DAYS[0] * 86_400_000_000, (_DAYS[1] + 1) * 86_400_000_000 - 1)
_RANGES = {"date": _DAYS, "timestamp": _MICROSECONDS, "timestamp[UTC]": _MICROSECONDS}
