"""Measures an editor on single views of built-in worlds it never saw, and on photographs edited by a rule.

Writes figures.json, a sheet of five edits of each kind, and pictures of the first cases of each group.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import delta_mask, delta_score
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.editing.guidance import predict_guided
from latenteditor.editing.metrics import psnr
from latenteditor.figures import write_figures
from latenteditor.miniature.evaluation import Case, draw_case, evaluate_case, photograph_cases, summarise
from latenteditor.miniature.settings import EDIT
from latenteditor.miniature.sheet import sheet
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder
from latenteditor.networks.editors import load_denoiser
from latenteditor.networks.perceptual import PerceptualDistance, load_perceptual_distance
from latenteditor.worlds.instructions import KIND_SHARES

PICTURE_COLUMNS = 10
SPEED_SIZE = 256
"""Pixels of either side of the view whose edit is timed: 32 x 32 latents, if eight pixels make one."""
SPEED_STEPS = 20
"""Denoising steps whose median is the time of one."""


@dataclass
class EditorEvaluationConfig:
    """What to measure, and on what."""

    output: Path
    """Folder for figures and pictures."""
    first_seed: int = 2_000_000
    """First world; training uses the seeds from 0 on, settings were chosen on those from 1,000,000 on."""
    num_cases: int = 200
    """Worlds, with one instruction about solids each."""
    num_looks: int = 20
    """Further worlds, with one instruction about the whole picture each."""
    sheet_columns: int = 5
    """Edits of each kind on the sheet, of worlds further on."""
    size: int = 256
    """Pixels of either side of a view. The built-in editor knows 256 best."""
    photographs: tuple[Path, ...] = ()
    """Folders of photographs that the editor was not trained on."""
    photographs_per_folder: int = 8
    """How many of each folder are taken, evenly spread."""
    photograph_size: int = 512
    """Pixels of a photograph's longer side; the methods work at 512."""
    lpips_weights: Path | None = None
    """File with the state dict of `lpips.LPIPS(net="alex")`, AlexNet included. None leaves LPIPS out."""
    device: str = "cpu"
    """Any torch device."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited; the default is what suits the built-in editor."""


def evaluate_editor(config: EditorEvaluationConfig) -> dict[str, Any]:
    """Evaluates all cases, writes figures and pictures, and returns the figures.

    Raises:
        ValueError: There is no such model or folder of photographs, or a number does not fit.
    """
    _require_there(config)
    autoencoder = load_autoencoder(config.edit.model, config.device)
    denoiser = load_denoiser(config.edit.model, config.device)
    perceptual = load_perceptual_distance(config.lpips_weights, "cpu") if config.lpips_weights else None
    config.output.mkdir(parents=True, exist_ok=True)
    sizes = {"size": config.size, "photograph_size": config.photograph_size}
    content: dict[str, Any] = {"edit": asdict(config.edit), "first_seed": config.first_seed, **sizes}
    content["speed"] = measure_speed(config.edit, config.device)
    for name, cases in _draw_groups(config).items():
        if cases:
            content[name] = _evaluate_group(name, cases, autoencoder, denoiser, config, perceptual)
            shown = picture(cases[:PICTURE_COLUMNS], autoencoder, denoiser, config.edit)
            iio.imwrite(config.output / f"{name}.png", shown)
    write_figures(config.output / "figures.json", content)
    first = config.first_seed + config.num_cases + config.num_looks
    columns = {
        kind: [draw_case(first + number, config.size, kind) for number in range(config.sheet_columns)]
        for kind in KIND_SHARES
    }
    edits = {
        kind: [whole_edit(case, autoencoder, denoiser, config.edit) for case in cases]
        for kind, cases in columns.items()
    }
    iio.imwrite(config.output / "sheet.png", sheet(columns, edits))
    return content


def whole_edit(
    case: Case, autoencoder: Autoencoder, denoiser: Denoiser, config: EditConfig
) -> Float[Tensor, "1 3 height width"]:
    """A case's view, edited from pure noise without the mask's help."""
    latents = autoencoder.encode(case.before.to(autoencoder.device))
    return autoencoder.decode(edit_from_noise(denoiser, latents, latents, replace(config, prompt=case.prompt))).cpu()


