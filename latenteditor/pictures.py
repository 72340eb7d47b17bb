"""Images as 8-bit pictures: read, written, side by side, with labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

OUTSIDE_BRIGHTNESS = 0.35
"""Of what a mask leaves out, where the mask is shown."""
LINE = 2
"""Pixels of the white line around each image of a grid; two of them meet between neighbours."""
OUTLINE = (1.0, 0.0, 1.0)
"""The colour of a region's outline, which few scenes have."""


class Pane(NamedTuple):
    """A picture with a label."""

    label: str
    picture: Image.Image


def to_bytes(image: Float[np.ndarray, "height width channels"]) -> UInt8[np.ndarray, "height width channels"]:
    """A picture in [0, 1] as bytes."""
    return (image * 255).round().astype(np.uint8)


def to_picture(image: Float[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """An image as files hold it; what lies beyond [0, 1] is cut off."""
    return (image.clamp(0, 1) * 255).round().byte().movedim(0, -1).cpu().numpy()


def eight_bits(images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views 3 height width"]:
    """Images rounded as files hold them, so that all are compared alike."""
    return (images.float().clamp(0, 1) * 255).round() / 255


def read_image(file: Path) -> Float[Tensor, "3 height width"]:
    """An image file in [0, 1], without alpha."""
    with Image.open(file) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).movedim(-1, 0).float() / 255


def read_images(folder: Path, names: Sequence[str]) -> Float[Tensor, "views 3 height width"]:
    """Images of one size by name."""
    return torch.stack([read_image(folder / name) for name in names])


def read_regions(folder: Path, names: Sequence[str]) -> Bool[Tensor, "views 1 height width"]:
    """Masks of one size by name, true above 0."""
    masks = [np.array(Image.open(folder / name)) > 0 for name in names]
    return torch.stack([torch.from_numpy(mask)[None] for mask in masks])


def write_picture(file: Path, picture: UInt8[np.ndarray, "height width 3"]) -> None:
    """Writes a picture, its folder included."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(file)


def grid(rows: Sequence[Sequence[Tensor]]) -> UInt8[np.ndarray, "height width 3"]:
    """Rows of images of shape (3, height, width), with white lines between them.

    Rows are as long as each other. Images of different sizes stand at the top left of their cell.
    """
    heights = [max(image.shape[-2] for image in row) for row in rows]
    widths = [max(row[column].shape[-1] for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row, height in zip(rows, heights, strict=True):
        cells = [
            F.pad(image, (LINE, LINE + width - image.shape[-1], LINE, LINE + height - image.shape[-2]), value=1.0)
            for image, width in zip(row, widths, strict=True)
        ]
        lines.append(torch.cat(cells, dim=2))
    return to_picture(torch.cat(lines, dim=1))


def highlight(
    images: Float[Tensor, "views 3 height width"],
    masks: Bool[Tensor, "views 1 height width"],
    brightness: float = OUTSIDE_BRIGHTNESS,
) -> Float[Tensor, "views 3 height width"]:
    """Images that are dark outside a mask."""
    return images * (brightness + (1 - brightness) * masks)


def outlined(image: Float[Tensor, "3 height width"], mask: Bool[Tensor, "height width"]) -> Tensor:
    """An image with a region's inner border drawn in."""
    thickness = max(1, image.shape[-2] // 150)
    rest = F.max_pool2d((~mask)[None].float(), 2 * thickness + 1, stride=1, padding=thickness)[0] > 0
    return torch.where(mask & rest, torch.tensor(OUTLINE)[:, None, None], image)


def evenly_spread(count: int, most: int) -> list[int]:
    """Indices of at most so many of a number of things, the first and the last among them."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(count, most))})


def draw_sheet(rows: Sequence[Sequence[Pane]], lines: Sequence[str]) -> Image.Image:
    """Labelled panes of one size under some lines, of which the first is the title and the last the small print."""
    width, height = rows[0][0].picture.size
    font = label_font(width)
    gap, label_height = font.size // 2, 2 * font.size
    sheet_width = gap + max(len(row) for row in rows) * (width + gap)
    heading = _heading(lines, font, sheet_width - 2 * gap)
    top = gap + sum(round(1.5 * line_font.size) for _, line_font, _ in heading)
    sheet = Image.new("RGB", (sheet_width, top + len(rows) * (label_height + height + gap)), "white")
    drawing, y = ImageDraw.Draw(sheet), gap
    for line, line_font, colour in heading:
        drawing.text((gap, y), line, fill=colour, font=line_font)
        y += round(1.5 * line_font.size)
    for row, panes in enumerate(rows):
        y = top + row * (label_height + height + gap) + label_height
        for column, pane in enumerate(panes):
            x = gap + column * (width + gap)
            drawing.text((x, y - gap // 2), pane.label, fill="black", font=font, anchor="ld")
            sheet.paste(pane.picture, (x, y))
    return sheet


def label_font(width: int) -> Any:
    """A font that suits panes of this width."""
    return ImageFont.load_default(max(16, width // 22))


def _heading(lines: Sequence[str], font: Any, width: int) -> list[tuple[str, Any, str]]:
    """Lines broken to a width, with their fonts and colours."""
    title: Any = ImageFont.load_default(1.5 * font.size)
    fonts = [title, *(font for _ in lines[1:])]
    colours = [*("black" for _ in lines[1:]), "dimgray"]
    return [
        (piece, line_font, colour)
        for line, line_font, colour in zip(lines, fonts, colours, strict=True)
        for piece in wrap(line, line_font, width)
    ]


def wrap(line: str, font: Any, width: int) -> list[str]:
    """A line broken between words so that each piece is at most so many pixels wide."""
    pieces: list[str] = []
    for word in line.split():
        longer = f"{pieces[-1]} {word}" if pieces else word
        if pieces and font.getlength(longer) <= width:
            pieces[-1] = longer
        else:
            pieces.append(word)
    return pieces
