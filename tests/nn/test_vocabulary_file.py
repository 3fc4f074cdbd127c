"""Vocabularies in files: alone, mapped, sent to other processes as a path, of the first version."""

import datetime as dt
import json
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load_file

import catembed
from catembed import CategoryEmbedding, FormatError, HashVocabulary, Vocabulary, load, save
from catembed.storage import layout, read_file, write_file
from catembed.vocabulary import index, stored

VOCABULARIES = {
    "text": Vocabulary(["apple", "", "naïve\0", "😀"], name="fruit"),
    "bytes": Vocabulary([b"\xff\0", b""], unseen="unknown"),
    "integers": Vocabulary([-(2**63), 2**63 - 1, 0], missing="own"),
    "booleans": Vocabulary([True, False]),
    "dates": Vocabulary([dt.date.min, dt.date.max], unseen="hash", buckets=3),
    "timestamps": Vocabulary([dt.datetime(2024, 1, 1, tzinfo=dt.UTC)], unseen="grow", max_size=9),
    "nothing": Vocabulary([], unseen="grow"),
    "counted": Vocabulary.fit(["b", "a", "b", None], unseen="unknown", missing="own", name="letters"),
}
LARGE = 2_200_000  # integers: 17.6 MB, and 23 MB of index


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vocabulary.safetensors"


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file whose categories and index are each more than what is always checked."""
    path = tmp_path_factory.mktemp("large") / "large.safetensors"
    save(path, Vocabulary(np.arange(LARGE) * 1_000_003))
    return path


def saved(path, vocabulary):
    save(path, vocabulary)
    return load(path)


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES.keys())
@pytest.mark.parametrize("verify", [True, False])
def test_a_vocabulary_comes_back(path, vocabulary, verify):
    save(path, vocabulary)
    back = load(path, verify=verify)
    assert type(back) is Vocabulary
    assert (back, repr(back), back.fingerprint) == (vocabulary, repr(vocabulary), vocabulary.fingerprint)
    assert back.encode(list(vocabulary)).equal(vocabulary.encode(list(vocabulary)))
    assert (back.counts is None) == (vocabulary.counts is None)
    assert back.counts is None or back.counts.tolist() == vocabulary.counts.tolist()
    assert np.array_equal(back._index.table(), vocabulary._index.table())  # stored, not made anew
    assert back._index.seed == vocabulary._index.seed


def test_a_hash_vocabulary_comes_back_and_a_layer_is_none(path):
    vocabulary = HashVocabulary(70, hashes=2, kind="integer", missing="own")
    assert saved(path, vocabulary) == vocabulary
    assert load_file(path) == {}
    save(path, CategoryEmbedding(["a"], 2))
    assert isinstance(load(path), CategoryEmbedding)


def test_any_safetensors_reader_reads_it(path):
    save(path, Vocabulary(["apple", "banana"]))
    tensors = load_file(path)
    assert set(tensors) == {f"vocabulary.{name}" for name in ("categories.bytes", "categories.offsets", "index")}
    assert bytes(tensors["vocabulary.categories.bytes"].tolist()) == b"applebanana"
    assert tensors["vocabulary.index"].shape == (8,)


def test_a_loaded_vocabulary_learns_and_the_file_stays(path):
    loaded = saved(path, Vocabulary(["a", "b"], unseen="grow"))
    before = path.read_bytes()
    assert loaded.encode(["c", "a"], grow=True).tolist() == [3, 1]
    loaded.observe(["c"])
    assert path.read_bytes() == before
    assert list(load(path)) == ["a", "b"]
    save(path, loaded)
    assert list(load(path)) == ["a", "b", "c"]
    assert load(path).counts.tolist() == [0, 0, 0, 1]


def test_replacing_the_file_does_not_change_what_was_loaded(path):
    loaded = saved(path, Vocabulary(["a", "b"]))
    save(path, Vocabulary(["x", "y", "z"]))
    assert loaded.encode(["b", "a"]).tolist() == [1, 0]
    assert list(loaded) == ["a", "b"]


# Opened without being read


def test_without_verify_a_large_file_is_opened_and_not_read(large, monkeypatch):
    """No checksum, no fingerprint and no kernel goes over all of it; some categories are searched, one by one."""
    kernels, read = set(), []
    kernel, crc32 = index.kernel, layout.zlib.crc32
    monkeypatch.setattr(index, "kernel", lambda name, device: kernels.add(name) or kernel(name, device))
    monkeypatch.setattr(layout.zlib, "crc32", lambda data: read.append(len(data)) or crc32(data))
    fingerprint = stored.fingerprint
    monkeypatch.setattr(stored, "fingerprint", lambda *values: read.append(LARGE) or fingerprint(*values))
    loaded = load(large, verify=False)
    assert (kernels, sum(read)) == ({"find_one"}, 0)
    numbers = [0, 1_000_003, (LARGE - 1) * 1_000_003, 1_234_567 * 1_000_003]
    assert loaded.encode(numbers).tolist() == [number // 1_000_003 for number in numbers]
    assert int(loaded.encode(1_000_003)) == 1
    with pytest.raises(catembed.UnseenCategoryError):
        loaded.encode([1])
    assert "fill" not in kernels
    load(large)
    assert sum(read) > large.stat().st_size


def test_without_verify_damage_that_no_sample_meets_is_not_seen(large, tmp_path):
    data = np.fromfile(large, np.uint8)
    length = int(data[:8].view(np.int64)[0])
    begin, end = json.loads(data[8 : 8 + length].tobytes())["vocabulary.categories"]["data_offsets"]
    words = data[8 + length + begin : 8 + length + end].view(np.int64)
    words[1_234_567] = -1
    data.tofile(tmp_path / "damaged")
    loaded = load(tmp_path / "damaged", verify=False)
    column = [1_234_566 * 1_000_003, 1_234_568 * 1_000_003]
    assert loaded.encode(column).tolist() == [1_234_566, 1_234_568]
    with pytest.raises(catembed.UnseenCategoryError):
        loaded.encode([1_234_567 * 1_000_003])
    with pytest.raises(FormatError, match="damaged"):
        load(tmp_path / "damaged")


def test_a_large_layer_opens_the_same_way(tmp_path):
    path = tmp_path / "layer"
    count = 1_700_000
    strings = pa.array(np.arange(count)).cast(pa.string())
    layer = CategoryEmbedding(Vocabulary(strings), 1)
    save(path, layer)
    loaded = load(path, verify=False)
    asked = [str(i) for i in range(0, count, 99_991)]
    assert loaded.vocabulary.encode(asked).tolist() == [int(value) for value in asked]
    assert torch.equal(loaded(asked), layer(asked))


# Sent to other processes


def test_a_mapped_vocabulary_travels_as_a_path_between_processes_and_whole_elsewhere(path):
    loaded = saved(path, Vocabulary([f"category {i}" for i in range(5000)]))
    sent = bytes(ForkingPickler.dumps(loaded))
    assert len(sent) < 1000
    assert str(path).encode() in sent
    assert pickle.loads(sent) == loaded
    assert len(pickle.dumps(loaded)) > 50_000
    path.unlink()
    assert pickle.loads(pickle.dumps(loaded)) == loaded


def test_a_layer_sends_its_vocabulary_as_a_path_too(path):
    save(path, CategoryEmbedding([f"category {i}" for i in range(5000)], 1))
    sent = bytes(ForkingPickler.dumps(load(path).vocabulary))
    assert len(sent) < 1000
    assert len(pickle.loads(sent)) == 5000


@pytest.mark.parametrize("change", ["add", "observe", "grow"])
def test_what_has_learned_since_travels_itself(path, change):
    loaded = saved(path, Vocabulary(["a", "b"], unseen="grow"))
    {"add": loaded.add, "observe": loaded.observe, "grow": lambda column: loaded.encode(column, grow=True)}[change](
        ["c"]
    )
    back = pickle.loads(bytes(ForkingPickler.dumps(loaded)))
    assert back == loaded
    assert (back.counts is None) == (loaded.counts is None)
    assert str(path).encode() not in bytes(ForkingPickler.dumps(loaded))


def test_where_the_file_was_replaced_before_the_vocabulary_itself_is_sent(path):
    loaded = saved(path, Vocabulary(["a", "b"]))
    save(path, Vocabulary(["x", "y"]))
    assert list(pickle.loads(bytes(ForkingPickler.dumps(loaded)))) == ["a", "b"]
    path.unlink()
    assert list(pickle.loads(bytes(ForkingPickler.dumps(loaded)))) == ["a", "b"]


@pytest.mark.parametrize(
    "other", [Vocabulary(["b", "a"]), Vocabulary(["a", "b"], unseen="unknown"), HashVocabulary(7)], ids=repr
)
def test_where_the_file_was_replaced_on_the_way_it_is_told(path, other):
    loaded = saved(path, Vocabulary(["a", "b"]))
    sent = bytes(ForkingPickler.dumps(loaded))
    save(path, other)
    with pytest.raises(FormatError, match=r"vocabulary\.safetensors: the file was replaced"):
        pickle.loads(sent)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        pickle.loads(sent)


def encode(vocabulary, column):
    return vocabulary.encode(column).tolist(), vocabulary.origin is not None


def test_a_spawned_worker_maps_the_file(path):
    loaded = saved(path, Vocabulary(["a", "b"], unseen="unknown"))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(encode, (loaded, ["b", "x"])) == ([2, 0], True)


# The first version


def first_version(path, layer, monkeypatch):
    """A file as the first version wrote it: no index, five keys in the vocabulary's header, no seed of rows to come."""
    header, arrays = layer.vocabulary.to_arrays()
    assert set(header) == {"kind", "unseen", "missing", "name", "fingerprint"}
    save(path, layer)
    settings = read_file(path)[1]["settings"]
    tensors = {f"vocabulary.{name}": torch.from_numpy(array.copy()) for name, array in arrays.items()}
    with monkeypatch.context() as changed:
        changed.setattr(layout, "VERSION", 1)
        facts = {"content": "CategoryEmbedding", "settings": settings, "vocabulary": header}
        write_file(path, {**tensors, "weight": layer.embedding.weight}, facts)
    assert rb"\"version\": 1," in path.read_bytes()


@pytest.mark.parametrize("verify", [True, False])
def test_files_of_the_first_version_are_read(path, verify, monkeypatch):
    layer = CategoryEmbedding(Vocabulary.fit(["b", "a", "b", None], unseen="unknown", missing="own", name="x"), 3)
    first_version(path, layer, monkeypatch)
    back = load(path, verify=verify)
    assert back.vocabulary == layer.vocabulary
    assert back.vocabulary.counts.tolist() == layer.vocabulary.counts.tolist()
    assert torch.equal(back(["a", "b", None, "?"]), layer(["a", "b", None, "?"]))
    save(path, back)
    assert rb"\"version\": 3," in path.read_bytes()
    assert torch.equal(load(path)("a"), layer("a"))


@pytest.mark.parametrize("version", [0, 4, "2", None])
def test_other_versions_are_refused(path, version, monkeypatch):
    monkeypatch.setattr(layout, "VERSION", version)
    save(path, Vocabulary(["a"]))
    with pytest.raises(FormatError, match="version"):
        load(path)
