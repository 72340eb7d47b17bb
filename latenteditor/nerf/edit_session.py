"""One scene's edit, from the first prompt to the last: what was asked for, what came of it, what is to be done next.

Whoever trains the scene calls ``before_step``; whoever steers it by hand calls the actions, each of which says in a
line what came of it. None of them waits for a training step: what takes long is done view by view before the steps
that follow. A scene that is only looked at can be previewed, and its layers switched.
"""

from collections.abc import Callable
from dataclasses import asdict
from time import perf_counter
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from latenteditor.editing.dataset_update import EditedView, IterativeDatasetUpdate, Resumable
from latenteditor.editing.delta_mask import require_usable
from latenteditor.editing.edit_schedule import EditSchedule
from latenteditor.editing.editor import Editor, LatentEditor, noise_range
from latenteditor.editing.layers import Layer, LayerStack
from latenteditor.editing.pixel_editor import latent_editor_of
from latenteditor.nerf.edit_costs import EditCosts
from latenteditor.nerf.edit_pictures import preview_picture
from latenteditor.nerf.editable_scene import TrainingScene
from latenteditor.nerf.editing_config import EditingConfig, apply_settings, settings_of
from latenteditor.nerf.option_ranges import require_consistent, require_in_range
from latenteditor.nerf.prompt_reader import PromptReader

NEEDS_TRAINING = "This scene is only looked at: open the run with ns-train ... --load-dir to edit it."


EditorLoader = Callable[[LayerStack, EditCosts], Editor]
"""Loads the networks that edit; what they let all views agree on belongs to one of the layers, and has its costs."""


class NothingToEdit(Exception):
    """The views show nothing that the prompt is about: the scene should be left as it is."""


@runtime_checkable
class Audience(Protocol):
    """Whoever is to be told about an edit while it goes on."""

    def show_progress(self, text: str) -> None:
        """How far the edit has come; what was said last still holds."""
        ...

    def say(self, text: str) -> None:
        """What came of what was asked for."""
        ...


