"""How edits reach the scene: the iterative dataset update of Instruct-NeRF2NeRF, in whatever a scene is made of.

Before a training step in which views are due, each is rendered, edited and put back into the training set.
The scene goes on training on edited and unedited views together, so each rendering already shows what earlier
edits agreed on. A view is latents where the scene is one of latents, and an image in [0, 1] where it is one of
colors: nothing here can tell.

A prompt for several things is several instructions, each a layer of its own; all of a prompt's layers are edited in one
run, from the view's base: the view as earlier prompts left it.
"""

import logging
from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import dilate
from latenteditor.editing.edit_schedule import EditSchedule
from latenteditor.editing.editor import Editor, Surveyor
from latenteditor.editing.failures import MOST_FAILURES, CannotEdit
from latenteditor.editing.layers import Layer, LayerStack

LOGGER = logging.getLogger(__name__)

NEARLY_ALL = 0.9
"""The share of a view beyond which a region is no region: without it nothing of the view would be left to train on. Our
choice."""


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

    def render(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """What the scene shows now from the view's camera, in evaluation mode."""
        ...

    def replace(self, view: int, target: Float[Tensor, "channels rows columns"]) -> None:
        """Trains the view towards this from now on."""
        ...

    def keep_out(self, view: int, cells: Bool[Tensor, "1 rows columns"] | None) -> None:
        """Trains on none of these cells of the view from now on, given as latent cells; None trains on all of it."""
        ...


@runtime_checkable
class Resumable(Protocol):
    """What has a state to save and restore."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class EditedView(NamedTuple):
    """One view that an instruction has just edited."""

    view: int
    """Its index among the training views."""
    instruction: str
    """What it was edited by."""
    edited: Float[Tensor, "channels rows columns"]
    """What the instruction made of it, where its mask lets it; the layers together make the view's target."""
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

    def __init__(
        self,
        scene: EditableScene,
        editor: Editor,
        schedule: EditSchedule,
        layers: LayerStack | None = None,
        keep_waiting_out: bool = False,
    ) -> None:
        """Goes on with `layers`, if the scene has some.

        Args:
            scene: What is edited.
            editor: Edits its views.
            schedule: Says which when.
            layers: What earlier prompts made of the views; None starts without.
            keep_waiting_out: Trains on no cell that waits for its edit, see `waiting`.
        """
        self.scene = scene
        self.editor = editor
        self.schedule = schedule
        self.layers = LayerStack() if layers is None else layers
        self.keep_waiting_out = keep_waiting_out
        self.current: list[Layer] = []
        self.edits_per_view = [0] * scene.num_views
        self.seconds = 0.0
        self.again: list[int] = []
        """Views whose last edit could not be used, to be tried with those that are due next."""
        self.rejected = 0
        """Edits of single views that could not be used."""
        self._failures: dict[int, int] = {}
        self._kept_out: set[int] = set()
        self._before: tuple[list[Layer], dict[str, int], list[int], float] = ([], {}, [], 0.0)

    def begin(self, instructions: Sequence[str], prompt: str) -> None:
        """Starts a new prompt, whose instructions are edited on top of everything that is there."""
        self._before = self.current, self.schedule.state_dict(), self.edits_per_view, self.seconds
        self.current = self.layers.add(instructions, prompt)
        self.schedule.reset()
        self.edits_per_view = [0] * self.scene.num_views
        self.seconds, self.again, self._failures = 0.0, [], {}

    def take_back(self) -> None:
        """Undoes the last `begin`, as long as no view was edited since; the prompt before it goes on."""
        self.layers.take_back()
        self.current, schedule, self.edits_per_view, self.seconds = self._before
        self.schedule.load_state_dict(schedule)
        self._keep_out()

    def survey(self) -> list[Layer]:
        """Looks in all views for what the instructions are about, as far as that was not done yet.

        Returns:
            The layers of this prompt that may change a cell of any view. All of them where the editor does not look
            before it edits.
        """
        editor = self.editor
        if not isinstance(editor, Surveyor):
            return self.current
        found = [layer for layer in self.current if any(bool(mask.any()) for mask in self._survey(editor, layer))]
        self._keep_out()
        return found

    def before_step(self, step: int) -> list[EditedView]:
        """Edits the views that are due before this training step, and says which they were."""
        return self.edit_views(self.schedule.views_due(step))

    def edit_views(self, views: Sequence[int]) -> list[EditedView]:
        """Edits these views now, by every instruction that is switched on, and those that failed before.

        Views of one size share a batch. A view whose edit is broken stays as it is.

        Returns:
            The edits that are used.

        Raises:
            CannotEdit: A view has failed too often.
        """
        if not views or not any(layer.active for layer in self.current):
            return []
        if not self._surveyed:
            self.survey()
        started = perf_counter()
        again, self.again = [view for view in self.again if view not in views], []
        batches = self._group_by_size(views) + self._group_by_size(again)
        edited = [view for batch in batches for view in self._edit_batch(batch)]
        for view in dict.fromkeys(edit.view for edit in edited):
            self.show(view)
            self.edits_per_view[view] += 1
        self._keep_out()
        self.seconds += perf_counter() - started
        self._require_some_use()
        return edited

    def switch(self, number: int, active: bool) -> None:
        """Switches a layer on or off, and trains the scene towards what is left.

        Raises:
            ValueError: There is no such layer.
        """
        layer = self.layers.numbered(number)
        layer.active = active
        self._follow(layer)

    def remove(self, number: int) -> None:
        """Takes a layer away for good, and trains the scene towards what is left.

        Raises:
            ValueError: There is no such layer.
        """
        removed = self.layers.remove(number)
        self.current = [layer for layer in self.current if layer is not removed]
        self._follow(removed)

    def reset(self) -> None:
        """Switches every layer off: the scene is trained towards the originals."""
        for layer in self.layers.layers:
            self.switch(layer.number, False)

    def show(self, view: int) -> None:
        """Trains the view towards what its layers make of it."""
        self.scene.replace(view, self.layers.compose(view, self.scene.original(view)))

    def base(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The view as earlier prompts left it, which this prompt starts from."""
        number = self.current[0].prompt_number if self.current else None
        return self.layers.compose(view, self.scene.original(view), below_prompt=number)

    def waiting(self) -> dict[int, Bool[Tensor, "1 rows columns"]]:
        """The latent cells of views that an active layer will change and has not yet, widened by one, by view.

        They show what the scene must not show any more. A view that is nearly all region, and one of which no region is
        known, does not wait.
        """
        waiting: dict[int, Tensor] = {}
        for layer in self.layers.active:
            for view, mask in enumerate(self._known_masks(layer)):
                cells = dilate(mask[None], 1)[0]
                if view not in layer.edited and mask.any() and cells.float().mean() <= NEARLY_ALL:
                    waiting[view] = waiting[view] | cells if view in waiting else cells
        return waiting

    @property
    def edited_views(self) -> list[int]:
        """The views that this prompt has edited."""
        return [view for view, edits in enumerate(self.edits_per_view) if edits]

    @property
    def progress(self) -> EditProgress:
        """How far this prompt has come."""
        edits = sum(self.edits_per_view)
        return EditProgress(edits, len(self.edited_views), self.scene.num_views, self.seconds / max(edits, 1))

    def state_dict(self) -> dict[str, Any]:
        """The whole edit but for its layers, in plain containers and CPU tensors, for `torch.load`'s `weights_only`."""
        return {
            "schedule": self.schedule.state_dict(),
            "edits_per_view": list(self.edits_per_view),
            "seconds": self.seconds,
            "again": list(self.again),
            "rejected": self.rejected,
            "failures": dict(self._failures),
            "editor": self.editor.state_dict() if isinstance(self.editor, Resumable) else {},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on with the last prompt; its layers, and earlier ones, are in `layers` already.

        Raises:
            ValueError: The edit is of another number of views.
        """
        saved_views = len(state["edits_per_view"])
        if saved_views != self.scene.num_views:
            raise ValueError(
                f"The saved edit is of {saved_views} views and the scene has {self.scene.num_views}: "
                "resume with the data it was made on."
            )
        self.current = self.layers.latest
        self.schedule.load_state_dict(state["schedule"])
        self.edits_per_view = list(state["edits_per_view"])
        self.seconds = state["seconds"]
        self.again, self.rejected = list(state.get("again", [])), state.get("rejected", 0)
        self._failures = dict(state.get("failures", {}))
        if isinstance(self.editor, Resumable) and state["editor"]:
            self.editor.load_state_dict(state["editor"])

    def show_layers(self) -> None:
        """Trains every view that some layer has edited towards what its layers make of it."""
        for view in sorted({view for layer in self.layers.layers for view in layer.edited}):
            self.show(view)
        self._keep_out()

    def _follow(self, changed: Layer) -> None:
        """Trains the scene towards what its layers make of it after one of them changed.

        What a prompt above it knows of the views was measured on other views than there are now.
        """
        for view in changed.edited:
            self.show(view)
        beneath = self.current and changed.prompt_number < self.current[0].prompt_number
        if beneath and isinstance(self.editor, Surveyor):
            self.editor.forget()
        self._keep_out()

    @property
    def _surveyed(self) -> bool:
        """Whether nothing is to be looked for, by the present settings."""
        editor = self.editor
        return not isinstance(editor, Surveyor) or all(editor.surveyed(layer.instruction) for layer in self.current)

    def _survey(self, editor: Surveyor, layer: Layer) -> list[Bool[Tensor, "1 _ _"]]:
        views = [] if editor.surveyed(layer.instruction) else [self.base(view) for view in range(self.scene.num_views)]
        return editor.survey(views, layer.instruction)

    def _known_masks(self, layer: Layer) -> list[Bool[Tensor, "1 _ _"]]:
        """Where a layer may change each of the views, as far as that is known; nothing where it is not."""
        editor = self.editor
        if not isinstance(editor, Surveyor) or not editor.surveyed(layer.instruction):
            return []
        masks = editor.survey([], layer.instruction)
        return masks if len(masks) == self.scene.num_views else []

    def _keep_out(self) -> None:
        """Keeps what waits for its edit out of training, and puts back what does so no longer."""
        if not self.keep_waiting_out:
            return
        waiting = self.waiting()
        for view in sorted(self._kept_out | set(waiting)):
            self.scene.keep_out(view, waiting.get(view))
        self._kept_out = set(waiting)

    def _group_by_size(self, views: Sequence[int]) -> list[list[int]]:
        """The views in lists of one size each, in their order."""
        groups: dict[torch.Size, list[int]] = {}
        for view in views:
            groups.setdefault(self.scene.original(view).shape, []).append(view)
        return list(groups.values())

    @torch.no_grad()
    def _edit_batch(self, views: list[int]) -> list[EditedView]:
        """Renders views of one size, and edits them by each instruction; a view is edited by all of them or by none."""
        base = torch.stack([self.base(view) for view in views])
        rendered = torch.stack([self.scene.render(view) for view in views])
        active = [layer for layer in self.current if layer.active]
        edits = [self.editor.edit(rendered, base, views, layer.instruction) for layer in active]
        usable = [row for row, view in enumerate(views) if self._is_usable(view, [edit.edited[row] for edit in edits])]
        edited_views = []
        for layer, (edited, mask, score) in zip(active, edits, strict=True):
            for row in usable:
                view = views[row]
                layer.edited[view], layer.masks[view] = edited[row], mask[row]
                view_score = None if score is None else score[row]
                edited_views.append(EditedView(view, layer.instruction, edited[row], mask[row], view_score))
        return edited_views

    def _is_usable(self, view: int, edits: Sequence[Float[Tensor, "channels rows columns"]]) -> bool:
        """Whether all edits of a view are finite; a view with one that is not is counted and tried again."""
        if all(bool(edited.isfinite().all()) for edited in edits):
            self._failures.pop(view, None)
            return True
        self.rejected += 1
        self.again.append(view)
        self._failures[view] = self._failures.get(view, 0) + 1
        LOGGER.warning(
            "The edit of view %d is not finite, or one constant: it stays as it was, and is tried again (%d of %d).",
            view,
            self._failures[view],
            MOST_FAILURES,
        )
        return False

    def _require_some_use(self) -> None:
        """Ends an edit that gets nowhere with one of its views."""
        hopeless = [view for view, failures in self._failures.items() if failures >= MOST_FAILURES]
        if hopeless:
            raise CannotEdit(
                f"The denoiser's result is not finite, or one constant, {MOST_FAILURES} times in a row for view "
                f"{hopeless[0]}: try full precision or less guidance."
            )
