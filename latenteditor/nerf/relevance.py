"""Where an edit belongs in 3D: relevance, learned from the delta scores of all views and rendered from any camera.

The delta module scores each view by itself, and what it finds flickers from view to view. A small field of its own, one
for each instruction, is trained so that its rendering comes close to every view's score,

    min over r of the sum over rays (sum_i w_i r(x_i) - score)^2, plus a little of r everywhere,

with the weights w_i of the scene as it was before any edit, which do not change. It is fitted once, before the first
view is edited: a region that followed the edited density would move while the edit is under way.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.field_components.mlp import MLP
from torch import Tensor, nn

from latenteditor.nerf.latent_field import DenseGrids

FIRST_LOGIT = -4.0
"""What relevance starts from: two in a hundred."""
PRIOR_POSITIONS = 8192
"""Random positions per step at which the prior holds."""


@dataclass
class RelevanceConfig:
    """The relevance head and how it is fitted. All defaults were measured by us on built-in worlds."""

    steps: int = 200
    """Steps of the fit, 17 s in all on two CPU cores. More steps follow single views, less what they agree on."""
    rays: int = 2048
    """Rays per step, drawn from all views."""
    num_levels: int = 3
    """Grids of the head."""
    base_res: int = 16
    """Cells along each side of the coarsest grid."""
    max_res: int = 64
    """Cells along each side of the finest grid. Higher follows finer outlines, and the flicker of single views."""
    grid_lr: float = 1e-1
    """Learning rate of the grids, as of the scene's own."""
    network_lr: float = 1e-2
    """Learning rate of the perceptron, as of the scene's own."""
    prior: float = 0.01
    """Weight of the mean relevance of random positions: where no view looks, nothing is relevant. Higher shrinks the
    region; without it, what only a new camera sees may count as part of the edit."""


class RelevanceHead(nn.Module):
    """A relevance in [0, 1] for each position, from grids and a perceptron."""

    def __init__(self, config: RelevanceConfig) -> None:
        """Starts near zero everywhere."""
        super().__init__()
        features_per_level = 2
        self.grids = DenseGrids(config.num_levels, config.base_res, config.max_res, features_per_level)
        self.network = MLP(
            in_dim=config.num_levels * features_per_level,
            num_layers=2,
            layer_width=32,
            out_dim=1,
        )

    def forward(self, positions: Float[Tensor, "*rays samples 3"]) -> Float[Tensor, "*rays samples 1"]:
        """Relevance at positions in the unit cube."""
        logits = self.network(self.grids(positions.reshape(-1, 3))) + FIRST_LOGIT
        return torch.sigmoid(logits).view(*positions.shape[:-1], 1)

    def render(
        self, positions: Float[Tensor, "*rays samples 3"], weights: Float[Tensor, "*rays samples 1"]
    ) -> Float[Tensor, "*rays 1"]:
        """The weighted sum along each ray."""
        return (weights * self(positions)).sum(dim=-2)


Samples = tuple[Float[Tensor, "rays samples 3"], Float[Tensor, "rays samples 1"]]
"""Positions in the unit cube along rays, and their weights in a scene that does not change."""


def fit_relevance(
    config: RelevanceConfig,
    seed: int,
    device: torch.device,
    sample: Callable[[int], tuple[RayBundle, Float[Tensor, "rays 1"]]],
    samples_along: Callable[[RayBundle], Samples],
) -> RelevanceHead:
    """A frozen relevance head whose rendering comes close to what every view says.

    Args:
        config: The head and its fit.
        seed: Of the head's weights.
        device: Where it computes.
        sample: Returns that many random rays of all views, and the relevance each should render, in [0, 1].
        samples_along: What rays meet in the unedited scene.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # Of the CPU alone, where the head is made.
        head = RelevanceHead(config).to(device)
    groups = [(head.grids, config.grid_lr), (head.network, config.network_lr)]
    optimizer = torch.optim.Adam([{"params": list(part.parameters()), "lr": lr} for part, lr in groups], eps=1e-15)
    with torch.enable_grad():
        for _ in range(config.steps):
            rays, wanted = sample(config.rays)
            error = F.mse_loss(head.render(*samples_along(rays)), wanted.to(device))
            anywhere = torch.rand(PRIOR_POSITIONS, 1, 3, device=device)
            error = error + config.prior * head(anywhere).mean()
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    return head.requires_grad_(False)
