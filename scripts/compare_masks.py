"""Compares the mask found in each view with the mask that all views agree on in 3D, on built-in worlds.

For each world: photographs, one latent-nerfacto run, an edit of it with --pipeline.edit.mask per-view and one with
--pipeline.edit.mask field, all by ns-train; then the overlap of both masks with the true region on the held-out views,
the error of the edited scenes against the truth, what the edits cost, and a picture (rows: photograph, per-view mask,
field mask, edited with either, truth; columns: held-out views). Needs Linux or macOS.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import imageio.v3 as iio
import torch
import tyro
from torch import Tensor

from latenteditor.benchmark.mask_comparison import (
    MASKS,
    PLAIN,
    cost_table,
    largest_difference_outside,
    mask_table,
    mean_costs,
    measure_views,
    psnr_table,
    summarise_views,
    summarise_worlds,
)
from latenteditor.benchmark.world_runs import WorldConfig, edit_flags, train_command
from latenteditor.editing.delta_mask import relevance_mask
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.runs import Run, require_prompt, run_measured, run_stages
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.instructions import recolouring_prompt
from latenteditor.worlds.report import TrueViews, at_pixels, find_masks, grid, highlight, read_true_views
from latenteditor.worlds.world import random_world

COMPOSITE = "composite"
"""The edit by the field mask, with the unedited scene shown outside its region."""
UNEDITED = "unedited"
say = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass
class Args(WorldConfig):
    """Which worlds, and what of them."""

    output: Path = Path("outputs/masks")
    """Each world gets a folder in it; run again with the same folder to go on where it was interrupted."""
    first_seed: int = 3_000_010
    """The first world; the built-in editor was trained on the worlds from 0 on, settings were chosen on those from
    1,000,000 on."""
    num_worlds: int = 20
    """Worlds from the first on. In each, one solid is to change its colour."""
    masks_only: bool = False
    """Ends every edit after its first view: masks and what they cost, without edited scenes."""
    plain: bool = False
    """Edits without a mask as well, and shows what masks cost beyond that."""
    least_region: float = 0.004
    """Share of a view's pixels that the true region must take for the view to count. May be changed for worlds that are
    measured already."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""


class Rendered(NamedTuple):
    """What a run shows from the held-out cameras, on the CPU; empty lists where it was not asked for or has none."""

    images: list[Tensor]
    """RGB in [0, 1], of shape (3, height, width)."""
    masks: list[Tensor]
    """Where its relevance allows a change, of shape (1, height, width)."""
    composites: list[Tensor]
    """As `images`, with the unedited scene outside the region of the edit."""
    shown: list[Tensor]
    """The pixels at which a composite shows anything of the edit, of shape (1, height, width)."""
    costs: dict[str, float]
    """What the run has recorded of its edit."""


def main(args: Args) -> None:
    """Runs every world, then writes all figures as JSON and prints the tables."""
    if args.num_worlds < 1:
        raise ValueError(f"There must be 1 or more worlds to compare masks on, not {args.num_worlds}.")
    worlds = [compare(args, seed) for seed in range(args.first_seed, args.first_seed + args.num_worlds)]
    summaries = {str(world["seed"]): summarise_views(world["views"], args.least_region) for world in worlds}
    summaries["all"] = summarise_worlds(list(summaries.values()))
    costs = mean_costs([world["costs"] for world in worlds])
    file = args.output / f"{kind_of(args)}.json"
    content = {"least_region": args.least_region, "worlds": worlds, "summaries": summaries, "mean_costs": costs}
    file.write_text(json.dumps(content, indent=2) + "\n")
    say("\n".join(["", *mask_table(summaries), ""]))
    if not args.masks_only:
        renders = [UNEDITED, *masks_of(args), COMPOSITE]
        say("\n".join([*psnr_table(summaries, renders), ""]))
        differences = [view["composite_difference"] for world in worlds for view in world["views"]]
        say(f"Largest difference of composite and unedited scene outside the region: {max(differences):g}\n")
    say("\n".join([*cost_table(costs), ""]))
    say(
        f"IoU and PSNR (dB) against the truth, on held-out views of which the region takes {args.least_region:.1%} or "
        f"more. All figures: {file}"
    )


def compare(args: Args, seed: int) -> dict[str, Any]:
    """One world from photographs to figures; stages that an interrupted run finished are not run again."""
    folder = (args.output / str(seed)).resolve()
    data, kind = folder / "world", kind_of(args)
    unedited = Run(folder, "latent-nerfacto")
    edits = {mask: Run(folder, "latenteditor", f"{kind}-{mask}") for mask in masks_of(args)}
    world = random_world(seed)
    prompt = recolouring_prompt(world, seed)
    say(f"World {seed}: {prompt!r}")
    folder.mkdir(parents=True, exist_ok=True)
    require_prompt(folder, prompt)

    def edit(mask: str) -> None:
        config = replace(args, edit=replace(args.edit, mask=mask))
        steps = 1 if args.masks_only else args.edit_steps
        train(edits[mask], config, args.device, steps, *edit_flags(config, prompt, unedited))

    def report() -> None:
        views = read_true_views(data, prompt)
        figures, picture = measure(args, views, prompt, unedited, edits)
        iio.imwrite(folder / f"{kind}.png", picture)
        (folder / f"{kind}.json").write_text(json.dumps(figures, indent=2) + "\n")

    stages: dict[str, Callable[[], object]] = {
        "photographs": lambda: write_dataset(data, world, args.num_views, args.num_held_out, args.size, seed),
        "reconstruction": lambda: train(unedited, args, args.device, args.reconstruction_steps),
        "truth": lambda: write_truth(data, prompt),
        **{run.name: lambda mask=mask: edit(mask) for mask, run in edits.items()},
        f"{kind}-report" + ("-plain" if args.plain else ""): report,
    }
    log = folder / "seconds.json"
    seconds = run_stages(stages, log, list(stages)[-1], say)
    say(f"Picture: {folder / f'{kind}.png'}")
    figures = json.loads((folder / f"{kind}.json").read_text())
    for mask, run in edits.items():
        figures["costs"][mask]["command_seconds"] = seconds[run.name]
    return {"seed": seed, "prompt": prompt, **figures, "seconds": seconds}


