"""How an edit made in latents is laid over the photograph that it belongs to: decoded first, blended after.

Latents that are blended cell by cell and decoded then show a halo around the mask: what the decoder makes of a border
cell is neither the edit nor the photograph. Here the whole view is edited and decoded, and a soft mask in pixels says
how much of it shows. What the decoder cannot show, the photograph's detail, comes back where the edit has kept it.
"""

from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from latenteditor.editing.delta_mask import dilate

SPECK = 4
"""Cells of a mask that are too few to stand alone, and of a hole in it too few to stay open. Our choice."""
WIDENED = 1
"""Cells around a mask in which the seam lies. On eight views of a built-in world 25.8 dB inside the true region, where
the seam inside the mask leaves 14.6."""
DETAIL_WINDOW = 9
"""Pixels along each side of the neighbourhood in which an edit is compared with what it was made of. Our choice."""
FLAT = 2e-3
"""Variance below which a neighbourhood has no detail. On four photographs made night at half their size, against the
rule's truth: 24.2 dB without detail, 25.4 with 4e-4, 25.6 with this."""
LEAST_CHANGE, FULL_CHANGE = 0.05, 0.25
"""Shares of an edit's strongest change: up to the first a pixel stays the photograph's, from the second on it is the
edit's. On eight views of a built-in world: 37.4 dB outside the true region and 25.6 inside without, 38.1 and 25.5
with."""
EDGES = 1e-4
"""Variance of colours below which a neighbourhood has no edge that a border could follow; in [0, 1] squared."""
UNCHANGED = 1e-4
"""Variance of a change below which there is no border."""
LEAST_TOLD, WELL_TOLD = 0.2, 0.6
"""How much of a change's variance the photograph's colours must tell: up to the first its border stays where the edit
has it, from the second on it follows the photograph's edges. On eight views of a built-in world: 38.1 dB outside the
true region and 25.5 inside without, 41.6 and 25.6 with. Edits that draw new outlines keep them by this: a decoded true
cube in a cone's place has 29.4 dB inside, 25.5 if every border follows the photograph, 30.0 if none does."""
FAINTEST = 1 / 255
"""Share of an edit that 8 bits cannot show."""
STRONGEST = 0.95
"""Quantile of the changes in a mask that stands for the strongest."""


class Overlay(NamedTuple):
    """An edited photograph."""

    picture: UInt8[np.ndarray, "height width 3"]
    """Where `share` is 0 it is the photograph, bit for bit."""
    share: Float[np.ndarray, "height width"]
    """How much of each pixel is the edit's, in [0, 1]."""
    lost: Bool[np.ndarray, "height width"] | None = None
    """What belongs to the edit and could not be had: nothing is to be learnt there."""


def lay_over(
    photograph: UInt8[np.ndarray, "height width 3"],
    edited: Float[Tensor, "3 rows columns"],
    unedited: Float[Tensor, "3 rows columns"],
    mask: Bool[Tensor, "1 cell_rows cell_columns"],
) -> Overlay:
    """Lays a decoded edit over its photograph, within the mask.

    Args:
        photograph: The view at its native size.
        edited: The decoded edit of the whole view, in [0, 1], at the size at which it was edited.
        unedited: What the decoder makes of the same view before the edit: what an edit that does nothing would show.
        mask: Where the view may change, in latent cells.
    """
    height, width = photograph.shape[:2]
    edited, unedited = edited.float().cpu(), unedited.float().cpu()
    region = dilate(tidy(mask)[None], WIDENED)[0]
    before = torch.from_numpy(photograph).permute(2, 0, 1).float() / 255
    change = along_edges(shown_change(edited, unedited, region), before, edited.shape[-1] / region.shape[-1])
    share = soft_region(region, (height, width)) * change
    share = share.where(share >= FAINTEST, 0.0)
    rows, columns = np.nonzero(share.numpy() > 0)
    if len(rows) == 0:
        return Overlay(photograph, share.numpy())
    after = with_detail(edited, unedited, before).clamp(0, 1)
    blended = before + share * (after - before)
    picture = photograph.copy()
    picture[rows, columns] = (blended[:, rows, columns].T * 255).round().byte().numpy()
    return Overlay(picture, share.numpy())


def tidy(mask: Bool[Tensor, "1 rows columns"], speck: int = SPECK) -> Bool[Tensor, "1 rows columns"]:
    """The mask without islands of fewer than `speck` cells, and with holes as small closed."""
    kept = _without_small(mask[0].cpu().numpy(), speck, connectivity=8)
    closed = ~_without_small(~kept, speck, connectivity=4)
    return torch.from_numpy(closed)[None]


def soft_region(mask: Bool[Tensor, "1 rows columns"], size: tuple[int, int]) -> Float[Tensor, "height width"]:
    """How much of each pixel of a view of (height, width) the edit shows: 0 outside the mask, 1 a cell inside it.

    The outline is smooth where that of the cells has steps. At the view's own border there is no seam.
    """
    smooth = F.interpolate(mask[None].float(), size, mode="bilinear", align_corners=False)[0, 0]
    inside = np.pad((smooth >= 0.5).numpy().astype(np.uint8), 1, mode="edge")
    if inside.all():
        return torch.ones(size)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    cell = max(size[0] / mask.shape[1], size[1] / mask.shape[2])
    # The outermost pixel of the region is the first that the edit shows in.
    share = torch.from_numpy(distance).clamp(max=cell) / cell
    return _smooth_step(share)


