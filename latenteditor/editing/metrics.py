"""How good an edit is where the truth is known: errors in and outside a region, overlap of a mask with it.

Regions are at pixel resolution and should be independent of the mask that was trained with; PSNR takes images
in [0, 1].
"""

from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor


class RegionPsnr(NamedTuple):
    """PSNR of each view in decibels: infinite where nothing differs, NaN where nothing is compared."""

    overall: Float[Tensor, " views"]
    """Over the whole view."""
    inside: Float[Tensor, " views"]
    """Over the region."""
    outside: Float[Tensor, " views"]
    """Over the rest."""


def psnr(
    images: Float[Tensor, "views channels height width"],
    reference: Float[Tensor, "views channels height width"],
    region: Bool[Tensor, "views 1 height width"] | None = None,
) -> Float[Tensor, " views"]:
    """10 log10(1 / mean squared error) of each view, over the region if there is one."""
    squared_error = (images - reference).square().mean(dim=1, keepdim=True).flatten(1)
    if region is None:
        return -10.0 * squared_error.mean(dim=1).log10()
    inside = region.flatten(1)
    mean = squared_error.where(inside, 0.0).sum(dim=1) / inside.sum(dim=1)
    return -10.0 * mean.log10()


def region_psnr(
    images: Float[Tensor, "views channels height width"],
    reference: Float[Tensor, "views channels height width"],
    region: Bool[Tensor, "views 1 height width"],
) -> RegionPsnr:
    """PSNR over the whole view, over the region and over the rest."""
    return RegionPsnr(psnr(images, reference), psnr(images, reference, region), psnr(images, reference, ~region))


def mask_iou(
    mask: Bool[Tensor, "views 1 height width"], region: Bool[Tensor, "views 1 height width"]
) -> Float[Tensor, " views"]:
    """Intersection over union of each view's mask and region; 1 where both are empty: the mask is right."""
    intersection = (mask & region).flatten(1).sum(dim=1)
    union = (mask | region).flatten(1).sum(dim=1)
    return (intersection / union.clamp(min=1)).where(union > 0, 1.0)


def coverage(mask: Bool[Tensor, "views 1 height width"]) -> Float[Tensor, " views"]:
    """The share of each view that lies in the mask."""
    return mask.flatten(1).float().mean(dim=1)
