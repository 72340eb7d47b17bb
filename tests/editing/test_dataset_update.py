import pytest
import torch

from latenteditor.editing.dataset_update import EditableScene, IterativeDatasetUpdate, Resumable
from latenteditor.editing.edit_schedule import EditSchedule, EditScheduleConfig
from latenteditor.editing.editor import Edit, EditConfig, LatentEditor, Surveyor
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.layers import LayerStack
from tests.editing.denoisers import KnownEdit

PROMPT = "paint it"
NUM_VIEWS = 5


class PerfectScene:
    """A scene that has already learned what it is trained on. Odd views are of another size."""

    def __init__(self, num_views: int = NUM_VIEWS) -> None:
        generator = torch.Generator().manual_seed(0)
        self.originals = [torch.randn(4, 8, 10 if view % 2 else 12, generator=generator) for view in range(num_views)]
        self.targets = [original.clone() for original in self.originals]
        self.kept_out: dict[int, torch.Tensor] = {}

    @property
    def num_views(self) -> int:
        return len(self.originals)

    def original(self, view):
        return self.originals[view]

    def render(self, view):
        return self.targets[view] * 0.9

    def replace(self, view, latents):
        self.targets[view] = latents

    def keep_out(self, view, cells):
        self.kept_out = {number: kept for number, kept in self.kept_out.items() if number != view}
        if cells is not None:
            self.kept_out[view] = cells


