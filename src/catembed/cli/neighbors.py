"""``catembed neighbors``: which categories of a column are most alike."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from catembed.cli.output import console, print_json, show, table

if TYPE_CHECKING:
    from catembed import CategoryEmbedding


def neighbors(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that catembed fit wrote.")],
    column: Annotated[str, typer.Argument(help="A categorical column.")],
    value: Annotated[str, typer.Argument(help="One of its categories.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbours.")] = 10,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the categories of COLUMN whose vectors are most like that of VALUE, by cosine similarity."""
    from catembed import tabular

    layer = tabular.load_layer(model, column)
    found = _nearest(layer, _category(layer, column, value), k)
    if as_json:
        print_json({"column": column, "value": value, "neighbors": found})
        return
    shown = table("category", "cosine", "rows", right=("cosine", "rows"))
    for each in found:
        count = "–" if each["count"] is None else f"{each['count']:,}"
        shown.add_row(str(each["category"]), f"{each['cosine']:.4f}", count)
    show(console(), f"Nearest to {value} in {column}", shown)


def _category(layer: CategoryEmbedding, column: str, value: str) -> Any:
    """The category that the text stands for.

    Raises:
        TableError: there is none.
    """
    from catembed.errors import TableError
    from catembed.vocabulary import CrossVocabulary

    vocabulary = layer.vocabulary
    if isinstance(vocabulary, CrossVocabulary):
        raise TableError(
            f"column {column!r} is a cross: its combinations are hashed, so that no row has one of its own"
        )
    if not len(vocabulary.categories):
        raise TableError(f"column {column!r} has no categories: it had no value in training")
    text = {str(each).lower() if vocabulary.kind == "boolean" else str(each): each for each in vocabulary}
    wanted = value.lower() if vocabulary.kind == "boolean" else value
    if wanted in text:
        return text[wanted]
    close = difflib.get_close_matches(value, text, n=3, cutoff=0.6)
    advice = f"did you mean {' or '.join(map(repr, close))}?" if close else f"it has, for instance, {list(text)[:5]}"
    raise TableError(f"column {column!r} has no category {value!r}; {advice}")


def _nearest(layer: CategoryEmbedding, category: Any, k: int) -> list[dict[str, Any]]:
    import torch

    vocabulary = layer.vocabulary
    vectors = torch.nn.functional.normalize(layer.embedding.weight.detach().double(), dim=1)
    own = int(vocabulary.encode(category))
    cosines = vectors @ vectors[own]
    cosines[: vocabulary.num_reserved] = -torch.inf
    cosines[own] = -torch.inf
    best = cosines.topk(min(k, len(vocabulary.categories) - 1)).indices.tolist()
    counts = vocabulary.counts
    return [
        {
            "category": vocabulary.decode(place) if vocabulary.kind in _PLAIN else str(vocabulary.decode(place)),
            "cosine": round(float(cosines[place]), 6),
            "count": None if counts is None else int(counts[place]),
        }
        for place in best
    ]


_PLAIN = ("string", "integer", "boolean")  # the kinds that JSON has
