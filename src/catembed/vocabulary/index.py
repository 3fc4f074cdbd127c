"""`Index`: distinct values in id order, and the hash table that finds them; it grows at its end.

Rules: an id, once given, never moves. Searches take a snapshot, which is replaced as a whole when values have been
added: they see all of an addition or nothing of it, take no lock and let go of the GIL. Additions take turns. Values
come in the one form of their kind (``kinds.py``) and are compared by their bytes; the caller sees to the kind.
"""

from __future__ import annotations

import os

import numpy as np

from catembed.errors import FormatError, VocabularyError
from catembed.kernels.dense import Dense, dense_table
from catembed.kernels.dispatch import CPU, kernel
from catembed.kernels.spans import Spans, from_bytes, from_words
from catembed.kernels.table import CROWDED, MOST, PER_BUCKET, Table, buckets_for, empty_table, wrap_table
from catembed.vocabulary.lock import Lock

__all__ = ["Index", "count_of"]

_NO_OFFSETS = np.empty(0, np.int64)
_TRIES = 8  # seeds that are tried for a table; with a random one values never crowd


class _Snapshot:
    """The first ``count`` values of some arrays, and a table, in which ids from ``count`` on are not looked at."""

    __slots__ = ("count", "facts", "octets", "offsets", "table", "values")

    def __init__(self, octets: np.ndarray, offsets: np.ndarray, count: int, table: Table) -> None:
        self.octets, self.offsets, self.count, self.table = octets, offsets, count, table
        self.values = self.room()._replace(count=count)
        self.facts = (self.values.facts(), table.address, table.buckets, table.seed)

    def room(self) -> Spans:
        """All values that the arrays have room for."""
        if not len(self.offsets):
            return from_words(self.octets.view(np.int64))
        return from_bytes(self.octets, self.offsets)

    @property
    def end(self) -> int:
        """How many bytes the values have."""
        return int(self.offsets[self.count]) if len(self.offsets) else 8 * self.count


