"""Where an instruction applies: the delta module of LatentEditor.

Delta = |e(z_t, I, C) - e(z_t, I, -)|: the same noised latent under the same image, with and without the
prompt. Where the two predictions differ the instruction has something to change; a threshold on the scaled
difference is the mask M.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.guidance import predict_with_and_without_prompt

Clamp = Literal["max", "quantile", "iqr", "mean3"]

PEAK_QUANTILE = 0.995
"""The quantile that stands for a score's peak where one outlying cell must not decide; our choice."""

SURE = 1.5
"""Times the gate that a view's peak must reach to speak for the other views; measured by us."""

RENDERED_SHARE = 0.65
"""The share of the threshold that relevance must exceed where it is rendered from the field; measured by us."""


@dataclass
class DeltaMaskConfig:
    """How the delta score is measured and cut into a mask."""

    noise_level: float = 0.8
    """How far into the noise schedule the score is measured, 0 to 1. Lower sees finer detail and less of the
    object. The default is that of Watch Your Steps; DiffEdit takes 0.5."""
    draws: int = 4
    """Noise draws the score is averaged over. More is steadier and slower. Watch Your Steps takes 1, DiffEdit
    10."""
    clamp: Clamp = "max"
    """The raw score that counts as 1: its maximum; its 0.995 quantile; Q3 + 1.5 IQR (Watch Your Steps;
    saturates where the region is small and the rest is quiet); or three times its mean (DiffEdit). The
    default is our choice."""
    threshold: float | None = 0.5
    """Scaled score above which a latent cell may change, 0 to 1. Lower edits more of the view; None edits all
    of it. The default is that of Watch Your Steps."""
    gate: float = 0.05
    """Raw score that a view's peak must reach, else nothing in it is edited: without this, a view in which
    there is nothing to edit would be masked by stretched noise. 0 switches it off. Our choice."""
    least_views: float = 0.2
    """Share of the views whose peak must be 1.5 times the gate, else no view is edited: a few views may be mistaken
    about something that is not there. Lower it for what few photographs show; 0 lets each view decide for itself. Our
    choice, measured on built-in worlds."""
    dilation: int = 0
    """Latent cells by which the mask is widened on every side. Our choice."""


def require_usable(config: DeltaMaskConfig) -> None:
    """Refuses settings from which no mask follows, before anything is measured.

    Raises:
        ValueError: One of them lies outside its range.
    """
    if config.draws < 1:
        raise ValueError(f"A delta score needs at least 1 noise draw, not {config.draws}.")
    if config.clamp not in CLAMPS:
        raise ValueError(f"Unknown clamp {config.clamp!r} of the delta score: one of {', '.join(CLAMPS)} fits.")
    if config.threshold is not None and not 0.0 <= config.threshold <= 1.0:
        raise ValueError(
            f"A mask's threshold lies between 0 and 1, not at {config.threshold}; None edits the whole view."
        )
    if not 0.0 <= config.least_views <= 1.0:
        raise ValueError(
            f"The share of views that must show what is edited lies between 0 and 1, not at {config.least_views}."
        )
    _require_width(config.dilation)


@torch.no_grad()
def delta_score(
    denoiser: Denoiser,
    bases: Float[Tensor, "views channels rows columns"],
    instruction: str,
    config: DeltaMaskConfig,
    seed: int = 0,
    max_batch: int | None = None,
) -> Float[Tensor, "views 1 rows columns"]:
    """The instruction's effect on the prediction: its length over channels, averaged over noise draws.

    The draws depend on `seed` and the views' size alone, so a view's score is the same in every batch and on
    every device.
    """
    require_usable(config)
    timestep = denoiser.noise_schedule.timestep_at(config.noise_level)
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros_like(bases[:, :1])
    for _ in range(config.draws):
        noise = torch.randn(bases.shape[1:], generator=generator).to(bases).expand_as(bases)
        noisy = denoiser.noise_schedule.add_noise(bases, noise, timestep)
        with_prompt, without = predict_with_and_without_prompt(denoiser, noisy, bases, timestep, instruction, max_batch)
        total += torch.linalg.vector_norm(with_prompt - without, dim=1, keepdim=True)
    return total / config.draws


