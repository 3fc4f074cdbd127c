"""Files of vocabularies, damaged and forged: refused, or taken without a wrong id, a read outside, or a crash."""

import copy
import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from catembed import FormatError, Vocabulary, load, save
from catembed.storage import read_file, write_file


@pytest.fixture
def path(tmp_path):
    return tmp_path / "vocabulary.safetensors"


COUNT = 2_200_000  # "item-0" and so on: bytes, offsets and index are each more than what is checked in any case

DAMAGED = """
import sys
import numpy as np
from catembed import FormatError, load
path, count = sys.argv[1], int(sys.argv[2])
clean = np.fromfile(path, np.uint8)
rng = np.random.default_rng(0)
asked = [*rng.integers(0, count, 3000).tolist(), *range(64)]
column = [f"item-{i}" for i in asked]
opened = []
for part, begin, end in zip(sys.argv[3::3], map(int, sys.argv[4::3]), map(int, sys.argv[5::3])):
    for flips in (1, 40, 20_000):
        data = clean.copy()
        places = np.unique(rng.integers(begin, end, flips))
        data[places] ^= rng.integers(1, 256, len(places), np.uint8)
        data.tofile(f"{path}.damaged")
        try:
            load(f"{path}.damaged")
            sys.exit("verify=True takes damage for sound")
        except FormatError:
            pass
        try:
            vocabulary = load(f"{path}.damaged", verify=False)
        except FormatError:
            continue
        opened.append(part)
        ids = vocabulary.encode(column).tolist()
        octets, offsets = vocabulary._index.arrays()
        for value, place, id in zip(column, asked, ids):
            assert id == 0 or octets[offsets[id - 1] : offsets[id]].tobytes() == value.encode(), (value, id)
            assert int(vocabulary.encode(value)) == id
            assert id in (0, place + 1) or part != "index"
        try:
            for id in ids[:200]:
                try:
                    vocabulary.decode([id])
                except UnicodeDecodeError:  # one whose bytes are damaged
                    assert part == "categories.bytes"
            added = vocabulary.add(["new"]).tolist()
            assert added == vocabulary.encode(["new"]).tolist() == [count + 1]
            assert vocabulary.encode(column).tolist() == [id or new for id, new in zip(ids, vocabulary.encode(column))]
        except FormatError:
            assert part != "index"
print(*sorted(set(opened)))
"""


def test_flipped_bits_are_told_or_harmless(path):
    """In a process of their own: what is followed outside of memory ends it."""
    numbers = pa.array(np.arange(COUNT)).cast(pa.string())
    save(path, Vocabulary(pc.call_function("binary_join_element_wise", ["item", numbers, "-"]), unseen="unknown"))
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    parts = []
    for part in ("categories.bytes", "categories.offsets", "index"):
        begin, end = entries[f"vocabulary.{part}"]["data_offsets"]
        assert end - begin > 2**24
        parts += [part, str(8 + length + begin), str(8 + length + end)]
    command = [sys.executable, "-c", DAMAGED, str(path), str(COUNT), *parts]
    run = subprocess.run(command, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == ["categories.bytes", "categories.offsets", "index"]


def test_every_flipped_bit_of_a_small_file_is_told_or_does_not_matter(path):
    """Without verify, the last tensor, which is the index, has no checksum; what it is read for is checked."""
    vocabulary = Vocabulary.fit(["apple", "banana", "apple"], unseen="grow", min_count=2)
    vocabulary.encode(["cherry"], grow=True)
    save(path, vocabulary)
    data = bytearray(path.read_bytes())
    taken = 0
    for at in range(len(data)):
        if at > 200 and at % 7 and at < len(data) - 300:  # spaces and text, mostly
            continue
        data[at] ^= 1 << at % 8
        path.write_bytes(data)
        with pytest.raises(FormatError, match=r"vocabulary\.safetensors: "):
            load(path)
        try:
            loaded = load(path, verify=False)
        except FormatError:
            pass
        else:
            taken += 1
            assert (loaded, loaded.counts.tolist()) == (vocabulary, [1, 2])
            assert loaded.encode(["cherry", "apple"], grow=True).tolist() == [2, 1]
            assert loaded.encode("apple") == 1
        data[at] ^= 1 << at % 8
    assert 0 < taken < 64


def forged(path, change):
    """The file with another content, all checksums right."""
    tensors, header = read_file(path)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    change(tensors, header)
    write_file(path, tensors, header)


def index_of(vocabulary, seed):
    return torch.from_numpy(vocabulary._index.__class__(*vocabulary._index.arrays(), seed=seed).table())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, h: t["vocabulary.index"].zero_(), "index is not that of the stored categories"),
        (lambda t, h: t["vocabulary.index"].fill_(-1), "index is not that of the stored categories"),
        (
            lambda t, h: (
                t.update({"vocabulary.index": index_of(Vocabulary([*"bcdefgha"]), 5)})
                or h["vocabulary"].update(index_seed=5)
            ),
            "index is not that of the stored categories",
        ),
        (lambda t, h: h["vocabulary"].update(index_seed=h["vocabulary"]["index_seed"] ^ 1), "index is not that"),
        (lambda t, h: h["vocabulary"].update(index_seed=2**63), "integer of 64 bits"),
        (lambda t, h: h["vocabulary"].update(index_seed=True), "integer of 64 bits"),
        (lambda t, h: h["vocabulary"].pop("index_seed"), "has the arrays"),
        (lambda t, h: t.pop("vocabulary.index"), "has the arrays"),
        (lambda t, h: t.update({"vocabulary.index": torch.zeros(8, dtype=torch.int64)}), "has 16 words, got 8"),
        (lambda t, h: t.update({"vocabulary.index": torch.zeros(2, 8, dtype=torch.int64)}), "one-dimensional"),
        (lambda t, h: t.update(weight=torch.zeros(1, 1)), "a vocabulary has tensors"),
        (lambda t, h: h.update(settings={}), "must have content and vocabulary"),
        (lambda t, h: h.update(content="Embedding"), "header must have"),
        (lambda t, h: h["vocabulary"].update(max_size=0), "max_size must be"),
        (lambda t, h: h["vocabulary"].update(buckets=3), "go together"),
        (lambda t, h: h["vocabulary"].update(fingerprint="0" * 64), "do not match their fingerprint"),
    ],
)
def test_a_forged_file_is_refused(path, change, message):
    save(path, Vocabulary([*"abcdefgh"], unseen="grow", max_size=99))
    load(path)
    forged(path, change)
    for verify in (True, False):
        with pytest.raises(FormatError, match=message):
            load(path, verify=verify)


