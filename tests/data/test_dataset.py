"""``EncodedDataset``: what was encoded comes back, in workers too; files of another kind are refused."""

import copy
import os
import pickle
import re

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, ConcatDataset, DataLoader, RandomSampler, Subset

import catembed.data.dataset
from catembed import CategoryEmbedding, Embedding, EmbeddingCollection, FormatError, load, save
from catembed.data import Encode, EncodedDataset, write_ids
from catembed.functional import Jagged
from catembed.storage import read_file, write_file

OTHERS = ["late", "count", "weekend"]


@pytest.fixture
def path(tmp_path, collection, table):
    write_ids(tmp_path / "rows.safetensors", collection, table, others=OTHERS, batch_size=10)
    return tmp_path / "rows.safetensors"


@pytest.fixture
def direct(collection, table):
    """A batch of some rows of the table, encoded directly."""
    encode = Encode(collection, others=OTHERS)
    return lambda rows: encode({name: [column[row] for row in rows] for name, column in table.items()})


def test_batches_are_what_encoding_directly_gives(path, collection, direct, same):
    dataset = EncodedDataset(path, collection)
    assert (len(dataset), dataset.columns, dataset.others) == (23, collection.names, tuple(OTHERS))
    for rows in ([3, 0, 22, 3], [], list(range(23)), [-1, -23]):
        wanted = direct(rows) if rows else None
        for index in (rows, torch.tensor(rows, dtype=torch.int32), np.array(rows, dtype=np.int16), tuple(rows)):
            batch = dataset[index]
            assert wanted is None or same(batch, wanted)
        assert collection(ids=batch["ids"]).shape == (len(rows), collection.embedding_dim)
    assert same(dataset[2:9:3], direct([2, 5, 8]))
    assert same(dataset[::-1], direct(range(22, -1, -1)))
    for empty in (slice(3, 1), slice(30, 40), slice(1, 3, -1)):
        assert len(dataset[empty]["late"]) == len(dataset[empty]["ids"]["tags"].offsets) - 1 == 0


@pytest.mark.parametrize("index", [7, -16, torch.tensor(7), np.int64(7)])
def test_one_row(path, direct, index):
    row, wanted = EncodedDataset(path)[index], direct([7])
    assert torch.equal(row["ids"]["tags"], wanted["ids"]["tags"].values)
    assert torch.equal(row["ids"]["user"], wanted["ids"]["user"][0])
    assert (row["ids"]["origin"], row["late"]) == (wanted["ids"]["origin"][0], 1.75)
    assert row["weekend"].dtype == torch.bool


def in_order(loader):
    """The batches of an epoch as one list of rows and what they hold."""
    return [(batch, batch["count"].tolist()) for batch in loader]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers(path, direct, same, method):
    dataset = EncodedDataset(path)
    loader = DataLoader(
        dataset,
        batch_size=8,
        shuffle=True,
        collate_fn=dataset.collate,
        num_workers=2,
        multiprocessing_context=method,
        persistent_workers=True,
    )
    for _ in range(2):
        batches = in_order(loader)
        assert sorted(row for _, rows in batches for row in rows) == list(range(23))
        assert all(same(batch, direct(rows)) for batch, rows in batches)


def test_other_ways_of_loading(path, direct, same):
    dataset = EncodedDataset(path)
    whole = DataLoader(dataset, sampler=BatchSampler(RandomSampler(dataset), 5, drop_last=True), batch_size=None)
    assert [len(rows) for _, rows in in_order(whole)] == [5] * 4
    for wrapped in (Subset(dataset, [4, 9, 2, 11]), ConcatDataset([dataset, dataset])):  # in batches, row by row
        for batch, rows in in_order(DataLoader(wrapped, batch_size=3, collate_fn=dataset.collate)):
            assert same(batch, direct(rows))


