"""What somebody does to an edit while it runs: try it on a view, start it, hold it, take a layer away.

Every action says in a line what came of it. None of them waits for a training step: what takes long is done view by
view before the steps that follow.
"""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.utils import colormaps
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.dataset_update import IterativeDatasetUpdate
from latenteditor.editing.delta_mask import blend, peak, require_usable
from latenteditor.editing.editor import EditConfig, noise_range
from latenteditor.editing.layers import LayerStack
from latenteditor.editing.preview import preview

if TYPE_CHECKING:
    from latenteditor.nerf.editing_pipeline import EditingPipeline

NEEDS_TRAINING = "This scene is only looked at: open the run with ns-train ... --load-dir to edit it."


class Steering:
    """The actions on one pipeline, and what they leave for its next steps."""

    def __init__(self, pipeline: "EditingPipeline") -> None:
        """Steers this pipeline."""
        self._pipeline = pipeline
        self.paused = False
        self.asked_to_start = False
        """Whether a prompt was started by hand, so that whoever did it is there to be told what came of it."""
        self.early = False
        """Whether the scene is still being reconstructed, before its first edit."""
        self.pending: list[int] = []
        """Views to be edited as soon as possible, whatever the schedule."""

    @property
    def edit(self) -> EditConfig:
        """The settings, as they are now."""
        return self._pipeline.config.edit

    @property
    def layers(self) -> LayerStack:
        """The layers of the scene."""
        return self._pipeline.layers

    @property
    def _update(self) -> IterativeDatasetUpdate:
        """The edit of a scene in training.

        Raises:
            ValueError: The scene is only looked at.
        """
        if self._pipeline.update is None:
            raise ValueError(NEEDS_TRAINING)
        return self._pipeline.update

    @property
    def image_size(self) -> int:
        """Pixels along the long side of a view that is previewed."""
        return self._pipeline.image_size

    def check_edit(self) -> None:
        """Refuses settings that no edit can be made by.

        Raises:
            ValueError: One of them lies outside its range, or does not fit another.
        """
        edit = self.edit
        require_usable(edit.delta_mask)
        editor = self._pipeline.latent_editor
        if editor is not None:
            denoiser = editor.denoiser
            noise_range(edit, denoiser.noise_schedule)
            denoiser.noise_schedule.timestep_at(edit.delta_mask.noise_level)

    def settings_changed(self) -> None:
        """Saves changed settings with the run, if there is one in training."""
        self._pipeline.save_settings()

    @torch.no_grad()
    def preview(self, camera: Cameras) -> tuple[Float[Tensor, "height width 3"], str]:
        """Edits one view, without touching the training set.

        Args:
            camera: A batch of one, in pixels.

        Returns:
            The edited view, above it the unedited one and its mask at half the size, and a line about them.
        """
        pipeline, edit = self._pipeline, self.edit
        original, rendered = pipeline.views_from(camera)
        edited, mask = original, torch.zeros_like(original[:, :1], dtype=torch.bool)
        said = []
        for prompt in pipeline.instructions(edit.prompt):
            config = pipeline.with_prompt(prompt)
            tried = preview(pipeline.require_editor().denoiser, rendered, original, config)
            edited, mask = blend(tried.masks, tried.edits[0], edited), mask | tried.masks
            share = tried.masks.float().mean().item()
            found = f"{share:.0%} of the view" if share else f"nothing: score {peak(tried.score).item():.2f}"
            said.append(f"'{prompt}' changes {found} (gate {edit.delta_mask.gate:g})")
        before, after = pipeline.decoded(torch.cat([original, edited]))
        height, width = after.shape[1:]
        cells = functional.interpolate(mask.float(), (height, width), mode="nearest-exact")[0].permute(1, 2, 0)
        where = colormaps.apply_float_colormap(cells).permute(2, 0, 1).to(before)
        above = functional.interpolate(torch.cat([before, where], dim=2)[None], (height // 2, width), mode="area")[0]
        return torch.cat([above, after], dim=1).permute(1, 2, 0).cpu(), "; ".join(said)

    def start(self) -> str:
        """Edits by the present prompt: goes on with it, or starts it on top of everything that is there.

        Raises:
            ValueError: Nothing can be edited here, or by this prompt.
        """
        pipeline, update, prompt = self._pipeline, self._update, self.edit.prompt.strip()
        if not prompt:
            raise ValueError("Type a prompt first.")
        pipeline.instructions(prompt)
        self.paused = False
        current = update.current
        if current and current[0].request == prompt and any(layer.active for layer in current):
            return f"Editing goes on: {prompt}"
        pipeline.request, pipeline.begun, self.asked_to_start = prompt, False, True
        when = (
            f"at step {pipeline.first_edit_step}, when the scene is reconstructed"
            if self.early
            else "with the next step"
        )
        return f"Editing starts {when}: {prompt}"

    def pause(self) -> str:
        """Edits no further view; the scene goes on training on those it has."""
        self.paused, self.pending = True, []
        return "Editing is paused; the scene goes on training on what was edited."

    def edit_every_view(self) -> str:
        """Edits every view once, as fast as it goes."""
        said = self.start()
        self.pending = list(range(self._update.scene.num_views))
        return f"{said} All {len(self.pending)} views are edited, one after the other."

    def reset(self) -> str:
        """Switches every layer off and pauses: the scene goes back to the originals."""
        self._update.reset()
        self.pause()
        return "Every layer is off, and the scene goes back to the original. Switch layers on to have them back."

    def switch_layer(self, number: int) -> str:
        """Switches a layer off, or on again."""
        layer, update = self.layers.numbered(number), self._pipeline.update
        if update is None:
            layer.active = not layer.active
        else:
            update.switch(number, not layer.active)
        return f"Layer {number} is {'on' if layer.active else 'off'}."

    def remove_layer(self, number: int) -> str:
        """Takes a layer away for good."""
        self._update.remove(number)
        return f"Layer {number} is removed."

    def views_due(self, scheduled: list[int]) -> list[int]:
        """Which views to edit before a step: those asked for first, none while paused."""
        if self.paused:
            return []
        if not self.pending:
            return scheduled
        count = self._pipeline.config.schedule.views_per_edit
        due, self.pending = self.pending[:count], self.pending[count:]
        return due
