"""What latenteditor and in2n share: a scene that is reconstructed or loaded, and then edited as it trains."""

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Literal

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE, get_progress

from latenteditor.editing.dataset_update import EditedView, IterativeDatasetUpdate
from latenteditor.editing.editor import Agreement, EditConfig, LatentEditor
from latenteditor.editing.layers import LayerStack
from latenteditor.nerf.checkpoints import FORMAT, require_format
from latenteditor.nerf.edit_controls import EditControls, Notices
from latenteditor.nerf.edit_costs import EditCosts
from latenteditor.nerf.edit_pictures import edit_picture
from latenteditor.nerf.edit_session import EditorLoader, EditSession
from latenteditor.nerf.editable_scene import TrainingScene
from latenteditor.networks.autoencoder import Autoencoder
from latenteditor.networks.editors import load_denoiser, require_autoencoder

EXTRA_STATE = "_extra_state"


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
        if self.trains:
            _require_request(config)
        super().__init__(config, device, test_mode, world_size, local_rank, grad_scaler)  # type: ignore[arg-type]
        notices = Notices()
        self.session = EditSession(config, self.make_scene(), self.editor_loader(device), notices)
        if self.trains:
            self.session.require_editor()
        self.edit_controls = EditControls(
            self.session, notices, self.masks, config.model if hasattr(config.model, "composite") else None
        )
        if self.trains and config.edit.prompt.strip():
            self.session.instructions(config.edit.prompt)  # Refused now rather than after the reconstruction.
        self._loaded = False

    def make_scene(self) -> TrainingScene:
        """Makes the scene that is edited; its views may come later."""
        raise NotImplementedError

    def editor_loader(self, device: str | torch.device) -> EditorLoader:
        """Returns what loads the networks that edit."""
        raise NotImplementedError

    @property
    def update(self) -> IterativeDatasetUpdate | None:
        """The edit of the training views; None where the scene is only looked at."""
        return self.session.update

    @property
    def layers(self) -> LayerStack:
        """The layers of the scene."""
        return self.session.layers

    @property
    def costs(self) -> EditCosts:
        """What the edits have cost."""
        return self.session.costs

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """The scene's own callbacks, and the dataset update before each step."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        trainer = training_callback_attributes.trainer
        if trainer is None:
            self.session.prepare()
        else:
            self.session.prepare(getattr(trainer.config, "write_config", trainer.config.save_config))
            self._check_steps(trainer.config.max_num_iterations)
        return [
            *callbacks,
            TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self.update_views),
        ]

    def update_views(self, step: int) -> None:
        """Edits the views that are due before this step, and reports on them.

        Raises:
            NothingToEdit: The views show nothing that the prompt is about.
        """
        edited = self.session.before_step(step)
        self.edit_controls.list_layers()
        if edited:
            self._report(edited, step)

    def get_extra_state(self) -> dict[str, Any]:
        """The edit as it stands, for the checkpoint."""
        return {**self.session.state_dict(), "format": FORMAT}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Takes an edit and its layers from a checkpoint."""
        require_format(state.get("format", 0), "The edit of this run")
        self.session.load_state_dict(state)

    def moment(self) -> dict[str, Any]:
        """Where the edit stands, for the command that it serves to go on from."""
        return self.session.moment()

    def load_moment(self, moment: dict[str, Any]) -> None:
        """Goes on from there, and shows the settings that hold there."""
        self.session.load_moment(moment)
        self.edit_controls.show_settings()

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a reconstruction, which is edited from here on, or an edited run, whose edit goes on."""
        self.session.first_edit_step, self._loaded = step + 1, True
        super().load_pipeline({EXTRA_STATE: self.get_extra_state(), **loaded_state}, step)
        self.edit_controls.list_layers()

    def _check_steps(self, max_num_iterations: int) -> None:
        """Refuses a run that would end before its first edit."""
        first = self.session.first_edit_step
        if self._loaded or first < max_num_iterations:
            return
        raise ValueError(
            f"Nothing would be edited: the scene is reconstructed for {first} steps and training ends after "
            f"{max_num_iterations}. Raise --max-num-iterations, lower --pipeline.reconstruction-steps, or load "
            f"a {self.reconstruction} run with --load-dir."
        )

    def _report(self, edited: list[EditedView], step: int) -> None:
        """Writes down how far the edit has come, and shows a view of it now and then."""
        assert self.update is not None
        progress = self.update.progress
        writer.put_scalar("Edit/view edits", progress.edits, step)
        writer.put_scalar("Edit/seconds per view edit", progress.seconds_per_edit, step)
        writer.put_scalar("Edit/rejected view edits", self.update.rejected, step)
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
            picture = edit_picture(self.session.scene, edited[-1])
            writer.put_image("Edit/original, score, mask, edit", picture, step)


def _require_request(config: Any) -> None:
    """Refuses to train where nothing is asked for, before anything is built."""
    if not config.edit.prompt.strip() and not config.changes_layers:
        raise ValueError('There is no prompt: say what to change, as in --pipeline.edit.prompt "make the sphere red".')


def load_latent_editor(
    config: EditConfig, device: str | torch.device, autoencoder: Autoencoder, agree: Agreement | None = None
) -> LatentEditor:
    """Loads what edits the latents of this autoencoder; `agree` serves the mask "field".

    Raises:
        ValueError: There is no such model, or it edits other latents, or cannot read the prompt.
    """
    denoiser = load_denoiser(config.model, device, config.half_precision, config.cpu_offload)
    denoiser.require_channels(autoencoder.channels)
    require_autoencoder(config.model, autoencoder)
    editor = LatentEditor(denoiser, config, agree)
    editor.track = _with_progress
    return editor


def _with_progress(batches: Sequence[list[int]]) -> Iterator[list[int]]:
    """The batches, with a progress bar."""
    with get_progress("Scoring views", suffix="batches/s") as progress:
        yield from progress.track(batches, total=len(batches))
