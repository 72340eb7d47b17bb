"""What the held-out views of a finished edit look like: LPIPS, and how far from the region the scene has changed.

Both come from the pictures that runs leave.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.metrics import region_means
from latenteditor.pictures import read_image
from latenteditor.worlds.held_out import HeldOut

DistanceMap = Callable[[Tensor, Tensor], Tensor]
"""LPIPS around each pixel of images, against references."""
RINGS = (0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Distances in pixels between which the change around a region is averaged."""
VISIBLE = 1 / 255
"""Mean absolute change that 8 bits can show."""


class FinalViews(NamedTuple):
    """What the held-out views have come to."""

    lpips_inside: float
    """LPIPS against the truth, its map's mean over the region; NaN without LPIPS' weights."""
    lpips_outside: float
    """The same outside the region."""
    leakage: tuple[float, ...]
    """Mean absolute change against the unedited scene, of pixels in [0, 1], in each ring of `RINGS` around the region;
    NaN in rings that no view has."""


def read_views(file: Path, count: int) -> Float[Tensor, "views 3 height width"]:
    """The views of a run's picture, which stand side by side."""
    return torch.stack(read_image(file).chunk(count, dim=2))


def final_views(
    images: Float[Tensor, "views 3 height width"],
    unedited: Float[Tensor, "views 3 height width"],
    views: HeldOut,
    lpips: DistanceMap | None,
) -> FinalViews:
    """Measures what the views that see the region have come to.

    Args:
        images: The held-out views as the edit leaves them.
        unedited: What the scene showed of them before.
        views: What they should have become, and where.
        lpips: Leaves LPIPS out where there is none.
    """
    seen = views.region.flatten(1).any(dim=1)
    shown, truth, region = images[seen], views.truth[seen], views.region[seen]
    inside = outside = float("nan")
    if lpips is not None:
        with torch.no_grad():
            means = region_means(lpips(shown, truth).cpu(), region)
        inside, outside = means.inside.mean().item(), means.outside.nanmean().item()
    return FinalViews(inside, outside, leakage(shown, unedited[seen], region))


def leakage(
    images: Float[Tensor, "views 3 height width"],
    unedited: Float[Tensor, "views 3 height width"],
    region: Bool[Tensor, "views 1 height width"],
) -> tuple[float, ...]:
    """Mean absolute change of pixels in each ring of `RINGS` around the region, over all views."""
    change = (images - unedited).abs().mean(dim=1)
    distance = torch.stack([_distance(view[0]) for view in region])
    bounds = zip(RINGS, [*RINGS[1:], float("inf")], strict=True)
    rings = [change[(distance > nearest) & (distance <= farthest)] for nearest, farthest in bounds]
    return tuple(ring.mean().item() for ring in rings)


def leaks_to(rings: Sequence[float]) -> float:
    """Pixels from the region on which the change stays invisible; infinite where it never does."""
    visible = [index for index, change in enumerate(rings) if change >= VISIBLE]
    last = max(visible, default=-1)
    return float(RINGS[last + 1]) if last + 1 < len(RINGS) else float("inf")


def write_leakage(file: Path, by_method: Mapping[str, Sequence[Sequence[float]]], colours: dict[str, Any]) -> None:
    """Draws the change over the distance from the region: a line for each method, the median over its edits."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for method, edits in by_method.items():
        change = 255 * np.nanmedian(np.array(edits), axis=0)
        axis.plot(range(len(RINGS)), change, marker=".", color=colours[method], label=method)
    axis.axhline(255 * VISIBLE, linewidth=0.8, linestyle="--", color="black")
    axis.set(yscale="log", xlabel="pixels from the true region, from which a ring begins")
    axis.set_ylabel("mean absolute change against the unedited scene, of 255")
    axis.set_xticks(range(len(RINGS)), [str(ring) for ring in RINGS])
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def _distance(region: Bool[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Pixels from each pixel to the region; 0 inside."""
    outside = (~region).numpy().astype(np.uint8)
    return torch.from_numpy(cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE))
