"""Runs a recipe of configs/: reconstruction, edit, held-out views of both, a video and figures, all by ns-* commands.

Every command is printed as it can be pasted into a shell. Run it again to go on where it was interrupted: what exists
is kept, and runs with other settings lie in other folders, so nothing is written over.
"""

import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import tyro

from latenteditor.devices import default_device
from latenteditor.recipes.plan import Plan, make_plan
from latenteditor.recipes.recipe import Recipe, read_recipe
from latenteditor.recipes.stages import StageFailed, make_stages, run_stages, show_stage

show = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass
class Args:
    """Which recipe, and on what."""

    recipe: tyro.conf.Positional[Path]
    """A YAML file, such as configs/bear_panda.yaml."""
    data: Path
    """The capture's folder; the recipe says where to get it."""
    method: str | None = None
    """Edits with this method instead of the recipe's, as latenteditor-tiny or in2n."""
    output_dir: Path = Path("outputs")
    """Runs land in it, under the scene's name. Recipes with the same reconstruction share it."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows."""
    dry_run: bool = False
    """Prints the commands and runs none of them."""


def main(args: Args) -> None:
    """Prints the plan, then runs what of it is not there yet; ends with the status of a command that fails."""
    recipe = read_recipe(args.recipe)
    try:
        plan = make_plan(recipe, args.method)
    except ValueError as error:
        raise ValueError(f"{args.recipe}: {error}") from None
    if not args.dry_run and not args.data.exists():
        raise ValueError(
            f"There is no {args.data}. {recipe.scene.name}: {recipe.scene.source}, {recipe.scene.download}"
        )
    _show_plan(args.recipe.stem, recipe, plan)
    stages = make_stages(recipe, plan, args.recipe.stem, args.data, args.output_dir, args.device)
    if args.dry_run:
        for stage in stages:
            show_stage(stage, show)
        return
    try:
        run_stages(stages, show)
    except StageFailed as failure:
        print(failure, file=sys.stderr)
        raise SystemExit(failure.code) from None
    show(f"# everything about this edit lies in {stages[1].result}")


def _show_plan(name: str, recipe: Recipe, plan: Plan) -> None:
    """Says what is going to happen, in lines that a shell takes for comments."""
    show(f"# {name}: {recipe.prompt!r} on {recipe.scene.name}, by {plan.method} on {plan.reconstruction}")
    show(f'# captions: "{recipe.captions.source}" to "{recipe.captions.target}"')
    for setting in plan.skipped:
        show(f"# skipped: {plan.method} has no {setting.dotted}, which {recipe.method} sets to {setting.value!r}")
    if shutil.which("ffmpeg") is None:
        show("# no ffmpeg on the PATH: pasted commands need it for the video, this one takes that of imageio-ffmpeg")
