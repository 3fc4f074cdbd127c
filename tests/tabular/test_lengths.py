"""Vectors of a length that is asked for, and fitting without the baseline."""

import pytest

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
