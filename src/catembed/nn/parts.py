"""A layer as a JSON header and tensors, and back: what files hold of it; docs/format.md is the contract.

Rule: reading trusts nothing. Hooks, the training flag and frozen rows are not part of it, as they are not of a
``state_dict``.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from catembed.errors import FormatError
from catembed.functional import MODES
from catembed.nn.category_embedding import CategoryEmbedding, table_of
from catembed.nn.collection import EmbeddingCollection
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.vocabulary_state import AnyVocabulary, from_tensors, read_seed, to_tensors

__all__ = ["Layer", "from_parts", "to_parts"]

Layer = Embedding | EmbeddingBag | CategoryEmbedding | EmbeddingCollection

_VOCABULARY = "Vocabulary"  # the content of a file that holds no layer
_COLLECTION = EmbeddingCollection.__name__
_KINDS = {kind.__name__: kind for kind in (Embedding, EmbeddingBag, CategoryEmbedding)}

_FLAGS = ("scale_grad_by_freq", "sparse")
_BAG_FLAGS = (*_FLAGS, "include_last_offset")
_OPTIONS = ("name", "padding_idx", "max_norm", "norm_type")
_BAG_OPTIONS = (*_OPTIONS, "mode")
_SEPARATOR = "separator"  # of a CategoryEmbedding whose settings are those of bags


def to_parts(layer: Layer | AnyVocabulary) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Header and tensors of a layer, or of a vocabulary; a table is the last tensor.

    Raises:
        TypeError: something else, subclasses too, which would be read as their base.
        ValueError: settings that no layer can be made of.
    """
    if isinstance(layer, AnyVocabulary):
        header, tensors = to_tensors(layer, index=True)
        return {"content": _VOCABULARY, "vocabulary": header}, tensors
    if type(layer) is EmbeddingCollection:
        return _of_collection(layer)
    return _of_layer(layer)


def _of_collection(collection: EmbeddingCollection) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What several layers hold, a weight or a vocabulary, is written with the first; the others have its number."""
    numbers: dict[int, int] = {}
    held: dict[int, int] = {}
    headers: list[dict[str, Any]] = []
    tensors: dict[str, Tensor] = {}
    for _, layer in collection.items():
        if id(layer) in numbers:
            continue
        number = numbers[id(layer)] = len(headers)
        header, own = _of_layer(layer)
        headers.append(header)
        if held.setdefault(id(table_of(layer).weight), number) != number:
            header["weight"] = held[id(table_of(layer).weight)]
            del own["weight"]
        if isinstance(layer, CategoryEmbedding) and held.setdefault(id(layer.vocabulary), number) != number:
            header["vocabulary"] = held[id(layer.vocabulary)]
            own = {name: tensor for name, tensor in own.items() if name == "weight"}
        tensors |= {f"{number}.{name}": tensor for name, tensor in own.items()}
    columns = [[name, numbers[id(layer)]] for name, layer in collection.items()]
    return {"content": _COLLECTION, "output": collection.output, "columns": columns, "tables": headers}, tensors


def _of_layer(layer: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    table = table_of(layer)
    if type(layer) not in _KINDS.values() or type(table) not in (Embedding, EmbeddingBag):
        raise TypeError(
            "save() takes a catembed.Embedding, EmbeddingBag, CategoryEmbedding, EmbeddingCollection or Vocabulary, "
            f"and no subclass (got {type(layer).__name__}): convert() makes them of torch's, other modules have a "
            "state_dict to save"
        )
    if isinstance(layer, CategoryEmbedding):
        layer.follow_vocabulary()
    weight = table.state_dict()["weight"]  # which brings rows up to date that an optimiser has left behind
    settings, rows = _settings(table), len(weight)
    if isinstance(layer, CategoryEmbedding):
        rows = layer.vocabulary
        if layer.pooling is not None:
            settings[_SEPARATOR] = layer.separator
    try:
        _make(type(layer), rows, weight, settings)
    except FormatError as fact:  # a file that load would refuse must not replace one that it reads
        raise ValueError(f"the layer cannot be saved: {fact}") from None
    header: dict[str, Any] = {"content": type(layer).__name__, "settings": settings}
    tensors: dict[str, Tensor] = {}
    if isinstance(layer, CategoryEmbedding):
        header["vocabulary"], tensors = to_tensors(layer.vocabulary, index=True)
        header["fresh_seed"] = layer.fresh_seed
    return header, {**tensors, "weight": weight}


def _settings(table: Embedding | EmbeddingBag) -> dict[str, Any]:
    bag = isinstance(table, EmbeddingBag)
    settings = {key: getattr(table, key) for key in (_BAG_OPTIONS if bag else _OPTIONS)}
    settings |= {key: _plain(settings[key]) for key in ("padding_idx", "max_norm", "norm_type")}
    settings |= {key: bool(getattr(table, key)) for key in (_BAG_FLAGS if bag else _FLAGS)}
    return {**settings, "requires_grad": table.weight.requires_grad}


def _plain(value: Any) -> Any:
    """A number, also NumPy's, as JSON has it; which has no infinity, a norm that torch knows."""
    if value is None:
        return None
    number = int(value) if hasattr(value, "__index__") else float(value)
    return number if math.isfinite(number) else str(number)


