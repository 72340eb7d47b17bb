"""InstructPix2Pix as a denoiser: its text encoder, its U-Net and the noise schedule they were trained on.

Of a pipeline in the diffusers format only the folders tokenizer, text_encoder, unet and scheduler are loaded,
and the config of the vae, which says how the U-Net's image condition is scaled.
"""

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.noise_schedule import NoiseSchedule
from latenteditor.networks.models import read_model_file, resolve_model, why_unread


class LatentScale(NamedTuple):
    """How scaled latents follow from an autoencoder's raw ones: (raw - shift) * scale."""

    scale: float = 1.0
    """Multiplies, after the shift."""
    shift: float = 0.0
    """Is subtracted first."""


class InstructPix2Pix:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

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
        if config.out_channels != channels:
            raise ValueError(
                f"The scene's latents have {channels} channels and this InstructPix2Pix edits latents with "
                f"{config.out_channels}: reconstruct the scene with the autoencoder that belongs to it."
            )

    @torch.no_grad()
    def predict_noise(
        self,
        noisy: Float[Tensor, "batch channels rows columns"],
        image_condition: Float[Tensor, "batch channels rows columns"],
        timestep: int,
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
            token_ids = self._tokenize(prompt).to(self.device)
            self._embeddings[prompt] = self._text_encoder(token_ids)[0][0].to(self.device, self.dtype)
        return self._embeddings[prompt]

    def _tokenize(self, prompt: str) -> Tensor:
        """The prompt's token ids, padded as InstructPix2Pix was trained."""
        config: Any = self._text_encoder.config
        limit = min(self._tokenizer.model_max_length, config.max_position_embeddings)
        count = len(self._tokenizer(prompt).input_ids)
        if count > limit:
            raise ValueError(
                f"The prompt has {count} tokens, start and end marks included, and the text encoder reads "
                f"{limit}: shorten it, or give its parts one after another."
            )
        return self._tokenizer(prompt, padding="max_length", max_length=limit, return_tensors="pt").input_ids

    def _unscale(
        self, image_condition: Float[Tensor, "batch channels rows columns"]
    ) -> Float[Tensor, "batch channels rows columns"]:
        """Scaled latents as the raw ones the U-Net was trained on; a row of zeros is "no image" and stays."""
        present = image_condition.flatten(1).any(dim=1)[:, None, None, None]
        return torch.where(present, image_condition / self.latent_scale.scale + self.latent_scale.shift, 0.0)


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
    unet_config = _require_file(model, "unet/config.json")
    vae_config = _vae_config(model)
    _require_image_condition(model, unet_config, vae_config["latent_channels"])
    latent_scale = LatentScale(vae_config["scaling_factor"], vae_config.get("shift_factor") or 0.0)
    noise_schedule = load_noise_schedule(model)
    _require_file(model, "text_encoder/config.json")
    _require_file(model, "tokenizer/tokenizer_config.json")

    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers.models.clip import CLIPTextModel, CLIPTokenizer

    device = torch.device(device)
    dtype = _precision(device, half_precision)
    tokenizer = _load(CLIPTokenizer, model, "tokenizer")
    # Releases of transformers disagree on the argument's name, so its network is cast after loading.
    text_encoder = _place(_load(CLIPTextModel, model, "text_encoder").to(dtype), device, cpu_offload)
    unet = _place(_load(UNet2DConditionModel, model, "unet", torch_dtype=dtype), device, cpu_offload)
    return InstructPix2Pix(tokenizer, text_encoder, unet, noise_schedule, latent_scale, device)


def load_noise_schedule(model: str) -> NoiseSchedule:
    """Reads a pipeline's noise schedule, whichever scheduler it names: DDIM is what it is sampled with here.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    config = _require_file(model, "scheduler/scheduler_config.json")
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    scheduler: Any = DDIMScheduler.from_config(config)
    return NoiseSchedule(
        alphas_cumprod=scheduler.alphas_cumprod,
        prediction_type=scheduler.config.prediction_type,
        final_alpha_cumprod=scheduler.final_alpha_cumprod.item(),
        first_timestep=scheduler.config.steps_offset,
    )


def _vae_config(model: str) -> Mapping[str, Any]:
    """The autoencoder's config with its class's defaults: old files rely on them for the latent scale."""
    config = _require_file(model, "vae/config.json")
    import diffusers

    network_class: Any = getattr(diffusers, config.get("_class_name", "AutoencoderKL"))
    with torch.device("meta"):
        return network_class.from_config(config).config


def _precision(device: torch.device, half_precision: bool) -> torch.dtype:
    """float16 is slow or missing on a CPU, which has bfloat16."""
    if not half_precision:
        return torch.float32
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def _place(network: nn.Module, device: torch.device, cpu_offload: bool) -> nn.Module:
    """The network on the device, or on the CPU with each layer's weights visiting the device when it runs."""
    if not cpu_offload:
        return network.to(device)
    from accelerate import cpu_offload as offload_to_cpu

    return offload_to_cpu(network, device)


def _load(loaded_class: Any, model: str, subfolder: str, **options: Any) -> Any:
    """What lies in one folder of the pipeline."""
    try:
        return loaded_class.from_pretrained(resolve_model(model), subfolder=subfolder, **options)
    except (OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"The {subfolder} of '{model}' could not be read ({why_unread(error)}): "
            f"download the model again or pass another local folder."
        ) from error


def _require_image_condition(model: str, unet_config: dict[str, Any], channels: int) -> None:
    """Refuses a U-Net that does not take noisy latents and an image condition side by side."""
    found = unet_config.get("in_channels")
    if found != 2 * channels:
        raise ValueError(
            f"'{model}' is no InstructPix2Pix: its U-Net takes {found} channels, not {2 * channels} for the "
            f"noisy latents and the image; pass one that has them, such as timbrooks/instruct-pix2pix."
        )


def _require_file(model: str, name: str) -> dict[str, Any]:
    """One JSON file of the pipeline."""
    found = read_model_file(model, name)
    if found is None:
        raise ValueError(
            f"'{model}' is no InstructPix2Pix pipeline: it has no {name}; pass a folder or hub id in the "
            f"diffusers format, such as timbrooks/instruct-pix2pix."
        )
    return found
