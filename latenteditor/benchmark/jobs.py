"""What a run of the benchmark is asked, and what all of them do alike."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackLocation
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from torch import Tensor

from latenteditor.benchmark.oracle_edit import install_oracle
from latenteditor.benchmark.settings import RECONSTRUCTED, BenchmarkConfig, MethodName, Representation
from latenteditor.benchmark.stopwatch import Stopwatch
from latenteditor.pictures import to_picture, write_picture
from latenteditor.worlds.oracle import OracleConfig

PICTURE = "held-out.png"
"""The held-out views as a run leaves them."""


@dataclass(frozen=True)
class Job:
    """One run."""

    world: Path
    """The dataset's folder."""
    device: str
    """Any device nerfstudio knows."""
    settings: BenchmarkConfig
    """Sizes and options, the same for all runs."""
    reconstruct: Representation | None = None
    """The scene to learn, if that is what to do."""
    method: MethodName | None = None
    """The method that edits, if that is what to do."""
    prompt: str = ""
    """The instruction."""
    base: Path | None = None
    """The folder of the run that learnt the scene, if one is edited."""
    latents: Path | None = None
    """The folder of the run that learnt it in latents, if those are edited and the scene in `base` is finished."""
    oracle: OracleConfig | None = None
    """How far the views of the edit disagree, if one who knows the world edits them and no network."""
    budget_seconds: float | None = None
    """When to end the reconstruction; None ends it after its steps."""

    @property
    def request(self) -> dict[str, Any]:
        """It in what JSON knows, but for where it is: what must be the same for its result to stand."""
        content = {**asdict(self), "world": self.world.parent.name, "base": self.base and self.base.name}
        content["latents"] = self.latents and self.latents.name
        if self.oracle is None:
            del content["oracle"]  # Results from before there was one still stand.
        return json.loads(json.dumps(content, default=str))


def checkpoints(folder: Path, representation: Representation) -> Path:
    """Where a reconstruction's run leaves its scene."""
    method = "latent-nerfacto" if representation == "latents" else "dense-nerfacto"
    return folder / "runs/world" / method / RECONSTRUCTED / "nerfstudio_models"


def set_up(config: TrainerConfig) -> Trainer:
    """A trainer as ns-train makes it, before its first step."""
    config.save_config()
    trainer: Any = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def set_up_edit(job: Job, config: TrainerConfig) -> Trainer:
    """A trainer before its first step, whose views the editor of a job is going to edit."""
    trainer = set_up(config)
    if job.oracle is not None:
        pipeline: Any = trainer.pipeline
        install_oracle(pipeline, job.world, job.oracle)
    return trainer


def call_after_steps(trainer: Trainer, after_step: Any) -> None:
    """Lets something be called after each training step, as the last of the trainer's callbacks."""
    trainer.callbacks.append(TrainingCallback([TrainingCallbackLocation.AFTER_TRAIN_ITERATION], after_step))


def costs(watch: Stopwatch) -> dict[str, float]:
    """What a watch has counted."""
    return {
        "seconds": watch.seconds,
        "cpu_seconds": watch.cpu_seconds,
        "rays": watch.rays,
        "peak_memory_mib": watch.peak_memory,
        "peak_gpu_memory_mib": watch.peak_gpu_memory,
    }


def write_row(file: Path, images: Float[Tensor, "views 3 height width"]) -> None:
    """A picture of views side by side."""
    write_picture(file, to_picture(torch.cat(list(images), dim=2)))
