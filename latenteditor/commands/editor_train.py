"""Trains the built-in editor, or goes on with a finished one; see ``latenteditor.miniature.training``.

With several processes: torchrun --no-python --nproc-per-node 2 latenteditor editor train --photographs FOLDER
"""

from latenteditor.miniature.training import TrainingConfig as Args
from latenteditor.miniature.training import train_editor

__all__ = ["Args", "main"]


def main(args: Args) -> None:
    """Trains what is not trained yet."""
    train_editor(args)
