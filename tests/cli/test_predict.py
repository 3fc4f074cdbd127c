import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from catembed import tabular


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_predictions_keep_the_order_of_the_rows(run, model, source, tmp_path, ending):
    code, out, _ = run("predict", model, source, "--out", tmp_path / f"p.{ending}")
    assert code == 0
    assert "300 rows, prediction, probability_false, probability_true" in out
    written = tabular.read(tmp_path / f"p.{ending}")
    expected = tabular.Fitted.load(model).predict(source)
    assert written["prediction"].to_pylist() == expected["prediction"].to_pylist()
    assert written["probability_true"].to_numpy() == pytest.approx(expected["probability_true"].to_numpy(), rel=1e-12)


def test_values_that_training_did_not_have(run, model, tmp_path):
    (tmp_path / "new.csv").write_text("shop,fruit,open\n9,kiwi,true\n,,\n")
    assert run("predict", model, tmp_path / "new.csv", "--out", tmp_path / "p.csv")[0] == 0
    assert tabular.read(tmp_path / "p.csv").num_rows == 2


def test_user_errors(run, model, source, tmp_path):
    (tmp_path / "less.csv").write_text("shop\n1\n")
    (tmp_path / "other.csv").write_text("fruit,shop,open\napple,big,true\n")
    for arguments, part in (
        ([tmp_path / "none", source, "--out", tmp_path / "p.csv"], "there is no such folder"),
        ([tmp_path, source, "--out", tmp_path / "p.csv"], "not a folder that catembed fit wrote"),
        (
            [model, tmp_path / "less.csv", "--out", tmp_path / "p.csv"],
            "no column 'fruit', which the model was trained on",
        ),
        (
            [model, tmp_path / "other.csv", "--out", tmp_path / "p.csv"],
            "column 'shop': the column holds strings ('big' at position 0)",
        ),
        ([model, source, "--out", tmp_path / "p.txt"], "the ending tells how a file is written"),
        ([model, source, "--out", tmp_path / "no" / "p.csv"], "there is no folder"),
    ):
        code, out, err = run("predict", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert part in err
    assert not list(tmp_path.glob("*p.*"))


def test_vectors_are_a_table(run, model, tmp_path):
    assert run("vectors", model, "fruit", "--out", tmp_path / "v.parquet")[0] == 0
    written = pa.parquet.read_table(tmp_path / "v.parquet")
    layer = tabular.load_layer(model, "fruit")
    assert written["row"].to_pylist() == ["missing", "unknown"] + ["category"] * 4
    assert written["category"].to_pylist() == [None, None, *layer.vocabulary]
    assert written["count"].to_pylist() == layer.vocabulary.counts.tolist()
    assert [written[f"v{at}"][3].as_py() for at in range(4)] == layer.embedding.weight[3].tolist()
    assert run("vectors", model, "fruit", "--out", tmp_path / "v.csv")[0] == 0
    assert pa.csv.read_csv(tmp_path / "v.csv").num_rows == 6
