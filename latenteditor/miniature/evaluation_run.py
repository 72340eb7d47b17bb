"""Measures an editor on single views of built-in worlds it never saw, and on photographs edited by a rule.

Writes figures.json, and pictures of the first cases: original, edit, truth and mask.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import delta_mask, delta_score
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.editing.guidance import Denoiser, predict_guided
from latenteditor.editing.metrics import psnr
from latenteditor.figures import write_figures
from latenteditor.miniature.evaluation import (
    Case,
    draw_case,
    evaluate_case,
    photograph_cases,
    summarise,
)
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.runs import say

PICTURE_COLUMNS = 10
SPEED_SIZE = 128
"""Pixels of either side of the view of which one denoising step is timed: 16 x 16 latents, if eight pixels make one."""
SPEED_STEPS = 20
"""Denoising steps whose median is the time of one."""


@dataclass
class EvaluationConfig:
    """What to measure, and on what."""

    output: Path
    """Folder for figures.json and pictures; what it holds is written over."""
    first_seed: int = 2_000_000
    """First world; training uses the seeds from 0 on, settings were chosen on those from 1,000,000 on."""
    num_cases: int = 200
    """Worlds, with one instruction about solids each."""
    num_looks: int = 20
    """Further worlds, with one instruction about the whole picture each."""
    size: int = 256
    """Pixels of either side of a view. `latenteditor demo` has 256; the built-in editor learned at 128."""
    photographs: tuple[Path, ...] = ()
    """Folders of photographs that the editor was not trained on."""
    photographs_per_folder: int = 8
    """How many of each folder are taken, evenly spread."""
    photograph_size: int = 512
    """Pixels of a photograph's longer side; the methods work at 512."""
    device: str = "cpu"
    """Any torch device."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited; the default is what suits the built-in editor."""


