"""The parts of a pipeline in the diffusers format: found, loaded, placed, or refused in one sentence."""

import pickle
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.devices import half_dtype
from latenteditor.networks.models import read_model_file, resolve_model, why_unread


class LatentScale(NamedTuple):
    """How scaled latents follow from an autoencoder's raw ones: (raw - shift) * scale."""

    scale: float = 1.0
    """Multiplies, after the shift."""
    shift: float = 0.0
    """Is subtracted first."""


class LatentKind(NamedTuple):
    """What a pipeline's autoencoder says of its latents."""

    scale: LatentScale
    """How they are scaled."""
    channels: int
    """Of one latent."""
    factor: int
    """Pixels along each side of a latent cell."""


def read_latent_scale(model: str, kind: str) -> LatentKind:
    """The scale, the channels and the cells of a pipeline's latents, with the defaults of the autoencoder's class.

    Old files rely on them. The weights of the autoencoder are not needed.

    Raises:
        ValueError: The pipeline has no autoencoder.
    """
    config = require_file(model, "vae/config.json", kind)
    import diffusers

    network_class: Any = getattr(diffusers, config.get("_class_name", "AutoencoderKL"))
    with torch.device("meta"):
        config = network_class.from_config(config).config
    scale = LatentScale(config["scaling_factor"], config.get("shift_factor") or 0.0)
    return LatentKind(scale, config["latent_channels"], 2 ** (len(config["block_out_channels"]) - 1))


def unscale(
    image_condition: Float[Tensor, "batch channels rows columns"], latent_scale: LatentScale
) -> Float[Tensor, "batch channels rows columns"]:
    """Scaled latents as the raw ones a U-Net was trained on; a row of zeros is "no image" and stays."""
    present = image_condition.flatten(1).any(dim=1)[:, None, None, None]
    return torch.where(present, image_condition / latent_scale.scale + latent_scale.shift, 0.0)


def require_file(model: str, name: str, kind: str) -> dict[str, Any]:
    """One JSON file of the pipeline of an editor of some kind.

    Raises:
        ValueError: It has no such file.
    """
    found = read_model_file(model, name)
    if found is None:
        raise ValueError(
            f"'{model}' is no {kind} pipeline: it has no {name}; pass a folder or hub id in the "
            f"diffusers format, such as timbrooks/instruct-pix2pix."
        )
    return found


def require_latent_channels(found: int, own: int, kind: str) -> None:
    """Refuses latents of an autoencoder other than the editor's own, as far as the number of channels tells.

    Raises:
        ValueError: The scene's latents have another number of channels.
    """
    if found != own:
        raise ValueError(
            f"The scene's latents have {found} channels and this {kind} edits latents with "
            f"{own}: reconstruct the scene with the autoencoder that belongs to it."
        )


def load_part(loaded_class: Any, model: str, subfolder: str, **options: Any) -> Any:
    """What lies in one folder of the pipeline.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        return loaded_class.from_pretrained(resolve_model(model), subfolder=subfolder, **options)
    except (OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"The {subfolder} of '{model}' could not be read ({why_unread(error)}): "
            f"download the model again or pass another local folder."
        ) from error


def precision(device: torch.device, half_precision: bool, overflows_in_half: bool = False) -> torch.dtype:
    """The numbers to compute in."""
    return half_dtype(device, overflows_in_half) if half_precision else torch.float32


def place(network: nn.Module, device: torch.device, cpu_offload: bool) -> nn.Module:
    """The network on the device, or on the CPU with each layer's weights visiting the device when it runs."""
    if not cpu_offload:
        return network.to(device)
    from accelerate import cpu_offload as offload_to_cpu

    return offload_to_cpu(network, device)


def token_ids(tokenizer: Any, text_encoder: Any, prompt: str) -> Tensor:
    """The prompt's ids for a CLIP text encoder, padded as its editors were trained.

    Raises:
        ValueError: The prompt is longer than the text encoder can read.
    """
    limit = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
    require_length(len(tokenizer(prompt).input_ids), limit)
    return tokenizer(prompt, padding="max_length", max_length=limit, return_tensors="pt").input_ids


def require_length(count: int, limit: int) -> None:
    """Refuses a prompt of more tokens than the text encoder reads."""
    if count > limit:
        raise ValueError(
            f"The prompt has {count} tokens, start and end marks included, and the text encoder reads "
            f"{limit}: shorten it, or give its parts one after another."
        )
