"""Whether what changed in a view has the truth's outline: the boundary F-score of DAVIS (Perazzi 2016)."""

from math import hypot

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

TOLERANCE = 0.008
"""How far apart two outlines may lie and still agree, as a share of the view's diagonal; as in DAVIS."""
CHANGE = 0.1
"""Of a channel in [0, 1], over 3 x 3 pixels: more than this is a change. The autoencoder alone changes less."""


def changed(
    edited: Float[Tensor, "views 3 height width"], original: Float[Tensor, "views 3 height width"]
) -> Bool[Tensor, "views 1 height width"]:
    """Where an edit differs from its original; both should have gone through the same autoencoder."""
    difference = F.avg_pool2d(edited - original, 3, stride=1, padding=1, count_include_pad=False)
    return difference.abs().amax(dim=1, keepdim=True) > CHANGE


def outline(region: Bool[Tensor, "views 1 height width"]) -> Bool[Tensor, "views 1 height width"]:
    """The pixels of a region that touch what is not in it; the view's border is no outline."""
    return region & _near(~region, 1)


def boundary_f(
    found: Bool[Tensor, "views 1 height width"], true: Bool[Tensor, "views 1 height width"]
) -> Float[Tensor, " views"]:
    """Harmonic mean of how much of the found outline is true and how much of the true one is found.

    NaN where the true region has no outline in the view.
    """
    width = max(1, round(TOLERANCE * hypot(*found.shape[-2:])))
    ours, theirs = outline(found), outline(true)
    precision = _share(ours & _near(theirs, width), ours)
    recall = _share(theirs & _near(ours, width), theirs)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    return torch.where(theirs.flatten(1).any(dim=1), score, torch.nan)


def _near(region: Tensor, width: int) -> Tensor:
    """What lies in a region or so many pixels from it, along either side or the diagonal."""
    return F.max_pool2d(region.float(), 2 * width + 1, stride=1, padding=width) > 0


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """How much of each view's whole is in the part; nothing of nothing."""
    return part.flatten(1).sum(dim=1) / whole.flatten(1).sum(dim=1).clamp(min=1)
