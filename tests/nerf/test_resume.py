"""A run that is interrupted, by whatever, goes on at the very step and ends as if nothing had happened."""

import os
import random
import re
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation

from latenteditor.editing.failures import MOST_FAILURES
from latenteditor.nerf import checkpoints
from latenteditor.nerf.editing_config import apply_settings, settings_of
from tests import runs
from tests.nerf.known_words import with_known_words

STEPS, SAVED = 12, 6


def newest(config: Any) -> dict[str, Any]:
    """The newest checkpoint, but for what tells of the time and of the command."""
    state, _ = checkpoints.read_newest(runs.checkpoints(config), pytest.fail)
    # The tests' checks of shapes draw from it: beartype looks at one random item of a list. Without them, in
    # test_kills.py, it is compared too.
    state["moment"]["generators"].pop("python")
    extra = state["pipeline"].get("_extra_state")
    if extra is not None:
        extra["edit"]["seconds"], extra["costs"] = 0, {}
    return state


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states are not the same to the last bit."""
    if isinstance(one, dict):
        changed = [path] if one.keys() != other.keys() else []
        return changed + [
            found for key in one.keys() & other.keys() for found in differences(one[key], other[key], f"{path}/{key}")
        ]
    if isinstance(one, list | tuple):
        changed = [path] if len(one) != len(other) else []
        return changed + [found for pair in zip(one, other, strict=False) for found in differences(*pair, path)]
    same = torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other
    return [] if same else [path]


def each_step(trainer: Any, act: Any) -> None:
    """Lets something happen at the end of each step."""
    trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], act))


def knowing(trainer: Any) -> Any:
    """A trainer that edits by known words, from where its own editor stood."""
    session = trainer.pipeline.session
    state, settings = session.editor.state_dict(), settings_of(session.config)
    with_known_words(trainer).pipeline.session.editor.load_state_dict(state)
    if trainer._loaded_moment is not None:
        apply_settings(session.config, settings)
    return trainer


def said(capsys: Any) -> str:
    """What was logged, without the columns of the log."""
    return " ".join(re.sub(r"trainer\.py:\d+|\[\d\d:\d\d:\d\d\]", "", capsys.readouterr().out).split())


def seed() -> None:
    """Seeds everything, as ns-train does."""
    random.seed(0)
    np.random.seed(0)


@pytest.fixture(params=["per-view", "field", "in2n", "reconstruction"])
def make(request, tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    """Sets up a run of twelve steps, which is saved every third, in a folder of its own."""

    def set_up(name: str, **options: Any) -> Any:
        kind = request.param
        method = {"in2n": runs.in2n, "reconstruction": runs.reconstruction}.get(kind, runs.edit)
        everywhere = {"pipeline.edit.delta_mask.threshold": None, "pipeline.model.relevance.steps": 3}
        small = {"pipeline.edit.mask": kind, **everywhere} if kind == "field" else {}
        output, steps = tmp_path / name, options.pop("steps", STEPS)
        seed()
        options = {"pipeline.edit.prompt": "move it up", "steps_per_save": 3} | small | options
        if kind == "reconstruction":
            del options["pipeline.edit.prompt"]
        trainer = runs.set_up(method(tiny_world_folder, tiny_instruct_pix2pix_folder, output, steps, **options))
        return knowing(trainer) if kind in ("per-view", "field") else trainer

    return set_up


@pytest.fixture
def make_edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path):
    """Sets up a run of latenteditor as `make` does."""

    def set_up(name: str, steps: int = STEPS, **options: Any) -> Any:
        seed()
        options = {"pipeline.edit.prompt": "move it up", "steps_per_save": 3} | options
        config = runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path / name, steps, **options)
        return knowing(runs.set_up(config))

    return set_up


def test_an_interrupted_run_saves_leaves_and_resumed_ends_as_if_it_had_not_been(make, capsys):
    whole = make("whole")
    whole.train()
    interrupted = make("interrupted")
    each_step(interrupted, lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == SAVED else None)
    with pytest.raises(SystemExit) as left:
        interrupted.train()
    assert left.value.code == 128 + signal.SIGTERM
    assert newest(interrupted.config)["step"] == SAVED
    assert "the same command with --load-dir goes on" in said(capsys)
    resumed = make("interrupted", load_dir=runs.checkpoints(interrupted.config))
    resumed.train()
    assert differences(newest(whole.config), newest(resumed.config)) == []
    lines = said(capsys)
    assert f"it goes on with the {STEPS - SAVED - 1} steps that were left of {STEPS}" in lines


def test_the_keyboard_interrupts_a_paused_run_too(make_edit):
    trainer = make_edit("paused")
    handler = signal.getsignal(signal.SIGINT)  # That of a shell's background jobs ignores it.

    def pause(step: int) -> None:
        if step == 5:
            trainer.training_state = "paused"
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    each_step(trainer, pause)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    signal.signal(signal.SIGALRM, before)
    assert left.value.code == 130 and newest(trainer.config)["step"] == 5
    assert signal.getsignal(signal.SIGINT) is handler, "what was there before is back"


def test_a_second_interrupt_leaves_at_once(make_edit):
    trainer = make_edit("twice")
    each_step(trainer, lambda step: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)] if step == 4 else None)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 130 and newest(trainer.config)["step"] == 3


def test_what_was_changed_by_hand_holds_when_the_same_command_goes_on(make_edit, capsys):
    trainer = make_edit("steered")
    session, config = trainer.pipeline.session, trainer.pipeline.config

    def steer(step: int) -> None:
        if step == 4:
            config.edit.guidance.text, config.edit.prompt = 2.0, "move it down"
            session.start()
        if step == SAVED:
            session.edit_every_view()
            session.paused = True
            os.kill(os.getpid(), signal.SIGINT)

    each_step(trainer, steer)
    with pytest.raises(SystemExit):
        trainer.train()
    resumed = make_edit("steered", load_dir=runs.checkpoints(trainer.config))
    assert resumed.pipeline.session.moment() == session.moment()
    assert resumed.pipeline.config.edit.prompt == resumed.pipeline.session.prompt == "move it down"
    assert resumed.pipeline.session.pending == [0, 1, 2, 3, 4] and resumed.pipeline.session.paused
    boxes = [getattr(box, "value", None) for box in vars(resumed.pipeline.edit_controls).values()]
    assert "move it down" in boxes and 2.0 in boxes
    assert "changed by hand: edit.prompt move it down" in said(capsys)
    other = make_edit("other", load_dir=runs.checkpoints(trainer.config), **{"pipeline.edit.prompt": "move it up now"})
    assert other.pipeline.session.prompt == "move it up now" and not other.pipeline.session.paused
    assert other._steps_to_train() == STEPS


def test_layers_that_the_command_removed_are_not_removed_again(make_edit):
    edited = make_edit("edited", steps=6)
    edited.train()
    options = {"pipeline.edit.prompt": "", "pipeline.remove_layers": (1,)}
    removed = make_edit("removed", 4, load_dir=runs.checkpoints(edited.config), **options)
    each_step(removed, lambda step: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit):
        removed.train()
    again = make_edit("removed", 4, load_dir=runs.checkpoints(removed.config), **options)
    assert again.pipeline.layers.layers == []


def test_a_damaged_checkpoint_of_the_run_itself_is_put_aside(make_edit, capsys):
    trainer = make_edit("damaged")
    trainer.train()
    folder = runs.checkpoints(trainer.config)
    assert sorted(os.listdir(folder)) == ["step-000000009.ckpt", "step-000000011.ckpt"]
    whole = newest(trainer.config)
    (folder / "step-000000011.ckpt").write_bytes(b"")
    (folder / ".DS_Store").touch()
    resumed = make_edit("damaged", load_dir=folder)
    assert resumed._start_step == 10
    resumed.train()
    assert differences(whole, newest(resumed.config)) == []
    assert (folder.parent / "step-000000011.ckpt.damaged").exists()
    assert "step-000000011.ckpt is damaged (it is empty)" in said(capsys)


def test_one_may_go_back_in_a_folder_of_ones_own_only(make_edit):
    trainer = make_edit("back")
    trainer.train()
    options = {"load_dir": runs.checkpoints(trainer.config), "load_step": 9}
    with pytest.raises(ValueError, match=r"holds step-000000011\.ckpt, which is newer than the step-000000009\.ckpt"):
        make_edit("back", **options)
    assert make_edit("elsewhere", **options)._start_step == 10


def full(times: int):
    """A disk that is full for a number of times."""
    left, write = [times], checkpoints.write_checkpoint

    def fail(state: dict[str, Any], path: Path) -> None:
        left[0] -= 1
        if left[0] >= 0:
            raise checkpoints.NotSaved("No space left on device")
        write(state, path)

    return fail


def test_a_run_goes_on_while_the_disk_is_full_and_saves_when_there_is_room(make_edit, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "write_checkpoint", full(2))
    trainer = make_edit("full")
    trainer.train()
    assert newest(trainer.config)["step"] == STEPS - 1
    lines = said(capsys)
    assert "checkpoint of step 3 could not be saved (No space left on device). There is none before it." in lines
    assert "The training goes on, and saves again in 3 steps." in lines


def test_a_last_save_that_fails_ends_the_run_with_a_status_and_names_what_there_is(make_edit, monkeypatch, capsys):
    trainer = make_edit("full at the end")
    each_step(trainer, lambda step: step == 10 and monkeypatch.setattr(checkpoints, "write_checkpoint", full(9)))
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 1 and newest(trainer.config)["step"] == 9
    lines = said(capsys)
    assert "checkpoint of step 11 could not be saved" in lines and "Make room, and go on from there" in lines


def test_an_edit_that_fails_for_good_is_saved_and_ends_the_run_with_a_status(make_edit, capsys):
    trainer = make_edit("failing", 40, steps_per_save=1000)
    denoiser = trainer.pipeline.session.latent_editor.denoiser
    predict = denoiser.predict_noise
    denoiser.predict_noise = lambda *args: torch.full_like(predict(*args), torch.nan)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 1 and newest(trainer.config)["step"] == 3
    assert "measured 5 times" in said(capsys)


def test_one_edit_that_is_not_a_number_does_not_end_a_run(make_edit):
    trainer = make_edit("once", 4 + 4 * MOST_FAILURES)
    editor = trainer.pipeline.session.editor
    edit, failures = editor.edit, [True]

    def fail_once(rendered, bases, views, instruction):
        made = edit(rendered, bases, views, instruction)
        return made._replace(edited=made.edited * torch.nan) if failures and failures.pop() else made

    editor.edit = fail_once
    trainer.train()
    update = trainer.pipeline.update
    assert update.rejected == 1 and min(update.edits_per_view) >= 1
    assert all(target.isfinite().all() for target in trainer.pipeline.datamanager.targets)
    assert newest(trainer.config)["pipeline"]["_extra_state"]["edit"]["rejected"] == 1


def test_a_scene_that_is_not_finite_is_not_saved(make_edit, capsys):
    trainer = make_edit("broken")

    def break_at(step: int) -> None:
        if step == 8:
            next(trainer.pipeline.model.field.parameters()).data.fill_(torch.nan)

    each_step(trainer, break_at)
    with pytest.raises(SystemExit) as left:
        trainer.train()
    assert left.value.code == 1 and newest(trainer.config)["step"] == 6


def test_a_second_run_with_the_same_folder_leaves_the_first_alone(make_edit):
    trainer = make_edit("finished")
    trainer.train()
    config, before = (trainer.base_dir / "config.yml").read_text(), newest(trainer.config)
    with pytest.raises(ValueError, match="holds a run already, which would be lost: go on with it by --load-dir"):
        make_edit("finished", **{"pipeline.edit.prompt": "another thing"})
    assert (trainer.base_dir / "config.yml").read_text() == config
    assert differences(before, newest(trainer.config)) == []
