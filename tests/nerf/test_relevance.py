"""Masks that agree in 3D, layers over several runs, and the unedited scene beside the edited one."""

import pytest
import torch
from torch import nn

from latenteditor.nerf.edit_session import NothingToEdit
from latenteditor.nerf.latenteditor import LazyMaps
from latenteditor.nerf.relevance import RelevanceConfig, RelevanceHead
from tests import runs
from tests.nerf.known_words import train, with_known_words


@pytest.fixture
def make_edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    def make(steps: int = 8, **options):
        options = {"pipeline.edit.mask": "field", "pipeline.model.relevance.steps": 30} | options
        return runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, steps, **options)

    return make


def test_a_head_learns_the_relevance_of_positions():
    torch.manual_seed(0)
    head = RelevanceHead(RelevanceConfig(max_res=24))
    assert all(parameter.requires_grad for parameter in head.parameters())
    positions = torch.rand(4000, 1, 3)
    wanted = (positions[..., :1] > 0.5).float()
    optimizer = torch.optim.Adam(head.parameters(), lr=0.05)
    for _ in range(100):
        error = (head.render(positions, torch.ones(4000, 1, 1)) - wanted[:, 0]).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    rendered = head.render(positions, torch.ones(4000, 1, 1))
    assert ((rendered > 0.5) == (wanted[:, 0] > 0.5)).float().mean() > 0.95
    half = head.render(positions, torch.full((4000, 1, 1), 0.5))
    torch.testing.assert_close(half, rendered / 2)


@pytest.fixture(scope="module")
def field_run(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path_factory):
    """A scene whose upper half was edited in a region that its views agree on."""
    options = {
        "pipeline.edit.mask": "field",
        "pipeline.model.relevance.steps": 30,
        "pipeline.edit.prompt": "move it up",
    }
    folder = tmp_path_factory.mktemp("field")
    return train(runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, folder, 12, **options))


def test_the_field_mask_follows_the_scores_and_is_kept_with_the_run(field_run):
    pipeline = field_run.pipeline
    assert list(pipeline.editor_model.relevance) == ["1"]
    masks = pipeline.session.editor.survey([], "move it up")
    assert len(masks) == 5
    upper = torch.stack([mask[:, :2].float().mean() for mask in masks]).mean()
    lower = torch.stack([mask[:, 2:].float().mean() for mask in masks]).mean()
    assert upper > 0.7
    assert upper > lower + 0.3
    for view in pipeline.update.edited_views:
        target, original = pipeline.datamanager.targets[view], pipeline.datamanager.originals[view]
        outside = ~masks[view]
        assert torch.equal(target.where(outside, 0.0), original.where(outside, 0.0))
        assert not torch.equal(target, original)


def test_what_an_edit_costs_is_kept_with_the_run(field_run):
    costs = field_run.pipeline.costs
    assert 0 < costs.relevance_seconds < costs.survey_seconds
    assert costs.view_edits == field_run.pipeline.update.progress.edits > 0
    assert costs.edit_seconds == pytest.approx(field_run.pipeline.update.seconds, rel=0.05, abs=0.05)
    state = torch.load(max(runs.checkpoints(field_run.config).glob("*.ckpt")), weights_only=False)
    assert state["pipeline"]["_extra_state"]["costs"] == vars(costs)


def test_fitting_relevance_changes_nothing_but_the_head(make_edit):
    pipeline = with_known_words(runs.set_up(make_edit(**{"pipeline.edit.prompt": "move it up"}))).pipeline
    before = {name: value.clone() for name, value in pipeline.editor_model.state_dict().items()}
    pipeline.session.begin()
    after = pipeline.editor_model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert {name.split(".")[0] for name in after if name not in before} == {"original", "relevance"}
    groups = pipeline.get_param_groups()
    trained = {id(parameter) for group in groups.values() for parameter in group}
    model = pipeline.editor_model
    assert not trained & {
        id(parameter) for part in (model.original, model.relevance) for parameter in part.parameters()
    }


