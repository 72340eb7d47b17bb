"""SDXL's InstructPix2Pix and CosXL-Edit as denoisers: two text encoders, a U-Net that is told sizes, its schedule.

CosXL-Edit is the same network under sigmas in the way of EDM, which its scheduler shows, and takes the image scaled.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.denoiser import EMPTY_PROMPT, Conditions
from latenteditor.editing.noise_schedule import DiffusionSchedule, SigmaSchedule, Timestep, sigma_schedule
from latenteditor.networks import instruct_pix2pix
from latenteditor.networks.models import read_model_file
from latenteditor.networks.parts import (
    LatentScale,
    load_part,
    place,
    precision,
    read_latent_scale,
    require_file,
    require_latent_channels,
    token_ids,
    unscale,
)

KIND = "SDXL InstructPix2Pix"
EDM = "EDMEulerScheduler"
"""The scheduler by which CosXL-Edit is known."""


class Reading(NamedTuple):
    """What the text encoders make of a prompt."""

    words: Float[Tensor, "tokens width"]
    """The last hidden states but one of both, side by side."""
    pooled: Float[Tensor, " pooled_width"]
    """One vector for the whole prompt."""


class TextEncoders(NamedTuple):
    """Two text encoders with a tokenizer each."""

    tokenizers: tuple[Any, Any]
    """What makes ids of words."""
    networks: tuple[nn.Module, nn.Module]
    """What makes vectors of ids; the second makes the pooled one too."""

    def read(self, prompt: str, device: torch.device) -> Reading:
        """What they make of a prompt.

        Raises:
            ValueError: The prompt is longer than they can read.
        """
        hidden, pooled = [], []
        for tokenizer, network in zip(self.tokenizers, self.networks, strict=True):
            made = network(token_ids(tokenizer, network, prompt).to(device), output_hidden_states=True)
            hidden.append(made.hidden_states[-2][0])
            pooled.append(made[0][0])
        return Reading(torch.cat(hidden, dim=-1), pooled[-1])


class InstructPix2PixXL:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

    conditions = Conditions(extras=("sizes", "pooled text"), usual_guidance=5.0)

    def __init__(
        self,
        text_encoders: TextEncoders,
        unet: nn.Module,
        noise_schedule: DiffusionSchedule,
        latent_scale: LatentScale,
        factor: int,
        empty_is_zero: bool = True,
        device: torch.device | str | None = None,
    ) -> None:
        """Freezes the networks.

        Args:
            text_encoders: They read the prompt.
            unet: It predicts.
            noise_schedule: What it was trained on.
            latent_scale: How the image condition is unscaled; the identity for networks that take it scaled.
            factor: Pixels along each side of a latent cell, of which follow the sizes that the U-Net is told.
            empty_is_zero: Whether the empty prompt is zeros rather than what the text encoders make of "".
            device: Where they compute; None is where the U-Net lies.
        """
        self.noise_schedule = noise_schedule
        self.latent_scale = latent_scale
        self.factor = factor
        self.device = torch.device(device if device is not None else next(unet.parameters()).device)
        self._text_encoders = text_encoders
        for network in (*text_encoders.networks, unet):
            network.eval().requires_grad_(False)
        self._unet = unet
        self._empty_is_zero = empty_is_zero
        self._readings: dict[str, Reading] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the U-Net computes; predictions come out in that of the latents."""
        return next(self._unet.parameters()).dtype

    def require_channels(self, channels: int) -> None:
        """Refuses latents of an autoencoder other than its own, as far as the number of channels tells.

        Raises:
            ValueError: If the U-Net edits latents with another number of channels.
        """
        config: Any = self._unet.config
        require_latent_channels(channels, config.out_channels, KIND)

    @torch.no_grad()
    def predict_noise(
        self,
        noisy: Float[Tensor, "batch channels rows columns"],
        image_condition: Float[Tensor, "batch channels rows columns"],
        timestep: Timestep,
        prompts: Sequence[str],
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The U-Net's prediction for each row of the batch under its image condition and its prompt."""
        readings = [self.embed(prompt) for prompt in prompts]
        latents = torch.cat([noisy, unscale(image_condition, self.latent_scale)], dim=1).to(self.device, self.dtype)
        height, width = (side * self.factor for side in noisy.shape[-2:])
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=self.device, dtype=self.dtype)
        predicted = self._unet(
            latents,
            self._network_timestep(timestep),
            encoder_hidden_states=torch.stack([reading.words for reading in readings]),
            added_cond_kwargs={
                "text_embeds": torch.stack([reading.pooled for reading in readings]),
                "time_ids": sizes.expand(len(noisy), -1),
            },
            return_dict=False,
        )[0]
        return predicted.to(noisy)

    @torch.no_grad()
    def embed(self, prompt: str) -> Reading:
        """What the text encoders make of a prompt, made once and kept.

        Raises:
            ValueError: If the prompt is longer than they can read.
        """
        if prompt not in self._readings:
            reading = self._text_encoders.read(prompt, self.device)
            if prompt == EMPTY_PROMPT and self._empty_is_zero:
                reading = Reading(*(torch.zeros_like(part) for part in reading))
            self._readings[prompt] = Reading(*(part.to(self.device, self.dtype) for part in reading))
        return self._readings[prompt]

    def _network_timestep(self, timestep: Timestep) -> Tensor:
        """The timestep as the U-Net was trained to read it: under sigmas, a quarter of their logarithm."""
        if isinstance(self.noise_schedule, SigmaSchedule):
            return 0.25 * torch.tensor(self.noise_schedule.sigma(timestep), device=self.device).log()
        return torch.tensor(timestep, device=self.device)


