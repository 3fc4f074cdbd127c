"""What a vocabulary does with values that are no category: the policies, and the reserved ids that follow from them.

Reserved ids come first: the missing row, then the unknown row or, with ``unseen="hash"``, the rows of the buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from catembed.errors import VocabularyError
from catembed.kernels.table import MOST
from catembed.vocabulary.arguments import MISSING, UNSEEN, check_choice, positive

__all__ = ["BUCKET_SEED", "Policies"]

BUCKET_SEED = 0  # of the hash that chooses a bucket: the same in every vocabulary, so a value keeps its row


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a vocabulary; raises ``VocabularyError`` for those that do not go together."""

    unseen: str = "error"
    missing: str = "error"
    buckets: int | None = None
    min_count: int = 1
    max_size: int | None = None

    @classmethod
    def checked(cls, unseen: Any, missing: Any, buckets: Any, min_count: Any, max_size: Any) -> Policies:
        """Policies from what a caller gave."""
        check_choice(unseen, "unseen", UNSEEN)
        check_choice(missing, "missing", MISSING)
        if missing == "unknown" and unseen not in ("unknown", "grow"):
            raise VocabularyError(
                f'missing="unknown" needs an unknown row, and with unseen="{unseen}" there is none; '
                'write unseen="unknown" as well, or missing="own"'
            )
        if (buckets is None) == (unseen == "hash"):
            raise VocabularyError(
                f'unseen="hash" and buckets= go together: buckets is how many rows unseen values share '
                f"(got unseen={unseen!r}, buckets={buckets!r})"
            )
        min_count = positive(min_count, "min_count")
        max_size = None if max_size is None else positive(max_size, "max_size")
        buckets = None if buckets is None else positive(buckets, "buckets")
        if buckets is not None and buckets > MOST:
            raise VocabularyError(f"buckets must be at most {MOST:,}, got {buckets:,}")
        return cls(unseen, missing, buckets, min_count, max_size)

    @property
    def num_reserved(self) -> int:
        """How many reserved ids come before the first category."""
        return (self.missing == "own") + (self.buckets or (self.unseen in ("unknown", "grow")))

    @property
    def missing_id(self) -> int | None:
        """The id of the row that missing values have to themselves, or None."""
        return 0 if self.missing == "own" else None

    @property
    def unknown_id(self) -> int | None:
        """The id of the unknown row, or None."""
        return self.num_reserved - 1 if self.unseen in ("unknown", "grow") else None

    @property
    def first_bucket(self) -> int:
        """The id of the first bucket, where there are buckets."""
        return int(self.missing == "own")

    def id_of_missing(self) -> int | None:
        """The id that missing values get, or None where they are refused."""
        return self.unknown_id if self.missing == "unknown" else self.missing_id

    def stored(self) -> dict[str, Any]:
        """The policies as a header keeps them: those beyond unseen and missing only where they were chosen."""
        chosen = {key: value for key in ("buckets", "max_size") if (value := getattr(self, key)) is not None}
        if self.min_count > 1:
            chosen["min_count"] = self.min_count
        return {"unseen": self.unseen, "missing": self.missing, **chosen}

    def identity(self) -> dict[str, Any]:
        """The policies on which ids depend: part of the fingerprint."""
        buckets = {} if self.buckets is None else {"buckets": self.buckets}
        return {"missing": self.missing, "unseen": self.unseen, **buckets}
