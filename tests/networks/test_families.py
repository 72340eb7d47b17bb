"""Editors of every family against diffusers' own pipelines, on small networks with random weights."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from latenteditor import devices
from latenteditor.editing.delta_mask import DeltaMaskConfig, delta_score
from latenteditor.editing.denoiser import EMPTY_PROMPT, Denoiser
from latenteditor.editing.noise_schedule import NoiseSchedule
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.editors import family_of, load_denoiser, load_noise_schedule, require_autoencoder
from tests.networks import agreement, tiny_editors

BRANCHES = {"sdxl": 3, "cosxl": 3, "kontext": 1, "klein": 1, "klein_base": 2, "qwen": 2, "qwen_plus": 2}
ONE_OF_EACH = pytest.mark.parametrize("editor", ["sdxl", "kontext", "klein_base", "qwen"], indirect=True)
TITLES = {
    "sdxl": "SDXL InstructPix2Pix",
    "cosxl": "CosXL-Edit",
    "kontext": "FLUX.1-Kontext",
    "klein": "FLUX.2-klein, distilled",
    "klein_base": "FLUX.2-klein, base",
    "qwen": "Qwen-Image-Edit",
    "qwen_plus": "Qwen-Image-Edit-2509 and later",
}


@pytest.fixture(scope="module", params=tiny_editors.FOLDER_NAMES)
def editor(request, tmp_path_factory) -> tuple[str, Any, Path]:
    """The name of a small editor, diffusers' pipeline of it, and its folder."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, tiny_editors.build(request.param, folder), folder / "model"


def test_whole_runs_agree_with_the_pipeline_of_diffusers_step_for_step(editor, monkeypatch):
    name, pipeline, model = editor
    show_small_pictures(monkeypatch)
    found = agreement.measure(pipeline, model)
    assert isinstance(found.denoiser, Denoiser)
    assert isinstance(found.denoiser.noise_schedule, NoiseSchedule)
    assert found.denoiser.conditions.branches == BRANCHES[name]
    assert found.every_step < 1e-4
    assert found.masked < 1e-4
    write_row(name, found)


@ONE_OF_EACH
def test_the_delta_score_is_where_the_prompt_tells_and_nowhere_without_one(editor):
    _, _, model = editor
    denoiser = load_denoiser(str(model), "cpu")
    denoiser.sight = tiny_editors.small_sight(denoiser)
    bases = torch.randn(1, load_autoencoder(str(model), "cpu").channels, 5, 6)
    config = DeltaMaskConfig(draws=1)
    assert delta_score(denoiser, bases, "hat", config).max() > 0
    assert delta_score(denoiser, bases, EMPTY_PROMPT, config).max() < 1e-4


@ONE_OF_EACH
def test_half_precision_and_offloaded_weights_predict_nearly_the_same(editor, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    _, _, model = editor
    whole = load_denoiser(str(model), "cpu")
    half = load_denoiser(str(model), "cpu", half_precision=True)
    offloaded = load_denoiser(str(model), "cpu", cpu_offload=True)
    for denoiser in (whole, half, offloaded):
        denoiser.sight = tiny_editors.small_sight(denoiser)
    channels = load_autoencoder(str(model), "cpu").channels
    noisy, image = torch.randn(2, 2, channels, 4, 6)
    arguments = noisy, image, 500, ["hat", ""]
    expected = whole.predict_noise(*arguments)
    torch.testing.assert_close(offloaded.predict_noise(*arguments), expected)
    assert half.dtype is torch.bfloat16
    assert half.predict_noise(*arguments).dtype is torch.float32
    torch.testing.assert_close(half.predict_noise(*arguments), expected, atol=0.2, rtol=0.2)


@ONE_OF_EACH
def test_latents_of_another_autoencoder_are_refused(editor):
    _, _, model = editor
    denoiser = load_denoiser(str(model), "cpu")
    denoiser.require_channels(load_autoencoder(str(model), "cpu").channels)
    with pytest.raises(ValueError, match=r"latents have 12 channels .* reconstruct the scene with the autoencoder"):
        denoiser.require_channels(12)


@ONE_OF_EACH
def test_an_autoencoder_of_as_many_channels_and_another_scale_is_refused(editor, tiny_instruct_pix2pix_folder):
    name, _, model = editor
    require_autoencoder(str(model), load_autoencoder(str(model), "cpu"))
    if name == "sdxl":
        with pytest.raises(ValueError, match=r"scaled by 0\.25, and .* scaled by 0\.13025: reconstruct the scene with"):
            require_autoencoder(str(model), load_autoencoder(str(tiny_instruct_pix2pix_folder), "cpu"))


@ONE_OF_EACH
def test_a_scenes_latents_are_those_that_the_editor_was_trained_on(editor):
    name, pipeline, model = editor
    autoencoder = load_autoencoder(str(model), "cpu")
    images = torch.rand(1, 3, 48, 32, generator=torch.Generator().manual_seed(1))
    latents = autoencoder.encode(images)
    assert latents.shape == (1, autoencoder.channels, 6, 4)
    assert autoencoder.decode(latents).shape == images.shape
    if name.startswith("klein"):
        packed = pipeline._encode_vae_image(2 * images - 1, torch.Generator())
        torch.testing.assert_close(latents, pipeline._unpatchify_latents(packed))
    if name.startswith("qwen"):
        torch.testing.assert_close(latents, pipeline._encode_vae_image((2 * images - 1)[:, :, None], None)[:, :, 0])


@ONE_OF_EACH
def test_the_schedule_that_is_read_alone_is_that_of_the_editor(editor):
    _, _, model = editor
    alone, of_editor = load_noise_schedule(str(model)), load_denoiser(str(model), "cpu").noise_schedule
    assert alone.descending_timesteps(900, 7, (8, 12)) == of_editor.descending_timesteps(900, 7, (8, 12))


def test_a_pipeline_of_no_family_is_refused_by_its_class(tmp_path):
    (tmp_path / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    with pytest.raises(ValueError, match="is a FluxPipeline, and the editors .* Qwen-Image-Edit: pass one of these"):
        family_of(str(tmp_path))


def show_small_pictures(monkeypatch) -> None:
    """Keeps diffusers' pipelines of Qwen-Image-Edit from making a picture a million pixels."""
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit, pipeline_qwenimage_edit_plus

    size = (agreement.WIDTH, agreement.HEIGHT)
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda _area, _ratio: (*size, None))
    monkeypatch.setattr(pipeline_qwenimage_edit_plus, "calculate_dimensions", lambda _area, _ratio: size)


def write_row(name: str, found: agreement.Agreement) -> None:
    """Adds a row to the table of docs/measurements.md, if a file for it is named."""
    table = os.environ.get("LATENTEDITOR_AGREEMENT")
    if table:
        asked, prediction = found.denoiser.conditions, found.denoiser.noise_schedule.prediction_type
        cells = (TITLES[name], asked.branches, prediction, f"{found.every_step:.1e}", f"{found.masked:.1e}")
        with Path(table).open("a") as rows:
            rows.write("| " + " | ".join(map(str, cells)) + " |\n")
