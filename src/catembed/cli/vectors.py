"""``catembed vectors``: the vectors of one column as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from catembed.cli.output import console


def vectors(
    model: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that catembed fit wrote.")],
    column: Annotated[str, typer.Argument(help="A categorical column.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .csv, .parquet or .arrow.")],
) -> None:
    """Write the vectors of COLUMN: one row per id, with its category, count and numbers v0, v1, ….

    The column 'row' tells categories from the rows that missing and unseen values have, and from buckets of a cross.
    """
    import pyarrow as pa

    from catembed import tabular
    from catembed.vocabulary import CrossVocabulary

    tabular.check_file(out)
    layer = tabular.load_layer(model, column)
    vocabulary, weight = layer.vocabulary, layer.embedding.weight.detach().numpy()
    kinds = ["bucket" if isinstance(vocabulary, CrossVocabulary) else "category"] * len(vocabulary)
    for kind, reserved in (("missing", vocabulary.missing_id), ("unknown", vocabulary.unknown_id)):
        if reserved is not None:
            kinds[reserved] = kind
    names = pa.concat_arrays([pa.nulls(vocabulary.num_reserved, vocabulary.categories.type), vocabulary.categories])
    columns = {"id": pa.array(range(len(vocabulary))), "row": pa.array(kinds), "category": names}
    if vocabulary.counts is not None:
        columns["count"] = pa.array(vocabulary.counts)
    columns |= {f"v{place}": pa.array(numbers) for place, numbers in enumerate(weight.T.copy())}
    tabular.write(pa.table(columns), out)
    console().print(f"Wrote {out}: {len(vocabulary):,} rows of {weight.shape[1]} numbers", soft_wrap=True)
