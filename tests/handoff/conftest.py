"""A capture with all that a description can say, and datasets that were written from it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latenteditor.handoff.dataset import describe_written, write_photographs, write_transforms
from latenteditor.handoff.overlay import Overlay

NUM_VIEWS = 8
HELD_OUT = (2, 6)
EDITED = (1, 2, 4)
PLY = """ply
format ascii 1.0
element vertex 2
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
0 0 0 255 0 0
1 0.5 0.25 0 255 0
"""


@pytest.fixture(scope="session")
def rich_capture(tmp_path_factory) -> Path:
    """Eight photographs, PNG and JPEG, each with intrinsics of its own, distortion, a mask, a depth, a split."""
    folder = tmp_path_factory.mktemp("capture")
    generator = np.random.default_rng(3)
    frames = []
    for index in range(NUM_VIEWS):
        name = f"images/view {index:02d}.{'jpg' if index % 2 else 'png'}"
        for place in (name, f"masks/{index:02d}.png", f"depths/{index:02d}.png"):
            (folder / place).parent.mkdir(exist_ok=True)
        pixels = generator.integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
        Image.fromarray(np.full((40, 60), 255, np.uint8)).save(folder / f"masks/{index:02d}.png")
        Image.fromarray(np.full((40, 60), 1000, np.uint16)).save(folder / f"depths/{index:02d}.png")
        angle = 2 * np.pi * index / NUM_VIEWS
        pose = np.eye(4)
        pose[:3, :3] = [[-np.sin(angle), 0, np.cos(angle)], [np.cos(angle), 0, np.sin(angle)], [0, 1, 0]]
        pose[:3, 3] = [3 * np.cos(angle) + 0.5, 3 * np.sin(angle), 0.3 * index]
        frames.append(
            {
                "file_path": name,
                "mask_path": f"masks/{index:02d}.png",
                "depth_file_path": f"depths/{index:02d}.png",
                "fl_x": 50.0 + index, "fl_y": 51.0 + index, "cx": 30.5, "cy": 19.5, "w": 60, "h": 40,
                "k1": 0.01, "k2": -0.02, "p1": 0.001, "p2": 0.0,
                "transform_matrix": pose.tolist(),
                "colmap_im_id": index + 1,
            }
        )  # fmt: skip
    held_out = [frames[index]["file_path"] for index in HELD_OUT]
    description = {
        "camera_model": "OPENCV",
        "applied_transform": [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]],
        "ply_file_path": "points.ply",
        "frames": frames,
        "train_filenames": [frame["file_path"] for frame in frames if frame["file_path"] not in held_out],
        "val_filenames": held_out,
        "test_filenames": held_out,
    }
    (folder / "points.ply").write_text(PLY)
    (folder / "transforms.json").write_text(json.dumps(description))
    return folder


def edit_some(view, photograph) -> Overlay | None:
    """Paints a square white in three of the views, of which another pixel row is half the edit's."""
    if view.frame not in EDITED:
        return None
    share = np.zeros(photograph.shape[:2], np.float32)
    share[10:20, 20:40], share[9, 20:40] = 1.0, 0.5
    picture = photograph.copy()
    picture[share > 0] = 255
    return Overlay(picture, share)


@pytest.fixture
def write_copy(tmp_path):
    """Writes what `edit_some` makes of a capture into a folder."""

    def write(capture, name: str = "dataset") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        written = write_photographs(folder, capture, edit_some)
        write_transforms(folder, describe_written(folder, capture, written))
        return folder

    return write


@pytest.fixture
def own_capture(rich_capture, tmp_path) -> Path:
    """A copy of the capture, to be changed."""
    return Path(shutil.copytree(rich_capture, tmp_path / "own capture"))
