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
from hashlib import blake2b
from typing import Any, cast

import torch
from torch import Tensor

from catembed.errors import FormatError, VocabularyError
from catembed.kernels.dispatch import kernel
from catembed.nn.embedding import Embedding
from catembed.nn.growth import append_rows, check_growable
from catembed.nn.match import difference, same_rows
from catembed.nn.vocabulary_state import AnyVocabulary, from_state, to_state
from catembed.optim import exact
from catembed.vocabulary import HashVocabulary, Vocabulary

__all__ = ["CategoryEmbedding"]

_NOT_GIVEN: Any = object()
_CHOICES = ("error", "match")


def _encoded(vocabulary: AnyVocabulary, column: Any, grow: bool) -> Tensor:
    return vocabulary.encode(column, grow=grow)


def _append_missing(layer: CategoryEmbedding) -> None:
    """The rows of the categories that have none yet."""
    weight = layer.embedding.weight
    missing = len(layer.vocabulary) - len(weight)
    if missing > 0:
        if not weight.is_floating_point():
            raise TypeError(
                f"{missing:,} new categories have no rows in {layer._called()}, whose weight is {weight.dtype}: fresh "
                "rows are drawn as floats, and would be cut. Add categories before the table is quantised"
            )
        keys = torch.from_numpy(layer.vocabulary.category_hashes(len(weight))[:missing])
        fresh = weight.new_empty((missing, weight.shape[1]))
        kernel("fresh_rows", weight.device)(fresh.detach(), layer.fresh_seed, keys.to(weight.device))
        append_rows(layer.embedding, fresh)  # pyright: ignore[reportCallIssue]  (torch's decorator hides the signature)


def _seed_of(table: Embedding) -> int:
    """64 bits that are the same after the same ``torch.manual_seed``, and differ among the layers of a model."""
    weight = table.weight.detach()
    plain = type(weight) is Tensor and not weight.is_meta
    first = weight[:1].cpu().contiguous().view(torch.uint8).numpy().tobytes() if plain else b""
    told = f"{torch.initial_seed()} {table.name}".encode(errors="backslashreplace")
    return int.from_bytes(blake2b(told + first, digest_size=8).digest(), "little")


# Outside of compiled graphs.
_encode = cast("Callable[[AnyVocabulary, Any, bool], Tensor]", torch.compiler.disable(_encoded))
_follow = cast("Callable[[CategoryEmbedding], None]", torch.compiler.disable(_append_missing))


