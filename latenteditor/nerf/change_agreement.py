"""Where all views agree that something was changed, by votes on the geometry of a scene of colours.

An editor of whole pictures also changes what it was not asked to, here in one view and there in another. So each place
that a view shows is looked for in the others: of those that see it, more must have changed it than change any place.
Places in front of what is seen are asked about too, because a new shape may stand there: it has changed whatever it
hides, and a place where it stands was changed by all that look at it (a visual hull, Laurentini 1994, by shares).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor

from latenteditor.nerf.latent_display import evaluation
from latenteditor.nerf.photographs import perspective_camera, resize_cameras
from latenteditor.nerf.projection import PerspectiveCamera, locate

CELLS = 64
"""Cells along the long side of a view, in which its region is known. Our choice."""
STRONG, STRONGEST = 0.5, 0.995
"""What counts as a full change: this share of a view's strongest, that quantile of its pixels; of the median view."""
FAINT = 0.04
"""Change in [0, 1] that counts for nothing: what registration, light and compression leave. Our choice."""
IN_FRONT, NEAREST = 16, 0.3
"""Places along a ray in front of what it meets, the nearest at this share of the distance. Our choice."""
USUAL_VOTES, LEAST_VOTERS = 6, 3
"""Votes that say what is usual, beside those of the views: few views do not decide by themselves. Measured by us. Where
fewer views than the latter see a place, it does not tell what is usual."""
MOST_VOTERS = 64
"""Other views that are asked, spread over all there are. Our choice."""
HIDDEN = 0.05
"""Share of a distance by which a place may lie behind what a view meets and is still seen. Our choice."""
OWN = 0.25
"""Relevance in a view itself from which something new may stand in front of what it met. Measured by us."""
EVERYWHERE = 0.5
"""Relevance of the median place from which a whole scene was changed, and not one place more than others."""


class Sight(NamedTuple):
    """What a view meets in the middle of each of its pixels, or of its cells."""

    camera: PerspectiveCamera
    """Of that many pixels."""
    directions: Float[Tensor, "rows columns 3"]
    """Of the rays, unit vectors."""
    distance: Float[Tensor, "rows columns"]
    """Along the rays."""


@torch.no_grad()
def look(model: NerfactoModel, camera: Cameras) -> Sight:
    """What a camera meets of an unedited scene, pixel by pixel.

    Args:
        model: The scene.
        camera: A batch of one.

    Raises:
        ValueError: The model has no depth along rays, or the camera is not a perspective one.
    """
    if not isinstance(model, NerfactoModel):
        raise ValueError(
            f"Views cannot agree on a {type(model).__name__}, whose depth is not known to be along the ray: pass a run "
            "of dense-nerfacto or nerfacto."
        )
    if (camera.camera_type != CameraType.PERSPECTIVE.value).any():
        raise ValueError("Views agree through perspective cameras alone: undistort the photographs first.")
    there: Any = camera.to(model.device)
    with evaluation(model):
        depth = model.get_outputs_for_camera(there)["depth"][..., 0]
    directions = there.generate_rays(camera_indices=0, keep_shape=True).directions
    return Sight(perspective_camera(there), directions, depth)


def agree(
    sights: Sequence[Sight],
    relevance: Sequence[Float[Tensor, "rows columns"] | None],
    seen: Sequence[Bool[Tensor, "rows columns"] | None],
    share: float,
) -> list[Bool[Tensor, "1 rows columns"]]:
    """Which cells of each view are part of the edit.

    Args:
        sights: Of each view.
        relevance: By how much each cell changed, in [0, 1]; None where a view was not edited, which has no vote.
        seen: Which cells have a vote.
        share: Of the views that see a place, beyond what changes everywhere, which must have changed it.
    """
    voters = [index for index, each in enumerate(relevance) if each is not None]
    votes = [_votes(view, sights, relevance, seen, voters) for view in range(len(sights))]
    usual = _usual([each[:, -1] for each in votes])
    least = usual + share * (1 - usual)
    # What is usual votes too, so that few views decide nothing by themselves.
    votes = [each + USUAL_VOTES * each.new_tensor([usual, 1.0]).view(2, 1, 1, 1) for each in votes]
    regions = []
    for (changed, count), own, known in zip(votes, relevance, seen, strict=True):
        in_front = (changed[:-1] / count[:-1] > least).any(dim=0)
        met, of = changed[-1], count[-1]
        if own is not None and known is not None:
            mine, shown = own.to(met.device), known.to(met.device)
            in_front &= mine > OWN
            met, of = met + mine.where(shown, 0.0), of + shown
        regions.append((in_front | (met / of > least))[None].cpu())
    return regions


