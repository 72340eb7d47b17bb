"""One view edited under several settings, to see what a prompt does, and where, before a scene is edited."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import DeltaMaskConfig, blend, delta_mask, delta_score, require_usable
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, edit_from_noise, noise_range, require_instruction
from latenteditor.editing.guidance import Guidance


class Preview(NamedTuple):
    """One view under every threshold and every guidance that was tried."""

    score: Float[Tensor, "1 1 rows columns"]
    """The raw delta score, which no threshold and no guidance changes."""
    masks: Bool[Tensor, "thresholds 1 rows columns"]
    """Where the view may change."""
    edits: Float[Tensor, "guidances thresholds channels rows columns"]
    """The edited view; outside the mask the base, bit for bit."""


@torch.no_grad()
def preview(
    denoiser: Denoiser,
    rendered: Float[Tensor, "1 channels rows columns"],
    base: Float[Tensor, "1 channels rows columns"],
    config: EditConfig,
    thresholds: Sequence[float | None] | None = None,
    guidances: Sequence[Guidance] | None = None,
    on_step: Callable[[int, int], object] | None = None,
) -> Preview:
    """Edits a view once for each guidance, from the most noise allowed, and cuts each edit by every threshold.

    With the blending "per-step" every threshold needs an edit of its own. Where all masks are empty, none is made.

    Args:
        denoiser: Predicts the noise.
        rendered: The latents that are noised: what the scene shows, or the base.
        base: The latents of the view as it was before the edit.
        config: The edit; its prompt is one instruction. Its own threshold and guidance apply where no others are given.
        thresholds: Of the delta mask; None among them edits the whole view.
        guidances: How strongly the edits follow prompt and image.
        on_step: Told after each denoising step how many are done, and of how many.

    Raises:
        ValueError: There is no prompt, or a setting lies outside its range.
    """
    cuts = _usable_cuts(denoiser, config, thresholds)
    guidances = (config.guidance,) if guidances is None else guidances
    score = delta_score(denoiser, base, config.prompt, config.delta_mask, config.seed, config.max_batch)
    masks = torch.cat([delta_mask(score, cut) for cut in cuts])
    edits = base.expand(len(guidances), len(masks), *base.shape[1:]).clone()
    # What one edit serves: all masks, if they come after it.
    shares = [[row] for row in range(len(masks))] if config.blending == "per-step" else [list(range(len(masks)))]
    shares = [rows for rows in shares if masks[rows].any()]
    count = _counter(len(guidances) * len(shares) * config.denoising_steps, on_step)
    for column, guidance in enumerate(guidances):
        for rows in shares:
            guided, reached = replace(config, guidance=guidance), masks[rows].any(dim=0, keepdim=True)
            edited = edit_from_noise(denoiser, rendered, base, guided, reached, count)
            edits[column, rows] = blend(masks[rows], edited.expand_as(edits[column, rows]), edits[column, rows])
    return Preview(score, masks, edits)


def _usable_cuts(
    denoiser: Denoiser, config: EditConfig, thresholds: Sequence[float | None] | None
) -> list[DeltaMaskConfig]:
    """How masks are cut at each threshold, once all settings are known to be in their range."""
    require_instruction(config.prompt)
    noise_range(config, denoiser.noise_schedule)
    if thresholds is None:
        thresholds = (config.delta_mask.threshold if config.mask == "per-view" else None,)
    cuts = [replace(config.delta_mask, threshold=threshold) for threshold in thresholds]
    for cut in cuts:
        require_usable(cut)
    return cuts


def _counter(total: int, on_step: Callable[[int, int], object] | None) -> Callable[[], None]:
    """What counts steps up to a total, and tells somebody."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if on_step is not None:
            on_step(done, total)

    return count
