"""Photographs and masks as files: which of them can be read, and as what.

Read is what a picture viewer would show: palettes, greys, inks and 16 bits become 8-bit colours, and what the camera
noted about turning is followed where the capture's cameras say that it belongs to the picture. What cannot be shown so
is refused.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

DEEP = ("I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's names for 16-bit greys."""
SHOWN = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Pillow's names for pixels that it turns into 8-bit colours by itself."""
ONE_CHANNEL = ("1", "L", "I", *DEEP)
"""Pillow's names for pixels that can be a mask: kept where they are not 0."""
SAVE_AS = "save them as PNG or JPEG in 8-bit colours, or in greys of 8 or 16 bits"
"""What fits where pixels cannot be shown."""
ORIENTATION = 0x0112
"""The EXIF tag in which a camera notes how a picture is to be turned."""
ROUNDING = 1
"""Pixels by which a smaller copy of a photograph may differ from what its camera says."""


class Header(NamedTuple):
    """What a picture's file says of itself."""

    size: tuple[int, int]
    """Height and width, as the pixels lie in the file."""
    mode: str
    """The kind of its pixels, in Pillow's words."""
    orientation: int
    """How it is to be turned, by EXIF; 1 is not at all."""

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width once it is turned."""
        return (self.size[1], self.size[0]) if self.orientation >= 5 else self.size


class Fault(NamedTuple):
    """What is wrong with a file, and what fits."""

    what: str
    """Goes on from "3 of 9 photographs"."""
    remedy: str


class Unreadable(ValueError):
    """A file is no picture."""


def read_header(file: Path) -> Header:
    """Reads what a picture says of itself, without its pixels.

    Raises:
        Unreadable: It is no picture.
    """
    try:
        with Image.open(file) as image:
            # A PNG without it in front would be read to its end to look for it.
            noted = image.format != "PNG" or "exif" in image.info
            orientation = image.getexif().get(ORIENTATION, 1) if noted else 1
            known = isinstance(orientation, int) and 1 <= orientation <= 8
            return Header(image.size[::-1], image.mode, orientation if known else 1)
    # Every format fails in its own way.
    except Exception as error:
        raise Unreadable(f"{file} is no picture that can be read ({_reason(file, error)})") from error


def read_picture(file: Path, turn: bool = False) -> Image.Image:
    """Reads a picture as 8-bit RGB, or RGBA where some of it may be transparent.

    Args:
        file: The picture.
        turn: Turns it as its camera noted.

    Raises:
        ValueError: It cannot be read, or has pixels of a kind that cannot be shown.
    """
    header = read_header(file)
    if header.mode not in (*SHOWN, *DEEP):
        raise ValueError(f"The photograph {file} holds pixels of the kind {header.mode!r}: {SAVE_AS}.")
    try:
        with Image.open(file) as image:
            return _shown(ImageOps.exif_transpose(image) if turn else image)
    except Exception as error:
        raise ValueError(
            f"The photograph {file} cannot be read to its end ({_reason(file, error)}): replace it, or take it out of "
            "the capture."
        ) from error


def is_turned(header: Header, camera_size: tuple[int, int]) -> bool:
    """Whether a camera of this (height, width) belongs to the photograph after it was turned as EXIF says."""
    return not _about(header.size, camera_size) and _about(header.upright_size, camera_size)


def photograph_fault(file: Path, camera_size: tuple[int, int], smallest: int) -> Fault | None:
    """What keeps a photograph from being read as its camera of (height, width) saw it; None where nothing does.

    Args:
        file: The photograph.
        camera_size: Height and width that its camera has.
        smallest: Pixels that each of its sides has at least.
    """
    header = _header_or_fault(file)
    if isinstance(header, Fault):
        return header
    if header.mode not in (*SHOWN, *DEEP):
        return Fault(f"hold pixels of the kind {header.mode!r}, of which nobody knows what is white", SAVE_AS)
    fits, fits_upright = (_about(size, camera_size) for size in (header.size, header.upright_size))
    if header.orientation > 1 and fits and fits_upright:
        return Fault(
            f"are to be turned (EXIF orientation {header.orientation}), and their size does not tell whether the "
            "cameras were found before or after that",
            "turn the pixels themselves, as `mogrify -auto-orient` does, before the cameras are found",
        )
    if not (fits or fits_upright):
        return Fault(
            f"are {_pixels(header.size)} where their camera has {_pixels(camera_size)}",
            "give each frame its own w, h, fl_x, fl_y, cx and cy, or make the photographs one size before the cameras "
            "are found",
        )
    if min(header.size) < smallest:
        return Fault(
            f"are {_pixels(header.size)}, and one latent cell alone takes {_pixels((smallest, smallest))}",
            "use larger photographs",
        )
    return None


def mask_fault(file: Path, camera_size: tuple[int, int]) -> Fault | None:
    """What keeps a mask from being read; None where nothing does."""
    header = _header_or_fault(file)
    if isinstance(header, Fault):
        return header
    if header.mode not in ONE_CHANNEL:
        return Fault(
            f"hold pixels of the kind {header.mode!r}", "save them with one grey channel, black where nothing is kept"
        )
    if not _about(header.size, camera_size):
        return Fault(
            f"are {_pixels(header.size)} where their photographs are {_pixels(camera_size)}",
            "make masks of the photographs' size",
        )
    return None


def some(paths: Sequence[Path], limit: int = 5) -> str:
    """The names of the first few files."""
    return ", ".join(path.name for path in paths[:limit]) + (", ..." if len(paths) > limit else "")


def _header_or_fault(file: Path) -> Header | Fault:
    try:
        return read_header(file)
    except Unreadable as error:
        empty = file.stat().st_size == 0
        what = "are empty files" if empty else f"are no pictures that can be read ({_reason(file, error)})"
        return Fault(what, "replace them, or take them out of the capture")


def _shown(image: Image.Image) -> Image.Image:
    """The picture in 8-bit RGB or RGBA."""
    if image.mode in DEEP:
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _about(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return all(abs(side - expected) <= ROUNDING for side, expected in zip(size, other, strict=True))


def _pixels(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]} pixels"


def _reason(file: Path, error: Exception) -> str:
    """What Pillow says, in one line and without the path, which stands in the sentence already."""
    line = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
    return "not a known format" if "cannot identify" in line else line.replace(str(file), "it")