def evaluate_editor(args: EvaluationConfig) -> None:
    """Evaluates all cases, prints the means and writes everything.

    Raises:
        ValueError: There is no such model or folder of photographs, or there is nothing to measure.
    """
    require_there(args)
    autoencoder = load_autoencoder(args.edit.model, args.device)
    denoiser = load_instruct_pix2pix(args.edit.model, args.device)
    seeds = range(args.first_seed, args.first_seed + args.num_cases + args.num_looks)
    groups = {
        "solids": [draw_case(seed, args.size) for seed in tqdm(seeds[: args.num_cases], desc="worlds")],
        "looks": [draw_case(seed, args.size, "look") for seed in seeds[args.num_cases :]],
    }
    for folder in args.photographs:
        pictures = read_photographs(folder, args.photographs_per_folder, args.photograph_size)
        groups[folder.resolve().parent.name if folder.name == "images" else folder.name] = [
            case for index, picture in enumerate(pictures) for case in photograph_cases(picture, index)
        ]
    args.output.mkdir(parents=True, exist_ok=True)
    sizes = {"size": args.size, "photograph_size": args.photograph_size}
    content: dict[str, Any] = {"edit": asdict(args.edit), "first_seed": args.first_seed, **sizes}
    content["speed"] = measure_speed(args.edit, args.device)
    say(", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in content["speed"].items()))
    for name, cases in groups.items():
        if not cases:
            continue
        rows = [evaluate_case(case, autoencoder, denoiser, args.edit) for case in tqdm(cases, desc=name)]
        views = torch.cat([reconstruction_psnr(case, autoencoder) for case in cases])
        content[name] = {
            "summary": summarise(rows),
            "autoencoder_psnr": views.mean().item(),
            "by_kind": {
                kind: summarise([row for row, case in zip(rows, cases, strict=True) if case.kind == kind])
                for kind in sorted({case.kind for case in cases})
            },
            "cases": [{"prompt": case.prompt, "kind": case.kind, **row} for case, row in zip(cases, rows, strict=True)],
        }
        iio.imwrite(args.output / f"{name}.png", picture(cases[:PICTURE_COLUMNS], autoencoder, denoiser, args.edit))
        print_group(name, content[name])
    write_figures(args.output / "figures.json", content)


def require_there(args: EvaluationConfig) -> None:
    """Refuses what cannot be measured before anything is.

    Raises:
        ValueError: A number does not fit, or a folder of photographs is none.
    """
    if args.num_cases < 0 or args.num_looks < 0 or args.photographs_per_folder < 1:
        raise ValueError("--num-cases and --num-looks must be 0 or more, --photographs-per-folder 1 or more.")
    for folder in args.photographs:
        if not folder.is_dir():
            raise ValueError(f"There is no folder of photographs {folder}: pass one, or leave the option out.")


def measure_speed(config: EditConfig, device: str) -> dict[str, float]:
    """Seconds that loading takes once the libraries are imported, and a denoising step of one small view."""
    begin = perf_counter()
    autoencoder = load_autoencoder(config.model, device)
    denoiser = load_instruct_pix2pix(config.model, device)
    loaded = perf_counter() - begin
    latents = autoencoder.encode(torch.zeros(1, 3, SPEED_SIZE, SPEED_SIZE, device=device))
    timestep = denoiser.noise_schedule.timestep_at(config.max_noise)
    seconds = []
    for _ in range(SPEED_STEPS):
        begin = perf_counter()
        # Its sum has to be known before the clock is read, on devices that compute while Python goes on too.
        predict_guided(denoiser, latents, latents, timestep, "make the cone pink", config.guidance).sum().item()
        seconds.append(perf_counter() - begin)
    return {"load_seconds": loaded, "denoising_step_seconds": float(np.median(seconds))}


def read_photographs(folder: Path, count: int, long_side: int) -> list[np.ndarray]:
    """Some photographs of a folder, evenly spread, their sides multiples of 64 pixels."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".jpg", ".jpeg", ".png"))
    if not files:
        raise ValueError(f"{folder} holds no photographs.")
    pictures = []
    for file in files[:: max(1, len(files) // count)][:count]:
        image = Image.open(file).convert("RGB")
        scale = long_side / max(image.size)
        width, height = (max(64, round(side * scale / 64) * 64) for side in image.size)
        pictures.append(np.asarray(image.resize((width, height), Image.Resampling.LANCZOS)))
    return pictures


def reconstruction_psnr(case: Case, autoencoder: Autoencoder) -> torch.Tensor:
    """How well the autoencoder keeps a case's view, in decibels."""
    return psnr(autoencoder.decode(autoencoder.encode(case.before.to(autoencoder.device))).cpu(), case.before)


def picture(cases: list[Case], autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig) -> np.ndarray:
    """Rows: original, edit, truth, mask; columns: cases."""
    columns = []
    for case in cases:
        latents = autoencoder.encode(case.before.to(autoencoder.device))
        edited = autoencoder.decode(
            edit_from_noise(denoiser, latents, latents, replace(config, prompt=case.prompt))
        ).cpu()
        score = delta_score(denoiser, latents, case.prompt, config.delta_mask, config.seed)
        mask = delta_mask(score, config.delta_mask).float().cpu()
        shown = case.before * (0.35 + 0.65 * F.interpolate(mask, case.before.shape[-2:], mode="nearest-exact"))
        columns.append(torch.cat([case.before, edited, case.after, shown], dim=2)[0].clamp(0, 1))
    height = max(column.shape[1] for column in columns)
    padded = [F.pad(column, (0, 2, 0, height - column.shape[1])) for column in columns]
    return (torch.cat(padded, dim=2).movedim(0, -1) * 255).round().byte().numpy()


def print_group(name: str, content: dict[str, Any]) -> None:
    """The figures of one group of cases."""
    say(f"{name}: {len(content['cases'])} instructions, autoencoder {content['autoencoder_psnr']:.2f} dB")
    for figure, values in content["summary"].items():
        say(f"  {figure:22} mean {values['mean']:8.3f}   median {values['median']:8.3f}")
    if len(content["by_kind"]) > 1:
        for kind, figures in content["by_kind"].items():
            gain = figures["psnr_inside"]["mean"] - figures["psnr_inside_unedited"]["mean"]
            say(
                f"  {kind:22} right {figures['right']['mean']:.2f}   mask IoU {figures['mask_iou']['mean']:.2f}   "
                f"inside {gain:+.1f} dB"
            )
