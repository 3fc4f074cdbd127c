"""``save`` and ``load``: the layer that comes back is the layer that was saved, or the reason why not."""

import math
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import catembed
from catembed import CategoryEmbedding, Embedding, EmbeddingBag, FormatError, Vocabulary, load, save
from catembed.storage import read_file, write_file

SETTINGS = [
    {},
    {"padding_idx": 2},
    {"padding_idx": -1},
    {"max_norm": 0.5, "norm_type": 1.0},
    {"max_norm": 2, "norm_type": math.inf},
    {"scale_grad_by_freq": True},
    {"sparse": True},
    {"name": "frü\ud800it\n\0"},
    {"dtype": torch.float64},
    {"dtype": torch.bfloat16},
    {"dtype": torch.float16},
]
BAG_SETTINGS = [*SETTINGS, {"mode": "sum"}, {"mode": "max"}, {"include_last_offset": True}]
VOCABULARIES = [
    Vocabulary(["apple", "banana", "", "x\0y"], name="fruit"),
    Vocabulary([3, -1, 2**63 - 1, 0]),
    Vocabulary([b"a", b"\xff", b"", b"b"]),
    Vocabulary([True, False], unseen="unknown", missing="own"),
    Vocabulary.fit(["b", "a", "b", None], unseen="unknown", missing="own", name="letters"),
]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "layer.safetensors"


def facts(layer):
    """All that the layer is, besides what torch keeps for its own working."""
    return {key: value for key, value in vars(layer).items() if key not in ("_parameters", "_modules")}


def assert_same_layer(got, expected):
    assert type(got) is type(expected)
    assert facts(got) == facts(expected)
    (got_weight,), (weight,) = got.parameters(), expected.parameters()
    assert got_weight.requires_grad == weight.requires_grad
    assert got_weight.dtype == weight.dtype
    assert torch.equal(got_weight, weight)


def saved(path, layer):
    save(path, layer)
    return load(path)


@pytest.mark.parametrize("kwargs", SETTINGS, ids=repr)
def test_embeddings_come_back(path, kwargs):
    layer = Embedding(4, 3, **kwargs)
    assert_same_layer(saved(path, layer), layer)


@pytest.mark.parametrize("kwargs", BAG_SETTINGS, ids=repr)
def test_bags_come_back(path, kwargs):
    layer = EmbeddingBag(4, 3, **kwargs)
    assert_same_layer(saved(path, layer), layer)


@pytest.mark.parametrize("kwargs", SETTINGS, ids=repr)
def test_category_embeddings_come_back(path, kwargs):
    layer = CategoryEmbedding(["apple", "banana", "candy", "durian"], 3, **kwargs)
    back = saved(path, layer)
    assert_same_layer(back.embedding, layer.embedding)
    assert back.vocabulary == layer.vocabulary
    assert torch.equal(back["candy"], layer["candy"])


@pytest.mark.parametrize("vocabulary", VOCABULARIES, ids=repr)
def test_vocabularies_come_back(path, vocabulary):
    back = saved(path, CategoryEmbedding(vocabulary, 3)).vocabulary
    assert back == vocabulary
    assert back.fingerprint == vocabulary.fingerprint
    assert back.name == vocabulary.name
    assert (back.counts is None) == (vocabulary.counts is None)
    assert back.counts is None or back.counts.tolist() == vocabulary.counts.tolist()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0)])
@pytest.mark.parametrize("kind", [Embedding, EmbeddingBag])
def test_empty_tables_come_back(path, kind, shape):
    layer = kind(*shape)
    assert_same_layer(saved(path, layer), layer)


def test_an_empty_vocabulary_comes_back(path):
    for vocabulary in (Vocabulary([]), Vocabulary([], unseen="unknown")):
        layer = CategoryEmbedding(vocabulary, 3)
        back = saved(path, layer)
        assert back.vocabulary == vocabulary
        assert torch.equal(back.embedding.weight, layer.embedding.weight)


def test_frozen_and_integer_weights_come_back(path):
    for weight in (torch.ones(3, 2), torch.arange(6).view(3, 2), torch.ones(3, 2, dtype=torch.int8)):
        layer = Embedding.from_pretrained(weight)
        assert_same_layer(saved(path, layer), layer)
    bag = EmbeddingBag.from_pretrained(torch.ones(3, 2))
    assert_same_layer(saved(path, bag), bag)


def test_a_weight_that_is_not_contiguous_comes_back(path):
    layer = Embedding(5, 3, _weight=torch.arange(30.0).view(3, 10).t()[::2])
    assert_same_layer(saved(path, layer), layer)


