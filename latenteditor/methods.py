"""Every registered method, and every number in which two of them differ.

Nerfstudio imports this file in every one of its commands, whatever the method. It therefore imports no diffusion
library, and nothing in it can raise.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig
from nerfstudio.plugins.types import MethodSpecification

from latenteditor.editing.editor import EditConfig
from latenteditor.language import prompts
from latenteditor.nerf.datamanager import LatentDataManagerConfig
from latenteditor.nerf.dense_scene import DenseIn2nModelConfig
from latenteditor.nerf.image_datamanager import ImageDataManagerConfig
from latenteditor.nerf.in2n import In2nModelConfig, In2nPipelineConfig
from latenteditor.nerf.latent_model import LatentNerfactoModelConfig
from latenteditor.nerf.latent_nerfacto import FusedAdamOptimizerConfig, LatentNerfactoPipelineConfig
from latenteditor.nerf.latenteditor import LatentEditorPipelineConfig
from latenteditor.nerf.trainer import EditTrainerConfig

try:
    from numpy._core.multiarray import scalar  # type: ignore[attr-defined]
except ImportError:
    from numpy.core.multiarray import scalar  # type: ignore[attr-defined]

# The host's schedulers leave numpy numbers in checkpoints, which torch since 2.6 refuses to read back unasked.
torch.serialization.add_safe_globals(
    [
        (scalar, "numpy._core.multiarray.scalar"),
        (scalar, "numpy.core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.float64)),
    ]
)

# Runs of version 0.1 name this module in their config.yml, and nerfstudio imports the present one first.
sys.modules.setdefault("latenteditor.editing.prompts", prompts)


def _optimizers() -> dict[str, dict[str, object]]:
    """Learning rates and their decay, measured on latents of real captures."""

    def decaying(lr: float, lr_final: float, max_steps: int = 3000) -> dict[str, object]:
        return {
            "optimizer": FusedAdamOptimizerConfig(lr=lr, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=lr_final, max_steps=max_steps),
        }

    return {
        "tables": decaying(1e-1, 1e-2),
        "proposal_networks": decaying(1e-2, 1e-3),
        "fields": decaying(1e-2, 1e-3),
        "adapter": decaying(1e-3, 1e-4),
        "camera_opt": decaying(1e-3, 1e-4, 5000),
    }


def _data() -> LatentDataManagerConfig:
    """Captures in nerfstudio's own format, unless the command names another dataparser."""
    return LatentDataManagerConfig(dataparser=NerfstudioDataParserConfig())


def _trainer(method_name: str, pipeline: VanillaPipelineConfig, max_num_iterations: int) -> EditTrainerConfig:
    """What all methods share: where they report, how often they save and evaluate."""
    return EditTrainerConfig(
        method_name=method_name,
        steps_per_save=1000,
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=25000,
        max_num_iterations=max_num_iterations,
        mixed_precision=False,
        pipeline=pipeline,
        optimizers=_optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host="127.0.0.1"),
        vis="viewer+tensorboard",
    )


def _editing(method_name: str, description: str, autoencoder: str, half_precision: bool) -> MethodSpecification:
    """An editing method. 6,000 steps are a fifth of Instruct-NeRF2NeRF's 30,000; the paper needs 5 to 8 times fewer."""
    pipeline = LatentEditorPipelineConfig(
        datamanager=_data(), autoencoder=autoencoder, edit=EditConfig(half_precision=half_precision)
    )
    return MethodSpecification(_trainer(method_name, pipeline, max_num_iterations=6000), description)


