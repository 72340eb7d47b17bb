"""Where an edit belongs: masks and polygons, one or more a frame, independent of the edit or not."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from latenteditor.evaluation.frames import find_frame, require_size
from latenteditor.evaluation.scenes import Scenes

NO_REGION = "no region: pass --region-dir or --polygon"


@dataclass(frozen=True)
class Region:
    """Where the edit belongs."""

    masks: list[Tensor]
    """Of shape (height, width), one per frame."""
    source: str
    """Where it comes from."""
    caveat: str = ""
    """Goes with every figure of the region."""


def region_of_masks(folder: Path, scenes: Scenes) -> Region:
    """The region that one mask per frame shows."""
    return Region(read_masks(folder, scenes), f"masks of {folder}")


def region_of_polygons(file: Path, scenes: Scenes) -> Region:
    """The region within polygons."""
    return Region(read_polygons(file, scenes), f"polygons of {file}")


def region_of_training(folder: Path, masks: list[Tensor]) -> Region:
    """The masks of the edit's own training in a region's place."""
    source = f"masks of {folder}: training mask, not independent"
    return Region(masks, source, " (training mask, not independent)")


def read_masks(folder: Path, scenes: Scenes) -> list[Tensor]:
    """One mask per frame, true above 0 in any channel but alpha.

    Raises:
        ValueError: A frame has no mask, or one of another size.
    """
    masks = []
    for name, image in zip(scenes.names, scenes.original, strict=True):
        file = find_frame(folder, name)
        values = iio.imread(file)
        values = values if values.ndim == 2 else values[..., : 1 if values.shape[-1] == 2 else 3].max(axis=-1)
        require_size(file, values.shape, image.shape[-2:])
        masks.append(torch.from_numpy(values > 0))
    return masks


def read_polygons(file: Path, scenes: Scenes) -> list[Tensor]:
    """One mask per frame, true inside any of its polygons.

    Raises:
        ValueError: The file is missing, holds something else, or lacks a frame.
    """
    polygons = _parse_polygons(file)
    masks = []
    for name, image in zip(scenes.names, scenes.original, strict=True):
        if name not in polygons:
            raise ValueError(f"{file} has no polygons of the frame {name}: give [] where the region is not seen.")
        canvas = Image.new("L", (image.shape[-1], image.shape[-2]))
        for polygon in polygons[name]:
            if len(polygon) < 3:
                raise ValueError(f"A polygon of the frame {name} in {file} has {len(polygon)} corners: 3 are needed.")
            ImageDraw.Draw(canvas).polygon(polygon, fill=255)
        masks.append(torch.from_numpy(np.array(canvas) > 0))
    return masks


def _parse_polygons(file: Path) -> dict[str, list[Any]]:
    """Each frame's polygons of points (x, y)."""
    try:
        content = json.loads(file.read_text("utf8"))
        return {
            name: [[(float(x), float(y)) for x, y in polygon] for polygon in found] for name, found in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{file} cannot be read ({error}): expected JSON such as {{"00000": [[[10, 10], [90, 10], [50, 80]]]}}.'
        ) from error