def test_batches_without_a_loader(path, direct, same):
    dataset = EncodedDataset(path)
    assert [rows for _, rows in in_order(dataset.batches(10, shuffle=False))] == [
        list(range(10)), list(range(10, 20)), list(range(20, 23))
    ]  # fmt: skip
    first, again, other = (in_order(dataset.batches(4, seed=seed, drop_last=True)) for seed in (1, 1, 2))
    assert [rows for _, rows in first] == [rows for _, rows in again] != [rows for _, rows in other]
    assert all(same(batch, direct(rows)) for batch, rows in first)
    assert len({row for _, rows in first for row in rows}) == 20
    torch.manual_seed(0)
    order = torch.randperm(23).tolist()
    torch.manual_seed(0)
    assert [row for _, rows in in_order(dataset.batches(4)) for row in rows] == order


def test_arguments_of_batches(path):
    dataset = EncodedDataset(path)
    for wrong in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="batch_size must be a positive integer"):
            dataset.batches(wrong)  # at once, not when the first batch is asked for
    with pytest.raises(TypeError):
        dataset.batches(4, seed=1.5)
    first, again = (in_order(dataset.batches(4, seed=seed)) for seed in (np.int64(3), 3))
    assert [rows for _, rows in first] == [rows for _, rows in again]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_without_collate_says_what_it_lacks(path, workers):
    loader = DataLoader(EncodedDataset(path), batch_size=4, num_workers=workers)
    with pytest.raises(TypeError, match=r"give the DataLoader collate_fn=dataset.collate"):
        next(iter(loader))
    with pytest.raises(KeyError, match="nothing"):
        EncodedDataset(path).__getitems__([0])["nothing"]


def test_training_reads_ids(path, collection, table):
    losses = []
    for epoch in range(2):
        for batch in EncodedDataset(path, collection).batches(8, seed=epoch):
            losses.append((collection(ids=batch["ids"]).sum(1) - batch["late"]).square().mean())
            losses[-1].backward()
    assert all(loss.isfinite() for loss in losses)
    assert all(parameter.grad is not None for parameter in collection.parameters())


def test_every_type_of_number_comes_back(tmp_path):
    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    names = [*integers, "float16", "bfloat16", "float32", "float64", "bool"]
    columns = {name: torch.tensor([0, 1, 1]).to(getattr(torch, name)) for name in names}
    columns["vectors"] = torch.arange(6.0).reshape(3, 2)
    write_ids(
        tmp_path / "ids", EmbeddingCollection({"a": Embedding(2, 1)}), {"a": [0, 1, 0], **columns}, others=columns
    )
    batch = EncodedDataset(tmp_path / "ids")[[2, 0]]
    for name, column in columns.items():
        assert batch[name].dtype == column.dtype
        assert batch[name].tolist() == [column[2].tolist(), column[0].tolist()]


def test_rows_that_are_not_there(path):
    dataset = EncodedDataset(path)
    for index in (23, -24, [0, 23], [-24]):
        with pytest.raises(IndexError, match="the dataset has 23"):
            dataset[index]
    for index in ([0.5], [True], [[1]], torch.tensor([[1]])):
        with pytest.raises(TypeError, match="rows are asked for by their numbers"):
            dataset[index]


def test_it_travels_as_its_path(path, collection, same):
    dataset = EncodedDataset(path)
    sent = pickle.dumps(dataset)
    assert len(sent) < 500
    assert same(pickle.loads(sent)[:], dataset[:])
    assert same(copy.deepcopy(dataset)[3], dataset[3])
    before = dataset[:]
    write_ids(path, collection, _other(collection))
    assert same(dataset[:], before)  # the old file is still mapped
    with pytest.raises(FormatError, match="was replaced since the dataset was opened"):
        pickle.loads(sent)