class EditSession:
    """The edit of one scene: its layers and costs, what is asked for and due, and the editor, once it is needed."""

    def __init__(
        self, config: EditingConfig, scene: TrainingScene, load_editor: EditorLoader, audience: Audience
    ) -> None:
        """Starts with the prompt of the config, not yet begun; a scene that trains is said to be ready to be edited.

        Args:
            config: The settings, read anew whenever they matter.
            scene: What is edited.
            load_editor: Called when the networks are first needed, never by who only looks.
            audience: Is told how the edit goes on.
        """
        self.config = config
        self.scene = scene
        self.audience = audience
        self.layers = LayerStack()
        self.costs = EditCosts()
        self.editor: Editor | None = None
        self.update: IterativeDatasetUpdate | None = None
        """The edit of the scene's training views; None where it is only looked at."""
        self.prompt = config.edit.prompt.strip()
        """The prompt that was asked for: the command's, or the one in the viewer's box when somebody pressed Start."""
        self.begun = False
        self.reconstructing = False
        """Whether training has not come to the first edit yet."""
        self.paused = False
        self.asked_to_start = False
        """Whether a prompt was started by hand, so that whoever did it is there to be told what came of it."""
        self.pending: list[int] = []
        """Views to be edited as soon as possible, whatever the schedule."""
        self.first_edit_step = config.reconstruction_steps
        self.save_settings: Callable[[], object] = lambda: None
        """Saves changed settings with the run, if there is one in training."""
        self._load_editor = load_editor
        self._prompts = PromptReader(config.split)
        self._loaded_edit: dict[str, Any] = {}
        self.asked = settings_of(config)
        """The settings of the command, whatever somebody changes by hand."""
        self._goes_on = False

    # The editor, and what it reads.

    @property
    def latent_editor(self) -> LatentEditor | None:
        """What edits latents, once it is loaded."""
        return None if self.editor is None else latent_editor_of(self.editor)

    def require_editor(self) -> LatentEditor:
        """What edits latents; loaded now where the scene was only looked at so far."""
        if self.editor is None:
            self.editor = self._load_editor(self.layers, self.costs)
        assert self.latent_editor is not None
        return self.latent_editor

    def recalled_editor(self) -> LatentEditor:
        """What edits latents, with what it knew of the views when the loaded edit was saved."""
        found = self.require_editor()
        if isinstance(self.editor, Resumable) and self._loaded_edit.get("editor"):
            self.editor.load_state_dict(self._loaded_edit["editor"])
        return found

    def instructions(self, prompt: str) -> list[str]:
        """Returns the instructions in a prompt; it is kept whole where there is no mask.

        Raises:
            ValueError: It is empty, or too long for the editor to read.
        """
        instructions = self._prompts.instructions(prompt, whole=self.config.edit.mask == "none")
        denoiser: Any = self.require_editor().denoiser
        for instruction in instructions:
            denoiser.embed(instruction)
        return instructions

    # What training calls.

    def prepare(self, save_settings: Callable[[], object] = lambda: None) -> None:
        """Makes the scene, whose views are there now, ready to be edited: goes on from a loaded edit.

        Args:
            save_settings: Saves the settings as they are with the run in training.
        """
        self.save_settings = save_settings
        self.require_editor()
        assert self.editor is not None
        schedule = EditSchedule(self.config.schedule, self.scene.num_views, self.first_edit_step)
        keep_out = self.config.keep_waiting_out
        self.update = IterativeDatasetUpdate(self.scene, self.editor, schedule, self.layers, keep_out)
        if self._loaded_edit:
            self.update.load_state_dict(self._loaded_edit)
        if self.begun:
            self.scene.freeze_cameras()
            if not self.prompt:
                self.update.current = []  # As when it was begun.
        _change_layers(self.update, self.config, by_command=not self._goes_on)

    def before_step(self, step: int) -> list[EditedView]:
        """Edits the views that are due before this step, and returns them.

        Raises:
            NothingToEdit: The views show nothing that the prompt is about, and nobody started it by hand.
        """
        assert self.update is not None
        self.reconstructing = step < self.first_edit_step
        if self.reconstructing or not (self.begun or self._begin_or_say_why_not()):
            return []
        views = self._views_due(self.update.schedule.views_due(step))
        started = perf_counter()
        edited = self.update.edit_views(views)
        if edited:
            self.costs.edit_seconds += perf_counter() - started
            self.costs.view_edits += len(edited)
            progress = self.update.progress
            self.audience.show_progress(
                f"{progress.edits} edits of {progress.num_views} views, {progress.seconds_per_edit:.1f} s each: "
                f"{self.prompt}"
            )
        return edited

    def begin(self) -> None:
        """Starts on the prompt, or goes on with it where the loaded run was made by the same one.

        Raises:
            NothingToEdit: The views show nothing that the prompt is about.
        """
        assert self.update is not None
        update, prompt = self.update, self.prompt
        self.begun = True
        self.scene.freeze_cameras()
        if not prompt:
            update.current = []
            return
        fresh = not update.current or update.current[0].prompt != prompt
        if fresh:
            instructions = self.instructions(prompt)
            update.begin(instructions, prompt)
            if len(instructions) > 1:
                CONSOLE.log(f"The prompt is edited as {len(instructions)} instructions: {'; '.join(instructions)}.")
        found = self._survey(update)
        _drop_what_is_absent(update, found, fresh)
        if found:
            self.scene.keep_original()
        elif not self.config.changes_layers:
            raise NothingToEdit(
                f"Nothing in the views answers to '{prompt}': the scene is left as it was. If it should have changed, "
                "lower --pipeline.edit.delta-mask.gate (or .least-views, where few views show it), or say it in other "
                "words."
            )

    # What somebody does by hand.

    def check_edit(self) -> None:
        """Refuses settings that no edit can be made by.

        Raises:
            ValueError: One of them lies outside its range, or does not fit another.
        """
        edit = self.config.edit
        require_in_range(edit, ["pipeline", "edit"])
        require_consistent(self.config)
        require_usable(edit.delta_mask)
        if self.latent_editor is not None:
            noise_range(edit, self.latent_editor.denoiser.noise_schedule)

    def preview(self, camera: Cameras) -> tuple[Float[Tensor, "height width 3"], str]:
        """Edits one view, without touching the training set.

        Args:
            camera: A batch of one, in pixels.

        Returns:
            The edited view, above it the unedited one and its mask at half the size, and a line about them.
        """
        instructions = self.instructions(self.config.edit.prompt)
        self.require_editor()
        assert self.editor is not None
        return preview_picture(self.scene, self.editor, instructions, self.config.edit, camera)

    def start(self) -> str:
        """Edits by the present prompt: goes on with it, or starts it on top of everything that is there.

        Raises:
            ValueError: Nothing can be edited here, or by this prompt.
        """
        update, prompt = self._require_update(), self.config.edit.prompt.strip()
        if not prompt:
            raise ValueError("Type a prompt first.")
        self.instructions(prompt)
        self.paused = False
        current = update.current
        if current and current[0].prompt == prompt and any(layer.active for layer in current):
            return f"Editing goes on: {prompt}"
        self.prompt, self.begun, self.asked_to_start = prompt, False, True
        later = f"at step {self.first_edit_step}, when the scene is reconstructed"
        return f"Editing starts {later if self.reconstructing else 'with the next step'}: {prompt}"

    def pause(self) -> str:
        """Edits no further view; the scene goes on training on those it has."""
        self.paused, self.pending = True, []
        return "Editing is paused; the scene goes on training on what was edited."

    def edit_every_view(self) -> str:
        """Edits every view once, as fast as it goes."""
        said = self.start()
        self.pending = list(range(self._require_update().scene.num_views))
        return f"{said} All {len(self.pending)} views are edited, one after the other."

    def reset(self) -> str:
        """Switches every layer off and pauses: the scene goes back to the originals."""
        self._require_update().reset()
        self.pause()
        return "Every layer is off, and the scene goes back to the original. Switch layers on to have them back."

    def switch_layer(self, number: int) -> str:
        """Switches a layer off, or on again."""
        layer = self.layers.numbered(number)
        if self.update is None:
            layer.active = not layer.active
        else:
            self.update.switch(number, not layer.active)
        return f"Layer {number} is {'on' if layer.active else 'off'}."

    def remove_layer(self, number: int) -> str:
        """Takes a layer away for good."""
        self._require_update().remove(number)
        return f"Layer {number} is removed."

    # What is kept.

    def state_dict(self) -> dict[str, Any]:
        """The edit as it stands, for the checkpoint."""
        edit = self._loaded_edit if self.update is None else self.update.state_dict()
        self.costs.gpu_bytes = max(self.costs.gpu_bytes, torch.cuda.max_memory_allocated())
        return {
            "first_edit_step": self.first_edit_step,
            "edit": edit,
            "layers": self.layers.state_dict(),
            "costs": asdict(self.costs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes an edit and its layers from a checkpoint; the edit is restored when training starts."""
        self.first_edit_step = state["first_edit_step"]
        self._loaded_edit = state["edit"]
        self.layers.load_state_dict(state["layers"])
        for name, value in asdict(EditCosts(**state.get("costs", {}))).items():
            setattr(self.costs, name, value)  # The editor counts into the same costs.

    def moment(self) -> dict[str, Any]:
        """Where it stands, for the command that it serves to go on from."""
        names = ("prompt", "begun", "paused", "asked_to_start", "pending")
        return {"settings": settings_of(self.config), **{name: getattr(self, name) for name in names}}

    def load_moment(self, moment: dict[str, Any]) -> None:
        """Goes on from there: the command's layers are switched already, and what was changed by hand holds."""
        self._goes_on = True
        for name, value in moment.items():
            if name != "settings":
                setattr(self, name, value)
        changed = apply_settings(self.config, moment["settings"])
        if changed:
            CONSOLE.log(f"The edit goes on with what was changed by hand: {', '.join(changed)}.")

    def _require_update(self) -> IterativeDatasetUpdate:
        """The edit of a scene in training.

        Raises:
            ValueError: The scene is only looked at.
        """
        if self.update is None:
            raise ValueError(NEEDS_TRAINING)
        return self.update

    def _begin_or_say_why_not(self) -> bool:
        """Begins, or pauses where there is nothing to edit and whoever started it is there to be told."""
        try:
            self.begin()
        except NothingToEdit as nothing:
            if not self.asked_to_start:
                self.begun = False
                raise
            self.pause()
            self.audience.show_progress("No view is edited.")
            self.audience.say(str(nothing))
            return False
        return True

    def _survey(self, update: IterativeDatasetUpdate) -> list[Layer]:
        """The layers that may change a view, and how long it took to see which."""
        self.audience.show_progress(f"All views are searched for it: {self.prompt}")
        fitted, started = self.costs.relevance_seconds, perf_counter()
        found = update.survey()
        seconds, fitted = perf_counter() - started, self.costs.relevance_seconds - fitted
        self.costs.survey_seconds += seconds
        agreeing = f", {fitted:.1f} s of them to make the scores agree in 3D" if fitted else ""
        CONSOLE.log(f"Surveyed {update.scene.num_views} views in {seconds:.1f} s{agreeing}.")
        return found

    def _views_due(self, scheduled: list[int]) -> list[int]:
        """Which views to edit before a step: those asked for first, none while paused."""
        if self.paused:
            return []
        if not self.pending:
            return scheduled
        count = self.config.schedule.views_per_edit
        due, self.pending = self.pending[:count], self.pending[count:]
        return due


def _change_layers(update: IterativeDatasetUpdate, config: EditingConfig, by_command: bool) -> None:
    """Switches and removes the layers that the command names, and trains the views towards what is left."""
    if update.layers.layers:
        CONSOLE.log(f"The loaded scene has {update.layers.listing()}.")
    if by_command:
        for number in config.hide_layers:
            update.switch(number, False)
        for number in config.show_layers:
            update.switch(number, True)
        for number in config.remove_layers:
            update.remove(number)
    update.show_layers()
    if by_command and config.changes_layers:
        CONSOLE.log(f"It goes on with {update.layers.listing() or 'no layer'}.")


def _drop_what_is_absent(update: IterativeDatasetUpdate, found: list[Layer], fresh: bool) -> None:
    """Names the instructions that no view answers to, and takes back those that were just begun."""
    for layer in [layer for layer in update.current if layer not in found]:
        CONSOLE.log(f"Nothing in the {update.scene.num_views} views answers to '{layer.instruction}'.")
        if fresh and found:
            update.remove(layer.number)
    if fresh and not found:
        update.take_back()
