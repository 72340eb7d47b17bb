"""`latenteditor editor train`; tests/miniature/test_parallel.py trains by it, in one process and in two."""

from pathlib import Path

from latenteditor import cli
from latenteditor.commands import editor_train
from latenteditor.miniature.training import TrainingConfig


def test_what_is_typed_reaches_the_training(monkeypatch):
    configs: list[TrainingConfig] = []
    monkeypatch.setattr(editor_train, "train_editor", configs.append)
    cli.main(["editor", "train", "--work-dir", "somewhere", "--num-worlds", "3", "--editor.fit.steps", "7"])
    (config,) = configs
    assert (config.work_dir, config.num_worlds, config.editor.fit.steps) == (Path("somewhere"), 3, 7)
