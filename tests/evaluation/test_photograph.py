"""A photograph, and a view of a dataset, are found and read."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from latenteditor.evaluation.photograph import find_view, read_photograph


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
