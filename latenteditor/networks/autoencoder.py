"""Images to scaled latents and back: Stable Diffusion's VAE, TAESD, any autoencoder of diffusers, taef2.

This file alone knows the latent scales. Everywhere else a latent is `(z - shift) * scale`, the range in which
Stable Diffusion's U-Net works, `images` are RGB in [0, 1], and the layout is `views channels height width`.
"""

import hashlib
import json
import pickle
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from latenteditor.devices import half_dtype
from latenteditor.networks.models import read_model_file, resolve_model, why_unread
from latenteditor.networks.taesd import StateDictFiles, TinyAutoencoder, find_state_dicts, load_tiny_autoencoder

PIXELS_PER_CHUNK = 1 << 20
"""Pixels that pass through the autoencoder at once; more would cost memory and gain no time."""

OF_VIDEOS = ("AutoencoderKLQwenImage",)
"""Autoencoders with an axis for time, between channels and rows."""

Scaling = float | Tensor
"""One number for all latents, or numbers for each channel and for the cells of a square that is repeated."""


class AutoencoderConfig(NamedTuple):
    """What an autoencoder's own config file says, or the shapes of its tensors."""

    class_name: str
    """The class in diffusers, such as "AutoencoderKL", or "TinyAutoencoder" for two state dicts."""
    subfolder: str
    """Where inside the model the autoencoder lies: "vae" in a pipeline, "" where the model is the
    autoencoder."""
    channels: int
    """Channels of a latent."""
    factor: int
    """Pixels along each side of a latent cell."""
    overflows_in_half: bool
    """Whether the activations leave the range of float16, so that half precision has to be bfloat16."""


