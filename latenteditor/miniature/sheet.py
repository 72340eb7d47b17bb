"""A sheet of pictures that shows what an editor does: some edits of each kind, none of them chosen."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from latenteditor.miniature.evaluation import Case

CELL = 128
"""Pixels of either side of a picture on the sheet."""
LINE = 14
"""Pixels of a line of words."""
BLOCKS = 2
"""Kinds side by side."""


def sheet(
    cases: dict[str, list[Case]], edits: dict[str, list[Float[Tensor, "1 3 _ _"]]]
) -> UInt8[np.ndarray, "height width 3"]:
    """By kind of instruction, under each instruction: original, edit, truth."""
    blocks = [_block(kind, cases[kind], edits[kind]) for kind in cases]
    blocks += [np.full_like(blocks[0], 255)] * (-len(blocks) % BLOCKS)
    rows = [np.concatenate(blocks[first : first + BLOCKS], axis=1) for first in range(0, len(blocks), BLOCKS)]
    return np.concatenate(rows)


def _block(kind: str, cases: list[Case], edits: list[Float[Tensor, "1 3 _ _"]]) -> np.ndarray:
    """The edits of one kind."""
    width, height = len(cases) * CELL + 6, 3 * CELL + 4 * LINE
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.text((2, 1), f"{kind}: original, edit, truth", fill="black")
    for column, (case, edited) in enumerate(zip(cases, edits, strict=True)):
        first, second = _two_lines(case.prompt)
        draw.text((column * CELL + 2, LINE + 1), f"{first}\n{second}", fill="black", spacing=1)
        for row, view in enumerate((case.before, edited, case.after)):
            shrunk = F.interpolate(view, (CELL, CELL), mode="area")[0].clamp(0, 1)
            pixels = (shrunk.movedim(0, -1) * 255).round().to(torch.uint8).numpy()
            canvas.paste(Image.fromarray(pixels), (column * CELL, 3 * LINE + row * CELL + 2))
    return np.asarray(canvas)


def _two_lines(words: str, longest: int = 20) -> tuple[str, str]:
    """Words broken where the first line is full."""
    first, rest = "", words.split()
    while rest and len(f"{first} {rest[0]}") <= longest:
        first = f"{first} {rest.pop(0)}".strip()
    return first, " ".join(rest)
