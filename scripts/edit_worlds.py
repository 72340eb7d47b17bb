"""Edits built-in worlds from end to end with the ns-* commands, and measures each against the truth.

For each world: photographs, a latent-nerfacto run, a latenteditor run on top, renders of the held-out views of
both, a video, a picture (rows: original, mask, edit, truth; columns: held-out views) and a row of the table.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import tyro

from latenteditor.diffusion.autoencoder import load_autoencoder
from latenteditor.diffusion.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.editing.editor import EditConfig
from latenteditor.miniature.dataset import write_dataset, write_truth
from latenteditor.miniature.instructions import parse, random_recolouring
from latenteditor.miniature.report import find_masks, measure, picture, read_held_out_views
from latenteditor.miniature.settings import EDIT
from latenteditor.miniature.world import World, random_world

FIGURES = ("mask_iou", "psnr_inside_edited", "psnr_inside_unedited", "psnr_inside_ceiling")
FIGURES += ("psnr_outside_edited", "psnr_outside_unedited", "psnr_outside_ceiling")


@dataclass
class Args:
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
    num_views: int = 48
    """Training views."""
    num_held_out: int = 8
    """Views for evaluation only."""
    size: int = 256
    """Pixels of either side of a view."""
    reconstruction_steps: int = 1200
    """Training steps of the unedited scene."""
    edit_steps: int = 420
    """Training steps in which views are edited."""
    steps_per_edit: int = 6
    """Training steps from one edited view to the next."""
    near_plane: float = 0.3
    """Nothing in these worlds is nearer to a camera, in the units of nerfstudio's rescaled poses."""
    max_res: int = 96
    """Cells along each side of the field's finest grid."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited; the default is what suits the built-in editor."""


def main(args: Args) -> None:
    """Runs every world, then prints the table and writes it as JSON."""
    rows = [edit_world(args, seed) for seed in range(args.first_seed, args.first_seed + args.num_worlds)]
    if not all(rows):
        return
    medians = {name: float(np.median([row[name] for row in rows])) for name in FIGURES}
    (args.output / "worlds.json").write_text(json.dumps({"worlds": rows, "medians": medians}, indent=2) + "\n")
    print_table(rows, medians)


