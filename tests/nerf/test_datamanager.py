import json
import shutil

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from latenteditor.nerf import datamanager as datamanager_module
from latenteditor.nerf.datamanager import CellSampler, Views, resize_cameras


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


def test_targets_start_as_originals_and_come_back_to_them(make_datamanager):
    data = make_datamanager()
    assert data.originals == data.targets == []
    data.load_views()
    originals = [latents.clone() for latents in data.originals]
    assert len(originals) == len(data.train_dataset)
    edited = torch.ones_like(originals[3])
    data.replace_view(3, edited)
    for index, (original, target) in enumerate(zip(data.originals, data.targets, strict=True)):
        assert torch.equal(original, originals[index])
        assert torch.equal(target, edited if index == 3 else original)
    data.reset_views()
    assert all(map(torch.equal, data.targets, originals))


def test_replacing_is_by_value(make_datamanager):
    data = make_datamanager()
    edited = torch.ones_like(data.load_views().originals[0])
    data.replace_view(0, edited)
    edited.zero_()
    assert (data.targets[0] == 1).all()


def test_latents_of_another_shape_are_refused(make_datamanager):
    data = make_datamanager()
    with pytest.raises(ValueError, match="View 0 holds latents of shape .* cannot be replaced"):
        data.replace_view(0, torch.zeros(4, 2, 2))


def test_originals_are_the_latents_of_the_resized_photographs(make_datamanager, autoencoder):
    data = make_datamanager()
    data.load_views()
    for index in (0, 1):
        image = data.train_photographs[index]["image"].permute(2, 0, 1)[None]
        assert max(image.shape[-2:]) == 32
        torch.testing.assert_close(data.originals[index], autoencoder.encode(image)[0])


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


def test_a_second_run_reads_the_cache_and_a_damaged_one_is_rebuilt(make_datamanager, tmp_path, monkeypatch):
    first = make_datamanager(latent_cache_dir=tmp_path)
    first.load_views()
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first.originals)
    assert all(path.suffix == ".safetensors" for path in files)

    files[0].write_bytes(files[0].read_bytes()[:100])
    encoded = []
    encode = datamanager_module.Autoencoder.encode
    monkeypatch.setattr(datamanager_module.Autoencoder, "encode", lambda *args: encoded.append(1) or encode(*args))
    second = make_datamanager(latent_cache_dir=tmp_path)
    second.load_views()
    assert len(encoded) == 1
    assert all(map(torch.equal, first.originals, second.originals))
    torch.testing.assert_close(first.statistics(), second.statistics())

    make_datamanager(latent_cache_dir=tmp_path, image_size=24).load_views()
    assert len(encoded) == 1 + len(first.originals)


def test_missing_photographs_are_named(make_datamanager, capture_folder, tmp_path):
    folder = tmp_path / "capture"
    shutil.copytree(capture_folder, folder)
    (folder / "images" / "03.png").unlink()
    with pytest.raises(ValueError, match=r"1 of .*03\.png.*instant-ngp-data"):
        make_datamanager(folder)


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


def test_the_preview_is_the_least_squares_fit(make_datamanager):
    data = make_datamanager()
    mean, std, preview, image_size = data.statistics()
    assert image_size == 32
    latents = torch.cat([view.flatten(1).T for view in data.originals])
    torch.testing.assert_close(latents.mean(0), mean)
    torch.testing.assert_close(latents.std(0), std)
    colors = torch.cat(
        [
            torch.nn.functional.avg_pool2d(data.train_photographs[index]["image"].permute(2, 0, 1), 4).flatten(1).T
            for index in range(len(data.originals))
        ]
    )
    with_one = torch.nn.functional.pad(latents, (0, 1), value=1.0)
    fitted = (with_one @ preview - colors).square().mean()
    best = (with_one @ torch.linalg.lstsq(with_one, colors).solution - colors).square().mean()
    torch.testing.assert_close(fitted, best, rtol=1e-3, atol=1e-6)


def test_cells_are_found_in_views_of_any_size():
    views = Views([torch.arange(24.0).view(2, 3, 4), torch.arange(10.0).view(2, 5, 1)])
    cells = torch.tensor([[0, 2, 3], [1, 4, 0], [0, 0, 0]])
    assert views.at(cells).tolist() == [[11.0, 23.0], [4.0, 9.0], [0.0, 12.0]]
