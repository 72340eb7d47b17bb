"""The quality of an edit over the seconds spent on it, and when one method reaches what another ends with."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Clock = Literal["seconds", "cpu_seconds"]
"""Seconds on the wall, or of all cores together, which other work on the machine disturbs less."""


@dataclass(frozen=True)
class Point:
    """What an edit has come to at one moment, and what it has cost up to then."""

    seconds: float
    """On the wall, since the edit began."""
    cpu_seconds: float
    """Of all cores together."""
    steps: int
    """Training steps of the scene."""
    view_edits: int
    """Edits of single views."""
    rays: int
    """Rays traced, in training and to render what is edited."""
    inside: float
    """PSNR in dB against the truth, inside its region; the mean over held-out views that see it."""
    outside: float
    """The same outside the region."""
    change: float = math.nan
    """How much of the demanded change the region shows, whatever its sharpness: 0 as it was, 1 as it should be."""
    mask_iou: float = math.nan
    """Of the masks of the views edited so far with the true region; NaN where there is no mask."""


def crossing(points: Sequence[Point], levels: Mapping[str, float], clock: Clock = "seconds") -> float:
    """The first time at which a curve is at or above all levels; infinite where it never is.

    Between two points, figures are interpolated linearly in time. A curve that dips below a level again has still
    reached it.

    Args:
        points: In the order of time.
        levels: By the names of a point's figures, what they have to reach at the same time.
        clock: What to count.
    """
    if points and all(getattr(points[0], name) >= level for name, level in levels.items()):
        return getattr(points[0], clock)
    for before, after in zip(points, points[1:], strict=False):
        shares = [_share_above(getattr(before, name), getattr(after, name), levels[name]) for name in levels]
        first, last = max(low for low, _ in shares), min(high for _, high in shares)
        if first <= last:
            start, end = getattr(before, clock), getattr(after, clock)
            return start + first * (end - start)
    return math.inf


def _share_above(before: float, after: float, level: float) -> tuple[float, float]:
    """Where on the way from one value to the next a line is at or above a level; (1, 0) is nowhere."""
    if before >= level and after >= level:
        return 0.0, 1.0
    if math.isnan(before) or math.isnan(after) or (before < level and after < level):
        return 1.0, 0.0
    share = (level - before) / (after - before)
    return (share, 1.0) if after >= level else (0.0, share)
