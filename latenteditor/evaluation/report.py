"""What an edit came to, as figures with everything that somebody needs to repeat them, and as a picture."""

import platform
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from latenteditor import __version__
from latenteditor.evaluation.comparison import Lpips, compare, mask_figures
from latenteditor.evaluation.directions import ClipModel, direction_figures
from latenteditor.evaluation.regions import Region
from latenteditor.evaluation.reprojection import reprojection_error
from latenteditor.evaluation.scenes import Scenes
from latenteditor.evaluation.table import Figure
from latenteditor.pictures import evenly_spread, grid, outlined

PICTURE_COLUMNS = 6
"""Most frames that a picture shows."""


class Evidence(NamedTuple):
    """What an edit is measured on."""

    scenes: Scenes
    """Before and after it."""
    region: Region | None
    """Where it belongs."""
    training_masks: list[Tensor] | None
    """Where it was trained to be, one of shape (height, width) per frame."""
    truth: list[Tensor] | None
    """What it should look like, one image per frame."""


class Instruments(NamedTuple):
    """What measures an edit beyond arithmetic."""

    lpips: Lpips | None
    clip: ClipModel
    captions: tuple[str, str] | None
    """For CLIP: what the original shows, and what the edit should show."""
    follows_path: bool
    """Whether the frames follow one camera path."""
    depth_tolerance: float
    """By which share of its distance a re-projected point may miss the depth that a neighbouring frame sees."""


def measure(evidence: Evidence, instruments: Instruments) -> list[Figure]:
    """Every figure of an edit, those that cannot be had included."""
    scenes, region, training_masks, truth = evidence
    lpips = instruments.lpips
    figures = [
        *compare("edit", "edited against original", scenes.edited, scenes.original, region, lpips),
        *direction_figures(scenes, instruments.clip, instruments.captions, instruments.follows_path),
        *reprojection_figures(scenes, instruments.depth_tolerance),
        *mask_figures(region, training_masks),
    ]
    if truth is not None:
        figures += compare("truth_edited", "edited against truth", scenes.edited, truth, region, lpips)
        figures += compare("truth_unedited", "original against truth", scenes.original, truth, region, lpips)
    return figures


def reprojection_figures(scenes: Scenes, tolerance: float) -> list[Figure]:
    """How well each scene's frames agree with their neighbours, by the scene's own depth."""
    missing = scenes.no_depth or ("needs two frames" if len(scenes.names) < 2 else "")
    figures = []
    for scene in ("edited", "original"):
        frames = scenes.frames.get(scene, [])
        errors = [
            reprojection_error(frame, neighbour, tolerance)
            for frame, neighbour in ([] if missing else zip(frames, frames[1:], strict=False))
        ]
        for name, definition in (
            ("psnr", "PSNR of frame i, warped into frame i+1 by depth, where visible"),
            ("l1", "mean absolute difference of the same"),
            ("visible", f"share of frame i+1 visible in frame i, depth within {tolerance:g}"),
        ):
            values = [getattr(error, name) for error in errors]
            figures.append(
                Figure(f"reprojection_{name}_{scene}", f"{scene}: {definition}", values, missing, pairs=True)
            )
    return figures


def report(
    evidence: Evidence, instruments: Instruments, figures: Sequence[Figure], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything that somebody needs to repeat the figures."""
    lpips, region = instruments.lpips, evidence.region
    return {
        "settings": {
            name: value if isinstance(value, bool | float) else value and str(value) for name, value in settings.items()
        },
        "versions": {
            "latenteditor": __version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
        "models": {"clip": instruments.clip.about, "lpips": None if lpips is None else lpips.about},
        "runs": evidence.scenes.runs,
        "region": None if region is None else region.source,
        "frames": evidence.scenes.names,
        "figures": {
            figure.name: {
                "definition": figure.definition,
                "model": figure.model or None,
                "missing": figure.missing or None,
                "mean": figure.mean,
                "per_pair" if figure.pairs else "per_frame": figure.values,
            }
            for figure in figures
        },
    }


def picture(evidence: Evidence) -> UInt8[np.ndarray, "height width 3"]:
    """Rows: original, edited, truth, edited with the region's outline; columns: frames, evenly spread."""
    scenes, region, _, truth = evidence
    rows = [scenes.original, scenes.edited]
    if truth is not None:
        rows.append(truth)
    if region is not None:
        rows.append([outlined(image, mask) for image, mask in zip(scenes.edited, region.masks, strict=True)])
    chosen = evenly_spread(len(scenes.names), PICTURE_COLUMNS)
    return grid([[row[index] for index in chosen] for row in rows])
