"""Frames of a scene as the images of a folder, named by their files without suffix."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from latenteditor.pictures import read_image

SUFFIXES = (".png", ".jpg", ".jpeg")


def frame_names(folder: Path) -> list[str]:
    """The names of a folder's frames, in order.

    Raises:
        ValueError: There are none, or two of one name.
    """
    names = sorted(file.stem for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not names:
        raise ValueError(f"{folder} holds no frames ({', '.join(SUFFIXES)}): pass the folder of RGB, as test/rgb.")
    if len(names) != len(set(names)):
        raise ValueError(f"{folder} holds two images of one name: keep one of each.")
    return names


def find_frame(folder: Path, name: str) -> Path:
    """The file of one frame in a folder.

    Raises:
        ValueError: There is none.
    """
    for suffix in SUFFIXES:
        for file in (folder / f"{name}{suffix}", folder / f"{name}{suffix.upper()}"):
            if file.is_file():
                return file
    raise ValueError(f"{folder} has no image of the frame {name}: there should be one of each frame, by its name.")


def read_frames(folder: Path, names: Sequence[str], like: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Images of shape (3, height, width) in [0, 1], of the sizes of others where there are such.

    Raises:
        ValueError: A frame is missing or has another size.
    """
    images = []
    for index, name in enumerate(names):
        file = find_frame(folder, name)
        images.append(read_image(file))
        if like is not None:
            require_size(file, images[-1].shape[-2:], like[index].shape[-2:])
    return images


def require_size(file: Path, found: Sequence[int], expected: Sequence[int]) -> None:
    """Refuses an image of another (height, width) than the frame it belongs to.

    Raises:
        ValueError: They differ.
    """
    if tuple(found) != tuple(expected):
        raise ValueError(
            f"{file} has {found[1]}x{found[0]} pixels and its frame {expected[1]}x{expected[0]}: make them one size."
        )
