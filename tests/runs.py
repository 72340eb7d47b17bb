"""Small runs of the registered methods, from a world of few pixels to a folder with checkpoints."""

import copy
from pathlib import Path
from typing import Any

import torch
from nerfstudio.engine.trainer import Trainer

from latenteditor import methods
from latenteditor.nerf.trainer import EditTrainerConfig
from latenteditor.options import set_options

PROMPT = "make the cone blue"
SIZE = 32
"""Pixels of either side of a view of the world: 4 x 4 latents."""


def run_config(
    specification: Any, data: Path, model: Path, output: Path, max_num_iterations: int, **options: Any
) -> EditTrainerConfig:
    """A method's config, small, on a CPU, and with other options by their dotted names."""
    config = copy.deepcopy(specification.config)
    small = {
        "data": data,
        "pipeline.datamanager.data": data,
        "output_dir": output,
        "experiment_name": "world",
        "timestamp": "now",
        "max_num_iterations": max_num_iterations,
        "vis": "tensorboard",
        "machine.device_type": "cpu",
        "pipeline.datamanager.image_size": SIZE,
        "pipeline.datamanager.train_num_rays_per_batch": 64,
        "pipeline.datamanager.eval_num_rays_per_batch": 64,
        "pipeline.model.num_levels": 2,
        "pipeline.model.max_res": 24,
        "pipeline.model.hidden_dim": 16,
    }
    if config.method_name.startswith("in2n"):
        small |= {
            "pipeline.datamanager.patch_size": 8,
            "pipeline.model.lpips_loss_mult": 0.0,
            "pipeline.model.implementation": "torch",
            "pipeline.model.log2_hashmap_size": 10,
            "pipeline.model.num_proposal_samples_per_ray": (12, 8),
            "pipeline.model.num_nerf_samples_per_ray": 8,
            "pipeline.model.proposal_net_args_list": [
                {"hidden_dim": 8, "log2_hashmap_size": 8, "num_levels": 2, "max_res": 24, "use_linear": False}
            ],
        }
    else:
        small |= {
            "pipeline.autoencoder": str(model),
            "pipeline.model.adapter_width": 16,
            "pipeline.model.adapter_heads": 2,
        }
    if config.method_name != "latent-nerfacto":
        small |= {
            "pipeline.edit.prompt": PROMPT,
            "pipeline.edit.model": str(model),
            "pipeline.edit.half_precision": False,
            "pipeline.edit.denoising_steps": 2,
            "pipeline.edit.delta_mask.draws": 1,
            "pipeline.edit.delta_mask.gate": 0.0,
            "pipeline.schedule.steps_per_edit": 2,
        }
    set_options(config, small | options)
    return config


def reconstruction(data: Path, model: Path, output: Path, steps: int, **options: Any) -> EditTrainerConfig:
    """A run of latent-nerfacto."""
    return run_config(methods.latent_nerfacto, data, model, output, steps, **options)


def edit(data: Path, model: Path, output: Path, steps: int, **options: Any) -> EditTrainerConfig:
    """A run of latenteditor, which edits every second step from the fourth on."""
    options = {"pipeline.reconstruction_steps": 4} | options
    return run_config(methods.latenteditor, data, model, output, steps, **options)


def in2n(data: Path, model: Path, output: Path, steps: int, **options: Any) -> EditTrainerConfig:
    """A run of in2n without LPIPS, which edits every second step from the fourth on."""
    options = {"pipeline.reconstruction_steps": 4} | options
    return run_config(methods.in2n, data, model, output, steps, **options)


def set_up(config: EditTrainerConfig) -> Trainer:
    """A trainer as ns-train makes it, before its first step."""
    torch.manual_seed(0)
    config.save_config()
    trainer: Any = config.setup(local_rank=0, world_size=1)
    trainer.setup()
    return trainer


def train(config: EditTrainerConfig) -> Trainer:
    """A trainer after its last step."""
    trainer = set_up(config)
    trainer.train()
    return trainer


def checkpoints(config: EditTrainerConfig) -> Path:
    """The folder that --load-dir takes."""
    return config.get_checkpoint_dir()
