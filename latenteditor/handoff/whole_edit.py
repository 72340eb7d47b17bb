"""From photographs to a sharp edited scene: every command in its order, each in a process of its own.

A whole edit has a folder::

    report.html        what came of it, in one file
    edited.mp4         a flight through the finished scene
    runs/              the unedited scene in latents and in colours, and the edit of the first
    finished/dataset/  the edited photographs
    finished/          and the run that was learnt from them
    pictures/          held-out views before and after
    logs/, seconds.json, memory.json, prompt.txt
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from latenteditor.black_box.settings import BlackBoxConfig
from latenteditor.black_box.settings import require_usable as require_usable_black_box
from latenteditor.devices import is_cuda
from latenteditor.editing.delta_mask import require_usable
from latenteditor.editing.editor import EditConfig
from latenteditor.handoff.finish import CHECKPOINTS, DATASET, DENSE, NAME, SPLATS, read_config, read_run_folder
from latenteditor.handoff.write import SETTLE_NOISE
from latenteditor.networks.autoencoder import read_autoencoder_config
from latenteditor.networks.black_boxes import is_black_box, require_black_box
from latenteditor.networks.editors import load_noise_schedule
from latenteditor.options import Option, all_options, words_of
from latenteditor.runs import Run, command_line

SCENE, FINISHED, LATENTS, EDITING = "scene", "finished", "latent-nerfacto", "latenteditor"
SECONDS, MEMORY, LOGS, PICTURES, VIDEO, REPORT = (
    "seconds.json", "memory.json", "logs", "pictures", "edited.mp4", "report.html",
)  # fmt: skip
NEVER = 1 << 30
"""Steps between evaluations that nobody looks at."""
STEPS_PER_SAVE = 200
"""Steps that a killed process may lose."""


@dataclass
class WholeEditConfig:
    """What is done to a capture."""

    edit: EditConfig = field(default_factory=EditConfig)
    """The edit, as in --pipeline.edit of ns-train. With --edit.model miniature, the defaults are those that suit the
    built-in editor. Its prompt is --prompt."""
    autoencoder: str | None = None
    """Hub id or local folder of the autoencoder of the scene of latents; None is that of --edit.model."""
    image_size: int | None = 512
    """Pixels along the long side of a photograph when it is edited; None keeps its own. The edited photographs and the
    finished scene have the native size in any case. InstructPix2Pix edits best at 512."""
    dataparser: str = "nerfstudio-data"
    """The format of the capture, as ns-train names its dataparsers: nerfstudio-data, colmap, instant-ngp-data, ..."""
    reconstruction_steps: int = 3000
    """Training steps of the unedited scene of latents. As many as latent-nerfacto trains."""
    base_steps: int | None = None
    """Training steps of the unedited scene of colours; None takes the method's own number."""
    edit_steps: int = 1000
    """Training steps in which views are edited."""
    steps_per_edit: int = 10
    """Training steps from one edited view to the next. From Instruct-NeRF2NeRF."""
    finish_steps: int | None = None
    """Training steps of the finish, see `latenteditor finish`."""
    black_box: BlackBoxConfig = field(default_factory=BlackBoxConfig)
    """How an --edit.model is used that is a function `package.module:function`, the address of an OpenAI-compatible
    server, or a pipeline that edits whole pictures. No scene of latents is made then."""
    settle_noise: float = SETTLE_NOISE
    """What each photograph is edited from, see `latenteditor write-dataset`."""
    views: int | None = None
    """How many training views are edited for the finish, see `latenteditor write-dataset`."""
    near_plane: float | None = None
    """Distance from a camera within which there is nothing, in the units of the scene; None takes each method's own."""
    num_pictures: int = 4
    """Held-out views in the report, at most."""
    picture_size: int = 512
    """Pixels along the long side of those, and of the video."""
    video_frames: int = 48
    """Frames of the video, at most; 0 makes none."""


