import copy

import pytest
import torch
import yaml
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.model_components.renderers import background_color_override_context

from latenteditor.editing.metrics import psnr
from latenteditor.nerf.latent_display import evaluation, latent_psnr
from tests.networks.state_dicts import random_state_dicts, save_state_dicts


def camera(height: int, width: int) -> Cameras:
    pose = torch.eye(4)[None, :3].clone()
    pose[0, 2, 3] = 1.0
    return Cameras(pose, fx=40.0, fy=40.0, cx=width / 2, cy=height / 2, width=width, height=height)


@pytest.mark.parametrize("size", [(45, 60), (32, 24), (61, 33), (200, 301)])
def test_every_output_is_as_large_as_the_camera(ready_pipeline, size):
    outputs = ready_pipeline.latent_model.get_outputs_for_camera(camera(*size))
    channels = {name: tuple(values.shape) for name, values in outputs.items()}
    assert channels == {
        name: (*size, count) for name, count in {"rgb": 3, "latent": 4, "accumulation": 1, "depth": 1}.items()
    }
    assert outputs["rgb"].min() >= 0
    assert outputs["rgb"].max() <= 1


def test_what_is_shown_is_the_decoded_refined_latent(ready_pipeline):
    model = ready_pipeline.latent_model
    torch.nn.init.normal_(model.adapter.up[2].bias)  # type: ignore[union-attr]
    shown = model.get_outputs_for_camera(camera(32, 24))["rgb"].permute(2, 0, 1)
    latent_camera = camera(8, 6)
    latent_camera.fx, latent_camera.fy = latent_camera.fx / 4, latent_camera.fy / 4
    decoded = model.autoencoder.decode(model.render_latents(latent_camera)[None])[0]
    torch.testing.assert_close(shown, decoded)


def test_the_latent_that_is_shown_is_the_fields_own(ready_pipeline):
    model = ready_pipeline.latent_model
    torch.nn.init.normal_(model.adapter.up[2].bias)  # type: ignore[union-attr]
    shown = model.get_outputs_for_camera(camera(32, 24))["latent"][2::4, 2::4].permute(2, 0, 1)
    latent_camera = camera(8, 6)
    latent_camera.fx, latent_camera.fy = latent_camera.fx / 4, latent_camera.fy / 4
    refined = model.render_latents(latent_camera)
    torch.testing.assert_close(model.refine(shown), refined)
    assert (shown - refined).abs().max() > 0.1 * model.latent_std.max()


def test_rendering_changes_neither_camera_nor_mode_and_repeats_itself(ready_pipeline):
    model = ready_pipeline.latent_model.train()
    asked = camera(32, 24)
    before = copy.deepcopy(asked)
    latents = model.render_latents(asked)
    assert torch.equal(latents, model.render_latents(asked))
    model.get_outputs_for_camera(asked)
    assert model.training
    assert model.field.training
    for name in ("fx", "fy", "cx", "cy", "width", "height", "camera_to_worlds"):
        assert torch.equal(getattr(asked, name), getattr(before, name))


def test_tiny_frames_show_linear_colors(ready_pipeline):
    model = ready_pipeline.latent_model
    outputs = model.get_outputs_for_camera(camera(7, 6))
    assert outputs["latent"].shape == (7, 6, 4)
    torch.testing.assert_close(outputs["rgb"], model.linear_rgb(outputs["latent"]))


def test_rays_of_all_pixels_show_the_same_as_their_camera(ready_pipeline):
    model = ready_pipeline.latent_model
    asked = camera(96, 72)
    through_rays = model.get_outputs_for_camera_ray_bundle(asked.generate_rays(0, keep_shape=True))
    through_camera = model.get_outputs_for_camera(asked)
    assert through_rays.keys() == through_camera.keys()
    # The rays are those of the nearest pixels, half a pixel away from the centers of the cells.
    assert (through_rays["latent"] - through_camera["latent"]).abs().mean() < 0.02
    assert through_rays["rgb"].shape == through_camera["rgb"].shape


def test_single_rays_have_a_color_for_the_host(ready_pipeline):
    model = ready_pipeline.latent_model
    outputs = model(camera(8, 6).generate_rays(0, keep_shape=True).flatten())
    assert outputs["rgb"].shape == (48, 3)
    assert outputs["latent"].shape == (48, 4)
    assert outputs["rgb"].min() >= 0
    assert outputs["rgb"].max() <= 1


def test_outside_of_a_crop_is_the_background_that_was_asked(ready_pipeline):
    model = ready_pipeline.latent_model
    nowhere = OrientedBox.from_params((90.0, 90.0, 90.0), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1))
    background = torch.tensor([0.2, 0.4, 0.6])
    for size in ((32, 24), (7, 6)):
        with background_color_override_context(background):
            outputs = model.get_outputs_for_camera(camera(*size), obb_box=nowhere)
        torch.testing.assert_close(outputs["rgb"], background.expand(*size, 3))
        assert torch.isfinite(outputs["latent"]).all()


