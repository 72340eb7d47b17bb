"""The photographs of a capture as an edit leaves them, written as a capture that any tool reads.

Written in nerfstudio's format, or as COLMAP leaves one (see ``colmap``), a folder holds::

    images/           one photograph for each of the capture's, at its native size and by its name
    edit_masks/       for each that was edited, how much of each pixel is the edit's, in greys
    masks/            what to train on, where that is not everything: the capture's own masks, less what shows in an
                      unedited photograph and is edited in others
    transforms.json   all that the capture's own description says, or sparse/0 as COLMAP writes it
    edit.json         what was edited, by what, by which command

What the edit does not touch is the photograph's, bit for bit; a photograph that it does not touch at all is the
capture's file, byte for byte. JPEG cannot keep pixels as they are: what is edited of such a capture is written as PNG.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from PIL import Image

from latenteditor.figures import write_figures
from latenteditor.handoff.capture_views import TRANSFORMS, Capture, CapturedView, inner_path
from latenteditor.handoff.overlay import Overlay
from latenteditor.handoff.transforms import describe
from latenteditor.nerf.photograph_files import read_picture

Format = Literal["nerfstudio", "colmap"]
IMAGES, EDIT_MASKS, MASKS, EDIT = "images", "edit_masks", "masks", "edit.json"
LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
"""Files that keep every pixel as it is."""
LEFT_OUT = ("depth_file_path",)
"""What of a frame describes the unedited scene."""


class KeptOut(NamedTuple):
    """What a photograph should not show any more, and does, because it was not edited."""

    pixels: Bool[np.ndarray, "height width"]


EditView = Callable[[CapturedView, np.ndarray], Overlay | KeptOut | None]
"""Edits a photograph, or says what of it is not to be trained on; None where nothing in it is to change."""


@dataclass(frozen=True)
class WrittenView:
    """One photograph of the dataset."""

    view: CapturedView
    """The capture's."""
    name: str
    """Its path in the folder of images."""
    mask: str | None
    """The path of the capture's own mask, in the dataset."""
    share: float
    """How much of its pixels is the edit's; 0 for one that is the capture's own file."""
    own_file: bool
    """Whether it is the capture's file, byte for byte."""


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder that is there only once it is whole: whoever looks finds all of it, or nothing.

    Raises:
        ValueError: There is something in its place.
    """
    if os.path.lexists(folder):
        raise ValueError(f"{folder} exists already, and nothing is written over: choose another --output-dir.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield partial
        partial.chmod(0o755)  # As other folders are; a temporary one is its owner's alone.
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_photographs(folder: Path, capture: Capture, edit: EditView) -> list[WrittenView]:
    """Writes every photograph of a capture, edited where there is something to edit, and the masks.

    Where one has a mask of what to train on all get one: nerfstudio reads masks of all photographs or of none.
    """
    written = []
    with get_progress("Editing photographs", suffix="photographs/s") as progress:
        for view in progress.track(capture.views, total=len(capture.views)):
            written.append(_write_view(folder, view, edit))
            if not CONSOLE.is_terminal:
                CONSOLE.print(f"Photograph {len(written)} of {len(capture.views)}")
    if any(view.mask is not None for view in written):
        return [view if view.mask is not None else _with_white_mask(folder, view) for view in written]
    return written


def describe_written(folder: Path, capture: Capture, written: Sequence[WrittenView]) -> dict[str, Any]:
    """The photographs in nerfstudio's format, with all that the capture's own description says.

    The cloud of points that it names is copied, if there is one.
    """
    description = deepcopy(capture.description) if capture.description is not None else describe(capture)
    frames = description["frames"]
    for number, view in enumerate(written):
        frame = frames[number if view.view.frame is None else view.view.frame]
        frame["file_path"] = f"{IMAGES}/{view.name}"
        if view.mask is not None:
            frame["mask_path"] = view.mask
        for name in LEFT_OUT:
            frame.pop(name, None)
    for split, other in (("train", "train"), ("val", "test"), ("test", "val")):
        # A capture may hold out one kind of views alone, which nerfstudio's format does not know.
        found = [view for view in written if split in view.view.splits] or [
            view for view in written if other in view.view.splits
        ]
        description[f"{split}_filenames"] = [f"{IMAGES}/{view.name}" for view in found]
    points = description.pop("ply_file_path", None)
    if points is not None and capture.folder is not None and (capture.folder / points).is_file():
        description["ply_file_path"] = str(inner_path(points))
        _copy(capture.folder / points, folder / description["ply_file_path"])
    return description


def write_note(
    folder: Path, written: Sequence[WrittenView], layers: Sequence[Mapping[str, Any]], about: Mapping[str, Any]
) -> None:
    """Says what was edited, and by what."""
    edited = [view for view in written if view.share]
    write_figures(
        folder / EDIT,
        {
            **about,
            "layers": list(layers),
            "photographs": len(written),
            "edited": len(edited),
            "versions": {name: version(name) for name in ("latenteditor", "nerfstudio", "torch", "diffusers")},
            "views": [
                {
                    "file": f"{IMAGES}/{view.name}",
                    "from": str(view.view.photograph),
                    "splits": list(view.view.splits),
                    "share_edited": round(view.share, 6),
                    "own_file": view.own_file,
                }
                for view in written
            ],
        },
    )


def _write_view(folder: Path, view: CapturedView, edit: EditView) -> WrittenView:
    """Writes one photograph and its masks."""
    relative = _below(inner_path(view.name), IMAGES)
    mask = None
    if view.mask is not None:
        mask = f"{MASKS}/{relative.with_suffix(view.mask.suffix)}"
        _copy(view.mask, folder / mask)
    picture = read_picture(view.photograph, view.turned)
    pixels = np.asarray(picture)
    overlay = edit(view, np.ascontiguousarray(pixels[..., :3]))
    if isinstance(overlay, KeptOut):
        mask = _write_kept_out(folder, relative, view.mask, overlay.pixels)
        overlay = None
    if overlay is None and not view.turned:
        _copy(view.photograph, folder / IMAGES / relative)
        return WrittenView(view, str(relative), mask, 0.0, own_file=True)
    if relative.suffix.lower() not in LOSSLESS:
        relative = relative.with_suffix(".png")
    share = 0.0
    if overlay is not None and overlay.lost is not None:
        mask = _write_kept_out(folder, relative, view.mask, overlay.lost)
    if overlay is not None:
        pixels = np.concatenate([overlay.picture, pixels[..., 3:]], axis=2)
        share = float(overlay.share.mean())
        _save(folder / EDIT_MASKS / relative.with_suffix(".png"), (overlay.share * 255).round().astype(np.uint8))
    _save(folder / IMAGES / relative, pixels)
    return WrittenView(view, str(relative), mask, share, own_file=False)


def _write_kept_out(folder: Path, photograph: PurePosixPath, own: Path | None, pixels: np.ndarray) -> str:
    """Writes a mask without what is kept out, and returns its path."""
    kept = ~pixels
    if own is not None:
        with Image.open(own) as opened:
            kept &= np.asarray(opened.resize(kept.shape[::-1], Image.Resampling.NEAREST)) > 0
    name = f"{MASKS}/{photograph.with_suffix('.png')}"
    _save(folder / name, kept.astype(np.uint8) * 255)
    return name


def _with_white_mask(folder: Path, written: WrittenView) -> WrittenView:
    """A photograph with a mask that keeps all of it."""
    with Image.open(folder / IMAGES / written.name) as opened:
        nothing = np.zeros(opened.size[::-1], bool)
    return replace(written, mask=_write_kept_out(folder, PurePosixPath(written.name), None, nothing))


def _below(path: PurePosixPath, folder: str) -> PurePosixPath:
    """A path without the folder that it is going to lie in."""
    return path.relative_to(folder) if path.parts[0] == folder and len(path.parts) > 1 else path


def _save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def write_transforms(folder: Path, description: Mapping[str, Any]) -> None:
    """Writes the description in nerfstudio's format."""
    (folder / TRANSFORMS).write_text(json.dumps(description, indent=2) + "\n", encoding="utf8")
