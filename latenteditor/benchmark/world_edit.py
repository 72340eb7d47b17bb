"""One built-in world edited from end to end with the ns-* commands, and measured against the truth.

Beside what every world's folder holds, see ``runs.py``, it gets::

    edit.png       rows: original, mask, edited scene of latents, finished scene, truth; columns: held-out views
    edit.mp4       a flight around the finished scene
    finished/      the edited photographs, and the run that was learnt from them
    figures.json   what the edit came to
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np

from latenteditor.benchmark.world_runs import WorldFolder, edit_flags
from latenteditor.figures import read_figures, write_figures
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.editors import load_denoiser
from latenteditor.pictures import write_picture
from latenteditor.runs import Run, Say, find_ffmpeg, run_stages
from latenteditor.worlds.report import find_masks, measure, picture, read_edited_views

Stage = Literal[
    "photographs", "reconstruction", "colours", "truth", "edit", "finish", "renders", "video", "report",
]  # fmt: skip
"""What is done to a world, in this order."""
COLUMNS = {
    "mask_iou": "IoU",
    "psnr_inside_finished": "in",
    "psnr_inside_edited": "in, latents",
    "psnr_inside_unedited": "in, unedited",
    "psnr_inside_ceiling": "in, ceiling",
    "psnr_outside_finished": "out",
    "psnr_outside_edited": "out, latents",
    "psnr_outside_unedited": "out, unedited",
    "psnr_outside_ceiling": "out, ceiling",
}
"""What the table shows of an edit, by the names that ``figures.json`` has for it."""


def edit_world(folder: WorldFolder, prompt: str, last_stage: Stage, video: bool, say: Say) -> dict[str, Any]:
    """One world from photographs to figures; stages that an interrupted run finished are not run again.

    Args:
        folder: The world.
        prompt: An instruction about it.
        last_stage: The stage after which to stop.
        video: Whether to render a flight around the edited scene.
        say: Is told of each stage as it ends.

    Returns:
        The row of the table, empty where the last stage is not the report.
    """
    folder.begin(prompt)
    stages = _stages(folder, prompt, say)
    if not video:
        del stages["video"]
    seconds = run_stages(stages, folder.path / "seconds.json", last_stage, say)
    if "report" not in seconds:
        return {}
    say(f"Picture: {folder.path / 'edit.png'}")
    figures = read_figures(folder.path / "figures.json")
    return {"seed": folder.seed, "prompt": prompt, **figures, "seconds": seconds}


def _stages(folder: WorldFolder, prompt: str, say: Say) -> dict[str, Callable[[], object]]:
    """How each `Stage` is done."""
    config, unedited, edited = folder.config, folder.reconstruction, folder.edit()
    colours, finished = folder.colours, folder.finished
    work = (
        folder.photograph,
        lambda: folder.train(unedited, config.reconstruction_steps),
        folder.train_colours,
        lambda: folder.write_truth(prompt),
        lambda: folder.train(edited, config.edit_steps, *edit_flags(config, prompt, unedited)),
        lambda: folder.finish(edited),
        lambda: [folder.render_held_out(run) for run in (colours, edited, finished)],
        lambda: render_video(folder, finished, say),
        lambda: report(folder, prompt),
    )
    return dict(zip(get_args(Stage), work, strict=True))


def render_video(folder: WorldFolder, run: Run, say: Say) -> None:
    """A flight through the held-out cameras, once around a scene."""
    if find_ffmpeg() is None:
        say("No video: ns-render needs ffmpeg, and imageio-ffmpeg has none for this machine; install it.")
        return
    video = folder.path / "edit.mp4"
    folder.render(
        run, "interpolate", "--pose-source", "eval", "--interpolation-steps", 4,
        "--frame-rate", 10, "--rendered-output-names", "rgb", "--output-path", video,
    )  # fmt: skip
    say(f"Video: {video}")


def report(folder: WorldFolder, prompt: str) -> None:
    """Measures the edit, and draws its picture."""
    edit = folder.config.edit
    runs = {"unedited": folder.colours, "edited": folder.edit(), "finished": folder.finished}
    renders = {name: folder.renders(run) for name, run in runs.items()}
    autoencoder = load_autoencoder(edit.model, folder.device)
    denoiser = load_denoiser(edit.model, folder.device)
    views = read_edited_views(folder.data, prompt, renders)
    masks = find_masks(views, prompt, autoencoder, denoiser, edit)
    write_picture(folder.path / "edit.png", picture(views, masks))
    write_figures(folder.path / "figures.json", measure(views, masks, autoencoder))


def medians(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """The median over worlds of each figure in the table."""
    return {name: float(np.nanmedian([row[name] for row in rows])) for name in COLUMNS}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Figures and seconds of every world, and the medians of more than one."""
    lines = [f"{'world':>9} {'prompt':34}" + "".join(f"{head:>15}" for head in COLUMNS.values())]
    lines += [f"{row['seed']:>9} {row['prompt']:34}" + _cells(row) for row in rows]
    if len(rows) > 1:
        lines.append(f"{'median':>9} {'':34}" + _cells(medians(rows)))
    lines.append("PSNR in dB against the truth, on held-out views, inside and outside the region of the instruction.")
    for row in rows:
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in row["seconds"].items())
        lines.append(f"{row['seed']:>9} {stages}; {sum(row['seconds'].values()):.0f} s in all")
    return "\n".join(lines)


def _cells(figures: dict[str, Any]) -> str:
    """The figures of a line."""
    return "".join(f"{figures[name]:15.2f}" for name in COLUMNS)
