"""Figures as strict JSON, which has neither NaN nor infinity, and as tables."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def write_figures(path: Path, content: Any) -> None:
    """Writes containers of figures and settings; NaN, where nothing is compared, as null, infinity by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_strict(content), indent=2, allow_nan=False, default=str) + "\n")


def read_figures(path: Path) -> dict[str, Any]:
    """Reads figures, null as NaN."""
    return {name: math.nan if value is None else value for name, value in json.loads(path.read_text()).items()}


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table, its columns aligned."""
    widths = [max(len(cell) for cell in column) for column in zip(heads, *rows, strict=True)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    ]


def _strict(content: Any) -> Any:
    """The same in what JSON knows."""
    if isinstance(content, dict):
        return {name: _strict(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    return content