@dataclass(frozen=True)
class WholeEdit:
    """A capture, and where everything that is made of it lies."""

    data: Path
    """The capture, absolute."""
    folder: Path
    """The folder of everything, absolute."""
    prompt: str
    """What to change."""
    method: str
    """The method that finishes."""
    config: WholeEditConfig
    """How."""
    device: str
    """Any device nerfstudio knows."""
    base: Path | None = None
    """The config.yml of an unedited run of the method, if there is one."""
    reconstruction: Path | None = None
    """That of an unedited run of latent-nerfacto, if there is one."""

    @property
    def by_black_box(self) -> bool:
        """Whether photographs are edited as whole pictures, without a scene of latents."""
        return is_black_box(self.config.edit.model)

    @property
    def geometry(self) -> str:
        """The method of the unedited scene of colours on which views agree about a black box's changes."""
        return DENSE if self.method.startswith(SPLATS) else self.method

    @property
    def edited_config(self) -> Path:
        """The config.yml of the run that the dataset is written from."""
        if not self.by_black_box:
            return self.run(EDITING).config
        return self.run(self.geometry).config if self.base is None else self.base

    @property
    def needs_base(self) -> bool:
        """Whether the unedited scene of colours has to be learnt first.

        Splats are learnt from the edited photographs alone: where they lie is settled early, and not unlearnt.
        """
        return self.base is None and not self.method.startswith(SPLATS)

    @property
    def base_config(self) -> Path | None:
        """The config.yml of the unedited scene of colours; None where there is none."""
        if self.by_black_box and self.method.startswith(SPLATS):
            return None  # Its scene of colours is for views to agree on.
        return self.run(self.method).config if self.needs_base else self.base

    @property
    def latents(self) -> Path:
        """The checkpoints of the unedited scene of latents."""
        if self.reconstruction is None:
            return self.run(LATENTS).checkpoints
        return read_run_folder(self.reconstruction) / CHECKPOINTS

    @property
    def finished(self) -> Path:
        """The config.yml of the finished scene."""
        return self.folder / FINISHED / self.method / NAME / "config.yml"

    @property
    def dataset(self) -> Path:
        """The folder of the edited photographs."""
        return self.folder / FINISHED / DATASET

    def run(self, method: str) -> Run:
        """A run of a method in this folder."""
        return Run(self.folder, method, experiment=SCENE)


def base_steps(whole: WholeEdit, method: str) -> int:
    """Training steps of the unedited scene of colours."""
    from nerfstudio.configs.method_configs import all_methods

    return whole.config.base_steps or all_methods[method].max_num_iterations


def train_command(whole: WholeEdit, method: str, *words: object) -> list[str]:
    """Trains a run in the folder, by ns-train."""
    config = whole.config
    near = [] if config.near_plane is None else ["--pipeline.model.near-plane", config.near_plane]
    parser = [] if config.dataparser == "nerfstudio-data" else [config.dataparser]
    return command_line(
        "ns-train", method, "--data", whole.data, "--output-dir", whole.run(method).output_dir,
        "--experiment-name", SCENE, "--timestamp", whole.run(method).name, "--machine.device-type", whole.device,
        "--vis", "tensorboard", "--steps-per-save", STEPS_PER_SAVE, "--steps-per-eval-image", NEVER,
        "--steps-per-eval-batch", NEVER, "--steps-per-eval-all-images", NEVER, *near, *words, *parser,
    )  # fmt: skip


def latent_words(whole: WholeEdit) -> list[str]:
    """What scenes of latents share."""
    config = whole.config
    return command_line(
        "--pipeline.autoencoder", config.autoencoder or config.edit.model,
        "--pipeline.datamanager.image-size", config.image_size,
    )  # fmt: skip