def test_a_file_that_is_replaced_while_it_is_opened(path, collection, monkeypatch):
    unpack = catembed.data.dataset.unpack

    def replaced(memory, **options):
        monkeypatch.undo()
        found = unpack(memory, **options)
        write_ids(path, collection, _other(collection))
        return found

    monkeypatch.setattr(catembed.data.dataset, "unpack", replaced)
    dataset = EncodedDataset(path)
    assert len(dataset) == 23
    with pytest.raises(FormatError, match="was replaced since the dataset was opened"):
        pickle.loads(pickle.dumps(dataset))


def _other(collection):
    row = {"origin": "JFK", "hour": 5, "tags": "red", "user": "u", "shop": 1, "seen": [1]}
    return {name: [row[name]] for name in collection.inputs}


# Another vocabulary


def test_another_collection_is_refused(tmp_path):
    path = tmp_path / "ids"
    bags = CategoryEmbedding(["x"], 1, pooling="sum", separator="|")
    columns = {"a": CategoryEmbedding(["x", "y"], 1), "b": bags, "n": Embedding(3, 1)}
    write_ids(path, EmbeddingCollection(columns), {"a": ["x"], "b": ["x|x"], "n": [0]})
    for change, told in (
        ({"a": CategoryEmbedding(["y", "x"], 1)}, "column 'a' was encoded with another vocabulary"),
        ({"a": CategoryEmbedding(["x", "y"], 1, pooling="sum")}, "column 'a' was encoded with bags=False"),
        ({"b": CategoryEmbedding(["x"], 1, pooling="sum", separator=",")}, "column 'b' was encoded with separator='|'"),
        ({"a": Embedding(2, 1)}, "column 'a' was encoded with another vocabulary"),
        ({"n": Embedding(4, 1)}, "column 'n' was encoded with num_embeddings=3, the collection has 4"),
        ({"c": Embedding(4, 1)}, "the file has the columns 'a', 'b', 'n', the collection 'a', 'b', 'n', 'c'"),
    ):
        with pytest.raises(FormatError, match=re.escape(f"{path}: {told}")):
            EncodedDataset(path, EmbeddingCollection(columns | change))
    assert len(EncodedDataset(path, EmbeddingCollection(columns).encoder())) == 1
    with pytest.raises(TypeError, match="by an EmbeddingCollection"):
        EncodedDataset(path, columns["a"])


# Attacks on the file