def edit_world(args: Args, seed: int) -> dict:
    """One world from photographs to figures; stages that an interrupted run finished are not run again."""
    folder = (args.output / str(seed)).resolve()  # The host keeps paths as given, and reads them from anywhere.
    data, runs = folder / "world", folder / "runs/world"
    renders = {method: folder / "renders" / method for method in ("latent-nerfacto", "latenteditor")}
    world = random_world(seed)
    prompt = args.prompt or draw_prompt(world, seed)
    parse(prompt, world)
    print(f"World {seed}: {prompt!r}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    require_prompt(folder, prompt)

    def photograph() -> None:
        write_dataset(data, world, args.num_views, args.num_held_out, args.size, seed)

    def render_held_out() -> None:
        for method, target in renders.items():
            render("dataset", folder, method, "--split", "test", "--rendered-output-names", "rgb",
                   "--image-format", "png", "--output-path", target)  # fmt: skip

    def report() -> None:
        autoencoder = load_autoencoder(args.edit.model, args.device)
        denoiser = load_instruct_pix2pix(args.edit.model, args.device)
        unedited, edited = (target / "test/rgb" for target in renders.values())
        views = read_held_out_views(data, prompt, unedited, edited)
        masks = find_masks(views, prompt, autoencoder, denoiser, args.edit)
        iio.imwrite(folder / "edit.png", picture(views, masks))
        (folder / "figures.json").write_text(json.dumps(measure(views, masks, autoencoder), indent=2) + "\n")

    base = runs / "latent-nerfacto/run/nerfstudio_models"
    stages: dict[str, Callable[[], object]] = {
        "photographs": photograph,
        "reconstruction": lambda: train(args, folder, "latent-nerfacto", args.reconstruction_steps, []),
        "truth": lambda: write_truth(data, prompt),
        "edit": lambda: train(args, folder, "latenteditor", args.edit_steps, edit_flags(args, prompt, base)),
        "renders": render_held_out,
        "video": lambda: render_video(folder),
        "report": report,
    }
    if not args.video:
        del stages["video"]
    seconds = run_stages(stages, folder / "seconds.json", args.last_stage)
    if "report" not in seconds:
        return {}
    print(f"Picture: {folder / 'edit.png'}", flush=True)
    figures = json.loads((folder / "figures.json").read_text())
    return {"seed": seed, "prompt": prompt, **figures, "seconds": seconds}


def require_prompt(folder: Path, prompt: str) -> None:
    """Refuses to go on with a world that was begun with another prompt."""
    file = folder / "prompt.txt"
    if file.exists() and file.read_text() != prompt:
        raise ValueError(f"{folder} was begun with {file.read_text()!r}, not {prompt!r}: choose another --output.")
    file.write_text(prompt)


def run_stages(stages: dict[str, Callable[[], object]], log: Path, last: str) -> dict[str, float]:
    """Runs the stages that the log does not have yet, and returns the seconds of each."""
    seconds = json.loads(log.read_text()) if log.exists() else {}
    for name, stage in stages.items():
        if name not in seconds:
            started = time.perf_counter()
            stage()
            seconds[name] = round(time.perf_counter() - started, 1)
            log.write_text(json.dumps(seconds, indent=2) + "\n")
            print(f"{name}: {seconds[name]} s", flush=True)
        if name == last:
            break
    return seconds


def draw_prompt(world: World, seed: int) -> str:
    """An instruction for one solid, named by colour and shape."""
    recolouring = random_recolouring(world, np.random.default_rng((seed, 4)))
    solid = world.solids[recolouring.solids[0]]
    return f"make the {solid.colour} {solid.shape} {recolouring.colour}"


def train(args: Args, folder: Path, method: str, steps: int, flags: list) -> None:
    """A run of ns-train."""
    run_command(
        "ns-train", method, "--data", folder / "world", "--output-dir", folder / "runs",
        "--experiment-name", "world", "--timestamp", "run", "--machine.device-type", args.device,
        "--vis", "tensorboard", "--max-num-iterations", steps,
        "--steps-per-eval-image", steps, "--steps-per-eval-batch", steps,
        "--pipeline.autoencoder", args.edit.model, "--pipeline.datamanager.image-size", args.size,
        "--pipeline.model.near-plane", args.near_plane, "--pipeline.model.max-res", args.max_res,
        "--pipeline.model.num-levels", 5, *decay_flags(args.reconstruction_steps + args.edit_steps), *flags,
        log=folder / f"{method}.log",
    )  # fmt: skip


def decay_flags(steps: int) -> list:
    """Lets every learning rate decay over the whole of a short run."""
    groups = ("tables", "proposal-networks", "fields", "adapter")
    return [word for name in groups for word in (f"--optimizers.{name}.scheduler.max-steps", steps)]


def edit_flags(args: Args, prompt: str, base: Path) -> list:
    """What tells ns-train how to edit."""
    edit, mask = args.edit, args.edit.delta_mask
    return [
        "--load-dir", base,
        "--pipeline.edit.prompt", prompt,
        "--pipeline.edit.model", edit.model,
        "--pipeline.edit.guidance.text", edit.guidance.text,
        "--pipeline.edit.guidance.image", edit.guidance.image,
        "--pipeline.edit.min-noise", edit.min_noise,
        "--pipeline.edit.max-noise", edit.max_noise,
        "--pipeline.edit.denoising-steps", edit.denoising_steps,
        "--pipeline.edit.mask", edit.mask,
        "--pipeline.edit.blending", edit.blending,
        "--pipeline.edit.delta-mask.noise-level", mask.noise_level,
        "--pipeline.edit.delta-mask.clamp", mask.clamp,
        "--pipeline.edit.delta-mask.threshold", mask.threshold,
        "--pipeline.edit.delta-mask.gate", mask.gate,
        "--pipeline.schedule.steps-per-edit", args.steps_per_edit,
    ]  # fmt: skip


def render(what: str, folder: Path, method: str, *flags: object) -> None:
    """A run of ns-render."""
    config = folder / "runs/world" / method / "run/config.yml"
    run_command("ns-render", what, "--load-config", config, *flags, log=folder / f"render-{method}-{what}.log")


def render_video(folder: Path) -> None:
    """A flight through the held-out cameras, once around the edited scene."""
    if shutil.which("ffmpeg") is None:
        print("No video: ns-render needs ffmpeg; install it (as in `apt install ffmpeg`) or use scripts/demo.sh.")
        return
    video = folder / "edit.mp4"
    render("interpolate", folder, "latenteditor", "--pose-source", "eval", "--interpolation-steps", 8,
           "--frame-rate", 16, "--rendered-output-names", "rgb", "--output-path", video)  # fmt: skip
    print(f"Video: {video}", flush=True)


def run_command(*words: object, log: Path) -> None:
    """Runs a command of this environment, its output kept in a log."""
    command = [str(Path(sys.executable).with_name(str(words[0]))), *map(str, words[1:])]
    environment = {
        "TORCHDYNAMO_DISABLE": "1",
        **os.environ,
    }  # Nothing here compiles; 3 s of imports are saved.
    with log.open("w") as output:
        result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    if result.returncode:
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise SystemExit(f"{words[0]} {words[1]} failed; the end of {log}:\n{last}")


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
