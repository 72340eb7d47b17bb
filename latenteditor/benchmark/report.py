"""What the runs of a benchmark came to: a table, a list of points, and curves."""

import csv
import math
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from latenteditor.benchmark.curves import Clock, Point, crossing
from latenteditor.figures import markdown_table

BASELINE = "in2n"
"""The method whose final quality the others are to reach."""
COLOURS = {
    "latenteditor": "tab:blue",
    "latenteditor-field": "tab:cyan",
    "in2n": "tab:red",
    "in2n-mask": "tab:orange",
    "alone": "tab:gray",
}


@dataclass(frozen=True)
class Edit:
    """One method's edit of one world by one prompt."""

    method: str
    seed: int
    """Of the world."""
    prompt: str
    points: tuple[Point, ...]
    """In the order of time; the last is the finished edit."""
    setup_seconds: float
    """To load networks, photographs and the unedited scene, before the edit's clock starts."""
    seconds_per_view_edit: float
    """To render, edit and replace one view; NaN without any."""
    peak_memory_mib: float
    """Highest resident memory of the process, measuring left out."""
    peak_gpu_memory_mib: float
    """Highest memory of tensors on the GPU, measuring left out; 0 without one."""
    reconstruction_seconds: float = math.nan
    """To learn the unedited scene; NaN without a scene."""
    reconstruction_psnr: float = math.nan
    """Of the unedited scene against the photographs of the held-out views, in dB; NaN without a scene."""


class Reached:
    """When an edit reached what the baseline's edit of the same world by the same prompt ended with.

    `inside` is the time to its PSNR inside the region, `both` that to both its figures, both infinite where it never
    comes; `sooner` is how often `both` fits into the time that the baseline itself took to what it ended with.
    """

    def __init__(self, edit: Edit, edits: Sequence[Edit], tolerance: float, clock: Clock) -> None:
        """Looks for the baseline among `edits`; `tolerance` is what may be lost outside the region, in dB."""
        same = [other for other in edits if (other.seed, other.prompt) == (edit.seed, edit.prompt)]
        baseline = next((other for other in same if other.method == BASELINE), None)
        self.inside = self.both = self.sooner = math.nan
        if baseline is not None:
            final = baseline.points[-1]
            self.inside = crossing(edit.points, final.inside, clock=clock)
            levels = final.inside, final.outside - tolerance, clock
            self.both = crossing(edit.points, *levels)
            if self.both > 0:
                self.sooner = crossing(baseline.points, *levels) / self.both


