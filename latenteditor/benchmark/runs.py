"""One run of the benchmark, in a process of its own, so that its memory is its own too.

A run has a folder::

    result.json      what it was asked and what came of it; there is none until it has ended
    log.txt          what it said
    held-out.png     the held-out views as it leaves them
    runs/            nerfstudio's own files
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from nerfstudio.engine.trainer import Trainer

from latenteditor.benchmark.curves import Point
from latenteditor.benchmark.jobs import (
    PICTURE,
    Job,
    call_after_steps,
    checkpoints,
    costs,
    set_up,
    set_up_edit,
    write_row,
)
from latenteditor.benchmark.quality import masks_iou, quality, render
from latenteditor.benchmark.settings import (
    METHODS,
    edit_config,
    reconstruction_config,
)
from latenteditor.benchmark.sharp_run import edit_and_finish
from latenteditor.benchmark.stopwatch import Stopwatch
from latenteditor.editing.editor import edit_from_noise
from latenteditor.figures import write_figures
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.editors import load_denoiser
from latenteditor.options import flatten
from latenteditor.pictures import eight_bits
from latenteditor.worlds.held_out import HeldOut, read_held_out

RESULT, LOG = "result.json", "log.txt"


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Returns the result of a run: that of an earlier one of the same request, or that of a new process.

    Raises:
        ValueError: The folder holds the result of another request, or the run failed; the error shows its log's end.
    """
    result = folder / RESULT
    if not result.exists():
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        _in_own_process(job, folder)
    found = json.loads(result.read_text())
    if found["request"] != job.request:
        begun = {option.names: option.value for option in flatten(found["request"])}
        names = [option.dotted for option in flatten(job.request) if begun.get(option.names, ...) != option.value]
        raise ValueError(f"{folder} was begun with other {', '.join(names)}: choose another --output.")
    return found


def _in_own_process(job: Job, folder: Path) -> None:
    """Does the work of a run in a fresh process."""
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")  # Nothing here compiles; 3 s of imports are saved.
    process = get_context("spawn").Process(target=_run, args=(job, folder))
    process.start()
    process.join()
    if process.exitcode:
        log = folder / LOG
        last = "\n".join(log.read_text().splitlines()[-5:]) if log.exists() else "there is no log"
        raise ValueError(f"The run in {folder} failed; the end of its {LOG}:\n{last}")


def _run(job: Job, folder: Path) -> None:
    """The whole life of a run's process."""
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if job.settings.threads is not None:
        torch.set_num_threads(job.settings.threads)
    try:
        perform(job, folder)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def perform(job: Job, folder: Path) -> None:
    """Does the work of a run here and now, and writes its result."""
    load_before = os.getloadavg()[0]
    np.random.seed(job.settings.seed)
    torch.manual_seed(job.settings.seed)
    work = _work(job)
    content = {
        "request": job.request,
        **work(job, folder),
        "threads": torch.get_num_threads(),
        "load_average": [load_before, os.getloadavg()[0]],
    }
    partial = folder / "result.partial"
    write_figures(partial, content)
    os.replace(partial, folder / RESULT)


def _work(job: Job) -> Callable[[Job, Path], dict[str, Any]]:
    """What does a run's work."""
    if job.reconstruct is not None:
        return _reconstruct
    method = METHODS[job.method] if job.method else None
    return _edit_alone if method is None else _edit if method.finish is None else edit_and_finish


def _reconstruct(job: Job, folder: Path) -> dict[str, Any]:
    """Learns an unedited scene. Encoding or reading the photographs counts, importing libraries does not."""
    assert job.reconstruct is not None
    watch = Stopwatch(torch.device(job.device))
    watch.start()
    config = reconstruction_config(job.reconstruct, job.settings, job.world, folder / "runs", job.device)
    trainer = set_up(config)
    prepared, steps = watch.elapsed, 0

    def after_step(step: int) -> None:
        nonlocal steps
        steps += 1
        if job.budget_seconds is not None and watch.elapsed >= job.budget_seconds:
            trainer.stop_training = True
        if steps == config.max_num_iterations or trainer.stop_training:
            watch.stop()

    call_after_steps(trainer, after_step)
    trainer.train()
    images = render(trainer.pipeline)
    views = read_held_out(job.world, "")
    write_row(folder / PICTURE, images)
    return {"setup_seconds": prepared, "steps": steps, "psnr": quality(images, views).inside, **costs(watch)}


