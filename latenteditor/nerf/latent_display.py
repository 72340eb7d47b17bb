"""How a latent scene is looked at: an adapter refines what the field renders, a decoder shows it.

Whoever looks gets the decoded z̃ as `rgb`, in the size that was asked for, beside the field's other maps. Of a single
ray, and in frames too small to decode, `rgb` is a linear function of the latent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.model_components import renderers
from nerfstudio.model_components.renderers import AccumulationRenderer, DepthRenderer, NormalsRenderer
from nerfstudio.model_components.shaders import NormalsShader
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.utils import colormaps
from torch import Tensor, nn

from latenteditor.editing.metrics import psnr
from latenteditor.nerf.adapter import RefinementAdapter
from latenteditor.nerf.latent_cache import ViewStatistics
from latenteditor.nerf.latent_field import LatentRenderer
from latenteditor.nerf.photographs import resize_cameras, without_alpha
from latenteditor.networks.autoencoder import Autoencoder, resize, working_size

LATENT_RANGE = 6.0
"""The data range of every latent PSNR: three standard deviations of each channel to either side of its
mean."""

MIN_ROWS = 3
"""Latent images with fewer rows or columns are not worth decoding."""


class LatentDisplay(NerfactoModel):
    """A latent scene as others see it; how it is built, and how it learns, is for its subclass to say."""

    autoencoder: Autoencoder
    adapter: RefinementAdapter | None
    latent_mean: Tensor
    latent_std: Tensor
    preview_matrix: Tensor
    image_size: Tensor

    def populate_display(self, channels: int) -> None:
        """Builds what renders, and makes room for what a checkpoint keeps of all latents together."""
        self.renderer_rgb: Any = LatentRenderer()
        self.renderer_accumulation = AccumulationRenderer()
        self.renderer_depth = DepthRenderer(method="median")
        self.renderer_expected_depth = DepthRenderer(method="expected")
        self.renderer_normals = NormalsRenderer()
        self.normals_shader = NormalsShader()
        proposals = range(self.config.num_proposal_iterations)
        self._left_out = {"expected_depth", *(f"prop_depth_{index}" for index in proposals)}
        self.register_buffer("latent_mean", torch.zeros(channels))
        self.register_buffer("latent_std", torch.ones(channels))
        self.register_buffer("preview_matrix", torch.zeros(channels + 1, 3))  # What makes linear colors of latents.
        self.register_buffer("image_size", torch.tensor(0))

    @property
    def knows_latents(self) -> bool:
        """Whether the statistics of a scene's latents were set or loaded."""
        return int(self.image_size) > 0

    def set_statistics(self, statistics: ViewStatistics) -> None:
        """Takes the units of the field and what makes linear colors, which the checkpoint keeps."""
        self.latent_mean.copy_(statistics.mean)
        self.latent_std.copy_(statistics.std)
        self.preview_matrix.copy_(statistics.linear_rgb)
        self.image_size.fill_(statistics.image_size)

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:
        """Returns `latent` per ray, its linear color as `rgb`, and nerfacto's other outputs."""
        outputs = super().get_outputs(ray_bundle)
        latent = outputs.pop("rgb") * self.latent_std + self.latent_mean
        kept = {name: values for name, values in outputs.items() if name not in self._left_out}
        return {"rgb": self.linear_rgb(latent), "latent": latent, **kept}

    def linear_rgb(self, latents: Float[Tensor, "*rays channels"]) -> Float[Tensor, "*rays 3"]:
        """Returns the mean color in [0, 1] of each latent's pixels, as far as it is linear."""
        return (latents @ self.preview_matrix[:-1] + self.preview_matrix[-1]).clamp(0, 1)

    def refine(self, latents: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """Returns the adapter's latents for a whole rendered view: z̃ for ẑ."""
        if self.adapter is None:
            return latents
        refined = self.adapter(self._normalized(latents)[None])[0]
        return self._scaled(refined)

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

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Returns `rgb` decoded from refined latents, `latent`, `depth`, `accumulation`, in camera size.

        Latents mean what they mean at the size at which the photographs were encoded, so that is the size at
        which they are rendered and decoded; the image is then resized to what was asked. A frame with no more
        pixels than such a latent image has cells, as the viewer asks while it moves, shows linear
        colors.

        Args:
            camera: A batch of one. It is not changed.
            obb_box: Renders what is inside only.
        """
        size = int(camera.height.flatten()[0]), int(camera.width.flatten()[0])
        latent_size = self._latent_size(size)
        if latent_size is not None:
            camera = resize_cameras(camera.reshape((1,)), [latent_size])
        return self._maps_at(camera.generate_rays(camera_indices=0, keep_shape=True, obb_box=obb_box), size)

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
        return self._maps_at(camera_ray_bundle, size)

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
        if latent_size is not None:
            self._compare_latents(outputs["latent"].to(self.device), photograph, latent_size, metrics, images)
        return metrics, images

    def _compare_latents(
        self,
        rendered: Float[Tensor, "height width channels"],
        photograph: Float[Tensor, "1 3 height width"],
        latent_size: tuple[int, int],
        metrics: dict[str, float],
        images: dict[str, Tensor],
    ) -> None:
        """Adds how well latents are rendered, and what their decoder could show at best."""
        factor = self.autoencoder.factor
        photograph = resize(photograph, (latent_size[0] * factor, latent_size[1] * factor))
        encoded = self.autoencoder.encode(photograph)
        latents = F.interpolate(_channels_first(rendered), latent_size, mode="nearest-exact")
        unrefined = self.autoencoder.decode(latents)
        ceiling = self.autoencoder.decode(encoded)
        error = self._error(self.refine(latents[0]).permute(1, 2, 0), encoded[0].permute(1, 2, 0))
        metrics["latent_psnr"] = float(latent_psnr(error))
        metrics["psnr_without_adapter"] = float(psnr(unrefined, photograph))
        metrics["ceiling_psnr"] = float(psnr(ceiling, photograph))
        images["without_adapter_and_ceiling"] = torch.cat([_channels_last(unrefined), _channels_last(ceiling)], dim=1)

    def _latent_size(self, size: tuple[int, int]) -> tuple[int, int] | None:
        """Returns the (rows, columns) to render for an image; None for linear colors."""
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

    def _maps_at(self, rays: RayBundle, size: tuple[int, int]) -> dict[str, Tensor]:
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

    def _normalized(self, latents: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """Latents in the units of the field."""
        return (latents - self.latent_mean[:, None, None]) / self.latent_std[:, None, None]

    def _scaled(self, normalized: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """The latents that normalized ones stand for."""
        return normalized * self.latent_std[:, None, None] + self.latent_mean[:, None, None]

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


def latent_psnr(error: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels of errors in units of variance; see `LATENT_RANGE`."""
    return 20 * float(np.log10(LATENT_RANGE)) - 10 * torch.log10(error.mean())


def _channels_first(
    image: Float[Tensor, "height width channels"],
) -> Float[Tensor, "1 channels height width"]:
    return image.permute(2, 0, 1)[None]


def _channels_last(image: Float[Tensor, "1 channels height width"]) -> Float[Tensor, "height width channels"]:
    return image[0].permute(1, 2, 0)
