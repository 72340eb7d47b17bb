"""The photographs of a run's capture edited by a black box, and written as a dataset: edited, agreed on, laid over.

Every training photograph is edited once as a whole, from a key view on, each with its finished neighbours beside it
where the editor takes several pictures. What changed after registration is what the views vote on in 3D; what is agreed
is laid over the photographs as any other edit is. A view that nothing came of keeps its photograph, and the region is
kept out of training there.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from latenteditor.black_box.guard import Guard, GuardedEdit
from latenteditor.black_box.order import middle_view, order_views
from latenteditor.black_box.settings import BlackBoxConfig
from latenteditor.editing.delta_mask import dilate
from latenteditor.handoff.capture_views import Capture, CapturedView
from latenteditor.handoff.dataset import KeptOut
from latenteditor.handoff.overlay import WIDENED, Overlay, lay_over, soft_region, tidy
from latenteditor.nerf.change_agreement import Sight, agree, cells_of, in_cells, scaled
from latenteditor.nerf.photograph_files import read_picture
from latenteditor.nerf.photographs import resize_cameras
from latenteditor.nerf.warped_edits import Finished, warp_edits
from latenteditor.networks.autoencoder import resize, working_size
from latenteditor.pictures import read_image

LEAST_DONE = 0.3
"""Mean relevance in the agreed region below which an editor has ignored the instruction in a view. Our choice."""


class View(NamedTuple):
    """A training photograph at work."""

    captured: CapturedView
    image: Float[Tensor, "3 height width"]
    """In [0, 1], at the size at which it is edited."""
    camera: Cameras
    """Of that size."""


class PictureEdits:
    """What a black box made of the training photographs, and where they agree that something was to change."""

    def __init__(self, views: list[View], edits: dict[int, GuardedEdit]) -> None:
        """Holds what was made of the views, by their numbers; nothing is agreed on yet."""
        self.views, self.edits = views, edits
        self.regions: list[Bool[Tensor, "1 _ _"]] = []
        """Where each view may change; empty before they have agreed."""
        self._relevance: list[Float[Tensor, "rows columns"] | None] = []
        """Of each view's cells, where the views have voted."""

    def overlay(self, view: CapturedView, photograph: UInt8[np.ndarray, "height width 3"]) -> Overlay | KeptOut | None:
        """The photograph as the edit changes it, or what of it is not to be trained on; None where nothing changes."""
        if view.train_index is None:
            return None
        region, edit = self.regions[view.train_index], self.edits[view.train_index]
        if not region.any():
            return None
        if edit.picture is None or not self.is_done(view.train_index):
            return _kept_out(region, photograph)
        overlay = lay_over(photograph, edit.picture, self.views[view.train_index].image, region)
        return _without_unseen(overlay, photograph, region, edit.seen)

    def is_done(self, view: int) -> bool:
        """Whether a view shows the edit where all agree that it belongs; where none was asked, any picture does."""
        if not self._relevance:
            return self.edits[view].picture is not None
        region, relevance = self.regions[view], self._relevance[view]
        return relevance is not None and bool(region.any() and relevance[region[0]].mean() >= LEAST_DONE)

    def agree(self, sights: Sequence[Sight] | None, share: float) -> None:
        """Lets the views agree on the region by what they meet, or takes all of every view where that is None.

        Raises:
            ValueError: Nothing of what was made can be used.
        """
        edits = [self.edits[index] for index in range(len(self.views))]
        if all(edit.picture is None for edit in edits):
            raise ValueError(_why_nothing(rejections(self.views, self.edits)))
        cameras = [view.camera for view in self.views]
        if sights is None:
            self.regions = [torch.ones(1, *cells_of(camera), dtype=torch.bool) for camera in cameras]
            return
        changes = scaled([None if edit.picture is None else edit.change for edit in edits])
        self._relevance = [
            None if change is None else in_cells(change, camera)
            for change, camera in zip(changes, cameras, strict=True)
        ]
        seen = [in_cells(edit.seen.float(), camera) > 0.5 for edit, camera in zip(edits, cameras, strict=True)]
        self.regions = [tidy(region) for region in agree(sights, self._relevance, seen, share)]


def working_views(capture: Capture, image_size: int | None) -> list[View]:
    """The training photographs at the size at which they are edited, in the order of their numbers."""
    found: dict[int, View] = {}
    for captured in capture.views:
        if captured.train_index is None or captured.camera is None:
            continue
        pixels = np.asarray(read_picture(captured.photograph, captured.turned).convert("RGB"))
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
        size = working_size(pixels.shape[0], pixels.shape[1], image_size, factor=1)
        found[captured.train_index] = View(captured, resize(image, size)[0], resize_cameras(captured.camera, [size]))
    return [found[index] for index in sorted(found)]


