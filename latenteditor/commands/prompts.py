"""Edits built-in worlds more than once: two things by one prompt, or one after the other with a layer removed again.

`two` edits two solids by one prompt, split into its instructions and, for comparison, by one mask for the whole prompt.
`sequence` edits three solids in three runs, then removes the second layer. Both write their figures as JSON and a
picture of each world (rows: unedited scene, the edits in their order, what it should look like; columns: held-out
views). Needs Linux or macOS.
"""

from dataclasses import dataclass
from pathlib import Path

from latenteditor.benchmark.several_edits import NUM_SOLIDS, Experiment, draw_edits, edit_several
from latenteditor.benchmark.world_runs import WorldConfig, WorldFolder, require_editor
from latenteditor.devices import default_device
from latenteditor.figures import write_figures
from latenteditor.runs import say
from latenteditor.worlds.several import draw_seeds


@dataclass
class Args(WorldConfig):
    """Which worlds, which experiment."""

    experiment: Experiment = "two"
    """What to do to each world: `two` solids by one prompt, or a `sequence` of three edits and one taken back."""
    output: Path = Path("outputs/several")
    """Each world gets a folder in it; run again with the same folder to go on where it was interrupted."""
    first_seed: int = 3_000_100
    """The first world; worlds with too few solids are passed over. The built-in editor was trained on the worlds from 0
    on."""
    num_worlds: int = 1
    """How many worlds to edit."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""


def main(args: Args) -> None:
    """Runs every world, prints what became of each solid, and writes it as JSON."""
    if args.num_worlds < 1:
        raise ValueError(f"There must be 1 or more worlds to edit, not {args.num_worlds}.")
    require_editor(args.edit)
    worlds = []
    for seed in draw_seeds(args.first_seed, args.num_worlds, NUM_SOLIDS[args.experiment]):
        folder = WorldFolder((args.output / args.experiment / str(seed)).resolve(), seed, args, args.device)
        edits = draw_edits(folder, args.experiment)
        say(f"World {seed}: {edits.prompt!r}")
        worlds.append(edit_several(edits, say))
    file = args.output / f"{args.experiment}.json"
    write_figures(file, worlds)
    for name in worlds[0]["runs"]:
        right = sum(all(solid["right"] for solid in world["runs"][name]["solids"].values()) for world in worlds)
        say(f"{name}: all named solids right in {right} of {len(worlds)} worlds")
    say(f"All figures: {file}")
