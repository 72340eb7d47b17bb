"""An unedited and an edited scene, seen from the same cameras: frames of two folders, or renders of two runs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from latenteditor.evaluation.frames import frame_names, read_frames
from latenteditor.evaluation.reprojection import Frame
from latenteditor.pictures import to_picture, write_picture


@dataclass(frozen=True)
class Scenes:
    """What is compared: lists in the order of the frames' names."""

    names: list[str]
    """Of the frames."""
    original: list[Tensor]
    """Images of shape (3, height, width), in [0, 1]; frames may differ in size."""
    edited: list[Tensor]
    """The same after the edit."""
    frames: dict[str, list[Frame]] = field(default_factory=dict)
    """Of `original` and of `edited`: images with depth and cameras."""
    no_depth: str = ""
    """Why there are no such frames."""
    runs: dict[str, Any] = field(default_factory=dict)
    """Which methods' runs were rendered."""


def read_scenes(original: Path, edited: Path) -> Scenes:
    """Reads the frames of two folders.

    Raises:
        ValueError: The folders hold no frames, or different ones.
    """
    names, others = frame_names(original), frame_names(edited)
    if names != others:
        odd = sorted(set(names) ^ set(others))
        raise ValueError(
            f"The folders {original} and {edited} hold different frames (such as {odd[0]}): render both scenes from "
            "the same cameras."
        )
    images = read_frames(original, names)
    no_depth = "folders have no depth: pass two config.yml"
    return Scenes(names, images, read_frames(edited, names, images), no_depth=no_depth)


def render_scenes(original: Path, edited: Path, camera_path: Path | None, folder: Path) -> Scenes:
    """Renders two runs, and keeps the images in the folders `original` and `edited` of a folder.

    Args:
        original: The config.yml of the unedited scene's run.
        edited: That of the edited scene.
        camera_path: A camera path that the viewer exported; None renders the held-out views.
        folder: Where the images land.

    Raises:
        ValueError: A run cannot be loaded, or the two do not show the same views.
    """
    # The host takes seconds to import, and folders do not need it.
    from latenteditor.evaluation.renders import render_run, require_same_cameras

    runs = {"original": render_run(original, camera_path), "edited": render_run(edited, camera_path)}
    require_same_cameras(runs["original"], runs["edited"])
    for scene, run in runs.items():
        for name, image in zip(run.names, run.images, strict=True):
            write_picture(folder / scene / f"{name}.png", to_picture(image))
    return Scenes(
        names=runs["original"].names,
        original=runs["original"].images,
        edited=runs["edited"].images,
        frames={scene: run.frames for scene, run in runs.items()},
        no_depth=runs["original"].no_depth or runs["edited"].no_depth,
        runs={scene: {"method": run.method, "step": run.step} for scene, run in runs.items()},
    )
