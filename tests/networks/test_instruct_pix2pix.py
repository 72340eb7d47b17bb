import copy
import json
import shutil
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latenteditor import devices
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.editing.guidance import Guidance, denoise, predict_for_guidance
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix, load_noise_schedule
from latenteditor.networks.parts import LatentScale

PROMPT = "make it red"


@pytest.fixture(scope="module")
def instruct_pix2pix(tiny_instruct_pix2pix_folder):
    return load_instruct_pix2pix(str(tiny_instruct_pix2pix_folder), "cpu")


@pytest.fixture(scope="module")
def pipeline(tiny_instruct_pix2pix_folder):
    """The same networks in diffusers' own hands."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
        StableDiffusionInstructPix2PixPipeline,
    )

    reference = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        tiny_instruct_pix2pix_folder, safety_checker=None, requires_safety_checker=False
    )
    reference.set_progress_bar_config(disable=True)
    return reference


@pytest.fixture
def copied_folder(tiny_instruct_pix2pix_folder, tmp_path):
    """A copy to damage."""
    return shutil.copytree(tiny_instruct_pix2pix_folder, tmp_path / "copy")


def latents(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def rewrite_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_it_is_a_denoiser(instruct_pix2pix):
    assert isinstance(instruct_pix2pix, Denoiser)


def test_predictions_match_the_unet_of_diffusers(instruct_pix2pix, pipeline):
    noisy, original = latents(1), latents(1, seed=1)
    raw = original / pipeline.vae.config.scaling_factor
    embeddings = pipeline._encode_prompt([PROMPT], "cpu", 1, True)
    with torch.no_grad():
        expected = pipeline.unet(
            torch.cat([noisy.repeat(3, 1, 1, 1), torch.cat([raw, raw, torch.zeros_like(raw)])], dim=1),
            500,
            encoder_hidden_states=embeddings,
        ).sample
    predicted = predict_for_guidance(instruct_pix2pix, noisy, original, 500, PROMPT)
    torch.testing.assert_close(torch.cat(predicted), expected, atol=1e-5, rtol=1e-5)


def test_an_edit_from_pure_noise_matches_the_pipeline_of_diffusers(instruct_pix2pix, pipeline):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    noise = latents(1)
    expected = pipeline(
        prompt=PROMPT,
        image=image,
        latents=noise.clone(),
        num_inference_steps=10,
        guidance_scale=3.0,
        image_guidance_scale=1.5,
        output_type="latent",
    ).images
    timesteps = pipeline.scheduler.timesteps.tolist()
    with torch.no_grad():
        original = pipeline.vae.encode(2.0 * image - 1.0).latent_dist.mode() * pipeline.vae.config.scaling_factor
    schedule = instruct_pix2pix.noise_schedule
    assert schedule.descending_timesteps(timesteps[0], 10) == timesteps
    edited = denoise(instruct_pix2pix, noise, original, timesteps, PROMPT, Guidance(text=3.0, image=1.5))
    torch.testing.assert_close(edited, expected, atol=1e-4, rtol=1e-4)


def test_the_default_edit_runs_and_keeps_what_lies_outside_the_mask_bit_for_bit(instruct_pix2pix):
    config = EditConfig(PROMPT)
    config.delta_mask.gate = 0.0
    originals = latents(2, seed=1)
    edited, mask, score = LatentEditor(instruct_pix2pix, config).edit(latents(2), originals, [0, 1], PROMPT)
    assert score is not None
    assert 0 < mask.sum() < mask.numel()
    assert torch.equal(edited.where(~mask, 0.0), originals.where(~mask, 0.0))
    assert not torch.equal(edited, originals)


def test_no_image_stays_exact_zeros(instruct_pix2pix):
    condition = torch.cat([latents(1), torch.zeros(1, 4, 8, 8)])
    shifted = copy.copy(instruct_pix2pix)
    shifted.latent_scale = LatentScale(scale=0.5, shift=0.3)
    unscaled = shifted._unscale(condition)
    assert torch.equal(unscaled[0], condition[0] / 0.5 + 0.3)
    assert torch.equal(unscaled[1], torch.zeros(4, 8, 8))


def test_the_latent_scale_is_that_of_the_autoencoders_config(instruct_pix2pix):
    assert instruct_pix2pix.latent_scale == LatentScale(0.25, 0.0)


def test_a_config_without_a_latent_scale_means_the_default_of_its_class(copied_folder):
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    config = copied_folder / "vae" / "config.json"
    without_scale = {key: value for key, value in json.loads(config.read_text()).items() if key != "scaling_factor"}
    config.write_text(json.dumps(without_scale))
    loaded = load_instruct_pix2pix(str(copied_folder), "cpu")
    assert loaded.latent_scale.scale == AutoencoderKL().config.scaling_factor


def test_the_weights_of_the_autoencoder_are_not_needed(copied_folder):
    (copied_folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    assert load_instruct_pix2pix(str(copied_folder), "cpu").embed(PROMPT).shape == (32, 16)


def test_latents_with_another_number_of_channels_are_refused(instruct_pix2pix):
    instruct_pix2pix.require_channels(4)
    with pytest.raises(ValueError, match="latents have 16 channels and this InstructPix2Pix edits latents with 4"):
        instruct_pix2pix.require_channels(16)


def test_embeddings_are_made_once(instruct_pix2pix):
    assert instruct_pix2pix.embed(PROMPT) is instruct_pix2pix.embed(PROMPT)


def test_networks_are_frozen_and_in_evaluation_mode(instruct_pix2pix):
    for network in (instruct_pix2pix._unet, instruct_pix2pix._text_encoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_on_a_cpu_is_bfloat16_and_close(tiny_instruct_pix2pix_folder, instruct_pix2pix, monkeypatch):
    monkeypatch.setattr(devices, "is_slow_in_half", lambda: False)
    half = load_instruct_pix2pix(str(tiny_instruct_pix2pix_folder), "cpu", half_precision=True)
    predicted = half.predict_noise(latents(1), latents(1, 1), 500, [PROMPT])
    assert half.dtype is torch.bfloat16
    assert predicted.dtype is torch.float32
    expected = instruct_pix2pix.predict_noise(latents(1), latents(1, 1), 500, [PROMPT])
    torch.testing.assert_close(predicted, expected, atol=0.05, rtol=0.05)


def test_offloaded_weights_predict_the_same(tiny_instruct_pix2pix_folder, instruct_pix2pix):
    offloaded = load_instruct_pix2pix(str(tiny_instruct_pix2pix_folder), "cpu", cpu_offload=True)
    arguments = latents(2), latents(2, 1), 500, [PROMPT, ""]
    assert all(parameter.is_meta for parameter in offloaded._unet.parameters())
    torch.testing.assert_close(offloaded.predict_noise(*arguments), instruct_pix2pix.predict_noise(*arguments))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cpu_offload", [False, True])
def test_a_gpu_predicts_in_float16_what_the_cpu_predicts(tiny_instruct_pix2pix_folder, instruct_pix2pix, cpu_offload):
    on_gpu = load_instruct_pix2pix(str(tiny_instruct_pix2pix_folder), "cuda", True, cpu_offload)
    predicted = on_gpu.predict_noise(latents(1).cuda(), latents(1, 1).cuda(), 500, [PROMPT])
    assert on_gpu.dtype is torch.float16
    expected = instruct_pix2pix.predict_noise(latents(1), latents(1, 1), 500, [PROMPT])
    torch.testing.assert_close(predicted.cpu(), expected, atol=0.01, rtol=0.01)


def test_the_noise_schedule_is_that_of_the_scheduler(tiny_instruct_pix2pix_folder, pipeline):
    schedule = load_noise_schedule(str(tiny_instruct_pix2pix_folder))
    assert torch.equal(schedule.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    assert schedule.final_alpha_cumprod == pipeline.scheduler.alphas_cumprod[0]
    assert schedule.first_timestep == 1


def test_a_scheduler_of_another_name_gives_its_noise_schedule_all_the_same(copied_folder):
    rewrite_json(
        copied_folder / "scheduler" / "scheduler_config.json",
        _class_name="EulerAncestralDiscreteScheduler",
        prediction_type="v_prediction",
    )
    assert load_noise_schedule(str(copied_folder)).prediction_type == "v_prediction"


def test_a_prompt_beyond_the_limit_is_refused_with_both_counts(instruct_pix2pix):
    assert instruct_pix2pix.embed("a" * 30).shape == (32, 16)
    with pytest.raises(ValueError, match=r"The prompt has 33 tokens.* reads 32: shorten it"):
        instruct_pix2pix.embed("a" * 31)


def test_a_unet_without_room_for_an_image_is_refused(copied_folder):
    rewrite_json(copied_folder / "unet" / "config.json", in_channels=4)
    with pytest.raises(ValueError, match="is no InstructPix2Pix: its U-Net takes 4 channels, not 8"):
        load_instruct_pix2pix(str(copied_folder), "cpu")


@pytest.mark.parametrize(
    ("folder", "missing"),
    [
        ("unet", "unet/config.json"),
        ("text_encoder", "text_encoder/config.json"),
        ("scheduler", "scheduler/scheduler_config.json"),
        ("vae", "vae/config.json"),
        ("tokenizer", "tokenizer/tokenizer_config.json"),
    ],
)
def test_a_folder_that_lacks_a_part_is_refused_by_its_name(copied_folder, folder, missing):
    shutil.rmtree(copied_folder / folder)
    with pytest.raises(ValueError, match=f"is no InstructPix2Pix pipeline: it has no {missing}"):
        load_instruct_pix2pix(str(copied_folder), "cpu")


@pytest.mark.parametrize("folder", ["unet", "text_encoder"])
def test_missing_weights_are_refused_in_one_line(copied_folder, folder):
    for weights in (copied_folder / folder).glob("*.safetensors"):
        weights.unlink()
    with pytest.raises(ValueError, match=f"The {folder} of .* could not be read") as refusal:
        load_instruct_pix2pix(str(copied_folder), "cpu")
    assert "\n" not in str(refusal.value)


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(ValueError, match="neither an existing folder nor a hub id"):
        load_instruct_pix2pix(str(tmp_path / "nowhere"), "cpu")


def test_an_unreachable_hub_is_told_from_an_unknown_id(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

    def offline(*_args, **_kwargs):
        raise OfflineModeIsEnabled("offline")

    def unknown(*_args, **_kwargs):
        response: Any = SimpleNamespace(status_code=404, headers={}, request=None)
        raise RepositoryNotFoundError("Repository Not Found", response=response)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(ValueError, match="the hub cannot be reached"):
        load_instruct_pix2pix("nobody/nothing", "cpu")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unknown)
    with pytest.raises(ValueError, match="The hub has no model 'nobody/nothing'"):
        load_instruct_pix2pix("nobody/nothing", "cpu")
