"""A settling sweep: every view edited once more from the scene that its edits agreed on, and laid over its photograph.

While the scene trained, each edit was blended into its view in latents. Here it is not: the view is edited as a whole,
from what the scene shows now, decoded, and laid over the photograph in pixels (see ``overlay``). A view that nothing
was learnt from is not edited: it gets what the scene shows from there.
"""

from collections.abc import Callable
from itertools import groupby
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from latenteditor.editing.delta_mask import delta_mask, delta_score, dilate, relevance_mask
from latenteditor.editing.editor import LatentEditor
from latenteditor.editing.failures import MOST_FAILURES, CannotEdit, mark_constants
from latenteditor.editing.layers import Layer
from latenteditor.editing.pixel_editor import PixelEditor
from latenteditor.editing.samplers import sampler_timesteps
from latenteditor.handoff.capture_views import CapturedView
from latenteditor.handoff.coverage import choose_views
from latenteditor.handoff.dataset import KeptOut
from latenteditor.handoff.overlay import WIDENED, Overlay, lay_over, soft_region, tidy
from latenteditor.nerf.editing_pipeline import EditingPipeline
from latenteditor.nerf.photographs import resize_cameras
from latenteditor.networks.autoencoder import Autoencoder, resize, working_size

Latents = Float[Tensor, "1 channels rows columns"]
Photograph = UInt8[np.ndarray, "height width 3"]