def test_training_teaches_field_and_adapter(make_pipeline):
    from latenteditor.methods import latent_nerfacto

    pipeline = make_pipeline(train_num_rays_per_batch=128)
    model = pipeline.latent_model
    model.set_statistics(pipeline.datamanager.statistics())
    optimizers = Optimizers(latent_nerfacto.config.optimizers, pipeline.get_param_groups())
    latent_losses = []
    pipeline.train()
    for step in range(160):
        optimizers.zero_grad_all()
        _, losses, metrics = pipeline.get_train_loss_dict(step)
        assert ("adapter_loss" in losses) == (step % 4 == 0)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizers.optimizer_step_all()
        latent_losses.append(losses["latent_loss"].item())
        assert "latent_psnr" in metrics
    assert sum(latent_losses[-20:]) / 20 < 0.5 * sum(latent_losses[:5]) / 5
    latents = pipeline.datamanager.originals[0]
    assert not torch.equal(model.refine(latents), latents)


def test_no_gradient_of_the_adapter_reaches_the_field(ready_pipeline):
    ready_pipeline.train()
    torch.nn.init.normal_(ready_pipeline.latent_model.adapter.up[2].weight)  # type: ignore[union-attr]
    _, losses, _ = ready_pipeline.get_train_loss_dict(0)
    losses["adapter_loss"].backward()
    model = ready_pipeline.latent_model
    assert all(value.grad is None for value in model.field.parameters())
    assert all(value.grad is not None for value in model.adapter.parameters())  # type: ignore[union-attr]


def test_a_decoded_loss_teaches_the_adapter_when_asked(make_pipeline):
    pipeline = make_pipeline(decoded_loss_mult=50.0, decoded_crop=5)
    model = pipeline.latent_model
    model.set_statistics(pipeline.datamanager.statistics())
    losses = pipeline.train().get_train_loss_dict(0)[1]
    losses["decoded_loss"].backward()
    assert losses["decoded_loss"] > 0
    assert model.adapter.up[2].weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_without_adapter_nothing_is_refined(make_pipeline):
    pipeline = make_pipeline(adapter=False)
    pipeline.datamanager.load_views()
    assert "adapter" not in pipeline.get_param_groups()
    assert "adapter_loss" not in pipeline.train().get_train_loss_dict(0)[1]
    latents = torch.randn(4, 5, 6)
    assert torch.equal(pipeline.latent_model.refine(latents), latents)


def test_every_parameter_that_learns_has_an_optimizer(make_pipeline):
    from latenteditor.methods import latent_nerfacto

    for encoding in ("dense", "hash"):
        groups = make_pipeline(encoding=encoding, log2_hashmap_size=6).get_param_groups()
        assert set(groups) <= set(latent_nerfacto.config.optimizers)
        model = make_pipeline(encoding=encoding, log2_hashmap_size=6).latent_model
        assert sum(map(len, groups.values())) == len(list(model.parameters())) - 1  # The host's device indicator.


def test_normals_can_be_predicted(make_pipeline):
    pipeline = make_pipeline(predict_normals=True)
    pipeline.datamanager.load_views()
    losses = pipeline.train().get_train_loss_dict(1)[1]
    assert {"orientation_loss", "pred_normal_loss"} <= losses.keys()
    assert pipeline.latent_model(camera(4, 4).generate_rays(0, keep_shape=True).flatten())["pred_normals"].shape == (
        16,
        3,
    )


def test_held_out_metrics_are_what_they_are_called(ready_pipeline):
    model = ready_pipeline.latent_model
    view, batch = next(iter(ready_pipeline.datamanager.fixed_indices_eval_dataloader))
    outputs = model.get_outputs_for_camera(view)
    metrics, images = model.get_image_metrics_and_images(outputs, batch)
    assert set(metrics) == {"psnr", "ssim", "latent_psnr", "psnr_without_adapter", "ceiling_psnr"}
    photograph = batch["image"].permute(2, 0, 1)[None]
    rendered = outputs["rgb"].permute(2, 0, 1)[None]
    assert metrics["psnr"] == pytest.approx(float(psnr(rendered, photograph)), abs=1e-4)
    assert metrics["psnr_without_adapter"] == pytest.approx(metrics["psnr"], abs=1e-3)  # It is untrained.
    ceiling = psnr(model.autoencoder.decode(model.autoencoder.encode(photograph)), photograph)
    assert metrics["ceiling_psnr"] == pytest.approx(float(ceiling), abs=1e-4)
    assert all(image.shape[-1] == 3 for image in images.values())


