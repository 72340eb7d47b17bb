"""Figures, times and sizes as somebody reads them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

NOTHING = "–"
"""Stands where there is no figure."""


class Row(NamedTuple):
    """A line of a table of figures."""

    depth: int
    name: str
    value: str | None
    """None where the line is the head of those below it that lie deeper."""


def figure_rows(figures: Mapping[str, Any], depth: int = 0) -> Iterator[Row]:
    """The lines of figures, with those of nested ones below their name."""
    for name, value in figures.items():
        if isinstance(value, Mapping):
            yield Row(depth, str(name), None)
            yield from figure_rows(value, depth + 1)
        else:
            yield Row(depth, str(name), in_words(value))


def in_words(value: Any) -> str:
    """A figure: four digits of a fraction, and a line where there is none."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Real) and not isinstance(value, int):
        return _fraction(float(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(in_words, value)) or NOTHING
    return str(value)


def mean_change(value: float | None) -> str:
    """How much pixels changed, in 1/255."""
    return NOTHING if value is None else f"{value:.2f}"


def duration(seconds: float) -> str:
    """Seconds in the units that suit them."""
    if not math.isfinite(seconds):
        return NOTHING
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def memory(mib: float | None) -> str:
    """MiB in the unit that suits them."""
    if mib is None or not math.isfinite(mib):
        return NOTHING
    return f"{mib:.0f} MiB" if mib < 1024 else f"{mib / 1024:.1f} GiB"


def _fraction(value: float) -> str:
    if math.isnan(value):
        return NOTHING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