def edit_views(
    guard: Guard,
    views: Sequence[View],
    instruction: str,
    config: BlackBoxConfig,
    sights: Sequence[Sight] | None = None,
) -> dict[int, GuardedEdit]:
    """Every view edited, from the key view on, and told as it is.

    Args:
        guard: Asks the editor.
        views: The photographs.
        instruction: What to change.
        config: How the editor is used.
        sights: What each view meets, where an editor of one picture goes on from its neighbours' edits.

    Raises:
        ValueError: There is no such key view, the reference fits none, or the editor will give nothing.
    """
    positions = torch.cat([view.camera.camera_to_worlds[:, :3, 3].cpu() for view in views])
    edits = {} if config.reference is None else _own_reference(guard, views, config)
    first = next(iter(edits), None)
    first = _find_key_view(views, config.key_view, positions) if first is None else first
    for number, turn in enumerate(order_views(positions, first), start=1):
        if turn.view not in edits:
            near = [each for each in turn.neighbours if edits[each].picture is not None][: config.num_references]
            image, start = views[turn.view].image, None
            if sights is not None:
                start = warp_edits(image, sights[turn.view], [_finished(sights[each], edits[each]) for each in near])
            references = [picture for picture in (edits[each].picture for each in near) if picture is not None]
            edits[turn.view] = guard.edit(image, turn.view, instruction, references, start)
        CONSOLE.print(f"Picture {number} of {len(views)}: {_told(views[turn.view], edits[turn.view])}")
    return edits


def _finished(sight: Sight, edit: GuardedEdit) -> Finished:
    """A finished view, from which others go on."""
    picture, (relevance,) = edit.picture, scaled([edit.change])
    assert picture is not None and relevance is not None
    return Finished(sight, picture, relevance)


def rejections(views: Sequence[View], edits: Mapping[int, GuardedEdit]) -> list[dict[str, Any]]:
    """What was not used, for a note."""
    return [
        {"view": views[index].captured.name, "seed": each.seed, "fault": each.fault, "file": str(each.file or "")}
        for index, edit in sorted(edits.items())
        for each in edit.rejected
    ]


def _why_nothing(rejected: Sequence[Mapping[str, Any]]) -> str:
    """Why nothing of what was made can be used."""
    first = rejected[0]
    where = f", as {first['file']}" if first["file"] else ""
    return (
        f"Nothing that the editor made can be laid over its photograph. Of {first['view']}{where}: {first['fault']}. "
        "Ask it to keep the framing, or take another editor."
    )


def _told(view: View, edit: GuardedEdit) -> str:
    """A line about a view."""
    moved = "" if edit.registration is None else f", moved by {edit.registration.moved:.1f} pixels"
    what = "edited" + moved if edit.picture is not None else "nothing could be used"
    return f"{view.captured.name} {what}, {len(edit.rejected)} rejected, {edit.seconds:.1f} s"


def _own_reference(guard: Guard, views: Sequence[View], config: BlackBoxConfig) -> dict[int, GuardedEdit]:
    """The user's own picture, as the edit of the view that it was made of."""
    assert config.reference is not None
    picture = read_image(config.reference)
    candidates = range(len(views)) if config.key_view is None else [_named(views, config.key_view)]
    tried = {index: guard.accept(views[index].image, picture) for index in candidates}
    fitting = {index: edit for index, edit in tried.items() if edit.picture is not None and edit.registration}
    if not fitting:
        raise ValueError(
            f"{config.reference} cannot be laid over {config.key_view or 'any photograph of the capture'}: edit a "
            "training photograph without moving anything else, and name it with --black-box.key-view."
        )
    best = max(fitting, key=lambda index: fitting[index].registration.found)  # type: ignore[union-attr]
    return {best: fitting[best]}


def _find_key_view(views: Sequence[View], name: str | None, positions: Float[Tensor, "views 3"]) -> int:
    return middle_view(positions) if name is None else _named(views, name)


def _named(views: Sequence[View], name: str) -> int:
    """The training view of a name."""
    for index, view in enumerate(views):
        if name in (view.captured.name, Path(view.captured.name).name, Path(view.captured.name).stem):
            return index
    raise ValueError(
        f"No training photograph is called {name!r}: pass one of their names, such as {views[0].captured.name!r}, with "
        "--black-box.key-view."
    )


def _kept_out(region: Bool[Tensor, "1 rows columns"], photograph: np.ndarray) -> KeptOut:
    """The region of a photograph that stays as it is."""
    shown = soft_region(dilate(region[None], WIDENED)[0], (photograph.shape[0], photograph.shape[1]))
    return KeptOut(shown.numpy() > 0)


def _without_unseen(overlay: Overlay, photograph: np.ndarray, region: Tensor, seen: Tensor) -> Overlay | KeptOut | None:
    """The overlay without what the editor had moved out of its picture; of the region, that is not trained on."""
    size = photograph.shape[:2]
    known = F.interpolate(seen[None].float(), size, mode="nearest-exact")[0, 0].numpy() > 0
    share = np.where(known, overlay.share, 0).astype(np.float32)
    picture = np.where(known[..., None], overlay.picture, photograph)
    lost = _kept_out(region, photograph).pixels & ~known
    if not share.any():
        return KeptOut(lost) if lost.any() else None
    return Overlay(picture, share, lost if lost.any() else None)
