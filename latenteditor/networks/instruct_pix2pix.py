"""InstructPix2Pix as a denoiser: its text encoder, its U-Net and the noise schedule they were trained on.

Of a pipeline in the diffusers format only the folders tokenizer, text_encoder, unet and scheduler are loaded,
and the config of the vae, which says how the U-Net's image condition is scaled.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.denoiser import Conditions
from latenteditor.editing.noise_schedule import DiffusionSchedule, NoiseSchedule, Timestep
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

KIND = "InstructPix2Pix"
"""What a refusal calls it."""


class InstructPix2Pix:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

    conditions = Conditions()

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: nn.Module,
        unet: nn.Module,
        noise_schedule: NoiseSchedule,
        latent_scale: LatentScale,
        device: torch.device | str | None = None,
    ) -> None:
        """Freezes the networks, which compute on `device`; None is where the U-Net lies."""
        self.noise_schedule = noise_schedule
        self.latent_scale = latent_scale
        self.device = torch.device(device if device is not None else next(unet.parameters()).device)
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder.eval().requires_grad_(False)
        self._unet = unet.eval().requires_grad_(False)
        self._embeddings: dict[str, Tensor] = {}

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
        embeddings = torch.stack([self.embed(prompt) for prompt in prompts])
        latents = torch.cat([noisy, self._unscale(image_condition)], dim=1).to(self.device, self.dtype)
        predicted = self._unet(latents, timestep, encoder_hidden_states=embeddings, return_dict=False)[0]
        return predicted.to(noisy)

    @torch.no_grad()
    def embed(self, prompt: str) -> Float[Tensor, "tokens width"]:
        """The text encoder's last hidden states for a prompt, made once and kept.

        Raises:
            ValueError: If the prompt is longer than the text encoder can read.
        """
        if prompt not in self._embeddings:
            ids = token_ids(self._tokenizer, self._text_encoder, prompt).to(self.device)
            self._embeddings[prompt] = self._text_encoder(ids)[0][0].to(self.device, self.dtype)
        return self._embeddings[prompt]

    def _unscale(
        self, image_condition: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Scaled latents as the raw ones the U-Net was trained on; a row of zeros is "no image" and stays."""
        return unscale(image_condition, self.latent_scale)


def load_instruct_pix2pix(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> InstructPix2Pix:
    """Loads the part of an InstructPix2Pix pipeline that edits.

    Args:
        model: A hub id, a local folder in the diffusers format, or "miniature".
        device: Where it computes.
        half_precision: Compute in float16, or in bfloat16 on a CPU.
        cpu_offload: Keep the weights in main memory and move each layer's over when it is needed.

    Raises:
        ValueError: If there is no such model, it is no InstructPix2Pix, or its weights are missing.
    """
    unet_config = require_file(model, "unet/config.json", KIND)
    latents = read_latent_scale(model, KIND)
    require_image_condition(model, unet_config, latents.channels)
    noise_schedule = load_noise_schedule(model)
    require_file(model, "text_encoder/config.json", KIND)
    require_file(model, "tokenizer/tokenizer_config.json", KIND)

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip import CLIPTextModel, CLIPTokenizer

    device = torch.device(device)
    dtype = precision(device, half_precision)
    tokenizer = load_part(CLIPTokenizer, model, "tokenizer")
    # Releases of transformers disagree on the argument's name, so its network is cast after loading.
    text_encoder = place(load_part(CLIPTextModel, model, "text_encoder").to(dtype), device, cpu_offload)
    unet = place(load_part(UNet2DConditionModel, model, "unet", torch_dtype=dtype), device, cpu_offload)
    return InstructPix2Pix(tokenizer, text_encoder, unet, noise_schedule, latents.scale, device)


def load_noise_schedule(model: str) -> DiffusionSchedule:
    """Reads a pipeline's noise schedule, whichever scheduler it names: DDIM is what it is sampled with here.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    config = require_file(model, "scheduler/scheduler_config.json", KIND)
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(config)
    return DiffusionSchedule(
        alphas_cumprod=scheduler.alphas_cumprod,
        prediction_type=scheduler.config.prediction_type,
        final_alpha_cumprod=scheduler.final_alpha_cumprod.item(),
        first_timestep=scheduler.config.steps_offset,
    )


def require_image_condition(model: str, unet_config: dict[str, Any], channels: int) -> None:
    """Refuses a U-Net that does not take noisy latents and an image condition side by side."""
    found = unet_config.get("in_channels")
    if found != 2 * channels:
        raise ValueError(
            f"'{model}' is no InstructPix2Pix: its U-Net takes {found} channels, not {2 * channels} for the "
            f"noisy latents and the image; pass one that has them, such as timbrooks/instruct-pix2pix."
        )


load_denoiser = load_instruct_pix2pix
"""The name under which a family's file is asked for its editor."""
