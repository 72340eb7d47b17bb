"""Figures as strict JSON, which has neither NaN nor infinity."""

import json
import math
from pathlib import Path
from typing import Any


def write_figures(path: Path, content: Any) -> None:
    """Writes containers of figures and settings; NaN, where nothing is compared, as null, infinity by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_strict(content), indent=2, allow_nan=False, default=str) + "\n")


def read_figures(path: Path) -> dict[str, Any]:
    """Reads figures, null as NaN."""
    return {name: math.nan if value is None else value for name, value in json.loads(path.read_text()).items()}


def _strict(content: Any) -> Any:
    """The same in what JSON knows."""
    if isinstance(content, dict):
        return {name: _strict(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_strict(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None if math.isnan(content) else "Infinity" if content > 0 else "-Infinity"
    return content
