"""What the runs of a benchmark came to, drawn over the time they took."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latenteditor.benchmark.curves import Clock
from latenteditor.benchmark.report import BASELINE, Edit, reach

COLOURS = {
    "latenteditor-sharp": "tab:green",
    "latenteditor-once": "tab:brown",
    "latenteditor-settled": "tab:pink",
    "latenteditor": "tab:blue",
    "latenteditor-eager": "tab:purple",
    "latenteditor-field": "tab:cyan",
    "in2n": "tab:red",
    "in2n-mask": "tab:orange",
    "in2n-mask-waits": "tab:olive",
    "black-box": "tab:green",
    "black-box-repainting": "darkseagreen",
    "alone": "tab:gray",
    "refit": "tab:brown",
    "truth": "tab:pink",
}
PANELS = {
    "inside": "PSNR inside the region, dB",
    "change": "share of the demanded change",
    "outside": "PSNR outside the region, dB",
}
"""By the name of a point's figure."""


def write_plot(file: Path, edits: Sequence[Edit], tolerance: float, clock: Clock = "seconds") -> None:
    """Curves over time: a row for each world and prompt; dashed, the baseline's last; dotted, when others reach it."""
    tasks = list(dict.fromkeys(edit.task for edit in edits))
    figure, axes = _figure(len(tasks), clock)
    for row, task in zip(axes, tasks, strict=True):
        disagreement = "" if task[2] is None else f", disagreement {task[2]:g}"
        row[0].set_title(f"{task[0]}: {task[1]}{disagreement}", fontsize=9)
        for axis, name in zip(row, PANELS, strict=True):
            for edit in (edit for edit in edits if edit.task == task):
                times, values = _curve(edit, name, clock)
                style: dict[str, Any] = {"color": COLOURS[edit.method]}
                axis.plot(
                    times, values, marker="o" if len(times) > 1 else "X", markersize=4, label=edit.method, **style
                )
                if name != "outside":
                    reached = reach(edit, edits, name, tolerance, clock).time
                    if math.isfinite(reached):
                        axis.axvline(reached, linewidth=0.8, linestyle=":", **style)
                if edit.method == BASELINE:
                    axis.axhline(values[-1], linewidth=0.8, linestyle="--", **style)
            axis.set_ylabel(PANELS[name])
        row[0].legend(fontsize=8)
    _save(figure, file)


def write_overview(file: Path, edits: Sequence[Edit], clock: Clock = "seconds") -> None:
    """All edits that have a baseline at once; thick, the methods' medians.

    PSNR inside is shown less what the baseline ended with, PSNR outside less that of each one's unedited scene.
    """
    ends = {edit.task: edit.points[-1].inside for edit in edits if edit.method == BASELINE}
    figure, axes = _figure(1, clock)
    for axis, name in zip(axes[0], PANELS, strict=True):
        for method in dict.fromkeys(edit.method for edit in edits):
            curves = [
                compared(edit, name, ends, clock) for edit in edits if edit.method == method and edit.task in ends
            ]
            for times, values in curves:
                axis.plot(times, values, color=COLOURS[method], linewidth=0.6, alpha=0.35)
            if curves:
                shared = np.unique(np.concatenate([times for times, _ in curves]))
                middle = np.nanmedian([np.interp(shared, *curve) for curve in curves], axis=0)
                axis.plot(shared, middle, color=COLOURS[method], linewidth=2.2, marker=".", label=method)
        axis.set_ylabel(PANELS[name])
    axes[0][0].set_ylabel(f"PSNR inside, dB, less {BASELINE}'s last")
    axes[0][2].set_ylabel("PSNR outside, dB, less unedited")
    axes[0][0].legend(fontsize=8)
    _save(figure, file)


def compared(
    edit: Edit, name: str, ends: Mapping[tuple[int, str, float | None], float], clock: Clock
) -> tuple[list[float], list[float]]:
    """Times and values of one figure of an edit, less what it is to be compared with.

    Args:
        edit: The edit.
        name: Of the figure.
        ends: PSNR inside the region that the baseline ended with, by world, prompt and disagreement.
        clock: What the times count.
    """
    times, values = _curve(edit, name, clock)
    less = {"inside": ends[edit.task], "change": 0.0, "outside": edit.points[0].outside}[name]
    return times, [value - less for value in values]


def _curve(edit: Edit, name: str, clock: Clock) -> tuple[list[float], list[float]]:
    """Times and values of one figure of an edit."""
    return [getattr(point, clock) for point in edit.points], [getattr(point, name) for point in edit.points]


def _figure(rows: int, clock: Clock) -> tuple[Any, Any]:
    """A figure, and its axes in rows of one for each panel, over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 3.8 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, len(PANELS), squeeze=False)
    for axis in axes.flat:
        axis.set_xlabel("seconds of editing" if clock == "seconds" else "CPU seconds of editing")
        axis.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, file: Path) -> None:
    """Writes a figure whose time begins at 0."""
    for axis in figure.axes:
        axis.set_xlim(left=0.0)  # Only now that all is drawn: it also fixes where the axis ends.
    figure.savefig(file, dpi=110)
