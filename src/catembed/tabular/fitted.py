"""What ``fit`` gives: trained layers, predictions, a report; and the folder it is kept in.

A folder has one ``.safetensors`` file per categorical column, or for all that share a vocabulary, each a
``CategoryEmbedding`` that ``catembed.load`` opens on its own; ``model.safetensors``, the rest of the network and the
target encodings; ``config.json``, how a table is read; ``report.json``, how training went. It appears whole or not at
all.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from catembed.errors import FormatError, TableError
from catembed.nn import CategoryEmbedding, load, save
from catembed.storage import read_file, write_file
from catembed.tabular import folder
from catembed.tabular.encoding import Encoder, Rows, Scale
from catembed.tabular.model import Inputs, Network
from catembed.tabular.models import kind
from catembed.tabular.objective import Objective
from catembed.tabular.reading import read
from catembed.tabular.schema import CROSS, Schema
from catembed.tabular.target import Target
from catembed.tabular.target_encoding import Cells, TargetEncoding
from catembed.tabular.training import outputs

_CONFIG, _MODEL, _REPORT = "config.json", "model.safetensors", "report.json"
_FORMAT, _VERSION, _FIRST_VERSION = "catembed.tabular", 2, 1


@dataclass(frozen=True)
class Fitted:
    """A trained model of a table.

    ``schema`` says what was made of each column, ``model_name`` which model it is (``"mlp"``, ``"fm"``, …), ``report``
    (plain JSON) how training went.
    """

    target: Target
    schema: Schema
    encoder: Encoder
    target_encoding: TargetEncoding
    objective: Objective
    model_name: str
    model: Network
    report: dict[str, Any]

    @property
    def layers(self) -> dict[str, CategoryEmbedding]:
        """The trained layer of each column of categories or lists, by its name.

        A part of a date is called ``"time:hour"``, a cross ``"origin×dest"``. Columns that share a vocabulary have the
        same layer.
        """
        return self.model.columns.layers()

    def predict(self, table: Any) -> pa.Table:
        """Predictions for a table, in the order of its rows.

        Args:
            table: a file, a glob or a table in memory, with the columns the model was trained on.

        Returns:
            ``prediction``, and for classes ``probability_<class>`` for each.

        Raises:
            TableError: a column is absent or holds values of another kind.
        """
        values = self.objective.predictions(outputs(self.model, self.inputs(self.encoder.encode(self.read(table)))))
        if self.objective.task == "regression":
            return pa.table({"prediction": values})
        classes = pa.array(self.objective.classes)
        columns = {"prediction": classes.take(pa.array(values.argmax(1)))}
        columns |= {f"probability_{class_name(each)}": values[:, at] for at, each in enumerate(self.objective.classes)}
        return pa.table(columns)

    def read(self, table: Any) -> pa.Table:
        """A table as the model's columns need it: text stays text, even where a CSV has only digits."""
        vocabularies = self.encoder.vocabularies
        text = [
            each.column
            for each in self.encoder.features
            if each.name in vocabularies and vocabularies[each.name].kind == "string" and each.role != CROSS
        ]
        return read(table, text=text)

    def inputs(self, rows: Rows) -> Inputs:
        """Encoded rows as the model takes them."""
        return Inputs(rows.ids, rows.bags, rows.numbers, self.target_encoding.encode(rows.ids))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the folder ``path``; one that an earlier ``save`` made is replaced.

        Raises:
            TableError: something else is there, or the place cannot be written.
        """
        layers = self.layers
        first: dict[int, str] = {}  # the column that names the file of a table
        for name, layer in layers.items():
            first.setdefault(id(layer), name)
        named = folder.file_names(list(first.values()), taken=(_MODEL, _CONFIG, _REPORT))
        files = {name: named[first[id(layer)]] for name, layer in layers.items()}
        with folder.replaced(path, _CONFIG, _FORMAT) as partial:
            for name, file in named.items():
                save(partial / file, layers[name])
            write_file(partial / _MODEL, self._tensors(), {"content": _FORMAT, "version": _VERSION})
            _write_json(partial / _REPORT, self.report)
            _write_json(partial / _CONFIG, self._config(files))

    def _tensors(self) -> dict[str, torch.Tensor]:
        tensors = {
            f"network.{key}": value for key, value in self.model.state_dict().items() if not key.startswith("columns.")
        }
        for place, cells in enumerate(self.target_encoding.cells):
            tensors[f"target_encoding.{place}.keys"] = torch.from_numpy(cells.keys)
            tensors[f"target_encoding.{place}.values"] = torch.from_numpy(cells.values)
        return tensors

    def _config(self, files: dict[str, str]) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "model": self.model_name,
            "target": self.target.to_dict(),
            "objective": asdict(self.objective),
            "schema": self.schema.to_dict(),
            "files": files,
            "scales": {name: scale.to_dict() for name, scale in self.encoder.scales.items()},
            "combinations": [list(cells.columns) for cells in self.target_encoding.cells],
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Fitted:
        """Open a folder that ``save`` wrote.

        Raises:
            FormatError: it is none, or a part of it is damaged.
        """
        path = Path(path)
        config = _read_config(path)
        try:
            return cls._from_config(path, config)
        except (KeyError, TypeError, ValueError, RuntimeError, OSError) as fact:
            if isinstance(fact, FormatError):
                raise
            raise FormatError(f"{path} is damaged or was changed: {type(fact).__name__}: {fact}") from None

    @classmethod
    def _from_config(cls, path: Path, config: dict[str, Any]) -> Fitted:
        schema, objective = Schema.from_dict(config["schema"]), Objective(**config["objective"])
        loaded = {file: load(path / file) for file in dict.fromkeys(config["files"].values())}
        layers = {name: loaded[file] for name, file in config["files"].items()}
        scales = {name: Scale.from_dict(stored) for name, stored in config["scales"].items()}
        encoder = Encoder(schema.features, {name: layer.vocabulary for name, layer in layers.items()}, scales)
        tensors, _ = read_file(path / _MODEL)
        sizes = tuple(len(layer) for layer in layers.values())[: encoder.num_categorical]
        means = 1 if objective.task != "multiclass" else len(objective.classes)
        cells = [
            Cells(
                tuple(columns),
                tensors[f"target_encoding.{place}.keys"].numpy(),
                tensors[f"target_encoding.{place}.values"].numpy(),
            )
            for place, columns in enumerate(config["combinations"])
        ]
        target_encoding = TargetEncoding(sizes, np.zeros(means, np.float32), cells)
        name = config.get("model", "mlp")
        with torch.random.fork_rng(devices=[]):
            columns = kind(name).columns_from(layers, len(encoder.lists))
            model = kind(name).build(columns, encoder.num_numbers, target_encoding.num_inputs, objective.num_outputs)
        network = {key.removeprefix("network."): each for key, each in tensors.items() if key.startswith("network.")}
        own = {key: value for key, value in model.state_dict().items() if key.startswith("columns.")}
        model.load_state_dict(own | network)
        model.eval()
        report = json.loads((path / _REPORT).read_text(encoding="utf-8"))
        return cls(Target(**config["target"]), schema, encoder, target_encoding, objective, name, model, report)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Refuse, before any work is done, a folder that ``Fitted.save`` would refuse.

    Raises:
        TableError: something else is there, or the place cannot be written.
    """
    folder.check_replaceable(path, _CONFIG, _FORMAT)


def class_name(value: Any) -> str:
    """A class as files and tables write it: ``true`` rather than ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def load_layer(path: str | os.PathLike[str], column: str) -> CategoryEmbedding:
    """The layer of one column of a folder, without the rest of the model.

    Raises:
        TableError: the model has no such categorical column.
        FormatError: no such folder, or a damaged one.
    """
    files = _read_config(Path(path))["files"]
    if column not in files:
        raise TableError(f"{path} has no vectors of a column {column!r}; it has those of: {', '.join(files)}")
    return load(Path(path) / files[column])


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise FormatError(f"{path} is not a folder that catembed fit wrote: there is no such folder")
    config = folder.marked(path, _CONFIG, _FORMAT)
    if config is None:
        raise FormatError(f"{path} is not a folder that catembed fit wrote: it has no {_CONFIG} of one")
    if config.get("version") not in (_FIRST_VERSION, _VERSION):
        raise FormatError(
            f"{path} is of version {config.get('version')!r}; this catembed reads {_FIRST_VERSION} to {_VERSION}"
        )
    return config


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
