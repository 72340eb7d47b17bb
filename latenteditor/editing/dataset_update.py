"""How edits reach the scene: the iterative dataset update of Instruct-NeRF2NeRF, in whatever a scene is made of.

Before a training step in which views are due, each is rendered, edited and put back into the training set.
The scene goes on training on edited and unedited views together, so each rendering already shows what earlier
edits agreed on. A view is latents where the scene is one of latents, and an image in [0, 1] where it is one of
colors: nothing here can tell.
"""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.edit_schedule import EditSchedule
from latenteditor.editing.editor import Editor


@runtime_checkable
class EditableScene(Protocol):
    """A scene in training: it can show its views, as latents or as images, and be given others to train on."""

    @property
    def num_views(self) -> int:
        """How many views it trains on."""
        ...

    def original(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The unedited view."""
        ...

    def target(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The view as it is trained on now."""
        ...

    def render(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """What the scene shows now from the view's camera, in evaluation mode."""
        ...

    def replace(self, view: int, target: Float[Tensor, "channels rows columns"]) -> None:
        """Trains the view towards this from now on."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What has a state to save and restore."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class EditedView(NamedTuple):
    """One view that was just edited."""

    view: int
    """Its index among the training views."""
    target: Float[Tensor, "channels rows columns"]
    """What the scene trains on from now on."""
    mask: Bool[Tensor, "1 rows columns"]
    """Where it was allowed to change."""
    score: Float[Tensor, "1 rows columns"] | None
    """The raw delta score the mask was cut from, if it was."""


class EditProgress(NamedTuple):
    """How far the edit of a scene has come."""

    edits: int
    """Edits of single views so far."""
    views_edited: int
    """Views that were edited at least once."""
    num_views: int
    """Views there are."""
    seconds_per_edit: float
    """Mean time to render, edit and replace one view; 0 before the first."""


class IterativeDatasetUpdate:
    """Renders, edits and replaces the views that are due; its whole state can be saved and restored."""

    def __init__(self, scene: EditableScene, editor: Editor, schedule: EditSchedule) -> None:
        self.scene = scene
        self.editor = editor
        self.schedule = schedule
        self.edits_per_view = [0] * scene.num_views
        self.seconds = 0.0

    def before_step(self, step: int) -> list[EditedView]:
        """Edits the views that are due before this training step, and says which they were."""
        return self.edit_views(self.schedule.views_due(step))

    def edit_views(self, views: Sequence[int]) -> list[EditedView]:
        """Edits these views now. Views of one size share a batch."""
        started = perf_counter()
        edited = [view for batch in self._group_by_size(views) for view in self._edit_batch(batch)]
        for view, target, _, _ in edited:
            self.scene.replace(view, target)
            self.edits_per_view[view] += 1
        self.seconds += perf_counter() - started
        return edited

    def reset(self) -> None:
        """Gives every edited view its original back and starts the schedule again."""
        for view in self.edited_views:
            self.scene.replace(view, self.scene.original(view))
        self.schedule.reset()
        self.edits_per_view = [0] * self.scene.num_views
        self.seconds = 0.0

    @property
    def edited_views(self) -> list[int]:
        return [view for view, edits in enumerate(self.edits_per_view) if edits]

    @property
    def progress(self) -> EditProgress:
        edits = sum(self.edits_per_view)
        return EditProgress(edits, len(self.edited_views), self.scene.num_views, self.seconds / max(edits, 1))

    def state_dict(self) -> dict[str, Any]:
        """The whole edit in plain containers and CPU tensors, as `torch.load` reads with `weights_only`."""
        return {
            "schedule": self.schedule.state_dict(),
            "edits_per_view": list(self.edits_per_view),
            "seconds": self.seconds,
            "targets": {view: self.scene.target(view).cpu().clone() for view in self.edited_views},
            "editor": self.editor.state_dict() if isinstance(self.editor, Resumable) else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the edit, the edited views in the scene included."""
        saved_views = len(state["edits_per_view"])
        if saved_views != self.scene.num_views:
            raise ValueError(
                f"The saved edit is of {saved_views} views and the scene has {self.scene.num_views}: "
                "resume with the data it was made on."
            )
        for view in self.edited_views:
            self.scene.replace(view, self.scene.original(view))
        for view, target in state["targets"].items():
            self.scene.replace(view, target.to(self.scene.original(view)))
        self.schedule.load_state_dict(state["schedule"])
        self.edits_per_view = list(state["edits_per_view"])
        self.seconds = state["seconds"]
        if isinstance(self.editor, Resumable) and state["editor"]:
            self.editor.load_state_dict(state["editor"])

    def _group_by_size(self, views: Sequence[int]) -> list[list[int]]:
        """The views in lists of one size each, in their order."""
        groups: dict[torch.Size, list[int]] = {}
        for view in views:
            groups.setdefault(self.scene.original(view).shape, []).append(view)
        return list(groups.values())

    @torch.no_grad()
    def _edit_batch(self, views: list[int]) -> list[EditedView]:
        """Renders and edits views of one size."""
        originals = torch.stack([self.scene.original(view) for view in views])
        rendered = torch.stack([self.scene.render(view) for view in views])
        edited, mask, score = self.editor.edit(rendered, originals, views)
        scores = [None] * len(views) if score is None else list(score)
        return [EditedView(*row) for row in zip(views, edited, mask, scores, strict=True)]
