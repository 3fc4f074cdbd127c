import json

import pytest
import torch

import catembed
from catembed import tabular
from catembed.errors import FormatError, TableError
from catembed.tabular.folder import file_names


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_gives_the_same_model_back(table, fitted, saved):
    again = tabular.Fitted.load(saved)
    assert again.predict(table).equals(fitted.predict(table))
    assert again.report == fitted.report == json.loads((saved / "report.json").read_text())
    assert again.schema == fitted.schema
    assert list(again.layers) == list(fitted.layers)


def test_each_column_is_a_file_of_its_own(fitted, saved):
    layer = catembed.load(saved / "fruit.safetensors")
    assert torch.equal(layer["apple"], fitted.layers["fruit"]["apple"])
    found = tabular.load_layer(saved, "day:month")
    assert torch.equal(found.embedding.weight, fitted.layers["day:month"].embedding.weight)
    with pytest.raises(TableError, match="no vectors of a column 'weight'; it has those of: fruit, shop"):
        tabular.load_layer(saved, "weight")


def test_a_model_survives_being_opened_and_saved_again(table, fitted, saved):
    tabular.Fitted.load(saved).save(saved)
    assert tabular.Fitted.load(saved).predict(table).equals(fitted.predict(table))
    assert [each.name for each in saved.parent.iterdir()] == ["model"]


def test_opening_leaves_torchs_generator_alone(saved):
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    tabular.Fitted.load(saved)
    assert torch.equal(torch.rand(2), expected)


def test_foreign_files_are_never_replaced(fitted, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("…")
    with pytest.raises(TableError, match="files that catembed did not write"):
        fitted.save(tmp_path / "thesis")
    (tmp_path / "file").write_text("…")
    with pytest.raises(TableError, match="is no folder"):
        fitted.save(tmp_path / "file")
    assert sorted(each.name for each in tmp_path.rglob("*")) == ["chapter.txt", "file", "thesis"]


def test_an_empty_folder_is_filled(fitted, tmp_path):
    (tmp_path / "model").mkdir()
    fitted.save(tmp_path / "model")
    assert tabular.Fitted.load(tmp_path / "model").report == fitted.report


def test_a_failure_while_writing_leaves_what_was_there(fitted, saved, monkeypatch):
    before = {each.name: each.read_bytes() for each in saved.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("catembed.tabular.fitted._write_json", full)
    with pytest.raises(TableError, match="No space left on device"):
        fitted.save(saved)
    with pytest.raises(TableError, match="No space left on device"):
        fitted.save(saved.parent / "new")
    assert [each.name for each in saved.parent.iterdir()] == ["model"]
    assert {each.name: each.read_bytes() for each in saved.iterdir()} == before


@pytest.mark.parametrize("step", [0, 1])
def test_ctrl_c_between_the_renames_leaves_what_was_there(fitted, saved, monkeypatch, step):
    import os

    renames = []

    def rename(source, target):
        renames.append(source)
        if len(renames) == step + 1:
            raise KeyboardInterrupt
        os.replace(source, target)

    monkeypatch.setattr("catembed.tabular.folder.os.rename", rename)
    with pytest.raises(KeyboardInterrupt):
        fitted.save(saved)
    assert [each.name for each in saved.parent.iterdir()] == ["model"]
    assert tabular.Fitted.load(saved).report == fitted.report


def test_the_present_folder_can_be_named(fitted, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fitted.save(".")
    assert tabular.Fitted.load(tmp_path / "here").report == fitted.report


def test_damaged_folders_are_refused(saved, tmp_path):
    with pytest.raises(FormatError, match="there is no such folder"):
        tabular.Fitted.load(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"it has no config\.json"):
        tabular.Fitted.load(tmp_path / "empty")
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(FormatError, match=r"model\.safetensors"):
        tabular.Fitted.load(saved)
    (saved / "model.safetensors").write_bytes(whole)
    (saved / "fruit.safetensors").unlink()
    with pytest.raises(FormatError, match=r"is damaged or was changed.*fruit\.safetensors"):
        tabular.Fitted.load(saved)


def test_folders_of_the_first_version_are_read(table, fitted, saved):
    config = json.loads((saved / "config.json").read_text())
    for feature in config["schema"]["features"]:
        del feature["separator"], feature["parts"]
    del config["model"]
    (saved / "config.json").write_text(json.dumps(config | {"version": 1}))
    assert tabular.Fitted.load(saved).predict(table).equals(fitted.predict(table))


@pytest.mark.parametrize(
    "change",
    [{"model": "nonsense"}, {"version": 3}, {"files": {}}, {"combinations": [[0, 1]] * 900}, {"objective": {}}],
)
def test_a_changed_configuration_is_refused(saved, change):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(FormatError):
        tabular.Fitted.load(saved)


def test_columns_of_any_name_have_files(tmp_path):
    names = ["a/b", "a b", "..", "ä", "A", "a", "model", "x" * 300, "日本", "", "con\nfig"]
    files = file_names(names, taken=["model.safetensors", "config.json"])
    assert len({each.lower() for each in files.values()} | {"model.safetensors"}) == len(names) + 1
    for file in files.values():
        assert file.isascii()
        (tmp_path / file).write_text("")
    assert len(list(tmp_path.iterdir())) == len(names)


def test_columns_of_any_name_are_fitted(tmp_path):
    rows = {"a/b": ["x", "y"] * 40, "日本 [bold]": ["x", "y", "z", "x"] * 20, "y": [0, 1] * 40}
    fitted = tabular.fit(rows, "y", epochs=1)
    fitted.save(tmp_path / "m")
    assert tabular.Fitted.load(tmp_path / "m").predict(rows).equals(fitted.predict(rows))
    assert tabular.load_layer(tmp_path / "m", "日本 [bold]").vocabulary.name == "日本 [bold]"


def test_digits_in_a_text_column_stay_text(tmp_path):
    rows = {"zip": ["0123", "0456", "x9"] * 30, "y": [0, 1, 1] * 30}
    fitted = tabular.fit(rows, "y", epochs=2)
    (tmp_path / "new.csv").write_text("zip\n0123\n0456\n")
    assert fitted.predict(tmp_path / "new.csv").equals(fitted.predict({"zip": ["0123", "0456"]}))