def kind_of(args: Args) -> str:
    """What tells the files of whole edits from those of masks alone."""
    return "masks" if args.masks_only else "edits"


def masks_of(args: Args) -> list[str]:
    """The masks to edit with."""
    return [*([PLAIN] if args.plain else []), *MASKS]


def train(run: Run, config: WorldConfig, device: str, steps: int, *flags: object) -> None:
    """A run of ns-train, the most memory it held kept beside it."""
    peak = run_measured(train_command(run, config, device, steps, *flags), run.folder / f"{run.method}-{run.name}.log")
    (run.path / "memory.json").write_text(json.dumps({"memory_bytes": peak}) + "\n")


def measure(
    args: Args, views: TrueViews, prompt: str, unedited: Run, edits: dict[str, Run]
) -> tuple[dict[str, Any], Any]:
    """The figures of each held-out view, the costs of each edit, and a picture."""
    with_images = not args.masks_only
    rendered = {mask: render(run, views, with_images) for mask, run in edits.items()}
    field = rendered["field"]
    autoencoder = load_autoencoder(args.edit.model, args.device)
    denoiser = load_instruct_pix2pix(args.edit.model, args.device)
    masks = {
        "per-view": find_masks(views, prompt, autoencoder, denoiser, args.edit),
        "field": torch.stack(field.masks),
    }
    images: dict[str, Tensor] = {}
    if with_images:
        images = {mask: torch.stack(result.images) for mask, result in rendered.items()}
        images[UNEDITED] = torch.stack(render(unedited, views, True).images)
        images[COMPOSITE] = torch.stack(field.composites)
    figures = measure_views(views, masks, images)
    if with_images:
        differences = largest_difference_outside(images[COMPOSITE], images[UNEDITED], torch.stack(field.shown))
        for view, difference in zip(figures, differences, strict=True):
            view["composite_difference"] = difference
    rows = [views.photographs, *(highlight(views.photographs, masks[mask]) for mask in MASKS)]
    rows += [images[mask] for mask in MASKS if mask in images]
    costs = {mask: {**result.costs, **memory(edits[mask])} for mask, result in rendered.items()}
    return {"views": figures, "costs": costs}, grid([*rows, views.truth])


@torch.no_grad()
def render(run: Run, views: TrueViews, with_images: bool) -> Rendered:
    """Loads a run to look at it, without the networks that edit, and renders its held-out views."""
    from nerfstudio.utils.eval_utils import eval_setup

    config, loaded, _, _ = eval_setup(run.config, test_mode="test")
    settings: Any = config.pipeline
    pipeline: Any = loaded
    model, data = pipeline.model, pipeline.datamanager
    edited = hasattr(settings, "edit")
    rendered = Rendered([], [], [], [], recorded_costs(pipeline) if edited else {})
    rows = {Path(name).name: row for row, name in enumerate(data.eval_dataset.image_filenames)}
    size = views.region.shape[-2:]
    for row in (rows[name] for name in views.names):
        camera = data.eval_dataset.cameras[row : row + 1].to(pipeline.device)
        if with_images:
            rendered.images.append(_image(model.get_outputs_for_camera(camera)))
        if not edited or settings.edit.mask != "field":
            continue
        latent_camera = data.eval_cameras[row : row + 1].to(pipeline.device)
        rays = latent_camera.generate_rays(camera_indices=0, keep_shape=True)
        active = [layer.number for layer in model.layers.active]
        relevance = model.render_relevance(rays, active).permute(2, 0, 1)[None]
        rendered.masks.append(at_pixels(relevance_mask(relevance, model.delta_mask), views.region)[0])
        if with_images:
            rendered.shown.append((model.region(rays, active, tuple(size)) > 0).permute(2, 0, 1).cpu())
            model.config.composite = True
            rendered.composites.append(_image(model.get_outputs_for_camera(camera)))
            model.config.composite = False
    return rendered


def recorded_costs(pipeline: Any) -> dict[str, float]:
    """What an edited run has recorded of its edit."""
    costs = pipeline.costs
    return {
        "survey_seconds": costs.survey_seconds,
        "relevance_seconds": costs.relevance_seconds,
        "seconds_per_view_edit": costs.edit_seconds / max(costs.view_edits, 1),
        "gpu_bytes": costs.gpu_bytes,
    }


def memory(run: Run) -> dict[str, float]:
    """The most main memory that training a run took."""
    return json.loads((run.path / "memory.json").read_text())


def _image(outputs: dict[str, Tensor]) -> Tensor:
    """A render as the truth is laid out."""
    return outputs["rgb"].permute(2, 0, 1).clamp(0, 1).cpu()


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
