"""Edits built-in worlds from end to end with the ns-* commands, and measures each against the truth.

For each world: photographs, a latent-nerfacto run, a latenteditor run on top, a dense-nerfacto run of the unedited
scene, the edited photographs and the finished run that is learnt from them, renders of the held-out views, a video, a
picture (rows: original, mask, edited in latents, finished, truth; columns: held-out views) and a row of the table. A
world takes about a quarter of an hour on two CPU cores. Needs Linux or macOS.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from latenteditor.benchmark.world_edit import Stage, edit_world, medians, table
from latenteditor.benchmark.world_runs import WorldConfig, WorldFolder, require_editor
from latenteditor.devices import default_device
from latenteditor.figures import write_figures
from latenteditor.runs import say
from latenteditor.worlds import instructions
from latenteditor.worlds.world import random_world

THREADS = "OMP_NUM_THREADS"


@dataclass
class Args(WorldConfig):
    """Which worlds, which edit, how long."""

    edit_steps: int = 192
    """Training steps in which views are edited; the finish needs no more than what the views agree on then."""
    output: Path | None = None
    """Each world gets a folder in it; pass the folder of an interrupted demo to go on where it was. Without it, a new
    one: demo/<date-time> in the working directory."""
    prompt: str | None = None
    """An instruction about the world, as in "make the cone blue"; a recolouring drawn from the seed where absent."""
    first_seed: int = 3_000_028
    """The first world; the built-in editor was trained on the worlds from 0 on."""
    num_worlds: int = 1
    """How many worlds to edit, of the seeds from the first on."""
    device: str = default_device()
    """Where to train: any device nerfstudio knows. The GPU where there is one."""
    last_stage: Stage = "report"
    """The stage after which to stop."""
    video: bool = True
    """Whether to render a video around the edited scene."""


def main(args: Args) -> None:
    """Runs every world, then prints the table and writes it as JSON."""
    if args.num_worlds < 1:
        raise ValueError(f"There must be 1 or more worlds to edit, not {args.num_worlds}.")
    _use_one_thread()
    require_editor(args.edit)
    prompts = {}
    for seed in range(args.first_seed, args.first_seed + args.num_worlds):
        world = random_world(seed)
        prompts[seed] = args.prompt or instructions.recolouring_prompt(world, seed)
        instructions.parse(prompts[seed], world)
    output = (args.output or Path("demo") / time.strftime("%Y%m%d-%H%M%S")).resolve()
    say(f"Everything goes to {output}.")
    rows = []
    for seed, prompt in prompts.items():
        say(f"World {seed}: {prompt!r}")
        folder = WorldFolder(output / str(seed), seed, args, args.device)
        rows.append(edit_world(folder, prompt, args.last_stage, args.video, say))
    if all(rows):
        write_figures(output / "worlds.json", {"worlds": rows, "medians": medians(rows)})
        say(f"\n{table(rows)}")


def _use_one_thread() -> None:
    """Two threads that wait for each other by spinning make small networks slower; whoever asks for more gets them."""
    os.environ.setdefault(THREADS, "1")
    torch.set_num_threads(int(os.environ[THREADS]))
