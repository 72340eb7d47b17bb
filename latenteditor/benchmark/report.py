"""What the runs of a benchmark came to: tables, and a list of points."""

import csv
import math
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from latenteditor.benchmark.curves import Clock, Point, crossing
from latenteditor.benchmark.final_views import FinalViews, leaks_to
from latenteditor.figures import markdown_table

Column = tuple[str, Callable[[dict[str, Any]], str]]
"""Its head, and how a method's row fills it."""
BASELINE = "in2n"
"""The method whose final quality the others are to reach."""
SHARE_OF_GOAL = {"inside": 1.0, "change": 0.95}
"""How much of the baseline's last figure must be reached, which is PSNR in dB or a share that levels off below 1."""


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
    final: FinalViews | None = None
    """What the held-out views look like in the end."""
    sharpness: float = math.nan
    """Of what it left inside the region, see `quality.sharpness`; NaN where that was not measured."""
    disagreement: float | None = None
    """How far its views disagreed, where the oracle edited them."""

    @property
    def task(self) -> tuple[int, str, float | None]:
        """What it shares with the edits that it is compared with."""
        return self.seed, self.prompt, self.disagreement


class Reached(NamedTuple):
    """When an edit reached a goal."""

    time: float
    """Infinite where it never did; NaN where there is no baseline."""
    sooner: float
    """How often that fits into the time that the baseline itself took to the goal; 0 where it was never reached."""


def reach(edit: Edit, edits: Sequence[Edit], goal: str, tolerance: float, clock: Clock) -> Reached:
    """When an edit reached what the baseline's edit of the same world by the same prompt ended with.

    It must not damage the rest by more than the baseline did. What that is, is counted from each one's own unedited
    scene: a scene of colours is sharper than one of latents everywhere, edited or not.

    Args:
        edit: The edit.
        edits: The baseline is looked for among these.
        goal: The figure of a point that has to reach `SHARE_OF_GOAL` of the baseline's.
        tolerance: What may be lost outside the region beyond what the baseline lost, in dB.
        clock: What to count.
    """
    same = [other for other in edits if other.task == edit.task]
    baseline = next((other for other in same if other.method == BASELINE), None)
    if baseline is None:
        return Reached(math.nan, math.nan)
    last = baseline.points[-1]
    wanted, allowed = SHARE_OF_GOAL[goal] * getattr(last, goal), last.outside - baseline.points[0].outside - tolerance

    def time(of: Edit) -> float:
        return crossing(of.points, {goal: wanted, "outside": of.points[0].outside + allowed}, clock)

    own = time(edit)
    return Reached(own, time(baseline) / own if own > 0 else math.nan)


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
    """A row for each disagreement and method, in the order of `edits`: medians over its edits.

    A time that is never reached is infinite, and so is the median if most are. Figures that a method does not have are
    NaN.
    """
    groups: dict[tuple[float | None, str], list[Edit]] = {}
    for edit in edits:
        groups.setdefault((edit.disagreement, edit.method), []).append(edit)
    return [_row(own, edits, tolerance, clock) for own in groups.values()]


def _row(own: Sequence[Edit], edits: Sequence[Edit], tolerance: float, clock: Clock) -> dict[str, Any]:
    """Medians over the edits of one method, among all."""
    last, begun = [edit.points[-1] for edit in own], [edit.points[0] for edit in own if len(edit.points) > 1]
    return {
        "method": own[0].method,
        "disagreement": own[0].disagreement,
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
        "inside_unedited": _median(point.inside for point in begun),
        "inside": _median(point.inside for point in last),
        "outside_unedited": _median(point.outside for point in begun),
        "outside": _median(point.outside for point in last),
        "change": _median(point.change for point in last),
        **_final(own),
        "sharpness": _median(edit.sharpness for edit in own),
        "reached": {goal: _reached(own, edits, goal, tolerance, clock) for goal in SHARE_OF_GOAL},
    }


def _final(own: Sequence[Edit]) -> dict[str, float]:
    """What the held-out views of one method look like in the end."""
    found = [edit.final for edit in own if edit.final is not None]
    lost = [edit.points[-1].outside - edit.points[0].outside for edit in own if len(edit.points) > 1]
    return {
        "lpips_inside": _median(views.lpips_inside for views in found),
        "lpips_outside": _median(views.lpips_outside for views in found),
        "outside_change": _median(lost),
        "leaks_to": _median(leaks_to(views.leakage) for views in found),
    }


