"""A built-in world in a folder of its own, and the commands that photograph, reconstruct, edit and render it."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from latenteditor.editing.delta_mask import require_usable
from latenteditor.editing.editor import EditConfig
from latenteditor.handoff.finish import DENSE
from latenteditor.handoff.whole_edit import FINISHED
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import read_autoencoder_config
from latenteditor.networks.editors import load_noise_schedule
from latenteditor.options import all_options, words_of
from latenteditor.runs import Run, command_line, keep_to_prompt, render_command, run_command, run_measured
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.world import World, random_world

OPTIMIZERS = ("tables", "proposal-networks", "fields", "adapter")
"""Groups of parameters of a scene of latents with a learning rate of their own."""
COLOUR_OPTIMIZERS = ("tables", "proposal-networks", "fields")
"""Those of a scene of colours."""


@dataclass
class WorldConfig:
    """How a built-in world is photographed, reconstructed and edited."""

    num_views: int = 48
    """Training views."""
    num_held_out: int = 8
    """Views for evaluation only."""
    size: int = 256
    """Pixels of either side of a view."""
    reconstruction_steps: int = 1200
    """Training steps of the unedited scene."""
    edit_steps: int = 420
    """Training steps in which views are edited."""
    steps_per_edit: int = 6
    """Training steps from one edited view to the next."""
    colour_steps: int = 1000
    """Training steps of the unedited scene of colours, which the edit is finished in."""
    finish_steps: int = 200
    """Training steps of the finish."""
    finish_views: int | None = 16
    """Training views that are edited for the finish at most; None edits all."""
    near_plane: float = 0.3
    """Nothing in these worlds is nearer to a camera, in the units of nerfstudio's rescaled poses."""
    max_res: int = 96
    """Cells along each side of the field's finest grid."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited; the default is what suits the built-in editor."""


@dataclass(frozen=True)
class WorldFolder:
    """A built-in world with all that is made of it."""

    path: Path
    """Its folder, absolute, see ``runs.py``."""
    seed: int
    """Which world it is."""
    config: WorldConfig
    """How it is photographed, reconstructed and edited."""
    device: str
    """Where to train: any device nerfstudio knows."""

    @property
    def world(self) -> World:
        """The world itself."""
        return random_world(self.seed)

    @property
    def data(self) -> Path:
        """Its photographs and truth."""
        return self.path / "world"

    @property
    def reconstruction(self) -> Run:
        """The run that learns it as it is photographed, in latents."""
        return Run(self.path, "latent-nerfacto")

    @property
    def colours(self) -> Run:
        """The run that learns it as it is photographed, in colours."""
        return Run(self.path, DENSE, "unedited")

    @property
    def finished(self) -> Run:
        """The run that learns the edited photographs in colours."""
        return Run(self.path, DENSE, experiment=FINISHED, outputs=".")

    def edit(self, name: str = "run") -> Run:
        """A run that edits it; the name tells several apart."""
        return Run(self.path, "latenteditor", name)

    def begin(self, prompt: str) -> None:
        """Makes the folder, or refuses to go on with one that was begun with another prompt."""
        self.path.mkdir(parents=True, exist_ok=True)
        keep_to_prompt(self.path, prompt)

    def photograph(self) -> None:
        """Writes the photographs, all or none."""
        config, partial = self.config, self.path / "world.partial"
        if partial.exists():
            shutil.rmtree(partial)
        write_dataset(partial, self.world, config.num_views, config.num_held_out, config.size, self.seed)
        partial.rename(self.data)

    def write_truth(self, prompt: str) -> None:
        """Writes what the world becomes by a prompt."""
        write_truth(self.data, prompt)

    def train(self, run: Run, steps: int, *flags: object) -> None:
        """Trains a run for some steps."""
        run_command(train_command(run, self.config, self.device, steps, *flags), self.path / f"{run.label}.log")

    def train_colours(self) -> None:
        """Trains the unedited scene of colours."""
        run, steps = self.colours, self.config.colour_steps
        run_command(colours_command(run, self.config, self.device, steps), self.path / f"{run.label}.log")

    def finish(self, edited: Run) -> None:
        """Writes an edited run's photographs, and learns them from the unedited scene of colours on."""
        views = [] if self.config.finish_views is None else ["--photographs.views", self.config.finish_views]
        command = command_line(
            "latenteditor", "finish", "--load-config", edited.config, "--output-dir", self.finished.path.parents[1],
            "--method", DENSE, "--base", self.colours.config, "--steps", self.config.finish_steps,
            "--device", self.device, *views,
        )  # fmt: skip
        run_command(command, self.path / "finish.log")

    def train_measured(self, run: Run, steps: int, *flags: object) -> int:
        """Trains a run as `train` does, and returns the most main memory that took, in bytes."""
        return run_measured(train_command(run, self.config, self.device, steps, *flags), self.path / f"{run.label}.log")

    def render(self, run: Run, what: str, *flags: object) -> None:
        """Renders a run by a subcommand of ns-render."""
        run_command(render_command(run, what, *flags), self.path / f"render-{run.label}-{what}.log")

    def render_held_out(self, run: Run) -> None:
        """Renders the held-out views of a run."""
        flags = ("--split", "test", "--rendered-output-names", "rgb", "--image-format", "png")
        self.render(run, "dataset", *flags, "--output-path", self.path / "renders" / run.label)

    def renders(self, run: Run) -> Path:
        """Where the renders of a run's held-out views lie."""
        return self.path / "renders" / run.label / "test/rgb"


