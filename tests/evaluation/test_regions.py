"""Regions from polygons and masks."""

import json

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from latenteditor.evaluation.regions import read_masks, read_polygons, region_of_training
from latenteditor.evaluation.scenes import Scenes

HEIGHT, WIDTH = 6, 8
IMAGES = [torch.zeros(3, HEIGHT, WIDTH)] * 2
SCENES = Scenes(["a", "b"], IMAGES, IMAGES)


def test_polygons_of_a_mask_are_that_mask(tmp_path):
    left = [[0, 0], [WIDTH // 2 - 1, 0], [WIDTH // 2 - 1, HEIGHT - 1], [0, HEIGHT - 1]]
    (tmp_path / "polygons.json").write_text(json.dumps({"a": [left], "b": []}))
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    iio.imwrite(tmp_path / "b.png", mask)
    mask[:, : WIDTH // 2] = 7
    iio.imwrite(tmp_path / "a.png", mask)
    polygons, masks = read_polygons(tmp_path / "polygons.json", SCENES), read_masks(tmp_path, SCENES)
    assert all(map(torch.equal, polygons, masks))
    assert [mask.sum().item() for mask in masks] == [HEIGHT * WIDTH // 2, 0]


def test_a_mask_counts_in_every_channel_but_alpha(tmp_path):
    colours = np.zeros((HEIGHT, WIDTH, 4), dtype=np.uint8)
    colours[..., 3] = 255
    colours[0, 0, 1] = 1
    iio.imwrite(tmp_path / "a.png", colours)
    iio.imwrite(tmp_path / "b.png", colours[..., 2:])
    coloured, grey = read_masks(tmp_path, SCENES)
    assert coloured.nonzero().tolist() == [[0, 0]]
    assert not grey.any()


def test_a_frame_without_polygons_is_named(tmp_path):
    (tmp_path / "polygons.json").write_text('{"a": []}')
    with pytest.raises(ValueError, match="no polygons of the frame b: give"):
        read_polygons(tmp_path / "polygons.json", SCENES)


def test_a_training_mask_is_called_what_it_is(tmp_path):
    region = region_of_training(tmp_path, [torch.ones(HEIGHT, WIDTH, dtype=torch.bool)] * 2)
    assert "not independent" in region.source and "not independent" in region.caveat
