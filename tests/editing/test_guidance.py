import pytest
import torch

from latenteditor.editing.denoiser import Conditions, Denoiser
from latenteditor.editing.guidance import (
    Guidance,
    NoisePrediction,
    denoise,
    predict_for_guidance,
    predict_guided,
    predict_in_batches,
    predict_with_and_without_prompt,
)
from latenteditor.editing.noise_schedule import FlowSchedule
from tests.editing.denoisers import KnownEdit, noise_schedule


class Recorder:
    """Notes its calls; predicts the image condition, plus 1000 for each letter of the prompt."""

    noise_schedule = noise_schedule()
    conditions = Conditions()

    def __init__(self):
        self.calls = []

    def predict_noise(self, noisy, image_condition, timestep, prompts):
        self.calls.append(list(prompts))
        return image_condition + 1000.0 * torch.tensor([len(prompt) for prompt in prompts])[:, None, None, None]


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))


def prediction() -> NoisePrediction:
    return NoisePrediction(draw(0), draw(1), draw(2))


def test_known_edits_are_denoisers_and_plain_objects_are_not():
    assert isinstance(KnownEdit(torch.zeros(1)), Denoiser)
    assert not isinstance(object(), Denoiser)


def test_guidance_of_one_is_the_prediction_under_text_and_image():
    torch.testing.assert_close(Guidance(text=1.0, image=1.0).combine(prediction()), prediction().text)


def test_guidance_without_text_is_that_of_the_image_alone():
    text, image, uncond = prediction()
    torch.testing.assert_close(Guidance(text=0.0, image=1.0).combine(prediction()), image)
    torch.testing.assert_close(Guidance(text=0.0, image=0.0).combine(prediction()), uncond)


def test_guidance_follows_equation_3_of_instruct_pix2pix():
    text, image, uncond = prediction()
    expected = uncond + 1.5 * (image - uncond) + 7.5 * (text - image)
    torch.testing.assert_close(Guidance().combine(prediction()), expected)


def test_guidance_asks_once_for_three_predictions_of_each_view():
    denoiser = Recorder()
    predicted = predict_for_guidance(denoiser, draw(0), draw(1), 500, "hat")
    assert denoiser.calls == [["hat", "hat", "", "", "", ""]]
    assert torch.equal(predicted.text, draw(1) + 3000.0)
    assert torch.equal(predicted.image, draw(1))
    assert torch.equal(predicted.uncond, torch.zeros_like(draw(1)))


def test_what_an_image_guidance_of_one_weighs_by_zero_is_not_asked_for():
    denoiser, guidance = Recorder(), Guidance(text=1.25, image=1.0)
    expected = guidance.combine(predict_for_guidance(denoiser, draw(0), draw(1), 500, "hat"))
    predicted = predict_guided(denoiser, draw(0), draw(1), 500, "hat", guidance)
    torch.testing.assert_close(predicted, expected)
    assert denoiser.calls == [["hat", "hat", "", "", "", ""], ["hat", "hat", "", ""]]
    predict_guided(denoiser, draw(0), draw(1), 500, "hat", Guidance(text=1.25, image=1.1))
    assert len(denoiser.calls[-1]) == 6


def test_guidance_of_one_asks_for_nothing_but_the_prediction_under_text_and_image():
    denoiser, guidance = Recorder(), Guidance(text=1.0, image=1.0)
    expected = guidance.combine(predict_for_guidance(denoiser, draw(0), draw(1), 500, "hat"))
    predicted = predict_guided(denoiser, draw(0), draw(1), 500, "hat", guidance)
    torch.testing.assert_close(predicted, expected)
    assert denoiser.calls[1:] == [["hat", "hat"]]


@pytest.mark.parametrize(
    ("interval", "rows"), [((0.0, 1.0), [6] * 5), ((0.2, 0.8), [2, 6, 6, 6, 2]), ((0.5, 0.5), [2, 2, 6, 2, 2])]
)
def test_outside_its_interval_guidance_asks_for_one_prediction_of_each_view(interval, rows):
    denoiser, guidance = Recorder(), Guidance(interval=interval)
    for fraction in (1.0, 0.8, 0.5, 0.2, 0.0):
        timestep = denoiser.noise_schedule.timestep_at(fraction)
        predicted = predict_guided(denoiser, draw(0), draw(1), timestep, "hat", guidance)
        within = interval[0] <= fraction <= interval[1]
        expected = predict_guided(
            Recorder(), draw(0), draw(1), timestep, "hat", Guidance(*(() if within else (1.0, 1.0)))
        )
        torch.testing.assert_close(predicted, expected)
    assert [len(call) for call in denoiser.calls] == rows


