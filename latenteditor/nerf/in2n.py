"""Instruct-NeRF2NeRF, the baseline: the same editing loop, on the colors of a nerfacto.

Photographs are what is edited, so each edit passes the autoencoder twice. The field learns from L1 and from LPIPS
between patches (arXiv 2303.12789). Two things are not as in its public code unless an option asks for them: what is
edited is rendered in evaluation mode, from the pose that the view trains with, and edited views move no cameras.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.model_components.losses import L1Loss
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor, nn

from latenteditor.editing.editor import EditConfig
from latenteditor.editing.layers import LayerStack
from latenteditor.editing.pixel_editor import PixelEditor
from latenteditor.nerf.edit_costs import EditCosts
from latenteditor.nerf.edit_session import EditingConfig, EditorLoader
from latenteditor.nerf.editable_scene import SceneView, TrainingScene
from latenteditor.nerf.editing_pipeline import EditingPipeline, load_latent_editor
from latenteditor.nerf.image_datamanager import ImageDataManager, ImageDataManagerConfig
from latenteditor.nerf.latent_display import evaluation
from latenteditor.nerf.latent_nerfacto import require_same_sizes
from latenteditor.nerf.option_ranges import require_consistent, require_in_range
from latenteditor.nerf.photographs import without_alpha
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.perceptual import SMALLEST_IMAGE, PerceptualDistance, load_perceptual_distance


@dataclass
class In2nModelConfig(NerfactoModelConfig):
    """A nerfacto that learns edited photographs, which never quite agree with each other."""

    _target: type = field(default_factory=lambda: In2nModel)
    lpips_loss_mult: float = 1.0
    """Weight of LPIPS between patches, beside L1; 0 does without it and its network. From Instruct-NeRF2NeRF."""
    lpips_weights: Path | None = None
    """File with the weights of LPIPS, AlexNet included, as `lpips.LPIPS(net="alex").state_dict()` saves them. None
    takes AlexNet from torch's hub, which downloads it once."""
    average_init_density: float = 0.01
    """Average density before training. It scales all densities, so it must be that of the run which is loaded. As in
    the method nerfacto; Instruct-NeRF2NeRF leaves it at 1, where a scene from nerfstudio 1.1.5's nerfacto is a hundred
    times too dense."""
    eval_num_rays_per_chunk: int = 1 << 15
    """Rays rendered at once when not training. From Instruct-NeRF2NeRF."""


