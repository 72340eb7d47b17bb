"""The paper's refinement adapter: it repairs in a whole view what single rays cannot render."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RefinementAdapter(nn.Module):
    """Refines a rendered view: z̃ = ẑ + ConvUp(SelfAttention(ConvDown(ẑ))). The identity until trained.

    The field renders each latent cell from one ray, and is blind to what the autoencoder wrote into a cell
    because of its neighbours. The convolutions see the neighbourhood, the attention the whole view. Any size
    of latent image works, because nothing in here depends on a position.
    """

    def __init__(self, channels: int, width: int = 128, heads: int = 4) -> None:
        """Builds an adapter for latents of `channels` channels.

        Args:
            channels: Channels of a latent.
            width: Channels inside. The first convolution halves the resolution, so four times `channels` keep
                all.
            heads: Attention heads, a divisor of `width`.
        """
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(channels, width, kernel_size=4, stride=2, padding=1), ConvBlock(width))
        self.attention = SelfAttention(width, heads)
        self.up = nn.Sequential(
            ConvBlock(width),
            nn.GELU(),
            nn.Conv2d(width, 4 * channels, kernel_size=3, padding=1),
            nn.PixelShuffle(upscale_factor=2),
        )
        last: Any = self.up[2]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(
        self, rendered: Float[Tensor, "views channels rows columns"]
    ) -> Float[Tensor, "views channels rows columns"]:
        """Returns the refined latents. They are expected, and returned, with unit variance."""
        rows, columns = rendered.shape[-2:]
        even = F.pad(rendered, (0, columns % 2, 0, rows % 2), mode="replicate")
        correction = self.up(self.attention(self.down(even)))
        return rendered + correction[..., :rows, :columns]


class ConvBlock(nn.Module):
    """Two convolutions around which the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GELU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
            nn.GELU(),
            nn.Conv2d(width, width, kernel_size=3, padding=1),
        )

    def forward(self, features: Float[Tensor, "views width rows columns"]) -> Float[Tensor, "views width rows columns"]:
        return features + self.body(features)


class SelfAttention(nn.Module):
    """Every place of the image looks at every other; the input is added."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"Cannot split an adapter of width {width} into {heads} heads: choose a divisor.")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, features: Float[Tensor, "views width rows columns"]) -> Float[Tensor, "views width rows columns"]:
        places = features.flatten(start_dim=2).transpose(1, 2)
        per_head = self.queries_keys_values(self.norm(places)).unflatten(-1, (3, self.heads, -1))
        queries, keys, values = per_head.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        return features + self.out(seen.transpose(1, 2).flatten(start_dim=2)).transpose(1, 2).view_as(features)
