"""Reconstruction in latent space: a nerfacto renders latents, and an adapter refines them.

In training, random rays of all views teach the field, MSE(ẑ, z), and whole views, rendered without gradient,
teach the adapter, λ·MSE(z̃, z); both losses are in units of each channel's variance.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_optimizers import CameraOptimizer, CameraOptimizerConfig
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.field_components.spatial_distortions import SceneContraction
from nerfstudio.model_components.losses import distortion_loss, interlevel_loss
from nerfstudio.model_components.ray_samplers import ProposalNetworkSampler, UniformSampler
from nerfstudio.model_components.scene_colliders import NearFarCollider
from nerfstudio.models.base_model import Model
from nerfstudio.models.nerfacto import NerfactoModelConfig
from torch import Tensor, nn

from latenteditor.nerf.adapter import RefinementAdapter
from latenteditor.nerf.datamanager import WholeView
from latenteditor.nerf.latent_display import LatentDisplay, latent_psnr
from latenteditor.nerf.latent_field import (
    Encoding,
    LatentDensityField,
    LatentField,
    network_parameters,
    table_parameters,
)
from latenteditor.networks.autoencoder import Autoencoder


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


class LatentNerfactoModel(LatentDisplay):
    """Learns to render latents, and to refine them."""

    config: LatentNerfactoModelConfig

    def populate_modules(self) -> None:
        """Builds nerfacto's parts, with latents for colors and no metric that downloads a network."""
        Model.populate_modules(self)
        config = self.config
        self.autoencoder: Autoencoder = self.kwargs["autoencoder"]
        channels = self.autoencoder.channels
        contraction = None if config.disable_scene_contraction else SceneContraction(order=float("inf"))
        self.field = self._make_field(channels, contraction)
        self.adapter = (
            RefinementAdapter(channels, config.adapter_width, config.adapter_heads) if config.adapter else None
        )
        self.camera_optimizer: CameraOptimizer = config.camera_optimizer.setup(
            num_cameras=self.num_train_data, device="cpu"
        )
        self.proposal_networks = self._make_proposal_networks(contraction)
        networks: Any = list(self.proposal_networks)
        self.density_fns = [
            networks[min(index, len(networks) - 1)].density_fn for index in range(config.num_proposal_iterations)
        ]
        self.proposal_sampler = self._make_proposal_sampler()
        self.collider = NearFarCollider(near_plane=config.near_plane, far_plane=config.far_plane)
        self.step = 0
        self.populate_display(channels)

    def _make_field(self, channels: int, contraction: SceneContraction | None) -> LatentField:
        """The field whose latents have this many channels."""
        config = self.config
        return LatentField(
            self.scene_box.aabb,
            num_images=self.num_train_data,
            channels=channels,
            encoding=config.encoding,
            position_gradients=self._needs_position_gradients,
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

    def _make_proposal_networks(self, contraction: SceneContraction | None) -> nn.ModuleList:
        """The densities that samples are proposed by."""
        config = self.config
        arguments = config.proposal_net_args_list
        return nn.ModuleList(
            LatentDensityField(
                self.scene_box.aabb,
                encoding=config.encoding,
                position_gradients=self._needs_position_gradients,
                spatial_distortion=contraction,
                average_init_density=config.average_init_density,
                implementation=config.implementation,
                **arguments[min(index, len(arguments) - 1)],
            )
            for index in range(1 if config.use_same_proposal_network else config.num_proposal_iterations)
        )

    def _make_proposal_sampler(self) -> ProposalNetworkSampler:
        """What draws samples along rays."""
        config = self.config
        uniform = config.proposal_initial_sampler == "uniform"
        return ProposalNetworkSampler(
            num_nerf_samples_per_ray=config.num_nerf_samples_per_ray,
            num_proposal_samples_per_ray=config.num_proposal_samples_per_ray,
            num_proposal_network_iterations=config.num_proposal_iterations,
            single_jitter=config.use_single_jitter,
            update_sched=self._steps_between_proposal_updates,
            initial_sampler=UniformSampler(single_jitter=config.use_single_jitter) if uniform else None,
        )

    @property
    def _needs_position_gradients(self) -> bool:
        """Whether something is learnt from where samples lie."""
        return self.config.camera_optimizer.mode != "off" or self.config.predict_normals

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
        if "adapted" in outputs and batch["view"].valid.any():
            view: WholeView = batch["view"]
            error = (outputs["adapted"] - self._normalized(view.latents)) ** 2
            losses["adapter_loss"] = self.config.adapter_loss_mult * error[:, view.valid].mean()
            if self.config.decoded_loss_mult > 0:
                shown = self._scaled(outputs["adapted"].detach())
                decoded_error = self._decoded_error(outputs["adapted"], torch.where(view.valid, view.latents, shown))
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

    def _steps_between_proposal_updates(self, step: int) -> float:
        warmup, every = self.config.proposal_warmup, self.config.proposal_update_every
        return float(np.clip(np.interp(step, [0, warmup], [0, every]), 1, every))

    def _decoded_error(
        self,
        adapted: Float[Tensor, "channels rows columns"],
        target: Float[Tensor, "channels rows columns"],
    ) -> Float[Tensor, ""]:
        """Mean squared difference of one decoded crop of normalized adapted latents and of a target."""
        rows, columns = target.shape[-2:]
        size = min(self.config.decoded_crop, rows, columns)
        top, left = (int(torch.randint(cells - size + 1, ())) for cells in (rows, columns))
        refined = self._scaled(adapted)
        crops = (latents[None, :, top : top + size, left : left + size] for latents in (target, refined))
        wanted, decoded = (self.autoencoder.decode(crop) for crop in crops)
        return ((decoded - wanted) ** 2).mean()
