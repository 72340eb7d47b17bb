"""What finished neighbours are worth: ``python -m latenteditor.benchmark.reference_check --output references.json``.

Views of built-in worlds are edited under guard by `black_boxes.knowing`, which draws each as a variant of its own, or
as one that looks like the finished neighbour that it is shown. Of each view it is measured by how much the edit's
colour and area are off from those of the truth; what counts is how much that differs from view to view.
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from torch import Tensor

from latenteditor.benchmark.black_boxes import DISAGREEMENT, WORLD, knowing
from latenteditor.black_box.change import change
from latenteditor.black_box.guard import Guard, GuardedEdit
from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.black_box.settings import BlackBoxConfig
from latenteditor.editing.black_box import Calls
from latenteditor.figures import write_figures
from latenteditor.handoff.capture_views import CapturedView
from latenteditor.handoff.picture_edits import View, edit_views
from latenteditor.networks.black_boxes import PictureFunction
from latenteditor.pictures import read_image
from latenteditor.runs import say
from latenteditor.worlds.dataset import read_cameras, truth_folder, view_names, write_dataset, write_truth
from latenteditor.worlds.instructions import recolouring_prompt
from latenteditor.worlds.looks import to_oklab
from latenteditor.worlds.world import random_world

CHANGED = 0.08
"""By how much a pixel of the edit has changed, in [0, 1]."""
NUM_HELD_OUT = 2
"""Views of a world beside those that are edited; a world has to have some."""


@dataclass
class ReferenceCheckConfig:
    """Which worlds, and how often views are edited."""

    output: Path
    """The file of the figures, JSON."""
    first_seed: int = 3_300_000
    """Of the first world."""
    num_worlds: int = 2
    """How many."""
    num_views: int = 16
    """Views of each."""
    size: int = 256
    """Pixels of either side."""
    disagreement: float = 0.3
    """How far an edited solid may be off from the truth, as `variants` counts."""
    num_references: tuple[int, ...] = (0, 2)
    """Numbers of finished neighbours that are shown."""


def main(config: ReferenceCheckConfig) -> None:
    """Measures, and says what came of it."""
    rows = []
    for seed in range(config.first_seed, config.first_seed + config.num_worlds):
        with tempfile.TemporaryDirectory() as folder:
            rows += measure_world(Path(folder) / str(seed), seed, config)
    for row in rows:
        say(", ".join(f"{name} {value}" for name, value in row.items() if name != "views"))
    write_figures(config.output, {"edits": rows})
    say(f"All figures: {config.output}")


def measure_world(folder: Path, seed: int, config: ReferenceCheckConfig) -> list[dict[str, Any]]:
    """A row for each number of references: how much the views of one world differ."""
    world = random_world(seed)
    prompt = recolouring_prompt(world, seed)
    write_dataset(folder, world, config.num_views, NUM_HELD_OUT, config.size, seed)
    write_truth(folder, prompt)
    views, truths = read_views(folder, prompt, config.num_views)
    os.environ[WORLD], os.environ[DISAGREEMENT] = str(folder), str(config.disagreement)
    rows = []
    for count in config.num_references:
        editor = PictureFunction("latenteditor.benchmark.black_boxes:knowing", knowing, Calls())
        guard = Guard(KeptPictures(editor, folder / f"kept-{count}"), attempts=3, seed=seed)
        edits = edit_views(guard, views, prompt, BlackBoxConfig(num_references=count))
        seen = [
            deviation(edits[number], view.image, truth)
            for number, (view, truth) in enumerate(zip(views, truths, strict=True))
            if edits[number].picture is not None
        ]
        rows.append({"seed": seed, "prompt": prompt, "references": count, **spread(seen), "views": seen})
    return rows


def read_views(folder: Path, prompt: str, count: int) -> tuple[list[View], list[Float[Tensor, "3 height width"]]]:
    """The first photographs of a world as they are edited, and what they should become."""
    views, truths = [], []
    for name, camera in list(zip(view_names(folder), read_cameras(folder), strict=True))[:count]:
        pose = torch.from_numpy(camera.camera_to_world[None, :3]).float()
        middle, focal = camera.size / 2, camera.focal_length
        seen_by = Cameras(pose, focal, focal, middle, middle, camera.size, camera.size)
        file = folder / "images" / name
        views.append(View(CapturedView(name, file), read_image(file), seen_by))
        truths.append(read_image(truth_folder(folder, prompt) / "images" / name))
    return views, truths


def deviation(
    edit: GuardedEdit, photograph: Float[Tensor, "3 height width"], truth: Float[Tensor, "3 height width"]
) -> dict[str, Any]:
    """By how much an edit's mean colour (OKLab) differs from the truth's, and its area as a multiple of the truth's."""
    assert edit.picture is not None
    true_change = change(truth, photograph, edit.seen)
    shown, true = (each > CHANGED for each in (edit.change, true_change))
    if not shown.any() or not true.any():
        return {"colour": [np.nan] * 3, "area": np.nan}
    colour = _mean_oklab(edit.picture, shown) - _mean_oklab(truth, true)
    return {"colour": colour.tolist(), "area": float(shown.sum() / true.sum())}


def spread(views: Sequence[dict[str, Any]]) -> dict[str, float | int]:
    """How much views that show the edit differ: standard deviations of their colours, in OKLab, and of their areas."""
    known = [view for view in views if np.isfinite(view["area"])]
    colours = np.array([view["colour"] for view in known]).reshape(-1, 3)
    areas = np.array([view["area"] for view in known])
    return {
        "views_used": len(known),
        "colour_deviation": float(np.sqrt(colours.var(axis=0).sum())),
        "area_deviation": float(areas.std()),
        "mean_area": float(areas.mean()),
    }


def _mean_oklab(picture: Tensor, pixels: Tensor) -> Float[np.ndarray, "3"]:
    """The mean colour of some pixels of a picture."""
    return to_oklab(picture.permute(1, 2, 0).double().numpy())[pixels[0].numpy()].mean(axis=0)


if __name__ == "__main__":
    import tyro

    main(tyro.cli(ReferenceCheckConfig, description=__doc__))