def _edit(job: Job, folder: Path) -> dict[str, Any]:
    """Edits a scene that was learnt before, and measures it on the way with the clock stopped."""
    method = METHODS[job.method] if job.method else None
    assert method is not None and job.base is not None
    views = read_held_out(job.world, job.prompt)
    setup, watch = Stopwatch(torch.device(job.device)), Stopwatch(torch.device(job.device))
    base = checkpoints(job.base, method.representation)
    config = edit_config(method, job.prompt, job.settings, job.world, folder / "runs", base, job.device)
    with setup.running():
        trainer = set_up_edit(job, config)
    progress = _Progress(job, trainer, watch, views)
    progress.measure()
    call_after_steps(trainer, progress.after_step)
    watch.start()
    trainer.train()
    watch.stop()  # Where the views show nothing that the prompt is about.
    write_row(folder / PICTURE, progress.images)
    pipeline: Any = trainer.pipeline
    points = progress.points
    return {
        "setup_seconds": setup.seconds,
        "seconds_per_view_edit": pipeline.update.progress.seconds_per_edit if points[-1].view_edits else float("nan"),
        "points": [asdict(point) for point in points],
        **costs(watch),
        "peak_memory_mib": max(setup.peak_memory, watch.peak_memory),
    }


class _Progress:
    """What an edit has come to, again and again; ends it when its time is up."""

    def __init__(self, job: Job, trainer: Trainer, watch: Stopwatch, views: HeldOut) -> None:
        """Measures nothing yet."""
        self._job, self._trainer, self._watch, self._views = job, trainer, watch, views
        self._steps = 0
        self.points: list[Point] = []
        self.images = views.photographs
        """The held-out views as they were measured last."""

    def measure(self) -> None:
        """Adds a point with the clock stopped."""
        pipeline: Any = self._trainer.pipeline
        watch = self._watch
        with watch.paused():
            self.images = render(pipeline)
            iou = masks_iou(pipeline, self._job.world, self._job.prompt)
            edits = pipeline.update.progress.edits
            costs = watch.seconds, watch.cpu_seconds, self._steps, edits, watch.rays
            self.points.append(Point(*costs, *quality(self.images, self._views), iou))

    def after_step(self, step: int) -> None:
        """Measures where it is due, and stops the clock after the last step."""
        settings, trainer = self._job.settings, self._trainer
        self._steps += 1
        if settings.max_edit_seconds is not None and self._watch.elapsed >= settings.max_edit_seconds:
            trainer.stop_training = True
        last = self._steps == trainer.config.max_num_iterations or trainer.stop_training
        if last or self._steps % settings.steps_per_point == 0:
            self.measure()
        if last:
            self._watch.stop()


def _edit_alone(job: Job, folder: Path) -> dict[str, Any]:
    """Edits each held-out photograph by itself, from noise: what the editor can do without a scene."""
    views = read_held_out(job.world, job.prompt)
    setup, watch = Stopwatch(torch.device(job.device)), Stopwatch(torch.device(job.device))
    config = replace(job.settings.edit, prompt=job.prompt)
    with setup.running():
        autoencoder = load_autoencoder(config.model, job.device)
        denoiser = load_denoiser(config.model, job.device)
        denoiser.embed(job.prompt)
    images = []
    with torch.no_grad(), watch.running():
        for photograph in views.photographs:
            latents = autoencoder.encode(photograph[None].to(autoencoder.device))
            images.append(autoencoder.decode(edit_from_noise(denoiser, latents, latents, config)).cpu())
    edited = eight_bits(torch.cat(images))
    write_row(folder / PICTURE, edited)
    point = Point(watch.seconds, watch.cpu_seconds, 0, len(images), 0, *quality(edited, views))
    return {
        "setup_seconds": setup.seconds,
        "seconds_per_view_edit": watch.seconds / len(images),
        "points": [asdict(point)],
        **costs(watch),
        "peak_memory_mib": max(setup.peak_memory, watch.peak_memory),
    }
