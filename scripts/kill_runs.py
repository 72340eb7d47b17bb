"""Kills small edit runs at random moments, resumes each, and compares its end with that of one that was let alone.

Every run trains the same steps on the same built-in world. It is killed as `kill -9` does, once or twice, and the same
command goes on from its newest checkpoint. What must come of it is the last checkpoint of the uninterrupted run, bit
for bit: scene, optimizers, edited views, generators.
"""

import os
import random
import runpy
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from latenteditor.nerf import checkpoints
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import random_world

RUNS = runpy.run_path(str(Path(__file__).parents[1] / "tests/runs.py"))


@dataclass
class KillConfig:
    """How often, and what."""

    times: int = 50
    """Runs to kill."""
    steps: int = 16
    """Steps of each run; views are edited before every second one from the fourth on."""
    steps_per_save: int = 2
    """Steps from one checkpoint to the next."""
    mask: str = "per-view"
    """The mask of the edits."""
    editor: str = "miniature"
    """The InstructPix2Pix and its autoencoder: a smaller one trains sooner."""
    seed: int = 0
    """Seed of the moments."""


def train(config: KillConfig, data: Path, output: Path) -> None:
    """Trains a run in this process: from its newest checkpoint, where it has one."""
    options = {
        "pipeline.edit.mask": config.mask,
        "pipeline.edit.delta_mask.threshold": None if config.mask == "field" else 0.5,  # So few cells agree on little.
        "pipeline.model.relevance.steps": 5,
        "steps_per_save": config.steps_per_save,
    }
    run = RUNS["edit"](data, Path(config.editor), output, config.steps, **options)
    if checkpoints.checkpoint_paths(run.get_checkpoint_dir()):
        run.load_dir = run.get_checkpoint_dir()
    random.seed(0)
    np.random.seed(0)
    RUNS["train"](run)


def start(config: KillConfig, data: Path, output: Path, log: Path) -> int:
    """Starts a run in a process of its own, which this one has imported everything for; returns the process."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        train(config, data, output)
        status = 0
    finally:
        os._exit(status)


def finish(child: int) -> None:
    """Waits for a run that nobody kills.

    Raises:
        RuntimeError: It failed.
    """
    _, status = os.waitpid(child, 0)
    if status:
        raise RuntimeError(f"A run ended with the status {os.waitstatus_to_exitcode(status)}: see its log.")


def end_of(output: Path) -> dict[str, Any]:
    """What a run ends with, but for what tells of the time it took."""
    (folder,) = output.glob("*/*/*/nerfstudio_models")
    state, _ = checkpoints.read_newest(folder, print)
    extra = state["pipeline"]["_extra_state"]
    extra["edit"]["seconds"], extra["costs"] = 0, {}
    return state


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states are not the same to the last bit."""
    if isinstance(one, dict):
        pairs = [(one[key], other[key], f"{path}/{key}") for key in one.keys() & other.keys()]
        changed = [f"{path}/{key}" for key in one.keys() ^ other.keys()]
        return changed + [found for pair in pairs for found in differences(*pair)]
    if isinstance(one, list | tuple):
        pairs = [(*pair, path) for pair in zip(one, other, strict=False)]
        return [path] * abs(len(one) - len(other)) + [found for pair in pairs for found in differences(*pair)]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [path]


def kill_and_resume(config: KillConfig, data: Path, output: Path, seconds: float, moments: random.Random) -> list[str]:
    """Kills a run at a random moment, and sometimes once more, and lets it end; where it stood each time."""
    killed = []
    for _ in range(moments.choice((1, 1, 2))):
        if killed and killed[-1].endswith(f"step {config.steps - 1}"):
            break
        child = start(config, data, output, output.with_suffix(".txt"))
        time.sleep(moments.uniform(0.0, 1.1 * seconds))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        saved = [
            path for folder in output.glob("*/*/*/nerfstudio_models") for path in checkpoints.checkpoint_paths(folder)
        ]
        killed.append(f"after step {checkpoints.step_of(saved[0])}" if saved else "before the first checkpoint")
    if not killed[-1].endswith(f"step {config.steps - 1}"):  # Else it had ended, and would be trained further.
        finish(start(config, data, output, output.with_suffix(".txt")))
    return killed


def main(config: KillConfig) -> int:
    """Prints a line for each run; returns how many ended otherwise than the uninterrupted one."""
    torch.set_num_threads(1)
    load_autoencoder(config.editor, "cpu")  # Imports what every run needs, once for all.
    load_instruct_pix2pix(config.editor, "cpu")
    moments = random.Random(config.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_dataset(folder / "world", random_world(0), num_views=5, num_held_out=2, size=32, seed=0)
        for name in ("first", "whole"):  # The first fills the cache.
            started = time.perf_counter()
            finish(start(config, folder / "world", folder / name, folder / f"{name}.txt"))
            seconds = time.perf_counter() - started
        whole, failed = end_of(folder / "whole"), 0
        print(f"Uninterrupted: {config.steps} steps in {seconds:.1f} s.")
        for number in range(1, config.times + 1):
            output = folder / f"killed-{number}"
            killed = kill_and_resume(config, folder / "world", output, seconds, moments)
            differing = differences(whole, end_of(output))
            failed += bool(differing)
            said = f"differs in {', '.join(differing[:5])}" if differing else "ends the same"
            print(f"{number}: killed {', '.join(killed)}: {said}.", flush=True)
    print(f"{config.times - failed} of {config.times} runs ended as the uninterrupted one, bit for bit.")
    return failed


if __name__ == "__main__":
    sys.exit(main(tyro.cli(KillConfig, description=__doc__)) > 0)
