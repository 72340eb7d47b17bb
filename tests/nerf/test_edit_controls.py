"""The viewer's controls, without a browser: the elements that the host finds, and what their callbacks do."""

import pytest
import torch
import yaml
from nerfstudio.viewer.utils import parse_object
from nerfstudio.viewer.viewer_elements import ViewerControl, ViewerElement

from latenteditor.nerf.edit_controls import NO_LAYER
from tests import runs
from tests.nerf.known_words import with_known_words


class Handle:
    """Stands for what the viewer makes of an element."""

    def __init__(self, value=None):
        self.value, self.content, self.options = value, None, None


@pytest.fixture
def make_pipeline(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    def make(method=runs.edit, **options):
        options = {"pipeline.edit.prompt": "move it up", "pipeline.schedule.steps_per_edit": 1} | options
        config = method(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, 20, **options)
        return with_known_words(runs.set_up(config)).pipeline

    return make


@pytest.fixture
def pipeline(make_pipeline):
    return make_pipeline()


def elements(pipeline) -> dict:
    """The controls by label, as the host finds them; the notes have none, nor has the line of progress above them."""
    return {element.name: element for _, element in parse_object(pipeline, ViewerElement, "Custom Elements")}


def press(pipeline, label: str) -> str:
    element = elements(pipeline)[label]
    element.cb_hook(element)
    return elements(pipeline)[""].content


def enter(pipeline, label: str, value) -> str:
    element = elements(pipeline)[label]
    element.value = value
    element.cb_hook(element)
    return elements(pipeline)[""].content


def train(pipeline, steps: range) -> list[int]:
    """How many view edits each step brought."""
    counts = []
    for step in steps:
        before = pipeline.update.progress.edits
        pipeline.update_views(step)
        counts.append(pipeline.update.progress.edits - before)
    return counts


def test_the_host_finds_the_controls_in_the_order_of_use(pipeline):
    found = parse_object(pipeline, ViewerElement, "Custom Elements")
    assert {path.rsplit("/", 1)[0] for path, _ in found} == {"Custom Elements/edit_controls"}
    assert [element.name for _, element in found] == [
        "prompt", "Preview on this view", "Start", "Pause editing", "Edit every view now", "Reset to original",
        "layer", "Switch layer on / off", "Remove layer", "", "",
        "text guidance", "image guidance", "mask", "threshold", "Δt", "least noise", "most noise", "original outside",
    ]  # fmt: skip
    assert len(parse_object(pipeline, ViewerControl, "Custom Elements")) == 1
    assert not list(pipeline.edit_controls.parameters())


def test_in2n_has_the_same_controls_but_for_what_needs_a_relevance_head(make_pipeline):
    pipeline = make_pipeline(runs.in2n)
    found = elements(pipeline)
    assert "original outside" not in found
    assert found["mask"].options == ["per-view", "none"]
    assert found["mask"].value == "none"


@pytest.mark.parametrize(
    ("label", "value", "read"),
    [
        ("prompt", "move it down", lambda edit: edit.prompt),
        ("text guidance", 3.0, lambda edit: edit.guidance.text),
        ("image guidance", 1.2, lambda edit: edit.guidance.image),
        ("mask", "field", lambda edit: edit.mask),
        ("threshold", 0.7, lambda edit: edit.delta_mask.threshold),
        ("Δt", 0.6, lambda edit: edit.delta_mask.noise_level),
        ("least noise", 0.3, lambda edit: edit.min_noise),
        ("most noise", 0.8, lambda edit: edit.max_noise),
    ],
)
def test_what_is_entered_takes_effect_and_leaves_the_last_preview_where_it_is(pipeline, label, value, read):
    said = elements(pipeline)[""].content
    assert enter(pipeline, label, value) == said
    assert read(pipeline.config.edit) == value


def test_changed_settings_are_in_the_config_of_the_run(make_pipeline, tmp_path):
    pipeline = make_pipeline()
    enter(pipeline, "text guidance", 4.5)
    (path,) = tmp_path.rglob("config.yml")
    saved = yaml.load(path.read_text(), Loader=yaml.Loader)  # noqa: S506  The host's own format.
    assert saved.pipeline.edit.guidance.text == 4.5


@pytest.mark.parametrize(
    ("label", "value", "complaint"),
    [("least noise", 0.99, "exceeds the most"), ("Δt", 1.5, "from 0 to 1"), ("threshold", 7.0, "from 0 to 1")],
)
def test_what_cannot_be_edited_by_is_refused_with_the_reason_and_taken_back(pipeline, label, value, complaint):
    before = elements(pipeline)[label].value
    assert complaint in enter(pipeline, label, value)
    assert elements(pipeline)[label].value == before
    pipeline.session.check_edit()


def test_an_edit_is_paused_and_goes_on(pipeline):
    assert train(pipeline, range(4, 7)) == [1, 1, 1]
    assert "paused" in press(pipeline, "Pause editing")
    assert train(pipeline, range(7, 10)) == [0, 0, 0]
    assert "goes on" in press(pipeline, "Start")
    assert train(pipeline, range(10, 12)) == [1, 1]
    assert pipeline.layers.listing() == "layer 1 'move it up' (on)"


def test_progress_is_shown_beside_what_was_said_last(pipeline):
    progress = next(element for _, element in parse_object(pipeline, ViewerElement, "") if element.name == "")
    assert progress.content == "No view was edited yet."
    said = press(pipeline, "Start")
    train(pipeline, range(4, 7))
    assert progress.content.startswith("3 edits of 5 views, ")
    assert progress.content.endswith(" s each: move it up")
    assert elements(pipeline)[""].content == said


def test_another_prompt_starts_a_layer_on_top(pipeline):
    train(pipeline, range(4, 9))
    enter(pipeline, "prompt", "move it down")
    assert train(pipeline, range(9, 10)) == [1]
    assert [layer.instruction for layer in pipeline.layers.layers] == ["move it up"], "only the button starts it"
    assert "starts with the next step" in press(pipeline, "Start")
    train(pipeline, range(10, 12))
    assert pipeline.layers.listing() == "layer 1 'move it up' (on), layer 2 'move it down' (on)"
    assert sum(pipeline.update.edits_per_view) == 2


def test_a_button_acts_by_what_was_typed_though_its_callback_still_waits(pipeline):
    train(pipeline, range(4, 6))
    elements(pipeline)["prompt"].value = "move it down"
    press(pipeline, "Start")
    train(pipeline, range(6, 7))
    assert [layer.instruction for layer in pipeline.layers.layers] == ["move it up", "move it down"]
    elements(pipeline)["least noise"].value = 0.99
    assert "exceeds the most" in press(pipeline, "Pause editing")
    assert not pipeline.session.paused


def test_a_prompt_that_was_not_started_waits_for_the_button_though_reconstruction_ends(pipeline):
    train(pipeline, range(2, 4))
    enter(pipeline, "prompt", "move it do")
    train(pipeline, range(4, 6))
    assert pipeline.layers.listing() == "layer 1 'move it up' (on)"


def test_who_starts_during_reconstruction_is_told_when_editing_begins(pipeline):
    train(pipeline, range(2, 4))
    enter(pipeline, "prompt", "move it down")
    assert press(pipeline, "Start").startswith("Editing starts at step 4, when the scene is reconstructed")
    assert train(pipeline, range(4, 6)) == [1, 1]
    assert pipeline.layers.listing() == "layer 1 'move it down' (on)"


@pytest.mark.parametrize("label", ["Start", "Edit every view now"])
def test_nothing_starts_without_a_prompt(pipeline, label):
    train(pipeline, range(4, 6))
    enter(pipeline, "prompt", " ")
    assert press(pipeline, label) == "Type a prompt first."
    assert not pipeline.session.pending


def test_what_fails_is_said_on_the_page_too(pipeline, monkeypatch):
    def fail() -> str:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(pipeline.session.layers, "numbered", lambda _: fail())
    train(pipeline, range(4, 5))
    with pytest.raises(RuntimeError, match="out of memory"):
        press(pipeline, "Switch layer on / off")
    assert elements(pipeline)[""].content == "RuntimeError: out of memory"


def test_a_prompt_about_nothing_is_said_in_the_viewer_and_training_goes_on(pipeline):
    train(pipeline, range(4, 6))
    enter(pipeline, "prompt", "paint the dragon")
    press(pipeline, "Start")
    assert train(pipeline, range(6, 8)) == [0, 0]
    assert "left as it was" in elements(pipeline)[""].content
    assert pipeline.session.paused
    assert pipeline.layers.listing() == "layer 1 'move it up' (on)"
    enter(pipeline, "prompt", "move it up")
    assert "goes on" in press(pipeline, "Start")
    assert train(pipeline, range(8, 10)) == [1, 1]
    assert pipeline.layers.listing() == "layer 1 'move it up' (on)"


def test_every_view_is_edited_one_after_the_other(make_pipeline):
    pipeline = make_pipeline(**{"pipeline.schedule.steps_per_edit": 100})
    train(pipeline, range(4, 5))
    assert "All 5 views" in press(pipeline, "Edit every view now")
    assert train(pipeline, range(5, 11)) == [1, 1, 1, 1, 1, 0]
    assert all(pipeline.update.edits_per_view)


def test_reset_goes_back_to_the_original_and_a_layer_can_be_had_back(pipeline):
    train(pipeline, range(4, 9))
    edited = [target.clone() for target in pipeline.datamanager.targets]
    press(pipeline, "Reset to original")
    pairs = zip(pipeline.datamanager.targets, pipeline.datamanager.originals, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert train(pipeline, range(9, 12)) == [0, 0, 0]
    assert elements(pipeline)["layer"].value == "1 off: move it up"
    assert press(pipeline, "Switch layer on / off") == "Layer 1 is on."
    assert elements(pipeline)["layer"].value == "1 on: move it up"
    assert all(torch.equal(*pair) for pair in zip(pipeline.datamanager.targets, edited, strict=True))
    assert press(pipeline, "Remove layer") == "Layer 1 is removed."
    assert elements(pipeline)["layer"].options == [NO_LAYER]
    assert press(pipeline, "Remove layer") == "There is no layer yet."


def test_a_preview_shows_a_view_its_mask_and_its_edit_and_touches_nothing(pipeline):
    train(pipeline, range(4, 6))
    before = pipeline.update.state_dict(), pipeline.layers.state_dict()
    targets = [target.clone() for target in pipeline.datamanager.targets]
    was_training = pipeline.model.training
    half = runs.SIZE // 2
    camera = pipeline.datamanager.train_dataset.cameras[0:1]
    pipeline.config.edit.prompt = "move it up; paint the dragon"
    picture, said = pipeline.session.preview(camera)
    assert picture.shape == (half + runs.SIZE, runs.SIZE, 3)
    assert "'move it up' changes " in said
    assert "'paint the dragon' changes nothing: score 0.00 (gate 0.1)" in said
    above, edit = picture.split([half, runs.SIZE])
    original, mask = above.split(half, dim=1)
    assert mask[: half // 2].mean() > mask[half // 2 :].mean()
    small_edit = torch.nn.functional.avg_pool2d(edit.permute(2, 0, 1), 2).permute(1, 2, 0)
    assert original.shape == small_edit.shape
    assert not torch.allclose(original, small_edit, atol=0.01)
    after = pipeline.update.state_dict(), pipeline.layers.state_dict()
    assert str(before) == str(after)
    assert all(torch.equal(*pair) for pair in zip(pipeline.datamanager.targets, targets, strict=True))
    assert pipeline.model.training == was_training


def test_a_preview_of_in2n_passes_its_autoencoder(make_pipeline):
    pipeline = make_pipeline(runs.in2n)
    picture, said = pipeline.session.preview(pipeline.datamanager.train_dataset.cameras[0:1])
    assert picture.shape == (runs.SIZE // 2 + runs.SIZE, runs.SIZE, 3)
    assert "'move it up' changes 100% of the view" in said


def test_the_notes_are_shown_with_their_picture(pipeline):
    notes = elements(pipeline)[""]
    notes.gui_handle = Handle()
    notes.show("hello", torch.rand(8, 8, 3).numpy())
    assert notes.gui_handle.content == "hello\n\n![preview](preview.png)"
    notes.show("again")
    assert notes.gui_handle.content == "again"


def test_nothing_that_is_said_is_taken_for_markup_or_program_text(pipeline):
    notes = elements(pipeline)[""]
    notes.gui_handle = Handle()
    notes.show("a_b <i> {1 + 1} ![x](y.png)")
    assert notes.gui_handle.content == r"a\_b \<i\> \{1 + 1\} \!\[x\]\(y.png\)"
    assert notes.content == "a_b <i> {1 + 1} ![x](y.png)"


def test_who_only_looks_can_switch_layers_and_preview_but_not_edit(make_pipeline, tmp_path):
    trained = make_pipeline()
    train(trained, range(4, 6))
    config = trained.config
    pipeline = config.setup(device="cpu", test_mode="test")
    pipeline.load_pipeline(trained.state_dict(), step=6)
    assert pipeline.session.editor is None
    assert elements(pipeline)["layer"].value == "1 on: move it up"
    for label in ("Start", "Edit every view now", "Reset to original", "Remove layer"):
        assert "open the run with ns-train" in press(pipeline, label)
    assert pipeline.session.editor is None
    assert press(pipeline, "Switch layer on / off") == "Layer 1 is off."
    pipeline.session.preview(pipeline.datamanager.train_dataset.cameras[0:1])
    assert pipeline.session.editor is not None
