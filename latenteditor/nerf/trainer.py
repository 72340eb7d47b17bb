"""Nerfstudio's trainer, where it must go on from another method's run, and where nothing may be lost.

The host takes it for granted that a checkpoint holds the very optimizers of the present run, and counts additional
steps against absolute ones when it shows what remains. An edit that starts from a reconstruction meets both. It also
writes a checkpoint over what it had, and lets an interrupt or a full disk end the run without one.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.optimizers import Optimizers
from nerfstudio.engine.trainer import Trainer
from nerfstudio.utils import writer
from nerfstudio.utils.decorators import check_main_thread
from nerfstudio.utils.rich_utils import CONSOLE

from latenteditor.editing.failures import CannotEdit
from latenteditor.nerf import checkpoints, interrupts, moment, run_folder
from latenteditor.nerf.edit_session import NothingToEdit
from latenteditor.nerf.photographs import content_keys, require_same_photographs
from latenteditor.nerf.trainer_config import CheckedTrainerConfig


@dataclass
class EditTrainerConfig(CheckedTrainerConfig):
    """Options of the training itself."""

    _target: type = field(default_factory=lambda: EditTrainer)

    def write_first(self) -> None:
        """Takes the run's folder, and writes the settings there.

        Raises:
            ValueError: Another run is in the folder, or it holds one that would be trained over.
        """
        folder = self.get_base_dir()
        run_folder.claim(folder, [path for path in (self.load_dir, self.load_checkpoint) if path is not None])
        CONSOLE.log(f"Saving config to: {folder / 'config.yml'}")
        self.write_config()

    def write_config(self) -> None:
        """Writes the settings as they are now, wholly or not at all."""
        checkpoints.write_text(self.get_base_dir() / "config.yml", yaml.dump(self))


class Interrupted(Exception):
    """Somebody wants the run to end."""


class EditTrainer(Trainer):
    """A trainer that may load the run of another method, says truly how much remains, and loses nothing."""

    config: EditTrainerConfig

    def __init__(self, config: EditTrainerConfig, local_rank: int = 0, world_size: int = 1) -> None:
        """Prepares a run; the arguments are the host's."""
        super().__init__(config, local_rank, world_size)
        self.trained_step: int | None = None
        """The last step that was trained; None before the first."""
        self._signal: int | None = None
        self._asked_steps, self._ends_at = config.max_num_iterations, 0
        self._let_go: Callable[[], None] = lambda: None
        self._loaded_moment: dict[str, Any] | None = None
        self.takes_other_photographs = False
        """Whether a run may be loaded that was trained on other photographs: of the same places, before an edit."""
        self._photographs: list[str] = []
        """Content keys of the training photographs."""

    def setup(self, test_mode: Literal["test", "val", "inference"] = "val") -> None:
        """Builds and loads everything, as the host does."""
        try:
            super().setup(test_mode)
        except KeyboardInterrupt:
            self._leave("Interrupted before the training began.", 130)
        self.callbacks.insert(0, TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], self._before_step))

    def setup_optimizers(self) -> Optimizers:
        """Optimizers that take from a checkpoint what fits them."""
        return FittingOptimizers(self.config.optimizers.copy(), self.pipeline.get_param_groups())

    def train(self) -> None:
        """Trains ``max_num_iterations`` further steps, or those that an interrupted run of the same command had left.

        Ends before the first edit where there is nothing to edit. Whatever ends it, what was trained is saved.
        """
        config, steps = self.config, self._steps_to_train()
        self._asked_steps = config.max_num_iterations
        self._ends_at = self._start_step + steps
        writer.GLOBAL_BUFFER["max_iter"] = self._ends_at
        self.config = replace(config, max_num_iterations=steps)
        try:
            with interrupts.caught(self._interrupt) as self._let_go:
                self._train()
        finally:
            self.config = config
            run_folder.release(self.base_dir)
        if self._signal is not None:
            self._leave(
                "The run was interrupted, and is saved: the same command with --load-dir goes on.", self._signal
            )

    def train_iteration(self, step: int) -> Any:
        """Trains one step."""
        result = super().train_iteration(step)
        self.trained_step = step
        return result

    @check_main_thread
    def save_checkpoint(self, step: int) -> None:
        """Saves the run as it stands after its last step, and keeps what it had until that is done.

        Args:
            step: Where the host's loop stands: a step that may not have been trained.
        """
        step = self._start_step - 1 if self.trained_step is None else self.trained_step
        path = checkpoints.checkpoint_path(self.checkpoint_dir, max(step, 0))
        self._require_finite(step)
        try:
            checkpoints.write_checkpoint(self._state(max(step, 0)), path)
        except checkpoints.NotSaved as why:
            self._report_unsaved(step, str(why))
            return
        if self.config.save_only_latest_checkpoint:
            checkpoints.keep_newest(self.checkpoint_dir)

    def _train(self) -> None:
        """Trains as the host does, and saves where an edit or somebody ends it early."""
        try:
            super().train()
        except NothingToEdit as nothing:
            CONSOLE.log(str(nothing))
            self._after_train()
        except Interrupted:
            self._after_train()
        except CannotEdit as failure:
            self.training_state = "completed"
            self.save_checkpoint(self.step)
            self._leave(f"{failure} What was edited until then is saved in {self.checkpoint_dir}.", 1)

    def _after_train(self) -> None:
        """Saves, and ends as the host does unless somebody is waiting for the end."""
        if self._signal is None:
            super()._after_train()
            return
        self.training_state = "completed"
        self.save_checkpoint(self.step)
        writer.write_out_storage()

    def _train_complete_viewer(self) -> None:
        """Lets the finished scene be looked at; everything is saved, so that an interrupt just ends it."""
        self._let_go()
        if self._signal is None:
            super()._train_complete_viewer()

    def _interrupt(self, number: int) -> None:
        """Asks for the end of the run, at the end of its step; a second time ends it at once."""
        if self._signal is not None:
            self._leave("Left at once: what was trained since the last checkpoint is lost.", 128 + number)
        self._signal, self.stop_training = 128 + number, True
        CONSOLE.log("Interrupted: the run is saved when this step is done. Once more leaves at once.")

    def _before_step(self, step: int) -> None:
        """Goes on from the moment that was loaded, or ends between two steps."""
        if self._loaded_moment is not None:
            moment.load_training(self.pipeline, self._loaded_moment, generators=self.world_size == 1)
            self._loaded_moment = None
        if self._signal is not None:
            raise Interrupted

    def _steps_to_train(self) -> int:
        """As many as were asked for, or what is left of them where this very command was interrupted."""
        asked = self.config.max_num_iterations
        loaded = self._loaded_moment
        if loaded is None or loaded["asked_steps"] != asked or not 0 < loaded["ends_at"] - self._start_step < asked:
            return asked
        left = loaded["ends_at"] - self._start_step
        CONSOLE.log(f"The run was interrupted: it goes on with the {left} steps that were left of {asked}.")
        return left

    def _state(self, step: int) -> dict[str, Any]:
        """Everything, for the checkpoint."""
        pipeline: Any = getattr(self.pipeline, "module", self.pipeline)
        return {
            "step": step,
            "pipeline": pipeline.state_dict(),
            "optimizers": {name: part.state_dict() for name, part in self.optimizers.optimizers.items()},
            "schedulers": {name: part.state_dict() for name, part in self.optimizers.schedulers.items()},
            "scalers": self.grad_scaler.state_dict(),
            "photographs": self._photographs,
            "moment": {
                **moment.moment_of(pipeline),
                "command": self._command(),
                "asked_steps": self._asked_steps,
                "ends_at": self._ends_at,
            },
        }

    def _command(self) -> dict[str, Any]:
        """What tells whether a run that is loaded was left by the present command."""
        session: Any = getattr(self.pipeline, "session", None)
        asked = {} if session is None else session.asked
        return {"method": self.config.method_name, "seed": self.config.machine.seed, "asked": asked}

    def _load_checkpoint(self) -> None:
        """Loads what ``--load-dir`` or ``--load-checkpoint`` names, and the moment too where this command left it.

        Raises:
            ValueError: There is no checkpoint where one should be, or none that is whole.
        """
        found = self._read_checkpoint()
        data: Any = self.pipeline.datamanager
        if found is None:
            self._photographs = content_keys(data.train_dataset.image_filenames)
            super()._load_checkpoint()
            return
        state, path = found
        known = None if self.takes_other_photographs else state.get("photographs")
        if known is not None:  # Runs of earlier versions, and of the host's methods, do not tell.
            require_same_photographs(known, data.train_dataset.image_filenames, data.get_datapath())
        self._photographs = known or content_keys(data.train_dataset.image_filenames)
        self._start_step = state["step"] + 1
        self.pipeline.load_pipeline(state["pipeline"], state["step"])
        self.optimizers.load_optimizers(state["optimizers"])
        if "schedulers" in state and self.config.load_scheduler:
            self.optimizers.load_schedulers(state["schedulers"])
        if state["scalers"]:  # A run on a CPU has none.
            self.grad_scaler.load_state_dict(state["scalers"])
        loaded = state.get("moment")
        if loaded is not None and loaded["command"] == self._command():
            self._loaded_moment = loaded
            moment.load_edit(self.pipeline, loaded)
        CONSOLE.print(f"Done loading Nerfstudio checkpoint from {path}")

    def _read_checkpoint(self) -> tuple[dict[str, Any], Path] | None:
        """The checkpoint to go on from, and where it lies; None where none is asked for."""
        folder, path = self.config.load_dir, self.config.load_checkpoint
        if folder is None and path is None:
            return None
        if folder is not None:
            _require_checkpoints(folder)
            own = folder.resolve() == self.checkpoint_dir.resolve()
            if self.config.load_step is None:
                state, path = checkpoints.read_newest(folder, CONSOLE.log)
                if own:
                    _set_aside(path)
                return state, path
            path = checkpoints.checkpoint_path(folder, self.config.load_step)
            if own:
                _require_newest(path)
                _set_aside(path)
        assert path is not None
        if not path.is_file():
            raise ValueError(f"There is no checkpoint {path}.")
        try:
            return checkpoints.read_checkpoint(path), path
        except checkpoints.Damaged as damage:
            raise ValueError(f"The checkpoint {path} is damaged ({damage}): load another one.") from damage

    def _require_finite(self, step: int) -> None:
        """Ends a run whose scene is broken, rather than save it over one that is not."""
        if not all(bool(value.isfinite().all()) for value in self.pipeline.parameters()):
            self._leave(
                f"At step {step} the scene holds numbers that are not finite, and is not saved. {self._last_saved()} "
                "Look for what the data has that is not a number, or lower the learning rates.",
                1,
            )

    def _report_unsaved(self, step: int, why: str) -> None:
        """Goes on where there will be another save, and ends the run where there will be none."""
        said = f"The checkpoint of step {step} could not be saved ({why}). {self._last_saved()}"
        if self.training_state == "completed":
            self._leave(f"{said} Make room, and go on from there with --load-dir.", 1)
        CONSOLE.log(f"{said} The training goes on, and saves again in {self.config.steps_per_save} steps.")

    def _last_saved(self) -> str:
        """What a run that ends now can go on from."""
        saved = checkpoints.checkpoint_paths(self.checkpoint_dir)
        return f"The last good one is {saved[0]}." if saved else "There is none before it."

    def _leave(self, sentence: str, status: int) -> NoReturn:
        """Ends the program with a line, and a status that says so."""
        CONSOLE.log(sentence)
        raise SystemExit(status)


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
    """Refuses a folder without checkpoints, with the folder that was probably meant."""
    if not folder.is_dir():
        raise ValueError(f"--load-dir {folder} is not a folder: pass the nerfstudio_models folder of a run.")
    if checkpoints.checkpoint_paths(folder):
        return
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    inside = folder / "nerfstudio_models"
    hint = f"pass {inside}" if inside.is_dir() else "pass the nerfstudio_models folder of a run"
    found = ", ".join(names[:3]) or "nothing"
    raise ValueError(f"--load-dir {folder} is no folder of checkpoints, it holds {found}: {hint}.")


def _require_newest(path: Path) -> None:
    """Refuses to go back within a run's own folder, where newer checkpoints would outlive what is trained now."""
    newer = [other.name for other in checkpoints.checkpoint_paths(path.parent) if other.name > path.name]
    if newer and checkpoints.is_whole(path.parent / newer[0]):
        raise ValueError(
            f"{path.parent} holds {newer[0]}, which is newer than the {path.name} that is asked for: go back in a "
            "folder of its own, by another --timestamp."
        )


def _set_aside(path: Path) -> None:
    """Moves checkpoints of the run's own folder that are newer than the one it goes on from, as they are damaged."""
    for other in checkpoints.checkpoint_paths(path.parent):
        if other.name > path.name:
            kept = path.parent.parent / f"{other.name}.damaged"
            other.replace(kept)
            CONSOLE.log(f"The damaged {other.name} is kept as {kept}.")
