import json

import pyarrow.parquet as pq
import pytest

from catembed import tabular


def test_fit_tells_what_it_does_and_writes_the_folder(run, source, tmp_path):
    code, out, err = run("fit", source, "--target", "price > 3", "--out", tmp_path / "m", "--epochs", 2)
    assert (code, err) == (0, "")
    for part in (
        "fruit    string   categorical",
        "price    int64    target",
        "Target: price > 3 (binary). Column price is no feature.",
        "Rows: 240 to train on, 60 to validate on (random, 20% for validation).",
        "epoch 1/2  loss",
        "epoch 2/2  loss",
        "0.0 s left",
        "one-hot linear",
        "Wrote",
    ):
        assert part in out
    names = sorted(each.name for each in (tmp_path / "m").iterdir())
    assert names == [
        "config.json",
        "fruit.safetensors",
        "model.safetensors",
        "open.safetensors",
        "report.json",
        "shop.safetensors",
    ]


def test_json_is_the_report_and_nothing_else(run, source, tmp_path):
    code, out, err = run("fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", 1, "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "m" / "report.json").read_text())
    assert "epoch 1/1" in err


def test_options_may_be_repeated_and_overrule(run, source, tmp_path):
    code, out, _ = run(
        *("fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", 1, "--seed", 7),
        *("--numeric", "shop", "--numeric", "open", "--categorical", "fruit", "--task", "multiclass"),
    )
    assert code == 0
    assert "multiclass, 9 classes" in out
    fitted = tabular.Fitted.load(tmp_path / "m")
    assert (list(fitted.layers), fitted.report["seed"]) == (["fruit"], 7)


def test_a_validation_file_or_time(run, source, tmp_path):
    fit = ("fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", 1)
    assert "300 to train on, 300 to validate on (the validation table given)" in run(*fit, "--valid", source)[1]
    assert "by time, validation from shop = 2 on" in run(*fit, "--valid-by-time", "shop")[1]
    assert "30 to validate on" in run(*fit, "--valid-fraction", "0.1")[1]


@pytest.fixture
def trips(tmp_path):
    """A CSV of trips, with tags in one column."""
    rows = [f"{a},{b},{'long | far' if a < b else ''},{ord(a) - ord(b)}" for a in "abcd" for b in "abcd"]
    (tmp_path / "trips.csv").write_text("from,to,tags,y\n" + "\n".join(rows * 10) + "\n")
    return tmp_path / "trips.csv"


def test_models_lists_shared_tables_and_crosses(run, trips, tmp_path):
    code, out, err = run(
        *("fit", trips, "--target", "y", "--out", tmp_path / "m", "--epochs", 1, "--model", "fm"),
        *("--list", "tags", "--share", "from,to", "--cross", "from, to", "--cross-buckets", 64),
    )
    assert (code, err) == (0, "")
    for part in (
        "Model: factorisation machine.",
        "One table: from, to.",
        "Crosses: from×to.",
        "tags     string   list",
    ):
        assert part in out
    fitted = tabular.Fitted.load(tmp_path / "m")
    assert (fitted.model_name, fitted.layers["from"] is fitted.layers["to"]) == ("fm", True)
    assert set(fitted.layers["tags"].vocabulary) == {"long", "far"}
    assert len(fitted.layers["from×to"]) == 64
    assert run("neighbors", tmp_path / "m", "to", "b", "--json")[0] == 0
    code, _, err = run("neighbors", tmp_path / "m", "from×to", "b")
    assert (code, err.count("\n")) == (1, 1)
    assert "is a cross" in err
    assert run("vectors", tmp_path / "m", "from×to", "--out", tmp_path / "v.parquet")[0] == 0
    assert set(pq.read_table(tmp_path / "v.parquet").column("row").to_pylist()) == {"bucket"}


def test_another_separator(run, trips, tmp_path):
    text = trips.read_text().replace(" | ", ";")
    trips.write_text(text)
    fit = ("fit", trips, "--target", "y", "--out", tmp_path / "m", "--epochs", 1, "--list", "tags")
    assert run(*fit, "--separator", ";", "--model", "deepfm")[0] == 0
    assert set(tabular.load_layer(tmp_path / "m", "tags").vocabulary) == {"long", "far"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["SOURCE", "--target", "price", "--share", "fruit"], "--share fruit: a vocabulary is shared by two columns"),
        (["SOURCE", "--target", "price", "--cross", "fruit,color"], "--cross 'color': the table has no such column"),
        (["SOURCE", "--target", "price", "--cross", ""], "--cross names no column: a cross is made of two columns or"),
        (["SOURCE", "--target", "price", "--cross-buckets", "9"], "--cross-buckets 9: there is no cross; ask for one"),
        (["SOURCE", "--target", "price", "--separator", ";"], "--separator ';': there is no column of text for it to"),
        (["none.csv", "--target", "a"], "no such file: none.csv"),
        (["SOURCE", "--target", "prize"], "no column 'prize' to be the target; it has: fruit, shop, open, price"),
        (["SOURCE", "--target", "price > 99"], "is constant"),
        (["SOURCE", "--target", "price", "--ignore", "color"], "--ignore 'color': the table has no such column"),
        (["SOURCE", "--target", "price", "--numeric", "fruit"], "--numeric 'fruit': the column holds string values"),
        (["SOURCE", "--target", "price", "--valid-by-time", "fruit"], "a time is a date or a number"),
        (["SOURCE", "--target", "price", "--valid-fraction", "2"], "must lie between 0 and 1, got 2"),
    ],
)
def test_user_errors_are_one_line_and_leave_nothing(run, source, tmp_path, arguments, part):
    arguments = [str(source) if each == "SOURCE" else each for each in arguments]
    code, _, err = run("fit", *arguments, "--out", tmp_path / "m")
    assert code == 1
    assert part in err
    assert err.startswith("catembed: ")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("a,b\n1,2\n3\n", "Expected 2 columns, got 1"),
        ("a,a\n1,2\n", "several columns of one name: 'a'"),
        ("a,b\n", "the table is empty"),
        ("a,b\n1,\n2,\n", "target 'b': every value is missing"),
        ("a,b\n,1\n,2\n,3\n", "no column is left to learn from"),
    ],
)
def test_bad_tables_are_one_line_and_leave_nothing(run, tmp_path, content, part):
    (tmp_path / "t.csv").write_text(content)
    code, _, err = run("fit", tmp_path / "t.csv", "--target", "a" if "a,a" in content else "b", "--out", tmp_path / "m")
    assert code == 1
    assert part in err
    assert err.count("\n") == 1
    assert [each.name for each in tmp_path.iterdir()] == ["t.csv"]


