"""In which order the views of a capture are edited: from one to its neighbours, each with the nearest finished ones."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class Turn(NamedTuple):
    """A view, and who is finished before it."""

    view: int
    neighbours: tuple[int, ...]
    """Views that come before it, the nearest first."""


def order_views(positions: Float[Tensor, "views 3"], first: int) -> list[Turn]:
    """Every view once, each time the one that is nearest to a view before it.

    Args:
        positions: Of the cameras.
        first: The view that has none before it.
    """
    distances = torch.cdist(positions.double(), positions.double())
    done, turns = [first], [Turn(first, ())]
    left = [view for view in range(len(positions)) if view != first]
    while left:
        view = min(left, key=lambda each: float(distances[each, done].min()))
        turns.append(Turn(view, tuple(sorted(done, key=lambda each: float(distances[view, each])))))
        left.remove(view)
        done.append(view)
    return turns


def middle_view(positions: Float[Tensor, "views 3"]) -> int:
    """The view from which all others are nearest together."""
    distances = torch.cdist(positions.double(), positions.double()).sum(dim=1)
    return int(distances.argmin())
