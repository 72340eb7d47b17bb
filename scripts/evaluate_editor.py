"""Measures an editor on single views of built-in worlds it never saw; writes figures as JSON and a picture."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import imageio.v3 as iio
import torch
import tyro
from tqdm.auto import tqdm

from latenteditor.diffusion.autoencoder import load_autoencoder
from latenteditor.diffusion.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.editing.editor import EditConfig
from latenteditor.miniature.evaluation import draw_case, edit_from_noise, evaluate_case, summarise


@dataclass
class Args:
    """What to measure, and on what."""

    output: Path
    """Folder for figures.json and edits.png."""
    first_seed: int = 2_000_000
    """First world; training uses the seeds from 0 on."""
    num_cases: int = 200
    """Worlds, with one instruction each."""
    size: int = 128
    """Pixels of either side of a view."""
    device: str = "cpu"
    """Any torch device."""
    edit: EditConfig = field(default_factory=lambda: EditConfig(model="miniature"))
    """How views are edited."""


def main(args: Args) -> None:
    """Evaluates all cases and prints the means."""
    autoencoder = load_autoencoder(args.edit.model, args.device)
    denoiser = load_instruct_pix2pix(args.edit.model, args.device)
    cases = [draw_case(seed, args.size) for seed in range(args.first_seed, args.first_seed + args.num_cases)]
    figures = [evaluate_case(case, autoencoder, denoiser, args.edit) for case in tqdm(cases, unit="case")]
    summary = summarise(figures)
    args.output.mkdir(parents=True, exist_ok=True)
    content = {"summary": summary, "cases": figures, "prompts": [case.prompt for case in cases]}
    (args.output / "figures.json").write_text(json.dumps(content, indent=2) + "\n")
    columns = []
    for case in cases[:8]:
        latents = autoencoder.encode(case.before.to(args.device))
        edited = autoencoder.decode(edit_from_noise(latents, case.prompt, denoiser, args.edit)).cpu()
        columns.append(torch.cat([case.before, edited, case.after], dim=2)[0])
    picture = torch.cat(columns, dim=2).movedim(0, -1)
    iio.imwrite(args.output / "edits.png", (picture * 255).round().byte().numpy())
    for name, figure in summary.items():
        print(f"{name:22} mean {figure['mean']:8.3f}   median {figure['median']:8.3f}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