def load_denoiser(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> InstructPix2PixXL:
    """Loads the part of an SDXL InstructPix2Pix or CosXL-Edit pipeline that edits.

    Args:
        model: A hub id or a local folder in the diffusers format.
        device: Where it computes.
        half_precision: Compute in float16, or in bfloat16 on a CPU.
        cpu_offload: Keep the weights in main memory and move each layer's over when it is needed.

    Raises:
        ValueError: If there is no such model, it is no such pipeline, or its weights are missing.
    """
    unet_config = require_file(model, "unet/config.json", KIND)
    latents = read_latent_scale(model, KIND)
    instruct_pix2pix.require_image_condition(model, unet_config, latents.channels)
    noise_schedule = load_noise_schedule(model)
    for part in ("text_encoder", "text_encoder_2"):
        require_file(model, f"{part}/config.json", KIND)

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    device = torch.device(device)
    dtype = precision(device, half_precision)

    def text_encoder(network_class: Any, part: str) -> nn.Module:
        return place(load_part(network_class, model, part).to(dtype), device, cpu_offload)

    text_encoders = TextEncoders(
        (load_part(CLIPTokenizer, model, "tokenizer"), load_part(CLIPTokenizer, model, "tokenizer_2")),
        (text_encoder(CLIPTextModel, "text_encoder"), text_encoder(CLIPTextModelWithProjection, "text_encoder_2")),
    )
    unet = place(load_part(UNet2DConditionModel, model, "unet", torch_dtype=dtype), device, cpu_offload)
    scale = LatentScale() if isinstance(noise_schedule, SigmaSchedule) else latents.scale
    index = read_model_file(model, "model_index.json") or {}
    empty_is_zero = index.get("force_zeros_for_empty_prompt", True)
    return InstructPix2PixXL(text_encoders, unet, noise_schedule, scale, latents.factor, empty_is_zero, device)


def load_noise_schedule(model: str) -> DiffusionSchedule:
    """Reads the pipeline's noise schedule: one of sigmas, or one that ends without noise.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    config = require_file(model, "scheduler/scheduler_config.json", KIND)
    if config.get("_class_name") == EDM:
        return _edm_schedule(config)
    found = instruct_pix2pix.load_noise_schedule(model)
    return found if config.get("_class_name") == "DDIMScheduler" else replace(found, final_alpha_cumprod=1.0)


def _edm_schedule(config: Mapping[str, Any]) -> SigmaSchedule:
    """The schedule whose sigmas fall in equal steps of their logarithm, or of a root of them."""
    if config["sigma_data"] != 1.0:
        raise ValueError(f"CosXL-Edit's scheduler has a sigma_data of 1, not {config['sigma_data']}: set it to 1.")
    least, most, root = config["sigma_min"], config["sigma_max"], config["rho"]

    def karras(fraction: float) -> float:
        return (least ** (1 / root) + fraction * (most ** (1 / root) - least ** (1 / root))) ** root

    def exponential(fraction: float) -> float:
        return least * (most / least) ** fraction

    by_name = {"karras": karras, "exponential": exponential}
    return sigma_schedule(by_name[config["sigma_schedule"]], config["prediction_type"], config["num_train_timesteps"])
