"""The stages of a whole edit, in their order; what is done is not done again."""

from collections.abc import Callable
from typing import Any

from latenteditor.handoff.finish import newest_step
from latenteditor.handoff.outcome import render_pictures, render_video, write_report
from latenteditor.handoff.whole_edit import (
    EDITING,
    LATENTS,
    LOGS,
    SECONDS,
    WholeEdit,
    base_steps,
    dataset_command,
    edit_command,
    finish_command,
    latent_words,
    note_memory,
    train_command,
)
from latenteditor.runs import Say, keep_to_prompt, run_stages, words_to_finish
from latenteditor.watched import run_watched


def make(whole: WholeEdit, say: Say, last_stage: str | None = None) -> dict[str, float]:
    """Does what is not done yet, and returns the seconds of each stage.

    Raises:
        ValueError: A command fails, or the folder belongs to another prompt.
    """
    whole.folder.mkdir(parents=True, exist_ok=True)
    keep_to_prompt(whole.folder, whole.prompt)
    work = stages(whole, say)
    return run_stages(work, whole.folder / SECONDS, last_stage or list(work)[-1], say)


def stages(whole: WholeEdit, say: Say) -> dict[str, Callable[[], object]]:
    """The stages by name, in their order."""
    work: dict[str, Callable[[], object]] = {}
    if whole.by_black_box:
        if whole.base is None:
            method = whole.geometry
            work["colours"] = lambda: _train(whole, method, base_steps(whole, method), say)
    else:
        work |= _through_latents(whole, say)
    work["photographs"] = lambda: _watch(whole, "photographs", dataset_command(whole), say)
    work["finish"] = lambda: _watch(whole, "finish", finish_command(whole), say)
    work["pictures"] = lambda: render_pictures(whole, say)
    if whole.config.video_frames:
        work["video"] = lambda: render_video(whole, say)
    work["report"] = lambda: write_report(whole)
    return work


def _through_latents(whole: WholeEdit, say: Say) -> dict[str, Callable[[], object]]:
    """The unedited scenes, and the edit of that of latents."""
    work: dict[str, Callable[[], object]] = {}
    if whole.reconstruction is None:
        work["reconstruction"] = lambda: _train(whole, LATENTS, whole.config.reconstruction_steps, say)
    if whole.needs_base:
        work["colours"] = lambda: _train(whole, whole.method, base_steps(whole, whole.method), say)
    work["edit"] = lambda: _edit(whole, say)
    return work


def _train(whole: WholeEdit, method: str, steps: int, say: Say) -> None:
    """Trains what remains of an unedited scene."""
    run, stage = whole.run(method), "reconstruction" if method == LATENTS else "colours"
    if run.is_finished(steps - 1):
        return
    words = latent_words(whole) if method == LATENTS else []
    _watch(whole, stage, train_command(whole, method, *words, *words_to_finish(run, 0, steps - 1)), say)


def _edit(whole: WholeEdit, say: Say) -> None:
    """Edits what remains."""
    run = whole.run(EDITING)
    start = (newest_step(whole.latents.parent) or 0) + 1
    last = start + whole.config.edit_steps - 1
    if run.is_finished(last):
        return
    load = run.checkpoints if run.newest_step is not None else whole.latents
    left = last - (run.newest_step if run.newest_step is not None else start - 1)
    _watch(whole, "edit", edit_command(whole, "--max-num-iterations", left, "--load-dir", load), say)
    if not run.is_finished(last):
        raise ValueError(
            f"The edit ended before its last step; its log may say why, as that nothing answers to the prompt: "
            f"{whole.folder / LOGS / 'edit.log'}"
        )


def _watch(whole: WholeEdit, stage: str, command: list[str], say: Say) -> Any:
    """Runs a stage's command, tells how far it is, and notes its memory."""
    note_memory(whole, stage, run_watched(command, whole.folder / LOGS / f"{stage}.log", stage, say))
