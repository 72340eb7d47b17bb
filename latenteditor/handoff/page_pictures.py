"""The pictures of a page, as text that stands inside it: two of a view, where it could change, and where it did."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageFilter, UnidentifiedImageError

from latenteditor.pictures import OUTLINE, OUTSIDE_BRIGHTNESS, to_bytes

LONGEST_SIDE = 1024
"""Pixels of what is shown; eight views of detailed photographs stay below 10 MB."""
LONGEST_CHANGE = 640
"""Pixels of the picture of what changed, which is shown smaller."""
SHORT_SIDE = 160
"""Pixels of what was not used."""
QUALITY = 90
"""Of JPEGs."""
AMPLIFICATION = 5
"""Of differences: where all of a picture's range would stay dark."""
RAMP = ((10, 10, 14), (87, 22, 110), (187, 55, 84), (249, 142, 9), (252, 252, 200))
"""The colours of a difference, from none to the most that is told apart, evenly spaced."""
SHAPE_TOLERANCE = 0.02
"""By which share the ratio of width to height may differ within a pair, as rounding to whole cells makes it."""


@dataclass(frozen=True)
class Pair:
    """A held-out view."""

    name: str
    """What it is called on the page."""
    before: Path
    """A picture of the view before the edit."""
    after: Path
    """And after it. Where the sizes differ, this one counts."""
    mask: Path | None = None
    """White where the edit was allowed to change, and black elsewhere. None shows none."""


class Change(NamedTuple):
    """By how much pixels differ, on average and in 1/255; None where there is no pixel to average."""

    everywhere: float
    """In the whole view."""
    inside: float | None
    """Where the edit was allowed to change."""
    outside: float | None
    """Elsewhere."""


class ShownPair(NamedTuple):
    """What the page shows of a view, pictures as data URIs."""

    name: str
    before: str
    after: str
    mask: str | None
    """Lies over the view: dark outside, with an outline."""
    difference: str
    change: Change
    width: int
    """Of the shown view in pixels."""
    height: int


def require_pictures(pairs: Sequence[Pair]) -> None:
    """Raises one ValueError that names all that is missing."""
    files = [file for pair in pairs for file in (pair.before, pair.after, pair.mask) if file is not None]
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise ValueError(f"Of {len(files)} pictures for the page {len(missing)} cannot be found: {named}.")


def show_pair(pair: Pair) -> ShownPair:
    """Reads and measures a view at its full size, and makes it small.

    Raises:
        ValueError: A file is no picture, or the two are of different shapes.
    """
    after = _read(pair.after, "RGB")
    before = _resized(_read(pair.before, "RGB"), after.size, pair.name)
    mask = None if pair.mask is None else _read_mask(pair.mask, after.size)
    difference = mean_difference(np.asarray(before), np.asarray(after))
    small = _small(after, LONGEST_SIDE)
    small_difference = np.asarray(_small(Image.fromarray(difference), LONGEST_CHANGE, Image.Resampling.BOX))
    return ShownPair(
        name=pair.name,
        before=_jpeg(before.resize(small.size, Image.Resampling.LANCZOS)),
        after=_jpeg(small),
        mask=None if mask is None else _mask_over(mask, small.size),
        difference=_jpeg(Image.fromarray(heat(small_difference))),
        change=measure_change(difference, mask),
        width=small.width,
        height=small.height,
    )


def mean_difference(
    before: UInt8[np.ndarray, "height width 3"], after: UInt8[np.ndarray, "height width 3"]
) -> Float[np.ndarray, "height width"]:
    """The absolute difference in 1/255, averaged over colours."""
    difference = np.maximum(before, after) - np.minimum(before, after)
    return np.einsum("hwc->hw", difference, dtype=np.float32, casting="safe") / 3


def measure_change(
    difference: Float[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"] | None
) -> Change:
    """Averages a difference over a view and both sides of its mask."""

    def mean(values: np.ndarray) -> float | None:
        return float(values.mean(dtype=np.float64)) if values.size else None

    everywhere = float(difference.mean(dtype=np.float64))
    if mask is None:
        return Change(everywhere, None, None)
    return Change(everywhere, mean(difference[mask]), mean(difference[~mask]))


def heat(difference: Float[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """A difference in 1/255, amplified, in colours."""
    amplified = np.clip(difference * AMPLIFICATION / 255, 0, 1)
    positions = np.linspace(0, 1, len(RAMP))
    channels = [np.interp(amplified, positions, channel) / 255 for channel in zip(*RAMP, strict=True)]
    return to_bytes(np.stack(channels, axis=-1))


def thumbnail(file: Path) -> str:
    """A small picture as an address that holds it."""
    return _jpeg(_small(_read(file, "RGB"), SHORT_SIDE))


def data_uri(kind: str, content: bytes) -> str:
    """Bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _read(file: Path, mode: str) -> Image.Image:
    try:
        with Image.open(file) as picture:
            return picture.convert(mode)
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"{file} cannot be read as a picture: {error}.") from None


def _read_mask(file: Path, size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A mask of this width and height, true above 0 as everywhere."""
    return np.asarray(_read(file, "L").resize(size, Image.Resampling.NEAREST)) > 0


def _resized(before: Image.Image, size: tuple[int, int], name: str) -> Image.Image:
    """A picture of another size but the same shape, at this width and height."""
    ratio = before.width * size[1] / (before.height * size[0])
    if abs(ratio - 1) > SHAPE_TOLERANCE:
        sizes = f"{before.width} x {before.height} pixels before and {size[0]} x {size[1]} after"
        raise ValueError(f"The two pictures of {name!r} cannot lie over each other: {sizes} the edit.")
    return before if before.size == size else before.resize(size, Image.Resampling.LANCZOS)


def _small(picture: Image.Image, longest: int, how: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """The same with at most so many pixels along its long side."""
    small = picture.copy()
    small.thumbnail((longest, longest), how)
    return small


def _jpeg(picture: Image.Image) -> str:
    content = BytesIO()
    picture.save(content, "JPEG", quality=QUALITY, optimize=True)
    return data_uri("image/jpeg", content.getvalue())


def _mask_over(mask: Bool[np.ndarray, "height width"], size: tuple[int, int]) -> str:
    """A PNG of three colours: nothing inside, a shade outside, and a line between them."""
    small = Image.fromarray(mask).convert("L").resize(size, Image.Resampling.NEAREST)
    thickness = 2 * max(1, max(size) // 400) + 1
    inside, core = (np.asarray(one) > 0 for one in (small, small.filter(ImageFilter.MinFilter(thickness))))
    picture = Image.fromarray(np.where(core, 0, np.where(inside, 2, 1)).astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 0, 0, 0, *(round(255 * channel) for channel in OUTLINE)])
    content = BytesIO()
    picture.save(content, "PNG", optimize=True, transparency=bytes([0, round(255 * (1 - OUTSIDE_BRIGHTNESS)), 255]))
    return data_uri("image/png", content.getvalue())
