"""A capture as COLMAP leaves one: images/ and sparse/0, for the tools that read that alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from nerfstudio.data.utils import colmap_parsing_utils as colmap

LENSES = {
    "OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"),
    "FULL_OPENCV": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
    "OPENCV_FISHEYE": ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "k3", "k4"),
}
"""COLMAP's kinds of cameras and their parameters in its order, by nerfstudio's names."""
PERSPECTIVE = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""What nerfstudio's format calls cameras whose lens OpenCV's polynomial describes."""
FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Nerfstudio's cameras look along -z and have y upwards, COLMAP's look along z and have y downwards."""
SPARSE = Path("sparse/0")


def write_sparse(folder: Path, description: Mapping[str, Any], prefix: str) -> None:
    """Writes cameras, poses and points in COLMAP's binary files.

    Args:
        folder: The dataset's, where the cloud of points lies too.
        description: It in nerfstudio's format.
        prefix: What in front of a photograph's path names the folder of images, which COLMAP leaves out.

    Raises:
        ValueError: COLMAP has no such cameras.
    """
    cameras: dict[int, Any] = {}
    numbers: dict[tuple, int] = {}
    images = {}
    for number, frame in enumerate(description["frames"], start=1):
        lens = _lens({**description, **frame})
        known = numbers.setdefault(lens, len(numbers) + 1)
        model, width, height, *parameters = lens
        cameras[known] = colmap.Camera(known, model, width, height, np.array(parameters))
        rotation, translation = _world_to_camera(np.array(frame["transform_matrix"], dtype=np.float64))
        images[number] = colmap.Image(
            id=number,
            qvec=colmap.rotmat2qvec(rotation),
            tvec=translation,
            camera_id=known,
            name=frame["file_path"].removeprefix(prefix),
            xys=np.zeros((0, 2)),
            point3D_ids=np.zeros(0, np.int64),
        )
    (folder / SPARSE).mkdir(parents=True)
    colmap.write_model(cameras, images, _points(folder, description), str(folder / SPARSE), ".bin")


def _lens(frame: Mapping[str, Any]) -> tuple:
    """A camera in COLMAP's words: its kind, width, height and parameters."""
    model = frame.get("camera_model", "OPENCV")
    if model in PERSPECTIVE:
        model = "FULL_OPENCV" if frame.get("k3") or frame.get("k4") else "OPENCV"
    if model not in LENSES or "distortion_params" in frame:
        raise ValueError(
            f"COLMAP has no cameras of the kind {model}, or their lens is given otherwise than by k1, k2, ...: write "
            "the dataset with --format nerfstudio."
        )
    return model, int(frame["w"]), int(frame["h"]), *(float(frame.get(name, 0.0)) for name in LENSES[model])


def _world_to_camera(
    camera_to_world: Float[np.ndarray, "rows 4"],
) -> tuple[Float[np.ndarray, "3 3"], Float[np.ndarray, "3"]]:
    """A pose as COLMAP keeps it."""
    pose = np.vstack([camera_to_world[:3], [0.0, 0.0, 0.0, 1.0]]) @ FROM_OPENGL
    inverse = np.linalg.inv(pose)
    return inverse[:3, :3], inverse[:3, 3]


def _points(folder: Path, description: Mapping[str, Any]) -> dict[int, Any]:
    """The capture's cloud of points; none where it has none."""
    if "ply_file_path" not in description:
        return {}
    import trimesh

    cloud: Any = trimesh.load(folder / description["ply_file_path"])
    colours = np.asarray(getattr(cloud, "colors", np.full((len(cloud.vertices), 4), 128)))[:, :3]
    return {
        number: colmap.Point3D(number, position, colour, 0.0, np.zeros(0, np.int64), np.zeros(0, np.int64))
        for number, (position, colour) in enumerate(zip(np.asarray(cloud.vertices), colours, strict=True), start=1)
    }
