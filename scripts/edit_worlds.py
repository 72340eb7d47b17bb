"""Edits built-in worlds from end to end with the ns-* commands, and measures each against the truth.

For each world: photographs, a latent-nerfacto run, a latenteditor run on top, renders of the held-out views of
both, a video, a picture (rows: original, mask, edit, truth; columns: held-out views) and a row of the table.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import tyro

from latenteditor.benchmark.world_runs import WorldConfig, edit_flags, train_command
from latenteditor.figures import read_figures, write_figures
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.runs import Run, render_command, require_prompt, run_command, run_stages
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.instructions import parse, recolouring_prompt
from latenteditor.worlds.report import find_masks, measure, picture, read_held_out_views
from latenteditor.worlds.world import random_world

FIGURES = ("mask_iou", "psnr_inside_edited", "psnr_inside_unedited", "psnr_inside_ceiling")
FIGURES += ("psnr_outside_edited", "psnr_outside_unedited", "psnr_outside_ceiling")
say = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass
class Args(WorldConfig):
    """Which worlds, which edit, how long."""

    output: Path = Path("outputs/worlds")
    """Each world gets a folder in it; run again with the same folder to go on where it was interrupted."""
    prompt: str | None = None
    """An instruction about the world, as in "make the cone blue"; a recolouring drawn from the seed where absent."""
    first_seed: int = 3_000_028
    """The first world; the built-in editor was trained on the worlds from 0 on."""
    num_worlds: int = 1
    """Worlds from the first on."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""
    last_stage: str = "report"
    """The stage after which to stop: photographs, reconstruction, truth, edit, renders, video or report."""
    video: bool = True
    """Whether to render a video around the edited scene, for which ns-render needs ffmpeg."""


def main(args: Args) -> None:
    """Runs every world, then prints the table and writes it as JSON."""
    rows = [edit_world(args, seed) for seed in range(args.first_seed, args.first_seed + args.num_worlds)]
    if not all(rows):
        return
    medians = {name: float(np.nanmedian([row[name] for row in rows])) for name in FIGURES}
    write_figures(args.output / "worlds.json", {"worlds": rows, "medians": medians})
    print_table(rows, medians)


def edit_world(args: Args, seed: int) -> dict:
    """One world from photographs to figures; stages that an interrupted run finished are not run again."""
    folder = (args.output / str(seed)).resolve()
    data = folder / "world"
    unedited, edited = Run(folder, "latent-nerfacto"), Run(folder, "latenteditor")
    world = random_world(seed)
    prompt = args.prompt or recolouring_prompt(world, seed)
    parse(prompt, world)
    say(f"World {seed}: {prompt!r}")
    folder.mkdir(parents=True, exist_ok=True)
    require_prompt(folder, prompt)

    def photograph() -> None:
        write_dataset(data, world, args.num_views, args.num_held_out, args.size, seed)

    def train(run: Run, steps: int, *flags: object) -> None:
        run_command(train_command(run, args, args.device, steps, *flags), folder / f"{run.method}.log")

    def render_held_out() -> None:
        for run in (unedited, edited):
            render(run, "dataset", "--split", "test", "--rendered-output-names", "rgb",
                   "--image-format", "png", "--output-path", renders(run))  # fmt: skip

    def report() -> None:
        autoencoder = load_autoencoder(args.edit.model, args.device)
        denoiser = load_instruct_pix2pix(args.edit.model, args.device)
        folders = (renders(run) / "test/rgb" for run in (unedited, edited))
        views = read_held_out_views(data, prompt, *folders)
        masks = find_masks(views, prompt, autoencoder, denoiser, args.edit)
        iio.imwrite(folder / "edit.png", picture(views, masks))
        write_figures(folder / "figures.json", measure(views, masks, autoencoder))

    stages: dict[str, Callable[[], object]] = {
        "photographs": photograph,
        "reconstruction": lambda: train(unedited, args.reconstruction_steps),
        "truth": lambda: write_truth(data, prompt),
        "edit": lambda: train(edited, args.edit_steps, *edit_flags(args, prompt, unedited)),
        "renders": render_held_out,
        "video": lambda: render_video(edited),
        "report": report,
    }
    if not args.video:
        del stages["video"]
    seconds = run_stages(stages, folder / "seconds.json", args.last_stage, say)
    if "report" not in seconds:
        return {}
    say(f"Picture: {folder / 'edit.png'}")
    figures = read_figures(folder / "figures.json")
    return {"seed": seed, "prompt": prompt, **figures, "seconds": seconds}


def renders(run: Run) -> Path:
    """Where the renders of a run's held-out views lie."""
    return run.folder / "renders" / run.method


def render(run: Run, what: str, *flags: object) -> None:
    """A run of ns-render."""
    run_command(render_command(run, what, *flags), run.folder / f"render-{run.method}-{what}.log")


def render_video(run: Run) -> None:
    """A flight through the held-out cameras, once around the edited scene."""
    if shutil.which("ffmpeg") is None:
        say("No video: ns-render needs ffmpeg; install it (as in `apt install ffmpeg`) or use scripts/demo.sh.")
        return
    video = run.folder / "edit.mp4"
    render(run, "interpolate", "--pose-source", "eval", "--interpolation-steps", 8,
           "--frame-rate", 16, "--rendered-output-names", "rgb", "--output-path", video)  # fmt: skip
    say(f"Video: {video}")


def print_table(rows: list[dict], medians: dict[str, float]) -> None:
    """Figures and seconds of every world, and the medians of more than one."""
    heads = ("IoU", "in", "in, unedited", "in, ceiling", "out", "out, unedited", "out, ceiling")
    print(f"\n{'world':>9} {'prompt':34}" + "".join(f"{head:>15}" for head in heads))
    for row in rows:
        print(f"{row['seed']:>9} {row['prompt']:34}" + "".join(f"{row[name]:15.2f}" for name in FIGURES))
    if len(rows) > 1:
        print(f"{'median':>9} {'':34}" + "".join(f"{medians[name]:15.2f}" for name in FIGURES))
    print("PSNR in dB against the truth, on held-out views, inside and outside the region of the instruction.")
    for row in rows:
        stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in row["seconds"].items())
        print(f"{row['seed']:>9} {stages}; {sum(row['seconds'].values()):.0f} s in all")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
