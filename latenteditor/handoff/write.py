"""An edited run's photographs as a dataset: loaded, settled, written."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager

from latenteditor.handoff.capture_views import read_capture
from latenteditor.handoff.colmap import write_sparse
from latenteditor.handoff.dataset import (
    IMAGES,
    Format,
    WrittenView,
    describe_written,
    new_folder,
    write_note,
    write_photographs,
    write_transforms,
)
from latenteditor.handoff.settled_edits import SettledEdits
from latenteditor.nerf.editing_config import settings_of
from latenteditor.nerf.editing_pipeline import EditingPipeline
from latenteditor.nerf.loaded_run import LoadedRun, load_run

SETTLE_NOISE = 0.98
"""What the settling sweep starts from, as a fraction of the schedule."""


def write_edited_dataset(
    config: Path, folder: Path, kind: Format = "nerfstudio", noise: float = SETTLE_NOISE, command: str = ""
) -> list[WrittenView]:
    """Writes the photographs of a run's capture as its active layers change them.

    Args:
        config: The run's config.yml.
        folder: Where the dataset is going to be; nothing is there yet.
        kind: The format of its description.
        noise: What each edit starts from, as a fraction of the schedule.
        command: What was typed, for whoever finds the dataset.

    Raises:
        ValueError: The run cannot be loaded, or what it holds cannot be written so.
    """
    with new_folder(folder) as partial:
        run = load_run(config)
        datamanager: Any = run.pipeline.datamanager
        if not isinstance(datamanager, VanillaDataManager):
            raise ValueError(f"The run of {config} has no photographs that an edit could be laid over.")
        capture = read_capture(datamanager)
        if isinstance(run.pipeline, EditingPipeline) and run.pipeline.layers.active:
            datamanager.cache_dir = Path(run.config.output_dir) / ".latents"
            edits = SettledEdits(run.pipeline, noise)
            written = write_photographs(partial, capture, edits.edit)
        else:
            written = write_photographs(partial, capture, lambda view, photograph: None)
        description = describe_written(partial, capture, written)
        if kind == "colmap":
            write_sparse(partial, description, f"{IMAGES}/")
        else:
            write_transforms(partial, description)
        write_note(partial, written, _layers(run), {**_about(run, config, noise), "command": command})
    return written


def _layers(run: LoadedRun) -> Sequence[dict[str, Any]]:
    """The layers of an edited run, without what they made of the views."""
    names = ("number", "instruction", "prompt", "prompt_number", "active")
    layers = run.pipeline.layers.layers if isinstance(run.pipeline, EditingPipeline) else []
    return [{name: getattr(layer, name) for name in names} for layer in layers]


def _about(run: LoadedRun, config: Path, noise: float) -> dict[str, Any]:
    """Which run it was, and by which settings it edits."""
    pipeline: Any = run.config.pipeline
    edited = isinstance(run.pipeline, EditingPipeline)
    settings = {**settings_of(pipeline), "settle_noise": noise} if edited else {}
    return {"method": run.config.method_name, "run": str(config), "step": run.step, "settings": settings}
