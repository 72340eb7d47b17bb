"""What an edit of a built-in world came to, on its held-out views, against the truth."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import delta_mask, delta_score
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Denoiser
from latenteditor.editing.metrics import mask_iou, psnr
from latenteditor.networks.autoencoder import Autoencoder
from latenteditor.worlds.dataset import truth_folder

PICTURE_COLUMNS = 6


@dataclass(frozen=True)
class TrueViews:
    """What is known of the held-out views of one world, in one order throughout."""

    names: list[str]
    """Their files."""
    photographs: Float[Tensor, "views 3 height width"]
    """The world as it was."""
    truth: Float[Tensor, "views 3 height width"]
    """The world after the instruction."""
    region: Bool[Tensor, "views 1 height width"]
    """Where the two differ."""


@dataclass(frozen=True)
class HeldOutViews(TrueViews):
    """The held-out views of one world, and what was made of them."""

    unedited: Float[Tensor, "views 3 height width"]
    """Renders of the reconstruction."""
    edited: Float[Tensor, "views 3 height width"]
    """Renders of the edited scene."""


def read_true_views(dataset: Path, prompt: str) -> TrueViews:
    """Reads photographs and truth from the dataset."""
    names = json.loads((dataset / "transforms.json").read_text())["test_filenames"]
    stems = [Path(name).name for name in names]
    truth = truth_folder(dataset, prompt)
    return TrueViews(
        names=stems,
        photographs=_images(dataset / "images", stems),
        truth=_images(truth / "images", stems),
        region=torch.stack([torch.from_numpy(iio.imread(truth / "region" / stem) > 0)[None] for stem in stems]),
    )


def read_held_out_views(dataset: Path, prompt: str, unedited: Path, edited: Path) -> HeldOutViews:
    """Reads photographs and truth from the dataset, renders from two folders of ``ns-render dataset``."""
    true = read_true_views(dataset, prompt)
    return HeldOutViews(**vars(true), unedited=_images(unedited, true.names), edited=_images(edited, true.names))


def find_masks(
    views: TrueViews, prompt: str, autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig
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
    views: HeldOutViews, masks: Bool[Tensor, "views 1 height width"], autoencoder: Autoencoder
) -> dict[str, float]:
    """Means over the held-out views in which the region is seen, PSNR in decibels.

    ``unedited`` is doing nothing: the reconstruction against the truth. ``ceiling`` is the truth through the
    autoencoder, which no latent scene can surpass.
    """
    seen = views.region.flatten(1).any(dim=1)
    truth, region = views.truth[seen], views.region[seen]
    ceiling = autoencoder.decode(autoencoder.encode(truth.to(autoencoder.device))).cpu()
    images = {"edited": views.edited[seen], "unedited": views.unedited[seen], "ceiling": ceiling}
    figures = {"mask_iou": mask_iou(masks[seen], region).mean().item()}
    for name, renders in images.items():
        figures[f"psnr_inside_{name}"] = psnr(renders, truth, region).mean().item()
        figures[f"psnr_outside_{name}"] = psnr(renders, truth, ~region).mean().item()
    return figures


def picture(views: HeldOutViews, masks: Bool[Tensor, "views 1 height width"]) -> np.ndarray:
    """Rows: original, mask, edit, truth; columns: held-out views."""
    rows = [views.photographs, highlight(views.photographs, masks), views.edited, views.truth]
    return grid([row[:PICTURE_COLUMNS] for row in rows])


def highlight(
    images: Float[Tensor, "views 3 height width"], masks: Bool[Tensor, "views 1 height width"]
) -> Float[Tensor, "views 3 height width"]:
    """Images that are dark outside a mask."""
    return images * (0.35 + 0.65 * masks)


def grid(rows: Sequence[Float[Tensor, "views 3 height width"]]) -> np.ndarray:
    """A picture of rows of images, 8 bit, with white lines between them."""
    pixels = torch.cat([torch.cat(list(F.pad(row, (2, 2, 2, 2), value=1.0)), dim=2) for row in rows], dim=1)
    return (pixels.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()


def _images(folder: Path, names: list[str]) -> Float[Tensor, "views 3 height width"]:
    """Pictures by name, in [0, 1]."""
    pictures = [torch.from_numpy(iio.imread(folder / name)[..., :3]).movedim(-1, 0) for name in names]
    return torch.stack(pictures).float() / 255
