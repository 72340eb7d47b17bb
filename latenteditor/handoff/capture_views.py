"""The photographs of a run's capture: where each lies, what it is called, which split it belongs to."""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager
from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataparserOutputs
from nerfstudio.utils.io import load_from_json

from latenteditor.nerf.photograph_files import is_turned, read_header

SPLITS = ("train", "val", "test")
"""As nerfstudio names them."""
TRANSFORMS = "transforms.json"
"""In which nerfstudio's own format describes a capture."""
BEFORE_APPLIED_TRANSFORM = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]
"""What nerfstudio takes for the transform of a capture that it made from COLMAP's before it noted transforms."""


@dataclass(frozen=True)
class CapturedView:
    """One photograph of a capture."""

    name: str
    """A relative path, from which the written photograph's follows."""
    photograph: Path
    """Its file, at native size."""
    splits: tuple[str, ...] = ()
    """Those of `SPLITS` that it belongs to; none for one that the capture lists and nobody uses."""
    camera: Cameras | None = None
    """A batch of one, in the scene's coordinates, at the size at which the run read the photograph; None for one that
    nobody uses."""
    train_index: int | None = None
    """Its number among the training views."""
    mask: Path | None = None
    """The capture's own mask of it."""
    turned: bool = False
    """Whether its pixels lie otherwise than its camera saw them."""
    frame: int | None = None
    """Its number among the frames of a transforms.json; None for other formats."""


@dataclass(frozen=True)
class Capture:
    """All photographs of a capture, and what its description says beside them."""

    views: tuple[CapturedView, ...]
    """In the order of the capture's description."""
    outputs: DataparserOutputs
    """What the dataparser made of the training views."""
    description: dict[str, Any] | None = None
    """The content of the transforms.json; None for other formats."""
    folder: Path | None = None
    """Where that lies."""


def read_capture(datamanager: VanillaDataManager) -> Capture:
    """Reads what a run's capture consists of.

    Raises:
        ValueError: Two photographs would get one name.
    """
    parser = datamanager.dataparser
    views, outputs = {}, {}
    for split in SPLITS:
        try:
            outputs[split] = parser.get_dataparser_outputs(split=split)
        except (RuntimeError, ValueError, KeyError, FileNotFoundError):
            if split == "train":
                raise
            continue  # A capture may do without a split; the host's parsers say so by whatever they fail with.
        for index, file in enumerate(outputs[split].image_filenames):
            key = _absolute(file)
            known = views.get(key)
            views[key] = _view(file, outputs[split], index, split, known)
    train = outputs["train"]
    capture = _from_transforms(parser, views, train) or Capture(tuple(views.values()), train)
    _require_own_names(capture)
    return capture


def transforms_file(parser: DataParser) -> Path | None:
    """The transforms.json that a dataparser reads; None for parsers of other formats."""
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import Nerfstudio

    if not isinstance(parser, Nerfstudio):
        return None
    data = Path(parser.config.data)
    return data if data.suffix == ".json" else data / TRANSFORMS


def inner_path(name: str) -> PurePosixPath:
    """A path that stays inside the folder it is joined to, as close to `name` as can be.

    What a capture says of folders above its own must not lead out of the dataset.
    """
    path = PurePosixPath(os.path.normpath(name.replace("\\", "/")))
    return PurePosixPath(path.name) if path.is_absolute() or ".." in path.parts else path


def _view(file: Path, outputs: DataparserOutputs, index: int, split: str, known: CapturedView | None) -> CapturedView:
    """A photograph as a split has it, with what other splits said of it."""
    camera = outputs.cameras[index : index + 1]
    return CapturedView(
        name=file.name,
        photograph=file,
        splits=(*(known.splits if known else ()), split),
        camera=camera,
        train_index=index if split == "train" else known.train_index if known else None,
        mask=outputs.mask_filenames[index] if outputs.mask_filenames else None,
        turned=is_turned(read_header(file), (int(camera.height), int(camera.width))),
    )


def _from_transforms(parser: DataParser, views: dict[str, CapturedView], outputs: DataparserOutputs) -> Capture | None:
    """The capture as its transforms.json lists it; None for other formats."""
    file = transforms_file(parser)
    if file is None:
        return None
    description, folder = load_from_json(file), file.parent
    if "applied_transform" not in description and (folder / "colmap/sparse/0").exists():
        description["applied_transform"] = BEFORE_APPLIED_TRANSFORM
    listed = []
    read_from: Any = parser
    for number, frame in enumerate(description["frames"]):
        path = Path(frame["file_path"])
        found = views.get(_absolute(read_from._get_fname(path, folder)), CapturedView("", folder / path))
        mask = folder / frame["mask_path"] if "mask_path" in frame else None
        listed.append(
            CapturedView(
                name=str(inner_path(frame["file_path"])),
                photograph=folder / path,
                splits=found.splits,
                camera=found.camera,
                train_index=found.train_index,
                mask=mask,
                turned=found.turned,
                frame=number,
            )
        )
    return Capture(tuple(listed), outputs, description, folder)


def _absolute(file: Path) -> str:
    return os.path.abspath(file)


def _require_own_names(capture: Capture) -> None:
    """Refuses names that two photographs would share once they are written."""
    stems: dict[str, str] = {}
    for view in capture.views:
        stem = str(PurePosixPath(view.name).with_suffix(""))
        if stem in stems:
            raise ValueError(
                f"Two photographs would be written as {stem}: {stems[stem]} and {view.photograph}. Give each a name of "
                "its own."
            )
        stems[stem] = str(view.photograph)
