import pytest
import torch

from latenteditor.editing.dataset_update import EditableScene, IterativeDatasetUpdate, Resumable
from latenteditor.editing.edit_schedule import EditSchedule, EditScheduleConfig
from latenteditor.editing.editor import Edit, EditConfig, LatentEditor
from latenteditor.editing.guidance import Guidance
from tests.editing.denoisers import KnownEdit

PROMPT = "paint it"
NUM_VIEWS = 5


class PerfectScene:
    """A scene that has already learned what it is trained on. Odd views are of another size."""

    def __init__(self, num_views: int = NUM_VIEWS) -> None:
        generator = torch.Generator().manual_seed(0)
        self.originals = [torch.randn(4, 8, 10 if view % 2 else 12, generator=generator) for view in range(num_views)]
        self.targets = [original.clone() for original in self.originals]

    @property
    def num_views(self) -> int:
        return len(self.originals)

    def original(self, view):
        return self.originals[view]

    def target(self, view):
        return self.targets[view]

    def render(self, view):
        return self.targets[view] * 0.9

    def replace(self, view, latents):
        self.targets[view] = latents


class AddOne:
    """The smallest editor there can be: no state."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def edit(self, rendered, originals, views):
        self.batches.append(list(views))
        return Edit(rendered + 1.0, torch.ones_like(originals[:, :1], dtype=torch.bool), None)


def change() -> torch.Tensor:
    """A colour in the first rows."""
    return torch.tensor([1.0, -2.0, 0.5, 2.0])[:, None, None] * (torch.arange(8) < 3)[:, None]


def latent_update(scene: PerfectScene, **schedule) -> IterativeDatasetUpdate:
    config = EditConfig(PROMPT, guidance=Guidance(2.0, 1.2))
    editor = LatentEditor(KnownEdit(change()), config)
    return IterativeDatasetUpdate(scene, editor, EditSchedule(EditScheduleConfig(**schedule), NUM_VIEWS))


def stateless_update(scene: PerfectScene, **schedule) -> IterativeDatasetUpdate:
    return IterativeDatasetUpdate(scene, AddOne(), EditSchedule(EditScheduleConfig(**schedule), NUM_VIEWS))


def test_protocols_are_met():
    assert isinstance(PerfectScene(), EditableScene)
    assert isinstance(latent_update(PerfectScene()).editor, Resumable)
    assert not isinstance(AddOne(), Resumable)


def test_due_views_are_rendered_edited_and_replaced_and_no_others():
    scene = PerfectScene()
    update = stateless_update(scene, steps_per_edit=10, views_per_edit=2)
    assert update.before_step(3) == []
    edited = update.before_step(10)
    assert len(edited) == 2
    for view in range(NUM_VIEWS):
        expected = scene.originals[view]
        if view in [row.view for row in edited]:
            expected = expected * 0.9 + 1.0
        assert torch.equal(scene.targets[view], expected)


def test_views_of_one_size_share_a_batch():
    update = stateless_update(PerfectScene())
    edited = update.edit_views([0, 1, 2, 3, 4])
    assert update.editor.batches == [[0, 2, 4], [1, 3]]
    assert sorted(row.view for row in edited) == [0, 1, 2, 3, 4]
    assert all(row.target.shape == update.scene.original(row.view).shape for row in edited)


def test_the_whole_training_set_is_edited_in_the_region_and_kept_elsewhere_bit_for_bit():
    scene = PerfectScene()
    update = latent_update(scene, steps_per_edit=1, views_per_edit=3)
    for step in range(8):
        update.before_step(step)
    for original, target in zip(scene.originals, scene.targets, strict=True):
        assert torch.equal(target[:, 3:], original[:, 3:])
        assert not torch.equal(target[:, :3], original[:, :3])


def test_progress_counts_edits_and_views():
    update = stateless_update(PerfectScene(), steps_per_edit=1)
    assert update.progress == (0, 0, NUM_VIEWS, 0.0)
    for step in range(7):
        update.before_step(step)
    edits, views_edited, num_views, seconds_per_edit = update.progress
    assert (edits, views_edited, num_views) == (7, 5, 5)
    assert seconds_per_edit > 0.0
    assert sorted(update.edits_per_view) == [1, 1, 1, 2, 2]


def test_a_resumed_edit_goes_on_bit_for_bit(tmp_path):
    whole, first, second = PerfectScene(), PerfectScene(), PerfectScene()
    options = {"steps_per_edit": 2, "views_per_edit": 2}
    uninterrupted, interrupted, resumed = (latent_update(scene, **options) for scene in (whole, first, second))
    for step in range(20):
        uninterrupted.before_step(step)
    for step in range(7):
        interrupted.before_step(step)
    torch.save(interrupted.state_dict(), tmp_path / "edit.pt")
    resumed.load_state_dict(torch.load(tmp_path / "edit.pt", weights_only=True))
    assert resumed.progress == interrupted.progress
    assert all(torch.equal(*pair) for pair in zip(first.targets, second.targets, strict=True))
    for step in range(7, 20):
        resumed.before_step(step)
    assert resumed.progress.edits == uninterrupted.progress.edits
    assert all(torch.equal(*pair) for pair in zip(whole.targets, second.targets, strict=True))


def test_saved_targets_do_not_follow_later_edits():
    scene = PerfectScene()
    update = stateless_update(scene)
    update.edit_views([0])
    state = update.state_dict()
    scene.targets[0] += 1.0
    assert not torch.equal(state["targets"][0], scene.targets[0])


def test_loading_undoes_edits_the_saved_state_does_not_have():
    scene = PerfectScene()
    update = stateless_update(scene)
    before = update.state_dict()
    update.edit_views([0, 1])
    update.load_state_dict(before)
    assert all(torch.equal(*pair) for pair in zip(scene.targets, scene.originals, strict=True))
    assert update.progress.edits == 0


def test_reset_gives_the_originals_back():
    scene = PerfectScene()
    update = latent_update(scene, steps_per_edit=1)
    first = [row.view for row in update.before_step(0)]
    update.before_step(1)
    update.reset()
    assert all(torch.equal(*pair) for pair in zip(scene.targets, scene.originals, strict=True))
    assert update.progress == (0, 0, NUM_VIEWS, 0.0)
    assert [row.view for row in update.before_step(0)] == first


def test_an_edit_of_another_scene_is_refused():
    state = stateless_update(PerfectScene()).state_dict()
    with pytest.raises(ValueError, match="saved edit is of 5 views and the scene has 4"):
        IterativeDatasetUpdate(PerfectScene(4), AddOne(), EditSchedule(EditScheduleConfig(), 4)).load_state_dict(state)
