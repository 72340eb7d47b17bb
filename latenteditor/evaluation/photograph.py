"""One photograph, by itself or as a view of a dataset in nerfstudio's format."""

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latenteditor.nerf.photograph_files import Unreadable, is_turned, photograph_fault, read_header, read_picture


def find_view(data: Path, view: int | str) -> Path:
    """The photograph of one view of a dataset.

    Args:
        data: A folder with a transforms.json, or that file.
        view: The name of its file, or its number from 0 on, in the order of the names.

    Raises:
        ValueError: There is no such dataset, or no such view in it.
    """
    file = transforms_file(data)
    if not file.is_file():
        raise ValueError(f"There is no {file}: make it with ns-process-data, or pass a photograph with --image.")
    try:
        names = sorted(frame["file_path"] for frame in json.loads(file.read_text("utf8"))["frames"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not list frames with a file_path each: make it with ns-process-data.") from error
    if isinstance(view, int):
        if not 0 <= view < len(names):
            raise ValueError(f"There is no view {view}: {file} has {len(names)} views, counted from 0.")
        return file.parent / names[view]
    return file.parent / _named(view, names, file)


def transforms_file(data: Path) -> Path:
    """The file that describes a dataset in nerfstudio's format."""
    return data if data.suffix == ".json" else data / "transforms.json"


def read_photograph(file: Path, upright: bool) -> Float[Tensor, "1 3 height width"]:
    """A photograph in [0, 1], transparent pixels on black, as training reads it.

    Args:
        file: Any picture.
        upright: Turns it as its camera noted.

    Raises:
        ValueError: There is no such file, or it is no picture.
    """
    if not file.is_file():
        raise ValueError(f"There is no photograph {file}: pass a JPEG or a PNG.")
    try:
        image = read_picture(file, turn=upright).convert("RGBA")
    except Unreadable as error:
        raise ValueError(f"{error}: pass a JPEG or a PNG.") from error
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return (pixels[..., :3] * pixels[..., 3:]).permute(2, 0, 1)[None]


def read_view(data: Path, file: Path) -> Float[Tensor, "1 3 height width"]:
    """The photograph of one view of a dataset, turned as its camera noted where its camera of the dataset is.

    Raises:
        ValueError: There is no such file, or training would refuse it.
    """
    size = _camera_size(transforms_file(data), file)
    if size is None or not file.is_file():
        return read_photograph(file, upright=False)
    fault = photograph_fault(file, size, smallest=1)
    if fault is not None:
        raise ValueError(f"1 of the photographs of {data} {fault.what} ({file.name}): {fault.remedy}.")
    return read_photograph(file, upright=is_turned(read_header(file), size))


def _camera_size(transforms: Path, file: Path) -> tuple[int, int] | None:
    """Height and width of the camera of a photograph, where a dataset tells them."""
    described = json.loads(transforms.read_text("utf8"))
    for frame in described["frames"]:
        if transforms.parent / frame["file_path"] == file:
            height, width = (frame.get(side, described.get(side)) for side in ("h", "w"))
            return None if height is None or width is None else (int(height), int(width))
    return None


def _named(view: str, names: list[str], file: Path) -> str:
    """The only one of the names that ends in, or is, a view's name."""
    fitting = [name for name in names if view in (name, Path(name).name, Path(name).stem)]
    if not names:
        raise ValueError(f"{file} lists no views: make it with ns-process-data.")
    if len(fitting) != 1:
        raise ValueError(
            f"{len(fitting)} of the {len(names)} views of {file} are named {view!r}: pass one of their names, "
            f"such as {names[0]!r}, or a number from 0 to {len(names) - 1}."
        )
    return fitting[0]
