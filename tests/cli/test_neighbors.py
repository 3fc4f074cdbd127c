import json

import pyarrow as pa
import pytest
import torch

from catembed import tabular


def test_neighbours_are_the_nearest_by_cosine(run, model):
    code, out, _ = run("neighbors", model, "fruit", "apple", "-k", 2, "--json")
    found = json.loads(out)
    layer = tabular.load_layer(model, "fruit")
    others = ["banana", "candy", "date"]
    cosines = torch.cosine_similarity(layer.vectors(["apple"]), layer.vectors(others))
    best = [others[at] for at in cosines.argsort(descending=True)[:2]]
    assert code == 0
    assert [each["category"] for each in found["neighbors"]] == best
    assert [each["cosine"] for each in found["neighbors"]] == pytest.approx(sorted(cosines.tolist())[:0:-1], abs=1e-5)


def test_neighbours_are_printed_as_a_table(run, model):
    code, out, _ = run("neighbors", model, "fruit", "apple")
    lines = [line for line in out.splitlines() if line.strip()]
    assert code == 0
    assert lines[0].strip() == "Nearest to apple in fruit"
    assert len(lines) == 3 + 3  # title, headings, rule; all others, and no reserved row


@pytest.mark.parametrize(("column", "value"), [("shop", "2"), ("open", "true")])
def test_categories_that_are_no_text(run, model, column, value):
    found = json.loads(run("neighbors", model, column, value, "--json")[1])["neighbors"]
    assert {type(each["category"]) for each in found} == {int if column == "shop" else bool}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["fruit", "aple"], "no category 'aple'; did you mean 'apple'?"),
        (["fruit", "xxxx"], "no category 'xxxx'; it has, for instance"),
        (["price", "3"], "no vectors of a column 'price'; it has those of: fruit, shop, open"),
    ],
)
def test_user_errors(run, model, arguments, part):
    code, _, err = run("neighbors", model, *arguments)
    assert (code, err.count("\n")) == (1, 1)
    assert part in err


def test_a_column_without_categories_is_no_cross(run, tmp_path):
    tags = pa.array([[], []] * 40, pa.list_(pa.string()))
    rows = pa.table({"tags": tags, "shop": ["a", "b"] * 40, "y": [0.5, 1.5] * 40})
    tabular.fit(rows, "y", lists=["tags"], epochs=1).save(tmp_path / "m")
    code, _, err = run("neighbors", tmp_path / "m", "tags", "a")
    assert (code, err) == (1, "catembed: column 'tags' has no categories: it had no value in training\n")