class CategoryEmbedding(torch.nn.Module):
    """A trainable row for each category: a column of shape ``(*)`` gives vectors of shape ``(*, embedding_dim)``.

    Args:
        vocabulary: a ``Vocabulary``, or categories of which to make one, of which the first has the first id; or a
            ``HashVocabulary``, of whose ``hashes`` rows for a value the mean is taken.
        embedding_dim: the length of the vectors.
        **embedding_kwargs: all that ``Embedding`` takes besides. ``name`` defaults to the vocabulary's.

    Raises:
        VocabularyError: categories that make no vocabulary; see ``Vocabulary``.

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
    TypeError: ... layer(ids=...) takes ids, layer(ids=layer.vocabulary.encode(column)) takes categories
    """

    embedding: Embedding
    fresh_seed: int = 0  # of the rows of categories to come; saved with the layer

    def __init__(self, vocabulary: Any, embedding_dim: int, **embedding_kwargs: Any) -> None:
        super().__init__()
        name = embedding_kwargs.pop("name", None)
        if not isinstance(vocabulary, AnyVocabulary):
            vocabulary = Vocabulary(vocabulary, name=name)
        self._vocabulary: AnyVocabulary = vocabulary
        self._on_other_vocabulary = "error"
        name = vocabulary.name if name is None else name
        self.embedding = Embedding(len(vocabulary), embedding_dim, **embedding_kwargs, name=name)
        self.fresh_seed = _seed_of(self.embedding)

    @property
    def vocabulary(self) -> AnyVocabulary:
        """Which category has which id."""
        return self._vocabulary

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

    def forward(self, categories: Any = _NOT_GIVEN, *, ids: Any = None) -> Tensor:
        """Look up a column (or single category) of shape ``(*)``, or ids: vectors of shape ``(*, embedding_dim)``.

        Raises:
            UnseenCategoryError: a value that is no category, where the vocabulary has no row for it; a ``KeyError``.
            VocabularyError: a column of another kind than the categories.
            OutOfRangeError: an id outside the table; an ``IndexError``.
            TypeError: a tensor where the categories are integers or bools themselves.
        """
        if (categories is _NOT_GIVEN) == (ids is None):
            raise TypeError("a CategoryEmbedding looks up either categories, layer(column), or ids, layer(ids=ids)")
        if ids is not None:
            return self._look_up(ids)
        if not (isinstance(categories, Tensor) or torch.overrides.is_tensor_like(categories)):
            ids = _encode(self._vocabulary, categories, False)
            if self._grows() and bool((ids == self._vocabulary.unknown_id).any()):
                check_growable(self.embedding)  # pyright: ignore[reportCallIssue]  (before anything has changed)
                ids = _encode(self._vocabulary, categories, True)
            return self._look_up(ids.to(self.embedding.weight.device))
        if self._vocabulary.kind in ("integer", "boolean"):
            raise TypeError(
                f"the categories of {self._called()} are {self._vocabulary.kind}s, so a tensor may hold categories "
                "or ids: layer(ids=...) takes ids, layer(ids=layer.vocabulary.encode(column)) takes categories"
            )
        return self._look_up(categories)

    def _look_up(self, ids: Any) -> Tensor:
        if len(self._vocabulary) != self.embedding.num_embeddings:
            self.follow_vocabulary()
        rows = self.embedding(ids)
        hashes = self._hashes()
        if hashes == 1:
            return rows
        if rows.ndim < 2 or rows.shape[-2] != hashes:
            raise ValueError(
                f"{self._called()} has a HashVocabulary with {hashes} hashes, so ids have shape (*, {hashes}), as its "
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
        if isinstance(categories, Tensor):
            return self(categories)
        return self._look_up(_encode(self._vocabulary, categories, False).to(self.embedding.weight.device))

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

    def to_torch(self) -> torch.nn.Embedding:
        """A ``torch.nn.Embedding`` that has the same weight, the very same ``Parameter``: training one trains both.

        >>> layer = CategoryEmbedding(["apple", "banana"], 5)
        >>> plain = layer.to_torch()
        >>> type(plain), plain.weight is layer.embedding.weight
        (<class 'torch.nn.modules.sparse.Embedding'>, True)
        """
        if self._hashes() > 1:
            raise ValueError(
                f"{self._called()} gives the mean of {self._hashes()} rows, which no torch.nn.Embedding does"
            )
        self.follow_vocabulary()
        table = self.embedding
        exact.settle(table.weight)
        plain = torch.nn.Embedding(
            table.num_embeddings,
            table.embedding_dim,
            table.padding_idx,
            table.max_norm,
            table.norm_type,
            table.scale_grad_by_freq,
            table.sparse,
            _weight=table.weight,
            _freeze=not table.weight.requires_grad,
        )
        plain.weight = table.weight
        return plain.train(self.training)

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
            raise VocabularyError(self._other_vocabulary("", stored))
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
            self._compare(state_dict, prefix, state_dict.pop(extra), weight)
        elif f"{prefix}weight" in state_dict and weight not in state_dict:  # of a torch.nn.Embedding
            state_dict[weight] = state_dict.pop(f"{prefix}weight")
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        if extra in missing_keys:  # without one, the layer keeps its own
            missing_keys.remove(extra)

    def _compare(self, state_dict: dict[str, Any], prefix: str, state: Any, weight: str) -> None:
        """Take the stored vocabulary over if it is the layer's, or what it grew to; else raise, or match the rows."""
        try:
            stored, seed = from_state(state)
        except FormatError as fact:
            raise FormatError(f"{prefix}_extra_state of the state_dict: {fact}") from None
        if stored == self._vocabulary or self._is_grown(stored, state_dict.get(weight)):
            if isinstance(self._vocabulary, Vocabulary) and isinstance(stored, Vocabulary) and stored.unseen == "grow":
                more = len(stored) - self.embedding.num_embeddings
                if more > 0:  # first, since this may be refused
                    append_rows(self.embedding, self.embedding.weight.new_zeros(more, self.embedding.embedding_dim))  # pyright: ignore[reportCallIssue]
                self._vocabulary.take_over(stored)
            self.fresh_seed = self.fresh_seed if seed is None else seed
            return
        kinds = {stored.kind, self._vocabulary.kind} - {"empty"}
        if self._on_other_vocabulary == "error" or len(kinds) > 1 or weight not in state_dict:
            raise VocabularyError(self._other_vocabulary(prefix, stored))
        rows, own = state_dict[weight], self.embedding.weight
        if len(rows) != len(stored):
            raise FormatError(f"{weight} of the state_dict has {len(rows):,} rows, its vocabulary {len(stored):,} ids")
        if rows.shape[1:] == own.shape[1:]:  # if not, torch's own error tells it
            exact.settle(own)
            state_dict[weight] = _rearranged(own.detach().clone(), rows, *same_rows(self._vocabulary, stored))

    def _is_grown(self, stored: AnyVocabulary, rows: Any) -> bool:
        """Whether the stored vocabulary is what this growing one became later, with rows that fit the table."""
        own = self._vocabulary
        if not (isinstance(own, Vocabulary) and isinstance(stored, Vocabulary) and own.unseen == "grow"):
            return False
        weight = self.embedding.weight
        fits = rows is not None and rows.shape == (len(stored), weight.shape[1])
        return fits and own.is_start_of(stored)

    def _other_vocabulary(self, prefix: str, stored: AnyVocabulary) -> str:
        return (
            f"the state_dict{f' at {prefix[:-1]!r}' if prefix else ''} has another vocabulary than {self._called()}: "
            f"{difference(self._vocabulary, stored)}. Nothing of this layer has changed. Load it into a layer made "
            "with the stored vocabulary, or, if the kinds agree, set on_other_vocabulary = 'match' on this layer to "
            "load the rows by category"
        )

    def _called(self) -> str:
        return "the layer" if self.embedding.name is None else f"layer {self.embedding.name!r}"

    def extra_repr(self) -> str:
        """The vocabulary; torch adds the table."""
        return f"(vocabulary): {self._vocabulary!r}"


def _rearranged(own: Tensor, rows: Tensor, here: Tensor, there: Tensor) -> Tensor:
    if own.is_meta:
        raise RuntimeError("rows cannot be matched into a layer on the meta device: new categories have no values")
    own[here.to(own.device)] = rows[there.to(rows.device)].to(own)
    return own
