"""``catembed info``: what a folder or a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from catembed.cli.output import console, figure, print_json, show, table


def info(
    path: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A folder of catembed fit, or one saved layer.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell what a fitted model or a saved layer is."""
    if path.is_dir():
        _show_model(path, as_json)
    else:
        _show_layer(path, as_json)


def _show_model(path: Path, as_json: bool) -> None:
    from catembed import tabular

    fitted = tabular.Fitted.load(path)
    report = fitted.report
    if as_json:
        print_json(report)
        return
    screen = console()
    screen.print(f"{path}: predicts {report['target']} ({report['task']})", soft_wrap=True)
    names = list(report["validation"]["catembed"])
    title = f"Validation on {report['rows']['validation']:,} rows"
    metrics = table("model", *names, right=tuple(names))
    for model, values in report["validation"].items():
        metrics.add_row(model, *(figure(name, values[name]) for name in names))
    show(screen, title, metrics)
    tables = table("column", "rows", "dimension", "most frequent", right=("rows", "dimension"))
    for name, layer in fitted.layers.items():
        some = ", ".join(str(each) for each in layer.vocabulary.categories[:4].to_pylist())
        tables.add_row(name, f"{len(layer):,}", str(layer.embedding.embedding_dim), some)
    show(screen, "Vectors", tables)


def _show_layer(path: Path, as_json: bool) -> None:
    import catembed

    layer = catembed.load(path)
    embedding = getattr(layer, "embedding", layer)
    facts: dict[str, Any] = {
        "layer": type(layer).__name__,
        "rows": embedding.num_embeddings,
        "dimension": embedding.embedding_dim,
        "dtype": str(embedding.weight.dtype).removeprefix("torch."),
        "bytes": path.stat().st_size,
    }
    if isinstance(layer, catembed.CategoryEmbedding):
        vocabulary = layer.vocabulary
        facts |= {
            "column": vocabulary.name,
            "categories": f"{vocabulary.kind}, {len(vocabulary.categories):,} of them",
            "unseen": vocabulary.unseen,
            "missing": vocabulary.missing,
            "fingerprint": vocabulary.fingerprint,
        }
    if as_json:
        print_json(facts)
        return
    shown = table("", "")
    shown.show_header = False
    for name, value in facts.items():
        shown.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    show(console(), str(path), shown)
