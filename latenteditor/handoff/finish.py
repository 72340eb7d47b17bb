"""The finish: a scene of colours, learnt from edited photographs by any method that nerfstudio knows.

What comes of it is a run of that method as any other, for ns-viewer, ns-render and ns-export. Where an unedited run of
the method is given the finish starts from it: nearly everything is right then, and only the region is learnt anew.
"""

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig

from latenteditor.devices import is_cuda
from latenteditor.handoff.dataset import EDIT
from latenteditor.handoff.region_rays import RegionRays, train_on_region
from latenteditor.handoff.transforms import as_written
from latenteditor.nerf.checkpoints import checkpoint_paths, step_of

DENSE = "dense-nerfacto"
"""The method for a machine without a GPU."""
SPLATS = "splatfacto"
DATASET, NAME, CHECKPOINTS = "dataset", "run", "nerfstudio_models"
STEPS_FROM_BASE = 300
"""Training steps from an unedited run of the method. Measured by us: see docs/measurements.md."""
OF_THE_CAPTURE = ("near_plane", "far_plane")
"""What of a scene's options belongs to the capture, whatever the method."""
OF_THE_PARSER = (
    "orientation_method", "center_method", "auto_scale_poses", "scale_factor", "scene_scale", "downscale_factor",
    "eval_mode", "train_split_fraction", "eval_interval",
)  # fmt: skip
"""What of a dataparser decides where its cameras stand."""


@dataclass(frozen=True)
class Finish:
    """Which scene is learnt from which dataset."""

    dataset: Path
    """The folder of an edited dataset in nerfstudio's format."""
    edited: Path
    """The config.yml of the run that it was written from."""
    output: Path
    """The folder of everything."""
    method: str
    """The registered method that learns it."""
    base: Path | None = None
    """The config.yml of an unedited run of the method; None learns everything from the photographs."""
    steps: int | None = None
    """Training steps; None takes `STEPS_FROM_BASE`, and without a base the method's own."""
    device: str = "cpu"
    """Any device nerfstudio knows."""

    @property
    def run(self) -> Path:
        """The folder of the run that comes of it."""
        return self.output / self.method / NAME


def default_method(device: str) -> str:
    """What suits a device: splats where there is CUDA, dense grids elsewhere."""
    return SPLATS if is_cuda(device) else DENSE


def finish_config(finish: Finish) -> TrainerConfig:
    """The settings of the finish's run, as ns-train would have them.

    Raises:
        ValueError: There is no such method, or the base is not of it.
    """
    config = _settings(finish)
    edited = read_config(finish.edited)
    data: Any = config.pipeline.datamanager
    data.data = finish.dataset
    data.dataparser = _dataparser(data.dataparser, edited.pipeline.datamanager.dataparser)  # type: ignore[attr-defined]
    data.dataparser.data = finish.dataset
    config.data = finish.dataset
    if finish.base is None:
        _take(config.pipeline.model, edited.pipeline.model, OF_THE_CAPTURE)
    config.output_dir, config.experiment_name = finish.output.parent, finish.output.name
    config.timestamp = NAME
    config.method_name = finish.method
    config.machine.device_type = finish.device  # type: ignore[assignment]
    steps = finish.steps or (None if finish.base is None else STEPS_FROM_BASE)
    config.max_num_iterations = steps or config.max_num_iterations
    config.load_dir, config.load_checkpoint, config.load_step, config.load_config = None, None, None, None
    if finish.base is not None:
        config.load_dir = read_run_folder(finish.base) / CHECKPOINTS
    config.steps_per_save = config.max_num_iterations
    config.steps_per_eval_image = config.steps_per_eval_batch = config.steps_per_eval_all_images = 1 << 30
    config.vis = "tensorboard"
    return config


def set_up_finish(finish: Finish) -> Trainer:
    """A trainer before its first step; rays come from the region where that pays."""
    config = finish_config(finish)
    reached, last = newest_step(finish.run), last_step(finish)
    if reached is not None:  # An interrupted one goes on.
        config.load_dir = finish.run / CHECKPOINTS
        config.max_num_iterations = last - reached
    config.save_config()
    trainer: Any = config.setup(local_rank=0, world_size=1)
    trainer.takes_other_photographs = True
    trainer.setup()
    datamanager = trainer.pipeline.datamanager
    if hasattr(datamanager, "train_ray_generator") or hasattr(datamanager, "train_pixel_sampler"):
        start = trainer._start_step
        train_on_region(RegionRays(datamanager, finish.dataset, start, config.max_num_iterations), datamanager)
    return trainer


