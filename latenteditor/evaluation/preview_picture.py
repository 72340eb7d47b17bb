"""The picture of a preview: the view and its delta score, and a row for each threshold with the mask and the edits."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from matplotlib import colormaps
from PIL import Image, ImageDraw
from torch import Tensor

from latenteditor.editing.delta_mask import CLAMPS, DeltaMaskConfig, reaches_gate
from latenteditor.evaluation.photograph_preview import PhotographPreview, percent
from latenteditor.pictures import Pane, draw_sheet, highlight, label_font, to_picture

NARROWEST_PANE = 320
"""Pixels: views that are narrower are shown enlarged, so that labels fit."""
OUTSIDE_BRIGHTNESS = 0.3
"""Of what the mask leaves out, where the mask is shown."""
COLOUR_MAP = "turbo"
"""As in the pictures that an edit leaves in tensorboard."""


def preview_picture(shown: PhotographPreview, lines: Sequence[str]) -> Image.Image:
    """All panes under some lines, of which the first is the title and the last the small print."""
    return draw_sheet(lay_out(shown), lines)


def lay_out(shown: PhotographPreview) -> list[list[Pane]]:
    """A row of the view and its score, then for each threshold one of the mask and the edits."""
    size = _pane_size(shown)
    masks = _enlarged(shown.found.masks.float(), shown)
    dimmed = highlight(shown.photograph.expand(len(masks), -1, -1, -1), masks > 0, OUTSIDE_BRIGHTNESS)
    several = len({guidance.image for guidance in shown.trials.guidances}) > 1
    rows = [_first_row(shown)]
    for row, (threshold, mask) in enumerate(zip(shown.trials.thresholds, shown.found.masks, strict=True)):
        name = "no mask" if threshold is None else f"threshold {threshold:g}"
        panes = [_pane(f"{name}, covers {percent(mask)}", dimmed[row], size)]
        for column, guidance in enumerate(shown.trials.guidances):
            label = f"text {guidance.text:g}" + several * f", image {guidance.image:g}"
            panes.append(_pane(label, shown.edited[column, row], size))
        rows.append(panes)
    return rows


def colour_bar(size: tuple[int, int], ticks: Mapping[str, float]) -> Image.Image:
    """The colours of the score from 0 to 1, with labels beside them, in a picture of this (width, height)."""
    width, height = size
    picture = Image.new("RGB", size, "white")
    values = np.linspace(1, 0, height)[:, None]
    bar = Image.fromarray(to_picture(_coloured(torch.from_numpy(values))))
    picture.paste(bar.resize((width // 12, height)), (0, 0))
    drawing, font = ImageDraw.Draw(picture), label_font(width)
    for label, value in ticks.items():
        line = round((1 - value) * (height - 1))
        drawing.line([(width // 12, line), (width // 8, line)], fill="black", width=2)
        middle = min(max(line, font.size), height - font.size)
        drawing.text((width // 7, middle), label, fill="black", font=font, anchor="lm")
    return picture


def _first_row(shown: PhotographPreview) -> list[Pane]:
    """The view as it is, through the autoencoder, and its score with what its colours mean."""
    size = _pane_size(shown)
    score, config = shown.found.score, shown.trials.edit.delta_mask
    whole = _whole_score(score, config)
    # Where nothing reaches the gate, a score that is divided by its own peak would look like one that does.
    applies = bool(reaches_gate(score, config.gate))
    ticks = {f"1 (raw {whole:.3g})" if applies else f"gate (raw {whole:.3g})": 1.0, "0": 0.0}
    ticks |= {f"threshold {value:g}": value for value in shown.trials.thresholds if applies and value is not None}
    return [
        _pane("original", shown.photograph[0], size),
        _pane("through the autoencoder", shown.decoded[0], size),
        _pane("delta score", _coloured((_enlarged(score, shown)[0, 0] / whole).clamp(0, 1)), size),
        Pane("", colour_bar(size, ticks)),
    ]


def _whole_score(score: Tensor, config: DeltaMaskConfig) -> float:
    """The raw score that is shown as 1."""
    return CLAMPS[config.clamp](score.flatten(1)).item() if reaches_gate(score, config.gate) else config.gate


def _pane_size(shown: PhotographPreview) -> tuple[int, int]:
    """(width, height) of every pane."""
    height, width = shown.photograph.shape[-2:]
    scale = max(1.0, NARROWEST_PANE / width)
    return round(width * scale), round(height * scale)


def _pane(label: str, image: Float[Tensor, "3 height width"], size: tuple[int, int]) -> Pane:
    """An image at the size of panes."""
    return Pane(label, Image.fromarray(to_picture(image)).resize(size, Image.Resampling.BICUBIC))


def _enlarged(values: Float[Tensor, "views 1 rows columns"], shown: PhotographPreview) -> Tensor:
    """Values of latent cells for each pixel of the view."""
    return F.interpolate(values.float().cpu(), shown.photograph.shape[-2:], mode="nearest-exact")


def _coloured(values: Tensor) -> Tensor:
    """Values in [0, 1] as an image of colours."""
    return torch.from_numpy(colormaps[COLOUR_MAP](values.numpy())[..., :3]).movedim(-1, 0)
