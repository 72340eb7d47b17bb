"""The mask found in each view against the mask that all views agree on, on the held-out views of built-in worlds.

Figures are kept for each view, also of those that hardly see the region, and summed up afterwards: so a smallest region
can be chosen without measuring again. PSNR is in decibels and None where nothing is compared.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.metrics import coverage, mask_iou, psnr
from latenteditor.figures import markdown_table
from latenteditor.worlds.held_out import HeldOut

MASKS = ("per-view", "field")
"""The masks that are compared, as `EditConfig.mask` names them."""
PLAIN = "none"
"""The method without a mask: no score, no relevance head."""
COSTS = ("survey_seconds", "relevance_seconds", "seconds_per_view_edit", "command_seconds", "memory_bytes", "gpu_bytes")
"""What an edit costs, in the order of `cost_table`."""

Costs = Mapping[str, float | int]
"""The figures of `COSTS` that one edit has."""


def measure_views(
    views: HeldOut,
    masks: Mapping[str, Bool[Tensor, "views 1 height width"]],
    renders: Mapping[str, Float[Tensor, "views 3 height width"]],
) -> list[dict[str, Any]]:
    """For each view its name, the share of it that the region takes, and the figures of each mask and render."""
    region = views.region
    inside = {name: psnr(images, views.truth, region) for name, images in renders.items()}
    outside = {name: psnr(images, views.truth, ~region) for name, images in renders.items()}
    overlap = {name: mask_iou(mask, region) for name, mask in masks.items()}
    share = {name: coverage(mask) for name, mask in masks.items()}
    return [
        {
            "view": view,
            "region": coverage(region)[row].item(),
            "mask_iou": _row(overlap, row),
            "mask_coverage": _row(share, row),
            "psnr_inside": _row(inside, row),
            "psnr_outside": _row(outside, row),
        }
        for row, view in enumerate(views.names)
    ]


def largest_difference_outside(
    images: Float[Tensor, "views 3 height width"],
    unedited: Float[Tensor, "views 3 height width"],
    shown: Bool[Tensor, "views 1 height width"],
) -> list[float]:
    """The largest absolute difference of each view over pixels that show nothing of the edit; 0 if there are none."""
    return ((images - unedited).abs() * ~shown).flatten(1).amax(dim=1).tolist()


def summarise_views(views: Sequence[Mapping[str, Any]], least_region: float) -> dict[str, Any]:
    """Means over the views that see the region, the worst IoU among them, and how many these are.

    Args:
        views: As `measure_views` returns them.
        least_region: A view counts if the region takes at least this share of its pixels.
    """
    seen = [view for view in views if view["region"] >= least_region]
    overlaps = _columns(seen, "mask_iou")
    return {
        "views": len(seen),
        "mask_iou": {name: mean(values) for name, values in overlaps.items()},
        "worst_mask_iou": {name: min(values) for name, values in overlaps.items()},
        "psnr_inside": {name: mean(values) for name, values in _columns(seen, "psnr_inside").items()},
        "psnr_outside": {name: mean(values) for name, values in _columns(seen, "psnr_outside").items()},
    }


def summarise_worlds(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over worlds, the worst view of all, and all views that count."""
    worst = _columns(summaries, "worst_mask_iou")
    means = ("mask_iou", "psnr_inside", "psnr_outside")
    return {
        "views": sum(summary["views"] for summary in summaries),
        "worst_mask_iou": {name: min(values) for name, values in worst.items()},
        **{key: {name: mean(values) for name, values in _columns(summaries, key).items()} for key in means},
    }


def compare_worlds(worlds: Sequence[Mapping[str, Any]], least_region: float) -> dict[str, Any]:
    """All figures of some worlds: summed up for each, under its seed, and for "all".

    Args:
        worlds: What was measured, with the `seed`, the `views` as `measure_views` returns them and the `costs` of each.
        least_region: A view counts if the region takes at least this share of its pixels.
    """
    summaries = {str(world["seed"]): summarise_views(world["views"], least_region) for world in worlds}
    summaries["all"] = summarise_worlds(list(summaries.values()))
    costs = mean_costs([world["costs"] for world in worlds])
    return {"least_region": least_region, "worlds": list(worlds), "summaries": summaries, "mean_costs": costs}


def mask_table(worlds: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Markdown lines: mean and worst IoU of each mask, for each named summary."""
    heads = [f"{mask}, {what}" for mask in MASKS for what in ("mean IoU", "worst view")]
    rows = [
        [name, str(summary["views"])]
        + [number(summary[key].get(mask), 2) for mask in MASKS for key in ("mask_iou", "worst_mask_iou")]
        for name, summary in worlds.items()
    ]
    return markdown_table(["world", "views", *heads], rows)


def psnr_table(worlds: Mapping[str, Mapping[str, Any]], renders: Sequence[str]) -> list[str]:
    """Markdown lines: PSNR of each render inside and outside the region, for each named summary."""
    keys = ("psnr_inside", "psnr_outside")
    heads = [f"{name}, {key.removeprefix('psnr_')}" for name in renders for key in keys]
    rows = [
        [name, *(number(summary[key].get(render), 2) for render in renders for key in keys)]
        for name, summary in worlds.items()
    ]
    return markdown_table(["world", *heads], rows)


def cost_table(costs: Mapping[str, Costs]) -> list[str]:
    """Markdown lines: what each mask costs and, where the plain method was run too, what the others cost more."""
    heads = ["mask", "survey, s", "of it relevance, s", "a view edit, s", "ns-train, s", "memory, MB", "GPU memory, MB"]

    def row(name: str, values: Costs) -> list[str]:
        shown = ((values.get(cost), 1e-6 if cost.endswith("bytes") else 1.0) for cost in COSTS)
        digits = (1, 1, 2, 1, 0, 0)
        scaled = [None if value is None else value * scale for value, scale in shown]
        return [name, *(number(value, count) for value, count in zip(scaled, digits, strict=True))]

    rows = [row(name, values) for name, values in costs.items()]
    if PLAIN in costs:
        base = costs[PLAIN]
        rows += [
            row(f"{name} over {PLAIN}", {cost: values[cost] - base[cost] for cost in COSTS if cost in values})
            for name, values in costs.items()
            if name != PLAIN
        ]
    return markdown_table(heads, rows)


def mean_costs(costs: Sequence[Mapping[str, Costs]]) -> dict[str, dict[str, float]]:
    """The mean over worlds of each cost of each mask."""
    return {
        name: {cost: mean([world[name][cost] for world in costs]) for cost in COSTS if cost in costs[0][name]}
        for name in costs[0]
    }


def number(value: float | None, digits: int) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"


def mean(values: Sequence[float | int]) -> float:
    """The mean of one or more numbers."""
    return sum(values) / len(values)


def _columns(rows: Sequence[Mapping[str, Any]], key: str) -> dict[str, list[float]]:
    """The figures of a key by name, without those that are missing."""
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row[key].items():
            if value is not None:
                columns.setdefault(name, []).append(value)
    return columns


def _row(figures: Mapping[str, Float[Tensor, " views"]], row: int) -> dict[str, float | None]:
    """The figures of one view; JSON knows neither NaN nor infinity."""
    values = {name: values[row].item() for name, values in figures.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
