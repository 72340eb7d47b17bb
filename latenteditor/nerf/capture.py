"""What a capture says of its cameras, looked over before nerfstudio's parser reads it.

The host's parsers trust what they are given, and answer to a mistake with an assertion, a division by zero, or a scene
that never learns. What is wrong with a capture in nerfstudio's own format is found here; of other formats it is said
which parser could not read them.
"""

import json
import math
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nerfstudio.data.dataparsers.base_dataparser import DataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from latenteditor.nerf.photograph_files import Unreadable, read_header

INTRINSICS = ("fl_x", "fl_y", "cx", "cy", "w", "h")
"""What nerfstudio's format says of every camera, once for all frames or in each."""
POSITIVE = ("fl_x", "fl_y", "w", "h")
"""Those of them that are above 0."""
MAKE_IT = "make it from photographs with ns-process-data"


def require_capture(config: DataParserConfig, data: Path | None) -> None:
    """Refuses a capture that is not there or, in nerfstudio's format, one whose cameras cannot be used.

    Args:
        config: The options of the parser that is going to read it.
        data: Where it lies; None is where those options say.

    Raises:
        ValueError: In one sentence, what was wrong, what was found, and what fits.
    """
    source = Path(config.data if data is None else data)
    if not source.exists():
        raise ValueError(f"There is no capture {source}: pass the folder that ns-process-data has made by --data.")
    if not isinstance(config, NerfstudioDataParserConfig):
        return
    file = source if source.suffix == ".json" else source / "transforms.json"
    described = _read(file)
    frames = _require_frames(file, described)
    for frame in frames:
        _require_intrinsics(file, described, frame)
    _require_poses(file, frames)
    if config.downscale_factor is None:
        _require_first_photograph(file, frames)


def came_from_dataparser(error: Exception) -> bool:
    """Whether an error was raised while the host's parser read a capture."""
    return any(frame.name == "get_dataparser_outputs" for frame in traceback.extract_tb(error.__traceback__))


def unreadable(source: Path, parser: str, error: Exception) -> ValueError:
    """The sentence for a capture that the host's parser could not read."""
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, FileNotFoundError) and error.filename:
        said = f"{error.filename} does not exist"
    elif isinstance(error, KeyError):
        said = f"KeyError {said}"
    return ValueError(
        f"The capture {source} cannot be read by the parser of {parser.removesuffix('DataParserConfig')} ({said}): "
        "make it with ns-process-data, or name the parser of its format, as in `ns-train <method> blender-data`."
    )


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ValueError(
            f"The capture cannot be read, because {file} does not exist: make its folder from photographs with "
            "ns-process-data, or name the parser of another format, as in `ns-train <method> blender-data`."
        )
    try:
        described = json.loads(file.read_text("utf8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged, it is no JSON ({error}): {MAKE_IT} again.") from error
    if not isinstance(described, dict):
        raise ValueError(f"{file} holds a {type(described).__name__}, not cameras: {MAKE_IT}.")
    return described


def _require_frames(file: Path, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    frames = described.get("frames")
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{file} has no list of frames, one for each photograph: {MAKE_IT}.")
    if not frames:
        raise ValueError(f"{file} lists no photograph: {MAKE_IT}.")
    for number, frame in enumerate(frames):
        if not isinstance(frame.get("file_path"), str) or not frame["file_path"]:
            raise ValueError(f"Frame {number} of {file}, counted from 0, names no photograph as its file_path.")
    twice = [name for name, count in Counter(frame["file_path"] for frame in frames).items() if count > 1]
    if twice:
        raise ValueError(
            f"{file} lists {len(twice)} photographs more than once ({_some(twice)}): give each a frame of its own."
        )
    return frames


def _require_intrinsics(file: Path, described: Mapping[str, Any], frame: Mapping[str, Any]) -> None:
    for name in INTRINSICS:
        value = described.get(name, frame.get(name))
        where = f"{file} for {frame['file_path']}"
        if value is None:
            raise ValueError(f"There is no {name} in {where}: cameras need {', '.join(INTRINSICS)}; {MAKE_IT}.")
        known = isinstance(value, int | float) and math.isfinite(value)
        if not known or (name in POSITIVE and value <= 0):
            fits = "a number above 0" if name in POSITIVE else "a finite number"
            raise ValueError(f"The {name} in {where} is {value!r}: {fits} fits.")


def _require_poses(file: Path, frames: Sequence[Mapping[str, Any]]) -> None:
    """Refuses cameras that stand nowhere, or all at one place, from where no depth can be seen."""
    places = np.array([_pose(file, frame)[:3, 3] for frame in frames])
    spread = float(np.abs(places - places[0]).max())
    if spread <= 1e-6 * max(1.0, float(np.abs(places).max())):
        who = "The one camera" if len(places) == 1 else f"All {len(places)} cameras"
        raise ValueError(
            f"{who} of {file} stand{'s' if len(places) == 1 else ''} at one place, from which no depth can be seen: "
            "photograph the scene from four or more places, better twenty."
        )


def _pose(file: Path, frame: Mapping[str, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Where the camera of a frame stands, and how."""
    where = f"{file} for {frame['file_path']}"
    if "transform_matrix" not in frame:
        raise ValueError(f"There is no transform_matrix in {where}, so nobody knows where it was taken: {MAKE_IT}.")
    try:
        pose = np.array(frame["transform_matrix"], dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"The transform_matrix in {where} holds something else than numbers: {MAKE_IT}.") from error
    if pose.shape != (4, 4):
        shape = "x".join(map(str, pose.shape)) or "one"
        raise ValueError(f"The transform_matrix in {where} has {shape} numbers, not 4x4: {MAKE_IT}.")
    if not np.isfinite(pose).all():
        raise ValueError(
            f"The transform_matrix in {where} holds numbers that are not finite: find the cameras again, or take the "
            "frame out."
        )
    if abs(np.linalg.det(pose[:3, :3])) < 1e-6:
        raise ValueError(
            f"The transform_matrix in {where} turns nothing into a direction, its rotation is flat: find the cameras "
            "again, or take the frame out."
        )
    return pose


def _require_first_photograph(file: Path, frames: Sequence[Mapping[str, Any]]) -> None:
    """Refuses what the host's parser opens to see how large the photographs are, where that cannot be opened."""
    paths = [file.parent / frame["file_path"] for frame in frames]
    if not paths[0].is_file():
        missing = [path.name for path in paths if not path.is_file()]
        raise ValueError(
            f"{len(missing)} of {len(paths)} photographs that {file} lists do not exist ({_some(missing)}): remove "
            "them from it, or use the parser instant-ngp-data, which skips them."
        )
    try:
        read_header(paths[0])
    except Unreadable as error:
        empty = " because it is empty" if paths[0].stat().st_size == 0 else ""
        raise ValueError(f"{error}{empty}: replace it, or take it out of {file}.") from error


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
