"""Runs that end with a finish in colours: `latenteditor-sharp`, and those that say what a finish does by itself.

`latenteditor-sharp` is a short edit in latents, views edited from it, and the finish on those. `black-box` is finished
on what a function makes of the photographs, `refit` on these as they are, and `truth` on what they should become.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from latenteditor.benchmark import black_boxes
from latenteditor.benchmark.curves import Point
from latenteditor.benchmark.jobs import PICTURE, Job, call_after_steps, checkpoints, costs, set_up_edit, write_row
from latenteditor.benchmark.quality import masks_iou, quality, render
from latenteditor.benchmark.settings import METHODS, edit_config, finish_noise
from latenteditor.benchmark.stopwatch import Stopwatch
from latenteditor.black_box.settings import BlackBoxConfig
from latenteditor.editing.black_box import Calls
from latenteditor.editing.metrics import mask_iou
from latenteditor.handoff.capture_views import CapturedView, read_capture
from latenteditor.handoff.dataset import IMAGES, WrittenView, describe_written, write_photographs, write_transforms
from latenteditor.handoff.finish import DENSE, Finish, set_up_finish
from latenteditor.handoff.overlay import Overlay
from latenteditor.handoff.region_rays import edit_mask_of
from latenteditor.handoff.write import WriteConfig, write_edited_dataset, write_pipeline
from latenteditor.handoff.write_pictures import PictureConfig, write_pictures_of
from latenteditor.nerf.loaded_run import load_run
from latenteditor.pictures import read_image, read_regions, to_picture
from latenteditor.worlds.dataset import truth_folder
from latenteditor.worlds.held_out import HeldOut, read_held_out

DATASET = "dataset"


class _Written(NamedTuple):
    """A dataset to finish on."""

    run: Path
    """The config.yml of the run whose cameras it has."""
    view_edits: int = 0
    mask_iou: float = math.nan
    seconds_per_edit: float = math.nan


def edit_and_finish(job: Job, folder: Path) -> dict[str, Any]:
    """Writes photographs, edited as its method says, and finishes the scene of colours on them.

    Its points are those of the finish: what is shown before it is the unedited scene of colours. The clock runs from
    the first look at the views; loading networks and scenes is set up, as it is for the other methods.
    """
    device = torch.device(job.device)
    setup, watch = Stopwatch(device), Stopwatch(device)
    method = METHODS[job.method] if job.method else None
    assert method is not None and method.finish is not None
    colours = checkpoints(_known(job.base), "colours").parent / "config.yml"
    write = {"edit": _edit, "pictures": _ask, "photographs": _keep, "truth": _tell}[method.finish]
    written = write(job, folder, setup, watch, colours)
    with setup.running():
        steps = job.settings.sharp_finish_steps
        finisher = set_up_finish(
            Finish(folder / DATASET, written.run, folder / "finished", DENSE, colours, steps, job.device)
        )
    measures = _Measures(finisher, watch, read_held_out(job.world, job.prompt), written.view_edits, written.mask_iou)
    measures.add(0)
    call_after_steps(finisher, lambda step: measures.after_step(step, job.settings.sharp_steps_per_point, steps))
    with watch.running():
        finisher.train()
    write_row(folder / PICTURE, measures.images)
    return {
        "setup_seconds": setup.seconds,
        "seconds_per_view_edit": written.seconds_per_edit,
        "points": [asdict(point) for point in measures.points],
        **costs(watch),
        "peak_memory_mib": max(setup.peak_memory, watch.peak_memory),
    }


def _edit(job: Job, folder: Path, setup: Stopwatch, watch: Stopwatch, colours: Path) -> _Written:
    """The photographs as a scene of latents was edited to show them."""
    settings, method = job.settings, METHODS[job.method] if job.method else None
    assert method is not None
    base = checkpoints(_known(job.latents), "latents")
    config = edit_config(method, job.prompt, settings, job.world, folder / "runs", base, job.device)
    how = WriteConfig(settle_noise=finish_noise(method, settings), views=settings.sharp_views)
    with setup.running():
        trainer: Any = set_up_edit(job, config)
    (folder / DATASET).mkdir()
    with watch.running():
        trainer.train()
        written = write_pipeline(trainer.pipeline, folder / DATASET, how, {})
    pipeline = trainer.pipeline
    edits = pipeline.update.progress.edits + sum(view.share > 0 for view in written)
    iou = masks_iou(pipeline, job.world, job.prompt)
    return _Written(config.get_base_dir() / "config.yml", edits, iou, pipeline.update.progress.seconds_per_edit)


def _ask(job: Job, folder: Path, setup: Stopwatch, watch: Stopwatch, colours: Path) -> _Written:
    """The photographs as a black box makes them, where they agree that something changed."""
    method = METHODS[job.method] if job.method else None
    assert method is not None
    with setup.running():
        pipeline = load_run(colours).pipeline
    edit = replace(job.settings.edit, prompt=job.prompt, model=f"{black_boxes.__name__}:{method.black_box}")
    how = PictureConfig(edit, BlackBoxConfig(kept=folder / "pictures"), image_size=None)
    (folder / DATASET).mkdir()
    with watch.running():
        written = write_pictures_of(pipeline, folder / DATASET, how, Calls(), {})
    trained = [each for each in written if each.view.train_index is not None]
    iou = _written_iou(folder / DATASET, trained, job)
    return _Written(colours, len(trained), iou, watch.seconds / len(trained))


def _written_iou(dataset: Path, written: Sequence[WrittenView], job: Job) -> float:
    """The masks of written photographs against the true region; the mean over views that see it."""
    names = [each.view.photograph.name for each in written]
    regions = read_regions(truth_folder(job.world, job.prompt) / "region", names)
    masks = [edit_mask_of(dataset / IMAGES / each.name, dataset) for each in written]
    found = [
        torch.zeros_like(region, dtype=torch.bool) if mask is None else read_image(mask)[:1] > 0.5
        for mask, region in zip(masks, regions, strict=True)
    ]
    return mask_iou(torch.stack(found), regions)[regions.flatten(1).any(dim=1)].mean().item()


def _keep(job: Job, folder: Path, setup: Stopwatch, watch: Stopwatch, colours: Path) -> _Written:
    """The photographs as they are."""
    with watch.running():
        write_edited_dataset(colours, folder / DATASET, WriteConfig())
    return _Written(colours)


def _tell(job: Job, folder: Path, setup: Stopwatch, watch: Stopwatch, colours: Path) -> _Written:
    """The photographs as they should become, pixel by pixel."""
    with setup.running():
        capture = read_capture(load_run(colours).pipeline.datamanager)  # type: ignore[arg-type]
    truth = truth_folder(job.world, job.prompt)

    def becomes(view: CapturedView, photograph: np.ndarray) -> Overlay:
        region = read_regions(truth / "region", [view.photograph.name])[0, 0]
        return Overlay(to_picture(read_image(truth / "images" / view.photograph.name)), region.float().numpy())

    (folder / DATASET).mkdir()
    with watch.running():
        written = write_photographs(folder / DATASET, capture, becomes)
        write_transforms(folder / DATASET, describe_written(folder / DATASET, capture, written))
    return _Written(colours)


class _Measures:
    """What a finish has come to, again and again, with the clock stopped."""

    def __init__(self, trainer: Any, watch: Stopwatch, views: HeldOut, view_edits: int, mask_iou: float) -> None:
        """Measures nothing yet."""
        self._trainer, self._watch, self._views = trainer, watch, views
        self._view_edits, self._mask_iou = view_edits, mask_iou
        self._first_step = trainer._start_step
        self.points: list[Point] = []
        self.images = views.photographs
        """The held-out views as they were measured last."""

    def add(self, steps: int) -> None:
        """Adds a point; that before the first step shows what nothing was spent on yet."""
        watch = self._watch
        self.images = render(self._trainer.pipeline)
        spent = (
            (watch.seconds, watch.cpu_seconds, steps, self._view_edits, watch.rays) if steps else (0.0, 0.0, 0, 0, 0)
        )
        self.points.append(Point(*spent, *quality(self.images, self._views), self._mask_iou))

    def after_step(self, step: int, every: int, last: int) -> None:
        """Measures where it is due."""
        steps = step + 1 - self._first_step
        if steps % every == 0 or steps == last:
            with self._watch.paused():
                self.add(steps)


def _known(folder: Path | None) -> Path:
    assert folder is not None
    return folder