# Reading, which trusts nothing


def from_parts(header: dict[str, Any], tensors: dict[str, Tensor], verify: bool) -> Layer | AnyVocabulary:
    """What ``to_parts`` was given; raises ``FormatError`` on anything else."""
    content = header.get("content")
    if content == _VOCABULARY:
        if set(header) != {"content", "vocabulary"}:
            raise FormatError(f"the header of a vocabulary must have content and vocabulary (got {sorted(header)})")
        return from_tensors(header["vocabulary"], tensors, verify=verify)
    if content == _COLLECTION:
        return _collection(header, tensors, verify)
    if not isinstance(content, str) or content not in _KINDS:
        known = ", ".join((*_KINDS, _COLLECTION, _VOCABULARY))
        raise FormatError(f"the file holds no layer but {content!r:.200}; what is read is {known}")
    return _layer(content, header, tensors, verify)


def _collection(header: dict[str, Any], tensors: dict[str, Tensor], verify: bool) -> EmbeddingCollection:
    if set(header) != {"content", "output", "columns", "tables"}:
        raise FormatError(f"a collection has content, output, columns and tables (got {sorted(header)})")
    tables, columns = header["tables"], header["columns"]
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise FormatError(f"the tables of a collection are headers of layers (got {tables!r:.200})")
    if not isinstance(columns, list) or not all(_is_column(column, len(tables)) for column in columns):
        raise FormatError(
            f"the columns of a collection are pairs of a name and the number of one of {len(tables)} tables (got "
            f"{columns!r:.200})"
        )
    if {number for _, number in columns} != set(range(len(tables))) or len({name for name, _ in columns}) < len(
        columns
    ):
        raise FormatError(f"each column has its name, and each table a column (got {columns!r:.200})")
    layers: list[Any] = []
    for number, (table, parts) in enumerate(zip(tables, _by_table(tensors, len(tables)), strict=True)):
        try:
            layers.append(_layer_of_collection(table, parts, layers, verify))
        except FormatError as fact:
            raise FormatError(f"table {number} of the collection: {fact}") from None
    try:
        return EmbeddingCollection({name: layers[number] for name, number in columns}, output=header["output"])
    except (TypeError, ValueError) as fact:
        raise FormatError(f"the header makes no collection: {fact}") from None


def _by_table(tensors: dict[str, Tensor], tables: int) -> list[dict[str, Tensor]]:
    """The tensors of each table, by the names they have there."""
    numbers = {str(number): number for number in range(tables)}
    own: list[dict[str, Tensor]] = [{} for _ in numbers]
    for name, tensor in tensors.items():
        number, dot, rest = name.partition(".")
        if not dot or number not in numbers:
            raise FormatError(
                f"a tensor of a collection has the number of its table before its name (got {name!r:.100})"
            )
        own[numbers[number]][rest] = tensor
    return own


def _layer_of_collection(table: dict[str, Any], tensors: dict[str, Tensor], before: list[Any], verify: bool) -> Any:
    """One layer, which may hold the weight and the vocabulary of a layer before it."""
    content, header = table.get("content"), dict(table)
    if not isinstance(content, str) or content not in _KINDS:
        raise FormatError(f"it is no layer but {content!r:.200}")
    owner = None
    if "weight" in header:
        owner = _referred(header.pop("weight"), before)
        if "weight" in tensors:
            raise FormatError("it has a weight, and refers to that of another table")
        tensors = {**tensors, "weight": table_of(owner).weight.detach()}
    vocabulary = None
    if isinstance(header.get("vocabulary"), int):
        vocabulary = getattr(_referred(header["vocabulary"], before), "vocabulary", None)
        if vocabulary is None:
            raise FormatError("it refers to the vocabulary of a table that has none")
    layer = _layer(content, header, tensors, verify, vocabulary)
    if owner is not None:
        table_of(layer).weight = table_of(owner).weight
    return layer