def test_dropped_rows_and_mixed_columns_are_told(run, tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n" + "x,1\n7,0\n9,\n8,1\n" * 20)
    _, out, _ = run("fit", tmp_path / "t.csv", "--target", "b", "--out", tmp_path / "m", "--epochs", 1)
    assert "Dropped 20 of 80 rows: they have no target." in out
    assert "mixed: 60 numbers, 20 texts" in out


def test_foreign_folders_are_refused_before_any_work(run, source, tmp_path):
    (tmp_path / "thesis.txt").write_text("…")
    code, out, err = run("fit", source, "--target", "price", "--out", tmp_path)
    assert (code, out) == (1, "")
    assert "files that catembed did not write" in err


def test_an_earlier_folder_is_replaced(run, source, tmp_path):
    for ignored in ("shop", "open"):
        assert (
            run("fit", source, "--target", "price", "--out", tmp_path / "m", "--epochs", 1, "--ignore", ignored)[0] == 0
        )
    assert not (tmp_path / "m" / "open.safetensors").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize(
    "arguments", [["fit"], ["fit", "t.csv", "--target", "a"], ["nonsense"], ["fit", "--task", "x"]]
)
def test_wrong_usage_is_exit_code_2(run, arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Usage" in err


def test_column_names_are_printed_as_they_are(run, tmp_path):
    (tmp_path / "t.csv").write_text("[bold]x[/bold] :apple:,y\n" + "a,0\nb,1\n" * 30)
    _, out, _ = run("fit", tmp_path / "t.csv", "--target", "y", "--out", tmp_path / "m", "--epochs", 1)
    assert out.count("[bold]x[/bold] :apple:") == 2  # among the columns and among the vectors


def test_the_help_says_that_commas_divide_names(run):
    assert " ".join(run("fit", "--help")[1].replace("│", " ").split()).count("none with a comma in its name") == 2
