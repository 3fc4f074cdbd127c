"""What a ``CategoryEmbedding`` does with the vocabulary of a ``state_dict``: take it over, match rows, or refuse it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from catembed.errors import FormatError, VocabularyError
from catembed.nn.growth import append_rows
from catembed.nn.match import difference, same_rows
from catembed.nn.vocabulary_state import AnyVocabulary, from_state
from catembed.optim import exact
from catembed.vocabulary import Vocabulary

if TYPE_CHECKING:
    from catembed.nn.category_embedding import CategoryEmbedding

__all__ = ["called", "other_vocabulary", "take_stored"]


def called(layer: CategoryEmbedding) -> str:
    """How messages call a layer."""
    return "the layer" if layer.embedding.name is None else f"layer {layer.embedding.name!r}"


def take_stored(layer: CategoryEmbedding, state_dict: dict[str, Any], prefix: str, state: Any, weight: str) -> None:
    """Take the stored vocabulary over if it is the layer's, or what it grew to; else raise, or match the rows."""
    try:
        stored, seed = from_state(state)
    except FormatError as fact:
        raise FormatError(f"{prefix}_extra_state of the state_dict: {fact}") from None
    if stored == layer.vocabulary or _is_grown(layer, stored, state_dict.get(weight)):
        own = layer.vocabulary
        if isinstance(own, Vocabulary) and isinstance(stored, Vocabulary) and stored.unseen == "grow":
            more = len(stored) - layer.embedding.num_embeddings
            if more > 0:  # first, since this may be refused
                append_rows(layer.embedding, layer.embedding.weight.new_zeros(more, layer.embedding.embedding_dim))  # pyright: ignore[reportCallIssue]
            own.take_over(stored)
        layer.fresh_seed = layer.fresh_seed if seed is None else seed
        return
    kinds = {stored.kind, layer.vocabulary.kind} - {"empty"}
    if layer.on_other_vocabulary == "error" or len(kinds) > 1 or weight not in state_dict:
        raise VocabularyError(other_vocabulary(layer, prefix, stored))
    rows, own = state_dict[weight], layer.embedding.weight
    if len(rows) != len(stored):
        raise FormatError(f"{weight} of the state_dict has {len(rows):,} rows, its vocabulary {len(stored):,} ids")
    if rows.shape[1:] == own.shape[1:]:  # if not, torch's own error tells it
        exact.settle(own)
        state_dict[weight] = _rearranged(own.detach().clone(), rows, *same_rows(layer.vocabulary, stored))


def _is_grown(layer: CategoryEmbedding, stored: AnyVocabulary, rows: Any) -> bool:
    """Whether the stored vocabulary is what this growing one became later, with rows that fit the table."""
    own = layer.vocabulary
    if not (isinstance(own, Vocabulary) and isinstance(stored, Vocabulary) and own.unseen == "grow"):
        return False
    weight = layer.embedding.weight
    fits = rows is not None and rows.shape == (len(stored), weight.shape[1])
    return fits and own.is_start_of(stored)


def other_vocabulary(layer: CategoryEmbedding, prefix: str, stored: AnyVocabulary) -> str:
    """What to say of a stored vocabulary that is not the layer's."""
    return (
        f"the state_dict{f' at {prefix[:-1]!r}' if prefix else ''} has another vocabulary than {called(layer)}: "
        f"{difference(layer.vocabulary, stored)}. Nothing of this layer has changed. Load it into a layer made "
        "with the stored vocabulary, or, if the kinds agree, set on_other_vocabulary = 'match' on this layer to "
        "load the rows by category"
    )


def _rearranged(own: Tensor, rows: Tensor, here: Tensor, there: Tensor) -> Tensor:
    if own.is_meta:
        raise RuntimeError("rows cannot be matched into a layer on the meta device: new categories have no values")
    own[here.to(own.device)] = rows[there.to(rows.device)].to(own)
    return own