def require_editor(edit: EditConfig) -> None:
    """Refuses an editor that does not exist, before anything is photographed for it.

    Raises:
        ValueError: There is no such model, or its mask's settings lie outside their range.
    """
    read_autoencoder_config(edit.model)
    load_noise_schedule(edit.model)
    require_usable(edit.delta_mask)


def train_command(run: Run, config: WorldConfig, device: str, steps: int, *flags: object) -> list[str]:
    """Trains a run for some steps on a device that nerfstudio knows; no view is evaluated on the way."""
    all_steps = config.reconstruction_steps + config.edit_steps
    return command_line(
        "ns-train", run.method, "--data", run.folder / "world", "--output-dir", run.folder / "runs",
        "--experiment-name", "world", "--timestamp", run.name, "--machine.device-type", device,
        "--vis", "tensorboard", "--max-num-iterations", steps,
        "--steps-per-eval-image", all_steps, "--steps-per-eval-batch", all_steps,
        "--pipeline.autoencoder", config.edit.model, "--pipeline.datamanager.image-size", config.size,
        "--pipeline.model.near-plane", config.near_plane, "--pipeline.model.max-res", config.max_res,
        "--pipeline.model.num-levels", 5, *decay_flags(all_steps), *flags,
    )  # fmt: skip


def colours_command(run: Run, config: WorldConfig, device: str, steps: int) -> list[str]:
    """Trains a scene of colours for some steps; no view is evaluated on the way."""
    all_steps = steps + config.finish_steps
    decay = [word for name in COLOUR_OPTIMIZERS for word in (f"--optimizers.{name}.scheduler.max-steps", all_steps)]
    return command_line(
        "ns-train", run.method, "--data", run.folder / "world", "--output-dir", run.output_dir,
        "--experiment-name", run.experiment, "--timestamp", run.name, "--machine.device-type", device,
        "--vis", "tensorboard", "--max-num-iterations", steps, "--steps-per-eval-all-images", all_steps,
        "--steps-per-eval-image", all_steps, "--steps-per-eval-batch", all_steps,
        "--pipeline.model.near-plane", config.near_plane, *decay,
    )  # fmt: skip


def decay_flags(steps: int) -> list[object]:
    """Lets every learning rate decay over the whole of a short run."""
    return [word for name in OPTIMIZERS for word in (f"--optimizers.{name}.scheduler.max-steps", steps)]


def edit_flags(config: WorldConfig, prompt: str, base: Run) -> list[object]:
    """What tells ns-train how to edit what another run has reconstructed: every setting, whatever its default there."""
    edit = all_options(replace(config.edit, prompt=prompt), ("pipeline", "edit"))
    return [
        "--load-dir", base.checkpoints,
        *words_of(edit),
        "--pipeline.schedule.steps-per-edit", config.steps_per_edit,
    ]  # fmt: skip
