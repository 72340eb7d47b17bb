import json
import shutil

import pytest
import torch

from latenteditor.nerf.datamanager import CellSampler


def test_views_may_differ_in_size(make_datamanager):
    data = make_datamanager()
    data.load_views()
    shapes = {tuple(latents.shape) for latents in data.originals}
    assert shapes == {(4, 6, 8), (4, 8, 6)}
    for index, latents in enumerate(data.originals):
        camera = data.camera(index)
        assert (int(camera.height), int(camera.width)) == tuple(latents.shape[1:])


def test_every_ray_goes_with_the_latent_of_its_cell(make_datamanager):
    data = make_datamanager()
    data.load_views()
    data.replace_view(2, torch.full_like(data.originals[2], 7.0))
    rays, batch = data.next_train(1)
    targets = data.targets
    for cell, latent in zip(batch["indices"].tolist(), batch["latents"], strict=True):
        view, row, column = cell
        assert torch.equal(latent, targets[view][:, row, column])
    assert torch.equal(rays.camera_indices[:, 0], batch["indices"][:, 0])
    one = data.train_cameras.generate_rays(
        camera_indices=batch["indices"][:1, :1], coords=batch["indices"][:1, 1:] + 0.5
    )
    torch.testing.assert_close(rays.directions[:1], one.directions)


def test_a_whole_view_comes_as_often_as_asked_and_each_before_any_again(make_datamanager):
    data = make_datamanager(steps_per_view=3, min_steps_per_view_on_cpu=1)
    data.load_views()
    views = [data.next_train(step)[1].get("view") for step in range(3 * len(data.originals))]
    assert [view is not None for view in views[:4]] == [True, False, False, True]
    seen = [int(view.rays.camera_indices[0, 0, 0]) for view in views if view is not None]
    assert sorted(seen) == list(range(len(data.originals)))
    for index, view in zip(seen, [view for view in views if view is not None], strict=True):
        assert torch.equal(view.latents, data.originals[index])
        assert view.rays.shape == view.latents.shape[1:]


def test_rays_can_be_had_before_anything_is_encoded(make_datamanager):
    rays, batch = make_datamanager().next_train(0)
    assert len(rays) == 512
    assert "latents" not in batch


def test_held_out_photographs_come_at_working_size_and_datasets_stay_native(make_datamanager):
    data = make_datamanager()
    for camera, batch in data.fixed_indices_eval_dataloader:
        height, width = batch["image"].shape[:2]
        assert (int(camera.height), int(camera.width)) == (height, width)
        assert max(height, width) == 32
    assert max(data.eval_dataset[0]["image"].shape) == max(int(data.eval_dataset.cameras.width[0]), 50)


def test_masked_cells_are_never_drawn(make_datamanager, capture_folder, tmp_path):
    from PIL import Image

    folder = tmp_path / "capture"
    shutil.copytree(capture_folder, folder)
    transforms = json.loads((folder / "transforms.json").read_text())
    (folder / "masks").mkdir()
    for frame in transforms["frames"]:
        mask = Image.new("L", (frame["w"], frame["h"]), 255)
        mask.paste(0, (0, 0, frame["w"] // 2, frame["h"]))
        frame["mask_path"] = frame["file_path"].replace("images", "masks")
        mask.save(folder / frame["mask_path"])
    (folder / "transforms.json").write_text(json.dumps(transforms))
    data = make_datamanager(folder)
    data.load_views()
    _, batch = data.next_train(0)
    columns = torch.tensor([latents.shape[2] for latents in data.originals])[batch["indices"][:, 0]]
    assert (batch["indices"][:, 2] >= columns // 2).all()
    assert not batch["view"].valid[:, : batch["view"].valid.shape[1] // 2].any()


def test_masks_that_hide_everything_are_refused():
    with pytest.raises(ValueError, match="leave no latent cell"):
        CellSampler([torch.zeros(2, 2, dtype=torch.bool)])


def test_cells_that_are_kept_out_are_not_trained_on_and_come_back(make_datamanager):
    data = make_datamanager()
    for view, latents in enumerate(data.load_views().originals):
        left = torch.zeros(1, *latents.shape[-2:], dtype=torch.bool)
        left[..., : latents.shape[-1] // 2] = True
        data.keep_out(view, left)
    drawn = torch.cat([data.next_train(step)[1]["indices"] for step in range(8)])
    columns = torch.tensor([latents.shape[-1] for latents in data.originals])[drawn[:, 0]]
    assert (drawn[:, 2] >= columns // 2).all()
    whole = [batch["view"].valid for _, batch in map(data.next_train, range(16)) if "view" in batch]
    assert whole
    assert all(not valid[:, : valid.shape[1] // 2].any() and valid[:, valid.shape[1] // 2 :].all() for valid in whole)
    asked_for_all, _ = data.sample_rays(4096)
    assert (asked_for_all[:, 2] == 0).any(), "what is measured on all cells still is"
    data.keep_out(0, None)
    drawn = torch.cat([data.next_train(step)[1]["indices"] for step in range(8)])
    assert set(drawn[drawn[:, 2] == 0][:, 0].tolist()) == {0}


def test_where_everything_is_kept_out_training_goes_on_with_all(make_datamanager):
    data = make_datamanager()
    for view, latents in enumerate(data.load_views().originals):
        data.keep_out(view, torch.ones(1, *latents.shape[-2:], dtype=torch.bool))
    assert len(data.next_train(0)[1]["indices"])
