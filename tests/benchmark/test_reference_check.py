"""What finished neighbours are worth: an editor that is shown one takes its variant, and the spread says so."""

import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor.benchmark import black_boxes
from latenteditor.benchmark.reference_check import deviation, read_views, spread
from latenteditor.black_box.change import change
from latenteditor.black_box.guard import GuardedEdit
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.instructions import recolouring_prompt
from latenteditor.worlds.world import random_world

SEED, SIZE = 3_300_200, 64


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The folder of a small world, and what is to become of it."""
    folder = tmp_path_factory.mktemp("known") / "world"
    prompt = recolouring_prompt(random_world(SEED), SEED)
    write_dataset(folder, random_world(SEED), 4, 2, SIZE, SEED)
    write_truth(folder, prompt)
    return folder, prompt


def test_an_editor_that_is_shown_a_neighbour_draws_its_variant(world, monkeypatch):
    folder, prompt = world
    monkeypatch.setenv(black_boxes.WORLD, str(folder))
    monkeypatch.setenv(black_boxes.DISAGREEMENT, "0.4")
    first, second = (Image.open(folder / "images" / name) for name in ("00000.png", "00001.png"))
    shown = black_boxes.knowing(first, prompt, seed=1)
    alone, other = (np.array(black_boxes.knowing(second, prompt, seed=seed)) for seed in (2, 3))
    assert not np.array_equal(alone, other)
    followed, again = (np.array(black_boxes.knowing(second, prompt, seed, [shown])) for seed in (2, 3))
    assert np.array_equal(followed, again)
    wanted = np.array(black_boxes.knowing(second, prompt, seed=1)).astype(float)
    assert np.abs(followed - wanted).mean() < 0.5 * min(np.abs(each - wanted).mean() for each in (alone, other))


def test_the_view_of_a_picture_is_found_though_a_part_is_edited(world):
    folder, _ = world
    for index, name in enumerate(("00000.png", "00003.png")):
        pixels = np.array(Image.open(folder / "images" / name))
        pixels[20:40, 20:40] = (255, 0, 255)
        found = black_boxes._camera_of(folder, Image.fromarray(pixels))
        wanted = black_boxes.read_cameras(folder)[(0, 3)[index]]
        assert np.array_equal(found.camera_to_world, wanted.camera_to_world)


def test_the_truth_does_not_deviate_from_itself(world):
    folder, prompt = world
    views, truths = read_views(folder, prompt, 4)
    assert len(views) == 4 and views[0].camera.camera_to_worlds.shape == (1, 3, 4)
    seen = torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    found = []
    for view, truth in zip(views, truths, strict=True):
        changed = change(truth, view.image, seen)
        found.append(deviation(GuardedEdit(truth, seen, changed, None, (), 0.0), view.image, truth))
    known = [each for each in found if np.isfinite(each["area"])]
    assert known and all(each["area"] == 1 and np.allclose(each["colour"], 0) for each in known)
    assert spread(found)["colour_deviation"] == 0 == spread(found)["area_deviation"]
