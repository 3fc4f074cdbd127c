"""Vectors of a length that is asked for, and fitting without the baseline."""

import pytest
import torch

from catembed import tabular
from catembed.errors import TableError


def test_embedding_dim_is_that_of_all_layers_and_is_kept_in_the_folder(table, tmp_path):
    fitted = tabular.fit(table, "price > 12", embedding_dim=3, epochs=1)
    assert {layer.embedding.embedding_dim for layer in fitted.layers.values()} == {3}
    fitted.save(tmp_path / "model")
    loaded = tabular.Fitted.load(tmp_path / "model")
    assert loaded.predict(table).equals(fitted.predict(table))


def test_embedding_dim_of_nothing():
    with pytest.raises(TableError, match="embedding_dim must be at least 1, got 0"):
        tabular.fit({"c": ["a", "b"], "y": [0, 1]}, "y", embedding_dim=0)


def test_without_the_baseline_the_vectors_are_the_same(table):
    one, two = (tabular.fit(table, "price > 12", baseline=each, epochs=1) for each in (True, False))
    assert "one-hot linear" in one.report["validation"]
    assert "one-hot linear" not in two.report["validation"]
    assert one.predict(table).equals(two.predict(table))


@pytest.mark.parametrize("dim", [5, 16, 64])
@pytest.mark.parametrize("model", ["fm", "deepfm"])
def test_a_factorisation_machine_of_any_length_finds_what_pairs_tell(model, dim, tmp_path):
    """The target is a product: one column alone tells nothing of it."""
    torch.manual_seed(0)
    first, second = torch.randint(2, (2, 2000)).tolist()
    rows = {
        "a": [f"p{each}" for each in first],
        "b": [f"q{each}" for each in second],
        "y": [2.0 * (one ^ other) - 1 for one, other in zip(first, second, strict=True)],
    }
    fitted = tabular.fit(rows, "y", model=model, embedding_dim=dim, epochs=20, task="regression")
    assert fitted.report["validation"]["catembed"]["RMSE"] < 0.5
    assert {layer.embedding.embedding_dim for layer in fitted.layers.values()} == {dim}
    fitted.save(tmp_path / "model")
    assert tabular.Fitted.load(tmp_path / "model").predict(rows).equals(fitted.predict(rows))


def test_one_feature_has_no_pairs():
    rows = {"a": ["x", "y"] * 50, "y": [0.5, 1.5] * 50}
    with pytest.raises(TableError, match="of pairs of features, and there is one: 'a'"):
        tabular.fit(rows, "y", model="fm", epochs=1, task="regression")
    assert "a" in tabular.fit(rows, "y", model="deepfm", epochs=1, task="regression").layers