def machine() -> dict[str, Any]:
    """The machine and the versions of what ran on it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": models[0] if models else platform.processor() or platform.machine(),
        "cores": cores,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "torch": torch.__version__,
        "nerfstudio": version("nerfstudio"),
        "python": platform.python_version(),
    }


def summarise(edits: Sequence[Edit], tolerance: float, clock: Clock = "seconds") -> list[dict[str, Any]]:
    """A row for each method, in the order of `edits`: medians over its edits.

    A time that is never reached is infinite, and so is the median if most are. A method is `reached` as often as it
    meets both conditions. Figures that a method does not have are NaN.
    """
    rows = []
    for method in dict.fromkeys(edit.method for edit in edits):
        own = [edit for edit in edits if edit.method == method]
        reached = [Reached(edit, edits, tolerance, clock) for edit in own]
        last = [edit.points[-1] for edit in own]
        rows.append(
            {
                "method": method,
                "edits": len(own),
                "reconstruction_seconds": _median(edit.reconstruction_seconds for edit in own),
                "reconstruction_psnr": _median(edit.reconstruction_psnr for edit in own),
                "setup_seconds": _median(edit.setup_seconds for edit in own),
                "edit_seconds": _median(getattr(point, clock) for point in last),
                "seconds_per_view_edit": _median(edit.seconds_per_view_edit for edit in own),
                "view_edits": _median(point.view_edits for point in last),
                "steps": _median(point.steps for point in last),
                "rays": _median(point.rays for point in last),
                "peak_memory_mib": _median(edit.peak_memory_mib for edit in own),
                "peak_gpu_memory_mib": _median(edit.peak_gpu_memory_mib for edit in own),
                "mask_iou": _median(point.mask_iou for point in last),
                "inside_unedited": _median(edit.points[0].inside for edit in own if len(edit.points) > 1),
                "inside": _median(point.inside for point in last),
                "outside_unedited": _median(edit.points[0].outside for edit in own if len(edit.points) > 1),
                "outside": _median(point.outside for point in last),
                "to_inside": _median(row.inside for row in reached),
                "to_both": _median(row.both for row in reached),
                "times_sooner": _median(row.sooner for row in reached),
                "reached": sum(math.isfinite(row.both) for row in reached),
            }
        )
    return rows


def markdown(
    rows: Sequence[dict[str, Any]],
    about: dict[str, Any],
    command: str,
    notes: Sequence[str],
    tolerance: float,
    clock: Clock = "seconds",
) -> str:
    """The table, with the machine, the command and whatever else a reader has to know."""
    unit = "s" if clock == "seconds" else "CPU s"
    heads = [
        ("method", lambda row: row["method"]),
        ("reconstruct, s", lambda row: _number(row["reconstruction_seconds"])),
        ("reconstructed, dB", lambda row: _number(row["reconstruction_psnr"], 1)),
        ("set up, s", lambda row: _number(row["setup_seconds"], 1)),
        (f"edit, {unit}", lambda row: _number(row["edit_seconds"])),
        ("per view edit, s", lambda row: _number(row["seconds_per_view_edit"], 2)),
        ("view edits", lambda row: _number(row["view_edits"])),
        ("field steps", lambda row: _number(row["steps"])),
        ("rays, millions", lambda row: _number(row["rays"] / 1e6, 2)),
        ("memory, MiB", lambda row: _number(row["peak_memory_mib"])),
        ("GPU memory, MiB", lambda row: _number(row["peak_gpu_memory_mib"] or math.nan)),
        ("mask IoU", lambda row: _number(row["mask_iou"], 2)),
        ("inside, dB", lambda row: _change(row["inside_unedited"], row["inside"])),
        ("outside, dB", lambda row: _change(row["outside_unedited"], row["outside"])),
        (f"to {BASELINE}'s inside, {unit}", lambda row: _time(row["to_inside"])),
        (f"and outside within {tolerance:g} dB, {unit}", lambda row: _time(row["to_both"])),
        ("times sooner", lambda row: _number(row["times_sooner"], 1)),
        ("reached", lambda row: f"{row['reached']} of {row['edits']}"),
    ]
    lines = [
        *markdown_table([head for head, _ in heads], [[cell(row) for _, cell in heads] for row in rows]),
        "",
        "Medians over all edits. PSNR against the truth, on held-out views, in and outside the true region: unedited "
        "-> edited. Times do not contain measuring. Memory is of the edit's process, libraries and networks included.",
        "",
        *(f"- {note}" for note in notes),
        "- Machine: " + ", ".join(f"{name} {value}" for name, value in about.items()) + ".",
        f"- Command: `{command}`",
        "",
    ]
    return "\n".join(lines)


def write_points(file: Path, edits: Sequence[Edit]) -> None:
    """Every measured point of every edit, a line each, as CSV."""
    names = [entry.name for entry in fields(Point)]
    with file.open("w", newline="") as output:
        writer = csv.DictWriter(output, ["method", "seed", "prompt", *names])
        writer.writeheader()
        for edit in edits:
            for point in edit.points:
                writer.writerow({"method": edit.method, "seed": edit.seed, "prompt": edit.prompt, **asdict(point)})


def write_plot(file: Path, edits: Sequence[Edit], tolerance: float, clock: Clock = "seconds") -> None:
    """Curves of both figures over time: a row for each world and prompt; dashed, what the baseline ended with."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys((edit.seed, edit.prompt) for edit in edits))
    figure = Figure(figsize=(12, 3.6 * len(tasks)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(tasks), 2, squeeze=False)
    label = "seconds of editing" if clock == "seconds" else "CPU seconds of editing"
    for row, task in zip(axes, tasks, strict=True):
        own = [edit for edit in edits if (edit.seed, edit.prompt) == task]
        for axis, name in zip(row, ("inside", "outside"), strict=True):
            for edit in own:
                times = [getattr(point, clock) for point in edit.points]
                values = [getattr(point, name) for point in edit.points]
                marker = "o" if len(times) > 1 else "X"
                axis.plot(times, values, marker=marker, markersize=4, color=COLOURS[edit.method], label=edit.method)
                reached = Reached(edit, edits, tolerance, clock).both
                if name == "inside" and math.isfinite(reached):
                    axis.axvline(reached, color=COLOURS[edit.method], linewidth=0.8, linestyle=":")
                if edit.method == BASELINE:
                    level = values[-1] - (tolerance if name == "outside" else 0.0)
                    axis.axhline(level, color=COLOURS[BASELINE], linewidth=0.8, linestyle="--")
            # Linear up to a second, so that the beginning can be seen too.
            axis.set_xscale("symlog", linthresh=1.0)
            axis.set_xlim(left=0.0)
            axis.set_xlabel(label)
            axis.set_ylabel(f"PSNR {name} the region, dB")
            axis.set_title(f"{task[0]}: {task[1]}", fontsize=9)
            axis.grid(alpha=0.3)
        row[0].legend(fontsize=8)
    figure.savefig(file, dpi=110)


def write_overview(file: Path, edits: Sequence[Edit], clock: Clock = "seconds") -> None:
    """All edits at once: both figures over time, less what the baseline ended with; thick, the methods' medians."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, name in zip(figure.subplots(1, 2), ("inside", "outside"), strict=True):
        for method in dict.fromkeys(edit.method for edit in edits):
            curves = _over_baseline(edits, method, name, clock)
            for times, values in curves:
                axis.plot(times, values, color=COLOURS[method], linewidth=0.6, alpha=0.35)
            if curves:
                shared = np.unique(np.concatenate([times for times, _ in curves]))
                middle = np.nanmedian([np.interp(shared, *curve) for curve in curves], axis=0)
                axis.plot(shared, middle, color=COLOURS[method], linewidth=2.2, marker=".", label=method)
        axis.axhline(0.0, color=COLOURS[BASELINE], linewidth=0.8, linestyle="--")
        axis.set_xscale("symlog", linthresh=1.0)
        axis.set_xlim(left=0.0)
        axis.set_xlabel("seconds of editing" if clock == "seconds" else "CPU seconds of editing")
        axis.set_ylabel(f"PSNR {name} the region, dB, less {BASELINE}'s last")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def _over_baseline(
    edits: Sequence[Edit], method: str, name: str, clock: Clock
) -> list[tuple[list[float], list[float]]]:
    """Times and values of one method's edits, less what the baseline's edit by the same prompt ended with."""
    ends = {(edit.seed, edit.prompt): getattr(edit.points[-1], name) for edit in edits if edit.method == BASELINE}
    return [
        (
            [getattr(point, clock) for point in edit.points],
            [getattr(point, name) - ends[edit.seed, edit.prompt] for point in edit.points],
        )
        for edit in edits
        if edit.method == method and (edit.seed, edit.prompt) in ends
    ]


def _median(values: Any) -> float:
    """The median of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(median(known)) if known else math.nan


def _number(value: float, digits: int = 0) -> str:
    """A figure, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _change(before: float, after: float) -> str:
    """From one figure to another."""
    return _number(after, 1) if math.isnan(before) else f"{before:.1f} -> {after:.1f}"


def _time(seconds: float) -> str:
    """A time that may never come."""
    return "never" if math.isinf(seconds) else _number(seconds, 1)
