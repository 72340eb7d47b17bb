"""The ns-train commands that reconstruct and edit a built-in world."""

from dataclasses import dataclass, field, replace

from latenteditor.editing.editor import EditConfig
from latenteditor.miniature.settings import EDIT
from latenteditor.options import all_options, words_of
from latenteditor.runs import Run, command_line

OPTIMIZERS = ("tables", "proposal-networks", "fields", "adapter")
"""Groups of parameters with a learning rate of their own."""


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
    near_plane: float = 0.3
    """Nothing in these worlds is nearer to a camera, in the units of nerfstudio's rescaled poses."""
    max_res: int = 96
    """Cells along each side of the field's finest grid."""
    edit: EditConfig = field(default_factory=lambda: EDIT)
    """How views are edited; the default is what suits the built-in editor."""


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