def test_truncated_and_damaged_files(path):
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    for cut in (0, 5, 8, 100, 8 + length, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(FormatError, match=f"{path}"):
            EncodedDataset(path)
    for at in range(8, 8 + length, 37):
        if whole[at] != 32:
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(FormatError):
                EncodedDataset(path)
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(FormatError, match="is damaged"):
        EncodedDataset(path, verify=True)


def test_files_that_hold_something_else(path, tmp_path, collection):
    save(tmp_path / "layer", collection["hour"])
    with pytest.raises(FormatError, match="holds no encoded rows but 'CategoryEmbedding'"):
        EncodedDataset(tmp_path / "layer")
    with pytest.raises(FormatError, match="EncodedRows"):
        load(path)
    with pytest.raises(FileNotFoundError):
        EncodedDataset(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FormatError, match="a pipe"):
        EncodedDataset(tmp_path / "pipe")


def forge(path, change):
    """Write the file anew, checksums and all, with something changed."""
    tensors, header = read_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, header)
    write_file(path, tensors, header)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t, h: h.update(rows=24), "must have 24 ids"),
        (lambda t, h: h.update(rows=-1), "must have a number of rows"),
        (lambda t, h: h.update(rows=True), "must have a number of rows"),
        (lambda t, h: h.update(extra=1), "header of encoded rows must have"),
        (lambda t, h: h.pop("booleans"), "header of encoded rows must have"),
        (lambda t, h: h.update(booleans=["late"]), "'late' is said to hold booleans"),
        (lambda t, h: h.update(booleans=["none"]), "'none' is said to hold booleans"),
        (lambda t, h: h.update(booleans="weekend"), "names of booleans"),
        (lambda t, h: h.update(columns=[]), "columns by name"),
        (lambda t, h: h["columns"]["hour"].update(bags=1), "column 'hour' must have"),
        (lambda t, h: h["columns"]["hour"].update(bags=True), "column 'hour' needs ids"),
        (lambda t, h: h["columns"]["hour"].update(fingerprint=3), "column 'hour' must have"),
        (lambda t, h: h["columns"].pop("hour"), "have no tensor 'ids.hour'"),
        (lambda t, h: h["columns"].update(x=h["columns"]["hour"]), "column 'x' needs ids"),
        (lambda t, h: t.pop("ids.hour"), "column 'hour' needs ids"),
        (lambda t, h: t.update({"ids.hour": t["ids.hour"].float()}), "column 'hour' needs ids"),
        (lambda t, h: t.update({"ids.hour": t["ids.hour"][:5]}), "column 'hour' must have 23 ids"),
        (lambda t, h: t.update({"ids.hour": torch.tensor(5)}), "column 'hour' needs ids"),
        (lambda t, h: t.pop("ids.tags.offsets"), "column 'tags' has bags"),
        (lambda t, h: t.update({"ids.tags.offsets": t["ids.tags.offsets"].int()}), "column 'tags' has bags"),
        (lambda t, h: t["ids.tags.offsets"][-1:].add_(1), "must run from 0 to the number of ids"),
        (lambda t, h: t["ids.tags.offsets"][:1].sub_(1), "must run from 0 to the number of ids"),
        (lambda t, h: t.update({"others.late": torch.ones(5)}), "'others.late' must have 23 rows"),
        (lambda t, h: t.update({"others.ids": torch.ones(23)}), "'others.ids' has the name of the ids"),
        (lambda t, h: t.update({"others.hour": torch.ones(23)}), "'others.hour' has the name of a column of ids"),
        (lambda t, h: h["columns"]["hour"].update(num_embeddings=-1), "column 'hour' must have"),
        (lambda t, h: t.update({"weight": torch.ones(23)}), "have no tensor 'weight'"),
    ],
)
def test_forged_files(path, change, told):
    forge(path, change)
    with pytest.raises(FormatError, match=f"{path}.*{told}"):
        EncodedDataset(path)


@pytest.mark.parametrize("value", [-5, 1 << 40, 1 << 62, -(1 << 62)])
def test_forged_offsets_lead_nowhere(path, value):
    forge(path, lambda t, h: t["ids.tags.offsets"][7:8].fill_(value))
    dataset = EncodedDataset(path)
    assert isinstance(dataset[[0, 1]]["ids"]["tags"], Jagged)
    for index in ([6], [7], [5, 6, 7, 8]):
        with pytest.raises(FormatError, match="the offsets of column 'tags' are damaged"):
            dataset[index]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda t, h: t["ids.tags.offsets"][7:8].fill_(-5), "offsets of column 'tags' are damaged"),
        (lambda t, h: t["ids.tags.offsets"][7:8].fill_(1 << 40), "offsets of column 'tags' are damaged"),
        (lambda t, h: t["ids.hour"][4:5].fill_(3), "column 'hour' has the id 3, of 3 ids"),
        (lambda t, h: t["ids.user"][4:5].fill_(-1), "column 'user' has the id -1, of 20 ids"),
        (lambda t, h: t["ids.tags.values"][4:5].fill_(3), "column 'tags' has the id 3, of 3 ids"),
    ],
)
def test_forged_values_are_refused_when_all_is_verified(path, change, told):
    EncodedDataset(path, verify=True)
    forge(path, change)
    EncodedDataset(path)
    with pytest.raises(FormatError, match=f"{path}.*{told}"):
        EncodedDataset(path, verify=True)


def test_forged_ids_are_refused_by_the_lookup(path, collection):
    forge(path, lambda t, h: t["ids.hour"].fill_(1 << 30))
    with pytest.raises(IndexError, match="hour"):
        collection(ids=EncodedDataset(path)[[0]]["ids"])