def _referred(number: Any, before: list[Any]) -> Any:
    if type(number) is not int or not 0 <= number < len(before):
        raise FormatError(f"it refers to another table than those before it (got {number!r:.100})")
    return before[number]


def _is_column(column: Any, tables: int) -> bool:
    return (
        isinstance(column, list)
        and len(column) == 2
        and isinstance(column[0], str)
        and type(column[1]) is int
        and 0 <= column[1] < tables
    )


def _layer(
    content: str,
    header: dict[str, Any],
    tensors: dict[str, Tensor],
    verify: bool,
    vocabulary: AnyVocabulary | None = None,
) -> Any:
    """A layer, whose vocabulary may have been read before."""
    expected = {"content", "settings"} | ({"vocabulary"} if content == "CategoryEmbedding" else set())
    if set(header) - ({"fresh_seed"} if content == "CategoryEmbedding" else set()) != expected:
        raise FormatError(f"the header must have {sorted(expected)} (got {sorted(header)})")
    weight = tensors.pop("weight", None)
    if weight is None or weight.ndim != 2:
        raise FormatError(
            f"a layer needs a 'weight' of two dimensions (got {None if weight is None else weight.shape})"
        )
    if content != "CategoryEmbedding":
        if tensors:
            raise FormatError(f"an {content} has no other tensors than 'weight' (got {sorted(tensors)})")
        return _make(_KINDS[content], weight.shape[0], weight, header["settings"])
    if vocabulary is None:
        vocabulary = from_tensors(header["vocabulary"], tensors, verify=verify)
    elif tensors:
        raise FormatError(f"its vocabulary is that of another table, and so has no tensors (got {sorted(tensors)})")
    if len(vocabulary) != weight.shape[0]:
        raise FormatError(f"the vocabulary has {len(vocabulary):,} ids, the weight {weight.shape[0]:,} rows")
    layer = _make(CategoryEmbedding, vocabulary, weight, header["settings"])
    seed = read_seed(header)
    layer.fresh_seed = layer.fresh_seed if seed is None else seed
    return layer


def _make(kind: Any, rows: Any, weight: Tensor, settings: Any) -> Any:
    """A layer of ``rows``, their number or their vocabulary, with ``weight`` itself as its weight."""
    bags = _has_bags(kind, settings)
    _check_settings(settings, bags, [_SEPARATOR] if bags and kind is CategoryEmbedding else [])
    arguments = {key: value for key, value in settings.items() if key != "requires_grad"}
    arguments["_weight"] = weight
    for key in ("max_norm", "norm_type"):
        arguments[key] = float(settings[key]) if isinstance(settings[key], str) else settings[key]
    if not bags:
        arguments["_freeze"] = not settings["requires_grad"]
    elif kind is CategoryEmbedding:
        arguments["pooling"] = arguments.pop("mode")
    try:
        # Torch decides by its own rules what is impossible, such as a padding_idx outside the table.
        return kind(rows, weight.shape[1], **arguments).requires_grad_(settings["requires_grad"])
    except (AssertionError, ValueError, RuntimeError) as fact:
        raise FormatError(f"the settings {settings} make no {kind.__name__} of {tuple(weight.shape)}: {fact}") from None


def _has_bags(kind: Any, settings: Any) -> bool:
    return kind is EmbeddingBag or (kind is CategoryEmbedding and isinstance(settings, dict) and "mode" in settings)


def _check_settings(settings: Any, bag: bool, more: list[str]) -> None:
    flags = ("requires_grad", *(_BAG_FLAGS if bag else _FLAGS))
    expected = {*flags, *(_BAG_OPTIONS if bag else _OPTIONS), *more}
    if not isinstance(settings, dict) or set(settings) != expected:
        raise FormatError(f"the settings must be {sorted(expected)} (got {settings!r:.500})")
    sound = {key: isinstance(settings[key], bool) for key in flags}
    sound["name"] = settings["name"] is None or isinstance(settings["name"], str)
    sound["padding_idx"] = settings["padding_idx"] is None or type(settings["padding_idx"]) is int
    sound["max_norm"] = settings["max_norm"] is None or _is_number(settings["max_norm"])
    sound["norm_type"] = _is_number(settings["norm_type"])
    sound["mode"] = not bag or settings["mode"] in MODES
    sound |= {key: settings[key] is None or isinstance(settings[key], str) for key in more}
    for key, is_sound in sound.items():
        if not is_sound:
            raise FormatError(f"the setting {key!r} cannot be {settings[key]!r:.200}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) or value in ("inf", "-inf")
