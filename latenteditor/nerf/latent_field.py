"""The field of a latent scene: nerfacto's, with latents for its colors and grids that a CPU can train."""

from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.field_components.mlp import MLP
from nerfstudio.fields.density_fields import HashMLPDensityField
from nerfstudio.fields.nerfacto_field import NerfactoField
from nerfstudio.model_components import renderers
from torch import Tensor, nn

Encoding = Literal["dense", "hash"]


class DenseGrids(nn.Module):
    """Feature grids of several resolutions, all stored in full and read by trilinear interpolation.

    A latent scene needs no more than about a hundred cells along a side, so that nothing has to be hashed; a
    full grid is read by one call of torch and trains three to five times faster on a CPU than nerfstudio's
    hash tables in torch.
    """

    def __init__(
        self,
        num_levels: int,
        base_res: int,
        max_res: int,
        features_per_level: int,
        position_gradients: bool = False,
    ) -> None:
        """Builds `num_levels` grids whose resolutions grow geometrically from `base_res` to `max_res`.

        Args:
            num_levels: How many grids.
            base_res: Cells along each side of the coarsest.
            max_res: Cells along each side of the finest.
            features_per_level: Features in each cell.
            position_gradients: Whether gradients flow to the positions, as an optimizer of cameras needs;
                costs time.
        """
        super().__init__()
        self.position_gradients = position_gradients
        resolutions = np.geomspace(base_res, max_res, num_levels).round().astype(int).tolist()
        self.grids = nn.ParameterList(
            nn.Parameter(1e-3 * (2 * torch.rand(1, features_per_level, res, res, res) - 1)) for res in resolutions
        )

    def forward(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, "points features"]:
        """Returns the features at positions in the unit cube, all levels side by side."""
        where = 2 * (positions if self.position_gradients else positions.detach()) - 1
        where = where.view(1, -1, 1, 1, 3)
        levels = [F.grid_sample(grid, where, align_corners=True, padding_mode="border") for grid in self.grids]
        return torch.cat(levels, dim=1).view(-1, len(positions)).T


class LatentField(NerfactoField):
    """Nerfacto's field with `channels` unbounded channels instead of three between 0 and 1.

    It speaks in latents of zero mean and unit variance; what it answers under nerfstudio's name for a color
    is latent.
    """

    def __init__(
        self,
        aabb: Tensor,
        num_images: int,
        channels: int,
        encoding: Encoding,
        position_gradients: bool = False,
        **nerfacto: Any,
    ) -> None:
        """Builds nerfacto's field, then replaces its head, and its encoding where grids are dense.

        Args:
            aabb: The scene's box.
            num_images: How many training images an appearance embedding would tell apart.
            channels: Channels of a latent.
            encoding: "dense" grids or nerfacto's "hash" tables.
            position_gradients: Whether gradients have to flow through dense grids to the positions.
            **nerfacto: The other arguments of nerfacto's field.
        """
        tables = {key: nerfacto[key] for key in ("num_levels", "base_res", "max_res", "features_per_level")}
        hidden_dim, implementation = nerfacto["hidden_dim"], nerfacto["implementation"]
        if encoding == "dense":  # The tables that are thrown away below need not be large.
            nerfacto["log2_hashmap_size"] = 1
        super().__init__(aabb, num_images, **nerfacto)
        if encoding == "dense":
            self.mlp_base = grids_and_mlp(
                DenseGrids(**tables, position_gradients=position_gradients),
                hidden_dim=hidden_dim,
                out_dim=1 + self.geo_feat_dim,
                implementation=implementation,
            )
        self.mlp_head = MLP(
            in_dim=self.direction_encoding.get_out_dim() + self.geo_feat_dim + self.appearance_embedding_dim,
            num_layers=2,
            layer_width=nerfacto["hidden_dim_color"],
            out_dim=channels,
            activation=nn.ReLU(),
            out_activation=None,
            implementation=implementation,
        )

    def unit_positions(self, ray_samples: RaySamples) -> Float[Tensor, "*rays samples 3"]:
        """Returns where samples lie in the unit cube in which the field is stored."""
        positions = ray_samples.frustums.get_positions()
        if self.spatial_distortion is None:
            return SceneBox.get_normalized_positions(positions, self.aabb)
        contracted: Any = self.spatial_distortion(positions)
        return (contracted + 2.0) / 4.0


class LatentDensityField(HashMLPDensityField):
    """Nerfacto's proposal density, on dense grids if asked."""

    def __init__(
        self, aabb: Tensor, encoding: Encoding, position_gradients: bool = False, **density_field: Any
    ) -> None:
        """Builds nerfacto's density field and replaces its encoding where grids are dense.

        Args:
            aabb: The scene's box.
            encoding: "dense" grids or nerfacto's "hash" tables.
            position_gradients: Whether gradients have to flow through dense grids to the positions.
            **density_field: The other arguments of nerfacto's density field.
        """
        if encoding == "dense":
            density_field["log2_hashmap_size"] = 1
        super().__init__(aabb, **density_field)
        if encoding == "dense":
            self.encoding: Any = DenseGrids(
                num_levels=density_field["num_levels"],
                base_res=density_field.get("base_res", 16),
                max_res=density_field["max_res"],
                features_per_level=density_field.get("features_per_level", 2),
                position_gradients=position_gradients,
            )
            self.mlp_base = grids_and_mlp(
                self.encoding,
                hidden_dim=density_field["hidden_dim"],
                out_dim=1,
                implementation=density_field["implementation"],
            )


class LatentRenderer(nn.Module):
    """Volume rendering of latents: a weighted sum, never clamped, on top of the last sample."""

    background_color = "last_sample"
    """Nerfstudio asks a renderer of colors for this name."""

    def forward(
        self,
        rgb: Float[Tensor, "*rays samples channels"],
        weights: Float[Tensor, "*rays samples 1"],
    ) -> Float[Tensor, "*rays channels"]:
        """Returns one latent per ray.

        While the host shows a cropped scene on a background of its own, the last sample lies outside of the
        crop and means nothing; what shines through is then the mean latent.

        Args:
            rgb: Normalized latents along each ray, under the name that nerfacto gives them.
            weights: Weights along each ray, which sum to at most one.
        """
        foreground = (weights * torch.nan_to_num(rgb)).sum(dim=-2)
        if renderers.BACKGROUND_COLOR_OVERRIDE is not None:
            return foreground
        return foreground + (1 - weights.sum(dim=-2)) * rgb[..., -1, :]


def table_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of grids and hash tables, which want a learning rate ten times that of a perceptron."""
    return [value for name, value in module.named_parameters() if _is_table(name)]


def network_parameters(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are in no grid or table."""
    return [value for name, value in module.named_parameters() if not _is_table(name)]


def _is_table(name: str) -> bool:
    return ".grids." in name or name.endswith("hash_table")


def grids_and_mlp(grids: DenseGrids, hidden_dim: int, out_dim: int, implementation: Any = "torch") -> Any:
    """A perceptron with one hidden layer of `hidden_dim` that reads the features of `grids`."""
    network = MLP(
        in_dim=sum(grid.shape[1] for grid in grids.grids),
        num_layers=2,
        layer_width=hidden_dim,
        out_dim=out_dim,
        activation=nn.ReLU(),
        out_activation=None,
        implementation=implementation,
    )
    return nn.Sequential(grids, network)
