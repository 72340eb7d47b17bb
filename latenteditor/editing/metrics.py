"""How good an edit is: directions in CLIP's space, errors in and outside a region, overlap of a mask with it.

Regions are at pixel resolution and should be independent of the mask that was trained with; PSNR and SSIM take images
in [0, 1]. Embeddings are CLIP's, of unit length: C(o) of an original render, C(e) of the edited one from the same
camera. Differences of embeddings are directions; where two renders are equal there is none, and the figure is 0.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

SSIM_WINDOW = 11
"""Pixels along each side of the window in which SSIM compares, as in Wang et al. 2004."""

SSIM_SIGMA = 1.5
"""Standard deviation of the Gaussian in that window, in pixels."""


class RegionFigures(NamedTuple):
    """One figure of each view, NaN where nothing is compared."""

    overall: Float[Tensor, " views"]
    """Over the whole view."""
    inside: Float[Tensor, " views"]
    """Over the region."""
    outside: Float[Tensor, " views"]
    """Over the rest."""


def direction_similarity(
    original: Float[Tensor, "views dimensions"],
    edited: Float[Tensor, "views dimensions"],
    source_caption: Float[Tensor, " dimensions"],
    target_caption: Float[Tensor, " dimensions"],
) -> Float[Tensor, " views"]:
    """CLIP text-image direction similarity: cos(C(e) - C(o), T(target) - T(source)), from -1 to 1."""
    return F.cosine_similarity(edited - original, (target_caption - source_caption)[None], dim=1)


def in2n_consistency(
    original: Float[Tensor, "frames dimensions"], edited: Float[Tensor, "frames dimensions"]
) -> Float[Tensor, " pairs"]:
    """cos(C(o_i+1) - C(o_i), C(e_i+1) - C(e_i)): does the edit change from frame to frame as the original does."""
    return F.cosine_similarity(original.diff(dim=0), edited.diff(dim=0), dim=1)


def printed_consistency(
    original: Float[Tensor, "frames dimensions"], edited: Float[Tensor, "frames dimensions"]
) -> Float[Tensor, " pairs"]:
    """(C(e_i) - C(o_i)) . (C(e_i+1) - C(e_i)), as papers print it: a product of short vectors, so near 0."""
    return ((edited - original)[:-1] * edited.diff(dim=0)).sum(dim=1)


def wys_consistency(
    original: Float[Tensor, "frames dimensions"], edited: Float[Tensor, "frames dimensions"]
) -> Float[Tensor, " pairs"]:
    """cos(C(e_i) - C(o_i), C(e_i+1) - C(o_i+1)): is the edit the same direction in neighbouring frames."""
    directions = edited - original
    return F.cosine_similarity(directions[:-1], directions[1:], dim=1)


class Consistency(NamedTuple):
    """One of the formulas that are called CLIP direction consistency; their figures do not compare."""

    formula: str
    """As it is written beside every figure."""
    measure: Callable[[Tensor, Tensor], Tensor]
    """Of the embeddings of all original and all edited frames of a camera path; one figure per neighbouring pair."""


CONSISTENCIES = {
    "in2n": Consistency("cos(C(o_i+1) - C(o_i), C(e_i+1) - C(e_i))", in2n_consistency),
    "printed": Consistency("(C(e_i) - C(o_i)) . (C(e_i+1) - C(e_i))", printed_consistency),
    "wys": Consistency("cos(C(e_i) - C(o_i), C(e_i+1) - C(o_i+1))", wys_consistency),
}
"""CLIP direction consistency by name: as Instruct-NeRF2NeRF computes it, as printed, as Watch Your Steps does."""


def psnr(
    images: Float[Tensor, "views channels height width"],
    reference: Float[Tensor, "views channels height width"],
    region: Bool[Tensor, "views 1 height width"] | None = None,
) -> Float[Tensor, " views"]:
    """10 log10(1 / mean squared error) of each view, over the region if there is one; infinite for equal images."""
    squared_error = (images - reference).square().mean(dim=1, keepdim=True)
    return -10.0 * mean_over(squared_error, region).log10()


def region_psnr(
    images: Float[Tensor, "views channels height width"],
    reference: Float[Tensor, "views channels height width"],
    region: Bool[Tensor, "views 1 height width"],
) -> RegionFigures:
    """PSNR in decibels over the whole view, over the region and over the rest."""
    return RegionFigures(psnr(images, reference), psnr(images, reference, region), psnr(images, reference, ~region))


def region_means(
    values: Float[Tensor, "views 1 height width"], region: Bool[Tensor, "views 1 height width"]
) -> RegionFigures:
    """Means of a map, such as `ssim_map` or LPIPS', over the whole view, over the region and over the rest."""
    return RegionFigures(mean_over(values), mean_over(values, region), mean_over(values, ~region))


def mean_over(
    values: Float[Tensor, "views 1 height width"], region: Bool[Tensor, "views 1 height width"] | None = None
) -> Float[Tensor, " views"]:
    """The mean of each view's map, over the region if there is one; NaN where that is empty."""
    if region is None:
        return values.flatten(1).mean(dim=1)
    return values.where(region, 0.0).flatten(1).sum(dim=1) / region.flatten(1).sum(dim=1)


def ssim_map(
    images: Float[Tensor, "views channels height width"], reference: Float[Tensor, "views channels height width"]
) -> Float[Tensor, "views 1 height width"]:
    """Structural similarity around each pixel, the mean over channels; 1 where images are equal.

    Wang et al. 2004: a Gaussian window of 11 pixels, sigma 1.5, K1 = 0.01, K2 = 0.03; images are reflected at their
    borders. Up to half a window from a region's border, what lies beyond it counts too.

    Raises:
        ValueError: The images are too small to be reflected by half a window.
    """
    half = SSIM_WINDOW // 2
    height, width = images.shape[-2:]
    if min(height, width) <= half:
        raise ValueError(f"SSIM needs images of {half + 1} or more pixels along each side, not {width}x{height}.")
    offsets = torch.arange(SSIM_WINDOW, device=images.device, dtype=images.dtype) - half
    weights = torch.exp(-0.5 * (offsets / SSIM_SIGMA).square())
    window = torch.outer(weights, weights)[None, None] / weights.sum().square()

    def local_mean(values: Tensor) -> Tensor:
        padded = F.pad(values, (half,) * 4, mode="reflect").flatten(0, 1)[:, None]
        return F.conv2d(padded, window).view_as(values)

    mean, reference_mean = local_mean(images), local_mean(reference)
    variance = (local_mean(images.square()) - mean.square()).clamp(min=0)
    reference_variance = (local_mean(reference.square()) - reference_mean.square()).clamp(min=0)
    covariance = local_mean(images * reference) - mean * reference_mean
    luminance = (2 * mean * reference_mean + 0.01**2) / (mean.square() + reference_mean.square() + 0.01**2)
    structure = (2 * covariance + 0.03**2) / (variance + reference_variance + 0.03**2)
    return (luminance * structure).mean(dim=1, keepdim=True)


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
