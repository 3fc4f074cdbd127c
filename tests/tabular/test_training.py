import pytest
import torch

from catembed.tabular.model import Inputs, OneHotLinear
from catembed.tabular.objective import Objective
from catembed.tabular.training import Progress, Recipe, _Hiding, outputs, train

OBJECTIVE = Objective("regression", [])


def rows(number=256, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, 4, (number, 1), generator=generator)
    return Inputs(ids, (), torch.empty(number, 0), torch.empty(number, 0)), ids.float() - 1.5


def run(recipe, report=lambda progress: None, targets=None):
    model = OneHotLinear([4], 0, 1)
    inputs, known = rows()
    generator = torch.Generator().manual_seed(0)
    history = train(
        model,
        OBJECTIVE,
        recipe,
        inputs,
        known,
        inputs,
        known if targets is None else targets,
        generator=generator,
        report=report,
    )
    return model, history, inputs, known


def test_training_learns_and_keeps_the_best_epoch():
    model, history, inputs, known = run(Recipe(epochs=20, learning_rate=0.3, table_decay=0.0))
    assert OBJECTIVE.loss(outputs(model, inputs), known) == pytest.approx(min(history.losses), rel=1e-5)
    assert min(history.losses) < 0.01
    assert not history.interrupted
    assert not model.training


def test_training_stops_when_validation_gets_worse():
    opposite = -rows()[1]
    model, history, inputs, _ = run(Recipe(epochs=20, learning_rate=0.3), targets=opposite)
    assert len(history.losses) == history.best + 4 < 20  # a fifth of the epochs without a better loss
    assert OBJECTIVE.loss(outputs(model, inputs), opposite) == pytest.approx(min(history.losses), rel=1e-5)


def test_interruption_keeps_the_best_so_far():
    def stop(progress: Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    model, history, inputs, known = run(Recipe(epochs=20, learning_rate=0.05), stop)
    assert history.interrupted
    assert history.best == 2
    assert OBJECTIVE.loss(outputs(model, inputs), known) == pytest.approx(history.losses[1], rel=1e-5)


def test_interruption_in_the_first_epoch_keeps_what_there_is():
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    _, history, _, _ = run(Recipe(epochs=20), stop)
    assert (history.interrupted, history.best, len(history.losses)) == (True, 1, 1)


def test_progress_tells_where_training_stands():
    told = []
    run(Recipe(epochs=2, batch_size=64, learning_rate=0.3), told.append)
    ends = [each for each in told if each.validation is not None]
    assert [(each.epoch, each.step, each.steps) for each in ends] == [(1, 4, 8), (2, 8, 8)]
    assert ends[-1].seconds_left == 0
    assert all(each.rows_per_second > 0 for each in told)


def test_only_rare_categories_are_hidden_and_missing_ones_never():
    counts = [torch.tensor([0, 0, 1, 1_000_000])]  # missing, unknown, rare, frequent
    hide = _Hiding(counts, torch.Generator().manual_seed(0))
    found = hide(torch.tensor([[0], [2], [3]]).repeat(10_000, 1)).reshape(-1, 3)
    assert (found[:, 0] == 0).all()
    assert set(found[:, 1].tolist()) == {1, 2}
    assert (found[:, 1] == 1).float().mean() == pytest.approx(0.5 / 1.1, abs=0.02)
    assert (found[:, 2] == 3).all()


def test_fewer_rows_than_a_batch_are_one_batch():
    model = OneHotLinear([4], 0, 1)
    inputs, targets = rows(5)
    generator = torch.Generator().manual_seed(0)
    train(model, OBJECTIVE, Recipe(epochs=2), inputs, targets, inputs, targets, generator=generator)
    assert (model.weights.weight != 0).any()
