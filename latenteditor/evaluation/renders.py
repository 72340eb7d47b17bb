"""Renders of a trained run, with depth and cameras, to be measured."""

import json
import os
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from nerfstudio.cameras.camera_paths import get_path_from_json
from nerfstudio.cameras.cameras import Cameras, CameraType
from nerfstudio.models.nerfacto import NerfactoModel
from nerfstudio.pipelines.base_pipeline import Pipeline
from nerfstudio.utils.rich_utils import get_progress
from torch import Tensor

from latenteditor.evaluation.reprojection import Frame
from latenteditor.nerf.loaded_run import load_run
from latenteditor.nerf.photographs import perspective_camera


class RenderedRun(NamedTuple):
    """The frames of one run, on the CPU, in one order throughout."""

    method: str
    """The name of the run's method."""
    step: int
    """At which its checkpoint was saved."""
    names: list[str]
    """Of the frames: as ns-render names them, without suffix."""
    images: list[Float[Tensor, "3 _ _"]]
    """RGB in [0, 1], rounded to 8 bits, so that figures are those of the saved images."""
    frames: list[Frame]
    """The same with depth and cameras; empty where `no_depth` says why."""
    no_depth: str
    """Why there is no depth to re-project with; empty where there is."""
    cameras: Cameras
    """The cameras of the frames."""
    world_to_scene: Float[Tensor, "3 4"]
    """From the capture's world into the scene that was trained."""
    scene_scale: float
    """The scene's unit in the capture's."""


def render_run(config: Path, camera_path: Path | None) -> RenderedRun:
    """Renders the held-out views of a run, or a camera path.

    Args:
        config: The run's config.yml.
        camera_path: A camera path that the viewer exported, or None for the held-out (test) views.

    Raises:
        ValueError: A file is missing or holds something else, or the run has no held-out views.
    """
    loaded, pipeline, step = load_run(config)
    method = str(loaded.method_name)
    if camera_path is None:
        cameras, names = _held_out_cameras(config, pipeline)
    else:
        cameras = read_camera_path(camera_path)
        names = [f"{index:05d}" for index in range(len(cameras))]
    no_depth = _why_no_depth(pipeline, cameras)
    images, frames = [], []
    with get_progress(f"Rendering {method}", suffix="frames/s") as progress:
        for index in progress.track(range(len(cameras)), total=len(cameras)):
            camera = cameras[index : index + 1].to(pipeline.device)
            with torch.no_grad():
                outputs = pipeline.model.get_outputs_for_camera(camera)
            image = (outputs["rgb"].permute(2, 0, 1).clamp(0, 1) * 255).round().cpu() / 255
            images.append(image)
            if not no_depth:
                frames.append(make_frame(image, outputs["depth"][..., 0].cpu(), cameras[index : index + 1]))
    dataparser = pipeline.datamanager.train_dataset._dataparser_outputs  # type: ignore[union-attr]
    return RenderedRun(
        method=method,
        step=step,
        names=names,
        images=images,
        frames=frames,
        no_depth=no_depth,
        cameras=cameras,
        world_to_scene=dataparser.dataparser_transform,
        scene_scale=float(dataparser.dataparser_scale),
    )


def require_same_cameras(original: RenderedRun, edited: RenderedRun) -> None:
    """Refuses two runs whose frames were not rendered from the same places.

    Raises:
        ValueError: The runs differ in held-out views, cameras or coordinates.
    """
    if original.names != edited.names:
        raise ValueError(
            f"The two runs hold out different views ({', '.join(original.names[:3])}... and "
            f"{', '.join(edited.names[:3])}...): train the edit on the data of the unedited scene."
        )
    same_scale = abs(original.scene_scale / edited.scene_scale - 1) < 1e-4
    same_world = torch.allclose(original.world_to_scene, edited.world_to_scene, atol=1e-4)
    same_poses = torch.allclose(original.cameras.camera_to_worlds, edited.cameras.camera_to_worlds, atol=1e-4)
    if not (same_scale and same_world and same_poses):
        raise ValueError(
            "The two runs place their cameras differently: train the edit on the data of the unedited scene, with the "
            "same options of the dataparser."
        )


def read_camera_path(path: Path) -> Cameras:
    """Reads a camera path that the viewer exported.

    Raises:
        ValueError: The file is missing or is no camera path.
    """
    if not path.is_file():
        raise ValueError(f"There is no camera path {path}: export one from the viewer, as for ns-render camera-path.")
    try:
        content = json.loads(path.read_text("utf8"))
        cameras = get_path_from_json(content)
    except (ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"{path} is no camera path ({error!r}): expected JSON as the viewer exports it for ns-render camera-path."
        ) from error
    # The host computes focal lengths in double precision, which renders would inherit.
    cameras.fx, cameras.fy = cameras.fx.float(), cameras.fy.float()
    # The host leaves out the size, which it then takes from the principal point.
    cameras.height = torch.full_like(cameras.height, int(content["render_height"]))
    cameras.width = torch.full_like(cameras.width, int(content["render_width"]))
    return cameras


def make_frame(image: Float[Tensor, "3 height width"], depth: Float[Tensor, "height width"], camera: Cameras) -> Frame:
    """A frame for re-projection.

    Args:
        image: RGB in [0, 1].
        depth: Distance along each pixel's ray.
        camera: A batch of one perspective camera.
    """
    rays = camera.to(depth.device).generate_rays(camera_indices=0, keep_shape=True)
    return Frame(
        image=image,
        depth=depth,
        points=rays.origins + depth[..., None] * rays.directions,
        camera=perspective_camera(camera),
    )


def _held_out_cameras(config: Path, pipeline: Pipeline) -> tuple[Cameras, list[str]]:
    """The test views' cameras, and their images' names."""
    dataset = pipeline.datamanager.eval_dataset
    if dataset is None or len(dataset) == 0:
        raise ValueError(f"The run of {config} has no held-out views: pass a camera path.")
    # Names become files of the caller's: what a capture says of folders above its own must not lead out of there.
    files = [Path(os.path.abspath(name)) for name in dataset.image_filenames]  # type: ignore[attr-defined]
    root = os.path.commonpath([file.parent for file in files])
    return dataset.cameras, [file.relative_to(root).with_suffix("").as_posix() for file in files]  # type: ignore[attr-defined]


def _why_no_depth(pipeline: Pipeline, cameras: Cameras) -> str:
    """Why frames cannot be re-projected; empty where they can."""
    if not isinstance(pipeline.model, NerfactoModel):
        return f"depth of {type(pipeline.model).__name__} is not known to be along the ray"
    if (cameras.camera_type != CameraType.PERSPECTIVE.value).any():
        return "re-projection needs perspective cameras"
    return ""