class In2nModel(NerfactoModel):
    """A nerfacto with the losses of Instruct-NeRF2NeRF."""

    config: In2nModelConfig

    def populate_modules(self) -> None:
        """Builds nerfacto's parts, without the network that it fetches for a metric."""
        with _without_lpips_of_the_host():
            super().populate_modules()
        self.rgb_loss = L1Loss()
        self._perceptual_distance: PerceptualDistance | None = None
        self._lpips_is_missing = False

    def load_perceptual_distance(self) -> PerceptualDistance:
        """Loads LPIPS, unless that was done before.

        Raises:
            ValueError: Its weights are not to be had.
        """
        if self._perceptual_distance is None:
            self._perceptual_distance = load_perceptual_distance(self.config.lpips_weights, self.device)
        return self._perceptual_distance

    @torch.no_grad()
    def render_view(self, camera: Cameras, index: int) -> Float[Tensor, "3 height width"]:
        """Returns what training view `index` shows now: from the pose it trains with, as the scene looks to others.

        Args:
            camera: The view's camera, as a batch of one. It is not changed.
            index: The view's number, which its pose correction goes by.
        """
        rays = camera.to(self.device).generate_rays(camera_indices=0, keep_shape=True)
        with evaluation(self):
            return self._image(self._corrected(rays, index))

    @torch.no_grad()
    def render_view_in_training_mode(self, camera: Cameras, index: int) -> Float[Tensor, "3 height width"]:
        """Returns what training view `index` shows to the public code of Instruct-NeRF2NeRF.

        Its rays, from the view's corrected pose, claim to be of camera 0. In training mode the model corrects their
        pose once more, by the correction of that camera, and takes that camera's appearance; samples are jittered.
        """
        correction = self.camera_optimizer(torch.tensor([index])).to(self.device)
        rays = camera.to(self.device).generate_rays(camera_indices=0, keep_shape=True, camera_opt_to_camera=correction)
        was_training = self.training
        self.train()
        try:
            return self._image(rays)
        finally:
            self.train(was_training)

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Returns L1, LPIPS between patches, and nerfacto's regularizers."""
        if "kept_out" in batch:
            # Shown as wanted, a pixel teaches nothing, neither by itself nor within a patch.
            shown, kept_out = outputs["rgb"].detach(), batch["kept_out"].to(self.device)[:, None]
            batch = {**batch, "image": torch.where(kept_out, shown, batch["image"].to(self.device))}
        losses = super().get_loss_dict(outputs, batch, metrics_dict)
        if self.config.lpips_loss_mult > 0:
            rendered, wanted = (
                _as_patches(colors.to(self.device), batch["patch_size"]) for colors in (outputs["rgb"], batch["image"])
            )
            distance = self.load_perceptual_distance()(rendered, wanted)
            losses["lpips_loss"] = self.config.lpips_loss_mult * distance.mean()
        return losses

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Returns `psnr`, `ssim` and, where its weights are to be had, `lpips` of a held-out view, and images."""
        photograph = without_alpha(batch["image"]).to(self.device)
        metrics, images = super().get_image_metrics_and_images(outputs, {**batch, "image": photograph})
        del metrics["lpips"]
        if not self._lpips_is_missing:
            try:
                distance = self.load_perceptual_distance()
            except ValueError as error:
                self._lpips_is_missing = True
                CONSOLE.log(f"Evaluating without LPIPS. {error}")
            else:
                pair = (colors.to(self.device).permute(2, 0, 1)[None] for colors in (outputs["rgb"], photograph))
                metrics["lpips"] = float(distance(*pair))
        return metrics, images

    def _corrected(self, rays: RayBundle, index: int) -> RayBundle:
        """The rays of a whole view under the pose correction that it trains with."""
        assert rays.camera_indices is not None
        shape = rays.shape
        flat = rays.flatten()
        flat.camera_indices = torch.full_like(rays.camera_indices.flatten()[:, None], index)
        self.camera_optimizer.apply_to_raybundle(flat)
        return flat.reshape(shape)

    def _image(self, rays: RayBundle) -> Float[Tensor, "3 height width"]:
        return self.get_outputs_for_camera_ray_bundle(rays)["rgb"].float().permute(2, 0, 1)


@dataclass
class In2nPipelineConfig(VanillaPipelineConfig, EditingConfig):
    """A scene of colors and the edit it goes through."""

    _target: type = field(default_factory=lambda: In2nPipeline)
    datamanager: ImageDataManagerConfig = field(default_factory=ImageDataManagerConfig)
    """Options of the data."""
    model: In2nModelConfig = field(default_factory=In2nModelConfig)
    """Options of the scene."""
    edit: EditConfig = field(default_factory=lambda: EditConfig(mask="none"))
    """What to change, and how. Without a mask, as Instruct-NeRF2NeRF; `mask per-view` tells what the mask alone
    does. `half_precision` goes for the autoencoder too."""
    autoencoder: str | None = None
    """Hub id or local folder of the autoencoder that images enter and leave the latents through; None is the one
    of the InstructPix2Pix that edits, as in Instruct-NeRF2NeRF."""
    keep_waiting_out: bool = False
    """Trains on no part of a view that the prompt will change and has not yet, where there is a mask, see latenteditor.
    Instruct-NeRF2NeRF trains on all of it."""
    reconstruction_steps: int = 5000
    """Steps that learn the scene before the first edit, where no run is loaded with --load-dir. Our choice;
    Instruct-NeRF2NeRF wants a nerfacto run, of 30,000 steps."""
    render_edits_in_training_mode: bool = False
    """Renders what is edited as the public code of Instruct-NeRF2NeRF does: in training mode, with jittered samples
    and the pose correction and appearance of camera 0. For comparisons."""
    train_cameras_on_edits: bool = False
    """Lets edited views move the cameras, as in the public code of Instruct-NeRF2NeRF. For comparisons."""


class ImageScene(TrainingScene):
    """A scene of colors; it keeps no unedited scene beside it."""

    def __init__(self, datamanager: ImageDataManager, model: In2nModel, config: In2nPipelineConfig) -> None:
        """Renders what is edited, and trains cameras, as the config says."""
        super().__init__(datamanager, model)
        self._config = config

    @property
    def image_size(self) -> int:
        """Pixels along the long side of its views."""
        cameras = self.datamanager.train_ray_generator.cameras
        return int(torch.maximum(cameras.height, cameras.width).max())

    def render(self, view: int) -> SceneView:
        """What the view shows now."""
        in_training_mode = self._config.render_edits_in_training_mode
        render = self.model.render_view_in_training_mode if in_training_mode else self.model.render_view
        return render(self.datamanager.camera(view), view)

    def views_from(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "1 channels rows columns"], Float[Tensor, "1 channels rows columns"]]:
        """What the scene shows now, twice."""
        with evaluation(self.model):
            rendered = self.model.get_outputs_for_camera(camera)["rgb"]
        image = rendered.to(self.model.device).permute(2, 0, 1)[None].float()
        return image, image

    def images(self, views: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """The images as they are."""
        return views

    def freeze_cameras(self) -> None:
        """Cameras do not train on edited views, unless it was asked for."""
        if not self._config.train_cameras_on_edits:
            super().freeze_cameras()


class In2nPipeline(EditingPipeline):
    """Edits the images that a nerfacto is trained on."""

    config: In2nPipelineConfig
    datamanager: ImageDataManager
    reconstruction = "nerfacto"

    def __init__(
        self,
        config: In2nPipelineConfig,
        device: str | torch.device,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Any = None,
    ) -> None:
        """Builds the scene and, where it is going to be trained, LPIPS and the editor.

        Raises:
            ValueError: There is no prompt to train with, a number does not fit, or weights are not to be had.
        """
        require_in_range(config, ["pipeline"])
        require_consistent(config)
        patch_size = config.datamanager.patch_size
        if config.model.lpips_loss_mult > 0 and patch_size < SMALLEST_IMAGE:
            raise ValueError(
                f"LPIPS cannot compare patches of {patch_size}x{patch_size} pixels: raise "
                f"--pipeline.datamanager.patch-size to {SMALLEST_IMAGE} or more, or do without it by "
                "--pipeline.model.lpips-loss-mult 0."
            )
        super().__init__(config, device, test_mode, world_size, local_rank, grad_scaler)
        if self.trains and config.model.lpips_loss_mult > 0:
            self.in2n_model.load_perceptual_distance()

    @property
    def in2n_model(self) -> In2nModel:
        """The model under its own type."""
        model: Any = self.model
        return model

    def make_scene(self) -> ImageScene:
        """Makes a scene of images."""
        return ImageScene(self.datamanager, self.in2n_model, self.config)

    def editor_loader(self, device: str | torch.device) -> EditorLoader:
        """Returns what loads the InstructPix2Pix that edits, and the autoencoder through which images reach it."""
        edit, folder = self.config.edit, self.config.autoencoder

        def load(layers: LayerStack, costs: EditCosts) -> PixelEditor:
            autoencoder = load_autoencoder(folder or edit.model, device, edit.half_precision)
            return PixelEditor(load_latent_editor(edit, device, autoencoder), autoencoder)

        return load

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a nerfacto run, which is edited from here on, or an edited run, whose edit goes on.

        Raises:
            ValueError: It is another method's run, or one with other options.
        """
        state = {key.removeprefix("module."): value for key, value in loaded_state.items()}
        # The network of a metric, which nerfacto saves with its scene.
        state = {key: value for key, value in state.items() if not key.startswith("_model.lpips.")}
        _check_state(state, self.state_dict(), step)
        super().load_pipeline(state, step)


