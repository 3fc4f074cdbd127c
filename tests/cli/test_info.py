import json

import torch

import catembed


def test_info_of_a_folder(run, model):
    code, out, _ = run("info", model)
    assert code == 0
    assert "predicts price > 3 (binary)" in out
    assert "one-hot linear" in out
    assert "apple" in out
    assert json.loads(run("info", model, "--json")[1]) == json.loads((model / "report.json").read_text())


def test_info_of_a_file(run, model, tmp_path):
    assert "string, 4 of them" in run("info", model / "fruit.safetensors")[1]
    facts = json.loads(run("info", model / "fruit.safetensors", "--json")[1])
    layer = catembed.load(model / "fruit.safetensors")
    assert (facts["rows"], facts["dimension"], facts["column"]) == (6, 4, "fruit")
    assert facts["fingerprint"] == layer.vocabulary.fingerprint
    catembed.save(tmp_path / "plain.safetensors", catembed.Embedding(3, 5, dtype=torch.float16))
    assert "float16" in run("info", tmp_path / "plain.safetensors")[1]


def test_user_errors(run, model, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    for path, part in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "not a folder that catembed fit wrote"),
        (tmp_path / "x.safetensors", "x.safetensors"),
        (model / "config.json", "config.json"),
        (model / "model.safetensors", "model.safetensors"),
    ):
        code, out, err = run("info", path)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert part in err
