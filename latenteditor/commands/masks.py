"""Compares the mask found in each view with the mask that all views agree on in 3D, on built-in worlds.

For each world: photographs, one latent-nerfacto run, an edit of it with --pipeline.edit.mask per-view and one with
--pipeline.edit.mask field, all by ns-train; then the overlap of both masks with the true region on the held-out views,
the error of the edited scenes against the truth, what the edits cost, and a picture (rows: photograph, per-view mask,
field mask, edited with either, truth; columns: held-out views). Needs Linux or macOS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latenteditor.benchmark.mask_comparison import MASKS, PLAIN, compare_worlds, cost_table, mask_table, psnr_table
from latenteditor.benchmark.mask_edits import COMPOSITE, UNEDITED, MaskEdits, edit_with_masks
from latenteditor.benchmark.world_runs import WorldConfig, WorldFolder, require_editor
from latenteditor.devices import default_device
from latenteditor.figures import write_figures
from latenteditor.runs import say
from latenteditor.worlds.instructions import recolouring_prompt
from latenteditor.worlds.world import random_world


@dataclass
class Args(WorldConfig):
    """Which worlds, and what of them."""

    output: Path = Path("outputs/masks")
    """Each world gets a folder in it; run again with the same folder to go on where it was interrupted."""
    first_seed: int = 3_000_010
    """The first world; the built-in editor was trained on the worlds from 0 on, settings were chosen on those from
    1,000,000 on."""
    num_worlds: int = 20
    """How many worlds to edit, of the seeds from the first on. In each, one solid is to change its colour."""
    masks_only: bool = False
    """Ends every edit after its first view: masks and what they cost, without edited scenes."""
    plain: bool = False
    """Edits without a mask as well, and shows what masks cost beyond that."""
    least_region: float = 0.004
    """Share of a view's pixels that the true region must take for the view to count. May be changed for worlds that are
    measured already."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""


def main(args: Args) -> None:
    """Runs every world, then writes all figures as JSON and prints the tables."""
    if args.num_worlds < 1:
        raise ValueError(f"There must be 1 or more worlds to compare masks on, not {args.num_worlds}.")
    require_editor(args.edit)
    masks = [*([PLAIN] if args.plain else []), *MASKS]
    worlds = []
    for seed in range(args.first_seed, args.first_seed + args.num_worlds):
        prompt = recolouring_prompt(random_world(seed), seed)
        say(f"World {seed}: {prompt!r}")
        folder = WorldFolder((args.output / str(seed)).resolve(), seed, args, args.device)
        worlds.append(edit_with_masks(MaskEdits(folder, prompt, masks, not args.masks_only), say))
    content = compare_worlds(worlds, args.least_region)
    file = args.output / ("masks.json" if args.masks_only else "edits.json")
    write_figures(file, content)
    _print_tables(args, content, masks)
    say(
        f"IoU and PSNR (dB) against the truth, on held-out views of which the region takes {args.least_region:.1%} or "
        f"more. All figures: {file}"
    )


def _print_tables(args: Args, content: dict[str, Any], masks: list[str]) -> None:
    """Masks, edited scenes where there are any, and costs."""
    say("\n".join(["", *mask_table(content["summaries"]), ""]))
    if not args.masks_only:
        say("\n".join([*psnr_table(content["summaries"], [UNEDITED, *masks, COMPOSITE]), ""]))
        differences = [view["composite_difference"] for world in content["worlds"] for view in world["views"]]
        say(f"Largest difference of composite and unedited scene outside the region: {max(differences):g}\n")
    say("\n".join([*cost_table(content["mean_costs"]), ""]))
