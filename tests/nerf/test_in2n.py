import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.models.nerfacto import NerfactoModel, NerfactoModelConfig

from latenteditor.editing.dataset_update import EditableScene
from latenteditor.nerf import in2n as in2n_module
from latenteditor.nerf.edit_pictures import edit_picture
from latenteditor.networks.perceptual import load_perceptual_distance
from tests import runs

NUM_VIEWS = 5
SIZE = runs.SIZE


@pytest.fixture
def make_edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    def make(steps: int = 8, **options):
        return runs.in2n(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, steps, **options)

    return make


@pytest.fixture(scope="module")
def edited(tmp_path_factory, tiny_world_folder, tiny_instruct_pix2pix_folder):
    """The trainer of a run of eight steps, which edited before the steps 4 and 6. To look at only."""
    folder = tmp_path_factory.mktemp("in2n")
    return runs.train(runs.in2n(tiny_world_folder, tiny_instruct_pix2pix_folder, folder, steps=8))


@pytest.fixture(scope="module")
def lpips_file(tmp_path_factory) -> Path:
    """LPIPS on an AlexNet with random weights."""
    import lpips

    path = tmp_path_factory.mktemp("lpips") / "lpips.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).state_dict(), path)
    return path


def nerfacto(config: Any) -> NerfactoModel:
    """Stock nerfacto with random weights, in the sizes of a config of in2n."""
    names = ("num_levels", "max_res", "hidden_dim", "log2_hashmap_size", "num_proposal_samples_per_ray")
    names += ("num_nerf_samples_per_ray", "proposal_net_args_list")
    sizes = {name: getattr(config.pipeline.model, name) for name in names}
    # 0.01 is what the method nerfacto sets, though not the default of its model.
    options = NerfactoModelConfig(**sizes, implementation="torch", average_init_density=0.01)
    with in2n_module._without_lpips_of_the_host(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = options.setup(
            scene_box=SceneBox(torch.tensor([[-1.0] * 3, [1.0] * 3])), num_train_data=NUM_VIEWS, device="cpu"
        )
        for parameter in model.field.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
        torch.nn.init.normal_(model.camera_optimizer.pose_adjustment, std=0.05)
    return model.eval()


def save_run(folder: Path, state: dict[str, Any]) -> Path:
    """A folder of checkpoints with this model."""
    folder.mkdir()
    pipeline = {f"_model.{name}": value for name, value in state.items()}
    checkpoint = {"step": 9, "pipeline": pipeline, "optimizers": {}, "schedulers": {}, "scalers": {}}
    torch.save(checkpoint, folder / "step-000000009.ckpt")
    return folder


def checkpoint_of(trainer) -> dict:
    (path,) = runs.checkpoints(trainer.config).iterdir()
    return torch.load(path, weights_only=True)


def assert_same(one, other) -> None:
    """Asserts that two states hold the same, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def test_data_manager_and_model_together_are_an_editable_scene(edited):
    scene = edited.pipeline.session.scene
    assert isinstance(scene, EditableScene)
    assert scene.num_views == NUM_VIEWS
    for view in range(NUM_VIEWS):
        assert scene.render(view).shape == scene.original(view).shape == (3, SIZE, SIZE)


def test_due_views_are_edited_and_the_others_keep_their_photographs(edited):
    update, data = edited.pipeline.update, edited.pipeline.datamanager
    assert update.edits_per_view.count(1) == update.progress.edits == 2
    for edits, original, target in zip(update.edits_per_view, data.originals, data.targets, strict=True):
        assert torch.equal(original, target) == (edits == 0)


def test_a_checkpoint_is_plain_data_and_holds_the_edit_and_no_frozen_network(edited):
    state = checkpoint_of(edited)
    assert_same(state["pipeline"]["_extra_state"]["edit"], edited.pipeline.update.state_dict())
    frozen = ("unet", "text_encoder", "vae", "lpips", "autoencoder")
    assert not any(part in name for name in state["pipeline"] for part in frozen)


def test_a_resumed_run_makes_the_very_edit_that_an_uninterrupted_one_makes(edited, make_edit, tmp_path):
    uninterrupted = runs.train(make_edit(9))
    resumed = runs.set_up(make_edit(1, load_dir=runs.checkpoints(edited.config), output_dir=tmp_path / "resumed"))
    assert_same(resumed.pipeline.update.state_dict(), edited.pipeline.update.state_dict())
    targets = zip(resumed.pipeline.datamanager.targets, edited.pipeline.datamanager.targets, strict=True)
    assert all(torch.equal(*pair) for pair in targets)
    resumed.train()
    assert resumed.pipeline.update.progress.edits == 3
    states = [trainer.pipeline.update.state_dict() | {"seconds": 0} for trainer in (uninterrupted, resumed)]
    assert_same(*states)


def test_a_picture_of_an_edit_shows_photograph_score_mask_and_edit(make_edit):
    options = {"pipeline.edit.mask": "per-view"}
    pipeline = runs.set_up(make_edit(**options)).pipeline
    pipeline.session.begin()
    (view,) = pipeline.update.before_step(4)
    assert 0 < view.mask.sum() < view.mask.numel()
    original = pipeline.update.scene.original(view.view)
    assert torch.equal(view.edited.where(~view.mask, 0.0), original.where(~view.mask, 0.0))
    picture = edit_picture(pipeline.session.scene, view)
    assert picture.shape == (SIZE, 4 * SIZE, 3)
    assert torch.equal(picture[:, :SIZE], original.permute(1, 2, 0))
    assert torch.equal(picture[:, 2 * SIZE : 3 * SIZE, 0] > 0.5, view.mask[0])
    assert torch.equal(picture[:, -SIZE:], view.edited.permute(1, 2, 0))


def test_a_nerfacto_run_is_edited_from_its_next_step_on_and_looks_as_it_did(make_edit, tmp_path):
    config = make_edit(3, load_dir=tmp_path / "nerfacto")
    model = nerfacto(config)
    save_run(tmp_path / "nerfacto", model.state_dict() | {"lpips.net.lin0.weight": torch.zeros(3)})
    trainer = runs.set_up(config)
    assert trainer._start_step == trainer.pipeline.session.first_edit_step == 10
    camera = trainer.pipeline.datamanager.camera(1)
    loaded = trainer.pipeline.in2n_model.eval()
    shown, expected = (each.get_outputs_for_camera(camera) for each in (loaded, model))
    torch.testing.assert_close(shown["rgb"], expected["rgb"])
    torch.testing.assert_close(shown["accumulation"], expected["accumulation"])
    trainer.train()
    assert trainer.pipeline.update.progress.edits == 2  # Before the steps 10 and 12.


def refused(make_edit, folder: Path) -> str:
    with pytest.raises(ValueError) as answer:
        runs.set_up(make_edit(load_dir=folder))
    assert "\n" not in str(answer.value)
    return str(answer.value)


def test_a_latent_run_is_refused(make_edit, reconstructed_run):
    answer = refused(make_edit, runs.checkpoints(reconstructed_run.config))
    assert re.search(r"step 2 holds a latent scene, .*: train a nerfacto run and load that", answer)


def test_runs_of_other_methods_and_with_other_options_are_refused(make_edit, tmp_path):
    state = nerfacto(make_edit()).state_dict()
    other = {"means": torch.zeros(3)}
    assert "holds no nerfacto scene" in refused(make_edit, save_run(tmp_path / "other", other))
    appearance = "field.embedding_appearance.embedding.weight"
    smaller = state | {appearance: state[appearance][:3]}
    assert "other model options" in refused(make_edit, save_run(tmp_path / "smaller", smaller))


def test_what_is_edited_is_rendered_in_evaluation_mode_from_the_pose_it_trains_with(edited):
    pipeline = edited.pipeline
    model, data = pipeline.in2n_model, pipeline.datamanager
    before = model.state_dict()["camera_optimizer.pose_adjustment"].clone()
    poses = model.camera_optimizer.pose_adjustment.data
    try:
        poses[2] = torch.tensor([0.1, -0.1, 0.2, 0.05, 0.1, -0.1])
        images = []
        for training in (True, False):
            model.train(training)
            images.append(model.render_view(data.camera(2), 2))
            assert model.training == training
        assert torch.equal(*images), "neither the mode nor chance has a say"
        poses[0] = torch.tensor([0.3, 0.3, 0.3, 0.3, 0.3, 0.3])
        assert torch.equal(model.render_view(data.camera(2), 2), images[0]), "nor has camera 0"
        # The very rays that the view trains with.
        pixels = torch.tensor([[2, 3, 4], [2, 20, 31], [2, 31, 0]])
        rays = data.train_ray_generator(pixels)
        model.camera_optimizer.apply_to_raybundle(rays)
        model.eval()
        colors = model(rays)["rgb"]
        torch.testing.assert_close(images[0][:, pixels[:, 1], pixels[:, 2]].T, colors, atol=1e-4, rtol=1e-4)
        poses[2] = 0
        assert not torch.allclose(model.render_view(data.camera(2), 2), images[0])
    finally:
        poses.copy_(before)
        model.train()


def test_an_option_renders_as_the_public_code_in_training_mode_and_as_camera_0(edited, make_edit):
    options = {"pipeline.render_edits_in_training_mode": True}
    pipeline = runs.set_up(make_edit(load_dir=runs.checkpoints(edited.config), **options)).pipeline
    scene, model = pipeline.session.scene, pipeline.in2n_model
    jittered = [scene.render(2) for _ in range(2)]
    assert not torch.equal(*jittered)

    def seeded() -> torch.Tensor:
        torch.manual_seed(0)
        return scene.render(2)

    first = seeded()
    assert first.shape == (3, SIZE, SIZE)
    assert torch.equal(first, seeded())
    for camera in (0, 2):  # The correction of camera 0 comes on top of the view's own.
        before = seeded()
        model.camera_optimizer.pose_adjustment.data[camera] += 0.3
        assert not torch.allclose(before, seeded())
    model.eval()
    seeded()
    assert not model.training


def pose_changes(trainer) -> list[bool]:
    """Whether each step of a training moved a camera."""
    poses = trainer.pipeline.in2n_model.camera_optimizer.pose_adjustment
    seen = [poses.detach().clone()]
    trainer.callbacks.append(
        TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION], lambda step: seen.append(poses.detach().clone())
        )
    )
    trainer.train()
    return [not torch.equal(before, after) for before, after in zip(seen, seen[1:], strict=False)]


def test_cameras_learn_from_photographs_and_not_from_edits_unless_asked_to(make_edit, tmp_path):
    options = {"pipeline.reconstruction_steps": 2}
    assert pose_changes(runs.set_up(make_edit(4, **options))) == [True, True, False, False]
    options |= {"pipeline.train_cameras_on_edits": True, "output_dir": tmp_path / "second"}
    assert pose_changes(runs.set_up(make_edit(4, **options))) == [True] * 4


def test_the_loss_is_l1_and_lpips_of_the_patches(make_edit, lpips_file):
    options = {
        "pipeline.datamanager.patch_size": 32,
        "pipeline.datamanager.train_num_rays_per_batch": 2048,
        "pipeline.datamanager.eval_num_rays_per_batch": 1024,
        "pipeline.model.lpips_loss_mult": 0.7,
        "pipeline.model.lpips_weights": lpips_file,
    }
    pipeline = runs.set_up(make_edit(**options)).pipeline.eval()
    model = pipeline.in2n_model
    rays, batch = pipeline.datamanager.next_train(0)
    outputs = model(rays)
    losses = model.get_loss_dict(outputs, batch, {})
    rendered, wanted = outputs["rgb"].detach(), batch["image"]
    torch.testing.assert_close(losses["rgb_loss"].detach(), (rendered - wanted).abs().mean())
    # Each patch as it lies in its view.
    patches = []
    for number in range(2):
        view, row, column = batch["indices"][1024 * number].tolist()
        target = pipeline.datamanager.targets[view][:, row : row + 32, column : column + 32]
        patch = torch.zeros_like(target)
        for pixel in range(1024 * number, 1024 * (number + 1)):
            _, y, x = batch["indices"][pixel].tolist()
            patch[:, y - row, x - column] = rendered[pixel]
        patches.append((patch, target))
    distance = load_perceptual_distance(lpips_file, "cpu")
    expected = 0.7 * distance(*(torch.stack(images) for images in zip(*patches, strict=True))).mean()
    torch.testing.assert_close(losses["lpips_loss"].detach(), expected)
    losses["lpips_loss"].backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.field.parameters())


def test_a_pixel_that_is_kept_out_teaches_nothing(make_edit):
    pipeline = runs.set_up(make_edit()).pipeline
    data, model = pipeline.datamanager, pipeline.in2n_model
    rays, batch = data.next_train(0)
    assert "kept_out" not in batch
    outputs = model(rays)
    colors = outputs["rgb"].detach().requires_grad_()

    def gradient(batch):
        metrics = {"distortion": torch.zeros(())}
        loss = model.get_loss_dict({**outputs, "rgb": colors}, batch, metrics)["rgb_loss"]
        return torch.autograd.grad(loss, colors)[0].any(dim=1)

    everywhere = gradient(batch)
    view = int(batch["indices"][0, 0])
    data.keep_out(view, torch.ones(1, 1, 1, dtype=torch.bool))
    batch["kept_out"] = data.views.are_kept_out(batch["indices"])
    of_the_view = batch["indices"][:, 0] == view
    assert torch.equal(batch["kept_out"], of_the_view)
    assert torch.equal(gradient(batch), everywhere & ~of_the_view)
    assert "kept_out" in data.next_train(1)[1]


def test_training_with_lpips_and_without_its_weights_is_refused_before_it_starts(make_edit, monkeypatch, tmp_path):
    def offline(*args, **kwargs):
        raise OSError("no such host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    options = {
        "pipeline.datamanager.patch_size": 32,
        "pipeline.datamanager.train_num_rays_per_batch": 1024,
        "pipeline.datamanager.eval_num_rays_per_batch": 1024,
        "pipeline.model.lpips_loss_mult": 1.0,
    }
    with pytest.raises(ValueError, match=r"connect once, or pass a file with them by --pipeline\.model\.lpips-weights"):
        runs.set_up(make_edit(**options))


def test_lpips_of_patches_it_cannot_compare_is_refused(make_edit):
    with pytest.raises(ValueError, match=r"LPIPS cannot compare patches of 8x8 pixels: raise"):
        runs.set_up(make_edit(**{"pipeline.model.lpips_loss_mult": 1.0}))


@pytest.mark.parametrize("has_weights", [True, False])
def test_held_out_views_are_measured_with_lpips_where_its_weights_are(
    edited, make_edit, lpips_file, monkeypatch, tmp_path, has_weights
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(
        "torch.hub.download_url_to_file", lambda *args, **kwargs: (_ for _ in ()).throw(OSError("no such host"))
    )
    config = make_edit(**{"pipeline.model.lpips_weights": lpips_file if has_weights else None})
    config.pipeline.edit.model, config.pipeline.edit.prompt = "/nowhere", ""
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    pipeline.load_pipeline(checkpoint_of(edited)["pipeline"], step=7)
    assert pipeline.session.editor is None, "who only looks loads no editor"
    metrics = pipeline.get_average_eval_image_metrics()
    assert ({"psnr", "ssim", "lpips"} if has_weights else {"psnr", "ssim"}) <= set(metrics)
    assert ("lpips" in metrics) == has_weights


PUBLISHED = {
    "in2n": ("15000", "16384", "32", "1.0", "False"),
    "in2n-small": ("30000", "16384", "32", "1.0", "True"),
    "in2n-tiny": ("30000", "4096", "1", "0.0", "True"),
}
"""Iterations, rays, patch, weight of LPIPS, half precision."""
PUBLISHED_FOR_ALL = {
    "pipeline.datamanager.eval-num-rays-per-batch": "4096",
    "pipeline.edit.guidance.text": "7.5",
    "pipeline.edit.guidance.image": "1.5",
    "pipeline.edit.min-noise": "0.02",
    "pipeline.edit.max-noise": "0.98",
    "pipeline.edit.denoising-steps": "20",
    "pipeline.edit.mask": "none",
    "pipeline.schedule.steps-per-edit": "10",
    "pipeline.schedule.views-per-edit": "1",
    "pipeline.model.camera-optimizer.mode": "SO3xR3",
    "pipeline.render-edits-in-training-mode": "False",
    "pipeline.train-cameras-on-edits": "False",
    "steps-per-save": "250",
    "mixed-precision": "True",
    "optimizers.fields.optimizer.lr": "0.01",
    "optimizers.fields.scheduler.lr-final": "0.0001",
    "optimizers.fields.scheduler.max-steps": "200000",
    "optimizers.camera-opt.optimizer.lr": "0.0006",
    "optimizers.camera-opt.optimizer.weight-decay": "0.01",
    "optimizers.camera-opt.scheduler.lr-final": "6e-06",
}


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """What `ns-train METHOD --help` prints of each method's own options."""
    script = """
import tyro
from latenteditor import methods
for specification in (methods.in2n, methods.in2n_small, methods.in2n_tiny):
    config = specification.config
    print("=" * 9, config.method_name)
    try:
        tyro.cli(type(config), args=["--help"], default=config, config=(tyro.conf.FlagConversionOff,))
    except SystemExit:
        pass
"""
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "100"},
    )
    assert finished.returncode == 0, finished.stderr
    # Without the frames and the ends of lines.
    parts = re.sub(r"[\s│]+", " ", finished.stdout).split("=" * 9)[1:]
    return {part.split()[0]: part for part in parts}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_defaults_that_help_prints_are_the_published_ones(help_texts, name):
    iterations, rays, patch, lpips, half = PUBLISHED[name]
    expected = PUBLISHED_FOR_ALL | {
        "max-num-iterations": iterations,
        "pipeline.datamanager.train-num-rays-per-batch": rays,
        "pipeline.datamanager.patch-size": patch,
        "pipeline.model.lpips-loss-mult": lpips,
        "pipeline.edit.half-precision": half,
    }
    for option, default in expected.items():
        found = re.search(rf"--{re.escape(option)} .*?\(default: ([^)]*)\)", help_texts[name])
        assert found, option
        assert found.group(1) == default, option
