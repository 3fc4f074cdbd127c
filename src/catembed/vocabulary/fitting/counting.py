"""`Counter`: exact counts of the distinct values of a column, in bounded memory; and how several become one.

Values are divided by their hash into parts, each with records of its own (kernels/records.py). A counter that would
outgrow its memory writes its records to a temporary file (spill.py) and goes on with none. At the end parts are put
together one by one: what one part holds concerns no other. A part too large for memory is divided again, by other bits
of the hash. So counts never depend on how rows were divided among counters, nor on what was spilled.

A counter belongs to one thread at a time; any number of them may work at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from catembed.kernels.dispatch import CPU, kernel
from catembed.kernels.records import ARENA, ENTRIES, FACTS, LEVELS, MASK, PARTS, ROOM, TABLE, USED
from catembed.kernels.spans import Spans
from catembed.vocabulary.fitting.spill import Spill

__all__ = ["Counter", "DamagedTextError", "Plan", "Records", "merged", "settle"]

_NONE = np.empty(0, np.int64)
_LEAST_SLOTS, _LEAST_WORDS = 256, 1024  # of a part's table and of its records
_LARGE = 1 << 16  # bytes of a single part that is to be divided
_ENDLESS = 2**63 - 1


class DamagedTextError(Exception):
    """Some of the text that was counted is not UTF-8."""


class Plan(NamedTuple):
    """What all counters of a column have in common."""

    seed: int  # of the hashes
    head: int  # bytes before the value in a record; says whether first positions are kept
    text: bool  # whether values must be UTF-8
    limit: int  # bytes of memory for each counter


class Records(NamedTuple):
    """Records that lie one behind the other at the beginning of ``room``."""

    room: np.ndarray
    used: int  # bytes
    entries: int

    @property
    def span(self) -> tuple[int, int]:
        """The addresses of their begin and end."""
        return self.room.ctypes.data, self.room.ctypes.data + self.used


class _Part:
    """The records of one part, and the table that finds them; ``facts`` is what kernels know of it."""

    def __init__(self, facts: np.ndarray) -> None:
        self.facts = facts
        self.clear()

    def clear(self) -> None:
        self.table, self.room = np.zeros(_LEAST_SLOTS, np.int64), np.empty(_LEAST_WORDS, np.int64)
        self.checked = 0  # bytes of records whose text has been checked
        self.facts[USED] = self.facts[ENTRIES] = 0
        self._tell()

    def _tell(self) -> None:
        self.facts[TABLE], self.facts[MASK] = self.table.ctypes.data, len(self.table) - 1
        self.facts[ARENA], self.facts[ROOM] = self.room.ctypes.data, self.room.nbytes

    @property
    def nbytes(self) -> int:
        return self.table.nbytes + self.room.nbytes

    def grow(self, length: int, head: int, seed: int) -> None:
        """Make room for one more value of this length, and for as many again as there are."""
        if 5 * self.facts[ENTRIES] >= 3 * self.facts[MASK]:
            self.table = np.zeros(2 * len(self.table), np.int64)
            self._tell()
            kernel("refill", CPU)(self.facts, head, seed)
        used = int(self.facts[USED])
        if used + head + length + 7 > self.room.nbytes:
            room = np.empty(max(2 * len(self.room), (used + head + length + 7) // 8 + _LEAST_WORDS), np.int64)
            room[: used // 8] = self.room[: used // 8]
            self.room = room
            self._tell()

    def records(self) -> Records:
        return Records(self.room, int(self.facts[USED]), int(self.facts[ENTRIES]))


class Counter:
    """Counts of distinct values, their bytes being what is compared.

    Args:
        plan: see ``Plan``.
        level: how often the parts that it holds have been divided; -1 for a single part, until that is large.
    """

    def __init__(self, plan: Plan, level: int = -1) -> None:
        self.plan = plan
        self.spilled: Spill | None = None
        self._begin(level)

    def _begin(self, level: int) -> None:
        self.level = level
        self._facts = np.zeros((1 if level < 0 else PARTS, len(FACTS)), np.int64)
        self._parts = [_Part(facts) for facts in self._facts]

    @property
    def nbytes(self) -> int:
        """The memory taken by records and tables."""
        return sum(part.nbytes for part in self._parts)

    def add(
        self,
        values: Spans,
        start: int,
        stop: int,
        *,
        base: int = 0,
        weights: np.ndarray = _NONE,
        firsts: np.ndarray = _NONE,
    ) -> int:
        """Count the values from ``start`` to ``stop``, see ``kernels.cpu.count``; returns how many are missing.

        Raises ``DamagedTextError`` for text that is not UTF-8, ``IndexError`` for a value that lies outside its buffer.
        """
        count = kernel("count", CPU)
        gone = self._work(lambda at, *how: count(values, weights, firsts, base, at, stop, *how), start, stop)
        self._check_text()
        return gone

    def absorb(self, records: Records) -> None:
        """Count what has been counted elsewhere."""
        absorb = kernel("absorb", CPU)
        start, stop = records.span
        self._work(lambda at, *how: absorb(at, stop, *how), start, stop)

    def _work(self, step: Callable[..., int], at: int, stop: int) -> int:
        """Call a kernel until it is done, making room wherever it stops for the want of it."""
        state, plan = np.zeros(3, np.int64), self.plan
        while (at := step(at, self._facts, plan.head, self.level, plan.seed, state)) != stop:
            self._make_room(self._parts[state[1]], int(state[2]))
        return int(state[0])

    def _make_room(self, part: _Part, length: int) -> None:
        if self.level < 0 and part.nbytes >= _LARGE:
            self.divide()
            return
        if self.nbytes + part.nbytes + length > self.plan.limit and self.level + 1 < LEVELS and part.facts[ENTRIES]:
            self.spill()
        part.grow(length, self.plan.head, self.plan.seed)

    def divide(self) -> None:
        """Have as many parts as level 0 has."""
        if self.level < 0:
            self._check_text()
            records = self.take(0)
            self._begin(0)
            self.absorb(records)
            for part in self._parts:
                part.checked = int(part.facts[USED])

    def _check_text(self) -> None:
        if not self.plan.text:
            return
        for part in self._parts:
            used, begin = int(part.facts[USED]), int(part.facts[ARENA])
            if used > part.checked:
                if kernel("strange_text", CPU)(begin + part.checked, begin + used, self.plan.head):
                    raise DamagedTextError
                part.checked = used

    def spill(self) -> None:
        """Write all records to the temporary file and go on with none."""
        self.divide()
        self._check_text()
        if self.spilled is None:
            self.spilled = Spill()
        for number, part in enumerate(self._parts):
            records = part.records()
            self.spilled.write(number, records.room.view(np.uint8)[: records.used])
            part.clear()

    def take(self, number: int) -> Records:
        """The records of a part, which the counter then no longer has."""
        records = self._parts[number].records()
        self._parts[number].clear()
        return records

    def close(self) -> None:
        """Let go of the temporary file."""
        if self.spilled is not None:
            self.spilled.close()
            self.spilled = None


def settle(counters: Sequence[Counter]) -> int:
    """Have the counters ready for ``merged``: if one has spilled, all do; if none has, none will.

    Returns how many parts each of them has.
    """
    if len(counters) > 1:
        for counter in counters:
            counter.divide()
    if any(counter.spilled for counter in counters):
        for counter in counters:
            counter.spill()
    else:
        counters[0].plan = counters[0].plan._replace(limit=_ENDLESS)
    return 1 if counters[0].level < 0 else PARTS


def merged(counters: Sequence[Counter], number: int) -> Iterator[Records]:
    """What settled counters of one level hold of a part, all together: distinct values, in as many runs as it takes.

    Threads may take different parts of the same counters at the same time.
    """
    first = counters[0]
    if first.spilled is None:
        for other in counters[1:]:
            first.absorb(other.take(number))
        yield first.take(number)
        return
    if not any(counter.spilled.holds(number) for counter in counters if counter.spilled):
        return
    below = Counter(first.plan._replace(text=False), first.level + 1)
    try:
        for counter in counters:
            if counter.spilled is not None:
                for records in counter.spilled.read(number):
                    below.absorb(Records(records, len(records), 0))
        for inner in range(settle([below])):
            yield from merged([below], inner)
    finally:
        below.close()
