"""Edits and scores that cannot be used, and a GPU whose memory runs out: nothing of it reaches the scene."""

import pytest
import torch

from latenteditor.editing.dataset_update import IterativeDatasetUpdate
from latenteditor.editing.edit_schedule import EditSchedule, EditScheduleConfig
from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.editing.failures import MOST_FAILURES, CannotEdit, mark_constants
from latenteditor.editing.guidance import Guidance, predict_in_batches
from tests.editing.denoisers import KnownEdit

PROMPT = "paint it"
NUM_VIEWS = 4


def draw(views: int = NUM_VIEWS) -> torch.Tensor:
    return torch.randn(views, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Scene:
    """Shows what it was last trained towards."""

    def __init__(self):
        self.originals = list(draw())
        self.targets = list(self.originals)

    num_views = NUM_VIEWS

    def original(self, view):
        return self.originals[view]

    def render(self, view):
        return self.targets[view]

    def replace(self, view, target):
        self.targets[view] = target

    def keep_out(self, view, cells):
        pass


class Failing(KnownEdit):
    """Fails a number of times by an answer that is no edit, for rows whose image is that of one view."""

    def __init__(self, failures: int, answer: float = torch.nan, view: int = 0):
        super().__init__(torch.ones(4, 1, 1) * (torch.arange(8) < 4)[:, None])
        self.failures, self.answer, self.image = failures, answer, draw()[view]
        self.failing = True

    def predict_noise(self, noisy, image_condition, timestep, prompts):
        predicted = super().predict_noise(noisy, image_condition, timestep, prompts)
        for row, image in enumerate(image_condition):
            if self.failing and self.failures and prompts[row] and torch.equal(image, self.image):
                predicted[row] = self.answer
                self.failures -= 1
        return predicted


def update_with(denoiser, mask="none", **schedule) -> IterativeDatasetUpdate:
    config = EditConfig(PROMPT, guidance=Guidance(1.0, 1.0), mask=mask, denoising_steps=1)
    scene, editor = Scene(), LatentEditor(denoiser, config)
    update = IterativeDatasetUpdate(scene, editor, EditSchedule(EditScheduleConfig(1, **schedule), NUM_VIEWS))
    update.begin([PROMPT], PROMPT)
    return update


def test_a_view_whose_edit_is_not_finite_stays_is_counted_and_is_tried_with_the_next(warnings):
    update = update_with(Failing(1))
    edited = update.edit_views([0, 1])
    assert [row.view for row in edited] == [1]
    assert torch.equal(update.scene.targets[0], update.scene.originals[0])
    assert update.edits_per_view == [0, 1, 0, 0] and update.rejected == 1 and update.again == [0]
    assert warnings() == [
        "The edit of view 0 is not finite, or one constant: it stays as it was, and is tried again (1 of 5)."
    ]
    assert [row.view for row in update.edit_views([2])] == [2, 0]
    assert update.edits_per_view == [1, 1, 1, 0] and update.again == [] and update.rejected == 1
    assert all(target.isfinite().all() for target in update.scene.targets)


def test_a_view_that_keeps_failing_ends_the_edit_and_the_others_are_kept():
    update = update_with(Failing(1000))
    with pytest.raises(CannotEdit, match="5 times in a row for view 0: try full precision or less guidance"):
        for step in range(4 * MOST_FAILURES):
            update.before_step(step)
    assert update.rejected == MOST_FAILURES
    assert all(target.isfinite().all() for target in update.scene.targets)
    assert sum(update.edits_per_view[1:]) >= MOST_FAILURES - 1 and update.edits_per_view[0] == 0


def test_views_to_be_tried_again_are_part_of_the_state():
    update, resumed = (update_with(Failing(2)) for _ in range(2))
    update.edit_views([0, 1])
    resumed.layers.load_state_dict(update.layers.state_dict())
    resumed.load_state_dict(update.state_dict())
    resumed.editor.denoiser.failures = 1
    for each in (update, resumed):
        each.edit_views([2])
    assert update.again == resumed.again == [0] and update.rejected == resumed.rejected == 2
    assert update.state_dict()["failures"] == resumed.state_dict()["failures"] == {0: 2}


def test_an_edit_that_is_one_constant_is_no_edit():
    bases, mask = draw(3), torch.ones(3, 1, 8, 8, dtype=torch.bool)
    bases[2] = 0.5
    edited = torch.stack([torch.full((4, 8, 8), 3.0), bases[1] + 1.0, torch.full((4, 8, 8), 3.0)])
    marked = mark_constants(edited, mask, bases)
    assert marked[0].isnan().all(), "what varied is gone"
    assert torch.equal(marked[1:], edited[1:]), "a flat view may stay flat"
    outside = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    assert torch.equal(mark_constants(edited, outside, bases), edited)


def test_a_score_that_is_not_finite_is_measured_again_and_never_kept(warnings):
    update = update_with(Failing(3), mask="per-view")
    (layer,) = update.survey()
    assert all(mask.any() for mask in update.editor.survey([], layer.instruction))
    assert (
        len(warnings()) == 1 and "view 0 for 'paint it' is not finite: it is measured again (1 of 5)" in warnings()[0]
    )


def test_a_score_that_stays_so_ends_the_edit():
    update = update_with(Failing(1000), mask="per-view")
    with pytest.raises(CannotEdit, match="delta score of view 0 for 'paint it' is not finite, measured 5 times"):
        update.survey()


class SmallMemory(KnownEdit):
    """Holds a number of rows."""

    def __init__(self, rows: int):
        super().__init__(torch.ones(4, 1, 1))
        self.rows, self.asked = rows, []

    def predict_noise(self, noisy, image_condition, timestep, prompts):
        self.asked.append(len(noisy))
        if len(noisy) > self.rows:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return super().predict_noise(noisy, image_condition, timestep, prompts)


def test_where_memory_runs_out_half_as_many_are_asked_for_from_then_on(warnings):
    small, large = SmallMemory(3), SmallMemory(100)
    noisy, prompts = draw(12), [PROMPT] * 12
    predicted = [predict_in_batches(denoiser, noisy, noisy, 500, prompts) for denoiser in (small, large)]
    assert torch.equal(*predicted)
    assert small.asked == [12, 6, 3, 3, 3, 3]
    assert len(warnings()) == 2 and "did not hold 12 latents at once: from now on 6" in warnings()[0]
    predict_in_batches(small, noisy, noisy, 500, prompts)
    assert small.asked[6:] == [3] * 4 and len(warnings()) == 2, "what was learnt is known"
    predict_in_batches(small, noisy, noisy, 500, prompts, max_batch=2)
    assert small.asked[10:] == [2] * 6


def test_memory_that_does_not_hold_one_latent_ends_the_edit():
    update = update_with(SmallMemory(0))
    with pytest.raises(CannotEdit, match="does not hold an edit of a single latent: take latenteditor-tiny"):
        update.edit_views([0])
    assert update.scene.targets == update.scene.originals and update.layers.latest[0].edited == {}
