"""The built-in editor as a black box, whole pictures in and out, as it is and with the faults that such editors have.

And one that knows the world, to tell what it is worth to show an editor finished pictures of other views. Each is a
function for --edit.model, such as latenteditor.benchmark.black_boxes:miniature.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from latenteditor.black_box.registration import move
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import Autoencoder, load_autoencoder, resize, working_size
from latenteditor.networks.black_boxes import from_pil, to_pil
from latenteditor.networks.instruct_pix2pix import InstructPix2Pix, load_instruct_pix2pix
from latenteditor.pictures import to_bytes
from latenteditor.worlds.dataset import read_cameras, read_world, view_names
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.oracle import search
from latenteditor.worlds.render import Camera, Hits
from latenteditor.worlds.variants import NUM_SHADES, SOLID_TRAITS, TRAITS, Numbers, paint_variant, trace_variant

WORLD, DISAGREEMENT = "LATENTEDITOR_WORLD", "LATENTEDITOR_DISAGREEMENT"
"""Variables of the environment that say, for `knowing`, in which folder its world lies and how far views disagree."""
LOOK_SIZE = 64
"""Pixels along each side of pictures that `knowing` compares."""
LARGEST_DIFFERENCE = 0.1
"""Of a pixel, above which it plays no part how different it is where a view is recognised."""
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


def knowing(image: Image.Image, prompt: str, seed: int = 0, references: Sequence[Image.Image] = ()) -> Image.Image:
    """A photograph of a built-in world as the prompt has it, drawn as a variant of the truth.

    By itself it draws any variant, decided by the seed; with references it draws the one that looks most like what the
    first of them shows. `WORLD` and `DISAGREEMENT` in the environment say of which world, and up to which numbers; keep
    what it made in a folder for each, as its identity does not tell them apart.
    """
    folder, reach = Path(os.environ[WORLD]), float(os.environ.get(DISAGREEMENT, "0.3"))
    world = read_world(folder)
    instruction = parse(prompt, world)
    numbers = np.zeros(len(TRAITS))
    if references:
        numbers = _recognise(folder, prompt, references[0], reach)
    else:
        numbers[: len(SOLID_TRAITS)] = np.random.default_rng(seed).uniform(-reach, reach, len(SOLID_TRAITS))
    camera = replace(_camera_of(folder, image), size=image.width)
    hits = trace_variant(world, instruction, camera, numbers)
    return Image.fromarray(to_bytes(paint_variant(world, instruction, hits, numbers)))


def _recognise(folder: Path, prompt: str, shown: Image.Image, reach: float) -> Numbers:
    """The numbers of the variant that looks most like a picture of some view of the world."""
    world = read_world(folder)
    instruction = parse(prompt, world)
    small, camera = _small(shown), replace(_camera_of(folder, shown), size=LOOK_SIZE)

    @cache
    def trace(surfaces: tuple[float, ...]) -> Hits:
        return trace_variant(world, instruction, camera, np.array([*[0.0] * NUM_SHADES, *surfaces]))

    def error(numbers: Numbers) -> float:
        hits = trace(tuple(numbers[NUM_SHADES:].tolist()))
        return float(((paint_variant(world, instruction, hits, numbers) - small) ** 2).mean())

    return search(error, reach)


def _camera_of(folder: Path, picture: Image.Image) -> Camera:
    """The camera of the photograph of a world that a picture is, or has become by an edit of a part."""
    small = _small(picture)
    differences = [np.abs(each - small).clip(max=LARGEST_DIFFERENCE).mean() for each in _photographs(folder)]
    return read_cameras(folder)[int(np.argmin(differences))]


@cache
def _photographs(folder: Path) -> list[Float[np.ndarray, "height width 3"]]:
    """All photographs of a world, small."""
    return [_small(Image.open(folder / "images" / name)) for name in view_names(folder)]


def _small(picture: Image.Image) -> Float[np.ndarray, "height width 3"]:
    """A picture at the size at which pictures are compared."""
    return np.asarray(picture.convert("RGB").resize((LOOK_SIZE, LOOK_SIZE), Image.Resampling.BOX)) / 255


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
