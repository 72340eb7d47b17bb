"""Photographs to learn from: any folder of pictures, without their copies in other sizes."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

SHORT_SIDES = (640, 320)
"""Pixels of the shorter side of each of a photograph's sizes; one that is smaller is left out."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")
SAME_PICTURE = 6.0
"""Mean difference, of 255, of two pictures shrunk to 8 x 8, below which one is taken for a copy of the other."""
PLAIN_PICTURE = 8.0
"""Spread, of 255, of a shrunk picture, below which there is nothing to learn from it."""


def read_photographs(folder: Path) -> list[UInt8[np.ndarray, "_ _ 3"]]:
    """All photographs in a folder and its subfolders, each in several sizes.

    Raises:
        ValueError: There is none that is large enough.
    """
    seen: list[np.ndarray] = []
    photographs = []
    for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS):
        image = Image.open(file).convert("RGB")
        shrunk = np.asarray(image.resize((8, 8), Image.Resampling.BOX)).astype(float)
        known = any(np.abs(shrunk - other).mean() < SAME_PICTURE for other in seen)
        if known or shrunk.std() < PLAIN_PICTURE:
            continue
        seen.append(shrunk)
        for side in SHORT_SIDES:
            scale = side / min(image.size)
            if scale <= 1:
                size = (round(image.width * scale), round(image.height * scale))
                photographs.append(np.asarray(image.resize(size, Image.Resampling.LANCZOS)))
    if not photographs:
        raise ValueError(f"{folder} holds no photograph of at least {min(SHORT_SIDES)} pixels along each side.")
    return photographs
