"""The built-in editor as a black box, whole pictures in and out, as it is and with the faults that such editors have.

Each is a function for --edit.model, such as latenteditor.benchmark.black_boxes:miniature.
"""

from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image

from latenteditor.black_box.registration import move
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder, resize, working_size
from latenteditor.networks.black_boxes import from_pil, to_pil
from latenteditor.networks.instruct_pix2pix import InstructPix2Pix, load_instruct_pix2pix

NUM_PATCHES = 6
"""Patches that are painted over a picture at random."""
PATCH = (0.06, 0.16)
"""Their half widths, as shares of the picture's."""
MOST_MOVED = 0.05
"""Share of a picture by which it is shifted or zoomed at most."""


class Networks(NamedTuple):
    """The built-in editor."""

    autoencoder: Autoencoder
    denoiser: InstructPix2Pix


@cache
def networks() -> Networks:
    """The built-in editor, loaded once."""
    return Networks(load_autoencoder(EDIT.model, "cpu"), load_instruct_pix2pix(EDIT.model, "cpu"))


def miniature(image: Image.Image, prompt: str, seed: int = 0) -> Image.Image:
    """The whole picture as the built-in editor has it, without a mask."""
    autoencoder, denoiser = networks()
    picture = from_pil(image)[None]
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    latents = autoencoder.encode(resize(picture, working_size(*size, None, autoencoder.factor)).clamp(0, 1))
    config = EditConfig(**{**vars(EDIT), "prompt": prompt, "seed": seed, "mask": "none"})
    edited = edit_from_noise(denoiser, latents, latents, config)
    return to_pil(resize(autoencoder.decode(edited), size)[0])


def moving(image: Image.Image, prompt: str, seed: int = 0) -> Image.Image:
    """The same, shifted or zoomed by up to a twentieth and in another light."""
    rng = np.random.default_rng(seed)
    picture = from_pil(miniature(image, prompt, seed))
    size = (int(picture.shape[-2]), int(picture.shape[-1]))
    return to_pil(move(relit(picture, rng), random_motion(rng, size)))


def repainting(image: Image.Image, prompt: str, seed: int = 0) -> Image.Image:
    """The same, with patches of random colours, size and place in each picture."""
    pixels = np.array(miniature(image, prompt, seed))
    return Image.fromarray(painted_over(pixels, np.random.default_rng(seed)))


def painted_over(
    pixels: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """A picture with patches of random colours, size and place."""
    painted = pixels.copy()
    height, width = painted.shape[:2]
    for _ in range(NUM_PATCHES):
        middle = (int(rng.integers(width)), int(rng.integers(height)))
        axes = tuple(int(side) for side in rng.uniform(*PATCH, 2) * width)
        colour = tuple(int(channel) for channel in rng.integers(0, 256, 3))
        cv2.ellipse(painted, middle, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return painted


def random_motion(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """A shift or a zoom by 1 to 5 %: where a pixel of the unmoved picture lies in the moved one."""
    height, width = size
    if rng.random() < 0.5:
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.01, MOST_MOVED) * max(size)
        return np.array([[1, 0, length * np.cos(angle)], [0, 1, length * np.sin(angle)]], np.float32)
    zoom = 1 + rng.uniform(0.01, MOST_MOVED) * rng.choice([-1, 1])
    fixed = np.array([width - 1, height - 1]) / 2 + rng.uniform(-0.3, 0.3, 2) * (width, height)
    return np.array([[zoom, 0, fixed[0] * (1 - zoom)], [0, zoom, fixed[1] * (1 - zoom)]], np.float32)


def relit(picture: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """A picture of another brightness by up to a fifth, another gamma by up to a quarter, and with a colour cast."""
    gains = rng.uniform(0.8, 1.2) * rng.uniform(0.93, 1.07, 3)
    gamma = float(rng.uniform(0.8, 1.25))
    return (picture.clamp(0, 1) ** gamma * torch.tensor(gains).float()[:, None, None]).clamp(0, 1)
