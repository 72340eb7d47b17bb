"""Nerfstudio's trainer, where it must go on from another method's run.

The host takes it for granted that a checkpoint holds the very optimizers of the present run, and counts additional
steps against absolute ones when it shows what remains. An edit that starts from a reconstruction meets both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer
from nerfstudio.utils.rich_utils import CONSOLE

from latenteditor.nerf.edit_session import NothingToEdit
from latenteditor.nerf.trainer_config import CheckedTrainerConfig


@dataclass
class EditTrainerConfig(CheckedTrainerConfig):
    """Options of the training itself."""

    _target: type = field(default_factory=lambda: EditTrainer)


class EditTrainer(Trainer):
    """A trainer that may load the run of another method, and says truly how much remains."""

    def setup_optimizers(self) -> Optimizers:
        """Optimizers that take from a checkpoint what fits them."""
        return FittingOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def train(self) -> None:
        """Trains ``max_num_iterations`` further steps, or ends before the first edit where there is nothing to edit."""
        writer.GLOBAL_BUFFER["max_iter"] = self._start_step + self.config.max_num_iterations
        try:
            super().train()
        except NothingToEdit as nothing:
            CONSOLE.log(str(nothing))
            self._after_train()

    def _load_checkpoint(self) -> None:
        """Loads what ``--load-dir`` or ``--load-checkpoint`` names.

        Raises:
            ValueError: There is no checkpoint where one should be.
        """
        if self.config.load_dir is not None:
            _require_checkpoints(self.config.load_dir)
        elif self.config.load_checkpoint is not None and not self.config.load_checkpoint.is_file():
            raise ValueError(f"There is no checkpoint {self.config.load_checkpoint}.")
        super()._load_checkpoint()


class FittingOptimizers(Optimizers):
    """Optimizers that start afresh, and say so, where a checkpoint has nothing for them."""

    def load_optimizers(self, loaded_state: dict[str, Any]) -> None:
        """Takes the state of each optimizer whose parameters are those of the checkpoint's."""
        self._load(self.optimizers, loaded_state, lambda own, saved: own.load_state_dict(saved))

    def load_schedulers(self, loaded_state: dict[str, Any]) -> None:
        """Takes the state of each scheduler the checkpoint has."""
        self._load(self.schedulers, loaded_state, lambda own, saved: own.load_state_dict(saved))

    @staticmethod
    def _load(own: dict[str, Any], loaded: dict[str, Any], load: Callable[[Any, Any], None]) -> None:
        """Loads by name, where the name is known and the state fits."""
        fresh = [name for name in own if name not in loaded]
        for name in own.keys() & loaded.keys():
            try:
                load(own[name], loaded[name])
            except ValueError:
                fresh.append(name)
        if fresh:
            CONSOLE.log(f"The checkpoint has nothing that fits {', '.join(sorted(fresh))}: these start afresh.")


def _require_checkpoints(folder: Path) -> None:
    """Refuses a folder nerfstudio cannot load from, with the folder that was probably meant."""
    if not folder.is_dir():
        raise ValueError(f"--load-dir {folder} is not a folder: pass the nerfstudio_models folder of a run.")
    names = sorted(path.name for path in folder.iterdir())
    if names and all(name.startswith("step-") and name.endswith(".ckpt") for name in names):
        return
    inside = folder / "nerfstudio_models"
    hint = f"pass {inside}" if inside.is_dir() else "pass the nerfstudio_models folder of a run"
    found = ", ".join(names[:3]) or "nothing"
    raise ValueError(f"--load-dir {folder} is no folder of checkpoints, it holds {found}: {hint}.")
