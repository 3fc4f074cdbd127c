"""``HashVocabulary``: ids by hashing alone, without any category kept; for values too many to keep or not known yet."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from catembed.errors import FormatError, UnseenCategoryError, VocabularyError
from catembed.vocabulary import messages
from catembed.vocabulary.arguments import check_choice, check_name, positive
from catembed.vocabulary.encoding import Encoding, label, read
from catembed.vocabulary.policies import Policies
from catembed.vocabulary.text import PLURALS, show

__all__ = ["HashVocabulary"]

_MOST_HASHES = 64
_KEYS = {"hash_kind", "buckets", "hashes", "missing", "name", "fingerprint"}


class HashVocabulary(Encoding):
    """The ids of a column by feature hashing: every value has one, and values that share a bucket share its row.

    The hash is that of docs/format.md, so a value has the same id on every machine and in every version. There are no
    categories: iterating gives none, ``in`` is False for every value, and ``decode`` tells missing values alone.

    Args:
        buckets: how many rows the values share.
        hashes: how many ids a value has, by as many independent hashes. With two or more, few values share all of
            theirs, and a ``CategoryEmbedding`` gives the mean of the rows: Bloom embeddings (Serrà & Karatzoglou 2017,
            https://arxiv.org/abs/1706.03993). For tables of their own, as in compositional embeddings (Shi et al. 2020,
            https://arxiv.org/abs/1909.02107), look up ``ids[..., j]`` in table ``j``.
        kind: the kind of the values, as ``Vocabulary.kind`` tells it; others are refused, so ``1`` never gets one row
            in training and ``"1"`` another in serving.
        missing: ``"error"`` refuses missing values, ``"own"`` gives them a row of their own, id 0.
        name: the column's name, for error messages.

    Raises:
        VocabularyError: an argument that is none of these.

    >>> clicks = HashVocabulary(1000)
    >>> clicks.encode(["banana", "kiwi", "banana"])
    tensor([770, 942, 770])
    >>> HashVocabulary(1000, hashes=2).encode(["banana", "kiwi"]).shape
    torch.Size([2, 2])
    """

    def __init__(
        self, buckets: int, *, hashes: int = 1, kind: str = "string", missing: str = "error", name: str | None = None
    ) -> None:
        from catembed.vocabulary.index import Index

        check_name(name)
        check_choice(missing, "missing", ("error", "own"))
        check_choice(kind, "kind", tuple(PLURALS))
        self._policies = Policies.checked("hash", missing, buckets, 1, None)
        self._reserved = self._policies.num_reserved
        self._hashes = positive(hashes, "hashes")
        if hashes > _MOST_HASHES:
            raise VocabularyError(f"hashes must be at most {_MOST_HASHES}, got {hashes:,}")
        self._name, self._counts, self._shown = name, None, None
        text = kind in ("string", "bytes")
        self._index = Index(np.empty(0, np.uint8), np.zeros(1, np.int64) if text else None, kind=kind, seed=0)

    @property
    def hashes(self) -> int:
        """How many ids a value has."""
        return self._hashes

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of kind, buckets, hashes and the policy for missing values: equal ones give equal ids."""
        facts = {"hash_kind": self._kind, "hashes": self._hashes, **self._policies.identity()}
        return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, HashVocabulary):
            return NotImplemented
        return self.fingerprint == other.fingerprint

    __hash__ = Encoding.__hash__

    def __repr__(self) -> str:
        usual = {"hashes": 1, "kind": "string", "missing": "error", "name": None}
        given = [f", {key}={value!r}" for key in usual if (value := getattr(self, key)) != usual[key]]
        return f"HashVocabulary({self.buckets}{''.join(given)})"

    def encode(self, column: Any, *, grow: bool = False) -> torch.Tensor:
        """The ids of every value: int64, of the column's shape; with several hashes one dimension more, the last.

        Raises:
            UnseenCategoryError: a missing value where ``missing="error"``.
            VocabularyError: the column is of another kind, or no column at all; ``grow=True``, for which there is no
                need.

        >>> HashVocabulary(10, missing="own").encode([["a"], [None]])
        tensor([[3],
                [0]])
        """
        from catembed.vocabulary.lookup import buckets_of

        if grow:
            raise VocabularyError("a HashVocabulary does not grow: every value has an id already")
        given = read(column, self._name)
        if given.kind not in (None, self._kind):
            self._refuse_kind(given)
        gone = given.missing()
        if gone.any() and self.missing == "error":
            advice = "the vocabulary has no row for them; drop or fill them, or make it with"
            raise UnseenCategoryError(label(self._name) + messages.missing(given, advice, own_only=True))
        ids = np.zeros((len(gone), self._hashes), np.int64)
        values = given.plain().filter(~gone) if gone.any() else given.plain()
        assert self.buckets is not None
        for each in range(self._hashes if len(values) else 0):
            ids[~gone, each] = self._policies.first_bucket + buckets_of(values, self.buckets, seed=each)
        shape = given.shape if self._hashes == 1 else (*given.shape, self._hashes)
        return torch.from_numpy(ids).reshape(shape)

    # As it is stored

    def to_arrays(self, *, index: bool = False) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The vocabulary as a plain JSON header, and no arrays: the form that is stored."""
        header = {"hash_kind": self._kind, "buckets": self.buckets, "hashes": self._hashes, "missing": self.missing}
        return {**header, "name": self._name, "fingerprint": self.fingerprint}, {}

    @classmethod
    def from_arrays(
        cls, header: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, verify: bool = True
    ) -> HashVocabulary:
        """The vocabulary that ``to_arrays`` gave, which need not be trusted; raises ``FormatError``."""
        if not isinstance(header, Mapping) or not isinstance(arrays, Mapping):
            raise FormatError(f"a vocabulary is a mapping and arrays, got {show(header)} and {show(arrays)}")
        if set(header) != _KEYS or arrays:
            raise FormatError(
                f"a HashVocabulary has the header {sorted(_KEYS)} and no arrays, got {sorted(map(str, header))} and "
                f"{sorted(map(str, arrays))}"
            )
        try:
            options = {"kind": header["hash_kind"], **{key: header[key] for key in ("hashes", "missing", "name")}}
            self = cls(header["buckets"], **options)
        except VocabularyError as fact:
            raise FormatError(f"stored vocabulary: {fact}") from None
        if self.fingerprint != header["fingerprint"]:
            raise FormatError(
                f"the stored settings do not match their fingerprint: stored is {show(header['fingerprint'])}, they "
                f"have {self.fingerprint!r}; the data is damaged"
            )
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return HashVocabulary.from_arrays, self.to_arrays()
