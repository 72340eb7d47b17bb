"""How well an editor edits single views of worlds it never saw, where the truth is known."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.diffusion.autoencoder import Autoencoder
from latenteditor.editing.delta_mask import delta_mask, delta_score
from latenteditor.editing.editor import EditConfig, denoise
from latenteditor.editing.guidance import Denoiser
from latenteditor.editing.metrics import mask_iou, psnr
from latenteditor.miniature.dataset import region
from latenteditor.miniature.instructions import idle_wording, random_recolouring, wording
from latenteditor.miniature.pairs import to_bytes
from latenteditor.miniature.render import Tracer, dome_camera
from latenteditor.miniature.world import random_world

SMALLEST_REGION = 0.01
"""Of a view: a solid that is hardly seen tells nothing about an editor."""


@dataclass(frozen=True)
class Case:
    """One view of one world and one instruction about it."""

    prompt: str
    idle_prompt: str
    """An instruction about a solid that is not there."""
    before: Float[Tensor, "1 3 height width"]
    after: Float[Tensor, "1 3 height width"]
    region: Bool[Tensor, "1 1 height width"]


def draw_case(seed: int, size: int) -> Case:
    """A view in which the instruction changes something."""
    world, rng = random_world(seed), np.random.default_rng((seed, 3))
    tracer = Tracer(world)
    while True:
        hits = tracer.trace(dome_camera(rng, size))
        recolouring = random_recolouring(world, rng, num_solids=1)
        changed = region(hits, recolouring)
        if changed.mean() >= SMALLEST_REGION:
            break
    return Case(
        prompt=wording(world, recolouring, rng),
        idle_prompt=idle_wording(world, rng),
        before=_image(hits.shade(world)),
        after=_image(hits.shade(recolouring.apply(world))),
        region=torch.from_numpy(changed)[None, None],
    )


@torch.no_grad()
def evaluate_case(case: Case, autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig) -> dict[str, float]:
    """Figures of one case: its mask, and its edit from pure noise, without the mask's help."""
    original = autoencoder.encode(case.before.to(autoencoder.device))
    score = delta_score(denoiser, original, case.prompt, config.delta_mask, config.seed)
    idle_score = delta_score(denoiser, original, case.idle_prompt, config.delta_mask, config.seed)
    found = delta_mask(score, config.delta_mask)
    edited = autoencoder.decode(edit_from_noise(original, case.prompt, denoiser, config)).cpu()
    pixels = F.interpolate(found.float(), case.region.shape[-2:], mode="nearest-exact").bool().cpu()
    ceiling = autoencoder.decode(autoencoder.encode(case.after.to(autoencoder.device))).cpu()
    to_truth, to_original = (
        _distance(edited, case.after, case.region),
        _distance(edited, case.before, case.region),
    )
    return {
        "right": float(to_truth < to_original),
        "psnr_inside": psnr(edited, case.after, case.region).item(),
        "psnr_outside": psnr(edited, case.after, ~case.region).item(),
        "psnr_inside_unedited": psnr(case.before, case.after, case.region).item(),
        "psnr_inside_ceiling": psnr(ceiling, case.after, case.region).item(),
        "psnr_outside_ceiling": psnr(ceiling, case.after, ~case.region).item(),
        "mask_iou": mask_iou(pixels, case.region).item(),
        "score_peak": score.max().item(),
        "idle_score_peak": idle_score.max().item(),
        "idle_mask_empty": float(not delta_mask(idle_score, config.delta_mask).any()),
    }


def edit_from_noise(
    original: Float[Tensor, "views channels rows columns"],
    prompt: str,
    denoiser: Denoiser,
    config: EditConfig,
) -> Float[Tensor, "views channels rows columns"]:
    """What the editor makes of views when it starts from the most noise allowed."""
    schedule = denoiser.noise_schedule
    start = schedule.timestep_at(config.max_noise)
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(config.seed)).to(original)
    timesteps = schedule.descending_timesteps(start, config.denoising_steps)
    noisy = schedule.add_noise(original, noise, start)
    return denoise(denoiser, noisy, original, timesteps, prompt, config.guidance)


def summarise(figures: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and median of every figure over all cases."""
    return {
        name: {
            "mean": float(np.mean([row[name] for row in figures])),
            "median": float(np.median([row[name] for row in figures])),
        }
        for name in figures[0]
    }


def _distance(images: Tensor, reference: Tensor, where: Tensor) -> float:
    """Mean squared error over a region."""
    return (images - reference).square().mean(dim=1, keepdim=True)[where].mean().item()


def _image(picture: np.ndarray) -> Float[Tensor, "1 3 height width"]:
    """A rendered picture as photographs come: eight bits, channels first."""
    return torch.from_numpy(to_bytes(picture)).movedim(-1, 0)[None] / 255
