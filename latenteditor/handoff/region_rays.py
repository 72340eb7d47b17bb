"""Rays where a dataset was edited, as often as pays: what changed is a small part of most views."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.ray_generators import RayGenerator
from PIL import Image
from torch import Tensor

from latenteditor.handoff.dataset import EDIT_MASKS, IMAGES

REGION_SHARE = 0.4
"""Of each step's rays, those that are drawn from edited pixels alone."""
EVEN_FROM = 0.6
"""Share of the steps after which all rays are drawn evenly again, for what surrounds the region. Our choice."""
NEARLY_ALL = 0.5
"""Share of all pixels beyond which even rays see enough of the region. Our choice."""
MOST_PIXELS = 50_000_000
"""Pixels that are kept in memory, at 15 bytes each; of more, so many are drawn."""
KNOWN = {"indices", "image", "mask", "patch_size", "kept_out"}
"""What of a batch is known to be the rays' own, or none of theirs."""


class RegionRays:
    """Replaces some of the rays of a data manager by rays through edited pixels, for a part of the training."""

    def __init__(self, datamanager: Any, dataset: Path, first_step: int, steps: int) -> None:
        """Reads which pixels were edited; `train_on_region` puts it to work.

        Args:
            datamanager: The host's, over the dataset, that serves rays.
            dataset: The dataset's folder.
            first_step: Of the training.
            steps: That it takes.
        """
        photographs = getattr(datamanager, "train_photographs", datamanager.train_dataset)
        self._datamanager = datamanager
        self._last_step = first_step + EVEN_FROM * steps
        self._next_train = datamanager.next_train
        self._rays = RayGenerator(photographs.cameras.to(datamanager.device))
        self._indices, self._colours, self.share = _edited_pixels(photographs, datamanager.train_dataset, dataset)

    @property
    def pays(self) -> bool:
        """Whether there is a region, and it is not nearly everything."""
        return 0 < self.share <= NEARLY_ALL

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """The host's rays, of which some are replaced."""
        rays, batch = self._next_train(step)
        if step >= self._last_step or batch.get("patch_size", 1) > 1 or not set(batch) <= KNOWN:
            return rays, batch
        total = len(batch["indices"])
        kept = total - round(REGION_SHARE * total)
        picked = torch.randint(len(self._indices), (total - kept,))
        indices = torch.cat([batch["indices"][:kept].cpu(), self._indices[picked].long()])
        image = batch["image"]
        colours = (self._colours[picked].float() / 255).to(image)
        found = {**batch, "indices": indices, "image": torch.cat([image[:kept], colours])}
        for name in {"mask", "kept_out"} & set(batch):
            rest = torch.full_like(batch[name][kept:], name == "mask")
            found[name] = torch.cat([batch[name][:kept], rest])
        return self._rays(indices.to(self._datamanager.device)), found


def train_on_region(rays: RegionRays, datamanager: Any) -> None:
    """Lets a data manager serve these rays from now on."""
    if rays.pays:
        datamanager.next_train = rays.next_train


def edit_mask_of(photograph: Path, dataset: Path) -> Path | None:
    """The edit mask of a dataset's photograph; None where it was not edited."""
    try:
        name = Path(photograph).resolve().relative_to((dataset / IMAGES).resolve())
    except ValueError:
        return None
    mask = dataset / EDIT_MASKS / name.with_suffix(".png")
    return mask if mask.is_file() else None


def _edited_pixels(photographs: Any, listed: Any, dataset: Path) -> tuple[Tensor, Tensor, float]:
    """Edited pixels as (view, row, column), their colours in bytes, and their share of all pixels."""
    indices, colours, pixels = [], [], 0
    for view, file in enumerate(listed.image_filenames):
        height, width = int(photographs.cameras.height[view]), int(photographs.cameras.width[view])
        pixels += height * width
        mask = edit_mask_of(file, dataset)
        if mask is None:
            continue
        with Image.open(mask) as opened:
            edited = np.asarray(opened.resize((width, height), Image.Resampling.NEAREST)) > 0
        rows, columns = (torch.from_numpy(side.astype(np.int32)) for side in np.nonzero(edited))
        indices.append(torch.stack([torch.full_like(rows, view), rows, columns], dim=1))
        image = photographs[view]["image"]
        colours.append((image[rows.long(), columns.long()] * 255).round().byte())
    if not indices:
        return torch.zeros(0, 3, dtype=torch.int32), torch.zeros(0, 3, dtype=torch.uint8), 0.0
    found, shown = torch.cat(indices), torch.cat(colours)
    share = len(found) / pixels
    if len(found) > MOST_PIXELS:
        drawn = torch.randperm(len(found))[:MOST_PIXELS]
        found, shown = found[drawn], shown[drawn]
    return found, shown, share
