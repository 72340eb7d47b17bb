"""One view and its edit side by side, to be looked at: of the training set, or to see what a prompt would do."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils import colormaps
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.dataset_update import EditedView
from latenteditor.editing.delta_mask import blend, normalise, peak
from latenteditor.editing.editor import EditConfig, Editor
from latenteditor.editing.pixel_editor import PixelEditor, latent_editor_of
from latenteditor.editing.preview import preview
from latenteditor.nerf.editable_scene import TrainingScene


@torch.no_grad()
def edit_picture(scene: TrainingScene, view: EditedView) -> Float[Tensor, "height width 3"]:
    """A view of the training set: its photograph, the delta score, the mask, the edit."""
    original = scene.original(view.view)
    before, after = scene.images(torch.stack([original, view.edited.to(original)])).permute(0, 2, 3, 1)
    score = view.mask.float() if view.score is None else normalise(view.score[None])[0]
    maps = [_as_pixels(values[None], (before.shape[0], before.shape[1])) for values in (score, view.mask)]
    panes = [before, colormaps.apply_float_colormap(maps[0]), maps[1].expand(-1, -1, 3), after]
    return torch.cat([pane.to(before) for pane in panes], dim=1).cpu()


@torch.no_grad()
def preview_picture(
    scene: TrainingScene, editor: Editor, instructions: Sequence[str], edit: EditConfig, camera: Cameras
) -> tuple[Float[Tensor, "height width 3"], str]:
    """What the instructions make of the unedited scene from a camera in pixels, without touching the training set.

    Returns:
        The edited view, above it the unedited one and its mask at half the size, and a line about them.
    """
    original, rendered = _latents_from(scene, editor, camera)
    edited, mask = original, torch.zeros_like(original[:, :1], dtype=torch.bool)
    said = []
    for instruction in instructions:
        # What a view may change is found in that view.
        settings = replace(edit, prompt=instruction, mask="none" if edit.mask == "none" else "per-view")
        tried = preview(latent_editor_of(editor).denoiser, rendered, original, settings)
        edited, mask = blend(tried.masks, tried.edits[0], edited), mask | tried.masks
        share = tried.masks.float().mean().item()
        found = f"{share:.0%} of the view" if share else f"nothing: score {peak(tried.score).item():.2f}"
        said.append(f"'{instruction}' changes {found} (gate {edit.delta_mask.gate:g})")
    before, after = _images(scene, editor, torch.cat([original, edited]))
    height, width = after.shape[1:]
    where = colormaps.apply_float_colormap(_as_pixels(mask, (height, width))).permute(2, 0, 1).to(before)
    above = functional.interpolate(torch.cat([before, where], dim=2)[None], (height // 2, width), mode="area")[0]
    return torch.cat([above, after], dim=1).permute(1, 2, 0).cpu(), "; ".join(said)


def _latents_from(
    scene: TrainingScene, editor: Editor, camera: Cameras
) -> tuple[Float[Tensor, "1 channels rows columns"], Float[Tensor, "1 channels rows columns"]]:
    """The latents that the editor would edit, of the scene before any edit and as it is now."""
    original, now = scene.views_from(camera)
    if not isinstance(editor, PixelEditor):
        return original, now
    latents = editor.encode(original)
    return latents, latents if now is original else editor.encode(now)


def _images(
    scene: TrainingScene, editor: Editor, latents: Float[Tensor, "views channels rows columns"]
) -> Float[Tensor, "views 3 height width"]:
    """The images in [0, 1] of latents that the editor has edited."""
    if isinstance(editor, PixelEditor):
        return editor.autoencoder.decode(latents).clamp(0, 1)
    return scene.images(latents)


def _as_pixels(cells: Tensor, size: tuple[int, int]) -> Float[Tensor, "height width 1"]:
    """A map of cells, each as the pixels it stands for."""
    return functional.interpolate(cells.float(), size, mode="nearest-exact")[0].permute(1, 2, 0)
