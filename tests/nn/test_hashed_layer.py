"""`CategoryEmbedding` whose rows are shared: the buckets of a vocabulary, and those of a `HashVocabulary`."""

import copy

import pytest
import torch

import catembed
from catembed import CategoryEmbedding, HashVocabulary, Vocabulary, VocabularyError
from catembed.optim import Adam


def step(layer, column):
    optimizer = Adam(layer.parameters(), lr=0.1)
    layer(column).square().sum().backward()
    optimizer.step()


def loaded_into(fresh, layer):
    fresh.load_state_dict(layer.state_dict())
    return fresh


def test_hashed_rows_train():
    torch.manual_seed(0)
    layer = CategoryEmbedding(Vocabulary(["apple", "banana"], unseen="hash", buckets=4, missing="own"), 3, sparse=True)
    ids = layer.vocabulary.encode(["kiwi", "apple"])
    before = layer.embedding.weight.detach().clone()
    step(layer, ["kiwi", "apple"])
    changed = (layer.embedding.weight != before).any(1)
    assert changed.nonzero().flatten().tolist() == sorted(ids.tolist())
    assert 1 <= ids[0] <= 4


@pytest.mark.parametrize("hashes", [1, 3])
def test_a_hash_vocabulary_gives_the_mean_of_its_rows(hashes, tmp_path):
    torch.manual_seed(0)
    layer = CategoryEmbedding(HashVocabulary(50, hashes=hashes, missing="own", name="clicks"), 4, sparse=True)
    assert layer.embedding.name == "clicks"
    column = [["a", "b"], [None, "c"]]
    ids = layer.vocabulary.encode(column).reshape(2, 2, hashes)
    assert torch.allclose(layer(column), layer.embedding.weight[ids].mean(2))
    assert layer("a").shape == (4,)
    before = layer.embedding.weight.detach().clone()
    step(layer, ["a"])
    changed = (layer.embedding.weight != before).any(1)
    assert set(changed.nonzero().flatten().tolist()) == set(ids[0, 0].tolist())
    catembed.save(tmp_path / "layer", layer)
    for other in (catembed.load(tmp_path / "layer"), copy.deepcopy(layer)):
        assert other.vocabulary == layer.vocabulary
        assert torch.equal(other(column), layer(column))
    fresh = CategoryEmbedding(HashVocabulary(50, hashes=hashes, missing="own"), 4)
    assert torch.equal(loaded_into(fresh, layer)(column), layer(column))
    with pytest.raises(VocabularyError, match="another vocabulary"):
        CategoryEmbedding(HashVocabulary(50, hashes=hashes + 1, missing="own"), 4).load_state_dict(layer.state_dict())


def test_ids_of_several_hashes_must_be_as_encode_gives_them():
    layer = CategoryEmbedding(HashVocabulary(10, hashes=2, missing="own"), 3)
    ids = layer.vocabulary.encode(["a", "b", "c"])
    assert torch.equal(layer(ids=ids), layer(["a", "b", "c"]))
    for wrong in (torch.tensor([1, 2, 3]), torch.tensor(1), torch.zeros(2, 3, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"ids have shape \(\*, 2\)"):
            layer(ids=wrong)
    with pytest.raises(ValueError, match="mean of 2 rows"):
        layer.to_torch()
    assert torch.equal(layer([None]), layer.embedding.weight[:1])  # a row of their own