def test_the_original_stays_as_it_was_while_the_scene_is_edited(field_run, make_edit):
    model = field_run.pipeline.editor_model
    assert not model.original.training
    assert model.train().training
    assert not model.original.training
    changed = [
        name for name, value in model.original.state_dict().items() if not torch.equal(model.state_dict()[name], value)
    ]
    assert any(name.startswith("field.") for name in changed)


def test_an_edited_run_shows_the_original_the_relevance_and_the_mask(field_run):
    pipeline = field_run.pipeline
    pipeline.eval()
    model = pipeline.editor_model
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    shown = model.get_outputs_for_camera(camera)
    size = (runs.SIZE, runs.SIZE)
    assert set(shown) == {"rgb", "latent", "depth", "accumulation", "original", "relevance", "mask_overlay"}
    assert {name: tuple(shown[name].shape[:2]) for name in shown} == dict.fromkeys(shown, size)
    torch.testing.assert_close(shown["original"], model.original.get_outputs_for_camera(camera)["rgb"])
    assert 0 <= shown["relevance"].min() < shown["relevance"].max() <= 1
    assert not torch.equal(shown["mask_overlay"], shown["rgb"])
    rays = camera.generate_rays(camera_indices=0, keep_shape=True)
    assert set(model.get_outputs_for_camera_ray_bundle(rays)) == set(shown)


def test_maps_are_made_when_they_are_looked_at_and_once():
    made = []
    maps = LazyMaps(here=torch.zeros(1))
    maps["later"] = lambda: made.append(1) or torch.ones(1)
    assert not made
    assert "later" in maps
    assert maps["later"] is maps["later"]
    assert made == [1]
    assert [name for name, _ in maps.items()] == ["here", "later"]
    assert all(isinstance(values, torch.Tensor) for values in maps.values())


def test_a_composite_is_the_unedited_scene_outside_the_region_bit_for_bit(field_run, make_edit):
    pipeline = field_run.pipeline
    pipeline.eval()
    model = pipeline.editor_model
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    plain = model.get_outputs_for_camera(camera)
    model.config.composite = True
    composite = model.get_outputs_for_camera(camera)
    model.config.composite = False
    overlay = composite["mask_overlay"] != composite["rgb"]
    outside = ~overlay.any(dim=-1, keepdim=True)
    assert 0.1 < outside.float().mean() < 0.9
    for name in ("rgb", "latent", "depth"):
        unedited = model.original.get_outputs_for_camera(camera)[name]
        assert torch.equal(composite[name].where(outside, 0.0), unedited.where(outside, 0.0))
    assert not torch.equal(composite["rgb"], composite["original"])
    assert not torch.equal(plain["rgb"].where(outside, 0.0), composite["rgb"].where(outside, 0.0))


def test_a_layer_that_is_switched_off_shows_the_original_in_the_composite(field_run):
    pipeline = field_run.pipeline
    pipeline.eval()
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    pipeline.editor_model.config.composite = True
    pipeline.layers.numbered(1).active = False
    shown = pipeline.editor_model.get_outputs_for_camera(camera)
    assert torch.equal(shown["rgb"], shown["original"])
    pipeline.layers.numbered(1).active = True
    pipeline.editor_model.config.composite = False


def test_an_edited_run_is_loaded_with_all_it_keeps(field_run, make_edit):
    options = {"pipeline.edit.prompt": "move it up", "load_dir": runs.checkpoints(field_run.config)}
    resumed = with_known_words(runs.set_up(make_edit(4, **options)))
    state, loaded = field_run.pipeline.editor_model.state_dict(), resumed.pipeline.editor_model.state_dict()
    assert state.keys() == loaded.keys()
    assert all(torch.equal(state[name], loaded[name]) for name in state)
    assert resumed.pipeline.layers.listing() == "layer 1 'move it up' (on)"
    before = resumed.pipeline.update.progress.edits
    resumed.train()
    assert resumed.pipeline.update.progress.edits == before + 2
    assert resumed.pipeline.layers.listing() == "layer 1 'move it up' (on)", "the same prompt goes on with its layer"


