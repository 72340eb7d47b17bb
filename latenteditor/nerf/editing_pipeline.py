"""What latenteditor and in2n share: a scene that is reconstructed or loaded, and then edited as it trains."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from time import perf_counter
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from nerfstudio.utils import colormaps, writer
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.dataset_update import EditableScene, EditedView, IterativeDatasetUpdate
from latenteditor.editing.delta_mask import normalise
from latenteditor.editing.edit_schedule import EditSchedule, EditScheduleConfig
from latenteditor.editing.editor import Agreement, EditConfig, Editor, LatentEditor
from latenteditor.editing.layers import Layer, LayerStack
from latenteditor.language.prompts import PromptSplitConfig, PromptSplitter, load_splitter
from latenteditor.language.rules import keep_whole
from latenteditor.nerf.edit_controls import EditControls
from latenteditor.nerf.steering import Steering
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.networks.language_model import load_language_model

EXTRA_STATE = "_extra_state"


@dataclass
class EditingConfig:
    """The edit that a scene goes through."""

    edit: EditConfig = field(default_factory=EditConfig)
    """What to change, and how."""
    schedule: EditScheduleConfig = field(default_factory=EditScheduleConfig)
    """Which views are edited when."""
    split: PromptSplitConfig = field(default_factory=PromptSplitConfig)
    """How a prompt that asks for several things is split: each gets its own mask and edit, and is a layer of its own. A
    prompt is kept whole where there is no mask."""
    hide_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to switch off, as it lists them; the scene goes back to what it was there."""
    show_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to switch on again."""
    remove_layers: tuple[int, ...] = ()
    """Numbers of layers of the loaded run to remove for good. The loaded run itself keeps them."""
    reconstruction_steps: int = 3000
    """Steps that learn the scene before the first edit, where no run is loaded with --load-dir. As many as
    latent-nerfacto trains."""
    edits_per_picture: int = 10
    """A view edit with its mask goes to tensorboard (or wandb) every this many view edits. Our choice."""


@dataclass
class EditCosts:
    """What the edits of a scene have cost; a run that goes on from an edited one counts on from there."""

    survey_seconds: float = 0.0
    """Looking for what the prompt is about: scores of all views and, for the mask "field", the fit of the relevance."""
    relevance_seconds: float = 0.0
    """Of these, the fit of the relevance head and its rendering from all views."""
    edit_seconds: float = 0.0
    """Rendering, editing and replacing views."""
    view_edits: int = 0
    """Edits of single views in that time."""
    gpu_bytes: int = 0
    """The most GPU memory that tensors held at once; 0 without a GPU."""


class NothingToEdit(Exception):
    """The views show nothing that the prompt is about: the scene should be left as it is."""


class EditingPipeline(VanillaPipeline):
    """Reconstructs where nothing was loaded, then edits; who only looks never loads the editor's networks."""

    config: Any
    """A pipeline config that is an ``EditingConfig`` too."""
    reconstruction: ClassVar[str]
    """The method whose runs can be loaded and edited."""
    masks: ClassVar[Sequence[str]] = ("per-view", "none")
    """The kinds of mask it knows."""

    def __init__(
        self,
        config: Any,
        device: str | torch.device,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Any = None,
    ) -> None:
        """Builds the scene and, where it is going to be trained, the editor.

        Raises:
            ValueError: There is no prompt to train with, or a number that does not fit.
        """
        self.trains = test_mode == "val"
        self.layers = LayerStack()
        if self.trains and not config.edit.prompt.strip() and not _changes_layers(config):
            raise ValueError(
                'There is no prompt: say what to change, as in --pipeline.edit.prompt "make the sphere red".'
            )
        if config.edits_per_picture < 1:
            raise ValueError(
                f"A picture comes every 1 or more view edits, not every {config.edits_per_picture}: "
                "raise --pipeline.edits-per-picture."
            )
        super().__init__(config, device, test_mode, world_size, local_rank, grad_scaler)  # type: ignore[arg-type]
        self.editor = self.load_editor(device) if self.trains else None
        self.update: IterativeDatasetUpdate | None = None
        self._splitter: PromptSplitter | None = None
        self._instructions: dict[str, list[str]] = {}
        self._save_config: Callable[[], object] = lambda: None
        self.steering = Steering(self)
        self.edit_controls = EditControls(
            self.steering, self.masks, config.model if hasattr(config.model, "composite") else None
        )
        self.request = config.edit.prompt.strip()
        """The prompt that was asked for: the command's, or the one in the viewer's box when somebody pressed Start."""
        self.begun = False
        self.costs = EditCosts()
        self._loaded = False
        self.first_edit_step = config.reconstruction_steps
        if self.trains and config.edit.prompt.strip():
            self.instructions(config.edit.prompt)  # Refused now rather than after the reconstruction.
        self._edit_state: dict[str, Any] = {}

    def load_editor(self, device: str | torch.device) -> Editor:
        """Loads the networks that edit."""
        raise NotImplementedError

    @property
    def latent_editor(self) -> LatentEditor | None:
        """The editor of latents, once it is loaded."""
        editor: Any = self.editor
        return editor

    def require_editor(self) -> LatentEditor:
        """The editor of latents; loaded now where the scene was only looked at so far."""
        if self.editor is None:
            self.editor = self.load_editor(self.device)
        assert self.latent_editor is not None
        return self.latent_editor

    @property
    def image_size(self) -> int:
        """Pixels along the long side of its views."""
        raise NotImplementedError

    def views_from(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "1 channels rows columns"], Float[Tensor, "1 channels rows columns"]]:
        """The latents of the unedited scene, and of the scene as it is now, from a camera in pixels."""
        raise NotImplementedError

    def decoded(self, latents: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """Images in [0, 1] of latents that the editor edits."""
        raise NotImplementedError

    def with_prompt(self, prompt: str) -> EditConfig:
        """The edit's settings for one instruction; what a view may change is found in that view."""
        edit = self.config.edit
        return replace(edit, prompt=prompt, mask="none" if edit.mask == "none" else "per-view")

    def instructions(self, prompt: str) -> list[str]:
        """Returns the instructions in a prompt; it is kept whole where there is no mask.

        Raises:
            ValueError: It is empty, or too long for the editor to read.
        """
        if self._splitter is None:
            self._splitter = load_splitter(self.config.split, load_language_model)
        if prompt not in self._instructions:  # A language model is asked once, and may answer otherwise another time.
            self._instructions[prompt] = self._splitter(prompt)
        prompts = keep_whole(prompt) if self.config.edit.mask == "none" else self._instructions[prompt]
        denoiser: Any = self.require_editor().denoiser
        for instruction in prompts:
            denoiser.embed(instruction)
        return prompts

    def save_settings(self) -> None:
        """Saves the settings as they are now with the run in training."""
        self._save_config()

    def make_scene(self) -> EditableScene:
        """Makes the scene that is edited, once the data manager has its views."""
        raise NotImplementedError

    def shown(self, views: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """Returns the images in [0, 1] that the scene's views stand for."""
        raise NotImplementedError

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The scene's own callbacks, and the dataset update before each step."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        assert self.editor is not None
        scene = self.make_scene()
        schedule = EditSchedule(self.config.schedule, scene.num_views, self.first_edit_step)
        self.update = IterativeDatasetUpdate(scene, self.editor, schedule, self.layers)
        if self._edit_state:
            self.update.load_state_dict(self._edit_state)
        self._change_layers(self.update)
        trainer = training_callback_attributes.trainer
        if trainer is not None:
            self._check_steps(trainer.config.max_num_iterations)
            self._save_config = trainer.config.save_config
        return [
            *callbacks,
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.update_views),
        ]

    def update_views(self, step: int) -> None:
        """Edits the views that are due before this step, and reports on them.

        Raises:
            NothingToEdit: The views show nothing that the prompt is about.
        """
        assert self.update is not None
        self.steering.early = step < self.first_edit_step
        if self.steering.early:
            return
        if not self.begun:
            try:
                self.begin()
            except NothingToEdit as nothing:
                if not self.steering.asked_to_start:
                    raise
                self.steering.pause()
                self.edit_controls.show_progress("No view is edited.")
                self.edit_controls.say(str(nothing))
                return
            self.edit_controls.list_layers()
        views = self.steering.views_due(self.update.schedule.views_due(step))
        started = perf_counter()
        edited = self.update.edit_views(views)
        if edited:
            self.costs.edit_seconds += perf_counter() - started
            self.costs.view_edits += len(edited)
            self._report(edited, step)

    def begin(self) -> None:
        """Starts on the prompt, or goes on with it where the loaded run was made by the same one.

        Raises:
            NothingToEdit: The views show nothing that the prompt is about.
        """
        assert self.update is not None
        update, request = self.update, self.request
        self.begun = True
        self.freeze_cameras()
        if not request:
            update.current = []
            return
        fresh = not update.current or update.current[0].request != request
        if fresh:
            prompts = self.instructions(request)
            update.begin(prompts, request)
            if len(prompts) > 1:
                CONSOLE.log(f"The prompt is edited as {len(prompts)} instructions: {'; '.join(prompts)}.")
        found = self._survey(update)
        absent = [layer for layer in update.current if layer not in found]
        for layer in absent:
            CONSOLE.log(f"Nothing in the {update.scene.num_views} views answers to '{layer.prompt}'.")
            if fresh and found:
                update.remove(layer.number)
        if fresh and not found:
            update.take_back()
        if not found and not _changes_layers(self.config):
            raise NothingToEdit(
                f"Nothing in the views answers to '{request}': the scene is left as it was. If it should have changed, "
                "lower --pipeline.edit.delta-mask.gate (or .least-views, where few views show it), or say it in other "
                "words."
            )
        if found:
            self.keep_original()

    def _survey(self, update: IterativeDatasetUpdate) -> list[Layer]:
        """The layers that may change a view, and how long it took to see which."""
        self.edit_controls.show_progress(f"All views are searched for it: {self.request}")
        fitted, started = self.costs.relevance_seconds, perf_counter()
        found = update.survey()
        seconds, fitted = perf_counter() - started, self.costs.relevance_seconds - fitted
        self.costs.survey_seconds += seconds
        agreeing = f", {fitted:.1f} s of them to make the scores agree in 3D" if fitted else ""
        CONSOLE.log(f"Surveyed {update.scene.num_views} views in {seconds:.1f} s{agreeing}.")
        return found

    def keep_original(self) -> None:
        """Keeps the unedited scene beside the edited one, where a method can show both."""

    def freeze_cameras(self) -> None:
        """Cameras do not train on edited views, which do not agree with each other yet."""
        optimizer: Any = self.model.camera_optimizer
        optimizer.requires_grad_(False)

    def get_extra_state(self) -> dict[str, Any]:
        """The edit as it stands, for the checkpoint."""
        edit = self._edit_state if self.update is None else self.update.state_dict()
        self.costs.gpu_bytes = max(self.costs.gpu_bytes, torch.cuda.max_memory_allocated())
        return {
            "first_edit_step": self.first_edit_step,
            "edit": edit,
            "layers": self.layers.state_dict(),
            "costs": asdict(self.costs),
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes an edit and its layers from a checkpoint; the edit is restored when training starts."""
        self.first_edit_step = state["first_edit_step"]
        self._edit_state = state["edit"]
        self.layers.load_state_dict(state["layers"])
        self.costs = EditCosts(**state.get("costs", {}))

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a reconstruction, which is edited from here on, or an edited run, whose edit goes on."""
        self.first_edit_step, self._loaded = step + 1, True
        super().load_pipeline({EXTRA_STATE: self.get_extra_state(), **loaded_state}, step)
        self.edit_controls.list_layers()

    def _change_layers(self, update: IterativeDatasetUpdate) -> None:
        """Switches and removes the layers that the command names, and trains the views towards what is left."""
        if self.layers.layers:
            CONSOLE.log(f"The loaded scene has {self.layers.listing()}.")
        for numbers, change in (
            (self.config.hide_layers, lambda number: update.switch(number, False)),
            (self.config.show_layers, lambda number: update.switch(number, True)),
            (self.config.remove_layers, update.remove),
        ):
            for number in numbers:
                change(number)
        update.show_layers()
        if _changes_layers(self.config):
            CONSOLE.log(f"It goes on with {self.layers.listing() or 'no layer'}.")

    def _check_steps(self, max_num_iterations: int) -> None:
        """Refuses a run that would end before its first edit."""
        if self._loaded or self.first_edit_step < max_num_iterations:
            return
        raise ValueError(
            f"Nothing would be edited: the scene is reconstructed for {self.first_edit_step} steps and training ends "
            f"after {max_num_iterations}. Raise --max-num-iterations, lower --pipeline.reconstruction-steps, or load "
            f"a {self.reconstruction} run with --load-dir."
        )

    def _report(self, edited: list[EditedView], step: int) -> None:
        """Says how far the edit has come, and shows a view of it now and then."""
        assert self.update is not None
        progress = self.update.progress
        self.edit_controls.show_progress(
            f"{progress.edits} edits of {progress.num_views} views, {progress.seconds_per_edit:.1f} s each: "
            f"{self.request}"
        )
        writer.put_scalar("Edit/view edits", progress.edits, step)
        writer.put_scalar("Edit/seconds per view edit", progress.seconds_per_edit, step)
        num_edited = len({view.view for view in edited})  # Each by every instruction.
        coverage = torch.stack([view.mask.float().mean() for view in edited]).mean()
        writer.put_scalar("Edit/mask coverage", coverage, step)
        rounds_before, rounds = (
            (count // progress.num_views) for count in (progress.edits - num_edited, progress.edits)
        )
        if rounds > rounds_before:
            CONSOLE.log(
                f"Every view was edited {rounds} time{'s' * (rounds > 1)}: {progress.edits} view edits, "
                f"{progress.seconds_per_edit:.2f} s each."
            )
        if (progress.edits - 1) % self.config.edits_per_picture < num_edited:
            writer.put_image("Edit/original, score, mask, edit", self.edit_picture(edited[-1]), step)

    @torch.no_grad()
    def edit_picture(self, view: EditedView) -> Float[Tensor, "height width 3"]:
        """One view side by side: its photograph, the delta score, the mask, the edit."""
        assert self.update is not None
        original = self.update.scene.original(view.view)
        before, after = self.shown(torch.stack([original, view.target.to(original)])).permute(0, 2, 3, 1)
        score = view.mask.float() if view.score is None else normalise(view.score[None])[0]
        maps = [
            functional.interpolate(values[None].float(), before.shape[:2], mode="nearest-exact")[0].permute(1, 2, 0)
            for values in (score, view.mask)
        ]
        panes = [before, colormaps.apply_float_colormap(maps[0]), maps[1].expand(-1, -1, 3), after]
        return torch.cat([pane.to(before) for pane in panes], dim=1).cpu()


def _changes_layers(config: EditingConfig) -> bool:
    """Whether layers of the loaded run are to be switched or removed."""
    return bool(config.hide_layers or config.show_layers or config.remove_layers)


def load_latent_editor(
    config: EditConfig, device: str | torch.device, channels: int, agree: Agreement | None = None
) -> LatentEditor:
    """Loads the InstructPix2Pix that edits, for latents with this many channels; `agree` serves the mask "field".

    Raises:
        ValueError: There is no such model, or it edits other latents, or cannot read the prompt.
    """
    denoiser = load_instruct_pix2pix(config.model, device, config.half_precision, config.cpu_offload)
    denoiser.require_channels(channels)
    editor = LatentEditor(denoiser, config, agree)
    editor.track = _with_progress
    return editor


def _with_progress(batches: Sequence[list[int]]) -> Iterator[list[int]]:
    """The batches, with a progress bar."""
    with get_progress("Scoring views", suffix="batches/s") as progress:
        yield from progress.track(batches, total=len(batches))