def is_finished(finish: Finish) -> bool:
    """Whether the run of a finish is there, to its end."""
    reached = newest_step(finish.run)
    return reached is not None and reached >= last_step(finish)


def last_step(finish: Finish) -> int:
    """The step that a finish ends with; steps are counted on from those of the base."""
    first = 0 if finish.base is None else (newest_step(read_run_folder(finish.base)) or 0) + 1
    return first + finish_config(finish).max_num_iterations - 1


def newest_step(run: Path) -> int | None:
    """The step of a run's newest checkpoint; None where there is none."""
    return max(map(step_of, checkpoint_paths(run / CHECKPOINTS)), default=None)


def read_config(file: Path) -> TrainerConfig:
    """A run's settings.

    Raises:
        ValueError: There are none.
    """
    if not file.is_file():
        raise ValueError(f"There is no run's config {file}: pass the config.yml that ns-train wrote.")
    try:
        config = yaml.load(file.read_text(), Loader=yaml.Loader)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} holds no settings of a run: pass the config.yml that ns-train wrote.") from error
    if not isinstance(config, TrainerConfig):
        raise ValueError(f"{file} holds no settings of a run: pass the config.yml that ns-train wrote.")
    return config


def read_run_folder(config: Path) -> Path:
    """The folder of a run with a checkpoint.

    Raises:
        ValueError: It has none.
    """
    folder = config.parent
    if newest_step(folder) is None:
        raise ValueError(f"The run of {config} has no checkpoint: let it train to its end, or pass another --base.")
    return folder.absolute()


def _settings(finish: Finish) -> TrainerConfig:
    """Those of the base, else the method's own."""
    from nerfstudio.configs.method_configs import all_methods

    if finish.method not in all_methods:
        raise ValueError(f"There is no method {finish.method!r}: ns-train --help lists those that there are.")
    if finish.base is None:
        return copy.deepcopy(all_methods[finish.method])
    config = read_config(finish.base)
    if config.method_name != finish.method:
        raise ValueError(
            f"The run of {finish.base} is one of {config.method_name}, and the finish is by {finish.method}: pass "
            f"--method {config.method_name}, or a base of {finish.method}."
        )
    return config


def require_device(finish: Finish) -> None:
    """Refuses what needs a GPU where there is none, and says what to type where there is one.

    Raises:
        ValueError: The method rasterises by CUDA, and the finish is to be made elsewhere.
    """
    if is_cuda(finish.device) or not _needs_cuda(finish_config(finish)):
        return
    raise ValueError(
        f"{finish.method} needs CUDA, and the device is {finish.device}: copy the edited photographs, which are in "
        f"{finish.dataset}, to a machine with a GPU and run `ns-train {finish.method} --data {finish.dataset.name}` "
        f"there, or finish here with --method {DENSE}."
    )


def _needs_cuda(config: TrainerConfig) -> bool:
    """Whether a method rasterises with gsplat."""
    from nerfstudio.models.splatfacto import SplatfactoModelConfig

    return isinstance(config.pipeline.model, SplatfactoModelConfig)


def _dataparser(own: Any, of_edited: Any) -> Any:
    """A dataparser that puts the dataset's cameras where those of the edited run stand."""
    found = copy.deepcopy(own) if isinstance(own, NerfstudioDataParserConfig) else NerfstudioDataParserConfig()
    if isinstance(of_edited, NerfstudioDataParserConfig):
        _take(found, of_edited, OF_THE_PARSER)
    else:
        _take(found, as_written(), OF_THE_PARSER)
        _take(found, of_edited, ("scene_scale",))
    found.downscale_factor = 1  # Photographs were written at their native size alone.
    return found


def _take(target: Any, source: Any, names: Sequence[str]) -> None:
    """Takes those options that both have."""
    for name in names:
        if hasattr(target, name) and hasattr(source, name):
            setattr(target, name, copy.deepcopy(getattr(source, name)))


def require_same_edit(dataset: Path, edited: Path) -> None:
    """Refuses to go on with a dataset that was written from another run.

    Raises:
        ValueError: It was, or is no dataset of an edit.
    """
    note = dataset / EDIT
    found = json.loads(note.read_text()) if note.is_file() else {}
    if os.path.realpath(found.get("run", "")) != os.path.realpath(edited):
        raise ValueError(
            f"{dataset} was written from {found.get('run', 'something else')}, not from {edited}: choose another "
            "--output-dir."
        )