def test_another_prompt_is_edited_on_top_and_layers_can_be_hidden_and_removed(field_run, make_edit, tmp_path):
    options = {"load_dir": runs.checkpoints(field_run.config), "output_dir": tmp_path / "second"}
    second = train(make_edit(12, **{"pipeline.edit.prompt": "move it down"}, **options))
    pipeline = second.pipeline
    assert pipeline.layers.listing() == "layer 1 'move it up' (on), layer 2 'move it down' (on)"
    view = pipeline.update.edited_views[0]
    base, target = pipeline.update.base(view), pipeline.datamanager.targets[view]
    assert torch.equal(base, pipeline.layers.numbered(1).over(view, pipeline.datamanager.originals[view]))
    mask = pipeline.layers.numbered(2).masks[view]
    assert torch.equal(target.where(~mask, 0.0), base.where(~mask, 0.0))
    assert not torch.equal(target, base)

    options = {"load_dir": runs.checkpoints(second.config), "output_dir": tmp_path / "third"}
    layers = {"pipeline.edit.prompt": "", "pipeline.hide_layers": (1,), "pipeline.remove_layers": (2,)}
    third = train(make_edit(2, **layers, **options)).pipeline
    assert third.layers.listing() == "layer 1 'move it up' (off)"
    pairs = zip(third.datamanager.targets, third.datamanager.originals, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    with pytest.raises(ValueError, match="There is no layer 7: layer 1 'move it up'"):
        layers |= {"pipeline.remove_layers": (7,)}
        runs.set_up(make_edit(2, **layers, **(options | {"output_dir": tmp_path / "fourth"})))


def test_a_prompt_for_two_things_is_two_layers_each_with_its_own_mask(make_edit, capsys):
    trainer = runs.set_up(make_edit(12, **{"pipeline.edit.prompt": "move it up; move it down"}))
    pipeline = with_known_words(trainer).pipeline
    pipeline.session.begin()
    assert [layer.instruction for layer in pipeline.update.current] == ["move it up", "move it down"]
    assert {layer.prompt for layer in pipeline.update.current} == {"move it up; move it down"}
    up, down = (
        torch.stack(pipeline.session.editor.survey([], layer.instruction)).float() for layer in pipeline.update.current
    )
    assert up[:, :, :2].mean() > down[:, :, :2].mean() + 0.3
    assert down[:, :, 2:].mean() > up[:, :, 2:].mean() + 0.3


def test_what_is_nowhere_in_the_views_is_said_and_left_out(make_edit):
    trainer = runs.set_up(make_edit(12, **{"pipeline.edit.prompt": "move it up; paint the dragon"}))
    pipeline = with_known_words(trainer).pipeline
    pipeline.session.begin()
    assert [layer.instruction for layer in pipeline.layers.layers] == ["move it up"]


@pytest.mark.parametrize("mask", ["per-view", "field"])
def test_a_prompt_that_names_nothing_leaves_the_scene_bit_for_bit(reconstructed_run, make_edit, mask, capfd):
    loaded = {
        name: value.clone() for name, value in reconstructed_run.pipeline.state_dict().items() if "extra" not in name
    }
    options = {"load_dir": runs.checkpoints(reconstructed_run.config), "pipeline.edit.mask": mask}
    trainer = train(make_edit(6, **{"pipeline.edit.prompt": "paint the dragon"}, **options))
    (path,) = runs.checkpoints(trainer.config).iterdir()
    saved = torch.load(path, weights_only=True)["pipeline"]
    assert {name for name in saved if "extra" not in name} == loaded.keys()
    assert all(torch.equal(saved[name], value) for name, value in loaded.items())
    said = capfd.readouterr().out
    assert "Nothing in the 5 views answers to 'paint the dragon'" in " ".join(said.split())
    assert "left as it was" in " ".join(said.split())


def test_nothing_to_edit_is_an_exception_of_its_own(make_edit):
    pipeline = with_known_words(runs.set_up(make_edit(**{"pipeline.edit.prompt": "paint the dragon"}))).pipeline
    with pytest.raises(NothingToEdit):
        pipeline.update_views(4)
    assert isinstance(pipeline.editor_model.relevance, nn.ModuleDict)
    assert not pipeline.editor_model.relevance