def test_any_safetensors_reader_reads_it(path):
    layer = CategoryEmbedding(["apple", "banana"], 3)
    save(path, layer)
    tensors = load_file(path)
    assert torch.equal(tensors["weight"], layer.embedding.weight)
    assert bytes(tensors["vocabulary.categories.bytes"].tolist()) == b"applebanana"
    assert tensors["vocabulary.categories.offsets"].tolist() == [0, 5, 11]


def test_a_loaded_layer_trains_and_the_file_stays(path):
    layer = CategoryEmbedding(["apple", "banana"], 3, sparse=True)
    save(path, layer)
    before = path.read_bytes()
    loaded = load(path)
    optimizer = catembed.optim.AdamW(loaded.parameters(), lr=0.1)
    loaded(["banana"]).sum().backward()
    optimizer.step()
    assert torch.equal(loaded["apple"], layer["apple"])
    assert not torch.equal(loaded["banana"], layer["banana"])
    assert path.read_bytes() == before
    save(path, loaded)
    assert torch.equal(load(path)["banana"], loaded["banana"])


def test_a_loaded_layer_does_not_notice_the_file_replaced(path):
    layer = CategoryEmbedding(["apple", "banana"], 3)
    save(path, layer)
    loaded = load(path)
    save(path, CategoryEmbedding(["x", "y"], 3))
    assert torch.equal(loaded["banana"], layer["banana"])
    assert list(loaded.vocabulary) == ["apple", "banana"]


def test_rows_that_an_exact_optimiser_left_behind_are_brought_up_to_date(path):
    layers = {}
    for name in ("saved", "flushed"):
        torch.manual_seed(0)
        layer = Embedding(6, 3, sparse=True)
        optimizer = catembed.optim.Adam(layer.parameters(), lr=0.1, untouched="exact")
        for ids in ([0, 1, 2, 3, 4, 5], [0, 1], [0, 2]):
            optimizer.zero_grad()
            layer(ids).square().sum().backward()
            optimizer.step()
        layers[name] = (layer, optimizer)
    save(path, layers["saved"][0])
    layer, optimizer = layers["flushed"]
    lagging = layer.weight.detach().clone()
    optimizer.flush()
    assert not torch.equal(lagging, layer.weight)
    assert torch.equal(load(path).weight, layer.weight)


def test_loading_imports_no_more_than_it_needs(path):
    save(path, Embedding(3, 5))
    code = "import sys, catembed; catembed.load(sys.argv[1]); print({'pyarrow', 'numba', 'pandas'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


# What is refused


class Mine(Embedding):
    pass


@pytest.mark.parametrize("thing", [nn.Embedding(3, 5), nn.Linear(3, 5), Mine(3, 5), torch.ones(3), None], ids=repr)
def test_what_is_no_layer_of_ours_is_not_saved(path, thing):
    with pytest.raises(TypeError, match=r"save\(\) takes a catembed\.Embedding"):
        save(path, thing)
    assert not path.exists()


def test_a_layer_without_values_is_not_saved(path):
    save(path, Embedding(3, 5))
    before = path.read_bytes()
    with pytest.raises(TypeError, match="on meta"):
        save(path, Embedding(3, 5, device="meta"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change", [{"max_norm": math.nan}, {"name": 7}, {"name": pathlib.Path("x")}, {"padding_idx": 3}], ids=repr
)
def test_what_could_not_be_loaded_is_not_saved(path, change):
    save(path, Embedding(3, 5))
    before = path.read_bytes()
    layer = Embedding(3, 5)
    vars(layer).update(change)
    with pytest.raises(ValueError, match=r"the layer cannot be saved: .*" + next(iter(change))):
        save(path, layer)
    assert path.read_bytes() == before


def test_settings_that_came_as_numpy_numbers_come_back(path):
    layer = Embedding(4, 3, np.int64(-2), np.float32(0.5), np.int32(1), np.bool_(True))
    assert_same_layer(saved(path, layer), layer)


def test_every_flipped_bit_and_every_truncation_is_told(path):
    layer = CategoryEmbedding(Vocabulary.fit(["apple", "banana"], name="fruit"), 2, max_norm=1.0)
    save(path, layer)
    data = bytearray(path.read_bytes())
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"layer\.safetensors: "):
            load(path)
        data[at] ^= 1 << at % 8
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError, match=r"layer\.safetensors: "):
            load(path)


def test_without_verify_a_damaged_weight_is_read_and_nothing_else(path):
    layer = CategoryEmbedding(["apple", "banana"], 2)
    save(path, layer)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError, match="tensor 'weight' is damaged"):
        load(path)
    assert torch.equal(load(path, verify=False)["apple"], layer["apple"])
    data[data.index(b"applebanana")] ^= 1
    path.write_bytes(data)
    with pytest.raises(FormatError):
        load(path, verify=False)


