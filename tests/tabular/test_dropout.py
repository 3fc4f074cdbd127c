import pytest
import torch

from catembed.tabular.dropout import Dropout


@pytest.mark.parametrize(("p", "dropped"), [(0.1, 26), (0.3, 77), (0.5, 128)])
def test_elements_are_dropped_at_random_and_the_mean_is_kept(p, dropped):
    torch.manual_seed(0)
    given = torch.ones(999, 333, requires_grad=True)
    out = Dropout(p)(given)
    kept = out != 0
    assert kept.float().mean() == pytest.approx(1 - dropped / 256, abs=0.003)  # four standard deviations
    assert out[kept].unique().tolist() == pytest.approx([256 / (256 - dropped)])
    out.sum().backward()
    assert torch.equal(given.grad, out)
    # No element has anything to do with its neighbours in a word of eight.
    flat = kept.flatten().float()
    for apart in (1, 4, 8):
        assert torch.corrcoef(torch.stack([flat[apart:], flat[:-apart]]))[0, 1] == pytest.approx(0, abs=0.008)


def test_one_seed_gives_one_mask_and_evaluation_none():
    given, layer = torch.randn(7, 5), Dropout(0.5)
    masks = []
    for _ in range(2):
        torch.manual_seed(3)
        masks.append(layer(given))
    assert torch.equal(*masks)
    assert not torch.equal(layer(given), masks[0])
    assert layer.eval()(given) is given
    assert Dropout(0.0)(given) is given
