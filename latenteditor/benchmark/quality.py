"""What an edit has come to on the held-out views of a world, while it is being made."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.pipelines.base_pipeline import Pipeline
from torch import Tensor

from latenteditor.editing.metrics import mask_iou, psnr
from latenteditor.nerf.editing_pipeline import EditingPipeline
from latenteditor.nerf.latent_display import evaluation
from latenteditor.pictures import eight_bits, read_regions
from latenteditor.worlds.dataset import truth_folder
from latenteditor.worlds.held_out import HeldOut


class Quality(NamedTuple):
    """What an edit has come to, as a ``Point`` holds it."""

    inside: float
    outside: float
    change: float


def quality(images: Float[Tensor, "views 3 height width"], views: HeldOut) -> Quality:
    """Measures images against the truth; means over the views that see its region.

    With b a photograph, a the truth and r the image, over the pixels of the region and their channels, the change is
    the length of r - b along a - b, in units of it: <r - b, a - b> / |a - b|^2. A blurred image of the truth has nearly
    all of it; PSNR says how sharp it is.
    """
    seen = views.region.flatten(1).any(dim=1)
    shown, truth, region = images[seen], views.truth[seen], views.region[seen]
    inside, outside = (psnr(shown, truth, where) for where in (region, ~region))
    demanded = (truth - views.photographs[seen]) * region
    found = ((shown - views.photographs[seen]) * demanded).sum(dim=(1, 2, 3))
    change = found / (demanded**2).sum(dim=(1, 2, 3))
    return Quality(inside.mean().item(), outside.nanmean().item(), change.mean().item())


def sharpness(images: Float[Tensor, "views 3 height width"], views: HeldOut) -> float:
    """How steep images are inside the region, next to the truth: the mean length of their gradients over the truth's.

    1 is as sharp as the truth, less is blurred, and more has edges that the truth has not.
    """
    steep, wanted = (_gradients(pictures)[views.region[..., 1:, 1:]].mean() for pictures in (images, views.truth))
    return (steep / wanted).item()


def _gradients(images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views 1 height-1 width-1"]:
    """The lengths of the gradients over all channels, by differences of neighbours."""
    across, down = images[..., 1:, 1:] - images[..., 1:, :-1], images[..., 1:, 1:] - images[..., :-1, 1:]
    return (across**2 + down**2).sum(dim=1, keepdim=True).sqrt()


def render(pipeline: Pipeline) -> Float[Tensor, "views 3 height width"]:
    """The held-out views as they look when not training, in 8 bits, without a trace on what training draws next."""
    model: Any = pipeline.model
    cameras = pipeline.datamanager.eval_dataset.cameras  # type: ignore[union-attr]
    devices = [model.device] if next(model.parameters()).is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices), evaluation(model):
        images = [
            model.get_outputs_for_camera(cameras[view : view + 1].to(model.device))["rgb"].permute(2, 0, 1).cpu()
            for view in range(len(cameras))
        ]
    return eight_bits(torch.stack(images))


def masks_iou(pipeline: EditingPipeline, world: Path, prompt: str) -> float:
    """The masks of the training views edited so far against the true region; the mean over views that see it."""
    update = pipeline.update
    if update is None or pipeline.config.edit.mask == "none" or not update.current or not update.edited_views:
        return float("nan")
    files = pipeline.datamanager.train_dataset.image_filenames  # type: ignore[union-attr]
    masks = update.current[0].masks
    views = sorted(masks)
    regions = read_regions(truth_folder(world, prompt) / "region", [Path(files[view]).name for view in views])
    found = torch.cat(
        [F.interpolate(masks[view][None].float().cpu(), regions.shape[-2:], mode="nearest-exact") for view in views]
    ).bool()
    return mask_iou(found, regions)[regions.flatten(1).any(dim=1)].mean().item()
