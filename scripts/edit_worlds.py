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
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
import tyro

from latenteditor.diffusion.autoencoder import load_autoencoder
from latenteditor.diffusion.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.editing.delta_mask import DeltaMaskConfig
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Guidance
from latenteditor.miniature.dataset import write_dataset, write_truth
from latenteditor.miniature.instructions import parse, random_recolouring, wording
from latenteditor.miniature.report import find_masks, measure, picture, read_held_out_views
from latenteditor.miniature.world import World, random_world

FIGURES = ("mask_iou", "psnr_inside_edited", "psnr_inside_unedited", "psnr_inside_ceiling")
FIGURES += ("psnr_outside_edited", "psnr_outside_unedited", "psnr_outside_ceiling")


@dataclass
class Args:
    """Which worlds, which edit, how long."""

    output: Path = Path("outputs/worlds")
    """Each world gets a folder in it; one that exists already is an error."""
    prompt: str | None = None
    """An instruction that names a solid of the world and a colour; drawn from the seed where absent."""
    first_seed: int = 3_000_003
    """The first world; the built-in editor was trained on the worlds from 0 on."""
    num_worlds: int = 1
    """Worlds from the first on."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""
    video: bool = True
    """Whether to render a video around the edited scene, for which ns-render needs ffmpeg."""
    num_views: int = 60
    """Training views."""
    num_held_out: int = 8
    """Views for evaluation only."""
    size: int = 128
    """Pixels of either side of a view."""
    reconstruction_steps: int = 1000
    """Training steps of the unedited scene."""
    edit_steps: int = 600
    """Training steps in which views are edited."""
    steps_per_edit: int = 5
    """Training steps from one edited view to the next."""
    near_plane: float = 0.3
    """Nothing in these worlds is nearer to a camera, in the units of nerfstudio's rescaled poses."""
    edit: EditConfig = field(
        default_factory=lambda: EditConfig(
            model="miniature", guidance=Guidance(text=3.0, image=1.5), delta_mask=DeltaMaskConfig()
        )
    )
    """How views are edited. The built-in editor's own guidance, found on worlds that are not measured here."""


def main(args: Args) -> None:
    """Runs every world, then prints the table and writes it as JSON."""
    rows = [edit_world(args, seed) for seed in range(args.first_seed, args.first_seed + args.num_worlds)]
    medians = {name: float(np.median([row[name] for row in rows])) for name in FIGURES}
    (args.output / "worlds.json").write_text(json.dumps({"worlds": rows, "medians": medians}, indent=2) + "\n")
    print_table(rows, medians)


def edit_world(args: Args, seed: int) -> dict:
    """One world from photographs to figures."""
    folder, seconds = args.output / str(seed), {}
    started = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal started
        seconds[stage] = round(time.perf_counter() - started, 1)
        started = time.perf_counter()
        print(f"{stage}: {seconds[stage]} s", flush=True)

    world = random_world(seed)
    prompt = args.prompt or draw_prompt(world, seed)
    parse(prompt, world)
    print(f"World {seed}: {prompt!r}", flush=True)
    data = folder / "world"
    write_dataset(data, world, args.num_views, args.num_held_out, args.size, seed)
    write_truth(data, prompt)
    lap("photographs")
    train(args, folder, "latent-nerfacto", args.reconstruction_steps, [])
    lap("reconstruction")
    base = folder / "runs/world/latent-nerfacto/run"
    train(args, folder, "latenteditor", args.edit_steps, edit_flags(args, prompt, base))
    lap("edit")
    renders = {}
    for method in ("latent-nerfacto", "latenteditor"):
        renders[method] = folder / "renders" / method / "test" / "rgb"
        render("dataset", folder, method, "--split", "test", "--rendered-output-names", "rgb",
               "--image-format", "png", "--output-path", folder / "renders" / method)  # fmt: skip
    lap("renders")
    if args.video:
        render_video(folder)
        lap("video")
    autoencoder = load_autoencoder(args.edit.model, args.device)
    denoiser = load_instruct_pix2pix(args.edit.model, args.device)
    views = read_held_out_views(data, prompt, renders["latent-nerfacto"], renders["latenteditor"])
    masks = find_masks(views, prompt, autoencoder, denoiser, args.edit)
    iio.imwrite(folder / "edit.png", picture(views, masks))
    lap("report")
    row = {"seed": seed, "prompt": prompt, **measure(views, masks, autoencoder), "seconds": seconds}
    (folder / "figures.json").write_text(json.dumps(row, indent=2) + "\n")
    print(f"Picture: {folder / 'edit.png'}", flush=True)
    return row


def draw_prompt(world: World, seed: int) -> str:
    """An instruction for one solid."""
    return wording(world, random_recolouring(world, np.random.default_rng((seed, 4)), num_solids=1))


def train(args: Args, folder: Path, method: str, steps: int, flags: list) -> None:
    """A run of ns-train."""
    run_command(
        "ns-train", method, "--data", folder / "world", "--output-dir", folder / "runs",
        "--experiment-name", "world", "--timestamp", "run", "--machine.device-type", args.device,
        "--vis", "tensorboard", "--max-num-iterations", steps,
        "--steps-per-eval-image", steps, "--steps-per-eval-batch", steps,
        "--pipeline.autoencoder", args.edit.model, "--pipeline.datamanager.image-size", args.size,
        "--pipeline.model.near-plane", args.near_plane, *flags,
        log=folder / f"{method}.log",
    )  # fmt: skip


def edit_flags(args: Args, prompt: str, base: Path) -> list:
    """What tells ns-train how to edit."""
    edit, mask = args.edit, args.edit.delta_mask
    return [
        "--load-dir", base / "nerfstudio_models",
        "--pipeline.edit.prompt", prompt,
        "--pipeline.edit.model", edit.model,
        "--pipeline.edit.guidance.text", edit.guidance.text,
        "--pipeline.edit.guidance.image", edit.guidance.image,
        "--pipeline.edit.min-noise", edit.min_noise,
        "--pipeline.edit.max-noise", edit.max_noise,
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
    environment = {"TORCHDYNAMO_DISABLE": "1", **os.environ}  # Nothing here compiles; 3 s of imports are saved.
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
