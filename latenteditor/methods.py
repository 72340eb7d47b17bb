"""Every registered method, and every number in which two of them differ.

Nerfstudio imports this file in every one of its commands, whatever the method. It therefore imports no diffusion
library, and nothing in it can raise.
"""

import numpy as np
import torch
from nerfstudio.configs.base_config import ViewerConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.schedulers import ExponentialDecaySchedulerConfig
from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.plugins.types import MethodSpecification

from latenteditor.nerf.datamanager import LatentDataManagerConfig
from latenteditor.nerf.latent_nerfacto import FusedAdamOptimizerConfig, LatentNerfactoPipelineConfig

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


def _optimizers() -> dict[str, dict[str, object]]:
    """Learning rates and their decay, measured on latents of real captures."""

    def decaying(lr: float, lr_final: float, max_steps: int = 30000) -> dict[str, object]:
        return {
            "optimizer": FusedAdamOptimizerConfig(lr=lr, eps=1e-15),
            "scheduler": ExponentialDecaySchedulerConfig(lr_final=lr_final, max_steps=max_steps),
        }

    return {
        "tables": decaying(1e-1, 1e-3),
        "proposal_networks": decaying(1e-2, 1e-4),
        "fields": decaying(1e-2, 1e-4),
        "adapter": decaying(1e-3, 1e-4),
        "camera_opt": decaying(1e-3, 1e-4, 5000),
    }


latent_nerfacto = MethodSpecification(
    config=TrainerConfig(
        method_name="latent-nerfacto",
        steps_per_save=1000,
        steps_per_eval_batch=500,
        steps_per_eval_image=500,
        steps_per_eval_all_images=25000,
        max_num_iterations=3000,
        mixed_precision=False,
        pipeline=LatentNerfactoPipelineConfig(
            datamanager=LatentDataManagerConfig(dataparser=NerfstudioDataParserConfig()),
        ),
        optimizers=_optimizers(),
        viewer=ViewerConfig(num_rays_per_chunk=1 << 15, websocket_host="127.0.0.1"),
        vis="viewer+tensorboard",
    ),
    description="LatentEditor, step one: reconstructs a scene in the latent space of a diffusion model's autoencoder.",
)