class AddOne:
    """The smallest editor there can be: no state."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def edit(self, rendered, bases, views, instruction):
        self.batches.append(list(views))
        return Edit(rendered + 1.0, torch.ones_like(bases[:, :1], dtype=torch.bool), None)


def change() -> torch.Tensor:
    """A colour in the first rows."""
    return torch.tensor([1.0, -2.0, 0.5, 2.0])[:, None, None] * (torch.arange(8) < 3)[:, None]


def latent_update(scene: PerfectScene, **schedule) -> IterativeDatasetUpdate:
    config = EditConfig(PROMPT, guidance=Guidance(2.0, 1.2))
    editor = LatentEditor(KnownEdit(change()), config)
    update = IterativeDatasetUpdate(scene, editor, EditSchedule(EditScheduleConfig(**schedule), NUM_VIEWS))
    update.begin([PROMPT], PROMPT)
    return update


def patient_update(scene: PerfectScene, changes=None, **config) -> IterativeDatasetUpdate:
    """An update of latents that keeps out of training what waits for its edit."""
    changes = change() if changes is None else changes
    editor = LatentEditor(KnownEdit(changes), EditConfig(PROMPT, guidance=Guidance(2.0, 1.2), **config))
    schedule = EditSchedule(EditScheduleConfig(), NUM_VIEWS)
    update = IterativeDatasetUpdate(scene, editor, schedule, keep_waiting_out=True)
    update.begin([PROMPT], PROMPT)
    update.survey()
    return update


def stateless_update(scene: PerfectScene, **schedule) -> IterativeDatasetUpdate:
    update = IterativeDatasetUpdate(scene, AddOne(), EditSchedule(EditScheduleConfig(**schedule), NUM_VIEWS))
    update.begin([PROMPT], PROMPT)
    return update


def test_protocols_are_met():
    assert isinstance(PerfectScene(), EditableScene)
    assert isinstance(latent_update(PerfectScene()).editor, Resumable)
    assert isinstance(latent_update(PerfectScene()).editor, Surveyor)
    assert not isinstance(AddOne(), Resumable)
    assert not isinstance(AddOne(), Surveyor)


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
    assert all(row.edited.shape == update.scene.original(row.view).shape for row in edited)


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
    torch.save((interrupted.layers.state_dict(), interrupted.state_dict()), tmp_path / "edit.pt")
    layers, edit = torch.load(tmp_path / "edit.pt", weights_only=True)
    resumed.layers.load_state_dict(layers)
    resumed.load_state_dict(edit)
    resumed.show_layers()
    assert resumed.progress == interrupted.progress
    assert all(torch.equal(*pair) for pair in zip(first.targets, second.targets, strict=True))
    for step in range(7, 20):
        resumed.before_step(step)
    assert resumed.progress.edits == uninterrupted.progress.edits
    assert all(torch.equal(*pair) for pair in zip(whole.targets, second.targets, strict=True))


def test_saved_views_do_not_follow_later_edits():
    update = stateless_update(PerfectScene())
    update.edit_views([0])
    (saved,) = update.layers.state_dict()["layers"]
    update.current[0].edited[0] += 1.0
    assert not torch.equal(saved["edited"][0], update.current[0].edited[0])


def test_reset_gives_the_originals_back_and_keeps_the_layers_switched_off():
    scene = PerfectScene()
    update = latent_update(scene, steps_per_edit=1)
    update.before_step(0)
    edited = [target.clone() for target in scene.targets]
    update.reset()
    assert all(torch.equal(*pair) for pair in zip(scene.targets, scene.originals, strict=True))
    assert update.edit_views([0]) == [], "what is switched off is not edited"
    update.switch(1, True)
    assert all(torch.equal(*pair) for pair in zip(scene.targets, edited, strict=True))


class PaintRow:
    """Paints the row that the instruction names with the number it names: "3: 5" makes the third row five."""

    def edit(self, rendered, bases, views, instruction):
        row, value = (int(word) for word in instruction.split(":"))
        mask = torch.zeros_like(bases[:, :1], dtype=torch.bool)
        mask[:, :, row] = True
        self.seen = bases
        return Edit(torch.where(mask, float(value), bases), mask, None)


def painted_update(scene: PerfectScene) -> IterativeDatasetUpdate:
    return IterativeDatasetUpdate(scene, PaintRow(), EditSchedule(EditScheduleConfig(), NUM_VIEWS))


def paint(update: IterativeDatasetUpdate, *instructions: str) -> None:
    update.begin(instructions, "; ".join(instructions))
    update.edit_views(range(NUM_VIEWS))


def test_the_instructions_of_one_prompt_are_edited_together_and_the_later_wins_where_both_apply():
    scene = PerfectScene()
    update = painted_update(scene)
    update.begin(["1: 5", "2: 6", "1: 7"], "several")
    edited = update.edit_views([0])
    assert [row.instruction for row in edited] == ["1: 5", "2: 6", "1: 7"]
    assert (scene.targets[0][:, 1] == 7).all()
    assert (scene.targets[0][:, 2] == 6).all()
    assert torch.equal(scene.targets[0][:, 3:], scene.originals[0][:, 3:])
    assert torch.equal(update.editor.seen[0], scene.originals[0]), "each starts from the view before the prompt"


def test_a_second_prompt_starts_from_what_the_first_made():
    scene = PerfectScene()
    update = painted_update(scene)
    paint(update, "1: 5")
    paint(update, "2: 6")
    assert (update.editor.seen[:, :, 1] == 5).all()
    assert (scene.targets[0][:, 1] == 5).all()
    assert (scene.targets[0][:, 2] == 6).all()


def test_the_second_of_three_edits_can_be_removed_and_the_others_stay():
    scene = PerfectScene()
    update = painted_update(scene)
    for prompt in ("1: 5", "2: 6", "3: 7"):
        paint(update, prompt)
    update.remove(2)
    for original, target in zip(scene.originals, scene.targets, strict=True):
        assert (target[:, 1] == 5).all()
        assert torch.equal(target[:, 2], original[:, 2])
        assert (target[:, 3] == 7).all()
    assert [layer.number for layer in update.layers.layers] == [1, 3]
    paint(update, "4: 8")
    assert [layer.number for layer in update.layers.layers] == [1, 3, 4], "a number is not given twice"


def test_a_layer_is_switched_off_and_on_again():
    scene = PerfectScene()
    update = painted_update(scene)
    paint(update, "1: 5")
    update.switch(1, False)
    assert all(torch.equal(*pair) for pair in zip(scene.targets, scene.originals, strict=True))
    update.switch(1, True)
    assert all((target[:, 1] == 5).all() for target in scene.targets)


def test_layers_survive_being_saved(tmp_path):
    update = painted_update(PerfectScene())
    paint(update, "1: 5", "2: 6")
    update.switch(2, False)
    torch.save(update.layers.state_dict(), tmp_path / "layers.pt")
    restored = LayerStack()
    restored.load_state_dict(torch.load(tmp_path / "layers.pt", weights_only=True))
    assert restored.listing() == update.layers.listing() == "layer 1 '1: 5' (on), layer 2 '2: 6' (off)"
    original = update.scene.original(1)
    assert torch.equal(restored.compose(1, original), update.layers.compose(1, original))
    assert [layer.number for layer in restored.add(["3: 7"], "3: 7")] == [3]


def test_layers_are_saved_under_the_names_that_older_checkpoints_have():
    update = painted_update(PerfectScene())
    update.begin(["1: 5", "2: 6"], "1: 5; 2: 6")
    state = update.layers.state_dict()
    assert state.keys() == {"last_number", "last_request", "layers"}
    _, second = state["layers"]
    assert (second["number"], second["prompt"], second["request"], second["request_number"]) == (
        2,
        "2: 6",
        "1: 5; 2: 6",
        1,
    )
    assert second.keys() == {"number", "prompt", "request", "request_number", "active", "edited", "masks"}


@pytest.mark.parametrize("change", [lambda update: update.remove(4), lambda update: update.switch(4, True)])
def test_a_layer_that_is_not_there_is_refused_with_those_that_are(change):
    update = painted_update(PerfectScene())
    with pytest.raises(ValueError, match="There is no layer 4: the scene has none"):
        change(update)
    paint(update, "1: 5")
    with pytest.raises(ValueError, match="There is no layer 4: layer 1 '1: 5'"):
        change(update)


def test_a_survey_finds_the_instructions_that_apply_anywhere():
    scene = PerfectScene()
    config = EditConfig(PROMPT)
    editor = LatentEditor(KnownEdit(change()), config)
    update = IterativeDatasetUpdate(scene, editor, EditSchedule(EditScheduleConfig(), NUM_VIEWS))
    update.begin([PROMPT, "something else"], "both")
    assert [layer.instruction for layer in update.survey()] == [PROMPT]
    assert update.seconds == 0, "a survey is no view edit"
    update.edit_views([0])
    assert update.seconds > 0


def test_a_prompt_that_is_taken_back_leaves_the_one_before_it_where_it_was():
    update = painted_update(PerfectScene())
    paint(update, "1: 5")
    first, progress, due = update.current, update.progress, update.schedule.views_dealt
    update.schedule.deal()
    update.begin(["2: 6"], "2: 6")
    update.take_back()
    assert update.current is first
    assert update.progress == progress
    assert update.schedule.views_dealt == due + 1
    assert update.layers.listing() == "layer 1 '1: 5' (on)"


def test_an_editor_that_does_not_look_before_it_edits_may_change_everything():
    update = stateless_update(PerfectScene())
    assert update.survey() == update.current


def test_what_lies_above_a_changed_layer_is_looked_for_anew():
    editor = LatentEditor(KnownEdit(change()), EditConfig(PROMPT))
    update = IterativeDatasetUpdate(PerfectScene(), editor, EditSchedule(EditScheduleConfig(), NUM_VIEWS))
    for prompt in (PROMPT, "another"):
        update.begin([prompt], prompt)
        update.edit_views([0])
    update.switch(2, False)
    assert editor.surveyed("another"), "what lies below did not change"
    update.switch(1, False)
    assert not editor.surveyed("another")


def test_an_edit_of_another_scene_is_refused():
    state = stateless_update(PerfectScene()).state_dict()
    with pytest.raises(ValueError, match="saved edit is of 5 views and the scene has 4"):
        IterativeDatasetUpdate(PerfectScene(4), AddOne(), EditSchedule(EditScheduleConfig(), 4)).load_state_dict(state)


def test_what_waits_for_its_edit_is_kept_out_of_training_until_it_comes():
    scene = PerfectScene()
    update = patient_update(scene)
    assert sorted(scene.kept_out) == list(range(NUM_VIEWS))
    for kept in scene.kept_out.values():
        assert torch.equal(kept[0].any(dim=1), torch.arange(8) < 4), "the three rows, and the cells beside them"
    update.edit_views([1, 3])
    assert sorted(scene.kept_out) == [0, 2, 4]
    update.edit_views([0, 2, 4])
    assert not scene.kept_out


@pytest.mark.parametrize("leave", ["switch", "remove", "reset", "take_back"])
def test_what_waited_is_put_back_when_its_layer_goes(leave):
    scene = PerfectScene()
    update = patient_update(scene)
    if leave != "take_back":
        update.edit_views([0])
    {
        "switch": lambda: update.switch(1, False),
        "remove": lambda: update.remove(1),
        "reset": update.reset,
        "take_back": update.take_back,
    }[leave]()
    assert not scene.kept_out
    if leave == "switch":
        update.switch(1, True)
        assert sorted(scene.kept_out) == [1, 2, 3, 4]


def test_each_layer_keeps_out_what_it_waits_for():
    scene = PerfectScene()
    update = patient_update(scene)
    update.edit_views([0, 1])
    update.begin([PROMPT], "again")
    update.survey()
    assert sorted(scene.kept_out) == list(range(NUM_VIEWS)), "two views for the new layer alone, three for both"
    update.edit_views([2])
    assert sorted(scene.kept_out) == list(range(NUM_VIEWS)), "the first layer has not edited it yet"
    update.remove(1)
    assert not scene.kept_out, "what lies above a removed layer is looked for anew"
    update.survey()
    assert sorted(scene.kept_out) == [0, 1, 3, 4]


def test_a_saved_edit_keeps_out_what_it_kept_out():
    scene = PerfectScene()
    update = patient_update(scene)
    update.edit_views([0])
    again, layers = PerfectScene(), LayerStack()
    layers.load_state_dict(update.layers.state_dict())
    editor = LatentEditor(KnownEdit(change()), EditConfig(PROMPT, guidance=Guidance(2.0, 1.2)))
    schedule = EditSchedule(EditScheduleConfig(), NUM_VIEWS)
    resumed = IterativeDatasetUpdate(again, editor, schedule, layers, keep_waiting_out=True)
    resumed.load_state_dict(update.state_dict())
    resumed.show_layers()
    assert sorted(again.kept_out) == sorted(scene.kept_out) == [1, 2, 3, 4]
    assert all(torch.equal(again.kept_out[view], scene.kept_out[view]) for view in again.kept_out)


@pytest.mark.parametrize(
    "make",
    [
        lambda scene: patient_update(scene, torch.ones(4, 8, 1)),
        lambda scene: patient_update(scene, mask="none"),
        stateless_update,
        latent_update,
    ],
    ids=["nearly all", "no mask", "no survey", "not asked for"],
)
def test_nothing_is_kept_out_where_no_region_is_known_or_wanted(make):
    scene = PerfectScene()
    update = make(scene)
    update.survey()
    update.edit_views([0])
    assert not scene.kept_out
