"""Reconstruction in latent space: a nerfacto renders latents, an adapter refines them, a decoder shows them.

In training, random rays of all views teach the field, MSE(ẑ, z), and whole views, rendered without gradient,
teach the adapter, λ·MSE(z̃, z); both losses are in units of each channel's variance. Whoever looks gets the
decoded z̃ as `rgb`. Of a single ray, and in frames too small to decode, `rgb` is a linear preview of the
latent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.model_components import renderers
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler, UniformSampler
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, NormalsRenderer
from nerfstudio.model_components.scene_colliders import NearFarCollider
from nerfstudio.model_components.shaders import NormalsShader
from nerfstudio.models.base_model import Model
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig
from nerfstudio.utils import colormaps
from torch import Tensor, nn

from latenteditor.nerf.adapter import RefinementAdapter
from latenteditor.nerf.datamanager import ViewStatistics, WholeView, resize_cameras, without_alpha
from latenteditor.nerf.latent_field import (
    Encoding,
    LatentDensityField,
    LatentField,
    LatentRenderer,
    network_parameters,
    table_parameters,
)
from latenteditor.networks.autoencoder import Autoencoder, resize, working_size

LATENT_RANGE = 6.0
"""The data range of every latent PSNR: three standard deviations of each channel to either side of its
mean."""

MIN_ROWS = 3
"""Latent images with fewer rows or columns are not worth decoding."""


@dataclass
class LatentNerfactoModelConfig(NerfactoModelConfig):
    """A nerfacto of latents. Defaults that differ from nerfacto's were measured on real captures."""

    _target: type = field(default_factory=lambda: LatentNerfactoModel)
    encoding: Encoding = "dense"
    """Grids stored in full, or nerfacto's hash tables. Dense grids are three to five times faster on a CPU
    and enough for latents; hash tables reach finer resolutions (raise max_res) and can use tiny-cuda-nn on a
    GPU."""
    num_levels: int = 6
    """Grids of the field, from base_res to max_res. Measured by us; nerfacto has 16."""
    max_res: int = 128
    """Cells along each side of the field's finest grid. Measured by us; nerfacto has 2048, for
    photographs."""
    hidden_dim_color: int = 64
    """Width of the latent head. As in nerfacto."""
    num_proposal_iterations: int = 1
    """Proposal networks. Measured by us: one is enough for latents."""
    num_proposal_samples_per_ray: tuple[int, ...] = (40,)
    """Samples per ray for each proposal network. Measured by us."""
    num_nerf_samples_per_ray: int = 20
    """Samples per ray for the field. Measured by us."""
    proposal_net_args_list: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {"hidden_dim": 16, "log2_hashmap_size": 17, "num_levels": 3, "max_res": 48, "use_linear": False}
        ]
    )
    """Arguments for the proposal density fields. Measured by us."""
    average_init_density: float = 1.0
    """Average density before training. Measured by us: the 0.01 of the method nerfacto is 2 dB worse on
    latents."""
    use_appearance_embedding: bool = False
    """Whether each training image has an embedding. Off: it blurs latents and has no meaning for edited
    views."""
    camera_optimizer: CameraOptimizerConfig = field(default_factory=lambda: CameraOptimizerConfig(mode="off"))
    """Optimizer of the cameras. Off: edits must not move cameras, and latents are too coarse to refine
    them."""
    implementation: Literal["tcnn", "torch"] = "torch"
    """Perceptrons and hash tables in torch or in tiny-cuda-nn."""
    eval_num_rays_per_chunk: int = 4096
    """Rays rendered at once when not training."""
    adapter: bool = True
    """Whether the refinement adapter exists. Without it the field's own latents are decoded."""
    adapter_width: int = 128
    """Channels inside the adapter. Our choice."""
    adapter_heads: int = 4
    """Attention heads of the adapter. Our choice."""
    adapter_loss_mult: float = 1.0
    """λ, the weight of MSE(z̃, z). Our choice; only the adapter feels it, and under Adam hardly."""
    decoded_loss_mult: float = 0.0
    """Weight of an additional loss of the adapter, between decoded crops of its latents and of the target's.
    Off, as in the paper, which trains on latents alone. At 50 held-out views of a real capture came out 0.15
    dB better; each whole view then costs a decoder pass and its gradient, which a GPU hardly notices."""
    decoded_crop: int = 16
    """Latent cells along each side of the crops that are decoded for that loss. Our choice."""


