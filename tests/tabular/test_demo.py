import datetime as dt

from catembed.tabular.schema import classify
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
