import hashlib
import json
from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from latenteditor.pictures import to_bytes
from latenteditor.worlds.dataset import (
    dome_cameras,
    read_cameras,
    read_world,
    truth_folder,
    write_dataset,
    write_truth,
)
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.render import SUPERSAMPLING, Tracer
from latenteditor.worlds.truth import follow
from latenteditor.worlds.world import random_world
from tests.conftest import DATASET_SIZE as SIZE


def digests(folder: Path) -> dict[str, str]:
    """Every file's digest by its name."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write(folder: Path, seed: int = 4) -> dict[str, str]:
    world = random_world(seed)
    write_dataset(folder, world, num_views=3, num_held_out=2, size=16, seed=seed)
    write_truth(folder, f"make the {world.solids[0].shape} red")
    return digests(folder)


@pytest.fixture(scope="module")
def prompt(world) -> str:
    return f"make the {world.solids[0].shape} and the {world.solids[1].shape} cyan"


@pytest.fixture(scope="module")
def truth(dataset, prompt) -> Path:
    return write_truth(dataset, prompt)


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    assert write(tmp_path / "one") == write(tmp_path / "other")


def test_another_seed_writes_other_pictures(tmp_path):
    one, other = write(tmp_path / "one", 4), write(tmp_path / "other", 5)
    shared = one.keys() & other.keys()
    assert sum(name.startswith("images/") for name in shared) == 5
    assert all(one[name] != other[name] for name in shared)


def test_every_kind_of_file_is_there_for_every_view(dataset, truth):
    names = {f"{index:05d}.png" for index in range(9)}
    for folder in (
        dataset / "images",
        dataset / "ids",
        dataset / "depth",
        truth / "images",
        truth / "region",
    ):
        assert {path.name for path in folder.iterdir()} == names
    assert iio.imread(dataset / "depth/00000.png").dtype == np.uint16


def test_the_truth_differs_where_a_ray_meets_what_is_recoloured_and_nowhere_else(dataset, truth, prompt):
    world, tracer = read_world(dataset), Tracer(read_world(dataset))
    instruction = parse(prompt, world)
    assert instruction.solids == (0, 1)
    for index, camera in enumerate(read_cameras(dataset)):
        before = iio.imread(dataset / f"images/{index:05d}.png")
        after = iio.imread(truth / f"images/{index:05d}.png")
        met = np.isin(tracer.trace(camera).met, instruction.solids)
        touched = met.reshape(SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING).any(axis=(1, 3))
        assert np.array_equal((before != after).any(axis=-1), touched)


def test_the_region_is_the_ids_of_what_is_recoloured_and_lies_where_pictures_differ(dataset, truth):
    for index in range(9):
        ids = iio.imread(dataset / f"ids/{index:05d}.png")
        inside = iio.imread(truth / f"region/{index:05d}.png")
        assert np.array_equal(inside, np.where(np.isin(ids, (1, 2)), 255, 0))
        before = iio.imread(dataset / f"images/{index:05d}.png")
        after = iio.imread(truth / f"images/{index:05d}.png")
        assert (before != after).any(axis=-1)[inside == 255].all()


@pytest.mark.parametrize(
    "words", ["remove the {0}", "turn the {0} into a cone", "make it sepia", "cover the floor with snow"]
)
def test_the_truth_of_every_kind_is_what_follows(dataset, world, words):
    prompt = words.format(world.solids[0].shape)
    truth, instruction = write_truth(dataset, prompt), parse(prompt, world)
    tracer, differs = Tracer(world), False
    for index, camera in enumerate(read_cameras(dataset)):
        after, region = follow(instruction, tracer.trace(camera))
        assert np.array_equal(iio.imread(truth / f"images/{index:05d}.png"), to_bytes(after))
        assert np.array_equal(iio.imread(truth / f"region/{index:05d}.png"), np.where(region, 255, 0))
        differs |= not np.array_equal(iio.imread(dataset / f"images/{index:05d}.png"), to_bytes(after))
    assert differs


def test_a_world_without_materials_is_matte(dataset, world, tmp_path):
    content = json.loads((dataset / "world.json").read_text())
    assert [solid.pop("material") for solid in content["solids"]] == ["matte", "matte", "shiny"]
    (tmp_path / "world.json").write_text(json.dumps(content))
    matte = replace(world, solids=tuple(replace(solid, material="matte") for solid in world.solids))
    assert read_world(tmp_path) == matte != world


def test_depth_is_in_millimetres_along_the_axis_and_0_in_the_sky(dataset, world):
    for index, camera in enumerate(read_cameras(dataset)):
        depth = iio.imread(dataset / f"depth/{index:05d}.png")
        expected = Tracer(world).trace(camera).depth
        sky = np.isinf(expected)
        assert (depth[sky] == 0).all()
        near = ~sky & (expected < 65)
        np.testing.assert_allclose(depth[near] / 1000, expected[near], atol=0.00051)


def test_what_is_written_is_read_back(dataset, world, truth, prompt):
    assert read_world(dataset) == world
    assert truth == truth_folder(dataset, prompt)
    instruction = json.loads((truth / "instruction.json").read_text())
    assert instruction == {
        "prompt": prompt,
        "solids": [0, 1],
        "colour": "cyan",
        "shape": None,
        "material": None,
        "removed": False,
        "look": None,
    }
    cameras, expected = read_cameras(dataset), dome_cameras(9, SIZE, seed=5)
    for camera, written in zip(cameras, expected, strict=True):
        assert np.array_equal(camera.camera_to_world, written.camera_to_world)
        assert camera.field_of_view == pytest.approx(written.field_of_view)
        assert camera.size == written.size


def test_cameras_stand_at_even_angles():
    eyes = np.array([camera.camera_to_world[:3, 3] for camera in dome_cameras(8, 4, seed=0)])
    angles = np.unwrap(np.arctan2(eyes[:, 1], eyes[:, 0]))
    np.testing.assert_allclose(np.diff(angles), 2 * np.pi / 8)


@pytest.mark.parametrize(("num_views", "num_held_out"), [(2, 2), (7, 2), (2, 5), (9, 4)])
def test_held_out_views_are_as_many_as_asked_and_no_training_views(tmp_path, num_views, num_held_out):
    write_dataset(tmp_path / "world", random_world(0), num_views, num_held_out, size=4, seed=0)
    content = json.loads((tmp_path / "world" / "transforms.json").read_text())
    training, held_out = content["train_filenames"], content["val_filenames"]
    assert (len(training), len(held_out)) == (num_views, num_held_out)
    assert content["test_filenames"] == held_out
    assert sorted(training + held_out) == [frame["file_path"] for frame in content["frames"]]


def test_a_folder_that_holds_something_is_refused_and_left_as_it_is(tmp_path, world):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty: choose a new folder"):
        write_dataset(tmp_path, world, 2, 2, 4, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("counts", [(1, 2), (2, 1), (0, 0)])
def test_too_few_views_are_refused(tmp_path, world, counts):
    expected = "at least 2 training and 2 held-out views, not {} and {}".format(*counts)
    with pytest.raises(ValueError, match=expected):
        write_dataset(tmp_path / "world", world, *counts, 4, 0)
    assert not (tmp_path / "world").exists()


def test_a_folder_without_a_world_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no world.json"):
        write_truth(tmp_path, "make the cone blue")


@pytest.mark.parametrize("defaults", [True, False])
def test_nerfstudio_reads_the_written_cameras_and_the_split(dataset, defaults):
    from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig

    plain = {"orientation_method": "none", "center_method": "none", "auto_scale_poses": False}
    content = json.loads((dataset / "transforms.json").read_text())
    poses = {frame["file_path"]: frame["transform_matrix"] for frame in content["frames"]}
    parser = NerfstudioDataParserConfig(data=dataset, **({} if defaults else plain)).setup()  # type: ignore[arg-type]
    for split, key in (("train", "train_filenames"), ("val", "val_filenames")):
        outputs = parser.get_dataparser_outputs(split)
        names = [str(path.relative_to(dataset)) for path in outputs.image_filenames]
        assert sorted(names) == sorted(content[key])
        written = torch.tensor([poses[name] for name in names])
        expected = outputs.dataparser_transform @ written
        expected[:, :, 3] *= outputs.dataparser_scale
        torch.testing.assert_close(outputs.cameras.camera_to_worlds, expected, atol=1e-5, rtol=1e-5)
        if not defaults:
            torch.testing.assert_close(outputs.cameras.camera_to_worlds, written[:, :3])
        focal_length = read_cameras(dataset)[0].focal_length
        assert outputs.cameras.fx == pytest.approx(focal_length)
        assert (outputs.cameras.cx == SIZE / 2).all()
        assert (outputs.cameras.width == SIZE).all()
