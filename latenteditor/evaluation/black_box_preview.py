"""A prompt tried on one photograph by an editor that is a black box: its edit, the registration, what it changed."""

from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from latenteditor.black_box.guard import Guard, GuardedEdit
from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.black_box.settings import BlackBoxConfig, folder_of_pictures
from latenteditor.editing.black_box import Calls
from latenteditor.editing.editor import EditConfig
from latenteditor.networks.autoencoder import resize, working_size
from latenteditor.networks.black_boxes import load_black_box
from latenteditor.pictures import Pane, draw_sheet, highlight, to_picture

VISIBLE = 0.1
"""Change in [0, 1] above which a pixel is shown as changed. A scene's region follows from all views. Our choice."""
NARROWEST_PANE = 320
"""Pixels: views that are narrower are shown enlarged, so that labels fit."""


def preview_black_box(
    photograph: Float[Tensor, "1 3 rows columns"],
    edit: EditConfig,
    black_box: BlackBoxConfig,
    image_size: int | None,
    device: str,
) -> tuple[Image.Image, dict[str, Any]]:
    """The picture and the figures of a black box's edit.

    Args:
        photograph: In [0, 1].
        edit: Prompt, model, seed.
        black_box: How the editor is used.
        image_size: Pixels along the long side while it is edited; None keeps its own.
        device: Where a pipeline computes.

    Raises:
        ValueError: The editor cannot be loaded, or gives nothing.
    """
    size = working_size(photograph.shape[-2], photograph.shape[-1], image_size, factor=1)
    shown = resize(photograph, size)[0].clamp(0, 1)
    calls = Calls(black_box.most_calls)
    editor = load_black_box(
        edit.model, calls, black_box.endpoint, device, edit.half_precision, edit.cpu_offload, black_box.steps
    )
    kept = KeptPictures(editor, folder_of_pictures(black_box))
    found = Guard(kept, black_box.attempts, edit.seed, edit.mask != "none").edit(shown, 0, edit.prompt)
    figures = _figures(found, calls, kept)
    return draw_sheet([_panes(shown, found)], (edit.prompt, figures["found"], edit.model)), figures


def _panes(photograph: Tensor, found: GuardedEdit) -> list[Pane]:
    """The view, its edit and where it changed; the edit as it came where it could not be used."""
    panes = [_pane("original", photograph)]
    if found.picture is None:
        files = [each.file for each in found.rejected if each.file is not None]
        return panes + [Pane("rejected", _enlarged(Image.open(file).convert("RGB"))) for file in files[:1]]
    changed = found.change > VISIBLE
    return [
        *panes,
        _pane(f"changed, {float(changed.float().mean()):.0%}", highlight(photograph[None], changed[None])[0]),
        _pane("edit, registered", found.picture),
    ]


def _pane(label: str, image: Float[Tensor, "3 height width"]) -> Pane:
    return Pane(label, _enlarged(Image.fromarray(to_picture(image))))


def _enlarged(picture: Image.Image) -> Image.Image:
    scale = max(1.0, NARROWEST_PANE / picture.width)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)


def _figures(found: GuardedEdit, calls: Calls, kept: KeptPictures) -> dict[str, Any]:
    """What can be said in numbers."""
    registration = found.registration
    rejected = [{"seed": each.seed, "fault": each.fault} for each in found.rejected]
    told = f"{len(rejected)} rejected, {calls.made} calls, {kept.found} from the disk, {found.seconds:.1f} s"
    if registration is None or found.picture is None:
        fault = found.rejected[-1].fault if found.rejected else "there was none"
        return {"found": f"Nothing can be laid over the photograph: {fault}; {told}.", "rejected": rejected}
    share = float(torch.gt(found.change, VISIBLE).float().mean())
    return {
        "found": (
            f"Registered: it was moved by {registration.moved:.1f} pixels; {share:.0%} of this view changed; {told}."
        ),
        "moved": registration.moved,
        "error": registration.error,
        "points_found": registration.found,
        "changed": share,
        "rejected": rejected,
        "calls": calls.made,
        "seconds": round(found.seconds, 2),
    }
