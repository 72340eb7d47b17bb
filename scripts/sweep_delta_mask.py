"""Compares settings of the delta mask on single views whose true region is known; writes all figures as JSON.

Choose on one range of seeds and report on another: scripts/evaluate_editor.py measures the setting that was chosen.
"""

import itertools
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import CLAMPS, DeltaMaskConfig, delta_mask, delta_score
from latenteditor.editing.metrics import mask_iou
from latenteditor.figures import write_figures
from latenteditor.miniature.evaluation import draw_case
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix


@dataclass
class Args:
    """What to compare, and on what."""

    output: Path
    """The JSON file to write."""
    model: str = "miniature"
    """The InstructPix2Pix whose mask is measured: "miniature", a hub id or a folder."""
    first_seed: int = 1_000_000
    """First world; training uses the seeds from 0 on."""
    num_cases: int = 60
    """Worlds, with one instruction each and one about a solid that is not there."""
    size: int = 256
    """Pixels of either side of a view."""
    device: str = "cpu"
    """Any torch device."""
    noise_levels: tuple[float, ...] = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
    """Where in the noise schedule the score is measured."""
    draws: tuple[int, ...] = (1, 4)
    """Noise draws of one score."""
    thresholds: tuple[float, ...] = (0.2, 0.3, 0.4, 0.5, 0.6)
    """Of the scaled score."""
    gates: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
    """Of the raw score's peak."""


def main(args: Args) -> None:
    """Measures every setting and prints the best: overlap counts, and to leave nine of ten idle views alone."""
    autoencoder = load_autoencoder(args.model, args.device)
    denoiser = load_instruct_pix2pix(args.model, args.device)
    cases = [
        draw_case(seed, args.size)
        for seed in tqdm(range(args.first_seed, args.first_seed + args.num_cases), desc="cases")
    ]
    latents = torch.cat([autoencoder.encode(case.before.to(args.device)) for case in cases])
    regions = torch.cat([case.region for case in cases])
    rows = []
    for noise_level, draws in tqdm(list(itertools.product(args.noise_levels, args.draws)), desc="settings"):
        config = DeltaMaskConfig(noise_level=noise_level, draws=draws)
        scores, idle_scores = (
            torch.cat(
                [delta_score(denoiser, latents[i : i + 1], prompt, config) for i, prompt in enumerate(prompts)]
            ).cpu()
            for prompts in ([case.prompt for case in cases], [case.idle_prompt for case in cases])
        )
        for clamp, threshold, gate in itertools.product(CLAMPS, args.thresholds, args.gates):
            setting = replace(config, clamp=clamp, threshold=threshold, gate=gate)
            found = delta_mask(scores, setting)
            pixels = F.interpolate(found.float(), regions.shape[-2:], mode="nearest-exact").bool()
            empty = ~delta_mask(idle_scores, setting).flatten(1).any(dim=1)
            rows.append(
                {
                    **asdict(setting),
                    "iou": mask_iou(pixels, regions).mean().item(),
                    "idle_empty": empty.float().mean().item(),
                }
            )
    rows.sort(key=lambda row: row["iou"] + min(row["idle_empty"], 0.9), reverse=True)
    content = {"model": args.model, "first_seed": args.first_seed, "num_cases": args.num_cases, "settings": rows}
    write_figures(args.output, content)
    for row in rows[:15]:
        print(
            "   ".join(
                f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in row.items()
            )
        )


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
