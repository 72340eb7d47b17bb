"""What an editor changed in a picture that lies over its photograph, once colours outside are matched."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

ROUNDS = 12
"""Rounds of the fit of colours, each with less weight on what does not fit."""
LOOSE, TIGHT = 0.3, 0.05
"""Differences in [0, 1] from which a pixel counts little in the first and in the last round. Our choice."""
STRETCH = (0.5, 2.0)
"""Between which contrasts are matched; beyond, the light is part of the edit. Our choice."""
SAME_LIGHT, UNSEEN = 1.5, 0.5 / 255
"""By how much more a picture may differ than its best match, in the median pixel, to be in the photograph's light as it
came: a factor, and what 8 bits cannot show. Measured by us."""
NEIGHBOURHOOD = 3
"""Pixels along each side of what a pixel may be mistaken for where two pictures are a fraction of a pixel apart."""
SMOOTHING = 5
"""Pixels along each side of the window in which a change is averaged."""


def match_colours(
    edited: Float[Tensor, "3 height width"],
    photograph: Float[Tensor, "3 height width"],
    seen: Bool[Tensor, "1 height width"],
) -> Float[Tensor, "3 height width"]:
    """The edited picture in the photograph's light, as what did not change tells.

    Each channel of the photograph is taken for a line in the edited one's, with a slope over the picture,
    `photograph = a edited + b + c x + d y`: gain, cast and falling light, but no other hue. What changed does not fit,
    and counts less and less. Such a fit may follow what was painted over much of a picture, so it begins from several
    guesses (the picture as it came, as bright as the photograph, a fit to everything), and the one that most pixels
    agree with is taken. It is a guess for colours that the photograph has not, so that a picture in which half of all
    pixels look as they should comes back as it is.
    """
    height, width = edited.shape[-2:]
    y, x = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    known = seen[0].float()
    brighter = [_ratio_of_medians(*pair, seen[0]) * pair[0] for pair in zip(edited, photograph, strict=True)]
    starts = (edited, torch.stack(brighter), photograph)
    found = [_follow(edited, photograph, start, known, x, y) for start in starts]
    best = max(found, key=lambda matched: float((known * (_residual(matched, photograph) < TIGHT)).sum()))
    as_it_came, as_matched = (_residual(each, photograph)[seen[0]].median() for each in (edited, best))
    return edited if not seen.any() or as_it_came <= SAME_LIGHT * as_matched + UNSEEN else best.clamp(0, 1)


def _follow(edited: Tensor, photograph: Tensor, start: Tensor, known: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The fit to which a guess of it leads."""
    matched = start
    for tolerance in np.geomspace(LOOSE, TIGHT, ROUNDS):
        weights = known / (1 + (_residual(matched, photograph) / float(tolerance)) ** 2) ** 2
        matched = torch.stack([_line(*pair, x, y, weights) for pair in zip(edited, photograph, strict=True)])
    return matched


def _residual(matched: Float[Tensor, "3 height width"], photograph: Float[Tensor, "3 height width"]) -> Tensor:
    """What a fit does not explain, per pixel."""
    return (matched - photograph).abs().amax(dim=0)


def _ratio_of_medians(channel: Tensor, wanted: Tensor, seen: Tensor) -> float:
    """By how much a channel is to be brightened, by its middle value."""
    return (
        float((wanted[seen].median() / channel[seen].median().clamp(min=1e-3)).clamp(*STRETCH)) if seen.any() else 1.0
    )


def change(
    edited: Float[Tensor, "3 height width"],
    photograph: Float[Tensor, "3 height width"],
    seen: Bool[Tensor, "1 height width"],
) -> Float[Tensor, "1 height width"]:
    """By how much each pixel changed, in [0, 1], and 0 where it is not seen.

    A pixel that looks as one beside it did has not changed: edges that are a fraction of a pixel off do not count.
    """
    both = [_beyond(one, other) for one, other in ((edited, photograph), (photograph, edited))]
    difference = torch.minimum(*both).amax(dim=0, keepdim=True)
    smooth = F.avg_pool2d(difference[None], SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)[0]
    return torch.where(seen, smooth, 0.0)


def _line(channel: Tensor, wanted: Tensor, x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """A channel as the weighted line that comes closest to what is wanted."""
    columns = torch.stack([channel, torch.ones_like(channel), x, y], dim=-1).reshape(-1, 4).double()
    weighted = columns * weights.reshape(-1, 1).double()
    # A little of the line that changes nothing, where a picture is too plain to tell.
    ridge = (1e-4 * float(weights.sum()) + 1e-9) * torch.eye(4, dtype=torch.float64)
    wish = weighted.T @ wanted.reshape(-1).double() + ridge @ torch.tensor([1.0, 0, 0, 0], dtype=torch.float64)
    found = torch.linalg.solve(weighted.T @ columns + ridge, wish)
    found[0] = found[0].clamp(*STRETCH)
    return (columns @ found).reshape(channel.shape).float()


def _beyond(image: Tensor, other: Tensor) -> Tensor:
    """How far each pixel lies beyond the values that the other image has around it."""
    kernel = np.ones((NEIGHBOURHOOD, NEIGHBOURHOOD), np.uint8)
    around = np.ascontiguousarray(other.permute(1, 2, 0).numpy())
    low, high = (torch.from_numpy(extreme(around, kernel)).permute(2, 0, 1) for extreme in (cv2.erode, cv2.dilate))
    return torch.maximum(low - image, image - high).clamp(min=0)
