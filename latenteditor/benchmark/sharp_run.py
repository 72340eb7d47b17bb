"""The run of `latenteditor-sharp`: a short edit in latents, some views edited from it, and a finish in colours."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from latenteditor.benchmark.curves import Point
from latenteditor.benchmark.jobs import PICTURE, Job, call_after_steps, checkpoints, costs, set_up_edit, write_row
from latenteditor.benchmark.quality import masks_iou, quality, render
from latenteditor.benchmark.settings import METHODS, edit_config, finish_noise
from latenteditor.benchmark.stopwatch import Stopwatch
from latenteditor.handoff.finish import DENSE, Finish, set_up_finish
from latenteditor.handoff.write import WriteConfig, write_pipeline
from latenteditor.worlds.held_out import HeldOut, read_held_out

DATASET = "dataset"


def edit_and_finish(job: Job, folder: Path) -> dict[str, Any]:
    """Edits a scene of latents, writes its photographs, and finishes the scene of colours on them.

    Its points are those of the finish: what is shown before it is the unedited scene of colours. The clock runs from
    the first look at the views; loading networks and scenes is set up, as it is for the other methods.
    """
    device = torch.device(job.device)
    setup, watch = Stopwatch(device), Stopwatch(device)
    edited, pipeline, view_edits = _edit(job, folder, setup, watch)
    iou, seconds_per_edit = masks_iou(pipeline, job.world, job.prompt), pipeline.update.progress.seconds_per_edit
    del pipeline
    with setup.running():
        colours = checkpoints(_known(job.base), "colours").parent / "config.yml"
        steps = job.settings.sharp_finish_steps
        finisher = set_up_finish(
            Finish(folder / DATASET, edited, folder / "finished", DENSE, colours, steps, job.device)
        )
    measures = _Measures(finisher, watch, read_held_out(job.world, job.prompt), view_edits, iou)
    measures.add(0)
    call_after_steps(finisher, lambda step: measures.after_step(step, job.settings.sharp_steps_per_point, steps))
    with watch.running():
        finisher.train()
    write_row(folder / PICTURE, measures.images)
    return {
        "setup_seconds": setup.seconds,
        "seconds_per_view_edit": seconds_per_edit,
        "points": [asdict(point) for point in measures.points],
        **costs(watch),
        "peak_memory_mib": max(setup.peak_memory, watch.peak_memory),
    }


def _edit(job: Job, folder: Path, setup: Stopwatch, watch: Stopwatch) -> tuple[Path, Any, int]:
    """The edit in latents and the photographs that come of it; the run's settings, its pipeline, the view edits."""
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
    edits = trainer.pipeline.update.progress.edits + sum(view.share > 0 for view in written)
    return config.get_base_dir() / "config.yml", trainer.pipeline, edits


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