def test_a_run_asks_for_fewer_rows_where_guidance_acts_in_an_interval():
    denoiser, timesteps = KnownEdit(torch.ones(4, 3, 5)), noise_schedule().descending_timesteps(999, 10)
    denoise(denoiser, draw(0), draw(1), timesteps, "paint it", Guidance(interval=(0.2, 0.8)))
    assert denoiser.batch_sizes == [2] * 2 + [6] * 6 + [2] * 2, "one or three for each of two views"


def test_two_branches_become_one_outside_the_interval():
    denoiser = Recorder()
    denoiser.conditions = Conditions(branches=2)
    predict_guided(denoiser, draw(0), draw(1), 900, "hat", Guidance(interval=(0.0, 0.5)))
    assert denoiser.calls == [["hat", "hat"]]


@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_guidance_acts_everywhere_unless_it_is_told_otherwise(timestep):
    assert Guidance(3.0, 2.0).at(timestep, noise_schedule()) == Guidance(3.0, 2.0)
    assert Guidance(3.0, 2.0).at(timestep - 0.5, FlowSchedule()) == Guidance(3.0, 2.0)


@pytest.mark.parametrize(
    ("interval", "message"), [((0.8, 0.2), r"0\.8 and ends at 0\.2: swap"), ((0.0, 1.5), "not 1.5")]
)
def test_what_is_no_interval_is_refused(interval, message):
    with pytest.raises(ValueError, match=message):
        predict_guided(Recorder(), draw(0), draw(1), 500, "hat", Guidance(interval=interval))


def test_the_mask_asks_once_for_two_predictions_of_each_view():
    denoiser = Recorder()
    with_prompt, without = predict_with_and_without_prompt(denoiser, draw(0), draw(1), 500, "hat")
    assert denoiser.calls == [["hat", "hat", "", ""]]
    assert torch.equal(with_prompt, draw(1) + 3000.0)
    assert torch.equal(without, draw(1))


@pytest.mark.parametrize(("max_batch", "batch_sizes"), [(None, [6]), (6, [6]), (4, [4, 2]), (1, [1] * 6)])
def test_batches_of_any_size_predict_the_same(max_batch, batch_sizes):
    whole, parts = KnownEdit(torch.ones(4, 3, 5)), KnownEdit(torch.ones(4, 3, 5))
    expected = predict_for_guidance(whole, draw(0), draw(1), 500, "paint it")
    predicted = predict_for_guidance(parts, draw(0), draw(1), 500, "paint it", max_batch)
    assert parts.batch_sizes == batch_sizes
    assert all(torch.equal(*pair) for pair in zip(predicted, expected, strict=True))


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="A batch of 0 holds nothing: take 1 or more"):
        predict_in_batches(Recorder(), draw(0), draw(1), 500, ["", ""], max_batch=0)


def test_two_branches_are_combined_by_the_text_guidance_alone():
    denoiser = Recorder()
    denoiser.conditions = Conditions(branches=2)
    predicted = predict_guided(denoiser, draw(0), draw(1), 500, "hat", Guidance(text=2.0, image=9.0))
    torch.testing.assert_close(predicted, draw(1) + 2.0 * 3000.0)
    predict_guided(denoiser, draw(0), draw(1), 500, "hat", Guidance(text=1.0))
    assert denoiser.calls == [["hat", "hat", "", ""], ["hat", "hat"]]


def test_two_branches_are_corrected_as_the_denoiser_asks():
    denoiser = Recorder()
    denoiser.conditions = Conditions(branches=2, restore=lambda combined, text: combined - text)
    predicted = predict_guided(denoiser, draw(0), draw(1), 500, "hat", Guidance(text=2.0))
    torch.testing.assert_close(predicted, torch.full_like(predicted, 3000.0), atol=1e-3, rtol=0)


def test_one_branch_is_asked_once_and_told_the_guidance_if_it_reads_it():
    class Told(Recorder):
        conditions = Conditions(branches=1, extras=("guidance",))

        def predict_noise(self, noisy, image_condition, timestep, prompts, guidance=0.0):
            return super().predict_noise(noisy, image_condition, timestep, prompts) + guidance

    denoiser = Told()
    predicted = predict_guided(denoiser, draw(0), draw(1), 500, "hat", Guidance(text=2.5))
    torch.testing.assert_close(predicted, draw(1) + 3000.0 + 2.5)
    assert denoiser.calls == [["hat", "hat"]]
