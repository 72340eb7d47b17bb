"""Which few views together see all of what is to be edited."""

import torch
from jaxtyping import Float
from torch import Tensor


def choose_views(positions: Float[Tensor, "views 3"], shares: Float[Tensor, " views"], count: int) -> list[int]:
    """Chooses views that see much of the region, each from elsewhere than those before it.

    Args:
        positions: Of the cameras.
        shares: How much of each view the region takes; views of which it takes nothing are never chosen.
        count: Views to choose at most.
    """
    weights = shares.sqrt()
    chosen: list[int] = []
    distance = torch.ones_like(shares)
    while len(chosen) < min(count, int((shares > 0).sum())):
        worth = distance * weights
        worth[chosen] = -1.0
        chosen.append(int(worth.argmax()))
        to_last = torch.linalg.vector_norm(positions - positions[chosen[-1]], dim=1)
        distance = to_last if len(chosen) == 1 else torch.minimum(distance, to_last)
    return chosen
