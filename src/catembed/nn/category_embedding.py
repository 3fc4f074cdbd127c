"""``CategoryEmbedding``: categories in, vectors out; a vocabulary and an embedding table that travel together.

Rules: what is given is a column of categories, except a tensor, which holds ids. Where categories are integers or
bools a tensor could be either, so there it is refused and ``ids=`` says it. The ``state_dict`` has the vocabulary as
one uint8 tensor, and loading never puts a row under another category than the one it was learned for. A vocabulary that
grew has rows at the next lookup: the row of a new category is a pure function of (``fresh_seed``, the category), so its
value depends neither on the order of arrival nor on the process.

Known limit: under ``torch.compile`` columns are encoded outside the graph; encode them before, and pass tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from catembed.errors import VocabularyError
from catembed.functional import MODES, Jagged
from catembed.nn.category_state import called, other_vocabulary, take_stored
from catembed.nn.dimension import dimension_for
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.fresh import append_missing, seed_of
from catembed.nn.growth import check_growable
from catembed.nn.plain import to_torch
from catembed.nn.vocabulary_state import AnyVocabulary, from_state, to_state
from catembed.vocabulary import CrossVocabulary, HashVocabulary, Vocabulary, check_separator, encode_bags

__all__ = ["CategoryEmbedding", "grows_by", "table_of"]

_NOT_GIVEN: Any = object()
_CHOICES = ("error", "match")


def _encoded(layer: CategoryEmbedding, column: Any, grow: bool) -> tuple[Tensor | Jagged, bool]:
    """The ids of a column, and whether it is one bag, given alone."""
    if layer.pooling is None:
        return layer.vocabulary.encode(column, grow=grow), False
    ids, offsets, single = encode_bags(layer.vocabulary, column, separator=layer.separator, grow=grow)
    return Jagged(ids, offsets), single


def _ids_to_look_up(layer: CategoryEmbedding, column: Any) -> tuple[Tensor | Jagged, bool]:
    """The same where they are looked up: in training, values that are new become categories if the vocabulary grows."""
    ids, single = _encode(layer, column, False)
    if grows_by(layer, ids):
        ids, single = _encode(layer, column, True)
    return ids.to(layer.embedding.weight.device), single


def grows_by(layer: CategoryEmbedding, ids: Any) -> bool:
    """Whether a lookup now makes new categories of the values with these ids; raises where the table cannot grow."""
    grows = layer._grows() and bool((_values(ids) == layer.vocabulary.unknown_id).any())
    if grows:
        check_growable(layer.embedding)  # pyright: ignore[reportCallIssue]  (before anything has changed)
    return grows


# Outside of compiled graphs.
_encode = cast(
    "Callable[[CategoryEmbedding, Any, bool], tuple[Tensor | Jagged, bool]]", torch.compiler.disable(_encoded)
)
_follow = cast("Callable[[CategoryEmbedding], None]", torch.compiler.disable(append_missing))


class CategoryEmbedding(torch.nn.Module):
    """A trainable row for each category: a column of shape ``(*)`` gives vectors of shape ``(*, embedding_dim)``.

    With ``pooling``, a column of lists of categories (bags: genres, tags): ``B`` lists give ``(B, embedding_dim)``.

    Args:
        vocabulary: a ``Vocabulary``, or categories of which to make one, of which the first has the first id; or a
            ``HashVocabulary``, of whose ``hashes`` rows for a value the mean is taken.
        embedding_dim: the length of the vectors; ``"auto"`` for that of a rule of thumb (``nn.dimension``): the smaller
            of 600 and 1.6 · n^0.56 for n rows, as fastai has it.
        pooling: how the rows of a bag become one, a mode of ``EmbeddingBag``: ``"sum"``, ``"mean"``, ``"max"``,
            ``"sqrtn"``; or ``"none"``, which gives them all, as a jagged ``torch.nested`` tensor.
        separator: with ``pooling``, where to split strings into the categories of a bag: ``"|"`` for
            ``"Action|Drama"``. Nothing is stripped: ``"Action| Drama"`` holds ``" Drama"``.
        **embedding_kwargs: all that ``Embedding`` takes besides, with ``pooling`` all that ``EmbeddingBag`` takes.
            ``name`` defaults to the vocabulary's.

    Raises:
        VocabularyError: categories that make no vocabulary, see ``Vocabulary``; a separator for categories that are no
            strings.
        ValueError: a pooling that there is not, or of values with several ids (``HashVocabulary`` with ``hashes``); a
            separator without pooling.

    ``layer.vocabulary`` and ``layer.embedding`` are its two parts. Where the vocabulary has ``unseen="grow"``, lookups
    in training make new values categories and give the table a row for each; elsewhere they are unknown.

    >>> layer = CategoryEmbedding(["apple", "banana", "candy"], 5)
    >>> layer("banana").shape, torch.equal(layer("banana"), layer.embedding.weight[1])
    (torch.Size([5]), True)
    >>> layer([["candy"], ["apple"]]).shape
    torch.Size([2, 1, 5])

    A tensor holds ids:

    >>> torch.equal(layer(torch.tensor([1, 0])), layer(["banana", "apple"]))
    True

    Where categories are integers it could hold either, and has to say so:

    >>> years = CategoryEmbedding([1999, 2000, 2001], 2)
    >>> torch.equal(years(ids=torch.tensor([2])), years([2001]))
    True
    >>> years(torch.tensor([2000]))
    Traceback (most recent call last):
    TypeError: ... layer(ids=...) takes ids, layer(ids=layer.encode(column)) takes categories

    Bags of categories, pooled:

    >>> genres = CategoryEmbedding(["Action", "Comedy", "Drama"], 5, pooling="mean", separator="|")
    >>> genres([["Action", "Drama"], [], ["Comedy"]]).shape, genres("Action|Drama").shape
    (torch.Size([3, 5]), torch.Size([5]))
    >>> torch.equal(genres(["Action|Drama", ""]), genres([["Action", "Drama"], []]))
    True
    """

    embedding: Embedding | EmbeddingBag
    fresh_seed: int = 0  # of the rows of categories to come; saved with the layer
    _separator: str | None = None

    def __init__(
        self,
        vocabulary: Any,
        embedding_dim: int | str,
        *,
        pooling: str | None = None,
        separator: str | None = None,
        **embedding_kwargs: Any,
    ) -> None:
        super().__init__()
        name = embedding_kwargs.pop("name", None)
        if not isinstance(vocabulary, AnyVocabulary):
            vocabulary = Vocabulary(vocabulary, name=name)
        self._vocabulary: AnyVocabulary = vocabulary
        self._on_other_vocabulary = "error"
        name = vocabulary.name if name is None else name
        _check_pooling(pooling, separator, vocabulary)
        self._separator = separator
        embedding_dim = dimension_for(len(vocabulary), embedding_dim)
        if pooling is None:
            self.embedding = Embedding(len(vocabulary), embedding_dim, **embedding_kwargs, name=name)
        else:
            self.embedding = EmbeddingBag(len(vocabulary), embedding_dim, mode=pooling, **embedding_kwargs, name=name)
        self.fresh_seed = seed_of(self.embedding)

    @property
    def vocabulary(self) -> AnyVocabulary:
        """Which category has which id."""
        return self._vocabulary

    @property
    def pooling(self) -> str | None:
        """How the rows of a bag become one, the mode of ``embedding``; None where the layer takes no bags."""
        return self.embedding.mode if isinstance(self.embedding, EmbeddingBag) else None

    @property
    def separator(self) -> str | None:
        """Where strings are split into the categories of a bag, or None."""
        return self._separator

    @property
    def on_other_vocabulary(self) -> str:
        """What ``load_state_dict`` does where the ``state_dict`` has another vocabulary than this layer.

        ``"error"`` raises before anything of this layer changes. ``"match"`` loads rows by category: a category
        of both takes the stored row, one that only this layer has keeps its own; the missing row and the unknown row
        go to the row of the same meaning. The layer keeps its vocabulary; an optimiser's state is not mapped.

        >>> stored = CategoryEmbedding(["apple", "banana"], 5)
        >>> layer = CategoryEmbedding(["banana", "candy"], 5)
        >>> layer.load_state_dict(stored.state_dict())
        Traceback (most recent call last):
        catembed.errors.VocabularyError: ...: 1 added ('apple'); 1 removed ('candy'); 1 moved ('banana' 0 → 1). ...
        >>> layer.on_other_vocabulary = "match"
        >>> layer.load_state_dict(stored.state_dict())
        <All keys matched successfully>
        >>> torch.equal(layer["banana"], stored["banana"])
        True
        """
        return self._on_other_vocabulary

    @on_other_vocabulary.setter
    def on_other_vocabulary(self, choice: str) -> None:
        if choice not in _CHOICES:
            raise ValueError(f"on_other_vocabulary must be one of {', '.join(map(repr, _CHOICES))} (got {choice!r})")
        self._on_other_vocabulary = choice

    # Lookup

    def forward(self, categories: Any = _NOT_GIVEN, *, ids: Any = None, per_sample_weights: Any = None) -> Tensor:
        """Look up a column (or single category) of shape ``(*)``, or ids: vectors of shape ``(*, embedding_dim)``.

        With ``pooling``, a column of ``B`` lists, or of strings to be split: ``(B, embedding_dim)``; a single string
        gives ``(embedding_dim,)``. An empty list or string gives zeros, a missing one is a bag of one missing value.
        ``ids`` are then a ``functional.Jagged``, or bags in any other form that ``EmbeddingBag`` takes; and
        ``per_sample_weights``, one for each value, come in the same forms, or flat.

        Raises:
            UnseenCategoryError: a value that is no category, where the vocabulary has no row for it; a ``KeyError``.
            VocabularyError: a column of another kind than the categories; a row that is no list where there is
                ``pooling``, or one that is where there is none.
            OutOfRangeError: an id outside the table; an ``IndexError``.
            TypeError: a tensor where the categories are integers or bools themselves; weights without ``pooling``.
        """
        if (categories is _NOT_GIVEN) == (ids is None):
            raise TypeError("a CategoryEmbedding looks up either categories, layer(column), or ids, layer(ids=ids)")
        if ids is not None:
            return self._look_up(ids, per_sample_weights)
        if not (isinstance(categories, (Tensor, Jagged)) or torch.overrides.is_tensor_like(categories)):
            ids, single = _ids_to_look_up(self, categories)
            return self._look_up(ids, per_sample_weights, single)
        if self._vocabulary.kind in ("integer", "boolean"):
            raise TypeError(
                f"the categories of {called(self)} are {self._vocabulary.kind}s, so a tensor may hold categories "
                "or ids: layer(ids=...) takes ids, layer(ids=layer.encode(column)) takes categories"
            )
        return self._look_up(categories, per_sample_weights)

    def encode(self, column: Any, *, grow: bool = False) -> Tensor | Jagged:
        """The ids of a column, what ``layer(column)`` does first: to do it once, or in the workers of a ``DataLoader``.

        An int64 tensor of the shape of the column, as ``layer.vocabulary.encode`` gives it; with ``pooling`` a
        ``functional.Jagged`` of int64 tensors. Raises what those calls raise. ``grow`` makes new values categories,
        where the vocabulary has ``unseen="grow"``.

        >>> layer = CategoryEmbedding(["Action", "Comedy", "Drama"], 5, pooling="sum")
        >>> layer.encode([["Drama", "Action"], [], ["Comedy"]])
        Jagged(values=tensor([2, 0, 1]), offsets=tensor([0, 2, 2, 3]))
        >>> layer(layer.encode([["Drama", "Action"]])).shape
        torch.Size([1, 5])
        """
        return _encode(self, column, grow)[0]

    def _look_up(self, ids: Any, weights: Any = None, single: bool = False) -> Tensor:
        if len(self._vocabulary) != self.embedding.num_embeddings:
            self.follow_vocabulary()
        if self.pooling is not None:
            found = self.embedding(ids, per_sample_weights=weights)
            if single:  # of a nested tensor all rows: they are one bag's
                return found.values() if found.is_nested else found[0]
            return found
        if weights is not None or isinstance(ids, Jagged):
            what = "bags" if weights is None else "per_sample_weights"
            raise TypeError(f"{called(self)} takes no {what}: they are for a CategoryEmbedding made with pooling=")
        rows = self.embedding(ids)
        hashes = self._hashes()
        if hashes == 1:
            return rows
        if rows.ndim < 2 or rows.shape[-2] != hashes:
            raise ValueError(
                f"{called(self)} has a HashVocabulary with {hashes} hashes, so ids have shape (*, {hashes}), as its "
                f"encode() gives them (got {tuple(rows.shape[:-1])})"
            )
        return rows.mean(-2)

    def _hashes(self) -> int:
        """How many rows make a vector."""
        return self._vocabulary.hashes if isinstance(self._vocabulary, HashVocabulary) else 1

    def _grows(self) -> bool:
        """Whether a lookup now is a step of training, in which new values become categories."""
        return (
            self._vocabulary.unseen == "grow"
            and self.training
            and torch.is_grad_enabled()
            and self.embedding.weight.requires_grad
        )

    def follow_vocabulary(self) -> None:
        """Give the table the rows that a vocabulary which grew has ids for; every lookup does it first.

        The optimiser goes on with the same ``Parameter``: catembed's take up the new rows at their next step.

        Raises:
            RuntimeError: a table that cannot grow: under DistributedDataParallel, shared with other processes, on the
                meta device.

        >>> layer = CategoryEmbedding(["apple", "banana"], 5)
        >>> layer.vocabulary.add(["candy"])
        tensor([2])
        >>> layer.follow_vocabulary()
        >>> layer.embedding
        Embedding(3, 5)
        """
        _follow(self)

    def __getitem__(self, categories: Any) -> Tensor:
        """``layer["apple"]``: what ``layer("apple")`` gives; a vector, or many for a list. Nothing grows by it."""
        if isinstance(categories, (Tensor, Jagged)):
            return self(categories)
        ids, single = _encode(self, categories, False)
        return self._look_up(ids.to(self.embedding.weight.device), single=single)

    def vectors(self, categories: Any) -> Tensor:
        """The vectors as they are now, shape ``(*, embedding_dim)``: a copy without a graph, for looking at.

        >>> CategoryEmbedding(["apple", "banana"], 5).vectors(["banana", "apple"]).requires_grad
        False
        """
        with torch.no_grad():
            return self(categories)

    def __len__(self) -> int:
        """How many rows there are: one for each category, and the reserved ones."""
        return len(self._vocabulary)

    def __contains__(self, category: Any) -> bool:
        return category in self._vocabulary

    __iter__ = None  # a layer is no sequence of rows, though it has [] and len()

    def to_torch(self) -> torch.nn.Embedding | torch.nn.EmbeddingBag:
        """A ``torch.nn.Embedding`` that has the same weight, the very same ``Parameter``: training one trains both.

        With ``pooling`` a ``torch.nn.EmbeddingBag``, which takes ids and offsets.

        Raises:
            ValueError: a pooling, or a mean of several hashes, that torch's layers do not have.

        >>> layer = CategoryEmbedding(["apple", "banana"], 5)
        >>> plain = layer.to_torch()
        >>> type(plain), plain.weight is layer.embedding.weight
        (<class 'torch.nn.modules.sparse.Embedding'>, True)
        """
        if self._hashes() > 1:
            raise ValueError(
                f"{called(self)} gives the mean of {self._hashes()} rows, which no torch.nn.Embedding does"
            )
        if self.pooling in ("sqrtn", "none"):
            raise ValueError(f"{called(self)} has pooling={self.pooling!r}, which no torch.nn.EmbeddingBag has")
        self.follow_vocabulary()
        return to_torch(self.embedding)

    # As it is saved

    def get_extra_state(self) -> Tensor:
        """The vocabulary as one uint8 tensor: the bytes of a file as docs/format.md describes it."""
        return to_state(self._vocabulary, self.fresh_seed)

    def _save_to_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self.follow_vocabulary()  # torch saves this module before its table
        super()._save_to_state_dict(*args, **kwargs)

    def set_extra_state(self, state: Any) -> None:
        """Raise unless the stored vocabulary is this layer's: ``load_state_dict`` decides about all others."""
        stored, seed = from_state(state)
        if stored != self._vocabulary:
            raise VocabularyError(other_vocabulary(self, "", stored))
        self.fresh_seed = self.fresh_seed if seed is None else seed

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        """Torch loads this module before its table, so what is raised here leaves the table as it was."""
        extra, weight = f"{prefix}_extra_state", f"{prefix}embedding.weight"
        if extra in state_dict:
            take_stored(self, state_dict, prefix, state_dict.pop(extra), weight)
        elif f"{prefix}weight" in state_dict and weight not in state_dict:  # of a torch.nn.Embedding
            state_dict[weight] = state_dict.pop(f"{prefix}weight")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if extra in missing_keys:  # without one, the layer keeps its own
            missing_keys.remove(extra)

    def extra_repr(self) -> str:
        """The vocabulary, and the separator if there is one; torch adds the table."""
        separator = "" if self._separator is None else f"\n(separator): {self._separator!r}"
        return f"(vocabulary): {self._vocabulary!r}{separator}"


