"""Trains the built-in editor, or goes on with a finished one; see ``latenteditor.miniature.training``."""

import tyro

from latenteditor.miniature.training import TrainingConfig, train_editor

if __name__ == "__main__":
    train_editor(tyro.cli(TrainingConfig, description=__doc__))