def _in2n(
    method_name: str, description: str, max_num_iterations: int, half_precision: bool, lpips: bool = True
) -> MethodSpecification:
    """A baseline, with every number of Instruct-NeRF2NeRF's own three methods (its commit 2c0d385)."""
    field = {
        "optimizer": AdamOptimizerConfig(lr=1e-2, eps=1e-15),
        "scheduler": ExponentialDecaySchedulerConfig(lr_final=1e-4, max_steps=200000),
    }
    camera = {
        "optimizer": AdamOptimizerConfig(lr=6e-4, eps=1e-8, weight_decay=1e-2),
        "scheduler": ExponentialDecaySchedulerConfig(lr_final=6e-6, max_steps=5000),
    }
    data = ImageDataManagerConfig(dataparser=NerfstudioDataParserConfig())
    model = In2nModelConfig()
    if not lpips:
        # What LPIPS compares are patches, which take four times more rays.
        data.patch_size, data.train_num_rays_per_batch, model.lpips_loss_mult = 1, 4096, 0.0
    pipeline = In2nPipelineConfig(
        datamanager=data, model=model, edit=EditConfig(mask="none", half_precision=half_precision)
    )
    trainer = replace(
        _trainer(method_name, pipeline, max_num_iterations),
        steps_per_save=250,
        steps_per_eval_batch=1000,
        steps_per_eval_image=100,
        mixed_precision=True,
        optimizers={"proposal_networks": field, "fields": dict(field), "camera_opt": camera},
    )
    return MethodSpecification(trainer, description)


latent_nerfacto = MethodSpecification(
    _trainer("latent-nerfacto", LatentNerfactoPipelineConfig(datamanager=_data()), max_num_iterations=3000),
    "LatentEditor, step one: reconstructs a scene in the latent space of a diffusion model's autoencoder.",
)


def _dense_nerfacto() -> EditTrainerConfig:
    """A nerfacto for a CPU: the benchmark's numbers, with which 750 steps came to 26.8 dB on a world of 256 pixels."""
    model = DenseIn2nModelConfig(
        lpips_loss_mult=0.0,
        proposal_net_args_list=LatentNerfactoModelConfig().proposal_net_args_list,
        num_proposal_samples_per_ray=(40,),
        num_proposal_iterations=1,
        num_nerf_samples_per_ray=20,
        num_levels=6,
        max_res=160,
        use_appearance_embedding=False,
        eval_num_rays_per_chunk=4096,
    )
    model.camera_optimizer.mode = "off"
    data = ImageDataManagerConfig(
        dataparser=NerfstudioDataParserConfig(), image_size=None, patch_size=1, train_num_rays_per_batch=1024
    )
    trainer = _trainer("dense-nerfacto", VanillaPipelineConfig(datamanager=data, model=model), max_num_iterations=1500)
    trainer.optimizers = {name: trainer.optimizers[name] for name in ("tables", "proposal_networks", "fields")}
    return trainer


dense_nerfacto = MethodSpecification(
    _dense_nerfacto(), "LatentEditor, the finish: a nerfacto of colours on dense grids, sharp in minutes without a GPU."
)

STABLE_DIFFUSION = "timbrooks/instruct-pix2pix"
"""Its autoencoder is Stable Diffusion's."""
TINY_AUTOENCODER = "madebyollin/taesd"

latenteditor = _editing(
    "latenteditor",
    "LatentEditor: edits a scene by an instruction, in latent space and inside a mask.",
    STABLE_DIFFUSION,
    half_precision=False,
)
latenteditor_small = _editing(
    "latenteditor-small",
    "LatentEditor with a half-precision U-Net: half the memory.",
    STABLE_DIFFUSION,
    half_precision=True,
)
latenteditor_tiny = _editing(
    "latenteditor-tiny",
    "LatentEditor with a half-precision U-Net and the tiny autoencoder TAESD: least memory, fastest to look at.",
    TINY_AUTOENCODER,
    half_precision=True,
)

in2n = _in2n(
    "in2n",
    "Instruct-NeRF2NeRF: edits a scene by an instruction, in pixels, with LPIPS and a full-precision U-Net.",
    max_num_iterations=15000,
    half_precision=False,
)
in2n_small = _in2n(
    "in2n-small",
    "Instruct-NeRF2NeRF with a half-precision U-Net and autoencoder.",
    max_num_iterations=30000,
    half_precision=True,
)
in2n_tiny = _in2n(
    "in2n-tiny",
    "Instruct-NeRF2NeRF with a half-precision U-Net and autoencoder, without LPIPS: least memory.",
    max_num_iterations=30000,
    half_precision=True,
    lpips=False,
)
