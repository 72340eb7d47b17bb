"""How far two lists of images are apart: PSNR, SSIM and LPIPS over whole frames, in the region and out of it."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.metrics import RegionFigures, coverage, mask_iou, region_means, region_psnr, ssim_map
from latenteditor.evaluation.regions import NO_REGION, Region
from latenteditor.evaluation.table import Figure
from latenteditor.networks.perceptual import SMALLEST_IMAGE, PerceptualDistance, load_perceptual_distance


class Lpips(NamedTuple):
    """LPIPS with weights of a file."""

    distance: PerceptualDistance
    weights: Path

    @property
    def name(self) -> str:
        """As it is written beside its figures."""
        return f"LPIPS, AlexNet, {self.weights.name}"

    @property
    def about(self) -> dict[str, str]:
        """What somebody needs to measure with the same."""
        return {"file": str(self.weights), "sha256": hashlib.sha256(self.weights.read_bytes()).hexdigest()}


def load_lpips(weights: Path | None, device: torch.device) -> Lpips | None:
    """LPIPS, where there are weights.

    Raises:
        ValueError: The file holds something else.
    """
    return None if weights is None else Lpips(load_perceptual_distance(weights, device), weights)


def compare(
    prefix: str,
    what: str,
    images: Sequence[Tensor],
    reference: Sequence[Tensor],
    region: Region | None,
    lpips: Lpips | None,
) -> list[Figure]:
    """PSNR, SSIM and LPIPS of frames: over all, inside and outside the region.

    Args:
        prefix: Begins the figures' names.
        what: Says what is compared to what.
        images: Of shape (3, height, width).
        reference: What they are compared to.
        region: Where the edit belongs.
        lpips: Left out where there is none.
    """
    no_lpips = "no LPIPS weights" if lpips is None else ""
    if lpips is not None and min(min(image.shape[-2:]) for image in images) < SMALLEST_IMAGE:
        no_lpips = f"LPIPS needs {SMALLEST_IMAGE} or more pixels along each side"
    distance = None if lpips is None or no_lpips else lpips.distance
    measured: dict[str, list[RegionFigures]] = {"psnr": [], "ssim": [], "lpips": []}
    for index, (image, other) in enumerate(zip(tqdm(images, desc=what), reference, strict=True)):
        nothing = torch.zeros(image.shape[-2:], dtype=torch.bool)
        mask = nothing if region is None else region.masks[index]
        for name, found in _compare_frame(image[None], other[None], mask[None, None], distance).items():
            measured[name].append(found)
    figures = []
    for name, rows in measured.items():
        missing, model = (no_lpips, "" if lpips is None else lpips.name) if name == "lpips" else ("", "")
        figures += _figures_of_parts(f"{prefix}_{name}", f"{name.upper()}, {what}", rows, region, missing, model)
    return figures


def mask_figures(region: Region | None, training_masks: Sequence[Tensor] | None) -> list[Figure]:
    """How much of the frames region and training masks cover, and how they overlap."""
    figures = [Figure("region_coverage", "share of the frame", missing="" if region else NO_REGION)]
    if region is None:
        return figures
    figures[0].values = [coverage(mask[None, None]).item() for mask in region.masks]
    if training_masks is None:
        return figures
    covered = [coverage(mask[None, None]).item() for mask in training_masks]
    overlap = Figure("training_mask_iou", "intersection over union of training mask and region")
    if region.caveat:
        overlap.missing = NO_REGION
    else:
        overlap.values = [
            mask_iou(mask[None, None], other[None, None]).item()
            for mask, other in zip(training_masks, region.masks, strict=True)
        ]
    return [*figures, Figure("training_mask_coverage", "share of the frame", covered), overlap]


def _compare_frame(
    image: Tensor, reference: Tensor, mask: Tensor, distance: PerceptualDistance | None
) -> dict[str, RegionFigures]:
    """Each figure of a batch of one frame."""
    found = {
        "psnr": region_psnr(image, reference, mask),
        "ssim": region_means(ssim_map(image, reference), mask),
    }
    if distance is not None:
        pair = image.to(distance.device), reference.to(distance.device)
        means = region_means(distance.distance_map(*pair).cpu(), mask)
        # Over the whole frame it is LPIPS as everybody reports it.
        found["lpips"] = means._replace(overall=distance(*pair).cpu())
    return found


def _figures_of_parts(
    name: str, definition: str, rows: list[RegionFigures], region: Region | None, missing: str, model: str
) -> list[Figure]:
    """A figure over whole frames, one inside the region and one outside."""
    figures = []
    for part in RegionFigures._fields:
        whole = part == "overall"
        where = "" if whole else f", {part} the region" + (region.caveat if region else "")
        absent = missing or (NO_REGION if region is None and not whole else "")
        values = [] if absent else [getattr(row, part).item() for row in rows]
        figures.append(Figure(name if whole else f"{name}_{part}", definition + where, values, absent, model=model))
    return figures
