"""A dataset of edited photographs, read back by nerfstudio and by COLMAP's own library."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from latenteditor.handoff.capture_views import Capture, CapturedView, inner_path, read_capture
from latenteditor.handoff.colmap import write_sparse
from latenteditor.handoff.dataset import describe_written, new_folder, write_photographs
from latenteditor.handoff.transforms import as_written, describe
from latenteditor.nerf.image_datamanager import ImageDataManagerConfig
from tests.handoff.conftest import EDITED, HELD_OUT, NUM_VIEWS, edit_some


def capture_of(folder: Path, parser=None) -> Capture:
    """A capture as a run of in2n reads it."""
    config = ImageDataManagerConfig(dataparser=parser or NerfstudioDataParserConfig(), patch_size=1)
    config.data = folder
    return read_capture(config.setup(device="cpu", test_mode="test"))


def parsed(folder: Path, split: str, config=None):
    config = config or NerfstudioDataParserConfig()
    config.data = folder
    return config.setup().get_dataparser_outputs(split)


def test_nerfstudio_reads_the_same_cameras_splits_and_points(rich_capture, write_copy):
    written = write_copy(capture_of(rich_capture))
    for split in ("train", "val", "test"):
        before, after = parsed(rich_capture, split), parsed(written, split)
        for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "height", "width", "distortion_params"):
            torch.testing.assert_close(
                getattr(after.cameras, name), getattr(before.cameras, name), rtol=0, atol=1e-6, msg=name
            )
        stems = [[file.stem for file in outputs.image_filenames] for outputs in (before, after)]
        assert stems[0] == stems[1] and len(stems[0]) == (len(HELD_OUT) if split != "train" else NUM_VIEWS - 2)
        torch.testing.assert_close(after.dataparser_transform, before.dataparser_transform)
        assert [file.read_bytes() for file in after.mask_filenames] == [
            file.read_bytes() for file in before.mask_filenames
        ]
    # To read them nerfstudio needs a system library that many machines lack.
    assert (written / "points.ply").read_bytes() == (rich_capture / "points.ply").read_bytes()


def test_what_is_not_edited_is_the_file_and_what_is_keeps_every_pixel_outside(rich_capture, write_copy):
    written = write_copy(capture_of(rich_capture))
    frames = json.loads((rich_capture / "transforms.json").read_text())["frames"]
    for index, frame in enumerate(frames):
        source = rich_capture / frame["file_path"]
        copied = written / frame["file_path"]
        if index not in EDITED:
            assert copied.read_bytes() == source.read_bytes()
            continue
        result = copied.with_suffix(".png")
        pixels, own = (np.asarray(Image.open(file)) for file in (result, source))
        mask = np.asarray(Image.open(written / "edit_masks" / result.name))
        assert pixels.shape == own.shape and (mask > 0).sum() == 11 * 20
        assert (pixels[mask == 0] == own[mask == 0]).all() and (pixels[mask > 0] == 255).all()
    assert len(list((written / "edit_masks").iterdir())) == len(EDITED)


def test_the_description_keeps_what_the_capture_says_and_drops_what_is_true_no_longer(rich_capture, write_copy):
    written = write_copy(capture_of(rich_capture))
    before, after = (json.loads((folder / "transforms.json").read_text()) for folder in (rich_capture, written))
    assert set(before) == set(after)
    for own, frame in zip(before["frames"], after["frames"], strict=True):
        assert "depth_file_path" not in frame
        changed = {"file_path", "mask_path", "depth_file_path"}
        assert {key: own[key] for key in set(own) - changed} == {key: frame[key] for key in set(frame) - changed}


def test_a_capture_that_leads_out_of_its_folder_is_written_inside(own_capture, write_copy):
    outside = own_capture.parent / "elsewhere.png"
    description = json.loads((own_capture / "transforms.json").read_text())
    (own_capture / description["frames"][0]["file_path"]).rename(outside)
    name = f"../{outside.name}"
    description["train_filenames"] = [
        name if file == description["frames"][0]["file_path"] else file for file in description["train_filenames"]
    ]
    description["frames"][0]["file_path"] = name
    (own_capture / "transforms.json").write_text(json.dumps(description))
    written = write_copy(capture_of(own_capture))
    assert (written / "images" / outside.name).read_bytes() == outside.read_bytes()
    assert inner_path("/etc/passwd").as_posix() == "passwd" and inner_path("a/../../b.png").as_posix() == "b.png"
    assert inner_path("./images/b.png").as_posix() == "images/b.png"


def test_two_photographs_of_one_name_are_refused(own_capture):
    description = json.loads((own_capture / "transforms.json").read_text())
    frame = dict(description["frames"][0], file_path="images/view 01.png")
    Image.open(own_capture / description["frames"][0]["file_path"]).save(own_capture / frame["file_path"])
    description["frames"].append(frame)
    description["train_filenames"].append(frame["file_path"])
    (own_capture / "transforms.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match="Two photographs would be written as images/view 01"):
        capture_of(own_capture)


def test_a_capture_without_its_points_is_written_without(own_capture, write_copy):
    (own_capture / "points.ply").unlink()
    written = write_copy(capture_of(own_capture))
    assert "ply_file_path" not in json.loads((written / "transforms.json").read_text())


def test_a_photograph_that_is_turned_by_exif_is_written_as_its_camera_saw_it(own_capture, write_copy):
    description = json.loads((own_capture / "transforms.json").read_text())
    file = own_capture / description["frames"][3]["file_path"]
    turned = Image.open(file).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(file, exif=exif, quality=100)
    written = write_copy(capture_of(own_capture))
    result = written / "images" / f"{file.stem}.png"
    with Image.open(result) as upright:
        assert upright.size == (60, 40)


def test_a_capture_of_another_format_is_read_back_where_its_scene_is(rich_capture, write_copy):
    own = parsed(rich_capture, "train")
    capture = capture_of(rich_capture)
    # What a parser of another format leaves is no description, but cameras in the scene's coordinates.
    views = tuple(
        CapturedView(view.name, view.photograph, view.splits, view.camera, view.train_index, view.mask)
        for view in capture.views
    )
    written = write_copy(Capture(views, capture.outputs))
    after = parsed(written, "train", as_written())
    torch.testing.assert_close(after.cameras.camera_to_worlds, own.cameras.camera_to_worlds, rtol=0, atol=1e-6)
    torch.testing.assert_close(after.cameras.distortion_params, own.cameras.distortion_params, rtol=0, atol=1e-6)
    torch.testing.assert_close(after.dataparser_transform, own.dataparser_transform, rtol=0, atol=1e-6)
    assert after.dataparser_scale == pytest.approx(own.dataparser_scale)


def test_cameras_that_the_format_does_not_know_are_refused(rich_capture):
    capture = capture_of(rich_capture)
    for view in capture.views:
        view.camera.camera_type[:] = 5
    with pytest.raises(ValueError, match="cannot be written in nerfstudio's format"):
        describe(capture)


def test_colmap_reads_the_same_cameras_and_points(rich_capture, tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    capture = capture_of(rich_capture)
    folder = tmp_path / "colmap"
    folder.mkdir()
    description = describe_written(folder, capture, write_photographs(folder, capture, edit_some))
    write_sparse(folder, description, "images/")
    model = pycolmap.Reconstruction(str(folder / "sparse/0"))
    assert len(model.images) == NUM_VIEWS and len(model.points3D) == 2
    for image in model.images.values():
        assert (folder / "images" / image.name).is_file()
        frame = next(frame for frame in description["frames"] if frame["file_path"] == f"images/{image.name}")
        pose = image.cam_from_world() if callable(image.cam_from_world) else image.cam_from_world
        camera_to_world = np.vstack([pose.inverse().matrix(), [0, 0, 0, 1]]) @ np.diag([1, -1, -1, 1])
        np.testing.assert_allclose(camera_to_world, frame["transform_matrix"], atol=1e-6)
        camera = model.cameras[image.camera_id]
        names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")
        np.testing.assert_allclose(camera.params, [frame[name] for name in names], atol=1e-6)
        assert (camera.width, camera.height) == (60, 40)


def test_colmap_refuses_lenses_that_it_does_not_know(tmp_path):
    frame = {"file_path": "images/a.png", "transform_matrix": np.eye(4).tolist(), "w": 4, "h": 4, "fl_x": 1, "fl_y": 1}
    with pytest.raises(ValueError, match="COLMAP has no cameras of the kind EQUIRECTANGULAR"):
        write_sparse(tmp_path, {"camera_model": "EQUIRECTANGULAR", "frames": [frame]}, "images/")


def test_a_folder_is_there_only_once_it_is_whole(tmp_path):
    with pytest.raises(RuntimeError), new_folder(tmp_path / "new") as folder:
        (folder / "half").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "new") as folder:
        (folder / "whole").touch()
        assert not (tmp_path / "new").exists()
    assert [file.name for file in tmp_path.rglob("*")] == ["new", "whole"]
    with pytest.raises(ValueError, match="exists already, and nothing is written over"), new_folder(tmp_path / "new"):
        pass