def shown_change(
    edited: Float[Tensor, "3 rows columns"],
    unedited: Float[Tensor, "3 rows columns"],
    mask: Bool[Tensor, "1 cell_rows cell_columns"],
) -> Float[Tensor, "1 rows columns"]:
    """How much of each pixel an edit has changed: 0 where it left the look as it was.

    What counts as a change follows from the strongest that the edit makes in its mask, so that a faint one counts too.
    """
    change = _mean((edited - unedited).abs().amax(dim=0, keepdim=True), 3)
    within = F.interpolate(mask[None].float(), change.shape[-2:], mode="nearest-exact")[0].cpu() > 0
    if not within.any():
        return torch.zeros_like(change)
    strongest = float(np.quantile(change[within].numpy(), STRONGEST))
    least, full = LEAST_CHANGE * strongest, FULL_CHANGE * strongest
    share = ((change - least) / max(full - least, 1e-6)).clamp(0, 1)
    return _smooth_step(share)


def along_edges(
    change: Float[Tensor, "1 rows columns"], photograph: Float[Tensor, "3 height width"], radius: float
) -> Float[Tensor, "height width"]:
    """A change at the photograph's size, its borders where the photograph has edges.

    The decoder blurs an edit's outline; the photograph has it sharp wherever the edit keeps it. In each neighbourhood
    the change is taken for a line in the photograph's colours, `change = a . colours + b`, fitted at the edit's size
    and followed at the photograph's (guided filter, He et al. 2010, He and Sun 2015). Where that does not tell the
    change, as around an outline that the edit drew anew, its border stays as it is.

    Args:
        change: How much of each pixel the edit shows, at the size at which it was edited.
        photograph: Its colours.
        radius: Of a neighbourhood, in pixels of the edit: how far the decoder may blur an outline.
    """
    colours = F.interpolate(photograph[None], change.shape[-2:], mode="area")[0]
    window = 2 * round(radius) + 1
    slope, constant, explained, variance = (_mean(fitted, window) for fitted in _fit_line(change, colours, window))
    told = (explained + UNCHANGED) / (variance + UNCHANGED)
    maps = torch.cat([slope, constant, told, change])
    large = F.interpolate(maps[None], photograph.shape[-2:], mode="bilinear", align_corners=False)[0]
    followed = ((large[:3] * photograph).sum(dim=0) + large[3]).clamp(0, 1)
    weight = _smooth_step(((large[4] - LEAST_TOLD) / (WELL_TOLD - LEAST_TOLD)).clamp(0, 1))
    return weight * followed + (1 - weight) * large[5]


def _fit_line(
    values: Float[Tensor, "1 rows columns"], colours: Float[Tensor, "3 rows columns"], window: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The line in colours that is nearest to values around each pixel.

    Returns:
        Its slope, its constant, and the values' variance: as far as the line explains it, and all of it.
    """
    mean_values, mean_colours = _mean(values, window), _mean(colours, window)
    with_values = _mean(colours * values, window) - mean_colours * mean_values
    products = (colours[:, None] * colours[None]).flatten(0, 1)
    means = (mean_colours[:, None] * mean_colours[None]).flatten(0, 1)
    covariance = (_mean(products, window) - means).unflatten(0, (3, 3)).permute(2, 3, 0, 1)
    system = covariance + EDGES * torch.eye(3)
    slope = torch.linalg.solve(system, with_values.permute(1, 2, 0)[..., None])[..., 0].permute(2, 0, 1)
    variance = _mean(values**2, window) - mean_values**2
    explained = (slope * with_values).sum(dim=0, keepdim=True)
    return slope, mean_values - (slope * mean_colours).sum(dim=0, keepdim=True), explained, variance


def with_detail(
    edited: Float[Tensor, "3 rows columns"],
    unedited: Float[Tensor, "3 rows columns"],
    photograph: Float[Tensor, "3 height width"],
) -> Float[Tensor, "3 height width"]:
    """The edit at the photograph's size, with the photograph's detail where it has kept the view's own.

    In each neighbourhood the edit is taken for a line in what it was made of, `edited = a unedited + b` (as a guided
    filter does, He et al. 2010); what the photograph shows beyond `unedited` is added `a` times: all of it where the
    edit changed nothing, as much as it changed contrasts where it changed colours, none where it drew something else.
    """
    size = photograph.shape[-2:]
    mean_edited, mean_unedited = _mean(edited), _mean(unedited)
    covariance = _mean(edited * unedited) - mean_edited * mean_unedited
    variance = _mean(unedited * unedited) - mean_unedited**2
    of_edited = _mean(edited * edited) - mean_edited**2
    # Where both are flat nothing tells, and the photograph's grain may stay.
    slope = (covariance + FLAT) / (variance + FLAT)
    fit = (covariance + FLAT) ** 2 / ((variance + FLAT) * (of_edited + FLAT))
    strength = (slope.clamp(0, 2) * fit.clamp(0, 1)).mean(dim=0, keepdim=True)
    large_edited, large_unedited, large_strength = (
        F.interpolate(image[None], size, mode=mode, align_corners=False)[0]
        for image, mode in ((edited, "bicubic"), (unedited, "bicubic"), (strength, "bilinear"))
    )
    return large_edited + large_strength * (photograph - large_unedited)


def _mean(image: Float[Tensor, "channels rows columns"], window: int = DETAIL_WINDOW) -> Tensor:
    """The mean around each pixel, over the pixels that there are in a window."""
    return F.avg_pool2d(image[None], window, 1, window // 2, count_include_pad=False)[0]


def _smooth_step(share: Tensor) -> Tensor:
    """The same from 0 to 1, without corners."""
    return share * share * (3 - 2 * share)


def _without_small(mask: Bool[np.ndarray, "rows columns"], least: int, connectivity: int) -> np.ndarray:
    """A mask without its connected parts of fewer than `least` cells."""
    labels: np.ndarray
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=connectivity)
    large = statistics[:, cv2.CC_STAT_AREA] >= least
    large[0] = False
    return large[labels]
