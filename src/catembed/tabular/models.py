"""The models by name: what each is made of and how it is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catembed.errors import TableError
from catembed.nn import CategoryEmbedding
from catembed.tabular import factorisation as fm
from catembed.tabular import model as mlp
from catembed.tabular.columns import Columns
from catembed.tabular.training import Recipe
from catembed.vocabulary import CrossVocabulary, Vocabulary


@dataclass(frozen=True)
class Kind:
    """A model, before there is data.

    ``encodes`` tells whether target encodings are among its inputs.
    """

    dimension: Callable[[int], int]
    pooling: str
    spread: float
    recipe: Recipe
    encodes: bool
    network: type[mlp.EntityEmbeddings] | type[fm.FactorisationMachine]

    def columns(
        self,
        vocabularies: Mapping[str, Vocabulary | CrossVocabulary],
        num_lists: int,
        embedding_dim: int | None = None,
    ) -> Columns:
        """New layers for these columns, those of lists last; their vectors are of one length, if it is given."""
        dimension = self.dimension if embedding_dim is None else lambda rows: embedding_dim
        return Columns.of(vocabularies, dimension, num_lists, self.pooling, self.spread)

    def columns_from(self, layers: Mapping[str, CategoryEmbedding], num_lists: int) -> Columns:
        """The layers of a saved model."""
        return Columns(layers, num_lists, self.pooling)

    def build(self, columns: Columns, num_numbers: int, num_encoded: int, num_outputs: int) -> mlp.Network:
        """The network on top of the layers."""
        if issubclass(self.network, mlp.EntityEmbeddings):
            return self.network(columns, num_numbers, num_encoded, num_outputs)
        return self.network(columns, num_numbers, num_outputs)


_FACTORS = Recipe(learning_rate=1e-2, penalty=20.0, hide_rare=False)
MODELS = {
    "mlp": Kind(mlp.dimensions, mlp.POOLING, mlp.SPREAD, Recipe(), True, mlp.EntityEmbeddings),
    "fm": Kind(lambda rows: fm.DIMENSION, fm.POOLING, fm.SPREAD, _FACTORS, False, fm.FactorisationMachine),
    "deepfm": Kind(lambda rows: fm.DIMENSION, fm.POOLING, fm.SPREAD, _FACTORS, False, fm.DeepFM),
}


def kind(name: str) -> Kind:
    """The model of this name.

    Raises:
        TableError: there is none.
    """
    if name not in MODELS:
        raise TableError(f"model {name!r} is none of {', '.join(MODELS)}")
    return MODELS[name]
