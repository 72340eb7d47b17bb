import shutil

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from latenteditor.nerf.photographs import resize_cameras


def test_resized_cameras_see_the_same():
    camera = Cameras(
        camera_to_worlds=torch.eye(4)[None, :3],
        fx=1375.52,
        fy=1374.49,
        cx=554.558,
        cy=965.268,
        width=1080,
        height=1920,
        distortion_params=torch.tensor([[0.05, -0.08, 0, 0, -0.001, 0.0002]]),
    )
    resized = resize_cameras(camera, [(64, 35)])
    assert (int(resized.height), int(resized.width)) == (64, 35)
    assert (int(camera.height), int(camera.width)) == (1920, 1080)
    point = torch.tensor([[0.3, 0.7]])  # As fractions of height and width.
    rays = camera.generate_rays(0, coords=point * torch.tensor([1920.0, 1080]))
    same = resized.generate_rays(0, coords=point * torch.tensor([64.0, 35]))
    torch.testing.assert_close(rays.directions, same.directions)


def test_missing_photographs_are_named(make_datamanager, capture_folder, tmp_path):
    folder = tmp_path / "capture"
    shutil.copytree(capture_folder, folder)
    (folder / "images" / "03.png").unlink()
    with pytest.raises(ValueError, match=r"1 of .*03\.png.*instant-ngp-data"):
        make_datamanager(folder)