class Index:
    """Which value has which id.

    Args:
        octets: the bytes of the values, uint8. They are used where they are until the index grows.
        offsets: where each value begins and the last one ends, int64; None where every value has eight bytes.
        kind: what the values are, kept for whoever asks (``kinds.py``); the index itself compares bytes.
        seed: of the hashes, an int64. Random where none is given, so that nobody can prepare values that collide.
        table: the words of the table made for just these values and this seed, int64. It is not trusted: a value is
            found by its own bytes or not at all; ``is_sound`` tells whether all are.

    Raises ``VocabularyError`` for more values than 32 bits tell apart.
    """

    def __init__(
        self,
        octets: np.ndarray,
        offsets: np.ndarray | None,
        *,
        kind: str = "",
        seed: int | None = None,
        table: np.ndarray | None = None,
    ) -> None:
        count = count_of(octets, offsets)
        if count > MOST:
            raise VocabularyError(f"a vocabulary has at most {MOST:,} categories, got {count:,}")
        self.kind = kind
        self._lock = Lock()
        self._own = False  # whether arrays and table are this index's alone, with room at their ends
        self._unfinished = False  # an addition that was interrupted has left entries in the table
        self._dense: tuple[int, Dense | None] = (-1, None)  # of how many values, and their ids without hashing
        self._looked_up = 0  # values, since that was made
        self.duplicate: int | None = None  # the first value that equals one before it, or is damaged
        offsets = _NO_OFFSETS if offsets is None else offsets
        if table is None:
            self._now, self.duplicate = _indexed(octets, offsets, count, count, seed)
        else:
            assert seed is not None
            words = wrap_table(table.view(np.uint64).reshape(-1, 8), seed)
            self._now = _Snapshot(octets, offsets, count, words)

    def __len__(self) -> int:
        return self._now.count

    @property
    def seed(self) -> int:
        """The seed of the hashes."""
        return self._now.table.seed

    @property
    def nbytes(self) -> int:
        """The memory taken by values and table, with the room to grow."""
        dense = self._dense[1]
        places = 0 if dense is None else dense.places.nbytes
        return self._now.octets.nbytes + self._now.offsets.nbytes + self._now.table.words.nbytes + places

    def arrays(self) -> tuple[np.ndarray, np.ndarray | None]:
        """The bytes and the offsets of the values as they are now, not copied; no offsets for values of eight bytes."""
        now = self._now
        return now.octets[: now.end], now.offsets[: now.count + 1] if len(now.offsets) else None

    def table(self) -> np.ndarray:
        """The words of the table for just these values, int64 ``(8 · buckets,)``."""
        return self.copy()._now.table.words.view(np.int64).reshape(-1)

    def copy(self) -> Index:
        """An index of its own: what one of both adds, the other does not have. Values are shared until it grows."""
        table = None if self._own else self._now.table.words.view(np.int64).reshape(-1)
        return Index(*self.arrays(), kind=self.kind, seed=self.seed, table=table)

    # Searching

    def find(self, values: Spans, ids: np.ndarray, *, base: int = 0, absent: int = -1, missing: int = -1) -> int:
        """Write ``base`` + the id of each value to ``ids``, int64; returns how many were found.

        Raises ``IndexError`` for a value that lies outside its buffer.
        """
        now = self._now
        dense = None if len(now.offsets) else self._dense_table(now, values.count)
        if dense is not None:
            return kernel("find_dense", CPU)(values, dense, base, absent, missing, ids)
        return kernel("find", CPU)(values, now.values, now.table, base, absent, missing, ids)

    def _dense_table(self, now: _Snapshot, looked_up: int) -> Dense | None:
        """The ids of integers that lie close together, once as many were looked up as it takes to make the table."""
        count, dense = self._dense
        if count == now.count:
            return dense
        self._looked_up += looked_up
        if self._looked_up < now.count:
            return None
        dense = dense_table(now.octets.view(np.int64)[: now.count])
        self._dense, self._looked_up = (now.count, dense), 0
        return dense

    def find_bytes(self, value: bytes) -> int:
        """The id of one value, -1 where it has none."""
        now = self._now  # whose memory must not go while it is searched
        return kernel("find_one", CPU)(value, *now.facts)

    def is_sound(self) -> bool:
        """Whether every value is found at its own id, by a table that holds nothing else."""
        now = self._now
        entries = now.table.words.view(np.uint16).reshape(-1, 32)[:, 30]
        if now.table.buckets != buckets_for(now.count) or int(entries.sum(dtype=np.int64)) != now.count:
            return False
        ids = np.empty(now.count, np.int64)
        found = kernel("find", CPU)(now.values, now.values, now.table, 0, -1, -1, ids)  # by the table, never without
        return found == now.count and bool((ids == np.arange(now.count)).all())

    # Growing

    def add(self, values: Spans, limit: int = MOST) -> np.ndarray:
        """The id of each value, int64; new ones get the next ids, or -1 once there are ``limit`` values.

        Missing values get -1. Raises ``IndexError``, adding nothing, for a value that lies outside its buffer.
        """
        insert = kernel("insert", CPU)
        ids = np.empty(values.count, np.int64)
        with self._lock():
            now = self._now if self._own and not self._unfinished else self._moved()
            self._unfinished = True
            place = 0
            while True:
                room = now.room()
                room = room._replace(count=min(room.count, now.table.buckets * PER_BUCKET))
                state = np.array([now.count, now.end, 0], np.int64)
                place = insert(values, room, now.octets, now.offsets, now.table, state, min(limit, MOST), place, ids)
                now = _Snapshot(now.octets, now.offsets, int(state[0]), now.table)
                if place == values.count:
                    break
                now = _roomier(now, crowded=bool(state[2]))
            self._now, self._own, self._unfinished = now, True, False
        return ids

    def _moved(self) -> _Snapshot:
        """The same values in arrays and a table of their own, with room to grow."""
        now = self._now
        octets, offsets = _longer(now.octets, now.end), now.offsets
        if len(offsets):
            offsets = _longer(offsets, now.count + 1)
        moved, damaged = _indexed(octets, offsets, now.count, 2 * now.count, now.table.seed)
        if damaged is not None:
            raise FormatError("nothing can be added to these categories: they were loaded unchecked, and are damaged")
        return moved


_LEAST = 64  # bytes and values that an array has room for once it grows


def _indexed(
    octets: np.ndarray, offsets: np.ndarray, count: int, room: int, seed: int | None
) -> tuple[_Snapshot, int | None]:
    """The first ``count`` values with a table for ``room``; and the first that equals one before it or is damaged."""
    for _ in range(_TRIES):
        seed = int.from_bytes(os.urandom(8), "little", signed=True) if seed is None else seed
        made = _Snapshot(octets, offsets, count, empty_table(room, seed))
        found = kernel("fill", CPU)(made.values, made.table)
        if found != CROWDED:
            return made, found if found >= 0 else None
        seed = None  # it is known to whoever chose the values
    raise VocabularyError(f"{count:,} categories do not fit into a hash table, whatever its seed")


def _roomier(now: _Snapshot, *, crowded: bool) -> _Snapshot:
    """Twice the room in whichever is full. Who searches meanwhile goes on with what was."""
    if crowded or now.count >= now.table.buckets * PER_BUCKET:
        seed = None if crowded else now.table.seed
        return _indexed(now.octets, now.offsets, now.count, max(2 * now.count, _LEAST), seed)[0]
    octets, offsets = now.octets, now.offsets
    if len(offsets) and now.count + 1 >= len(offsets):
        offsets = _longer(offsets, len(offsets))
    else:
        octets = _longer(octets, len(octets))
    return _Snapshot(octets, offsets, now.count, now.table)


def _longer(array: np.ndarray, used: int) -> np.ndarray:
    """A copy of the first ``used`` items, with room for as many again."""
    longer = np.empty(max(2 * used, _LEAST), array.dtype)
    longer[:used] = array[:used]
    return longer


def count_of(octets: np.ndarray, offsets: np.ndarray | None) -> int:
    """How many values there are."""
    return len(octets) // 8 if offsets is None else len(offsets) - 1
