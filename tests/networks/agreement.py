"""How far our guided sampling lies from that of diffusers' own pipelines, on the same numbers.

`python -m pytest tests/networks/test_families.py` holds it to 1e-4, and writes the table to the file that
LATENTEDITOR_AGREEMENT names.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, edit_from
from latenteditor.editing.guidance import Guidance, denoise
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.editors import load_denoiser

PROMPT = "make it red"
HEIGHT, WIDTH, STEPS = 64, 96, 5
GUIDANCE = Guidance(text=3.0, image=1.5)


class Agreement(NamedTuple):
    """The largest differences between our latents and theirs."""

    denoiser: Denoiser
    every_step: float
    """After any step of a whole run without a mask."""
    masked: float
    """After a whole run that blends by a mask after each step."""


class Case(NamedTuple):
    """The same edit for both."""

    pipeline: Any
    denoiser: Any
    image: Tensor
    base: Tensor
    noise: Tensor
    mask: Tensor
    start: int
    timesteps: list[float]


def measure(pipeline: Any, model: Path) -> Agreement:
    """Samples by diffusers and by us, with and without a mask."""
    case = make_case(pipeline, model)
    ours: list[Tensor] = []

    def keep(latents: Tensor, _timestep: float) -> Tensor:
        ours.append(latents)
        return latents

    started = case.denoiser.noise_schedule.add_noise(case.base, case.noise, case.start)
    denoise(case.denoiser, started, case.base, case.timesteps, PROMPT, GUIDANCE, keep)
    theirs = sample_theirs(case, started, masked=False)
    every_step = max(largest(to_theirs(case, latents, step), theirs[step]) for step, latents in enumerate(ours))
    config = EditConfig(PROMPT, guidance=GUIDANCE, denoising_steps=STEPS, blending="per-step")
    edited = edit_from(case.denoiser, case.base, case.base, config, case.start, case.noise, case.mask)
    masked = largest(to_theirs(case, edited, STEPS - 1), sample_theirs(case, started, masked=True)[-1])
    return Agreement(case.denoiser, every_step, masked)


def make_case(pipeline: Any, model: Path) -> Case:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, HEIGHT, WIDTH), generator=generator) / 255
    denoiser = load_denoiser(str(model), "cpu")
    if hasattr(denoiser, "sight"):
        denoiser.decode = lambda _latents: image
        denoiser.sight = denoiser.sight._replace(area=HEIGHT * WIDTH)
    base = load_autoencoder(str(model), "cpu").encode(image)
    noise = torch.randn(base.shape, generator=generator)
    mask = torch.zeros_like(base[:, :1], dtype=torch.bool)
    mask[..., 2:5, 3:9] = True
    schedule = denoiser.noise_schedule
    spaced_from_the_end = getattr(schedule, "first_timestep", 0) > 0
    start = 1000 // STEPS * (STEPS - 1) + 1 if spaced_from_the_end else schedule.timestep_at(1.0)
    timesteps = schedule.descending_timesteps(start, STEPS, (base.shape[-2], base.shape[-1]))
    return Case(pipeline, denoiser, image, base, noise, mask, start, list(timesteps))


def sample_theirs(case: Case, started: Tensor, masked: bool) -> list[Tensor]:
    """Their latents after each step."""
    found: list[Tensor] = []

    def blended(step: int, latents: Tensor) -> Tensor:
        level = case.pipeline.scheduler.sigmas[step + 1].item()
        signal = 1.0 if is_diffusion(case) else 1.0 - level
        outside = pack_theirs(case, signal * case.base + level * case.noise)
        inside = pack_theirs(case, case.mask.float().expand_as(case.base)) > 0
        return torch.where(inside, latents, outside) if masked else latents

    def of_sdxl(step: int, _timestep: Tensor, latents: Tensor) -> None:
        latents.copy_(blended(step, latents))
        found.append(latents.clone())

    def of_flow(_pipeline: Any, step: int, _timestep: Tensor, kept: dict[str, Tensor]) -> dict[str, Tensor]:
        found.append(blended(step, kept["latents"]))
        return {"latents": found[-1]}

    options = their_options(case, started)
    options |= {"callback": of_sdxl} if is_diffusion(case) else {"callback_on_step_end": of_flow}
    case.pipeline(prompt=PROMPT, num_inference_steps=STEPS, height=HEIGHT, width=WIDTH, output_type="latent", **options)
    return found


def their_options(case: Case, started: Tensor) -> dict[str, Any]:
    """What each pipeline calls the same things."""
    from PIL import Image

    pixels = (255 * case.image[0].permute(1, 2, 0)).round().byte().numpy()
    by_name = {
        "StableDiffusionXLInstructPix2PixPipeline": {
            "image": case.image,
            "latents": started,
            "guidance_scale": GUIDANCE.text,
            "image_guidance_scale": GUIDANCE.image,
        },
        "FluxKontextPipeline": {
            "image": case.image,
            "latents": pack_theirs(case, started),
            "guidance_scale": GUIDANCE.text,
            "max_area": HEIGHT * WIDTH,
            "_auto_resize": False,
        },
        "Flux2KleinPipeline": {
            "image": Image.fromarray(pixels),
            "latents": case.pipeline._patchify_latents(started) if not is_diffusion(case) and has_klein(case) else None,
            "guidance_scale": GUIDANCE.text,
        },
    }
    of_qwen = {
        "image": Image.fromarray(pixels),
        "latents": pack_theirs(case, started),
        "negative_prompt": " ",
        "true_cfg_scale": GUIDANCE.text,
    }
    return dict(by_name.get(type(case.pipeline).__name__, of_qwen))


def to_theirs(case: Case, latents: Tensor, step: int) -> Tensor:
    """Our latents after a step, in their units."""
    if not is_diffusion(case):
        return pack_theirs(case, latents)
    return latents * (1.0 + case.pipeline.scheduler.sigmas[step + 1].item() ** 2) ** 0.5


def pack_theirs(case: Case, latents: Tensor) -> Tensor:
    """Latents as the pipeline's own function packs them."""
    if is_diffusion(case):
        return latents
    if has_klein(case):
        return case.pipeline._pack_latents(case.pipeline._patchify_latents(latents))
    return case.pipeline._pack_latents(latents, *latents.shape)


def is_diffusion(case: Case) -> bool:
    return case.denoiser.noise_schedule.prediction_type != "flow"


def has_klein(case: Case) -> bool:
    return type(case.pipeline).__name__ == "Flux2KleinPipeline"


def largest(ours: Tensor, theirs: Tensor) -> float:
    return (ours - theirs).abs().max().item()