def measure_speed(config: EditConfig, device: str) -> dict[str, float]:
    """Seconds that loading takes once the libraries are imported, and a denoising step and an edit of one view."""
    begin = perf_counter()
    autoencoder = load_autoencoder(config.model, device)
    denoiser = load_denoiser(config.model, device)
    loaded = perf_counter() - begin
    latents = autoencoder.encode(torch.zeros(1, 3, SPEED_SIZE, SPEED_SIZE, device=device))
    timestep = denoiser.noise_schedule.timestep_at(config.max_noise)
    seconds = []
    for _ in range(SPEED_STEPS):
        begin = perf_counter()
        # Its sum has to be known before the clock is read, on devices that compute while Python goes on too.
        predict_guided(denoiser, latents, latents, timestep, "make the cone pink", config.guidance).sum().item()
        seconds.append(perf_counter() - begin)
    step = float(np.median(seconds))
    return {
        "load_seconds": loaded,
        "denoising_step_seconds": step,
        "view_edit_seconds": step * config.denoising_steps,
    }


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
        edited = whole_edit(case, autoencoder, denoiser, config)
        latents = autoencoder.encode(case.before.to(autoencoder.device))
        score = delta_score(denoiser, latents, case.prompt, config.delta_mask, config.seed)
        mask = delta_mask(score, config.delta_mask).float().cpu()
        shown = case.before * (0.35 + 0.65 * F.interpolate(mask, case.before.shape[-2:], mode="nearest-exact"))
        columns.append(torch.cat([case.before, edited, case.after, shown], dim=2)[0].clamp(0, 1))
    height = max(column.shape[1] for column in columns)
    padded = [F.pad(column, (0, 2, 0, height - column.shape[1])) for column in columns]
    return (torch.cat(padded, dim=2).movedim(0, -1) * 255).round().byte().numpy()


def group_lines(name: str, content: dict[str, Any]) -> list[str]:
    """The figures of one group of cases, and those that matter most by kind."""
    lines = [f"{name}: {len(content['cases'])} instructions, autoencoder {content['autoencoder_psnr']:.2f} dB"]
    for figure, values in content["summary"].items():
        lines.append(f"  {figure:28} mean {values['mean']:8.3f}   median {values['median']:8.3f}")
    for kind, figures in content["by_kind"].items():
        recognised = figures["recognised"]
        low, high = recognised["interval"]
        inside = " ".join(f"{figures[f'psnr_inside{view}']['mean']:.1f}" for view in ("", "_unedited", "_ceiling"))
        lines.append(
            f"  {kind:20} {figures['count']:4}  recognised {recognised['mean']:.2f} ({low:.2f} to {high:.2f})   "
            f"inside, unedited, ceiling {inside} dB   mask IoU {figures['mask_iou']['mean']:.2f}"
        )
    return lines


def _draw_groups(config: EditorEvaluationConfig) -> dict[str, list[Case]]:
    """All cases, by where they come from."""
    seeds = range(config.first_seed, config.first_seed + config.num_cases + config.num_looks)
    groups = {
        "solids": [draw_case(seed, config.size) for seed in tqdm(seeds[: config.num_cases], desc="worlds")],
        "looks": [draw_case(seed, config.size, "look") for seed in seeds[config.num_cases :]],
    }
    for folder in config.photographs:
        pictures = read_photographs(folder, config.photographs_per_folder, config.photograph_size)
        groups[folder.resolve().parent.name if folder.name == "images" else folder.name] = [
            case for index, picture in enumerate(pictures) for case in photograph_cases(picture, index)
        ]
    return groups


def _evaluate_group(
    name: str,
    cases: list[Case],
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    config: EditorEvaluationConfig,
    perceptual: PerceptualDistance | None,
) -> dict[str, Any]:
    """The figures of all cases, and their summaries, over all and by kind."""
    rows = [evaluate_case(case, autoencoder, denoiser, config.edit, perceptual) for case in tqdm(cases, desc=name)]
    kinds: dict[str, list[dict[str, float]]] = {}
    for case, row in zip(cases, rows, strict=True):
        kinds.setdefault(case.kind, []).append(row)
    return {
        "summary": summarise(rows),
        "autoencoder_psnr": torch.cat([reconstruction_psnr(case, autoencoder) for case in cases]).mean().item(),
        "by_kind": {kind: {"count": len(kinds[kind]), **summarise(kinds[kind])} for kind in sorted(kinds)},
        "cases": [{"prompt": case.prompt, "kind": case.kind, **row} for case, row in zip(cases, rows, strict=True)],
    }


def _require_there(config: EditorEvaluationConfig) -> None:
    """Refuses what cannot be measured before anything is."""
    if config.num_cases < 0 or config.num_looks < 0 or config.photographs_per_folder < 1:
        raise ValueError("--num-cases and --num-looks must be 0 or more, --photographs-per-folder 1 or more.")
    for folder in config.photographs:
        if not folder.is_dir():
            raise ValueError(f"There is no folder of photographs {folder}: pass one, or leave the option out.")
