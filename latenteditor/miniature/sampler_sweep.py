"""Samplers, numbers of steps and intervals of guidance against each other, on single views whose truth is known."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from time import process_time
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.editing.metrics import psnr
from latenteditor.editing.samplers import Sampler
from latenteditor.miniature.evaluation import Case, draw_case, judge
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder
from latenteditor.networks.editors import load_denoiser

MOST_PSNR = 100.0
"""Of two views that are all but the same."""


@dataclass
class SamplerSweepConfig:
    """What to compare, and on what."""

    first_seed: int = 1_000_000
    """First world; training uses the seeds from 0 on, and the built-in editor's figures those from 2,000,000 on."""
    num_cases: int = 40
    """Worlds, with one instruction about solids each."""
    size: int = 256
    """Pixels of either side of a view."""
    device: str = "cpu"
    """Any torch device."""
    samplers: tuple[Sampler, ...] = ("ddim", "dpm++", "unipc")
    """Whose steps."""
    steps: tuple[int, ...] = (4, 6, 8, 10, 15, 20)
    """How many of them an edit takes."""
    least_guided: tuple[float, ...] = (0.0,)
    """Least noise at which guidance acts, a fraction of the schedule."""
    most_guided: tuple[float, ...] = (1.0,)
    """Most noise at which guidance acts, a fraction of the schedule."""
    reference_steps: int = 100
    """UniPC's steps of the edits that all others are compared with: as good as exact."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited otherwise; the default is what suits the built-in editor."""


def sweep_samplers(config: SamplerSweepConfig) -> list[dict[str, Any]]:
    """Measures every setting, in the order in which they are asked for.

    Raises:
        ValueError: There is no such model, or nothing to measure.
    """
    if config.num_cases < 1:
        raise ValueError(f"There must be 1 or more worlds to measure on, not {config.num_cases}.")
    autoencoder = load_autoencoder(config.edit.model, config.device)
    denoiser = load_denoiser(config.edit.model, config.device)
    seeds = range(config.first_seed, config.first_seed + config.num_cases)
    cases = [draw_case(seed, config.size) for seed in tqdm(seeds, desc="cases")]
    exact = replace(config.edit, sampler="unipc", denoising_steps=config.reference_steps)
    references, _ = edit_cases(cases, autoencoder, denoiser, exact)
    rows = []
    settings = list(product(config.least_guided, config.most_guided, config.samplers, config.steps))
    for least, most, sampler, steps in tqdm(settings, desc="settings"):
        guidance = replace(config.edit.guidance, interval=(least, most))
        edit = replace(config.edit, sampler=sampler, denoising_steps=steps, guidance=guidance)
        edited, seconds = edit_cases(cases, autoencoder, denoiser, edit)
        setting = {"sampler": sampler, "steps": steps, "least_guided": least, "most_guided": most}
        rows.append(setting | compare(cases, edited, references) | {"cpu_seconds": seconds})
    return rows


def edit_cases(
    cases: Sequence[Case], autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig
) -> tuple[list[Float[Tensor, "1 3 height width"]], float]:
    """Each case's view, edited from noise without a mask, and the CPU's seconds for one edit of latents."""
    edited, seconds = [], 0.0
    for case in cases:
        latents = autoencoder.encode(case.before.to(autoencoder.device))
        begin = process_time()
        found = edit_from_noise(denoiser, latents, latents, replace(config, prompt=case.prompt))
        seconds += process_time() - begin
        edited.append(autoencoder.decode(found).cpu())
    return edited, seconds / len(cases)


@torch.no_grad()
def compare(cases: Sequence[Case], edited: Sequence[Tensor], references: Sequence[Tensor]) -> dict[str, float]:
    """Means: whether an edit is recognised, its PSNR in the region and outside, and to the reference."""
    rows = [
        {
            "recognised": judge(case, view)["recognised"],
            "inside": psnr(view, case.after, case.region).item(),
            "outside": psnr(view, case.after, ~case.region).item(),
            "to_reference": min(psnr(view, reference).item(), MOST_PSNR),
        }
        for case, view, reference in zip(cases, edited, references, strict=True)
    ]
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
