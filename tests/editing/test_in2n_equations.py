"""An edit of in2n, beside a plain transcription of the equations that Instruct-NeRF2NeRF is published with."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.editing.guidance import Guidance, denoise
from latenteditor.editing.pixel_editor import PixelEditor
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix

PROMPT = "make it red"


@pytest.fixture(scope="module")
def networks(tiny_instruct_pix2pix_folder) -> Any:
    """The small networks in diffusers' and transformers' own hands."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip import CLIPTextModel, CLIPTokenizer

    folder = tiny_instruct_pix2pix_folder
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")

    def embed(prompt: str) -> torch.Tensor:
        tokens = tokenizer(prompt, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt")
        return text_encoder(tokens.input_ids)[0]

    return SimpleNamespace(
        vae=AutoencoderKL.from_pretrained(folder, subfolder="vae"),
        unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet"),
        embed=embed,
    )


@torch.no_grad()
def published_edit(
    networks: Any,
    rendered: torch.Tensor,
    original: torch.Tensor,
    noise: torch.Tensor,
    t: int,
    steps: int = 20,
    s_text: float = 7.5,
    s_image: float = 1.5,
) -> torch.Tensor:
    """U(I_i, t; I_0, c) of Instruct-NeRF2NeRF, section 3.2: noise to t, then `steps` DDIM steps from t to the end.

    Guidance is InstructPix2Pix' equation 3, the step DDIM's equation 12 without noise.
    """
    vae, unet = networks.vae, networks.unet
    alpha = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).tolist()
    image = vae.encode(2 * original - 1).latent_dist.mode()
    nothing = torch.zeros_like(image)
    text, no_text = networks.embed(PROMPT), networks.embed("")

    z = vae.config.scaling_factor * vae.encode(2 * rendered - 1).latent_dist.mode()
    z = alpha[t] ** 0.5 * z + (1 - alpha[t]) ** 0.5 * noise
    timesteps = [round(t + (1 - t) * step / (steps - 1)) for step in range(steps)]
    for now, then in zip(timesteps, [*timesteps[1:], 0], strict=True):

        def predict(condition: torch.Tensor, prompt: torch.Tensor) -> torch.Tensor:
            return unet(torch.cat([z, condition], dim=1), now, encoder_hidden_states=prompt).sample  # noqa: B023

        both, image_only, neither = predict(image, text), predict(image, no_text), predict(nothing, no_text)
        e = neither + s_image * (image_only - neither) + s_text * (both - image_only)
        clean = (z - (1 - alpha[now]) ** 0.5 * e) / alpha[now] ** 0.5
        z = alpha[then] ** 0.5 * clean + (1 - alpha[then]) ** 0.5 * e
    return (vae.decode(z / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)


def draw_images(seed: int) -> torch.Tensor:
    """One image of 64x48 smooth colors."""
    coarse = torch.rand(1, 3, 4, 3, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (64, 48), mode="bilinear")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_an_edit_is_what_the_published_equations_say(networks, tiny_instruct_pix2pix_folder, seed):
    model = str(tiny_instruct_pix2pix_folder)
    config = EditConfig(PROMPT, mask="none", seed=seed)
    editor = PixelEditor(LatentEditor(load_instruct_pix2pix(model, "cpu"), config), load_autoencoder(model, "cpu"))
    rendered, original = draw_images(10 + seed), draw_images(20 + seed)
    edited, mask, _ = editor.edit(rendered, original, [0], PROMPT)

    generator = torch.Generator().manual_seed(seed)
    t = int(torch.randint(20, 980, (), generator=generator))  # [0.02, 0.98] of 1,000 timesteps.
    noise = torch.randn(1, 4, 8, 6, generator=generator)
    expected = published_edit(networks, rendered, original, noise, t)
    assert mask.all()
    assert (edited - expected).abs().max() < 1e-4
    # Any of these would tell a mistake from rounding.
    for mistaken in (
        published_edit(networks, rendered, original, noise, t, s_text=1.5, s_image=7.5),
        published_edit(networks, rendered, original, noise, t - 19),
        published_edit(networks, rendered, original, noise, t, steps=10),
        published_edit(networks, original, rendered, noise, t),
    ):
        assert (edited - mistaken).abs().max() > 1e-3


@torch.no_grad()
def test_denoising_along_the_timesteps_of_the_public_code_ends_where_it_ends(networks, tiny_instruct_pix2pix_folder):
    """It shortens the scheduler's schedule to t, which spaces its 20 steps t // 20 apart, and uses diffusers' step."""
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    t = 500
    scheduler: Any = DDIMScheduler.from_pretrained(tiny_instruct_pix2pix_folder / "scheduler")
    scheduler.config.num_train_timesteps = t
    scheduler.set_timesteps(20)
    timesteps = scheduler.timesteps.tolist()
    assert timesteps[:2] == [476, 451]
    generator = torch.Generator().manual_seed(0)
    noisy, original = (torch.randn(1, 4, 8, 6, generator=generator) for _ in range(2))

    image = original / networks.vae.config.scaling_factor
    conditions = torch.cat([image, image, torch.zeros_like(image)])
    embeddings = torch.cat([networks.embed(prompt) for prompt in (PROMPT, "", "")])
    expected = noisy
    for timestep in scheduler.timesteps:
        inputs = torch.cat([expected.repeat(3, 1, 1, 1), conditions], dim=1)
        text, image_only, neither = networks.unet(inputs, timestep, encoder_hidden_states=embeddings).sample.chunk(3)
        guided = neither + 7.5 * (text - image_only) + 1.5 * (image_only - neither)
        expected = scheduler.step(guided, timestep, expected).prev_sample

    denoiser = load_instruct_pix2pix(str(tiny_instruct_pix2pix_folder), "cpu")
    found = denoise(denoiser, noisy, original, timesteps, PROMPT, Guidance())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
