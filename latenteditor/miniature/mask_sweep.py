"""Settings of the delta mask against each other, on single views of worlds whose true region is known."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import CLAMPS, DeltaMaskConfig, delta_mask, delta_score
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.metrics import mask_iou
from latenteditor.miniature.evaluation import draw_case
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder
from latenteditor.networks.editors import load_denoiser

IDLE_ENOUGH = 0.9
"""Of the views in which there is nothing to edit: a setting that leaves more of them alone is no better for it."""


@dataclass
class SweepConfig:
    """What to compare, and on what."""

    model: str = "miniature"
    """The InstructPix2Pix whose mask is measured: "miniature", a hub id or a folder."""
    first_seed: int = 1_000_000
    """First world; training uses the seeds from 0 on, and the built-in editor's figures those from 2,000,000 on."""
    num_cases: int = 60
    """Worlds, with one instruction each and one about a solid that is not there."""
    size: int = 256
    """Pixels of either side of a view."""
    device: str = "cpu"
    """Any torch device."""
    noise_levels: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Where in the noise schedule the score is measured, 0 to 1."""
    draws: tuple[int, ...] = (1, 4)
    """Noise draws of one score."""
    thresholds: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6)
    """Of the scaled score, 0 to 1."""
    gates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    """Of the raw score's peak."""


class SweepCases(NamedTuple):
    """Views whose masks are measured."""

    latents: Float[Tensor, "cases channels rows columns"]
    regions: Bool[Tensor, "cases 1 height width"]
    """What the instructions are about."""
    prompts: list[str]
    idle_prompts: list[str]
    """Instructions about solids that are not there."""


def sweep(config: SweepConfig) -> list[dict[str, Any]]:
    """Measures every setting, the best first: overlap counts, and to leave nine of ten idle views alone.

    Raises:
        ValueError: There is no such model, or nothing to measure.
    """
    if config.num_cases < 1:
        raise ValueError(f"There must be 1 or more worlds to measure on, not {config.num_cases}.")
    autoencoder = load_autoencoder(config.model, config.device)
    denoiser = load_denoiser(config.model, config.device)
    cases = draw_sweep_cases(config, autoencoder)
    settings = list(product(config.noise_levels, config.draws))
    rows = [
        row
        for noise_level, draws in tqdm(settings, desc="settings")
        for row in measure_score(config, cases, denoiser, DeltaMaskConfig(noise_level=noise_level, draws=draws))
    ]
    return sorted(rows, key=lambda row: row["iou"] + min(row["idle_empty"], IDLE_ENOUGH), reverse=True)


def draw_sweep_cases(config: SweepConfig, autoencoder: Autoencoder) -> SweepCases:
    """Draws the worlds and encodes a view of each."""
    seeds = range(config.first_seed, config.first_seed + config.num_cases)
    cases = [draw_case(seed, config.size) for seed in tqdm(seeds, desc="cases")]
    return SweepCases(
        torch.cat([autoencoder.encode(case.before.to(config.device)) for case in cases]),
        torch.cat([case.region for case in cases]),
        [case.prompt for case in cases],
        [case.idle_prompt for case in cases],
    )


def measure_score(
    config: SweepConfig, cases: SweepCases, denoiser: Denoiser, score: DeltaMaskConfig
) -> Iterator[dict[str, Any]]:
    """Measures one score, cut into masks in every way: the mean overlap, and the share of idle views left alone."""
    scores, idle_scores = (
        scores_of(denoiser, cases.latents, prompts, score) for prompts in (cases.prompts, cases.idle_prompts)
    )
    for clamp, threshold, gate in product(CLAMPS, config.thresholds, config.gates):
        setting = replace(score, clamp=clamp, threshold=threshold, gate=gate)
        found = delta_mask(scores, setting)
        pixels = F.interpolate(found.float(), cases.regions.shape[-2:], mode="nearest-exact").bool()
        empty = ~delta_mask(idle_scores, setting).flatten(1).any(dim=1)
        yield {
            **asdict(setting),
            "iou": mask_iou(pixels, cases.regions).mean().item(),
            "idle_empty": empty.float().mean().item(),
        }


def scores_of(
    denoiser: Denoiser,
    latents: Float[Tensor, "cases channels rows columns"],
    prompts: Sequence[str],
    config: DeltaMaskConfig,
) -> Float[Tensor, "cases 1 rows columns"]:
    """The delta score of each view by its own prompt."""
    scores = [delta_score(denoiser, latents[i : i + 1], prompt, config) for i, prompt in enumerate(prompts)]
    return torch.cat(scores).cpu()
