"""`Tally`: a column being counted batch by batch, on several threads, until it is known what to keep of it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from catembed.errors import VocabularyError
from catembed.kernels.dispatch import CPU, kernel
from catembed.kernels.records import HEAD
from catembed.kernels.threads import parallel, shares
from catembed.vocabulary.fitting.counting import Counter, DamagedTextError, Plan, merged, settle
from catembed.vocabulary.fitting.selection import Selection
from catembed.vocabulary.forms import from_store, spans
from catembed.vocabulary.kinds import VARIABLE_WIDTH, Column, Part
from catembed.vocabulary.text import EMPTY, PLURALS

__all__ = ["Choice", "KindError", "Learned", "Tally"]

_NONE = np.empty(0, np.int64)
_AT_LEAST = 65_536  # values that are worth a counter of their own
_ROUND = 4  # parts that each thread puts together before what is kept is cut to its size


class KindError(VocabularyError):
    """Values of another kind than those before; says of itself where both are."""


class Learned(NamedTuple):
    """What there is to know of a column: the categories, and what became of all other values.

    ``values`` are the categories in id order, in the one Arrow type of their kind, ``counts`` (int64) how often each
    occurs, ``missing`` how many values are missing; ``cut`` (int64) is how often the values left out occur, in one
    number or in one for each bucket: hash64(value, seed 0) · buckets >> 64. ``kind`` is None where every value is
    missing.
    """

    values: pa.Array
    counts: np.ndarray
    missing: int
    cut: np.ndarray
    kind: str | None


class Choice(NamedTuple):
    """What to keep, and in which order: see ``Vocabulary.fit``."""

    min_count: int
    max_size: int | None
    order: str
    buckets: int | None


class Tally:
    """How often each value of a column occurs.

    Args:
        choice: what is to be kept.
        threads: how many may count at the same time.
        memory: how many bytes the counts may take before they go to temporary files.
    """

    def __init__(self, choice: Choice, threads: int, memory: int) -> None:
        self._choice = choice
        self._plan = Plan(
            seed=int.from_bytes(os.urandom(8), "little", signed=True),  # nobody can prepare values that collide
            head=HEAD + 8 * (choice.order == "first"),
            text=False,
            limit=memory // threads,
        )
        self._counters: list[Counter | None] = [None] * threads
        self._missing = [0] * threads
        self._kind: tuple[str, str] | None = None  # and where it was found
        self._lock = threading.Lock()

    @property
    def ordered_by_appearance(self) -> bool:
        """Whether it matters where values stand."""
        return self._choice.order == "first"

    def add(self, column: Column, base: int, what: str, thread: int | None = None) -> int:
        """Count a batch; returns how many of its values are missing.

        Args:
            column: the batch.
            base: the position of its first value among all.
            what: how messages name the batch.
            thread: which of the threads is calling; None where no other is, so that all of them can be used.

        Raises:
            VocabularyError: values of another kind than those before, damaged Arrow memory.
        """
        self._agree(column.kind, what)
        gone = 0
        try:
            for part in column.parts:
                gone += self._add_part(part, base, thread)
                base += len(part)
        except (IndexError, DamagedTextError) as fact:
            column.check()
            raise VocabularyError(f"the Arrow column is damaged: {fact}") from None
        self._missing[thread or 0] += gone
        return gone

    def add_counted(
        self, values: pa.Array, counts: np.ndarray, missing: int, kind: str | None, base: int, what: str
    ) -> None:
        """Count distinct values as often as it says."""
        self._agree(kind, what)
        self._missing[0] += missing
        if kind is not None:
            self._counter(0).add(spans(values), 0, len(values), base=base, weights=counts)

    def _agree(self, kind: str | None, what: str) -> None:
        with self._lock:
            if self._kind is None and kind is not None:
                self._kind = kind, what
                self._plan = self._plan._replace(text=kind == "string")
            known = self._kind
        if kind is not None and known is not None and kind != known[0]:
            raise KindError(
                f"{what} holds {PLURALS[kind]}, but {known[1]} holds {PLURALS[known[0]]}, and values of different "
                "types are never equal; convert all of them to one type, for example to strings"
            )

    def _counter(self, thread: int) -> Counter:
        counter = self._counters[thread]
        if counter is None:
            counter = self._counters[thread] = Counter(self._plan)
        return counter

    def _add_part(self, part: Part, base: int, thread: int | None) -> int:
        if pa.types.is_null(part.values.type):
            return len(part)
        values = spans(part.values)
        if part.codes is not None:
            return self._add_codes(part.codes, part.values, base, thread or 0)
        if thread is not None:
            return self._counter(thread).add(values, 0, values.count, base=base)
        threads = min(shares(values.count, _AT_LEAST), len(self._counters))
        bounds = [values.count * share // threads for share in range(threads + 1)]
        gone = [0] * threads

        def run(share: int) -> None:
            gone[share] = self._counter(share).add(values, bounds[share], bounds[share + 1], base=base)

        parallel(run, threads)
        return sum(gone)

    def _add_codes(self, codes: np.ndarray, dictionary: pa.Array, base: int, thread: int) -> int:
        """Count codes, then each entry of the dictionary that they use as often as they do."""
        counts = np.zeros(len(dictionary), np.int64)
        firsts = np.empty(len(dictionary) if self._plan.head > HEAD else 0, np.int64)
        gone = kernel("tally", CPU)(codes, base, counts, firsts)
        return gone + self._counter(thread).add(spans(dictionary), 0, len(dictionary), weights=counts, firsts=firsts)

    def finish(self) -> Learned:
        """Put together what all threads have counted, and choose."""
        kind = EMPTY if self._kind is None else self._kind[0]
        choice, text = self._choice, kind in VARIABLE_WIDTH
        chosen = Selection(self._plan.head, not text, choice.min_count, choice.max_size, choice.buckets or 1)
        counters = [counter for counter in self._counters if counter is not None]
        if counters:
            self._gather(counters, chosen)
        octets, offsets, counts = chosen.ordered(choice.order)
        values = from_store(octets, offsets if text else None, kind)
        return Learned(values, counts, sum(self._missing), chosen.cut, None if self._kind is None else kind)

    def _gather(self, counters: list[Counter], chosen: Selection) -> None:
        parts = settle(counters)
        threads = min(len(self._counters), parts)
        stop, lock = threading.Event(), threading.Lock()
        for begin in range(0, parts, _ROUND * threads):
            rest = iter(range(begin, min(begin + _ROUND * threads, parts)))

            def run(_: int, rest: Iterator[int] = rest) -> None:
                try:
                    while (number := _next(rest, lock)) is not None:
                        for records in merged(counters, number):
                            found = chosen.candidates(records)
                            with lock:
                                chosen.keep(*found)
                            if stop.is_set():
                                return
                except BaseException:
                    stop.set()
                    raise

            parallel(run, threads)
            chosen.prune()

    def close(self) -> None:
        """Let go of the temporary files."""
        for counter in self._counters:
            if counter is not None:
                counter.close()


def _next(numbers: Iterator[int], lock: threading.Lock) -> int | None:
    with lock:
        return next(numbers, None)
