import copy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from latenteditor.editing.dataset_update import EditableScene
from latenteditor.nerf.edit_pictures import edit_picture
from tests import runs


@pytest.fixture
def make_edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    def make(steps: int = 8, **options):
        return runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, steps, **options)

    return make


def checkpoint_of(trainer) -> dict:
    (path,) = runs.checkpoints(trainer.config).iterdir()
    return torch.load(path, weights_only=True)


def assert_same(one, other) -> None:
    """Asserts that two states hold the same, bit for bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("prompt", ["", "  "])
def test_training_without_a_prompt_is_refused_with_the_flag_that_gives_one(make_edit, prompt):
    with pytest.raises(ValueError, match=r"no prompt: say what to change, as in --pipeline\.edit\.prompt"):
        runs.set_up(make_edit(**{"pipeline.edit.prompt": prompt}))


def test_data_manager_and_model_together_are_an_editable_scene(make_edit):
    pipeline = runs.set_up(make_edit()).pipeline
    scene = pipeline.session.scene
    assert isinstance(scene, EditableScene)
    assert scene.num_views == 5
    for view in range(5):
        assert scene.render(view).shape == scene.original(view).shape
        scene.replace(view, scene.original(view) + 1)
        assert torch.equal(pipeline.datamanager.targets[view], scene.original(view) + 1)


def test_due_views_are_edited_and_the_others_keep_their_photographs(edited_run):
    update, data = edited_run.pipeline.update, edited_run.pipeline.datamanager
    assert update.edits_per_view.count(1) == update.progress.edits == 2
    for edits, original, target in zip(update.edits_per_view, data.originals, data.targets, strict=True):
        assert torch.equal(original, target) == (edits == 0)


def test_edits_begin_after_the_reconstruction_and_come_as_often_as_asked(make_edit):
    pipeline = runs.set_up(make_edit()).pipeline
    edited = []
    for step in range(9):
        before = pipeline.update.progress.edits
        pipeline.update_views(step)
        edited.append(pipeline.update.progress.edits - before)
    assert edited == [0, 0, 0, 0, 1, 0, 1, 0, 1]


def test_a_picture_of_an_edit_shows_photograph_score_mask_and_edit(make_edit):
    pipeline = runs.set_up(make_edit()).pipeline
    pipeline.session.begin()
    (view,) = pipeline.update.before_step(4)
    picture = edit_picture(pipeline.session.scene, view)
    assert picture.shape == (runs.SIZE, 4 * runs.SIZE, 3)
    assert picture.min() >= 0
    assert picture.max() <= 1
    original = pipeline.update.scene.original(view.view)
    shown = pipeline.autoencoder.decode(torch.stack([original, view.edited])).permute(0, 2, 3, 1)
    torch.testing.assert_close(picture[:, : runs.SIZE], shown[0])
    torch.testing.assert_close(picture[:, -runs.SIZE :], shown[1])
    mask = picture[4::8, 2 * runs.SIZE + 4 : 3 * runs.SIZE : 8, 0] > 0.5
    assert torch.equal(mask, view.mask[0])


def test_a_checkpoint_is_plain_data_and_holds_the_edit_and_no_frozen_network(edited_run):
    state = checkpoint_of(edited_run)
    assert state["step"] == 7
    assert_same(state["pipeline"]["_extra_state"]["edit"], edited_run.pipeline.update.state_dict())
    assert state["pipeline"]["_extra_state"]["first_edit_step"] == 4
    assert not any(part in name for name in state["pipeline"] for part in ("unet", "text_encoder", "vae"))


def test_a_resumed_edit_is_restored_exactly(edited_run, make_edit):
    resumed = runs.set_up(make_edit(1, load_dir=runs.checkpoints(edited_run.config)))
    assert resumed.pipeline.session.first_edit_step == 4
    assert resumed.pipeline.update.progress == edited_run.pipeline.update.progress
    assert_same(resumed.pipeline.update.state_dict(), edited_run.pipeline.update.state_dict())
    targets = zip(resumed.pipeline.datamanager.targets, edited_run.pipeline.datamanager.targets, strict=True)
    assert all(torch.equal(*pair) for pair in targets)


def test_a_resumed_run_makes_the_very_edit_that_an_uninterrupted_one_makes(edited_run, make_edit, tmp_path):
    uninterrupted = runs.train(make_edit(9))
    options = {"load_dir": runs.checkpoints(edited_run.config), "output_dir": tmp_path / "resumed"}
    resumed = runs.train(make_edit(1, **options))
    assert resumed.pipeline.update.progress.edits == 3
    states = []
    for trainer in (uninterrupted, resumed):
        states.append(trainer.pipeline.update.state_dict())
        states[-1].pop("seconds")
    assert_same(*states)


def test_a_state_that_is_saved_before_training_starts_still_holds_the_edit(edited_run, make_edit):
    config = make_edit()
    pipeline = config.pipeline.setup(device="cpu", test_mode="test")
    state = checkpoint_of(edited_run)["pipeline"]
    pipeline.load_pipeline(state, step=7)
    assert_same(pipeline.state_dict()["_extra_state"], state["_extra_state"])


def test_a_loaded_reconstruction_is_edited_from_its_next_step_on(reconstructed_run, make_edit):
    options = {"load_dir": runs.checkpoints(reconstructed_run.config), "pipeline.reconstruction_steps": 3000}
    trainer = runs.set_up(make_edit(3, **options))
    assert trainer._start_step == trainer.pipeline.session.first_edit_step == 3
    loaded = reconstructed_run.pipeline.latent_model.state_dict()
    assert_same(dict(trainer.pipeline.latent_model.state_dict()), dict(loaded))
    trainer.train()
    assert trainer.pipeline.update.progress.edits == 2  # Before the steps 3 and 5.


def test_a_reconstruction_without_an_adapter_gets_one_that_changes_nothing_yet(
    tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, make_edit
):
    options = {"pipeline.model.adapter": False}
    plain = runs.reconstruction(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path / "plain", 2, **options)
    runs.train(plain)
    pipeline = runs.set_up(make_edit(3, load_dir=runs.checkpoints(plain))).pipeline
    latents = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pipeline.latent_model.refine(latents), latents)


def test_a_run_that_would_end_before_its_first_edit_is_refused(make_edit):
    with pytest.raises(ValueError, match="Nothing would be edited: .* for 4 steps and training ends after 4"):
        runs.set_up(make_edit(4))


def test_cameras_learn_from_photographs_and_not_from_edits(make_edit):
    options = {"pipeline.model.camera_optimizer.mode": "SO3xR3", "pipeline.reconstruction_steps": 2}
    trainer = runs.set_up(make_edit(6, **options))
    poses = trainer.pipeline.latent_model.camera_optimizer.pose_adjustment
    after_step = []
    trainer.callbacks.append(
        TrainingCallback(
            [TrainingCallbackLocation.AFTER_TRAIN_ITERATION],
            lambda step: after_step.append(poses.detach().clone()),
        )
    )
    trainer.train()
    assert not torch.equal(after_step[0], after_step[1])
    assert trainer.pipeline.update.progress.edits == 2
    assert all(torch.equal(later, after_step[1]) for later in after_step[2:])


def test_editing_leaves_the_hosts_cameras_and_photographs_as_they_are(edited_run):
    data = edited_run.pipeline.datamanager
    fresh = data.dataparser.get_dataparser_outputs("train").cameras
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height"):
        assert torch.equal(getattr(data.train_dataset.cameras, name), getattr(fresh, name))
    asked = copy.deepcopy(data.train_dataset.cameras[0:1])
    edited_run.pipeline.latent_model.get_outputs_for_camera(asked)
    for name in ("camera_to_worlds", "fx", "fy", "cx", "cy", "width", "height"):
        assert torch.equal(getattr(asked, name), getattr(fresh[0:1], name))


@pytest.mark.parametrize("test_mode", ["test", "inference"])
def test_who_only_looks_needs_neither_an_editor_nor_a_prompt(edited_run, make_edit, test_mode):
    config = make_edit(**{"pipeline.edit.model": "/nowhere", "pipeline.edit.prompt": ""})
    pipeline = config.pipeline.setup(device="cpu", test_mode=test_mode)
    pipeline.load_pipeline(checkpoint_of(edited_run)["pipeline"], step=7)
    pipeline.eval()
    assert pipeline.session.editor is None
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    shown = pipeline.latent_model.get_outputs_for_camera(camera)
    expected = edited_run.pipeline.latent_model
    was_training = expected.training
    expected.eval()
    annealed, expected.proposal_sampler._anneal = expected.proposal_sampler._anneal, 1.0
    torch.testing.assert_close(shown["rgb"], expected.get_outputs_for_camera(camera)["rgb"])
    expected.proposal_sampler._anneal = annealed
    expected.train(was_training)


def test_who_only_looks_builds_neither_u_net_nor_text_encoder(edited_run):
    script = f"""
import gc
from pathlib import Path
from nerfstudio.utils.eval_utils import eval_setup
_, pipeline, _, step = eval_setup(Path({str(edited_run.base_dir / "config.yml")!r}), test_mode="test")
shown = pipeline.model.get_outputs_for_camera(pipeline.datamanager.train_dataset.cameras[0:1])
assert step == 7 and shown["rgb"].isfinite().all()
classes = {{type(thing).__name__ for thing in gc.get_objects()}}
assert "AutoencoderKL" in classes
print("built", sorted(classes & {{"UNet2DConditionModel", "CLIPTextModel", "CLIPTokenizer", "InstructPix2Pix"}}))
"""
    # That the module of the U-Net is imported says nothing: diffusers' autoencoders import it themselves.
    finished = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "built []" in finished.stdout
