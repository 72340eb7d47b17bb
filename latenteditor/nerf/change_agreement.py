"""Where all views agree that something was changed, on the geometry of a scene of colours.

An editor of whole pictures also changes what it was not asked to, here in one view and there in another. A relevance
head is fitted to what changed in all of them, through the densities of the unedited scene, which do not change: what
one view changes alone is outvoted by those that see the same place.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor

from latenteditor.nerf.latent_display import evaluation
from latenteditor.nerf.photographs import resize_cameras
from latenteditor.nerf.relevance import RelevanceConfig, RelevanceHead, Samples, fit_relevance

CELLS = 64
"""Cells along the long side of a view in which it is asked for its relevance. Our choice."""
STRONG, STRONGEST = 0.5, 0.995
"""What counts as a full change: this share of a view's strongest, that quantile of its pixels; of the median view."""
FAINT = 0.04
"""Change in [0, 1] that counts for nothing: what registration, light and compression leave. Our choice."""


class ChangeAgreement:
    """Fits what the views of a scene of colours changed, and renders it from any of them."""

    def __init__(self, model: NerfactoModel, cameras: Sequence[Cameras], config: RelevanceConfig) -> None:
        """Computes nothing yet.

        Args:
            model: The unedited scene.
            cameras: Each a batch of one, of the views.
            config: The relevance head.

        Raises:
            ValueError: The model has no densities along rays.
        """
        if not isinstance(model, NerfactoModel):
            raise ValueError(
                f"Views cannot agree on a {type(model).__name__}, which has no densities along rays: pass a run of "
                "dense-nerfacto or nerfacto."
            )
        self._model, self._config = model, config
        self._cameras = [resize_cameras(camera, [cells_of(camera)]).to(model.device) for camera in cameras]
        self._head: RelevanceHead | None = None

    def fit(
        self, changes: Sequence[Float[Tensor, "1 _ _"] | None], seen: Sequence[Bool[Tensor, "1 _ _"] | None], seed: int
    ) -> None:
        """Lets the views agree; those without a change, and pixels that are not seen, have no vote.

        Args:
            changes: Of each view, in [0, 1]; None where it was not edited.
            seen: Where that is known.
            seed: Of the fit.
        """
        relevance = scaled(changes)
        rays, wanted = [], []
        for camera, score, known in zip(self._cameras, relevance, seen, strict=True):
            if score is None or known is None:
                continue
            size = (int(camera.height), int(camera.width))
            cells = camera.generate_rays(camera_indices=0, keep_shape=True).flatten()
            kept = F.adaptive_avg_pool2d(known[None].float(), size).flatten() > 0.5
            rays.append(cells[kept.to(cells.origins.device)])
            wanted.append(F.adaptive_avg_pool2d(score[None], size).flatten()[kept])
        generator = torch.Generator().manual_seed(seed)
        all_rays, all_wanted = _joined(rays), torch.cat(wanted)[:, None]

        def sample(count: int) -> tuple[RayBundle, Float[Tensor, "rays 1"]]:
            chosen = torch.randint(len(all_wanted), (count,), generator=generator)
            return all_rays[chosen.to(all_rays.origins.device)], all_wanted[chosen]

        with evaluation(self._model):
            self._head = fit_relevance(self._config, seed, self._model.device, sample, self._samples)

    @torch.no_grad()
    def render(self, view: int) -> Float[Tensor, "1 rows columns"]:
        """The relevance of a view's cells, as all views agree on it."""
        assert self._head is not None, "The views have not agreed yet."
        camera = self._cameras[view]
        rays = camera.generate_rays(camera_indices=0, keep_shape=True)
        size = rays.origins.shape[:2]
        chunk = self._model.config.eval_num_rays_per_chunk
        with evaluation(self._model):
            parts = [
                self._head.render(*self._samples(rays.get_row_major_sliced_ray_bundle(first, first + chunk)))
                for first in range(0, len(rays), chunk)
            ]
        return torch.cat(parts).view(1, *size).cpu()

    @torch.no_grad()
    def _samples(self, rays: RayBundle) -> Samples:
        """Positions in the unit cube along rays, and their weights."""
        model: Any = self._model
        rays = model.collider(rays)
        ray_samples, _, _ = model.proposal_sampler(rays, density_fns=model.density_fns)
        density, _ = model.field.get_density(ray_samples)
        positions = ray_samples.frustums.get_positions()
        if model.field.spatial_distortion is None:
            unit = SceneBox.get_normalized_positions(positions, model.field.aabb)
        else:
            unit = (model.field.spatial_distortion(positions) + 2.0) / 4.0
        return unit, ray_samples.get_weights(density)


def scaled(changes: Sequence[Float[Tensor, "1 _ _"] | None]) -> list[Float[Tensor, "1 _ _"] | None]:
    """Changes as relevance in [0, 1]: a faint edit counts as much as a strong one, and noise for nothing."""
    peaks = [torch.quantile(each.float().flatten(), STRONGEST) for each in changes if each is not None]
    strongest = float(torch.stack(peaks).median()) if peaks else 1.0
    full = max(STRONG * strongest, 2 * FAINT)
    return [None if each is None else ((each - FAINT) / (full - FAINT)).clamp(0, 1) for each in changes]


def _joined(bundles: Sequence[RayBundle]) -> RayBundle:
    """All rays of several bundles."""

    def all_of(name: str) -> Tensor:
        return torch.cat([getattr(bundle, name) for bundle in bundles])

    return RayBundle(
        origins=all_of("origins"),
        directions=all_of("directions"),
        pixel_area=all_of("pixel_area"),
        camera_indices=all_of("camera_indices"),
    )


def cells_of(camera: Cameras) -> tuple[int, int]:
    """Rows and columns of cells of a view, in which its region is known."""
    height, width = int(camera.height), int(camera.width)
    scale = min(1.0, CELLS / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
