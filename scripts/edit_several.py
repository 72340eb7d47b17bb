"""Edits built-in worlds more than once: two things by one prompt, or one after the other with a layer removed again.

`two` edits two solids by one prompt, split into its instructions and, for comparison, by one mask for the whole prompt.
`sequence` edits three solids in three runs, then removes the second layer. Both write figures.json and a picture
(rows: unedited scene, the edits in their order, what it should look like; columns: held-out views).
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import imageio.v3 as iio
import numpy as np
import torch
import tyro

from latenteditor.benchmark.world_runs import WorldConfig, decay_flags, edit_flags, train_command
from latenteditor.figures import write_figures
from latenteditor.runs import Run, render_command, require_prompt, run_command, run_stages
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.several import draw_recolourings, held_out_views, read_renders, solid_figures
from latenteditor.worlds.world import random_world

PICTURE_COLUMNS = 6
say = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass
class Args(WorldConfig):
    """Which worlds, which experiment."""

    experiment: Literal["two", "sequence"] = "two"
    """What to do to each world."""
    output: Path = Path("outputs/several")
    """Each world gets a folder in it; run again with the same folder to go on where it was interrupted."""
    first_seed: int = 3_000_100
    """The first world; worlds with too few solids are passed over."""
    num_worlds: int = 1
    """Worlds to edit."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""


def main(args: Args) -> None:
    """Runs every world, prints what became of each solid, and writes it as JSON."""
    count = 2 if args.experiment == "two" else 3
    seeds: list[int] = []
    seed = args.first_seed
    while len(seeds) < args.num_worlds:
        if len(random_world(seed).solids) >= count:
            seeds.append(seed)
        seed += 1
    worlds = [edit_world(args, seed, count) for seed in seeds]
    write_figures(args.output / f"{args.experiment}.json", worlds)
    for name in worlds[0]["runs"]:
        right = sum(all(solid["right"] for solid in world["runs"][name]["solids"].values()) for world in worlds)
        print(f"{name}: all named solids right in {right} of {len(worlds)} worlds")


def edit_world(args: Args, seed: int, count: int) -> dict[str, Any]:
    """One world from photographs to figures."""
    folder = (args.output / args.experiment / str(seed)).resolve()
    world = random_world(seed)
    recolourings = draw_recolourings(world, seed, count)
    instructions, prompts = [list(column) for column in zip(*recolourings, strict=True)]
    prompt = " and ".join([prompts[0], *(words.removeprefix("make ") for words in prompts[1:])])
    folder.mkdir(parents=True, exist_ok=True)
    require_prompt(folder, prompt)
    say(f"World {seed}: {prompt!r}")
    base = Run(folder, "latent-nerfacto")
    runs = {name: Run(folder, "latenteditor", name) for name in names_of(args.experiment)}

    runs_in_a_row = 1 if args.experiment == "two" else len(runs)
    decay = decay_flags(args.reconstruction_steps + runs_in_a_row * args.edit_steps)

    def train(run: Run, steps: int, *flags: object) -> None:
        log = folder / f"train-{run.method}-{run.name}.log"
        run_command(train_command(run, args, args.device, steps, *flags, *decay), log)

    def edit(name: str, words: str, start: Run, *flags: object) -> None:
        train(runs[name], args.edit_steps, *edit_flags(args, words, start), *flags)

    def render(run: Run) -> None:
        flags = ("--split", "test", "--rendered-output-names", "rgb", "--image-format", "png")
        log = folder / f"render-{run.method}-{run.name}.log"
        run_command(render_command(run, "dataset", *flags, "--output-path", run.path / "held-out"), log)

    stages: dict[str, Any] = {
        "photographs": lambda: write_dataset(
            folder / "world", world, args.num_views, args.num_held_out, args.size, seed
        ),
        "reconstruction": lambda: train(base, args.reconstruction_steps),
    }
    if args.experiment == "two":
        stages["split"] = lambda: edit("split", prompt, base)
        stages["whole"] = lambda: edit("whole", prompt, base, "--pipeline.split.splitter", "none")
    else:
        stages["first"] = lambda: edit("first", prompts[0], base)
        stages["second"] = lambda: edit("second", prompts[1], runs["first"])
        stages["third"] = lambda: edit("third", prompts[2], runs["second"])
        stages["removed"] = lambda: edit("removed", "", runs["third"], "--pipeline.remove-layers", 2)
    stages["renders"] = lambda: [render(run) for run in (base, *runs.values())]
    seconds = run_stages(stages, folder / "seconds.json", "renders", say)

    figures, rows = {}, []
    views = held_out_views(folder / "world", instructions)
    unedited = read_renders(base.path / "held-out/test/rgb", views.names)
    for name, run in runs.items():
        rendered = read_renders(run.path / "held-out/test/rgb", views.names)
        solids = {
            words: solid_figures(rendered, unedited, views, instruction.solids[0], shown)
            for words, instruction, shown in zip(prompts, instructions, shown_after(name), strict=False)
        }
        figures[name] = {"solids": {words: found for words, found in solids.items() if found}}
        rows.append(rendered)
        print_run(name, figures[name]["solids"])
    iio.imwrite(folder / "several.png", picture([unedited, *rows, views.after]))
    say(f"Picture: {folder / 'several.png'}")
    return {"seed": seed, "prompt": prompt, "runs": figures, "seconds": seconds}


def names_of(experiment: str) -> list[str]:
    """The edited runs of an experiment."""
    return ["split", "whole"] if experiment == "two" else ["first", "second", "third", "removed"]


def shown_after(name: str) -> tuple[bool, ...]:
    """Which of the edits a run should show."""
    steps = {"first": (True, False, False), "second": (True, True, False), "removed": (True, False, True)}
    return steps.get(name, (True, True, True))


def print_run(name: str, solids: dict[str, dict[str, float]]) -> None:
    """One run."""
    for words, solid in solids.items():
        print(
            f"  {name:8} {words:36} wanted {solid['psnr_wanted']:5.1f} dB, other {solid['psnr_other']:5.1f} dB, "
            f"before any edit {solid['psnr_unedited']:5.1f} dB{'' if solid['right'] else '   WRONG'}"
        )


def picture(rows: list[torch.Tensor]) -> np.ndarray:
    """Rows of views."""
    grid = torch.cat([torch.cat(list(row[:PICTURE_COLUMNS]), dim=2) for row in rows], dim=1)
    return (grid.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
