"""A photograph, and a view of a dataset, are found and read."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from latenteditor.evaluation.photograph import find_view, read_photograph, read_view


@pytest.fixture
def dataset(tmp_path) -> Path:
    """A dataset of three photographs that are not there."""
    frames = [{"file_path": f"images/{name}.png"} for name in ("c", "a", "b")]
    (tmp_path / "transforms.json").write_text(json.dumps({"frames": frames}))
    return tmp_path


def test_a_view_has_a_number_in_the_order_of_names_and_three_names(dataset):
    expected = dataset / "images/b.png"
    for view in (1, "b", "b.png", "images/b.png"):
        assert find_view(dataset, view) == find_view(dataset / "transforms.json", view) == expected


def test_a_dataset_without_views_is_refused(tmp_path):
    (tmp_path / "transforms.json").write_text('{"frames": []}')
    with pytest.raises(ValueError, match="lists no views"):
        find_view(tmp_path, "a")
    with pytest.raises(ValueError, match="no view 0: .* has 0 views"):
        find_view(tmp_path, 0)


def test_transparent_pixels_are_black(tmp_path):
    Image.new("RGBA", (4, 3), (255, 51, 0, 0)).save(tmp_path / "clear.png")
    Image.new("RGBA", (4, 3), (255, 51, 0, 255)).save(tmp_path / "opaque.png")
    assert not read_photograph(tmp_path / "clear.png", upright=True).any()
    opaque = read_photograph(tmp_path / "opaque.png", upright=True)
    assert opaque.shape == (1, 3, 3, 4)
    torch.testing.assert_close(opaque[0, :, 0, 0], torch.tensor([1.0, 0.2, 0.0]))


def sideways(folder: Path, orientation: int, **camera: int) -> Path:
    """A dataset of one photograph, 6 pixels wide and 4 high, of which the left half is white."""
    picture, exif = Image.new("L", (6, 4)), Image.Exif()
    picture.paste(255, (0, 0, 3, 4))
    exif[0x0112] = orientation
    picture.save(folder / "a.png", exif=exif)
    (folder / "transforms.json").write_text(json.dumps({**camera, "frames": [{"file_path": "a.png"}]}))
    return folder / "a.png"


def test_a_view_is_turned_where_its_camera_was(tmp_path):
    file = sideways(tmp_path, 6, w=4, h=6)
    upright = read_view(tmp_path, file)
    assert upright.shape == (1, 3, 6, 4) and upright[..., :3, :].all() and not upright[..., 3:, :].any()
    for camera in ({"w": 6, "h": 4}, {}):
        as_it_lies = read_view(tmp_path, sideways(tmp_path, 6, **camera))
        assert as_it_lies.shape == (1, 3, 4, 6) and as_it_lies[..., :3].all() and not as_it_lies[..., 3:].any()


def test_a_view_that_training_would_refuse_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"are to be turned \(EXIF orientation 3\).* \(a\.png\): turn the pixels"):
        read_view(tmp_path, sideways(tmp_path, 3, w=6, h=4))
    with pytest.raises(ValueError, match=r"are 6x4 pixels where their camera has 9x9 pixels \(a\.png\)"):
        read_view(tmp_path, sideways(tmp_path, 1, w=9, h=9))


def test_greys_of_16_bits_are_read_as_training_reads_them(tmp_path):
    Image.new("I;16", (3, 2), 65535 // 2).save(tmp_path / "deep.png")
    assert read_photograph(tmp_path / "deep.png", upright=True).mean().item() == pytest.approx(0.5, abs=0.005)