class LatentNerfactoModel(NerfactoModel):
    """Renders latents, refines them, and shows them decoded."""

    config: LatentNerfactoModelConfig

    def populate_modules(self) -> None:
        """Builds nerfacto's parts, with latents for colors and no metric that downloads a network."""
        Model.populate_modules(self)
        config = self.config
        self.autoencoder: Autoencoder = self.kwargs["autoencoder"]
        channels = self.autoencoder.channels
        contraction = None if config.disable_scene_contraction else SceneContraction(order=float("inf"))
        position_gradients = config.camera_optimizer.mode != "off" or config.predict_normals
        self.field = LatentField(
            self.scene_box.aabb,
            num_images=self.num_train_data,
            channels=channels,
            encoding=config.encoding,
            position_gradients=position_gradients,
            hidden_dim=config.hidden_dim,
            num_levels=config.num_levels,
            max_res=config.max_res,
            base_res=config.base_res,
            features_per_level=config.features_per_level,
            log2_hashmap_size=config.log2_hashmap_size,
            hidden_dim_color=config.hidden_dim_color,
            spatial_distortion=contraction,
            use_pred_normals=config.predict_normals,
            use_average_appearance_embedding=config.use_average_appearance_embedding,
            appearance_embedding_dim=config.appearance_embed_dim if config.use_appearance_embedding else 0,
            average_init_density=config.average_init_density,
            implementation=config.implementation,
        )
        self.adapter = (
            RefinementAdapter(channels, config.adapter_width, config.adapter_heads) if config.adapter else None
        )
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        arguments = config.proposal_net_args_list
        self.proposal_networks = nn.ModuleList(
            LatentDensityField(
                self.scene_box.aabb,
                encoding=config.encoding,
                position_gradients=position_gradients,
                spatial_distortion=contraction,
                average_init_density=config.average_init_density,
                implementation=config.implementation,
                **arguments[min(index, len(arguments) - 1)],
            )
            for index in range(1 if config.use_same_proposal_network else config.num_proposal_iterations)
        )
        networks: Any = list(self.proposal_networks)
        self.density_fns = [
            networks[min(index, len(networks) - 1)].density_fn for index in range(config.num_proposal_iterations)
        ]
        uniform = config.proposal_initial_sampler == "uniform"
        self.proposal_sampler = ProposalNetworkSampler(
            num_nerf_samples_per_ray=config.num_nerf_samples_per_ray,
            num_proposal_samples_per_ray=config.num_proposal_samples_per_ray,
            num_proposal_network_iterations=config.num_proposal_iterations,
            single_jitter=config.use_single_jitter,
            update_sched=self._steps_between_proposal_updates,
            initial_sampler=UniformSampler(single_jitter=config.use_single_jitter) if uniform else None,
        )
        self.collider = NearFarCollider(near_plane=config.near_plane, far_plane=config.far_plane)
        self.renderer_rgb: Any = LatentRenderer()
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer(method="median")
        self.renderer_expected_depth = DepthRenderer(method="expected")
        self.renderer_normals = NormalsRenderer()
        self.normals_shader = NormalsShader()
        proposals = range(config.num_proposal_iterations)
        self._not_shown = {"expected_depth", *(f"prop_depth_{index}" for index in proposals)}
        self.step = 0
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))
        self.register_buffer("preview_matrix", torch.zeros(channels + 1, 3))
        self.register_buffer("image_size", torch.tensor(0))

    latent_mean: Tensor
    latent_std: Tensor
    preview_matrix: Tensor
    image_size: Tensor

    @property
    def knows_latents(self) -> bool:
        """Whether the statistics of a scene's latents were set or loaded."""
        return int(self.image_size) > 0

    def set_statistics(self, statistics: ViewStatistics) -> None:
        """Takes the units of the field and the linear preview, which the checkpoint keeps."""
        self.latent_mean.copy_(statistics.mean)
        self.latent_std.copy_(statistics.std)
        self.preview_matrix.copy_(statistics.preview)
        self.image_size.fill_(statistics.image_size)

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """Tables and networks apart, because they want different learning rates."""
        groups = {
            "tables": table_parameters(self.field) + table_parameters(self.proposal_networks),
            "proposal_networks": network_parameters(self.proposal_networks),
            "fields": network_parameters(self.field),
            "adapter": [] if self.adapter is None else list(self.adapter.parameters()),
        }
        self.camera_optimizer.get_param_groups(param_groups=groups)
        return {name: parameters for name, parameters in groups.items() if parameters}

    def forward(self, ray_bundle: RayBundle | Cameras, view: WholeView | None = None) -> dict[str, Any]:
        """Renders rays; in training also a whole view, without gradient, for the adapter.

        Args:
            ray_bundle: Any rays.
            view: The view from which the adapter learns in this step.
        """
        outputs = super().forward(ray_bundle)
        if view is not None and self.adapter is not None:
            rendered = self._field_latents(view.rays)
            outputs["adapted"] = self.adapter(self._normalized(rendered)[None])[0]
        return outputs

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Returns `latent` per ray, its linear preview as `rgb`, and nerfacto's other outputs."""
        outputs = super().get_outputs(ray_bundle)
        latent = outputs.pop("rgb") * self.latent_std + self.latent_mean
        shown = {name: values for name, values in outputs.items() if name not in self._not_shown}
        return {"rgb": self.preview(latent), "latent": latent, **shown}

    def preview(self, latents: Float[Tensor, "*rays channels"]) -> Float[Tensor, "*rays 3"]:
        """Returns the mean color in [0, 1] of each latent's pixels, as far as it is linear."""
        return (latents @ self.preview_matrix[:-1] + self.preview_matrix[-1]).clamp(0, 1)

    def refine(self, latents: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """Returns the adapter's latents for a whole rendered view: z̃ for ẑ."""
        if self.adapter is None:
            return latents
        refined = self.adapter(self._normalized(latents)[None])[0]
        return refined * self.latent_std[:, None, None] + self.latent_mean[:, None, None]

    @torch.no_grad()
    def render_latents(self, camera: Cameras) -> Float[Tensor, "channels rows columns"]:
        """Returns the refined latents of one camera of latent resolution, as it looks when not training.

        Args:
            camera: A batch of one, whose height and width count latent cells. It is not changed.
        """
        rays = camera.to(self.device).generate_rays(camera_indices=0, keep_shape=True)
        return self.refine(self._field_latents(rays))

    @torch.no_grad()
    def latents_from(self, camera: Cameras) -> Float[Tensor, "channels rows columns"]:
        """Returns the refined latents of one camera whose height and width count pixels.

        Raises:
            ValueError: It sees too few pixels for latents.
        """
        size = int(camera.height.flatten()[0]), int(camera.width.flatten()[0])
        latent_size = self._latent_size(size)
        if latent_size is None:
            raise ValueError(
                f"An image of {size[1]}x{size[0]} pixels is too small for latents: make the window larger."
            )
        return self.render_latents(resize_cameras(camera.reshape((1,)), [latent_size]))

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """Returns the latent PSNR of the rays, with data range `LATENT_RANGE`, and nerfacto's distortion."""
        metrics: dict[str, Any] = {}
        with torch.no_grad():
            metrics["latent_psnr"] = latent_psnr(self._error(outputs["latent"], batch["latents"]))
        if self.training:
            metrics["distortion"] = distortion_loss(outputs["weights_list"], outputs["ray_samples_list"])
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Returns MSE(ẑ, z), λ·MSE(z̃, z) where a whole view was rendered, and nerfacto's regularizers."""
        losses: dict[str, Tensor] = {"latent_loss": self._error(outputs["latent"], batch["latents"]).mean()}
        if not self.training:
            return losses
        assert metrics_dict is not None
        losses["interlevel_loss"] = self.config.interlevel_loss_mult * interlevel_loss(
            outputs["weights_list"], outputs["ray_samples_list"]
        )
        losses["distortion_loss"] = self.config.distortion_loss_mult * metrics_dict["distortion"]
        if "adapted" in outputs:
            view: WholeView = batch["view"]
            error = (outputs["adapted"] - self._normalized(view.latents)) ** 2
            losses["adapter_loss"] = self.config.adapter_loss_mult * error[:, view.valid].mean()
            if self.config.decoded_loss_mult > 0:
                decoded_error = self._decoded_error(outputs["adapted"], view.latents)
                losses["decoded_loss"] = self.config.decoded_loss_mult * decoded_error
        if self.config.predict_normals:
            orientation, predicted = (
                outputs["rendered_orientation_loss"],
                outputs["rendered_pred_normal_loss"],
            )
            losses["orientation_loss"] = self.config.orientation_loss_mult * orientation.mean()
            losses["pred_normal_loss"] = self.config.pred_normal_loss_mult * predicted.mean()
        self.camera_optimizer.get_loss_dict(losses)
        return losses

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Returns `rgb` decoded from refined latents, `latent`, `depth`, `accumulation`, in camera size.

        Latents mean what they mean at the size at which the photographs were encoded, so that is the size at
        which they are rendered and decoded; the image is then resized to what was asked. A frame with no more
        pixels than such a latent image has cells, as the viewer asks while it moves, shows the linear
        preview.

        Args:
            camera: A batch of one. It is not changed.
            obb_box: Renders what is inside only.
        """
        size = int(camera.height.flatten()[0]), int(camera.width.flatten()[0])
        latent_size = self._latent_size(size)
        if latent_size is not None:
            camera = resize_cameras(camera.reshape((1,)), [latent_size])
        return self._shown(camera.generate_rays(camera_indices=0, keep_shape=True, obb_box=obb_box), size)

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Returns the same as `get_outputs_for_camera` for the rays of all pixels of an image."""
        size = camera_ray_bundle.origins.shape[0], camera_ray_bundle.origins.shape[1]
        latent_size = self._latent_size(size)
        if latent_size is not None:
            rows, columns = (
                ((torch.arange(cells) + 0.5) * pixels / cells).long()
                for cells, pixels in zip(latent_size, size, strict=True)
            )
            camera_ray_bundle = camera_ray_bundle[rows[:, None], columns[None, :]]
        return self._shown(camera_ray_bundle, size)

    @torch.no_grad()
    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Returns how well a held-out view is rendered, and images to look at.

        `psnr` and `ssim` compare the decoded refined latents to the photograph, `psnr_without_adapter` the
        decoded field's own, and `ceiling_psnr` the decoded latents of the photograph itself, beyond which no
        field can get. `latent_psnr` compares refined latents to the photograph's, with data range
        `LATENT_RANGE`.
        """
        # It imports transformers, which no command of the host should wait for, or fail by.
        from torchmetrics.functional import structural_similarity_index_measure

        rendered = outputs["rgb"].to(self.device)
        size = rendered.shape[0], rendered.shape[1]
        photograph = resize(_channels_first(without_alpha(batch["image"]).to(rendered)), size)
        image = _channels_first(rendered)
        metrics = {
            "psnr": float(psnr(image, photograph)),
            "ssim": float(structural_similarity_index_measure(image, photograph, data_range=1.0)),  # type: ignore[arg-type]
        }
        images = {
            "img": torch.cat([_channels_last(photograph), rendered], dim=1),
            "accumulation": colormaps.apply_colormap(outputs["accumulation"]),
            "depth": colormaps.apply_depth_colormap(outputs["depth"], accumulation=outputs["accumulation"]),
        }
        latent_size = self._latent_size(size)
        if latent_size is None:
            return metrics, images
        factor = self.autoencoder.factor
        encoded_size = latent_size[0] * factor, latent_size[1] * factor
        photograph = resize(photograph, encoded_size)
        original = self.autoencoder.encode(photograph)
        latents = F.interpolate(_channels_first(outputs["latent"].to(self.device)), latent_size, mode="nearest-exact")
        unrefined = self.autoencoder.decode(latents)
        ceiling = self.autoencoder.decode(original)
        error = self._error(self.refine(latents[0]).permute(1, 2, 0), original[0].permute(1, 2, 0))
        metrics["latent_psnr"] = float(latent_psnr(error))
        metrics["psnr_without_adapter"] = float(psnr(unrefined, photograph))
        metrics["ceiling_psnr"] = float(psnr(ceiling, photograph))
        images["without_adapter_and_ceiling"] = torch.cat([_channels_last(unrefined), _channels_last(ceiling)], dim=1)
        return metrics, images

    def _steps_between_proposal_updates(self, step: int) -> float:
        warmup, every = self.config.proposal_warmup, self.config.proposal_update_every
        return float(np.clip(np.interp(step, [0, warmup], [0, every]), 1, every))

    def _latent_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Returns the (rows, columns) to render for an image; None for the linear preview."""
        if not self.knows_latents:
            return None
        factor = self.autoencoder.factor
        height, width = working_size(*size, int(self.image_size), factor)
        rows, columns = height // factor, width // factor
        if size[0] * size[1] <= rows * columns or min(rows, columns) < MIN_ROWS:
            return None
        return rows, columns

    def _field_latents(self, rays: RayBundle) -> Float[Tensor, "channels rows columns"]:
        """Renders ẑ of a whole view without gradient, jitter, or what belongs to single training views."""
        with torch.no_grad(), evaluation(self):
            return self._maps(rays)["latent"].permute(2, 0, 1)

    def _maps(self, rays: RayBundle) -> dict[str, Tensor]:
        return super().get_outputs_for_camera_ray_bundle(rays)

    def _shown(self, rays: RayBundle, size: tuple[int, int]) -> dict[str, Tensor]:
        """Returns the maps of an image of this (height, width), decoded unless there is a ray for each pixel."""
        maps = self._maps(rays)
        if tuple(rays.origins.shape[:2]) == size:
            return self._with_background(maps)
        latent = maps["latent"].permute(2, 0, 1)
        refined = self.refine(latent.to(self.device))
        image = resize(self.autoencoder.decode(refined[None]).clamp(0, 1), size)[0].to(latent)
        outputs = {"rgb": image.permute(1, 2, 0)}
        for name, values in maps.items():
            if name != "rgb":
                mode = "nearest-exact" if name == "latent" else "bilinear"
                outputs[name] = _channels_last(F.interpolate(_channels_first(values), size, mode=mode))
        return self._with_background(outputs)

    def _with_background(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Puts the background that the host asks for behind a cropped scene."""
        background = renderers.BACKGROUND_COLOR_OVERRIDE
        if background is not None:
            opacity = outputs["accumulation"].clamp(0, 1)
            outputs["rgb"] = outputs["rgb"] * opacity + background.to(opacity) * (1 - opacity)
        return outputs

    def _decoded_error(
        self,
        adapted: Float[Tensor, "channels rows columns"],
        target: Float[Tensor, "channels rows columns"],
    ) -> Float[Tensor, ""]:
        """Mean squared difference of one decoded crop of normalized adapted latents and of a target."""
        rows, columns = target.shape[-2:]
        size = min(self.config.decoded_crop, rows, columns)
        top, left = (int(torch.randint(cells - size + 1, ())) for cells in (rows, columns))
        refined = adapted * self.latent_std[:, None, None] + self.latent_mean[:, None, None]
        crops = (latents[None, :, top : top + size, left : left + size] for latents in (target, refined))
        wanted, shown = (self.autoencoder.decode(crop) for crop in crops)
        return ((shown - wanted) ** 2).mean()

    def _normalized(self, latents: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def _error(self, latents: Float[Tensor, "*rays channels"], targets: Float[Tensor, "*rays channels"]) -> Tensor:
        """Squared errors in units of each channel's variance."""
        return ((latents - targets.to(latents)) / self.latent_std) ** 2


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and back into the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def psnr(images: Tensor, references: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, of values whose range is 1."""
    return -10 * torch.log10(((images - references) ** 2).mean())


def latent_psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of errors in units of variance; see `LATENT_RANGE`."""
    return 20 * float(np.log10(LATENT_RANGE)) - 10 * torch.log10(error.mean())


def _channels_first(
    image: Float[Tensor, "height width channels"],
) -> Float[Tensor, "1 channels height width"]:
    return image.permute(2, 0, 1)[None]


def _channels_last(image: Float[Tensor, "1 channels height width"]) -> Float[Tensor, "height width channels"]:
    return image[0].permute(1, 2, 0)
