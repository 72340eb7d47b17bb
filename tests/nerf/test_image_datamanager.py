import json
import shutil

import pytest
import torch
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from PIL import Image

from latenteditor.nerf.image_datamanager import ImageDataManager, ImageDataManagerConfig


@pytest.fixture
def make_data(capture_folder):
    def make(folder=capture_folder, test_mode="val", **options) -> ImageDataManager:
        options = {
            "image_size": 32,
            "patch_size": 8,
            "train_num_rays_per_batch": 200,
            "eval_num_rays_per_batch": 64,
        } | options
        dataparser = NerfstudioDataParserConfig(data=folder)
        return ImageDataManagerConfig(dataparser=dataparser, **options).setup(device="cpu", test_mode=test_mode)

    return make


def masked_copy(capture_folder, folder, box):
    """The capture with masks that hide the pixels of a box, given as fractions of width and height."""
    shutil.copytree(capture_folder, folder)
    transforms = json.loads((folder / "transforms.json").read_text())
    (folder / "masks").mkdir()
    for frame in transforms["frames"]:
        mask = Image.new("L", (frame["w"], frame["h"]), 255)
        mask.paste(0, tuple(int(part * frame[side]) for part, side in zip(box, "whwh", strict=True)))
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        mask.save(folder / frame["mask_path"])
    (folder / "transforms.json").write_text(json.dumps(transforms))
    return folder


def test_targets_start_as_the_photographs_at_working_size_and_come_back_to_them(make_data):
    data = make_data()
    assert data.originals == data.targets == []
    data.load_views()
    assert len(data.originals) == len(data.train_dataset)
    assert {tuple(image.shape) for image in data.originals} == {(3, 24, 32), (3, 32, 26)}
    for index, original in enumerate(data.originals):
        photograph = data.train_photographs[index]["image"].permute(2, 0, 1)
        assert torch.equal(original, photograph)
        assert 0 <= original.min() <= original.max() <= 1
    edited = torch.ones_like(data.originals[3])
    data.replace_view(3, edited)
    edited.zero_()
    for index, (original, target) in enumerate(zip(data.originals, data.targets, strict=True)):
        assert torch.equal(target, torch.ones_like(original) if index == 3 else original)
    data.reset_views()
    assert all(map(torch.equal, data.targets, data.originals))


def test_images_of_another_shape_are_refused(make_data):
    with pytest.raises(ValueError, match=r"View 0 holds images of shape .* cannot be replaced by images of shape"):
        make_data().replace_view(0, torch.zeros(3, 2, 2))


def test_every_ray_goes_with_the_target_of_its_pixel(make_data):
    data = make_data()
    data.load_views()
    for index in range(0, len(data.originals), 2):
        data.replace_view(index, torch.full_like(data.originals[index], 0.5))
    seen = set()
    for step in range(20):
        rays, batch = data.next_train(step)
        pixels = batch["indices"]
        expected = torch.stack([data.targets[view][:, row, column] for view, row, column in pixels.tolist()])
        assert torch.equal(batch["image"], expected)
        assert torch.equal(rays.camera_indices[:, 0], pixels[:, 0])
        one = data.train_dataset.cameras.generate_rays(
            camera_indices=pixels[:1, :1],
            coords=(pixels[:1, 1:] + 0.5)
            * torch.tensor(data.train_dataset.cameras.height[pixels[0, 0]] / data.originals[pixels[0, 0]].shape[1]),
        )
        # Not exact: a photograph's sides are rounded to whole pixels.
        torch.testing.assert_close(rays.directions[:1], one.directions, atol=0.02, rtol=0)
        seen |= set(pixels[:, 0].tolist())
    assert {tuple(data.originals[view].shape) for view in seen} == {(3, 24, 32), (3, 32, 26)}


def test_rays_come_in_whole_patches(make_data):
    data = make_data()
    _, batch = data.next_train(0)
    assert batch["patch_size"] == 8
    assert len(batch["indices"]) == 192 == data.get_train_rays_per_batch(), "200 rays are three patches"
    assert "image" not in batch, "no photograph is read before training starts"
    offsets = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij"), dim=-1).view(64, 2)
    for patch in batch["indices"].view(3, 64, 3):
        assert (patch[:, 0] == patch[0, 0]).all()
        assert torch.equal(patch[:, 1:] - patch[0, 1:], offsets)


def test_single_pixels_can_be_drawn_too(make_data):
    data = make_data(patch_size=1)
    _, batch = data.next_train(0)
    assert len(batch["indices"]) == 200
    assert len(batch["indices"][:, 1:].unique(dim=0)) > 100


def test_held_out_views_come_in_patches_and_whole(make_data):
    data = make_data()
    rays, batch = data.next_eval(0)
    assert len(rays) == len(batch["image"]) == 64
    for camera, whole in data.fixed_indices_eval_dataloader:
        height, width = whole["image"].shape[:2]
        assert (int(camera.height), int(camera.width)) == (height, width)
        assert max(height, width) == 32


def test_who_only_looks_gets_as_many_single_rays_as_asked(make_data):
    data = make_data(test_mode="test")
    data.train_pixel_sampler.num_rays_per_batch = 50
    rays, _ = data.next_train(0)
    assert len(rays) == 50


@pytest.mark.parametrize("patch_size", [1, 8])
@pytest.mark.parametrize("views", [None, 1])
def test_masked_pixels_are_never_drawn(make_data, capture_folder, tmp_path, patch_size, views):
    folder = masked_copy(capture_folder, tmp_path / "capture", (0, 0, 0.5, 1))
    data = make_data(folder, patch_size=patch_size)
    if views is not None:
        # One view of its size, and no other.
        data._train_patches._views = data._train_patches._views[:views]
    for step in range(5):
        _, batch = data.next_train(step)
        masks = [data.train_photographs[view]["mask"] for view in range(len(data.train_dataset))]
        assert all(masks[view][row, column] for view, row, column in batch["indices"].tolist())


def test_masks_that_leave_no_patch_are_refused(make_data, capture_folder, tmp_path):
    folder = masked_copy(capture_folder, tmp_path / "capture", (0.1, 0.1, 1, 1))
    with pytest.raises(ValueError, match="masks of this capture leave no patch of 8x8 pixels"):
        make_data(folder)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"patch_size": 30, "train_num_rays_per_batch": 900}, "Patches of 30x30 pixels do not fit into a view that is"),
        ({"patch_size": 0}, "A patch is 1 or more pixels wide, not 0"),
        ({"patch_size": 16}, "A batch of 200 rays holds no patch of 16x16 pixels: take 256 rays or more"),
        ({"image_size": 0}, "A photograph is 1 or more pixels long, not 0"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(make_data, options, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        make_data(**options)
    assert "\n" not in str(answer.value)


def test_missing_photographs_are_named(make_data, capture_folder, tmp_path):
    folder = tmp_path / "capture"
    shutil.copytree(capture_folder, folder)
    (folder / "images" / "03.png").unlink()
    with pytest.raises(ValueError, match=r"1 of .*03\.png.*instant-ngp-data"):
        make_data(folder)