def test_an_index_of_other_numbers_is_refused(path):
    """Which lie so close together that there is a faster way than the index, and it would not be missed at once."""
    save(path, Vocabulary(range(40)))
    forged(path, lambda tensors, _: tensors["vocabulary.index"].zero_())
    with pytest.raises(FormatError, match="index is not that of the stored categories"):
        load(path)


@pytest.mark.parametrize(
    ("counts", "offsets", "message"),
    [
        ([1, 0], None, "positive entry"),
        ([1], None, "positive entry"),
        (None, [0, 1, 2], "each value once"),
        (None, [0, 5, 2], "must not decrease"),
    ],
)
def test_forged_values_that_wait_are_refused(path, counts, offsets, message):
    vocabulary = Vocabulary(["a"], unseen="grow", min_count=3)
    vocabulary.encode(["x", "y"], grow=True)
    save(path, vocabulary)

    def change(tensors, _):
        if counts:
            tensors["vocabulary.waiting.counts"] = torch.tensor(counts)
        if offsets:
            tensors["vocabulary.waiting.offsets"] = torch.tensor(offsets)
            tensors["vocabulary.waiting.bytes"] = torch.tensor([*b"xx"], dtype=torch.uint8)

    forged(path, change)
    with pytest.raises(FormatError, match=message):
        load(path)


def test_arrow_never_follows_offsets_that_nobody_has_read():
    header, arrays = Vocabulary(pa.array(np.arange(COUNT)).cast(pa.string())).to_arrays(index=True)
    offsets = arrays["categories.offsets"].copy()
    offsets[12_345] += 2**20
    given = {**arrays, "categories.offsets": offsets}
    looks = (
        lambda vocabulary: vocabulary.decode([12_344]),
        lambda vocabulary: vocabulary.categories,
        lambda vocabulary: copy.copy(vocabulary).decode(5),
        lambda vocabulary: vocabulary.encode(["unseen"]),
        lambda vocabulary: vocabulary.prune([1]),
        lambda vocabulary: vocabulary.add(["new"]),
        repr,
    )
    for look in looks:
        vocabulary = Vocabulary.from_arrays(header, given, verify=False)
        assert vocabulary.encode(["0", "2199999"]).tolist() == [0, 2_199_999]
        with pytest.raises(FormatError, match=r"must not decrease|damaged"):
            look(vocabulary)
    sound = Vocabulary.from_arrays(header, arrays, verify=False)
    assert sound.decode([12_344, 0]) == ["12344", "0"]
