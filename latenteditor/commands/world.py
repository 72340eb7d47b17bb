"""Writes a built-in world as a nerfstudio dataset, and the truth of an instruction about it."""

from dataclasses import dataclass
from pathlib import Path

from latenteditor.worlds import instructions
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.world import random_world


@dataclass
class Args:
    """What to write, and where."""

    output: Path
    """The dataset's folder; it must not hold anything yet."""
    seed: int = 0
    """Which world, and from where it is seen; the same seed gives the same bytes."""
    prompt: str | None = None
    """An instruction about one or more solids, as in "make the cone blue": its truth is rendered too."""
    num_views: int = 40
    """Training views, 2 or more."""
    num_held_out: int = 8
    """Further views for evaluation only, 2 or more."""
    size: int = 256
    """Pixels of either side of a view."""


def main(args: Args) -> None:
    """Writes the world, then the truth."""
    world = random_world(args.seed)
    if args.prompt is not None:
        instructions.parse(args.prompt, world)
    write_dataset(args.output, world, args.num_views, args.num_held_out, args.size, args.seed)
    solids = ", ".join(f"the {solid.colour} {solid.shape}" for solid in world.solids)
    print(f"{args.output}: {args.num_views} + {args.num_held_out} views of {solids}.")
    if args.prompt is not None:
        print(f"{write_truth(args.output, args.prompt)}: the truth of {args.prompt!r}.")
