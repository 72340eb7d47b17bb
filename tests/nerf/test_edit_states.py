"""Whatever is done to an edit, in whatever order: views are what their layers make of them, and resuming is nothing."""

import io
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from latenteditor.editing.edit_schedule import EditScheduleConfig
from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.nerf.edit_session import EditingConfig, EditSession
from latenteditor.nerf.editable_scene import TrainingScene
from latenteditor.nerf.editable_views import EditableViews
from tests.nerf.known_words import KnownWords

SIZES = ((4, 4), (4, 4), (6, 4))
"""Rows and columns of the views."""
PROMPTS = ("move it up", "move it down", "move it up; move it down", "paint the dragon")
"""Of which the last is about nothing that the views show."""


class ViewsScene(TrainingScene):
    """Shows each view as it is trained towards."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.views = EditableViews([torch.rand(4, *size, generator=generator) for size in SIZES])

    @property
    def num_views(self) -> int:
        return len(SIZES)

    def original(self, view):
        return self.views.originals[view]

    def render(self, view):
        return self.views.targets[view]

    def replace(self, view, target):
        self.views.replace(view, target)

    def keep_out(self, view, cells):
        self.views.keep_out(view, cells)

    def freeze_cameras(self):
        """There are none."""


class Nobody:
    """Listens to nothing."""

    def show_progress(self, text):
        """Is told how far the edit has come."""

    def say(self, text):
        """Is told what came of what was asked for."""


def make_session(saved: bytes | None = None) -> EditSession:
    """A session at its first step, or where it was saved, made as the trainer makes it."""
    edit = EditConfig(PROMPTS[0], denoising_steps=1)
    edit.guidance.text, edit.guidance.image, edit.delta_mask.gate, edit.delta_mask.draws = 1.0, 1.0, 0.1, 1
    config = EditingConfig(edit=edit, schedule=EditScheduleConfig(steps_per_edit=1), reconstruction_steps=1)
    session = EditSession(config, ViewsScene(), lambda *_: LatentEditor(KnownWords(torch.zeros(1)), edit), Nobody())
    if saved is not None:
        content = torch.load(io.BytesIO(saved), weights_only=True)
        session.load_state_dict(content["edit"])
        session.load_moment(content["moment"])
    session.prepare()
    return session


def save(session: EditSession) -> bytes:
    """What a checkpoint holds of a session."""
    file = io.BytesIO()
    torch.save({"edit": session.state_dict(), "moment": session.moment()}, file)
    return file.getvalue()


def content(session: Any) -> str:
    """All of a session and of its views, but for the time that it took."""
    state, scene = session.state_dict(), session.scene
    state["edit"] = state["edit"] | {"seconds": 0}
    current = [layer.number for layer in session.update.current]
    return repr((state | {"costs": 0}, session.moment(), current, [target.tolist() for target in scene.views.targets]))


class Edit(RuleBasedStateMachine):
    """An edit, and what somebody may do to it by hand; `saved` is a checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        torch.set_printoptions(precision=10, threshold=10**6)
        self.session, self.step = make_session(), 0
        self.originals = [view.clone() for view in self.views.originals]
        self.saved: tuple[bytes, str, int] | None = None

    @property
    def views(self) -> EditableViews:
        scene: Any = self.session.scene
        return scene.views

    def train(self, steps: int, session: EditSession | None = None) -> None:
        for step in range(self.step, self.step + steps):
            (session or self.session).before_step(step)

    @rule(steps=st.integers(1, 4))
    def go_on(self, steps):
        self.train(steps)
        self.step += steps

    @rule(prompt=st.sampled_from(PROMPTS))
    def type_a_prompt_and_start(self, prompt):
        self.session.config.edit.prompt = prompt
        self.session.start()

    @rule()
    def edit_every_view(self):
        self.session.edit_every_view()

    @rule()
    def pause(self):
        self.session.pause()

    @rule()
    def reset(self):
        self.session.reset()

    @rule()
    def fail_once(self):
        denoiser = self.session.require_editor().denoiser
        predict = type(denoiser).predict_noise

        def fail(*args):
            del denoiser.predict_noise
            return torch.full_like(predict(denoiser, *args), torch.nan)

        denoiser.predict_noise = fail
        self.go_on(1)
        vars(denoiser).pop("predict_noise", None)

    @precondition(lambda self: self.session.layers.layers)
    @rule(data=st.data())
    def switch_a_layer(self, data):
        self.session.switch_layer(data.draw(st.sampled_from(self.session.layers.layers)).number)

    @precondition(lambda self: self.session.layers.layers)
    @rule(data=st.data())
    def remove_a_layer(self, data):
        self.session.remove_layer(data.draw(st.sampled_from(self.session.layers.layers)).number)

    @rule()
    def save(self):
        self.saved = save(self.session), content(self.session), self.step

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self):
        saved, before, self.step = self.saved
        self.session = make_session(saved)
        assert content(self.session) == before, "what is loaded is what was saved"

    @rule(steps=st.integers(1, 3))
    def go_on_beside_one_that_was_resumed(self, steps):
        resumed = make_session(save(self.session))
        self.train(steps, resumed)
        self.go_on(steps)
        assert content(resumed) == content(self.session), "what comes after is the same, too"

    @invariant()
    def nothing_is_trained_on_what_waits_for_its_edit(self):
        waiting = self.session.update.waiting()
        for view in range(len(SIZES)):
            expected = waiting[view][0] if view in waiting else torch.zeros(SIZES[view], dtype=torch.bool)
            assert torch.equal(self.views.kept_out_of(view), expected)

    @invariant()
    def views_are_what_their_layers_make_of_them(self):
        for view, original in enumerate(self.originals):
            assert torch.equal(self.views.originals[view], original)
            expected = original
            for layer in self.session.layers.layers:
                if layer.active and view in layer.edited:
                    expected = torch.where(layer.masks[view], layer.edited[view], expected)
            assert torch.equal(self.views.targets[view], expected)
            rows, columns = SIZES[view]
            cells = torch.cartesian_prod(torch.tensor([view]), torch.arange(rows), torch.arange(columns))
            assert torch.equal(self.views.at(cells), expected.flatten(1).T), "and so is what rays are trained towards"


def test_any_sequence_of_acts_keeps_the_views_what_their_layers_make_of_them_and_resumes_as_if_never_stopped():
    short = settings(max_examples=40, stateful_step_count=14, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(Edit, settings=short)
