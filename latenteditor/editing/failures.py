"""Edits that cannot be used, and what ends an edit that cannot go on by itself."""

import logging
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

LOGGER = logging.getLogger(__name__)

MOST_FAILURES = 5
"""Times in a row that one view may fail before the edit ends; our choice."""
FLAT = 1e-3
"""Share of a base's own variation below which an edit of it counts as one constant; our choice."""


class CannotEdit(ValueError):
    """No edit can be made any more; what was made is good and should be saved. The text says what to turn."""


def mark_constants(
    edited: Float[Tensor, "views channels rows columns"],
    mask: Bool[Tensor, "views 1 rows columns"],
    bases: Float[Tensor, "views channels rows columns"],
) -> Float[Tensor, "views channels rows columns"]:
    """The edits, of which those that are one constant within their mask are made not finite: none is to be used.

    A flat part of a view may stay flat; what varied and is one constant is what a failing network leaves.
    """
    broken = torch.tensor([_is_constant(*view) for view in zip(edited, mask, bases, strict=True)], device=edited.device)
    return edited.masked_fill(broken[:, None, None, None], torch.nan)


def report_scores(broken: Sequence[int], instruction: str, failures: int) -> None:
    """Names views whose score is not finite.

    Raises:
        CannotEdit: Measuring them again did not help.
    """
    if not broken:
        return
    names = f"{'views' if len(broken) > 1 else 'view'} {', '.join(map(str, broken))}"
    said = f"The delta score of {names} for '{instruction}' is not finite"
    if failures == MOST_FAILURES:
        raise CannotEdit(f"{said}, measured {failures} times: try --pipeline.edit.half-precision False.")
    LOGGER.warning("%s: it is measured again (%d of %d).", said, failures, MOST_FAILURES)


def require_finite(latents: Tensor, complaint: str) -> None:
    """Stops a number that is not finite before it spreads.

    Raises:
        ValueError: There is one.
    """
    if not latents.isfinite().all():
        raise ValueError(complaint)


def _is_constant(
    edited: Float[Tensor, "channels rows columns"],
    mask: Bool[Tensor, "1 rows columns"],
    base: Float[Tensor, "channels rows columns"],
) -> bool:
    """Whether all that a view had within its mask has become one constant."""
    return bool(mask.any()) and _variation(edited[:, mask[0]]) < FLAT * _variation(base[:, mask[0]])


def _variation(cells: Float[Tensor, "channels cells"]) -> float:
    """The largest difference between two cells in any channel."""
    return float((cells.amax(dim=1) - cells.amin(dim=1)).max())
