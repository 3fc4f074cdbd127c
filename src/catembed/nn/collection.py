"""``EmbeddingCollection``: the categorical columns of a table in, their vectors side by side out, in one call.

Rules: each column has its layer, and layers stay what they are: their own Parameters, policies, gradients and hooks. A
layer given for several columns is one table. Plain columns are looked up together by one kernel, straight into the
output; a layer that does more than look up (bags, ``max_norm``, hooks) is called. All columns of a step are encoded
before any of them is looked up, so a vocabulary that grows does so before its table is read.

Known limit: as for ``CategoryEmbedding``, columns are encoded outside of compiled graphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Self

from torch import Tensor, nn
from torch.nn.modules.module import _has_any_global_hook

from catembed.functional import Lookup, lookup_columns
from catembed.nn import collection_inputs as inputs
from catembed.nn.category_embedding import CategoryEmbedding, table_of
from catembed.nn.collection_fit import fitted_layers
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.encoder import EncodedColumn, Encoder

__all__ = ["EmbeddingCollection"]

_NOT_GIVEN: Any = object()
_OUTPUTS = ("concat", "dict")
_BARE = nn.Module()

Layer = CategoryEmbedding | Embedding | EmbeddingBag


class EmbeddingCollection(nn.Module):
    """Many columns, each with its embedding layer: a table of ``B`` rows gives ``(B, embedding_dim)``.

    Args:
        columns: for each column, by its name, a ``CategoryEmbedding`` (raw values), or an ``Embedding`` or
            ``EmbeddingBag`` (ids). One layer under several names is one table that these columns share. ``cross(…)``
            stands under a name of its own, and reads the columns it is made of.
        output: ``"concat"``: one tensor, the columns side by side in the order given; ``slices`` tells which is where,
            and ``split`` gives views by name. ``"dict"``: a tensor for each column; of any shapes, such as the
            sequences of ``pooling="none"``.

    Raises:
        TypeError: something that is no such layer.
        ValueError: no columns; a layer without pooling to one vector where the output is one tensor.

    Called with a table (a DataFrame, an Arrow table or record batch, a dict of columns), a dict of tensors of ids, or a
    TorchRec ``KeyedJaggedTensor``; or with ``ids=``, what ``encode`` gave: a dict of ids, or one integer tensor
    ``(B, columns)`` in the order of the columns.

    >>> import torch
    >>> from catembed import CategoryEmbedding
    >>> airports = CategoryEmbedding(["JFK", "LAX", "SFO"], 4)
    >>> layer = EmbeddingCollection(
    ...     {"origin": airports, "dest": airports, "carrier": CategoryEmbedding(["AA", "UA"], 2)}
    ... )
    >>> rows = {"origin": ["JFK", "SFO"], "dest": ["SFO", "LAX"], "carrier": ["UA", "AA"]}
    >>> layer(rows).shape, layer.slices["carrier"]
    (torch.Size([2, 10]), slice(8, 10, None))
    >>> torch.equal(layer.split(layer(rows))["dest"], airports(["SFO", "LAX"]))
    True
    >>> ids = layer.encode(rows)  # in a DataLoader's worker, say
    >>> ids["origin"], torch.equal(layer(ids=ids), layer(rows))
    (tensor([0, 2]), True)
    """

    def __init__(self, columns: Mapping[str, Layer], *, output: str = "concat") -> None:
        super().__init__()
        if output not in _OUTPUTS:
            raise ValueError(f"output must be one of {', '.join(map(repr, _OUTPUTS))} (got {output!r})")
        if not isinstance(columns, Mapping):
            raise TypeError(f"a collection takes a dict of layers by column (got {type(columns).__name__})")
        if not columns:
            raise ValueError("a collection has at least one column (got none)")
        self.output = output
        self.tables = nn.Module()
        self._names = tuple(columns)
        for name, layer in columns.items():
            _check(name, layer, output)
            self.tables._modules[_escaped(name)] = layer  # add_module refuses names that columns may have

    @classmethod
    def fit(
        cls, rows: Any, columns: Sequence[str] | Mapping[str, Any], *, output: str = "concat", **settings: Any
    ) -> Self:
        """A collection whose vocabularies are learned from the columns of a table.

        Args:
            rows: a DataFrame, an Arrow table, or a dict of columns; it may have others besides.
            columns: the names of columns; or a schema: for each name its own settings as a dict, or the name of another
                column, whose layer it shares (its values are learned too), or a layer, such as ``cross(…)``, which is
                taken as it is. ``{"shares": "item", "pooling": "mean"}`` shares vocabulary and weight of a column that
                is read in another way: a list of items beside an item.
            output: as in ``EmbeddingCollection``.
            **settings: for all columns that do not say otherwise: those of ``Vocabulary.fit`` (``unseen``, ``missing``,
                ``min_count``, …) and those of ``CategoryEmbedding`` (``embedding_dim``, which is ``"auto"`` by
                default, ``pooling``, ``separator``, ``sparse``, …).

        Raises:
            TableError: a column that the table does not have, or of another length; a shared one that is shared itself.
            TypeError: a setting that there is not.
            VocabularyError: values that make no vocabulary or are no values of their column, such as lists without
                ``pooling``; with the column's name.

        >>> rows = {"origin": ["JFK", "SFO", "JFK"], "dest": ["SFO", "LAX", None], "late": [0, 1, 0]}
        >>> EmbeddingCollection.fit(rows, {"origin": {"embedding_dim": 4}, "dest": "origin"}, missing="own")["dest"]
        CategoryEmbedding(
          (vocabulary): Vocabulary(['JFK', 'SFO', 'LAX'], missing='own', name='origin')
          (embedding): Embedding(4, 4, name='origin')
        )
        """
        collection = cls(fitted_layers(rows, columns, settings), output=output)
        inputs.probe(collection, rows)
        return collection

    # What there is

    @property
    def names(self) -> tuple[str, ...]:
        """The columns, in the order of the output."""
        return self._names

    @property
    def inputs(self) -> tuple[str, ...]:
        """The columns that are read from a table: a cross is not among them, those that it is made of are."""
        return inputs.needed(self)

    @property
    def slices(self) -> dict[str, slice]:
        """Where each column's vector lies in the last dimension of the output."""
        ends = list(accumulate(_width(layer) for _, layer in self.items()))
        return {name: slice(end - _width(self[name]), end) for name, end in zip(self._names, ends, strict=True)}

    @property
    def embedding_dim(self) -> int:
        """The length of all vectors together."""
        return sum(_width(layer) for _, layer in self.items())

    def __getitem__(self, name: str) -> Any:
        """The layer of a column."""
        if name not in self._names:
            raise KeyError(f"there is no column {name!r} (got {', '.join(map(repr, self._names))})")
        return self.tables._modules[_escaped(name)]

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        """How many columns there are."""
        return len(self._names)

    def keys(self) -> Iterator[str]:
        """The columns, in the order of the output."""
        return iter(self._names)

    def values(self) -> Iterator[Any]:
        """The layers; one that several columns share comes for each of them."""
        return iter(self.tables._modules.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """The columns and their layers."""
        return zip(self._names, self.tables._modules.values(), strict=True)

    def split(self, vectors: Tensor) -> dict[str, Tensor]:
        """The vectors ``(*, embedding_dim)`` of each column, by its name: views."""
        parts = vectors.split([_width(layer) for _, layer in self.items()], -1)
        return dict(zip(self._names, parts, strict=True))

    # Lookup

    def encode(self, rows: Any, *, grow: bool = False) -> Mapping[str, Any]:
        """The ids of all columns of a table: for each an int64 tensor; for bags a ``Jagged`` of values and offsets.

        Args:
            rows: as the collection is called with.
            grow: make new values categories, where a column's vocabulary has ``unseen="grow"``.

        Raises:
            TableError: columns that are missing or not read; columns of different lengths.
            UnseenCategoryError: as each column's vocabulary raises it, with the column's name.
            VocabularyError: likewise.
        """
        return inputs.encode(self, rows, lambda layer, column: layer.encode(column, grow=grow and _grows(layer)))

    def encoder(self) -> Encoder:
        """What ``encode`` needs and no weights: light to send to other processes, such as a ``DataLoader``'s workers.

        >>> from catembed import CategoryEmbedding
        >>> encoder = EmbeddingCollection({"fruit": CategoryEmbedding(["apple", "banana"], 4)}).encoder()
        >>> encoder.encode({"fruit": ["banana", "apple"]})
        {'fruit': tensor([1, 0])}
        """
        return Encoder({name: EncodedColumn.of(layer) for name, layer in self.items()})

    def forward(self, rows: Any = _NOT_GIVEN, *, ids: Any = None, per_sample_weights: Any = None) -> Any:
        """Look up the columns of a table, or their ids; ``per_sample_weights`` are by column, for those with bags.

        Raises:
            TableError: as ``encode``.
            OutOfRangeError: an id outside its table, with the column's name.
            TypeError: tensors of ids where the categories are integers or bools themselves: say ``ids=``.
        """
        if (rows is _NOT_GIVEN) == (ids is None):
            raise TypeError("a collection looks up either a table, layer(rows), or ids, layer(ids=ids)")
        if ids is None:
            ids, found_weights = inputs.ids_of(self, rows)
        else:
            ids, found_weights = inputs.given_ids(self, ids)
        weights = inputs.check_weights(self, found_weights if per_sample_weights is None else per_sample_weights)
        inputs.check_lengths(self, ids)
        watched = bool(_has_any_global_hook())  # of all modules, each layer among them
        found = [_found(name, layer, ids[name], weights.get(name), watched) for name, layer in self.items()]
        return lookup_columns(found) if self.output == "concat" else self._by_name(found)

    def _by_name(self, found: list[Lookup | Tensor]) -> dict[str, Tensor]:
        """A tensor of its own for each column; those of one shape are looked up together."""
        vectors = {name: each for name, each in zip(self, found, strict=True) if isinstance(each, Tensor)}
        lookups = {name: each for name, each in zip(self, found, strict=True) if isinstance(each, Lookup)}
        if len({each.ids.shape for each in lookups.values()}) == 1:
            widths = [each.weight.shape[1] for each in lookups.values()]
            # Not views for autograd: nothing else holds what they are parts of.
            parts = lookup_columns(list(lookups.values())).unsafe_split_with_sizes(widths, -1)
            vectors |= dict(zip(lookups, parts, strict=True))
        else:
            vectors |= {name: lookup_columns([each]) for name, each in lookups.items()}
        return {name: vectors[name] for name in self}

    def extra_repr(self) -> str:
        """The output, where it is not one tensor."""
        return "" if self.output == "concat" else f"output={self.output!r}"


def _check(name: Any, layer: Any, output: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"columns are named by strings (got {name!r})")
    if not isinstance(layer, Layer):
        hint = "; catembed.convert() makes catembed's of torch's" if isinstance(layer, nn.Module) else ""
        raise TypeError(
            f"column {name!r} takes a CategoryEmbedding, Embedding or EmbeddingBag (got {type(layer).__name__}){hint}"
        )
    if output == "concat" and getattr(table_of(layer), "mode", None) == "none":
        raise ValueError(f"column {name!r} gives sequences of vectors, not one for each row: that needs output='dict'")


def _escaped(name: str) -> str:
    """A column's name as that of a submodule: dots divide a state_dict's keys, and modules have names of their own."""
    plain = name.replace("%", "%25").replace(".", "%2E")
    return plain if plain and not hasattr(_BARE, plain) else f"{plain}%"


def _width(layer: Layer) -> int:
    return table_of(layer).weight.shape[-1]


def _grows(layer: Layer) -> bool:
    return isinstance(layer, CategoryEmbedding) and layer.vocabulary.unseen == "grow"


def _found(name: str, layer: Any, ids: Any, weights: Any, watched: bool) -> Lookup | Tensor:
    """What is to be looked up for a column; or its vectors, where its layer does more than look up."""
    kind = type(layer)
    table = layer._modules["embedding"] if kind is CategoryEmbedding else layer
    if watched or not (type(table) is Embedding and type(ids) is Tensor and _is_plain(layer, table)):
        extra = {} if weights is None else {"per_sample_weights": weights}
        with inputs.naming(name):
            return layer(ids=ids, **extra) if isinstance(layer, CategoryEmbedding) else layer(ids, **extra)
    if kind is CategoryEmbedding and len(layer.vocabulary) != table.num_embeddings:
        layer.follow_vocabulary()
    if table.kept_exact and table.training:
        table._settle(ids)
    called = name if table.name in (None, name) else f"{table.name} (column {name})"
    weight = table._parameters.get("weight")  # what the attribute would look for, at some cost
    return Lookup(table.weight if weight is None else weight, ids, table.padding_idx, table.sparse, called)


def _is_plain(layer: Any, table: Any) -> bool:
    """Whether a layer does nothing but look up; asked of every column at every call."""
    if table.max_norm is not None or table.scale_grad_by_freq or _is_changed(table):
        return False
    if layer is table:
        return True
    return getattr(layer.vocabulary, "hashes", 1) == 1 and not _is_changed(layer)


def _is_changed(module: Any) -> bool:
    """Whether somebody has put something around the forward of a module, or in its place."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )
