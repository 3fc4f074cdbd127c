"""What a vocabulary is: its kind, policies, categories and counts, and equality by them. Read, never written, here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import show

if TYPE_CHECKING:
    import pyarrow as pa

    from catembed.vocabulary.index import Index

__all__ = ["Described"]


class Described:
    """The facts of a ``Vocabulary`` or a ``HashVocabulary``; no other class is made from this one."""

    _index: Index  # and, with it, the kind
    _policies: Policies
    _reserved: int
    _name: str | None
    _counts: np.ndarray | None  # may be shorter than there are ids, for those that came since, or have room for more
    _shown: tuple[Index, int, pa.Array] | None  # categories, and of what
    _digest: tuple[Index, int, str] | None
    _sound = True  # whether all offsets are known to lie within the bytes; only kernels may follow them where not

    @property
    def kind(self) -> str:
        """``"string"``, ``"bytes"``, ``"integer"``, ``"boolean"``, ``"date"``, ``"timestamp"``, ``"timestamp[UTC]"``
        (those with a time zone) or ``"empty"`` (made from no values).
        """
        return self._index.kind

    @property
    def _kind(self) -> str:
        return self._index.kind

    @property
    def unseen(self) -> str:
        """The policy for values that are no category: ``"error"``, ``"unknown"``, ``"hash"`` or ``"grow"``."""
        return self._policies.unseen

    @property
    def missing(self) -> str:
        """The policy for missing values: ``"error"``, ``"unknown"`` or ``"own"``."""
        return self._policies.missing

    @property
    def buckets(self) -> int | None:
        """How many rows unseen values share with ``unseen="hash"``, else None."""
        return self._policies.buckets

    @property
    def min_count(self) -> int:
        """How often a value must be seen to become a category."""
        return self._policies.min_count

    @property
    def max_size(self) -> int | None:
        """How many categories there may be at most, reserved rows not counted, or None."""
        return self._policies.max_size

    @property
    def name(self) -> str | None:
        """The column's name, used in error messages."""
        return self._name

    @property
    def categories(self) -> pa.Array:
        """The categories in id order, without the reserved ids, as a ``pyarrow.Array``; text is not copied."""
        from catembed.vocabulary.forms import from_store
        from catembed.vocabulary.index import count_of

        index, shown = self._index, self._shown
        octets, offsets = index.arrays()
        count = count_of(octets, offsets)
        if shown is None or shown[:2] != (index, count):
            if not self._sound:
                self._check_offsets(offsets)
            shown = self._shown = index, count, from_store(octets, offsets, index.kind)
        return shown[2]

    def _check_offsets(self, offsets: np.ndarray | None) -> None:
        """Read the offsets that were not read when the vocabulary was loaded: Arrow would follow them anywhere."""
        from catembed.vocabulary.stored import check_offsets

        if offsets is not None:
            check_offsets("categories", offsets)
        self._sound = True

    @property
    def counts(self) -> np.ndarray | None:
        """How often each id occurred in what was fitted and observed: int64, reserved ids included; or None.

        The unknown row and the buckets count the values that ``min_count`` and ``max_size`` cut off.
        """
        if self._counts is None:
            return None
        known = self._counts[: len(self)]
        counts = np.concatenate([known, np.zeros(len(self) - len(known), np.int64)])
        counts.setflags(write=False)
        return counts

    @property
    def num_reserved(self) -> int:
        """How many reserved ids come before the first category."""
        return self._reserved

    @property
    def missing_id(self) -> int | None:
        """The id of the row that missing values have to themselves, or None."""
        return self._policies.missing_id

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown row, or None; with ``unseen="hash"`` there is none, but buckets."""
        return self._policies.unknown_id

    @property
    def first_bucket(self) -> int:
        """The id of the first bucket, with ``unseen="hash"``."""
        return self._policies.first_bucket

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of kind, policies and categories in id order; not of counts or name.

        Two vocabularies with one fingerprint give every value the same id. After ``load(verify=False)`` it is what the
        file says.
        """
        from catembed.vocabulary import stored
        from catembed.vocabulary.index import count_of

        index, digest = self._index, self._digest
        octets, offsets = index.arrays()
        count = count_of(octets, offsets)
        if digest is None or digest[:2] != (index, count):
            digest = self._digest = index, count, stored.fingerprint(octets, offsets, index.kind, self._policies)
        return digest[2]

    def __len__(self) -> int:
        """How many ids there are, reserved ones included."""
        return len(self._index) + self._reserved

    def __iter__(self) -> Iterator[Any]:
        """The categories as Python values in id order, without the reserved ids."""
        return (value.as_py() for value in self.categories)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Described) or not (isinstance(other, type(self)) or isinstance(self, type(other))):
            return NotImplemented
        if (self._kind, self._policies.identity()) != (other._kind, other._policies.identity()):
            return False
        return self.categories.equals(other.categories)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __repr__(self) -> str:
        categories = self.categories
        shown = [show(value) for value in categories[:3].to_pylist()]
        if len(categories) > len(shown):
            shown.append(f"… {len(categories) - len(shown):,} more")
        usual = {"unseen": "error", "missing": "error", "buckets": None, "min_count": 1, "max_size": None, "name": None}
        given = [f"{key}={value!r}" for key in usual if (value := getattr(self, key)) != usual[key]]
        shown = f"[{', '.join(shown)}]"
        return f"Vocabulary({', '.join([shown, *given])})"

    def places(self, values: pa.Array, kind: str) -> np.ndarray:
        """Where values of another vocabulary stand among the categories here: int64, -1 for not at all."""
        from catembed.vocabulary.forms import spans

        found = np.full(len(values), -1)
        if kind == self._kind and len(values):  # equal only within one kind
            self._index.find(spans(values), found)
        return found

    def ids_in(self, other: Described) -> np.ndarray:
        """For each id here the id there that means the same, int64: a category, missing, unknown, a bucket; or -1."""
        reserved = np.full(self._reserved, -1)
        for own, there in ((self.missing_id, other.missing_id), (self.unknown_id, other.unknown_id)):
            if own is not None and there is not None:
                reserved[own] = there
        if self.buckets is not None and self.buckets == other.buckets:
            reserved[self.first_bucket :] = np.arange(self.buckets) + other.first_bucket
        places = other.places(self.categories, self._kind)
        return np.concatenate([reserved, np.where(places < 0, -1, places + other.num_reserved)])

    def category_hashes(self, first_id: int) -> np.ndarray:
        """The hash of each category from an id on: int64 bits of the hash of docs/format.md with the seed 0.

        Equal on every machine, in every process and for every vocabulary: what a fresh row is made from.
        """
        from catembed.vocabulary.lookup import hashes_of

        return hashes_of(self.categories.slice(max(first_id - self.num_reserved, 0)))
