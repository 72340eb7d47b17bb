"""What becomes of edits the more their views disagree: a picture over the disagreement."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latenteditor.benchmark.curves import Clock
from latenteditor.benchmark.plots import COLOURS

PANELS = {
    "inside": "PSNR inside the region, dB",
    "outside": "PSNR outside the region, dB",
    "sharpness": "sharpness inside, the truth's is 1",
    "edit_seconds": "seconds of editing",
}
"""By the name of a row's figure."""


def write_disagreement(file: Path, rows: Sequence[dict[str, Any]], clock: Clock) -> None:
    """Draws the medians of each method over the disagreement; dashed, the scene before any edit.

    Args:
        file: The picture.
        rows: Of the table, a row for each disagreement and method.
        clock: What the seconds count.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (name, label) in zip(figure.subplots(1, len(PANELS)), PANELS.items(), strict=True):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = sorted((row for row in rows if row["method"] == method), key=lambda row: row["disagreement"])
            shares = [row["disagreement"] for row in own]
            axis.plot(shares, [row[name] for row in own], marker="o", color=COLOURS[method], label=method)
            before = [row.get(f"{name}_unedited", math.nan) for row in own]
            axis.plot(shares, before, linestyle="--", linewidth=0.8, color=COLOURS[method])
        axis.set_xlabel("disagreement of the views")
        axis.set_ylabel("CPU " * (clock == "cpu_seconds" and name == "edit_seconds") + label)
        axis.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)