def test_a_perfect_scene_reaches_the_ceiling(ready_pipeline):
    model = ready_pipeline.latent_model
    view, batch = next(iter(ready_pipeline.datamanager.fixed_indices_eval_dataloader))
    outputs = model.get_outputs_for_camera(view)
    original = model.autoencoder.encode(batch["image"].permute(2, 0, 1)[None])
    outputs["rgb"] = model.autoencoder.decode(original)[0].permute(1, 2, 0)
    outputs["latent"] = torch.nn.functional.interpolate(original, tuple(outputs["rgb"].shape[:2]))[0].permute(1, 2, 0)
    metrics, _ = model.get_image_metrics_and_images(outputs, batch)
    assert metrics["psnr"] == pytest.approx(metrics["ceiling_psnr"], abs=1e-4)
    assert metrics["psnr_without_adapter"] == pytest.approx(metrics["ceiling_psnr"], abs=1e-4)
    assert metrics["latent_psnr"] > 80


def test_latent_psnr_of_the_mean_latent_is_that_of_unit_variance():
    assert float(latent_psnr(torch.ones(10))) == pytest.approx(20 * torch.log10(torch.tensor(6.0)).item())


def test_an_evaluation_batch_has_a_loss(ready_pipeline):
    _, losses, metrics = ready_pipeline.get_eval_loss_dict(0)
    assert set(losses) == {"latent_loss"}
    assert torch.isfinite(losses["latent_loss"])
    assert set(metrics) == {"latent_psnr"}


def test_a_checkpoint_brings_back_the_scene_and_no_autoencoder(ready_pipeline, make_pipeline):
    state = ready_pipeline.state_dict()
    assert not any("autoencoder" in name for name in state)
    loaded = make_pipeline().eval()
    assert not loaded.latent_model.knows_latents
    loaded.load_pipeline(copy.deepcopy(state), step=7)
    shown = loaded.latent_model.get_outputs_for_camera(camera(32, 24))
    expected = ready_pipeline.latent_model.get_outputs_for_camera(camera(32, 24))
    assert all(torch.equal(shown[name], expected[name]) for name in expected)
    assert loaded.datamanager.views is None  # Looking encodes nothing.


def test_an_rgb_scene_is_refused_in_a_sentence(ready_pipeline):
    state = {name: value for name, value in ready_pipeline.state_dict().items() if "latent_mean" not in name}
    with pytest.raises(ValueError, match="step 9 holds no latent scene: train a latent-nerfacto run first"):
        ready_pipeline.load_pipeline(state, step=9)


def test_a_scene_of_another_autoencoder_is_refused_in_a_sentence(ready_pipeline):
    state = dict(ready_pipeline.state_dict()) | {"_model.latent_mean": torch.zeros(16)}
    with pytest.raises(ValueError, match="latents of 16 channels, but the autoencoder has 4"):
        ready_pipeline.load_pipeline(state, step=9)


def test_a_scene_of_another_size_is_refused_in_a_sentence(ready_pipeline, make_pipeline):
    state = make_pipeline(max_res=20).state_dict()
    with pytest.raises(ValueError, match="other model options, as .*grids.* shows"):
        ready_pipeline.load_pipeline(state, step=9)


def test_evaluation_gives_back_the_mode_even_after_an_error(ready_pipeline):
    model = ready_pipeline.latent_model.train()
    with pytest.raises(RuntimeError), evaluation(model):
        assert not model.training
        raise RuntimeError
    assert model.training


def test_the_methods_config_survives_its_file():
    from latenteditor.methods import latent_nerfacto

    text = yaml.dump(latent_nerfacto.config)
    assert "lambda" not in text
    assert yaml.dump(yaml.load(text, Loader=yaml.Loader)) == text


@pytest.mark.parametrize(("channels", "halvings", "image_size"), [(32, 3, 64), (32, 2, 24), (5, 1, 32)])
def test_an_autoencoder_of_two_state_dicts_makes_a_scene_of_its_sizes(
    make_pipeline, tmp_path, channels, halvings, image_size
):
    folder = save_state_dicts(tmp_path, *random_state_dicts(channels, halvings=halvings))
    pipeline = make_pipeline(autoencoder=folder, image_size=image_size)
    model, data = pipeline.latent_model, pipeline.datamanager
    model.set_statistics(data.statistics())
    losses = pipeline.train().get_train_loss_dict(0)[1]
    assert {"latent_loss", "adapter_loss"} <= losses.keys()
    assert all(torch.isfinite(loss) for loss in losses.values())
    cells = torch.cat([model._normalized(view).flatten(start_dim=1) for view in data.originals], dim=1)
    torch.testing.assert_close(cells.mean(dim=1), torch.zeros(channels), atol=1e-4, rtol=0)
    torch.testing.assert_close(cells.std(dim=1), torch.ones(channels), atol=1e-3, rtol=0)
    outputs = pipeline.eval().latent_model.get_outputs_for_camera(camera(61, 33))
    assert (outputs["rgb"].shape, outputs["latent"].shape) == ((61, 33, 3), (61, 33, channels))
    latents = data.originals[0]
    torch.testing.assert_close(model._scaled(model._normalized(latents)), latents)
