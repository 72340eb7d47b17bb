"""Measures what a run holds in memory while it edits view after view, and draws it.

Every step edits one view of a small built-in world. What the process holds and how many tensors are alive is noted
after each edit; a run that loses track of what it has made would hold more and more.
"""

import gc
import runpy
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from latenteditor.figures import write_figures
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import random_world

RUNS = runpy.run_path(str(Path(__file__).parents[1] / "tests/runs.py"))
BEGIN = 4
"""Step of the first edit."""


@dataclass
class MemoryConfig:
    """How long, and of what."""

    output: Path
    """The picture to write, a PNG; the figures lie beside it with the ending .json."""
    edits: int = 500
    """View edits of the run."""
    editor: str = "miniature"
    """The InstructPix2Pix and its autoencoder."""
    mask: str = "per-view"
    """The mask of the edits."""


def resident_bytes() -> int:
    """Main memory that this process holds now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    raise ValueError("This system does not say what a process holds: measure on Linux.")


def living_tensors() -> int:
    """Tensors that somebody still holds."""
    gc.collect()
    return sum(issubclass(type(found), torch.Tensor) for found in gc.get_objects())


def measure(config: MemoryConfig) -> dict[str, list[int]]:
    """What the run held after each of its view edits."""
    noted: dict[str, list[int]] = {"edits": [], "resident_bytes": [], "tensors": []}
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "world"
        write_dataset(data, random_world(0), num_views=8, num_held_out=2, size=RUNS["SIZE"], seed=0)
        options = {"pipeline.schedule.steps_per_edit": 1, "steps_per_save": 100, "pipeline.edit.mask": config.mask}
        run = RUNS["edit"](data, Path(config.editor), Path(temporary), BEGIN + config.edits, **options)
        trainer: Any = RUNS["set_up"](run)

        def note(step: int) -> None:
            if trainer.pipeline.update.progress.edits:
                noted["edits"].append(trainer.pipeline.update.progress.edits)
                noted["resident_bytes"].append(resident_bytes())
                noted["tensors"].append(living_tensors())

        trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], note))
        trainer.train()
    return noted


def draw(file: Path, noted: dict[str, list[int]]) -> None:
    """Draws both over the edits."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    memory, tensors = figure.subplots(2, sharex=True)
    memory.plot(noted["edits"], [held / 1e6 for held in noted["resident_bytes"]])
    memory.set(ylabel="main memory, MB", ylim=(0, None))
    tensors.plot(noted["edits"], noted["tensors"])
    tensors.set(xlabel="view edits", ylabel="tensors alive", ylim=(0, None))
    figure.savefig(file, dpi=100)


def main(config: MemoryConfig) -> int:
    """Writes figures and picture, and says how they began and ended."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    noted = measure(config)
    config.output.parent.mkdir(parents=True, exist_ok=True)
    draw(config.output, noted)
    write_figures(config.output.with_suffix(".json"), noted)
    held = noted["resident_bytes"]
    for at in sorted({0, len(held) // 5, len(held) // 2, len(held) - 1}):
        print(f"After {noted['edits'][at]} edits: {held[at] / 1e6:.1f} MB, {noted['tensors'][at]} tensors.")
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(MemoryConfig, description=__doc__)))
