import inspect
import json
from types import SimpleNamespace

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras, CameraType

from latenteditor.evaluation.renders import _held_out_cameras, make_frame, read_camera_path, render_run
from latenteditor.nerf.projection import project

HEIGHT, WIDTH = 12, 20


@pytest.mark.parametrize("distortion", [None, [0.05, -0.02, 0.01, 0.0, 0.003, -0.004]])
def test_points_of_a_frame_project_to_the_pixels_whose_rays_they_end(distortion):
    pose = torch.linalg.qr(torch.rand(3, 3, generator=torch.Generator().manual_seed(0)))[0]
    camera = Cameras(
        camera_to_worlds=torch.cat([pose * pose.det(), torch.tensor([[1.0], [2.0], [3.0]])], dim=1)[None],
        fx=18.0,
        fy=16.0,
        cx=9.0,
        cy=6.5,
        width=WIDTH,
        height=HEIGHT,
        distortion_params=None if distortion is None else torch.tensor([distortion]),
        camera_type=CameraType.PERSPECTIVE,
    )
    depth = 1 + torch.rand(HEIGHT, WIDTH)
    frame = make_frame(torch.zeros(3, HEIGHT, WIDTH), depth, camera)
    pixels, ahead = project(frame.points, frame.camera)
    torch.testing.assert_close(pixels, camera.get_image_coords().flip(-1), atol=0.01, rtol=0)
    assert (ahead > 0).all()
    distances = (frame.points - frame.camera.camera_to_world[:, 3]).norm(dim=-1)
    torch.testing.assert_close(distances, depth)


def test_a_missing_config_and_a_file_that_is_none_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no run's config"):
        render_run(tmp_path / "config.yml", None)
    (tmp_path / "config.yml").write_text("a: 1")
    with pytest.raises(ValueError, match="could not be loaded .* pass the config.yml that ns-train wrote"):
        render_run(tmp_path / "config.yml", None)


def test_a_missing_camera_path_and_a_file_that_is_none_are_refused(tmp_path):
    path = tmp_path / "path.json"
    with pytest.raises(ValueError, match="There is no camera path"):
        read_camera_path(path)
    for content in ({}, {"render_height": 2, "render_width": 2, "camera_path": [{"fov": 50}]}, []):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="is no camera path"):
            read_camera_path(path)


class HeldOut(list):
    """Held-out photographs, as far as their names go."""

    cameras = None

    @property
    def image_filenames(self):
        return list(self)


def test_names_from_a_capture_do_not_lead_out_of_the_folder_that_frames_are_written_to(tmp_path):
    files = HeldOut([tmp_path / "capture/images/a.png", tmp_path / "capture/images/../../../escaped/b.png"])
    pipeline = SimpleNamespace(datamanager=SimpleNamespace(eval_dataset=files))
    _, names = inspect.unwrap(_held_out_cameras)(tmp_path, pipeline)
    assert [name.split("/")[-1] for name in names] == ["a", "b"]
    assert not any(".." in name or name.startswith("/") for name in names)
