"""Writes a built-in world as a nerfstudio dataset, with what only a rendered world knows.

::

    transforms.json            cameras, and which views are held out
    world.json                 the world, to render it again
    images/00000.png           what a photographer would have
    ids/00000.png              per pixel 0, or the solid's number in world.json counted from 1
    depth/00000.png            16 bit, millimetres along the optical axis; 0 where there is only sky
    truth/<prompt>/            the same world after an instruction:
        instruction.json       the prompt, and what becomes of which solids or of the whole picture
        images/00000.png       what an edit should look like
        region/00000.png       255 where the instruction changes the picture
"""

import json
import re
from dataclasses import asdict
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from jaxtyping import Float

from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.render import Camera, Hits, Tracer, dome_camera
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import Floor, Solid, World

MILLIMETRES = 1000


def write_dataset(folder: Path, world: World, num_views: int, num_held_out: int, size: int, seed: int) -> None:
    """Renders a world from a dome of cameras; the same arguments give the same bytes.

    Args:
        folder: Must not exist, or be empty.
        world: What is photographed.
        num_views: Training views.
        num_held_out: Further views, evenly spread among them, for evaluation only.
        size: Pixels of either side.
        seed: Of the cameras.

    Raises:
        ValueError: The folder already holds something, or a number does not fit.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose a new folder for the world, or delete this one first.")
    if num_views < 2 or num_held_out < 2:
        raise ValueError(f"A world needs at least 2 training and 2 held-out views, not {num_views} and {num_held_out}.")
    if size < 1:
        raise ValueError(f"A view needs at least 1 pixel along each side, not {size}.")
    for name in ("images", "ids", "depth"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    cameras = dome_cameras(num_views + num_held_out, size, seed)
    for index, hits in enumerate(_trace(world, cameras)):
        iio.imwrite(folder / _name("images", index), to_bytes(hits.shade(world)))
        iio.imwrite(folder / _name("ids", index), hits.ids)
        depth = np.where(np.isfinite(hits.depth), hits.depth * MILLIMETRES, 0)
        iio.imwrite(folder / _name("depth", index), np.clip(depth, 0, 65535).round().astype(np.uint16))
    held_out = {round((index + 0.5) * len(cameras) / num_held_out) for index in range(num_held_out)}
    _write_json(folder / "transforms.json", _transforms(cameras, held_out))
    _write_json(folder / "world.json", asdict(world))


def write_truth(folder: Path, prompt: str) -> Path:
    """Renders the world of a dataset after an instruction, and returns the truth's folder.

    Raises:
        ValueError: The prompt is not an instruction about this world.
    """
    world = read_world(folder)
    instruction = parse(prompt, world)
    truth = truth_folder(folder, prompt)
    for name in ("images", "region"):
        (truth / name).mkdir(parents=True, exist_ok=True)
    for index, hits in enumerate(_trace(world, read_cameras(folder))):
        after, region = follow(instruction, hits)
        iio.imwrite(truth / _name("images", index), to_bytes(after))
        iio.imwrite(truth / _name("region", index), region.astype(np.uint8) * 255)
    _write_json(truth / "instruction.json", {"prompt": prompt, **asdict(instruction)})
    return truth


def truth_folder(folder: Path, prompt: str) -> Path:
    """Where the truth of an instruction lies."""
    return folder / "truth" / re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")


def dome_cameras(count: int, size: int, seed: int) -> list[Camera]:
    """Cameras all around the world, at even angles and random heights."""
    rng = np.random.default_rng((seed, 2))
    return [dome_camera(rng, size, azimuth=2 * np.pi * index / count) for index in range(count)]


def read_world(folder: Path) -> World:
    """The world of a dataset; solids without a material are matte.

    Raises:
        ValueError: The folder holds no built-in world.
    """
    file = folder / "world.json"
    if not file.exists():
        raise ValueError(
            f"{folder} holds no built-in world: there is no world.json; write one with `latenteditor world`."
        )
    content = json.loads(file.read_text())
    solids = tuple(Solid(**{**solid, "position": tuple(solid["position"])}) for solid in content["solids"])
    first, second = content["floor"]["colours"]
    floor = Floor(content["floor"]["pattern"], (tuple(first), tuple(second)), content["floor"]["period"])
    return World(solids, floor, tuple(content["horizon"]), tuple(content["zenith"]), tuple(content["light"]))


def read_cameras(folder: Path) -> list[Camera]:
    """The cameras of a dataset, in the order of its files."""
    content = json.loads((folder / "transforms.json").read_text())
    field_of_view = 2 * np.arctan(content["w"] / (2 * content["fl_x"]))
    return [
        Camera(np.array(frame["transform_matrix"]), float(field_of_view), content["w"]) for frame in content["frames"]
    ]


def view_names(folder: Path) -> list[str]:
    """The files of all views of a dataset, in the order of its cameras."""
    content = json.loads((folder / "transforms.json").read_text())
    return [Path(frame["file_path"]).name for frame in content["frames"]]


def _trace(world: World, cameras: list[Camera]) -> "list[Hits]":
    """What each camera sees."""
    tracer = Tracer(world)
    return [tracer.trace(camera) for camera in cameras]


def _name(folder: str, index: int) -> str:
    """A view's file, relative to the dataset."""
    return f"{folder}/{index:05d}.png"


def _transforms(cameras: list[Camera], held_out: set[int]) -> dict:
    """The dataset's description as nerfstudio reads it."""
    camera = cameras[0]
    training = [_name("images", index) for index in range(len(cameras)) if index not in held_out]
    evaluation = [_name("images", index) for index in sorted(held_out)]
    return {
        "camera_model": "OPENCV",
        "w": camera.size,
        "h": camera.size,
        "fl_x": camera.focal_length,
        "fl_y": camera.focal_length,
        "cx": camera.size / 2,
        "cy": camera.size / 2,
        "frames": [
            {
                "file_path": _name("images", index),
                "depth_file_path": _name("depth", index),
                "transform_matrix": _rows(camera.camera_to_world),
            }
            for index, camera in enumerate(cameras)
        ],
        "train_filenames": training,
        "val_filenames": evaluation,
        "test_filenames": evaluation,
    }


def _rows(matrix: Float[np.ndarray, "4 4"]) -> list[list[float]]:
    """A matrix as JSON takes it."""
    return [[float(value) for value in row] for row in matrix]


def _write_json(file: Path, content: dict) -> None:
    """Writes readable JSON, the same bytes for the same content."""
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
