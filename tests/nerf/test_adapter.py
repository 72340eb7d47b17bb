import pytest
import torch

from latenteditor.nerf.adapter import RefinementAdapter


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (1, 1), (3, 2), (5, 12)])
def test_an_untrained_adapter_is_the_identity_at_any_size(size):
    rendered = latents(2, 4, *size)
    assert torch.equal(RefinementAdapter(4, width=16)(rendered), rendered)


@pytest.mark.parametrize("channels", [4, 16])
def test_a_trained_adapter_keeps_the_shape(channels):
    adapter = RefinementAdapter(channels, width=16)
    torch.nn.init.normal_(adapter.up[2].weight)  # type: ignore[arg-type]
    rendered = latents(1, channels, 5, 7)
    refined = adapter(rendered)
    assert refined.shape == rendered.shape
    assert not torch.equal(refined, rendered)


def test_every_cell_sees_the_whole_view():
    torch.manual_seed(0)
    adapter = RefinementAdapter(4, width=16)
    torch.nn.init.normal_(adapter.up[2].weight)  # type: ignore[arg-type]
    rendered = latents(1, 4, 24, 24).requires_grad_()
    adapter(rendered)[0, :, 0, 0].sum().backward()
    assert rendered.grad is not None
    assert (rendered.grad[0].abs().sum(dim=0) > 0).all()


def test_it_learns_what_depends_on_neighbours():
    torch.manual_seed(0)
    adapter = RefinementAdapter(4, width=32)
    sharp = latents(4, 4, 8, 8)
    blurred = torch.nn.functional.avg_pool2d(sharp, 3, stride=1, padding=1)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=3e-3)
    before = (blurred - sharp).square().mean()
    for _ in range(60):
        loss = (adapter(blurred) - sharp).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * before


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="width 10 into 4 heads"):
        RefinementAdapter(4, width=10, heads=4)