def _reached(own: Sequence[Edit], edits: Sequence[Edit], goal: str, tolerance: float, clock: Clock) -> dict[str, Any]:
    """When the edits of one method reached a goal, and how many did."""
    found = [reach(edit, edits, goal, tolerance, clock) for edit in own]
    return {
        "time": _median(row.time for row in found),
        "times_sooner": _median(row.sooner for row in found),
        "edits": sum(math.isfinite(row.time) for row in found),
    }


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
    lines = [
        *_table(_quality_columns(unit), rows),
        "",
        *_table(_final_columns(), rows),
        "",
        *_table(_cost_columns(unit), rows),
        "",
        "Medians over all edits. PSNR against the truth, on held-out views, in and outside the true region: unedited "
        "-> edited. Change is how much of the demanded change the region shows, blurred or not; sharpness "
        "is that inside the region, 1 is the truth's. A goal is reached when "
        f"the rest has lost no more than it has to {BASELINE}, and {tolerance:g} dB. Times sooner are relative to when "
        f"{BASELINE} itself came there, 0 where a method never does. No time contains measuring. Memory is of the "
        "edit's process, libraries and networks included. LPIPS is the mean of its map over the region, and over the "
        "rest. An edit leaks as far from the region as the mean absolute change against the unedited scene is 1 of 255 "
        "or more.",
        "",
        *(f"- {note}" for note in notes),
        "- Machine: " + ", ".join(f"{name} {value}" for name, value in about.items()) + ".",
        f"- Command: `{command}`",
        "",
    ]
    return "\n".join(lines)


def _quality_columns(unit: str) -> list[Column]:
    """What became of the edits, and when they were as good as the baseline's."""
    return [
        ("method", _name),
        ("edits", lambda row: f"{row['edits']}"),
        ("inside, dB", lambda row: _change(row["inside_unedited"], row["inside"])),
        ("outside, dB", lambda row: _change(row["outside_unedited"], row["outside"])),
        ("change", lambda row: _number(row["change"], 2)),
        ("sharpness", lambda row: _number(row["sharpness"], 2)),
        ("mask IoU", lambda row: _number(row["mask_iou"], 2)),
        *_goal_columns("inside", f"{BASELINE}'s inside", unit),
        *_goal_columns("change", f"{SHARE_OF_GOAL['change']:.0%} of its change", unit),
    ]


def _final_columns() -> list[Column]:
    """What the edits look like in the end."""
    return [
        ("method", lambda row: row["method"]),
        ("LPIPS inside", lambda row: _number(row["lpips_inside"], 3)),
        ("LPIPS outside", lambda row: _number(row["lpips_outside"], 3)),
        ("outside, dB against its unedited scene", lambda row: _signed(row["outside_change"])),
        ("leaks to, pixels", lambda row: "all" if math.isinf(row["leaks_to"]) else _number(row["leaks_to"])),
    ]


def _cost_columns(unit: str) -> list[Column]:
    """What the edits took."""
    return [
        ("method", _name),
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
    ]


def _goal_columns(goal: str, name: str, unit: str) -> list[Column]:
    """When a goal was reached, and how often."""
    return [
        (f"to {name}, {unit}", lambda row: _time(row["reached"][goal]["time"])),
        ("times sooner", lambda row: _number(row["reached"][goal]["times_sooner"], 1)),
        ("reached", lambda row: f"{row['reached'][goal]['edits']} of {row['edits']}"),
    ]


def _table(columns: Sequence[Column], rows: Sequence[dict[str, Any]]) -> list[str]:
    """A row for each method."""
    return markdown_table([head for head, _ in columns], [[cell(row) for _, cell in columns] for row in rows])


def write_points(file: Path, edits: Sequence[Edit]) -> None:
    """Every measured point of every edit, a line each, as CSV."""
    names = [entry.name for entry in fields(Point)]
    with file.open("w", newline="") as output:
        writer = csv.DictWriter(output, ["method", "seed", "prompt", "disagreement", *names])
        writer.writeheader()
        for edit in edits:
            for point in edit.points:
                about = {name: getattr(edit, name) for name in ("method", "seed", "prompt", "disagreement")}
                writer.writerow({**about, **asdict(point)})


def _median(values: Any) -> float:
    """The median of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(median(known)) if known else math.nan


def _name(row: dict[str, Any]) -> str:
    """A method, and by how much its views disagreed."""
    return row["method"] + ("" if row["disagreement"] is None else f", {row['disagreement']:g}")


def _number(value: float, digits: int = 0) -> str:
    """A figure, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:,.{digits}f}"


def _signed(value: float) -> str:
    """A difference, or nothing where there is none."""
    return "" if math.isnan(value) else f"{value:+.2f}"


def _change(before: float, after: float) -> str:
    """From one figure to another."""
    return _number(after, 1) if math.isnan(before) else f"{before:.1f} -> {after:.1f}"


def _time(seconds: float) -> str:
    """A time that may never come."""
    return "never" if math.isinf(seconds) else _number(seconds, 1)
