"""``save`` and ``load``: a layer as one ``.safetensors`` file, its vocabulary included; or a vocabulary alone.

Rules: what is read is a layer like the one saved, or an error; docs/format.md is the contract. Hooks, the training
flag and frozen rows are not part of it, as they are not of a ``state_dict``.
"""

from __future__ import annotations

import math
import os
from typing import Any

from torch import Tensor

from catembed.errors import FormatError
from catembed.functional import MODES
from catembed.nn.category_embedding import CategoryEmbedding
from catembed.nn.embedding import Embedding
from catembed.nn.embedding_bag import EmbeddingBag
from catembed.nn.mapped import MappedVocabulary, identity
from catembed.nn.vocabulary_state import AnyVocabulary, from_tensors, read_seed, to_tensors
from catembed.storage import read_file, write_file
from catembed.vocabulary import Vocabulary

__all__ = ["load", "save"]

Layer = Embedding | EmbeddingBag | CategoryEmbedding
_VOCABULARY = "Vocabulary"  # the content of a file that holds no layer

_KINDS = {kind.__name__: kind for kind in (Embedding, EmbeddingBag, CategoryEmbedding)}

_FLAGS = ("scale_grad_by_freq", "sparse")
_BAG_FLAGS = (*_FLAGS, "include_last_offset")
_OPTIONS = ("name", "padding_idx", "max_norm", "norm_type")
_BAG_OPTIONS = (*_OPTIONS, "mode")
_SEPARATOR = "separator"  # of a CategoryEmbedding whose settings are those of bags


def save(path: str | os.PathLike[str], layer: Layer | AnyVocabulary) -> None:
    """Write a layer, with its vocabulary if it has one, or a vocabulary; a crash leaves the old file or the new one.

    Raises:
        TypeError: something else than an ``Embedding``, ``EmbeddingBag``, ``CategoryEmbedding`` or vocabulary; a
            subclass too, which would be read as its base; a weight of a dtype that the file cannot hold, or without
            values.
        ValueError: settings that no layer can be made of, such as a ``name`` that is no text.
        OSError: the file cannot be written; the old one is as it was.

    >>> import tempfile, catembed
    >>> path = tempfile.mkdtemp() + "/fruit.safetensors"
    >>> save(path, CategoryEmbedding(["apple", "banana"], 3))
    >>> load(path)
    CategoryEmbedding(
      (vocabulary): Vocabulary(['apple', 'banana'])
      (embedding): Embedding(2, 3)
    )
    """
    if isinstance(layer, AnyVocabulary):
        header, tensors = to_tensors(layer, index=True)
        write_file(path, tensors, {"content": _VOCABULARY, "vocabulary": header})
        return
    table = layer.embedding if isinstance(layer, CategoryEmbedding) else layer
    if type(layer) not in _KINDS.values() or type(table) not in (Embedding, EmbeddingBag):
        raise TypeError(
            "save() takes a catembed.Embedding, EmbeddingBag, CategoryEmbedding or Vocabulary, and no subclass (got "
            f"{type(layer).__name__}): convert() makes them of torch's, other modules have a state_dict to save"
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
    write_file(path, {**tensors, "weight": weight}, header)


def load(path: str | os.PathLike[str], *, verify: bool = True) -> Any:
    """The layer that ``save`` wrote to ``path``: on the CPU, in training mode, its weight mapped from the file.

    Rows are read when they are first touched; training changes them in memory and never in the file, and replacing the
    file does not change the layer. A vocabulary is mapped too, with its hash table: processes that load one file share
    its pages, and those that a loaded vocabulary is sent to, by ``spawn`` as well, map the file themselves.

    ``verify=False`` leaves out the checksums of the weight and of all else above 16 MiB, so that opening takes a time
    that does not depend on its size. A large vocabulary is then looked at in samples only: whatever it holds, a value
    is found by its own bytes or not at all.

    Raises:
        FormatError: a file that is truncated, damaged, of an unknown version or not catembed's, with the reason.
        OSError: a file that cannot be opened, such as ``FileNotFoundError``.
    """
    seen = identity(path)
    tensors, header = read_file(path, verify=verify)
    try:
        loaded = _loaded(tensors, header, verify)
    except FormatError as fact:
        raise FormatError(f"{os.fspath(path)}: {fact}") from None
    vocabulary = loaded.vocabulary if isinstance(loaded, CategoryEmbedding) else loaded
    if isinstance(vocabulary, Vocabulary):
        vocabulary.origin = MappedVocabulary(path, vocabulary.fingerprint, seen)
    return loaded


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


def _loaded(tensors: dict[str, Tensor], header: dict[str, Any], verify: bool) -> Layer | AnyVocabulary:
    content = header.get("content")
    if content == _VOCABULARY:
        if set(header) != {"content", "vocabulary"}:
            raise FormatError(f"the header of a vocabulary must have content and vocabulary (got {sorted(header)})")
        return from_tensors(header["vocabulary"], tensors, verify=verify)
    if not isinstance(content, str) or content not in _KINDS:
        known = ", ".join((*_KINDS, _VOCABULARY))
        raise FormatError(f"the file holds no layer but {content!r:.200}; what is read is {known}")
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
    vocabulary = from_tensors(header["vocabulary"], tensors, verify=verify)
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