def _usual(votes: Sequence[Float[Tensor, "2 rows columns"]]) -> float:
    """The share of views that change the median place, or 0 where the edit is everywhere."""
    changed, count = torch.cat([each.flatten(1) for each in votes], dim=1)
    told = count >= LEAST_VOTERS
    usual = float((changed[told] / count[told]).median()) if told.any() else 0.0
    return usual if usual <= EVERYWHERE else 0.0


def _votes(
    view: int,
    sights: Sequence[Sight],
    relevance: Sequence[Float[Tensor, "rows columns"] | None],
    seen: Sequence[Bool[Tensor, "rows columns"] | None],
    voters: Sequence[int],
) -> Float[Tensor, "2 places rows columns"]:
    """How many of the other views changed each place along a view's rays, and how many see it; the last is the end."""
    sight = sights[view]
    others = [voter for voter in voters if voter != view]
    stride = max(1, -(-len(others) // MOST_VOTERS))
    steps = torch.linspace(NEAREST, 1.0, IN_FRONT + 1, device=sight.distance.device)
    along = steps[:, None, None] * sight.distance
    points = sight.camera.camera_to_world[:, 3] + along[..., None] * sight.directions
    changed, count = torch.zeros_like(along), torch.zeros_like(along)
    for voter in others[view % stride :: stride]:
        vote, sees = _vote(points, sights[voter], relevance[voter], seen[voter])
        changed, count = changed + vote.where(sees, 0.0), count + sees
    return torch.stack([changed, count])


def _vote(
    points: Float[Tensor, "places rows columns 3"], voter: Sight, relevance: Any, seen: Any
) -> tuple[Float[Tensor, "places rows columns"], Bool[Tensor, "places rows columns"]]:
    """By how much a view changed where it shows each point, and whether it sees that."""
    found = locate(points, voter.camera, (voter.distance.shape[0], voter.distance.shape[1]), margin=0.0)
    grid = found.grid.flatten(0, 1)[None]

    def at(image: Tensor, mode: str) -> Tensor:
        image = image.to(points.device).float()[None, None]
        shown = F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)
        return shown.view(points.shape[:-1])

    farthest = F.max_pool2d(voter.distance[None, None], 3, 1, 1)[0, 0]
    sees = found.within & (found.distance <= (1 + HIDDEN) * at(farthest, "nearest")) & (at(seen, "nearest") > 0)
    return at(relevance, "bilinear"), sees


def scaled(changes: Sequence[Float[Tensor, "1 _ _"] | None]) -> list[Float[Tensor, "1 _ _"] | None]:
    """Changes as relevance in [0, 1]: a faint edit counts as much as a strong one, and noise for nothing."""
    # Of all pixels of a photograph; torch's own quantile takes no more than 16 million.
    peaks = [np.quantile(each.cpu().numpy(), STRONGEST) for each in changes if each is not None]
    strongest = float(np.median(peaks)) if peaks else 1.0
    full = max(STRONG * strongest, 2 * FAINT)
    return [None if each is None else ((each - FAINT) / (full - FAINT)).clamp(0, 1) for each in changes]


def in_cells(image: Float[Tensor, "1 height width"], camera: Cameras) -> Float[Tensor, "rows columns"]:
    """The mean over each cell of a view."""
    return F.adaptive_avg_pool2d(image[None], cells_of(camera))[0, 0]


def camera_of_cells(camera: Cameras) -> Cameras:
    """A camera whose pixels are the cells of another."""
    return resize_cameras(camera, [cells_of(camera)])


def cells_of(camera: Cameras) -> tuple[int, int]:
    """Rows and columns of a view's cells."""
    height, width = int(camera.height), int(camera.width)
    scale = min(1.0, CELLS / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))