class SettledEdits:
    """What an edited scene makes of its capture's photographs, one at a time."""

    def __init__(self, pipeline: EditingPipeline, noise: float, views: int | None = None) -> None:
        """Loads the editor, and what it knows of the views.

        Args:
            pipeline: An edited scene.
            noise: What each edit starts from, as a fraction of the schedule: 1 draws anew, less keeps to what the scene
                shows.
            views: How many training views to edit at most; in the others the region is kept out. None edits all.

        Raises:
            ValueError: There is no such noise, or no such editor.
        """
        session = pipeline.session
        self._scene, self._layers, self._config = session.scene, session.layers.active, pipeline.config.edit
        self._datamanager, self._model = pipeline.datamanager, pipeline.model
        self._datamanager.load_views()  # type: ignore[operator]
        self._editor: LatentEditor = session.recalled_editor()
        self._of_images = isinstance(session.editor, PixelEditor)
        owner: Any = session.editor if self._of_images else pipeline
        self._autoencoder: Autoencoder = owner.autoencoder
        self._enter_latents: Callable[[Tensor], Latents] = owner.encode if self._of_images else _as_it_is
        schedule = self._editor.denoiser.noise_schedule
        self._start = schedule.timestep_at(noise)
        sampler_timesteps(self._config.sampler, schedule, self._start, self._config.denoising_steps)
        self._chosen = None if views is None else self._choose(views)

    @property
    def layers(self) -> list[Layer]:
        """The layers that are switched on, from the lowest to the highest."""
        return self._layers

    def edit(self, view: CapturedView, photograph: Photograph) -> Overlay | KeptOut | None:
        """The photograph as the scene's active layers change it; None where nothing in it is to change.

        One that is not edited though there is something to edit tells where that is.

        Raises:
            CannotEdit: The denoiser fails, by whatever noise.
        """
        if not self._layers or view.camera is None:
            return None
        if view.train_index is None:
            return self._shown(view, photograph)
        if self._chosen is not None and view.train_index not in self._chosen:
            region = self._region(view.train_index)
            if not region.any():
                return None
            shown = soft_region(dilate(tidy(region)[None], WIDENED)[0], (photograph.shape[0], photograph.shape[1]))
            return KeptOut(shown.numpy() > 0)
        return self._edited(view.train_index, photograph)

    def _choose(self, count: int) -> list[int]:
        """The training views to edit."""
        if count < 1:
            raise ValueError(f"At least 1 view is to be edited, not {count}.")
        cameras = [self._datamanager.camera(index) for index in range(self._scene.num_views)]  # type: ignore[operator]
        positions = torch.cat([camera.camera_to_worlds[:, :3, 3].cpu() for camera in cameras])
        shares = torch.stack([self._region(index).float().mean() for index in range(self._scene.num_views)])
        return choose_views(positions, shares, count)

    @torch.no_grad()
    def _region(self, index: int) -> Bool[Tensor, "1 rows columns"]:
        """Where any layer may change a training view."""
        base = self._enter_latents(self._scene.original(index)[None])
        return torch.stack([self._mask(layer, index, base).cpu() for layer in self._layers]).any(dim=0)

    @torch.no_grad()
    def _edited(self, index: int, photograph: Photograph) -> Overlay | None:
        """A training view, edited by each prompt on top of those before it."""
        picture, share = photograph, np.zeros(photograph.shape[:2], np.float32)
        rendered = self._enter_latents(self._scene.render(index)[None])
        base = self._enter_latents(self._scene.original(index)[None])
        size = tuple(side * self._autoencoder.factor for side in base.shape[-2:])
        for _, layers in groupby(self._layers, key=lambda layer: layer.prompt_number):
            if picture is not photograph:
                base = self._autoencoder.encode(resize(_image(picture), size)).to(base)  # type: ignore[arg-type]
            unedited = self._autoencoder.decode(base)[0]
            for layer in layers:
                mask = self._mask(layer, index, base)
                if mask.any():
                    edited = self._autoencoder.decode(self._denoise(rendered, base, mask, layer, index))[0]
                    overlay = lay_over(picture, edited, unedited, mask)
                    picture, share = overlay.picture, np.maximum(share, overlay.share)
        return Overlay(picture, share) if share.any() else None

    def _denoise(
        self, rendered: Latents, base: Latents, mask: Bool[Tensor, "1 rows columns"], layer: Layer, index: int
    ) -> Latents:
        """The whole view as an instruction has it; where edits are blended step by step, the mask and a cell around it.

        Raises:
            CannotEdit: The result is not finite, or one constant, whatever the noise.
        """
        config = self._config
        whole = torch.ones_like(mask)[None] if config.blending == "final" else dilate(mask[None], 1)
        for failures in range(MOST_FAILURES):
            seed = np.random.SeedSequence((config.seed, index, layer.number, failures)).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(seed))
            noise = torch.randn(rendered.shape, generator=generator).to(rendered)
            edited = self._editor.edit_at(
                self._start, rendered, base, [index], noise, whole.to(rendered.device), layer.instruction
            )
            edited = mark_constants(edited, mask[None].to(rendered.device), base)
            if edited.isfinite().all():
                return edited
        raise CannotEdit(
            f"The denoiser's result is not finite, or one constant, {MOST_FAILURES} times in a row for view {index}: "
            "try full precision or less guidance."
        )

    def _mask(self, layer: Layer, index: int, base: Latents) -> Bool[Tensor, "1 rows columns"]:
        """Where a layer may change a training view: where it has, else where it would."""
        rows, columns = base.shape[-2:]
        if index in layer.masks:
            mask = layer.masks[index]
            # That of an image is in its pixels, each cell's all alike.
            return F.interpolate(mask[None].float(), (rows, columns), mode="nearest-exact")[0] > 0
        if self._config.mask == "none":
            return torch.ones(1, rows, columns, dtype=torch.bool)
        if self._config.mask == "field":
            camera = self._datamanager.camera(index)  # type: ignore[operator]
            return self._agreed([layer], camera.to(self._model.device), (rows, columns))
        _, mask = self._editor.find_mask(base, [index], layer.instruction)
        return mask[0].cpu()

    @torch.no_grad()
    def _shown(self, view: CapturedView, photograph: Photograph) -> Overlay | None:
        """A view that nothing was learnt from: what the scene shows from there, within the regions of its layers."""
        config: Any = self._datamanager.config
        size = working_size(photograph.shape[0], photograph.shape[1], config.image_size, self._autoencoder.factor)
        camera = resize_cameras(view.camera, [size]).to(self._model.device)  # type: ignore[arg-type]
        latents = self._autoencoder.encode(resize(_image(photograph), size).to(self._model.device))
        mask = self._mask_of_shown(latents, camera)
        if not mask.any():
            return None
        unedited, now = self._scene.views_from(camera)
        before, after = (self._scene.images(views)[0] for views in (unedited, now))
        if self._of_images:
            before = self._autoencoder.decode(latents)[0]  # A scene of colours keeps none as it was.
        overlay = lay_over(photograph, after, before, mask)
        return overlay if overlay.share.any() else None

    def _mask_of_shown(self, latents: Latents, camera: Any) -> Bool[Tensor, "1 rows columns"]:
        """Where the layers may change a view that is none of the training views."""
        config, size = self._config, (int(latents.shape[-2]), int(latents.shape[-1]))
        if config.mask == "none":
            return torch.ones(1, *size, dtype=torch.bool)
        if config.mask == "field":
            return self._agreed(self._layers, resize_cameras(camera, [size]), size)
        masks = [
            delta_mask(
                delta_score(
                    self._editor.denoiser, latents, layer.instruction, config.delta_mask, config.seed, config.max_batch
                ),
                config.delta_mask,
            )
            for layer in self._layers
        ]
        return torch.stack(masks).any(dim=0)[0].cpu()

    def _agreed(self, layers: list[Layer], camera: Any, size: tuple[int, int]) -> Bool[Tensor, "1 rows columns"]:
        """Where all views agree that layers apply, in the latent cells of a view."""
        model: Any = self._model
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        relevance = model.render_relevance(rays, [layer.number for layer in layers]).permute(2, 0, 1)[None]
        assert tuple(relevance.shape[-2:]) == size
        return relevance_mask(relevance, self._config.delta_mask)[0].cpu()


def _as_it_is(views: Tensor) -> Tensor:
    return views


def _image(picture: Photograph) -> Float[Tensor, "1 3 height width"]:
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
