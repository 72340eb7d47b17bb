"""An edit from the first prompt to the last, of a scene that renders what it was last given."""

import gc
import weakref

import pytest
import torch
from nerfstudio.cameras.cameras import Cameras

from latenteditor.editing.edit_schedule import EditScheduleConfig
from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.nerf.edit_costs import EditCosts
from latenteditor.nerf.edit_session import (
    NEEDS_TRAINING,
    Audience,
    EditingConfig,
    EditSession,
    NothingToEdit,
)
from latenteditor.nerf.editable_scene import TrainingScene
from tests import runs
from tests.nerf.known_words import KnownWords

NUM_VIEWS = 3


class KnownScene(TrainingScene):
    """Shows each view as it was last replaced; an image of it is its first three channels."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.originals = [torch.rand(4, 4, 4, generator=generator) for _ in range(NUM_VIEWS)]
        self.targets = list(self.originals)
        self.asked_for = []

    @property
    def num_views(self):
        return NUM_VIEWS

    def original(self, view):
        return self.originals[view]

    def render(self, view):
        return self.targets[view]

    def replace(self, view, target):
        self.targets[view] = target

    def keep_out(self, view, cells):
        pass

    def views_from(self, camera):
        return self.originals[0][None], self.targets[0][None]

    def images(self, views):
        return views[:, :3].clamp(0, 1)

    def keep_original(self):
        self.asked_for.append("original")

    def freeze_cameras(self):
        self.asked_for.append("cameras")


class Listener:
    """Writes down what it is told."""

    def __init__(self):
        self.progress, self.said = [], []

    def show_progress(self, text):
        self.progress.append(text)

    def say(self, text):
        self.said.append(text)


@pytest.fixture
def make_session():
    """A session whose editor knows the words "up" and "down"; `loaded` lists what the loader was called with."""

    def make(prompt="move it up", training=True, **options) -> EditSession:
        edit = EditConfig(prompt, denoising_steps=2)
        edit.guidance.text, edit.guidance.image, edit.delta_mask.gate = 1.0, 1.0, 0.1
        config = EditingConfig(edit=edit, schedule=EditScheduleConfig(steps_per_edit=1), **options)
        config.reconstruction_steps = 4

        def load(layers, costs):
            session.loaded.append((layers, costs))
            return LatentEditor(KnownWords(torch.zeros(1)), edit)

        session = EditSession(config, KnownScene(), load, Listener())
        session.loaded = []
        if training:
            session.prepare()
        return session

    return make


def edits(session: EditSession, steps: range) -> list[int]:
    """How many view edits each step brought."""
    return [len(session.before_step(step)) for step in steps]


def test_edits_begin_after_the_reconstruction_and_every_view_has_its_turn(make_session):
    session = make_session()
    assert isinstance(session.audience, Audience)
    assert edits(session, range(3)) == [0, 0, 0]
    assert session.reconstructing and not session.begun
    assert edits(session, range(3, 8)) == [0, 1, 1, 1, 1]
    assert session.begun and not session.reconstructing
    assert sorted(session.update.edits_per_view) == [1, 1, 2]
    assert session.costs.view_edits == 4 and session.costs.edit_seconds > 0 and session.costs.survey_seconds > 0
    for original, target in zip(session.scene.originals, session.scene.targets, strict=True):
        assert torch.equal(original[:, 2:], target[:, 2:]), "the lower half is nothing that the prompt is about"
        assert not torch.equal(original[:, :2], target[:, :2])


def test_the_first_edit_freezes_cameras_and_keeps_the_original_once(make_session):
    session = make_session()
    edits(session, range(4))
    assert session.scene.asked_for == []
    edits(session, range(4, 8))
    assert session.scene.asked_for == ["cameras", "original"]


def test_whoever_listens_is_told_of_the_survey_and_of_every_edit(make_session):
    session = make_session()
    edits(session, range(6))
    searched, first, second = session.audience.progress
    assert searched == "All views are searched for it: move it up"
    assert first.startswith("1 edits of 3 views, ") and second.endswith(" s each: move it up")
    assert session.audience.said == []


def test_a_prompt_about_nothing_ends_the_training_that_it_was_given_to(make_session):
    session = make_session("paint the dragon")
    with pytest.raises(NothingToEdit, match="Nothing in the views answers to 'paint the dragon'"):
        session.before_step(4)
    assert session.layers.layers == [] and session.scene.asked_for == ["cameras"]
    assert all(map(torch.equal, session.scene.originals, session.scene.targets))


def test_a_prompt_about_nothing_that_was_started_by_hand_pauses_and_is_said(make_session):
    session = make_session()
    edits(session, range(6))
    session.config.edit.prompt = "paint the dragon"
    session.start()
    assert edits(session, range(6, 8)) == [0, 0]
    assert session.paused
    assert session.audience.progress[-1] == "No view is edited."
    assert "the scene is left as it was" in session.audience.said[-1]
    assert session.layers.listing() == "layer 1 'move it up' (on)"


def test_what_was_asked_for_comes_before_what_the_schedule_says_and_nothing_while_paused(make_session):
    session = make_session()
    session.config.schedule.steps_per_edit = 100
    assert edits(session, range(4, 6)) == [1, 0]
    assert session.edit_every_view().endswith("All 3 views are edited, one after the other.")
    assert edits(session, range(6, 8)) == [1, 1]
    assert session.pending == [2]
    session.pause()
    assert session.pending == [] and edits(session, range(8, 10)) == [0, 0]


def test_a_state_that_is_loaded_goes_on_as_if_it_had_never_stopped(make_session):
    session, resumed = make_session(), make_session(training=False)
    edits(session, range(6))
    state = session.state_dict()
    assert state.keys() == {"first_edit_step", "edit", "layers", "costs"}
    resumed.load_state_dict(state)
    assert str(resumed.state_dict()) == str(state), "before training starts, too"
    resumed.prepare()
    assert all(map(torch.equal, session.scene.targets, resumed.scene.targets))
    edits(session, range(6, 9))
    edits(resumed, range(6, 9))
    assert all(map(torch.equal, session.scene.targets, resumed.scene.targets))
    assert resumed.layers.listing() == "layer 1 'move it up' (on)"
    assert resumed.update.progress.edits == session.update.progress.edits == 5


def test_costs_are_counted_on_by_the_editor_that_was_loaded_with_them(make_session):
    session = make_session()
    ((layers, costs),) = session.loaded
    assert layers is session.layers
    session.load_state_dict(session.state_dict() | {"costs": {"relevance_seconds": 3.0}})
    assert costs == EditCosts(relevance_seconds=3.0)
    costs.relevance_seconds += 2.0
    assert session.state_dict()["costs"]["relevance_seconds"] == 5.0


def test_the_command_switches_and_removes_layers_of_the_loaded_run(make_session):
    session = make_session("move it up; move it down")
    edits(session, range(4, 8))
    assert session.layers.listing() == "layer 1 'move it up' (on), layer 2 'move it down' (on)"
    changed = make_session("", training=False, hide_layers=(1,), remove_layers=(2,))
    changed.load_state_dict(session.state_dict())
    changed.prepare()
    assert changed.layers.listing() == "layer 1 'move it up' (off)"
    assert all(map(torch.equal, changed.scene.originals, changed.scene.targets))
    assert edits(changed, range(8, 10)) == [0, 0]


def test_a_command_that_only_changes_layers_edits_nothing_after_it_is_resumed_either(make_session):
    session = make_session("move it up; move it down")
    edits(session, range(4, 8))
    changed, resumed = (make_session("", training=False, hide_layers=(1,)) for _ in range(2))
    changed.load_state_dict(session.state_dict())
    changed.prepare()
    assert edits(changed, range(8, 10)) == [0, 0]
    resumed.load_state_dict(changed.state_dict())
    resumed.load_moment(changed.moment())
    resumed.prepare()
    assert edits(resumed, range(10, 14)) == [0, 0, 0, 0]
    assert all(map(torch.equal, changed.scene.targets, resumed.scene.targets))


def test_a_prompt_about_nothing_leaves_no_trace_in_what_is_saved(make_session):
    session = make_session()
    edits(session, range(6))
    before = str(session.layers.state_dict())
    session.config.edit.prompt = "paint the dragon"
    session.start()
    edits(session, range(6, 8))
    assert str(session.layers.state_dict()) == before
    session.load_state_dict(session.state_dict())
    session.prepare()
    assert [layer.instruction for layer in session.update.current] == ["move it up"]


def test_who_only_looks_previews_and_switches_layers_and_loads_no_editor_before(make_session):
    trained = make_session()
    edits(trained, range(4, 6))
    session = make_session(training=False)
    session.load_state_dict(trained.state_dict())
    for action in (session.start, session.edit_every_view, session.reset, lambda: session.remove_layer(1)):
        with pytest.raises(ValueError, match=NEEDS_TRAINING.split(":")[0]):
            action()
    assert session.switch_layer(1) == "Layer 1 is off."
    assert session.switch_layer(1) == "Layer 1 is on."
    assert session.loaded == [] and session.editor is None
    camera = Cameras(torch.eye(4)[None, :3], fx=1.0, fy=1.0, cx=2.0, cy=2.0)
    picture, said = session.preview(camera)
    assert picture.shape == (2 + 4, 4, 3)
    assert said == "'move it up' changes 50% of the view (gate 0.1)"
    assert len(session.loaded) == 1


def test_settings_are_saved_by_whoever_trains(make_session):
    session, saved = make_session(training=False), []
    session.save_settings()
    session.prepare(lambda: saved.append(session.config.edit.prompt))
    session.save_settings()
    assert saved == ["move it up"]


@pytest.mark.parametrize("method", [runs.edit, runs.in2n])
def test_a_session_holds_no_pipeline(method, tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    config = method(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, 8)
    pipeline = config.pipeline.setup(device="cpu", test_mode="val")
    session, gone = pipeline.session, weakref.ref(pipeline)
    assert session.editor is not None
    gc.disable()
    try:
        del pipeline
        assert gone() is None
    finally:
        gc.enable()
