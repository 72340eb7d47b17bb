import pytest
import torch

from latenteditor.editing.delta_mask import (
    DeltaMaskConfig,
    blend,
    delta_mask,
    delta_score,
    dilate,
    normalise,
    scene_shows,
)
from tests.editing.denoisers import KnownEdit

ROWS, COLUMNS = 12, 16


def originals(views: int = 2) -> torch.Tensor:
    return torch.randn(views, 4, ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))


def region() -> torch.Tensor:
    region = torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)
    region[:, 3:7, 5:11] = True
    return region


def score_with_peak(peak: float) -> torch.Tensor:
    """A score that is `peak` in the region and small noise elsewhere."""
    noise = 0.01 * peak * torch.rand(1, 1, ROWS, COLUMNS, generator=torch.Generator().manual_seed(1))
    return noise.where(~region(), peak)


def test_the_score_is_the_length_of_the_prompts_effect_on_the_noise():
    change = torch.tensor([1.0, -2.0, 0.0, 2.0])[:, None, None] * region()
    denoiser = KnownEdit(change)
    score = delta_score(denoiser, originals(), "paint it", DeltaMaskConfig(noise_level=0.5))
    share = denoiser.noise_schedule.alphas_cumprod[denoiser.noise_schedule.timestep_at(0.5)]
    expected = 3.0 * (share / (1.0 - share)).sqrt() * region()
    torch.testing.assert_close(score, expected.expand(2, 1, ROWS, COLUMNS), atol=1e-4, rtol=1e-4)


def test_a_prompt_that_changes_nothing_scores_exactly_zero_and_masks_nothing():
    score = delta_score(KnownEdit(torch.ones(4, 1, 1)), originals(), "another prompt", DeltaMaskConfig())
    assert torch.equal(score, torch.zeros(2, 1, ROWS, COLUMNS))
    for clamp in ("max", "quantile", "iqr", "mean3"):
        assert not delta_mask(score, DeltaMaskConfig(clamp=clamp, gate=0.0)).any()


def test_a_views_score_depends_neither_on_its_batch_nor_on_earlier_scores():
    class Rough(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            return super().predict_noise(noisy, image_condition, timestep, prompts) * noisy.abs()

    denoiser, config = Rough(torch.ones(4, 1, 1)), DeltaMaskConfig(draws=2)
    together = delta_score(denoiser, originals(), "paint it", config, seed=7)
    alone = delta_score(denoiser, originals()[1:], "paint it", config, seed=7, max_batch=1)
    assert torch.equal(together[1:], alone)
    assert not torch.equal(alone, delta_score(denoiser, originals()[1:], "paint it", config, seed=8))


def test_a_score_without_draws_is_refused():
    with pytest.raises(ValueError, match="at least 1 noise draw, not 0"):
        delta_score(KnownEdit(torch.ones(1)), originals(), "paint it", DeltaMaskConfig(draws=0))


@pytest.mark.parametrize("clamp", ["max", "quantile", "iqr", "mean3"])
def test_normalised_scores_lie_between_0_and_1_in_each_view(clamp):
    scores = torch.cat([score_with_peak(0.1), score_with_peak(30.0)])
    normalised = normalise(scores, clamp)
    assert normalised.min() >= 0.0
    assert normalised.max() <= 1.0
    torch.testing.assert_close(normalised[0], normalised[1], atol=1e-5, rtol=1e-4)


def test_clamps_match_their_definitions():
    score = torch.arange(1.0, 101.0).reshape(1, 1, 10, 10)
    for clamp, bound in {"max": 100.0, "mean3": 151.5, "iqr": 75.25 + 1.5 * 49.5, "quantile": 99.505}.items():
        torch.testing.assert_close(normalise(score, clamp), (score / bound).clamp(max=1.0))


def test_the_mask_is_the_region_where_the_score_stands_out():
    assert torch.equal(delta_mask(score_with_peak(1.0), DeltaMaskConfig())[0], region())


def test_scores_below_the_gate_mask_nothing_however_they_are_distributed():
    config = DeltaMaskConfig(gate=0.5)
    masks = delta_mask(torch.cat([score_with_peak(0.4), score_with_peak(0.6)]), config)
    assert not masks[0].any()
    assert torch.equal(masks[1], region())


@pytest.mark.parametrize(("first", "others", "shown"), [(1.6, 0.1, True), (1.4, 1.2, False), (0.1, 0.1, False)])
def test_a_scene_shows_what_a_fifth_of_its_views_are_sure_of(first, others, shown):
    scores = [score_with_peak(peak)[0] for peak in (first, *[others] * 4)]
    assert scene_shows(scores, DeltaMaskConfig(gate=1.0)) == shown
    assert scene_shows([score[:, ::2] for score in scores[:1]] + scores[1:], DeltaMaskConfig(gate=1.0)) == shown


def test_a_single_view_decides_for_itself_where_no_share_is_asked_for():
    scores = [score_with_peak(peak)[0] for peak in (1.1, 0.1, 0.1)]
    assert not scene_shows(scores, DeltaMaskConfig(gate=1.0))
    assert scene_shows(scores, DeltaMaskConfig(gate=1.0, least_views=0.0))


def test_one_outlying_cell_does_not_reach_the_gate():
    score = torch.zeros(1, 1, 32, 32)
    score[..., 5, 5] = 100.0
    assert not delta_mask(score, DeltaMaskConfig(gate=0.5)).any()


def test_no_threshold_masks_the_whole_view():
    assert delta_mask(torch.zeros(2, 1, 3, 4), DeltaMaskConfig(threshold=None)).all()


def test_dilation_widens_by_cells_on_every_side():
    single = torch.zeros(1, 1, 9, 9, dtype=torch.bool)
    single[..., 4, 4] = True
    assert torch.equal(dilate(single, 0), single)
    widened = torch.zeros_like(single)
    widened[..., 2:7, 2:7] = True
    assert torch.equal(dilate(single, 2), widened)
    assert dilate(single, 2).sum() == 25
    with pytest.raises(ValueError, match="0 or more latent cells, not -1"):
        dilate(single, -1)


def test_blend_takes_each_side_bit_for_bit():
    inside, outside = originals(), torch.full_like(originals(), float("nan"))
    mask = region().expand(2, 1, ROWS, COLUMNS)
    blended = blend(mask, inside, outside)
    assert torch.equal(blended.where(mask, 0.0), inside.where(mask, 0.0))
    assert blended.isnan().eq(~mask).all()
