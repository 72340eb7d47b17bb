"""A built-in world edited with each mask in turn, for ``mask_comparison.py`` to compare.

Beside what every world's folder holds, see ``runs.py``, it gets for KIND, which is "masks" or "edits"::

    KIND.png     rows: photograph, per-view mask, field mask, edited with either, truth; columns: held-out views
    KIND.json    the figures of each held-out view, and what each edit cost
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from latenteditor.benchmark.mask_comparison import MASKS, PLAIN, largest_difference_outside, measure_views
from latenteditor.benchmark.world_runs import WorldFolder, edit_flags
from latenteditor.editing.delta_mask import relevance_mask
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.editors import load_denoiser
from latenteditor.pictures import grid, highlight, write_picture
from latenteditor.runs import Run, Say, run_stages
from latenteditor.worlds.held_out import HeldOut, read_held_out
from latenteditor.worlds.report import at_pixels, find_masks

COMPOSITE = "composite"
"""The edit by the field mask, with the unedited scene shown outside its region."""
UNEDITED = "unedited"


class Rendered(NamedTuple):
    """What a run shows from the held-out cameras, on the CPU; empty lists where it was not asked for or has none."""

    images: list[Tensor]
    """RGB in [0, 1], of shape (3, height, width)."""
    masks: list[Tensor]
    """Where its relevance allows a change, of shape (1, height, width)."""
    composites: list[Tensor]
    """As `images`, with the unedited scene outside the region of the edit."""
    shown: list[Tensor]
    """The pixels at which a composite shows anything of the edit, of shape (1, height, width)."""
    costs: dict[str, float | int]
    """What the run has recorded of its edit."""


@dataclass(frozen=True)
class MaskEdits:
    """What one world is edited by."""

    folder: WorldFolder
    prompt: str
    masks: Sequence[str]
    """The masks to edit with, as `EditConfig.mask` names them."""
    whole: bool
    """Whether edits run to their end; else each ends after its first view, for masks and what they cost."""

    @property
    def kind(self) -> str:
        """What tells the files of whole edits from those of masks alone."""
        return "edits" if self.whole else "masks"

    @property
    def runs(self) -> dict[str, Run]:
        """The run of each mask."""
        return {mask: self.folder.edit(f"{self.kind}-{mask}") for mask in self.masks}

    def file(self, suffix: str) -> Path:
        """Its picture or its figures."""
        return self.folder.path / f"{self.kind}{suffix}"


def edit_with_masks(edits: MaskEdits, say: Say) -> dict[str, Any]:
    """One world from photographs to figures; stages that an interrupted run finished are not run again."""
    folder = edits.folder
    folder.begin(edits.prompt)
    stages: dict[str, Callable[[], object]] = {
        "photographs": folder.photograph,
        "reconstruction": lambda: train(folder, folder.reconstruction, folder.config.reconstruction_steps),
        "truth": lambda: folder.write_truth(edits.prompt),
        **{run.name: lambda mask=mask: edit(edits, mask) for mask, run in edits.runs.items()},
        f"{edits.kind}-report" + ("-plain" if PLAIN in edits.masks else ""): lambda: report(edits),
    }
    seconds = run_stages(stages, folder.path / "seconds.json", list(stages)[-1], say)
    say(f"Picture: {edits.file('.png')}")
    figures = json.loads(edits.file(".json").read_text())
    for mask, run in edits.runs.items():
        figures["costs"][mask]["command_seconds"] = seconds[run.name]
    return {"seed": folder.seed, "prompt": edits.prompt, **figures, "seconds": seconds}


def edit(edits: MaskEdits, mask: str) -> None:
    """The edit with one mask."""
    folder = edits.folder
    config = replace(folder.config, edit=replace(folder.config.edit, mask=mask))
    steps = config.edit_steps if edits.whole else 1
    train(folder, edits.runs[mask], steps, *edit_flags(config, edits.prompt, folder.reconstruction))


def train(folder: WorldFolder, run: Run, steps: int, *flags: object) -> None:
    """A run of ns-train, the most memory it held kept beside it."""
    peak = folder.train_measured(run, steps, *flags)
    (run.path / "memory.json").write_text(json.dumps({"memory_bytes": peak}) + "\n")


def report(edits: MaskEdits) -> None:
    """Measures the edits, and draws their picture."""
    figures, picture = measure(edits, read_held_out(edits.folder.data, edits.prompt))
    write_picture(edits.file(".png"), picture)
    edits.file(".json").write_text(json.dumps(figures, indent=2) + "\n")


def measure(edits: MaskEdits, views: HeldOut) -> tuple[dict[str, Any], UInt8[np.ndarray, "height width 3"]]:
    """The figures of each held-out view, the costs of each edit, and a picture."""
    folder = edits.folder
    rendered = {mask: render(run, views, edits.whole) for mask, run in edits.runs.items()}
    masks = {"per-view": per_view_masks(edits, views), "field": torch.stack(rendered["field"].masks)}
    images: dict[str, Tensor] = {}
    if edits.whole:
        images = {mask: torch.stack(result.images) for mask, result in rendered.items()}
        images[UNEDITED] = torch.stack(render(folder.reconstruction, views, True).images)
        images[COMPOSITE] = torch.stack(rendered["field"].composites)
    figures = measure_views(views, masks, images)
    if edits.whole:
        shown = torch.stack(rendered["field"].shown)
        differences = largest_difference_outside(images[COMPOSITE], images[UNEDITED], shown)
        for view, difference in zip(figures, differences, strict=True):
            view["composite_difference"] = difference
    rows = [views.photographs, *(highlight(views.photographs, masks[mask]) for mask in MASKS)]
    rows += [*(images[mask] for mask in MASKS if mask in images), views.truth]
    costs = {mask: {**result.costs, **memory(edits.runs[mask])} for mask, result in rendered.items()}
    return {"views": figures, "costs": costs}, grid([list(row) for row in rows])


def per_view_masks(edits: MaskEdits, views: HeldOut) -> Tensor:
    """The masks that the editor finds in the held-out photographs."""
    edit, device = edits.folder.config.edit, edits.folder.device
    autoencoder, denoiser = load_autoencoder(edit.model, device), load_denoiser(edit.model, device)
    return find_masks(views, edits.prompt, autoencoder, denoiser, edit)


@torch.no_grad()
def render(run: Run, views: HeldOut, with_images: bool) -> Rendered:
    """Loads a run to look at it, without the networks that edit, and renders its held-out views."""
    from nerfstudio.utils.eval_utils import eval_setup

    config, loaded, _, _ = eval_setup(run.config, test_mode="test")
    settings: Any = config.pipeline
    pipeline: Any = loaded
    model, data = pipeline.model, pipeline.datamanager
    edited = hasattr(settings, "edit")
    rendered = Rendered([], [], [], [], recorded_costs(pipeline) if edited else {})
    rows = {Path(name).name: row for row, name in enumerate(data.eval_dataset.image_filenames)}
    for row in (rows[name] for name in views.names):
        camera = data.eval_dataset.cameras[row : row + 1].to(pipeline.device)
        if with_images:
            rendered.images.append(_image(model.get_outputs_for_camera(camera)))
        if edited and settings.edit.mask == "field":
            _add_field(rendered, pipeline, row, views, with_images)
    return rendered


def _add_field(rendered: Rendered, pipeline: Any, row: int, views: HeldOut, with_images: bool) -> None:
    """Adds what the relevance head of the field shows of one view."""
    model, data = pipeline.model, pipeline.datamanager
    rays = data.eval_cameras[row : row + 1].to(pipeline.device).generate_rays(camera_indices=0, keep_shape=True)
    active = [layer.number for layer in model.layers.active]
    relevance = model.render_relevance(rays, active).permute(2, 0, 1)[None]
    rendered.masks.append(at_pixels(relevance_mask(relevance, model.delta_mask), views.region[:1])[0])
    if with_images:
        size = tuple(views.region.shape[-2:])
        rendered.shown.append((model.region(rays, active, size) > 0).permute(2, 0, 1).cpu())
        camera = data.eval_dataset.cameras[row : row + 1].to(pipeline.device)
        model.config.composite = True
        rendered.composites.append(_image(model.get_outputs_for_camera(camera)))
        model.config.composite = False


def recorded_costs(pipeline: Any) -> dict[str, float | int]:
    """What an edited run has recorded of its edit."""
    costs = pipeline.costs
    return {
        "survey_seconds": costs.survey_seconds,
        "relevance_seconds": costs.relevance_seconds,
        "seconds_per_view_edit": costs.edit_seconds / max(costs.view_edits, 1),
        "gpu_bytes": costs.gpu_bytes,
    }


def memory(run: Run) -> dict[str, int]:
    """The most main memory that training a run took."""
    return json.loads((run.path / "memory.json").read_text())


def _image(outputs: dict[str, Tensor]) -> Tensor:
    """A render as the truth is laid out."""
    return outputs["rgb"].permute(2, 0, 1).clamp(0, 1).cpu()