def edit_command(whole: WholeEdit, *words: object) -> list[str]:
    """Edits the scene of latents; `words` say from where, and for how long."""
    edit = all_options(replace(whole.config.edit, prompt=whole.prompt), ("pipeline", "edit"))
    every = ("--pipeline.schedule.steps-per-edit", whole.config.steps_per_edit)
    return train_command(whole, EDITING, *latent_words(whole), *words_of(edit), *every, *words)


def pictures_command(whole: WholeEdit) -> list[str]:
    """Writes the photographs as a black box edits them."""
    edit = all_options(replace(whole.config.edit, prompt=whole.prompt), ("edit",))
    black_box = all_options(whole.config.black_box, ("black_box",))
    switches = [word for option in (*edit, *black_box) for word in _tyro_words(option)]
    return command_line(
        "latenteditor", "edit-photographs", "--load-config", whole.edited_config, "--output-dir", whole.dataset,
        "--image-size", whole.config.image_size, *switches,
    )  # fmt: skip


def _tyro_words(option: Option) -> list[str]:
    """An option on a command line of this package, where booleans are switches."""
    name = option.dotted.replace("_", "-")
    if isinstance(option.value, bool):
        *owners, last = name.split(".")
        return ["--" + ".".join([*owners, last if option.value else f"no-{last}"])]
    return option.words


def dataset_command(whole: WholeEdit) -> list[str]:
    """Writes the edited photographs."""
    if whole.by_black_box:
        return pictures_command(whole)
    return command_line(
        "latenteditor", "write-dataset", "--load-config", whole.run(EDITING).config, "--output-dir", whole.dataset,
        "--settle-noise", whole.config.settle_noise, "--views", whole.config.views,
    )  # fmt: skip


def finish_command(whole: WholeEdit) -> list[str]:
    """Learns the finished scene from them."""
    base = [] if whole.base_config is None else ["--base", whole.base_config]
    steps = [] if whole.config.finish_steps is None else ["--steps", whole.config.finish_steps]
    return command_line(
        "latenteditor", "finish", "--load-config", whole.edited_config, "--output-dir", whole.folder / FINISHED,
        "--method", whole.method, "--device", whole.device, *base, *steps,
    )  # fmt: skip


def require_whole(whole: WholeEdit) -> None:
    """Refuses what would fail after hours.

    Raises:
        ValueError: There is no such capture, method, editor or run, or nothing is asked for.
    """
    from nerfstudio.configs.method_configs import all_methods

    if not whole.data.exists():
        raise ValueError(f"There is no capture {whole.data}: pass a folder that ns-process-data wrote.")
    if not whole.prompt.strip():
        raise ValueError('There is no prompt: say what to change, as in --prompt "make the sphere red".')
    if whole.method not in all_methods:
        raise ValueError(f"There is no method {whole.method!r}: ns-train --help lists those that there are.")
    if whole.method.startswith(SPLATS) and not is_cuda(whole.device):
        raise ValueError(
            f"{whole.method} needs CUDA, and the device is {whole.device}: finish with --method {DENSE} here, or write "
            "the edited photographs with `latenteditor write-dataset` and train it on them on a machine with a GPU."
        )
    edit = whole.config.edit
    if whole.by_black_box:
        require_usable_black_box(whole.config.black_box)
        require_black_box(edit.model, whole.config.black_box.endpoint)
    else:
        read_autoencoder_config(whole.config.autoencoder or edit.model)
        load_noise_schedule(edit.model)
        require_usable(edit.delta_mask)
    of_base = whole.geometry if whole.by_black_box else whole.method
    for config, method in ((whole.base, of_base), (whole.reconstruction, LATENTS)):
        if config is None:
            continue
        found = read_config(config).method_name
        read_run_folder(config)
        if found != method:
            raise ValueError(f"The run of {config} is one of {found}, and one of {method} is needed.")


def note_memory(whole: WholeEdit, stage: str, held: int) -> None:
    """Writes down how many bytes a stage held."""
    file = whole.folder / MEMORY
    known = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**known, stage: held}, indent=2) + "\n")
