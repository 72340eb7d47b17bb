"""The pipeline of a latent scene: one autoencoder for data and model, and checkpoints that fit it or are refused."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor, nn

from latenteditor.nerf.capture import require_capture
from latenteditor.nerf.datamanager import LatentDataManager, LatentDataManagerConfig
from latenteditor.nerf.latent_model import LatentNerfactoModel, LatentNerfactoModelConfig
from latenteditor.nerf.option_ranges import require_consistent, require_in_range
from latenteditor.networks.autoencoder import load_autoencoder


@dataclass
class FusedAdamOptimizerConfig(AdamOptimizerConfig):
    """Adam in one pass over the parameters, which dense grids on a CPU notice."""

    fused: bool = True
    """Use torch's fused implementation."""


@dataclass
class LatentNerfactoPipelineConfig(VanillaPipelineConfig):
    """A latent scene with its autoencoder."""

    _target: type = field(default_factory=lambda: LatentNerfactoPipeline)
    datamanager: LatentDataManagerConfig = field(default_factory=LatentDataManagerConfig)
    """Options of the data."""
    model: LatentNerfactoModelConfig = field(default_factory=LatentNerfactoModelConfig)
    """Options of the scene."""
    autoencoder: str = "timbrooks/instruct-pix2pix"
    """Hub id or local folder of an autoencoder, or of a pipeline that has one; "miniature" for the built-in
    one. A local folder may also hold an encoder's and a decoder's state dict in TAESD's layout, such as
    taef2_encoder.pth and taef2_decoder.pth. The default is Stable Diffusion's, as in the paper;
    madebyollin/taesd is its small stand-in, ten times faster."""
    half_precision: bool = False
    """Run the autoencoder in half precision. Off: encoding happens once, and precision is lost for good."""


class LatentNerfactoPipeline(VanillaPipeline):
    """Owns the one autoencoder and lends it to data manager and model, which neither train nor save it."""

    config: LatentNerfactoPipelineConfig
    datamanager: LatentDataManager

    def __init__(
        self,
        config: LatentNerfactoPipelineConfig,
        device: str | torch.device,
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        grad_scaler: Any = None,
    ) -> None:
        """Sets up data and model around the autoencoder; the arguments are the host's.

        Raises:
            ValueError: An option lies outside its range or contradicts another, or the capture cannot be used.
        """
        _check(config)
        super(VanillaPipeline, self).__init__()
        self.config = config
        self.test_mode = test_mode
        self.world_size = world_size
        self.autoencoder = load_autoencoder(config.autoencoder, device, config.half_precision)
        self.datamanager = config.datamanager.setup(
            device=device,
            test_mode=test_mode,
            world_size=world_size,
            local_rank=local_rank,
            autoencoder=self.autoencoder,
        )
        self.datamanager.to(device)
        self._model = config.model.setup(
            scene_box=self.datamanager.train_dataset.scene_box,
            num_train_data=len(self.datamanager.train_dataset),
            metadata=self.datamanager.train_dataset.metadata,
            device=device,
            grad_scaler=grad_scaler,
            autoencoder=self.autoencoder,
        )
        self.model.to(device)
        if world_size > 1:
            self._model = _in_parallel(self.latent_model, device, local_rank)

    @property
    def latent_model(self) -> LatentNerfactoModel:
        """The model under its own type."""
        model: Any = self.model
        return model

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
        """Returns outputs, losses and metrics of one step: random rays, and a whole view if due."""
        ray_bundle, batch = self.datamanager.next_train(step)
        outputs = self._model(ray_bundle, view=batch.get("view"))
        metrics = self.model.get_metrics_dict(outputs, batch)
        return outputs, self.model.get_loss_dict(outputs, batch, metrics), metrics

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Prepares the data for training, and tells a new model the statistics of its latents."""
        callbacks = super().get_training_callbacks(training_callback_attributes)
        if not self.latent_model.knows_latents:
            self.latent_model.set_statistics(self.datamanager.statistics())
        return callbacks

    def load_pipeline(self, loaded_state: dict[str, Any], step: int) -> None:
        """Loads a checkpoint.

        Raises:
            ValueError: If it is not that of a latent scene with the same autoencoder and sizes.
        """
        state = {key.removeprefix("module."): value for key, value in loaded_state.items()}
        _check_state(state, self.state_dict(), self.autoencoder.channels, step)
        self.model.update_to_step(step)
        self.load_state_dict(state)


def _check(config: LatentNerfactoPipelineConfig) -> None:
    """Refuses what nothing can be built from, before a network is fetched."""
    require_in_range(config, ["pipeline"])
    require_consistent(config)
    require_capture(config.datamanager.dataparser, config.datamanager.data)


def _in_parallel(model: nn.Module, device: str | torch.device, local_rank: int) -> Any:
    """A model whose gradients are the mean of all processes'."""
    on_cpu = torch.device(device).type == "cpu"
    return nn.parallel.DistributedDataParallel(
        model, device_ids=None if on_cpu else [local_rank], find_unused_parameters=True
    )


def _check_state(loaded: Mapping[str, Any], own: Mapping[str, Any], channels: int, step: int) -> None:
    known = loaded.get("_model.latent_mean", loaded.get("_model.module.latent_mean"))
    if known is None:
        raise ValueError(
            f"The checkpoint of step {step} holds no latent scene: train a latent-nerfacto run first and load that."
        )
    if len(known) != channels:
        raise ValueError(
            f"The checkpoint of step {step} holds latents of {len(known)} channels, but the autoencoder has "
            f"{channels}: pass the autoencoder with which the scene was trained."
        )
    require_same_sizes(loaded, own, step)


def require_same_sizes(loaded: Mapping[str, Any], own: Mapping[str, Any], step: int) -> None:
    """Refuses the state of a model that was built with other options.

    Raises:
        ValueError: If a tensor of `loaded` has another size in `own`.
    """
    differing = [
        f"{name} ({_sizes(value)} instead of {_sizes(own[name])})"
        for name, value in loaded.items()
        if isinstance(value, Tensor) and name in own and value.shape != own[name].shape
    ]
    if differing:
        raise ValueError(
            f"The checkpoint of step {step} was trained with other model options, as {differing[0]} shows: "
            f"pass the options with which it was trained."
        )


def _sizes(value: Tensor) -> str:
    return "x".join(str(size) for size in value.shape) or "a number"
