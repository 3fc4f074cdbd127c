import torch

from catembed.tabular.bags import Bags


def lists(bags: Bags) -> list[list[int]]:
    """The list of every row."""
    return [bags.values[bags.offsets[at] : bags.offsets[at + 1]].tolist() for at in bags.rows]


def bags_of(given: list[list[int]]) -> Bags:
    values = torch.tensor([value for each in given for value in each], dtype=torch.int64)
    return Bags.of(values, torch.tensor([len(each) for each in given], dtype=torch.int64))


GIVEN = [[3, 1], [], [5], [3, 1], [1, 3], [], [5, 5]]


def test_every_row_keeps_its_list_and_equal_lists_are_one():
    bags = bags_of(GIVEN)
    assert lists(bags) == GIVEN
    assert bags.offsets.tolist() == [0, 2, 2, 3, 5, 7]


def test_rows_are_taken_in_the_order_asked_for_with_no_list_twice():
    taken = bags_of(GIVEN).take(torch.tensor([6, 3, 0, 1, 3]))
    assert lists(taken) == [[5, 5], [3, 1], [3, 1], [], [3, 1]]
    assert len(taken.values) == 4
    assert lists(bags_of(GIVEN).take(torch.tensor([1, 5]))) == [[], []]


def test_counts_are_those_of_all_rows():
    assert bags_of(GIVEN).counts(7).tolist() == [0, 3, 0, 3, 0, 3, 0]


def test_no_rows_and_no_ids():
    assert lists(bags_of([])) == []
    assert lists(bags_of([[], []])) == [[], []]