def _values(ids: Tensor | Jagged) -> Tensor:
    return ids.values if isinstance(ids, Jagged) else ids


def _check_pooling(pooling: Any, separator: Any, vocabulary: AnyVocabulary) -> None:
    """Raise for a pooling or separator that there is not, or that does not go with the vocabulary."""
    check_separator(separator)
    if pooling is None:
        if separator is not None:
            raise ValueError(
                f"separator={separator!r} splits strings into bags, which need pooling=: {', '.join(map(repr, MODES))}"
            )
        return
    if pooling not in MODES:
        raise ValueError(f"pooling must be None or one of {', '.join(map(repr, MODES))} (got {pooling!r})")
    if isinstance(vocabulary, CrossVocabulary):
        raise ValueError(f"a cross has one combination in each row, and nothing to pool (got pooling={pooling!r})")
    if isinstance(vocabulary, HashVocabulary) and vocabulary.hashes > 1:
        raise ValueError(f"pooling needs hashes=1, one id for each value (got hashes={vocabulary.hashes})")
    if separator is not None and vocabulary.kind not in ("string", "empty"):
        raise VocabularyError(f"separator={separator!r} splits strings (got categories of kind {vocabulary.kind!r})")


def table_of(layer: Any) -> Any:
    """The table of a layer: that of a ``CategoryEmbedding``, or the layer itself."""
    return layer.embedding if isinstance(layer, CategoryEmbedding) else layer