def _as_patches(colors: Float[Tensor, "rays 3"], patch_size: int) -> Float[Tensor, "patches 3 size size"]:
    """Colors of rays that were drawn patch after patch, as images."""
    return colors.view(-1, patch_size, patch_size, 3).permute(0, 3, 1, 2)


def _check_state(loaded: Mapping[str, Any], own: Mapping[str, Any], step: int) -> None:
    if "_model.latent_mean" in loaded or "_model.module.latent_mean" in loaded:
        raise ValueError(
            f"The checkpoint of step {step} holds a latent scene, and in2n edits one of colors: train a nerfacto run "
            "and load that."
        )
    missing = sorted(name for name in own if name not in loaded and name.startswith("_model."))
    if missing:
        raise ValueError(
            f"The checkpoint of step {step} holds no nerfacto scene with these options, as it lacks {missing[0]}: load "
            "a nerfacto run, and pass the model options with which it was trained."
        )
    require_same_sizes(loaded, own, step)


class _AbsentMetric(nn.Module):
    """Stands for a metric whose network nobody needs."""

    def __init__(self, **_: Any) -> None:
        super().__init__()

    def forward(self, *_: Tensor) -> float:
        return float("nan")


@contextmanager
def _without_lpips_of_the_host() -> Iterator[None]:
    """Keeps nerfacto's constructor from fetching LPIPS, which fails offline and would be saved with the scene."""
    from torchmetrics.image import lpip

    name = "LearnedPerceptualImagePatchSimilarity"
    fetching = getattr(lpip, name)
    setattr(lpip, name, _AbsentMetric)
    try:
        yield
    finally:
        setattr(lpip, name, fetching)
