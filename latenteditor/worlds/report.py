"""What an edit of a built-in world came to, on its held-out views, against the truth."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from latenteditor.editing.delta_mask import delta_mask, delta_score
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.metrics import mask_iou, psnr
from latenteditor.networks.autoencoder import Autoencoder
from latenteditor.pictures import grid, highlight, read_images
from latenteditor.worlds.held_out import HeldOut, read_held_out

PICTURE_COLUMNS = 6


@dataclass(frozen=True)
class EditedViews(HeldOut):
    """The held-out views of one world, and what was made of them."""

    renders: dict[str, Float[Tensor, "views 3 height width"]]
    """What scenes show, by name: `unedited`, and what was made of that."""


def read_edited_views(dataset: Path, prompt: str, renders: Mapping[str, Path]) -> EditedViews:
    """Reads photographs and truth from the dataset, renders from folders of ``ns-render dataset``."""
    known = read_held_out(dataset, prompt)
    images = {name: read_images(folder, known.names) for name, folder in renders.items()}
    return EditedViews(**vars(known), renders=images)


def find_masks(
    views: HeldOut, prompt: str, autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig
) -> Bool[Tensor, "views 1 height width"]:
    """The delta masks of the held-out photographs, at pixel resolution."""
    latents = autoencoder.encode(views.photographs.to(autoencoder.device))
    score = delta_score(denoiser, latents, prompt, config.delta_mask, config.seed)
    return at_pixels(delta_mask(score, config.delta_mask), views.region)


def at_pixels(
    mask: Bool[Tensor, "views 1 rows columns"], region: Bool[Tensor, "views 1 height width"]
) -> Bool[Tensor, "views 1 height width"]:
    """A mask of latent cells in the size of a region of pixels."""
    return F.interpolate(mask.float(), region.shape[-2:], mode="nearest-exact").bool().cpu()


def measure(
    views: EditedViews, masks: Bool[Tensor, "views 1 height width"], autoencoder: Autoencoder
) -> dict[str, float]:
    """Means over the held-out views in which the region is seen, PSNR in decibels.

    ``unedited`` is doing nothing: the unedited scene against the truth. ``ceiling`` is the truth through the
    autoencoder, which no scene of latents can surpass.
    """
    seen = views.region.flatten(1).any(dim=1)
    truth, region = views.truth[seen], views.region[seen]
    ceiling = autoencoder.decode(autoencoder.encode(truth.to(autoencoder.device))).cpu()
    images = {**{name: shown[seen] for name, shown in views.renders.items()}, "ceiling": ceiling}
    figures = {"mask_iou": mask_iou(masks[seen], region).mean().item()}
    for name, renders in images.items():
        figures[f"psnr_inside_{name}"] = psnr(renders, truth, region).mean().item()
        figures[f"psnr_outside_{name}"] = psnr(renders, truth, ~region).mean().item()
    return figures


def picture(
    views: EditedViews, masks: Bool[Tensor, "views 1 height width"]
) -> UInt8[np.ndarray, "picture_height picture_width 3"]:
    """Rows: original, mask, what was made of it, truth; columns: held-out views."""
    made = [shown for name, shown in views.renders.items() if name != "unedited"]
    rows = [views.photographs, highlight(views.photographs, masks), *made, views.truth]
    return grid([list(row[:PICTURE_COLUMNS]) for row in rows])
