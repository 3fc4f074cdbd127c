import datetime as dt

import pytest

from catembed.tabular.schema import classify
from examples import movielens
from examples.flights import COLUMNS, TARGET, flights


def test_the_demo_has_its_flights():
    table = flights()
    assert (table.num_rows, table.column_names) == (336_776, [*COLUMNS, "arr_delay"])
    assert table["arr_delay"].null_count == 9_430
    # The year's first flight, UA 1545 to Houston, left on Tuesday, 1 January; Monday is 0.
    assert table.slice(0, 1).to_pylist()[0] == {
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "tailnum": "N14228",
        "flight": 1545,
        "month": 1,
        "hour": 5,
        "weekday": dt.date(2013, 1, 1).weekday(),
        "arr_delay": 11,
    }
    assert {each.column for each in classify(table, "arr_delay", categorical=COLUMNS).features} == set(COLUMNS)
    assert TARGET.startswith("arr_delay ")


def test_the_ratings_are_movielens_and_lists_are_of_known_rows_alone():
    table = movielens.ratings()
    assert table.num_rows == 100_000
    assert [len(table[name].unique()) for name in ("user", "film", "rating")] == [943, 1682, 5]
    assert set(movielens.FILMS) <= set(table["film"].unique().to_pylist())
    train, test = movielens.split(table, 0)
    assert (train.num_rows, test.num_rows) == (80_000, 20_000)
    assert movielens.rmse(movielens.additive(train, test), test) == pytest.approx(0.943, abs=0.003)
    known, some = train.slice(0, 500), test.slice(0, 50)
    found = movielens.with_lists(some, known).to_pylist()
    for row in found:
        mine = [each["film"] for each in known.to_pylist() if each["user"] == row["user"]]
        theirs = [each["user"] for each in known.to_pylist() if each["film"] == row["film"]]
        assert (row["rated"], row["raters"]) == (mine, theirs)
    assert any(row["rated"] for row in found)


def test_a_small_part_of_movielens_is_fitted():
    train = movielens.ratings().slice(0, 2000)
    fitted, known = movielens.fit(train, 0, epochs=1)
    assert fitted.layers["film"] is fitted.layers["rated"]
    assert len(known) == 1800
    film = known["film"][0].as_py()
    near = movielens.alike(fitted, known, film, fewest=3)
    assert len(near) == 5
    assert film not in near
