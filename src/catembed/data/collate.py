"""``Encode``: raw rows to ids, as the ``collate_fn`` of a ``DataLoader``, in its workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from catembed.data.batch import encode_batch, encoder_of, names_of, table_of
from catembed.nn import EmbeddingCollection, Encoder

__all__ = ["Encode"]


class Encode:
    """Makes a batch of raw rows: ``{"ids": {column: ids}, other column: tensor, …}``, for ``collection(ids=…)``.

    Args:
        collection: its vocabularies encode; its weights stay where they are.
        others: the columns to keep besides, as tensors: targets, numbers. What is named nowhere is left out.

    Raises:
        TableError: a column of the collection among ``others``.

    Called with a list of rows, each a dict (a dataset's ``__getitem__``), or with a table: a dict of columns, an Arrow
    table, a DataFrame (a dataset's ``__getitems__``). Vocabularies do not grow in workers, which have copies of them.

    >>> from catembed import CategoryEmbedding, EmbeddingCollection
    >>> collection = EmbeddingCollection({"origin": CategoryEmbedding(["JFK", "SFO"], 4)})
    >>> encode = Encode(collection, others=["late"])
    >>> batch = encode([{"origin": "SFO", "late": 1.0, "note": "fog"}, {"origin": "JFK", "late": 0.0}])
    >>> batch
    {'ids': {'origin': tensor([1, 0])}, 'late': tensor([1., 0.], dtype=torch.float64)}
    >>> collection(ids=batch["ids"]).shape
    torch.Size([2, 4])
    >>> encode([{"origin": "SFO"}])
    Traceback (most recent call last):
    catembed.errors.TableError: row 0 of the batch has no column 'late'; it has 'origin'
    """

    def __init__(self, collection: EmbeddingCollection | Encoder, *, others: Sequence[str] = ()) -> None:
        self.encoder = encoder_of(collection)
        self.others = names_of(self.encoder, others)

    def __call__(self, rows: Any) -> dict[str, Any]:
        """The batch.

        Raises:
            TableError: a column that is not there, with the row that lacks it; columns of different lengths; others
                that are no numbers.
            UnseenCategoryError: as each column's vocabulary raises it, with the column's name; a ``VocabularyError``
                too.
        """
        return encode_batch(self.encoder, self.others, table_of(rows, (*self.encoder.inputs, *self.others)))

    def __repr__(self) -> str:
        return f"Encode({list(self.encoder.names)}, others={list(self.others)})"