def delta_mask(
    score: Float[Tensor, "views 1 rows columns"], config: DeltaMaskConfig
) -> Bool[Tensor, "views 1 rows columns"]:
    """M: true where a latent cell may change."""
    if config.threshold is None:
        return torch.ones_like(score, dtype=torch.bool)
    above = normalise(score, config.clamp) > config.threshold
    return dilate(above & reaches_gate(score, config.gate), config.dilation)


def gated_relevance(
    score: Float[Tensor, "views 1 rows columns"], config: DeltaMaskConfig
) -> Float[Tensor, "views 1 rows columns"]:
    """The scaled score in [0, 1], zero in views with nothing to edit: what a relevance head learns."""
    return normalise(score, config.clamp) * reaches_gate(score, config.gate)


def relevance_mask(
    relevance: Float[Tensor, "views 1 rows columns"], config: DeltaMaskConfig
) -> Bool[Tensor, "views 1 rows columns"]:
    """M of relevance that was rendered from the field: views that do not quite agree flatten its peaks."""
    if config.threshold is None:
        return torch.ones_like(relevance, dtype=torch.bool)
    return dilate(relevance > RENDERED_SHARE * config.threshold, config.dilation)


def normalise(
    score: Float[Tensor, "views 1 rows columns"], clamp: Clamp = "max"
) -> Float[Tensor, "views 1 rows columns"]:
    """The score of each view divided by its clamp and clipped there, so that it lies in [0, 1]."""
    bound = CLAMPS[clamp](score.flatten(1))[:, None, None, None]
    smallest = torch.finfo(score.dtype).tiny
    return (score / bound.clamp(min=smallest)).clamp(max=1.0)


def reaches_gate(score: Float[Tensor, "views 1 rows columns"], gate: float) -> Bool[Tensor, "views 1 1 1"]:
    """Which views have something to edit: those whose peak reaches the gate."""
    return (peak(score) >= gate)[:, None, None, None]


def scene_shows(scores: Sequence[Float[Tensor, "1 _ _"]], config: DeltaMaskConfig) -> bool:
    """Whether enough views of a scene, which may differ in size, have something to edit for all to be believed."""
    peaks = torch.cat([peak(score[None]) for score in scores])
    return (peaks >= SURE * config.gate).sum().item() >= config.least_views * len(scores)


def peak(score: Float[Tensor, "views 1 rows columns"]) -> Float[Tensor, " views"]:
    """The highest score of each view, less the odd outlying cell: what is held against the gate."""
    return quantile(score.flatten(1), PEAK_QUANTILE)


def dilate(mask: Bool[Tensor, "views 1 rows columns"], cells: int) -> Bool[Tensor, "views 1 rows columns"]:
    """The mask widened by `cells` on every side."""
    _require_width(cells)
    return functional.max_pool2d(mask.float(), 2 * cells + 1, stride=1, padding=cells) > 0


def blend(
    mask: Bool[Tensor, "*views 1 rows columns"],
    inside: Float[Tensor, "*views channels rows columns"],
    outside: Float[Tensor, "*views channels rows columns"],
) -> Float[Tensor, "*views channels rows columns"]:
    """M inside + (1 - M) outside, taken rather than computed: what is outside stays as it is, bit for bit."""
    return torch.where(mask, inside, outside)


def quantile(scores: Float[Tensor, "views cells"], fraction: float) -> Float[Tensor, " views"]:
    """The quantile of each view's cells."""
    return torch.quantile(scores.float(), fraction, dim=1).to(scores)


def _require_width(cells: int) -> None:
    if cells < 0:
        raise ValueError(f"A mask is widened by 0 or more latent cells, not {cells}.")


def _interquartile_bound(scores: Float[Tensor, "views cells"]) -> Float[Tensor, " views"]:
    """Q3 + 1.5 IQR, the usual bound of what is no outlier."""
    upper = quantile(scores, 0.75)
    return upper + 1.5 * (upper - quantile(scores, 0.25))


CLAMPS: dict[Clamp, Callable[[Tensor], Tensor]] = {
    "max": lambda scores: scores.amax(dim=1),
    "quantile": lambda scores: quantile(scores, PEAK_QUANTILE),
    "iqr": _interquartile_bound,
    "mean3": lambda scores: 3.0 * scores.mean(dim=1),
}
"""The raw score of each view that counts as 1, by name."""