class Autoencoder:
    """A frozen autoencoder. Not an nn.Module: whoever holds it neither trains nor saves it."""

    def __init__(self, network: nn.Module, config: AutoencoderConfig) -> None:
        """Freezes `network`, one of diffusers' autoencoders or a TinyAutoencoder; `config` says its sizes."""
        self.config = config
        self._network = network.eval().requires_grad_(False)
        self._scale, self._shift = latent_scale_of(network)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return self.config.channels

    @property
    def factor(self) -> int:
        """Pixels along each side of a latent cell."""
        return self.config.factor

    @property
    def scaled_by(self) -> float | None:
        """What raw latents are multiplied by; None where that is no single number."""
        return None if isinstance(self._scale, Tensor) else self._scale

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self._network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the network computes; results have that of what went in."""
        return next(self._network.parameters()).dtype

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever the same image could have other latents: a key for caches."""
        scaling = [part if not isinstance(part, Tensor) else part.tolist() for part in (self._scale, self._shift)]
        digest = hashlib.sha256(json.dumps([*self.config, *scaling, str(self.dtype)]).encode())
        for name, value in sorted(self._network.state_dict().items()):
            if not name.startswith("decoder"):
                digest.update(name.encode())
                digest.update(value.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @torch.no_grad()
    def encode(self, images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views channels rows columns"]:
        """Returns the scaled latents of images in [0, 1]: the posterior's mode, so always the same.

        Raises:
            ValueError: If a side is not a multiple of `factor`.
        """
        height, width = images.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"Cannot encode images of {width}x{height} pixels: both sides must be multiples of {self.factor}."
            )
        chunks = images.split(max(1, PIXELS_PER_CHUNK // (height * width)))
        latents = torch.cat([self._encode(chunk.to(self.device, self.dtype)) for chunk in chunks])
        scale, shift = (spread(part, latents) for part in (self._scale, self._shift))
        return ((latents - shift) * scale).to(images)

    def decode(self, latents: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """Returns the images in [0, 1] of scaled latents. Gradients flow to latents that ask for them."""
        rows, columns = latents.shape[-2:]
        chunks = latents.split(max(1, PIXELS_PER_CHUNK // (rows * columns * self.factor**2)))
        images = torch.cat([self._decode(chunk.to(self.device, self.dtype)) for chunk in chunks])
        return ((images + 1) / 2).clamp(0, 1).to(latents)

    def _encode(self, images: Tensor) -> Tensor:
        images = 2 * images - 1
        encoded: Any = self._network.encode(images[:, :, None] if self._of_videos else images)  # type: ignore[operator]
        if hasattr(encoded, "latent_dist"):
            mode = encoded.latent_dist.mode()
            return mode[:, :, 0] if self._of_videos else mode
        return encoded.latents if hasattr(encoded, "latents") else encoded.latent

    def _decode(self, latents: Tensor) -> Tensor:
        scale, shift = (spread(part, latents) for part in (self._scale, self._shift))
        latents = latents / scale + shift
        latents = latents[:, :, None] if self._of_videos else latents
        images = self._network.decode(latents).sample  # type: ignore[operator]
        return images[:, :, 0] if self._of_videos else images

    @property
    def _of_videos(self) -> bool:
        """Whether the network has an axis for time, on which a view is one moment."""
        return self.config.class_name in OF_VIDEOS


def read_autoencoder_config(model: str) -> AutoencoderConfig:
    """Reads an autoencoder's sizes without diffusers: from its config file, or from its two state dicts.

    Args:
        model: A hub id, a local folder, or "miniature": an autoencoder, or a pipeline with a `vae/`
            subfolder. A local folder may also hold an encoder's and a decoder's state dict in TAESD's layout.

    Raises:
        ValueError: If there is no such model, or no autoencoder in it.
    """
    for subfolder in ("vae", ""):
        found = read_model_file(model, f"{subfolder}/config.json".lstrip("/"))
        if found is not None and ("latent_channels" in found or found.get("_class_name") in OF_VIDEOS):
            return _autoencoder_config(found, subfolder)
    files = _state_dicts(model)
    if files is not None:
        network = load_tiny_autoencoder(files)
        return AutoencoderConfig(type(network).__name__, "", network.channels, network.factor, False)
    raise ValueError(
        f"There is no autoencoder in '{model}': expected a diffusers pipeline with a vae/ subfolder, a folder "
        f"whose config.json is an autoencoder's, or one with two state dicts in TAESD's layout, such as "
        f"taef2_encoder.pth and taef2_decoder.pth."
    )


def load_autoencoder(model: str, device: torch.device | str, half_precision: bool = False) -> Autoencoder:
    """Loads the autoencoder of a model and nothing else of it.

    Args:
        model: What `read_autoencoder_config` takes.
        device: Where it computes.
        half_precision: Compute in float16; in bfloat16 on a CPU that is quick with it, or where the autoencoder's
            config says that float16 overflows.

    Raises:
        ValueError: If there is no such model, no autoencoder in it, or its weights are missing.
    """
    config = read_autoencoder_config(model)
    dtype = half_dtype(device, config.overflows_in_half) if half_precision else torch.float32
    files = _state_dicts(model) if config.class_name == TinyAutoencoder.__name__ else None
    network = _load_of_diffusers(model, config, dtype) if files is None else load_tiny_autoencoder(files).to(dtype)
    return Autoencoder(network.to(device), config)


def working_size(height: int, width: int, image_size: int | None, factor: int) -> tuple[int, int]:
    """Returns the (height, width) of a photograph at work: its long side `image_size`, both multiples of `factor`.

    Raises:
        ValueError: If the long side would be no cell long.
    """
    long_side = max(height, width) if image_size is None else image_size
    if long_side < factor:
        raise ValueError(f"Cannot encode images of {long_side} pixels: a latent cell has {factor}; choose image_size.")
    scale = long_side / max(height, width) / factor
    return factor * max(1, round(height * scale)), factor * max(1, round(width * scale))


def resize(images: Float[Tensor, "views channels height width"], size: tuple[int, int]) -> Tensor:
    """Returns images of another (height, width), without aliasing."""
    if tuple(images.shape[-2:]) == size:
        return images
    return functional.interpolate(images, size, mode="bilinear", antialias=True)


def latent_scale_of(network: nn.Module) -> tuple[Scaling, Scaling]:
    """What latents of a network are multiplied by, and what is subtracted first.

    FLUX.2's normalises latents by statistics of squares of cells, Qwen's by statistics of channels.
    """
    # Old config files lack both keys; the loaded network's config then holds its class's defaults.
    known: Any = network.config
    statistics: Any = getattr(network, "bn", None)
    if statistics is not None:
        channels, side = (
            known["latent_channels"],
            round((len(statistics.running_mean) / known["latent_channels"]) ** 0.5),
        )
        mean = statistics.running_mean.float().view(channels, side, side)
        deviation = (statistics.running_var.float() + known["batch_norm_eps"]).sqrt().view(channels, side, side)
        return 1.0 / deviation, mean
    if known.get("latents_mean") and known.get("latents_std"):
        mean, deviation = (torch.tensor(known[name])[:, None, None] for name in ("latents_mean", "latents_std"))
        return float(known.get("scaling_factor") or 1.0) / deviation, mean
    return float(known.get("scaling_factor") or 1.0), float(known.get("shift_factor") or 0.0)


def spread(scaling: Scaling, latents: Float[Tensor, "views channels rows columns"]) -> Scaling:
    """A scaling for every cell of latents; what goes for squares of cells is laid out side by side."""
    if not isinstance(scaling, Tensor):
        return scaling
    rows, columns = latents.shape[-2:]
    side = scaling.shape[-1]
    return scaling.repeat(1, -(-rows // side), -(-columns // side))[:, :rows, :columns].to(latents)


def _autoencoder_config(found: dict[str, Any], subfolder: str) -> AutoencoderConfig:
    if found.get("_class_name") in OF_VIDEOS:
        stages = found.get("temperal_downsample", (False, True, True))
        return AutoencoderConfig(found["_class_name"], subfolder, found.get("z_dim", 16), 2 ** len(stages), True)
    blocks = found.get("block_out_channels") or found["encoder_block_out_channels"]
    return AutoencoderConfig(
        class_name=found.get("_class_name", "AutoencoderKL"),
        subfolder=subfolder,
        channels=found["latent_channels"],
        factor=2 ** (len(blocks) - 1),
        overflows_in_half=found.get("force_upcast", False),
    )


def _state_dicts(model: str) -> StateDictFiles | None:
    """The two files of a local folder in TAESD's layout; None where the model has no such files."""
    folder = Path(resolve_model(model))
    return find_state_dicts(folder) if folder.is_dir() else None


def _load_of_diffusers(model: str, config: AutoencoderConfig, dtype: torch.dtype) -> nn.Module:
    """The network that diffusers makes of a model's autoencoder."""
    import diffusers

    network_class: Any = getattr(diffusers, config.class_name, None)
    if network_class is None:
        raise ValueError(
            f"The autoencoder of '{model}' is a {config.class_name}, which diffusers "
            f"{diffusers.__version__} does not "
            f"have: upgrade diffusers or pass another autoencoder."
        )
    try:
        return network_class.from_pretrained(
            resolve_model(model), subfolder=config.subfolder or None, torch_dtype=dtype
        )
    except (OSError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"The weights of the autoencoder of '{model}' could not be read ({why_unread(error)}): "
            f"download the model again or pass another local folder."
        ) from error
