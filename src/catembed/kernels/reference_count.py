"""The definition of counting: plain Python, slow. The kernels do the same to records (records.py) by address."""

from __future__ import annotations

from collections.abc import Iterable

from catembed.kernels.reference_hash import hash_bytes

__all__ = ["choose", "count", "rank"]

Counted = tuple[bytes, int, int]  # a value, how often it occurs, the first position it occurs at


def count(values: Iterable[tuple[bytes | None, int, int]]) -> tuple[dict[bytes, tuple[int, int]], int]:
    """Count and first position of each distinct value, and how many are missing.

    Args:
        values: each value (None: missing), how often it counts, and its first position.
    """
    found: dict[bytes, tuple[int, int]] = {}
    gone = 0
    for value, weight, first in values:
        if value is None:
            gone += weight
        elif weight:
            before = found.get(value, (0, first))
            found[value] = before[0] + weight, min(before[1], first)
    return found, gone


def choose(counted: list[Counted], min_count: int, buckets: int) -> tuple[list[Counted], list[int]]:
    """Those that count at least ``min_count``, and the counts of the others by their buckets."""
    cut = [0] * buckets
    for value, often, _ in counted:
        if often < min_count:
            cut[hash_bytes(value, 0) * buckets >> 64] += often
    return [one for one in counted if one[1] >= min_count], cut


def rank(counted: list[Counted], order: str, *, numeric: bool) -> list[Counted]:
    """Values in order: ``"frequency"`` (falling, ties by value), ``"sorted"`` (by value) or ``"first"`` (by position).

    Values sort as int64, little-endian, where they are ``numeric``, else bytewise.
    """

    def by_value(one: Counted) -> tuple[int, bytes]:
        return (int.from_bytes(one[0], "little", signed=True), b"") if numeric else (0, one[0])

    if order == "first":
        return sorted(counted, key=lambda one: one[2])
    ranked = sorted(counted, key=by_value)
    return sorted(ranked, key=lambda one: -one[1]) if order == "frequency" else ranked
