"""Captures of any format in nerfstudio's own: cameras in the scene's coordinates, and the way back to the capture's."""

from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

from latenteditor.handoff.capture_views import Capture

MODELS = {
    CameraType.PERSPECTIVE: "OPENCV",
    CameraType.FISHEYE: "OPENCV_FISHEYE",
    CameraType.EQUIRECTANGULAR: "EQUIRECTANGULAR",
    CameraType.ORTHOPHOTO: "ORTHOPHOTO",
    CameraType.FISHEYE624: "FISHEYE624",
}
"""Nerfstudio's names for kinds of cameras, as its format has them."""
DISTORTIONS = ("k1", "k2", "k3", "k4", "p1", "p2")
"""Nerfstudio's distortion parameters, in its order."""


def as_written() -> NerfstudioDataParserConfig:
    """What reads a dataset of `describe` without moving its cameras: they lie in the scene's coordinates already."""
    return NerfstudioDataParserConfig(orientation_method="none", center_method="none", auto_scale_poses=False)


def describe(capture: Capture) -> dict[str, Any]:
    """A transforms.json for a capture of another format; the paths of its frames are for who writes them.

    Raises:
        ValueError: Its cameras are of a kind, or of several, that the format has no name for.
    """
    cameras = [view.camera for view in capture.views if view.camera is not None]
    kinds = {CameraType(int(camera.camera_type)) for camera in cameras}
    if len(kinds) != 1 or not kinds <= set(MODELS):
        names = ", ".join(sorted(kind.name for kind in kinds))
        raise ValueError(
            f"Cameras of the kind {names} cannot be written in nerfstudio's format: it knows one of "
            f"{', '.join(kind.name for kind in MODELS)} for all photographs of a capture."
        )
    outputs = capture.outputs
    return {
        "camera_model": MODELS[kinds.pop()],
        "applied_transform": outputs.dataparser_transform.tolist(),
        "applied_scale": float(outputs.dataparser_scale),
        "frames": [_frame(camera) for camera in cameras],
    }


def _frame(camera: Cameras) -> dict[str, Any]:
    """One camera of a batch of one."""
    lens = {name: float(getattr(camera, name)) for name in ("fx", "fy", "cx", "cy")}
    distortion = torch.zeros(6) if camera.distortion_params is None else camera.distortion_params.flatten()[:6]
    bottom = torch.tensor([[0.0, 0.0, 0.0, 1.0]])
    return {
        "fl_x": lens["fx"],
        "fl_y": lens["fy"],
        "cx": lens["cx"],
        "cy": lens["cy"],
        "w": int(camera.width),
        "h": int(camera.height),
        **dict(zip(DISTORTIONS, distortion.tolist(), strict=True)),
        "transform_matrix": torch.cat([camera.camera_to_worlds[0, :3].double(), bottom.double()]).tolist(),
    }
