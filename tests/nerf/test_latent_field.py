import torch
from nerfstudio.model_components import renderers
from nerfstudio.model_components.renderers import background_color_override_context

from latenteditor.nerf.latent_field import (
    DenseGrids,
    LatentDensityField,
    LatentField,
    LatentRenderer,
    network_parameters,
    table_parameters,
)


def field(channels: int = 5, encoding="dense") -> LatentField:
    return LatentField(
        torch.tensor([[-1.0, -1, -1], [1, 1, 1]]),
        num_images=3,
        channels=channels,
        encoding=encoding,
        hidden_dim=16,
        hidden_dim_color=16,
        num_levels=2,
        base_res=4,
        max_res=8,
        features_per_level=2,
        log2_hashmap_size=6,
        appearance_embedding_dim=0,
        implementation="torch",
    )


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def test_dense_grids_interpolate_linear_functions_exactly():
    grids = DenseGrids(num_levels=2, base_res=3, max_res=7, features_per_level=3)
    for grid in grids.grids:
        axis = torch.linspace(0, 1, grid.shape[-1])
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        grid.data = torch.stack([x, y, z])[None]
    positions = random(20, 3)
    torch.testing.assert_close(grids(positions), torch.cat([positions, positions], dim=-1))


def test_gradients_reach_positions_only_when_asked():
    for asked in (False, True):
        positions = random(4, 3).requires_grad_()
        grids = DenseGrids(1, 4, 4, 2, position_gradients=asked)
        grids(positions).sum().backward()
        assert (positions.grad is not None) == asked


def test_the_head_has_as_many_channels_as_latents_and_no_bounds():
    head = field(channels=5).mlp_head
    outputs = head(100 * random(10, 16 + 15))
    assert outputs.shape == (10, 5)
    assert outputs.abs().max() > 1


def test_tables_and_networks_share_no_parameter_and_miss_none():
    for encoding in ("dense", "hash"):
        scene = field(encoding=encoding)
        tables, networks = table_parameters(scene), network_parameters(scene)
        ids = [id(value) for value in tables + networks]
        assert tables
        assert sorted(ids) == sorted(id(value) for value in scene.parameters())


def test_a_dense_proposal_has_no_hash_table():
    density = LatentDensityField(
        torch.tensor([[-1.0, -1, -1], [1, 1, 1]]),
        encoding="dense",
        hidden_dim=8,
        num_levels=2,
        max_res=8,
        log2_hashmap_size=6,
        use_linear=False,
        implementation="torch",
    )
    names = [name for name, _ in density.named_parameters()]
    assert names
    assert not any("hash" in name for name in names)
    assert (density.density_fn(random(7, 3)) >= 0).all()


def test_rendering_is_a_weighted_sum_on_the_last_sample_and_unclamped():
    latents = 10 * random(6, 4, 5) - 5
    weights = 0.2 * random(6, 4, 1)
    expected = (weights * latents).sum(dim=1) + (1 - weights.sum(dim=1)) * latents[:, -1]
    for training in (True, False):
        rendered = LatentRenderer().train(training)(latents, weights)
        torch.testing.assert_close(rendered, expected)
        assert rendered.min() < 0


def test_behind_a_cropped_scene_lies_the_mean_latent():
    latents, weights = random(6, 4, 5), torch.zeros(6, 4, 1)
    with background_color_override_context(torch.ones(3)):
        assert torch.equal(LatentRenderer()(latents, weights), torch.zeros(6, 5))
    assert renderers.BACKGROUND_COLOR_OVERRIDE is None
