"""Figures of an edit as the rows of a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Figure:
    """One row of the table."""

    name: str
    """As figures.json names it."""
    definition: str
    """The formula, or what is compared to what."""
    values: list[float] = field(default_factory=list)
    """Of each frame; of each neighbouring pair where `pairs`. NaN where nothing is compared."""
    missing: str = ""
    """Why there are no values."""
    pairs: bool = False
    """Whether neighbouring frames are compared."""
    model: str = ""
    """The network that measures."""

    @property
    def mean(self) -> float:
        """Over the frames in which there is something to compare."""
        known = [value for value in self.values if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan


def table(figures: Sequence[Figure]) -> list[str]:
    """A line for each figure: its mean, and what it is or why there is none."""
    lines = []
    for figure in figures:
        mean = "-" if math.isnan(figure.mean) else f"{figure.mean:.4f}"
        note = figure.missing or figure.definition + (f" [{figure.model}]" if figure.model else "")
        lines.append(f"{figure.name:36} {mean:>9}   {note}")
    return lines