def forge(path, change):
    """The file with ``change(tensors, header)`` made by our own writer, so that all its checksums are right."""
    tensors, header = read_file(path)
    weight = tensors.pop("weight")
    change(tensors, header)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    write_file(path, tensors if "weight" in tensors else {**tensors, "weight": weight.clone()}, header)


def setting(**change):
    return lambda tensors, header: header["settings"].update(change)


def tensor(**change):
    return lambda tensors, header: tensors.update({name.replace("__", "."): value for name, value in change.items()})


FORGERIES = {
    "content": (lambda t, h: h.update(content="Linear"), "holds no layer but 'Linear'"),
    "content is no text": (lambda t, h: h.update(content=["Embedding"]), "holds no layer"),
    "no content": (lambda t, h: h.pop("content"), "holds no layer but None"),
    "an Embedding with a vocabulary": (lambda t, h: h.update(content="Embedding"), "header must have"),
    "no settings": (lambda t, h: h.pop("settings"), "header must have"),
    "settings of a bag": (setting(mode="sum"), "settings must be"),
    "a setting is gone": (lambda t, h: h["settings"].pop("sparse"), "settings must be"),
    "settings are no object": (lambda t, h: h.update(settings=[1]), "settings must be"),
    "sparse": (setting(sparse=1), "'sparse' cannot be 1"),
    "requires_grad": (setting(requires_grad=None), "'requires_grad' cannot be None"),
    "max_norm": (setting(max_norm="large"), "'max_norm' cannot be 'large'"),
    "max_norm is a bool": (setting(max_norm=True), "'max_norm' cannot be True"),
    "norm_type": (setting(norm_type=None), "'norm_type' cannot be None"),
    "name": (setting(name=7), "'name' cannot be 7"),
    "padding_idx": (setting(padding_idx=0.0), "'padding_idx' cannot be 0.0"),
    "padding_idx outside": (setting(padding_idx=3), "must be within num_embeddings"),
    "no weight": (tensor(weight=torch.ones(3)), "'weight' of two dimensions"),
    "rows that do not match": (tensor(weight=torch.ones(4, 2)), "vocabulary has 3 ids, the weight 4 rows"),
    "a trainable integer weight": (tensor(weight=torch.ones(3, 2, dtype=torch.int32)), "settings .* make no"),
    "another tensor": (tensor(more=torch.ones(3)), "a vocabulary has tensors"),
    "a vocabulary of floats": (tensor(vocabulary__counts=torch.ones(3).bfloat16()), "a vocabulary has tensors"),
    "counts that do not match": (tensor(vocabulary__counts=torch.arange(2)), "counts"),
    "offsets that decrease": (tensor(vocabulary__categories__offsets=torch.tensor([0, 6, 5, 16])), "offsets"),
    "offsets out of bounds": (tensor(vocabulary__categories__offsets=torch.tensor([0, 5, 11, 99])), "offsets"),
    "other categories": (tensor(vocabulary__categories__offsets=torch.tensor([0, 4, 11, 16])), "index is not that of"),
    "a vocabulary that is none": (lambda t, h: h.update(vocabulary=7), "header of a vocabulary"),
    "no vocabulary": (lambda t, h: h.pop("vocabulary"), "header must have"),
    "another policy": (lambda t, h: h["vocabulary"].update(missing="own"), "counts|ids"),
    "another kind": (lambda t, h: h["vocabulary"].update(kind="bytes"), "fingerprint"),
}


@pytest.mark.parametrize("kind", FORGERIES)
def test_forged_layers_are_told(path, kind):
    change, reason = FORGERIES[kind]
    save(path, CategoryEmbedding(Vocabulary.fit(["apple", "banana", "candy"]), 2))
    forge(path, change)
    with pytest.raises(FormatError, match=rf"(?s)layer\.safetensors: .*{reason}"):
        load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (setting(mode="median"), "'mode' cannot be 'median'"),
        (setting(padding_idx=-4), "make no EmbeddingBag"),
        (tensor(more=torch.ones(3)), "no other tensors than 'weight'"),
    ],
)
def test_forged_bags_are_told(path, change, reason):
    save(path, EmbeddingBag(3, 2))
    forge(path, change)
    with pytest.raises(FormatError, match=reason):
        load(path)


def test_no_file_and_a_folder_stay_what_they_are(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere")
    with pytest.raises(IsADirectoryError):
        load(tmp_path)
    with pytest.raises(IsADirectoryError):
        save(tmp_path, Embedding(3, 5))
