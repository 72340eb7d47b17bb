"""How the built-in editor's autoencoder is made: once as a whole, and its decoder once more for what scenes render."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from latenteditor.miniature.fitting import FitConfig, fit
from latenteditor.miniature.pairs import random_crop
from latenteditor.miniature.training_data import Pairs, to_network

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL


@dataclass
class AutoencoderConfig:
    """How the autoencoder is made and fitted."""

    fit: FitConfig = field(default_factory=lambda: FitConfig(steps=18000, batch_size=8, bf16=True))
    """Its gradient steps."""
    decoder_fit: FitConfig = field(
        default_factory=lambda: FitConfig(steps=8000, batch_size=4, learning_rate=7e-4, bf16=True)
    )
    """Further steps of the decoder alone, on disturbed latents."""
    disturbance: float = 0.35
    """Most that the decoder's latents are disturbed by, in their standard deviations: a scene's renders are never
    quite an encoder's latents, and a decoder that knows nothing else turns small errors into blotches."""
    channels: tuple[int, ...] = (16, 32, 64, 64)
    """Of its levels; every level after the first halves both sides."""
    latent_channels: int = 4
    """Of the latents."""
    crop: int = 64
    """Pixels of either side of the crops it learns from."""
    decoder_crop: int = 128
    """The same for the decoder alone. Its norms measure a whole picture, and a large crop is more like one."""
    photographs: float = 0.45
    """How often a batch is cut from photographs, where there are any."""
    kl_weight: float = 1e-4
    """Of the latents' divergence from a unit normal, beside the pixel error."""
    equivariance: float = 0.15
    """How often latents and picture are shrunk alike before they are compared, which makes latents vary as
    smoothly as pictures and so easier to agree on between views (EQ-VAE, arXiv 2502.09509)."""


class TrainingImages:
    """Crops of the training views and of photographs."""

    def __init__(self, pairs: Pairs, photographs: list[UInt8[np.ndarray, "_ _ 3"]], share: float) -> None:
        """Draws from photographs, where there are any, as often as ``share`` says."""
        self.pairs, self.photographs, self.share = pairs, photographs, share

    def draw(self, generator: torch.Generator, count: int, crop: int) -> Float[Tensor, "count 3 crop crop"]:
        """Random crops of one kind, in [-1, 1]."""
        if self.photographs and torch.rand((), generator=generator) < self.share:
            rng = np.random.default_rng(int(torch.randint(2**31, (), generator=generator)))
            chosen = rng.integers(len(self.photographs), size=count)
            crops = [random_crop(self.photographs[index], rng, crop) for index in chosen]
            return to_network(torch.from_numpy(np.stack(crops)))
        source = self.pairs.after if torch.rand((), generator=generator) < 0.5 else self.pairs.before
        index = torch.randint(len(source), (count,), generator=generator)
        top, left = torch.randint(source.shape[1] - crop + 1, (2,), generator=generator).tolist()
        return to_network(source[index, top : top + crop, left : left + crop])

    def sample(self, count: int) -> Float[Tensor, "count 3 size size"]:
        """Whole views, evenly spread, in [-1, 1]."""
        return to_network(self.pairs.before[:: max(1, len(self.pairs.before) // count)])


def fit_autoencoder(
    config: AutoencoderConfig, images: TrainingImages, checkpoint: Path, device: str
) -> "AutoencoderKL":
    """The autoencoder, its scaling factor measured so that scaled latents have unit variance."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(config.fit.seed)
    levels = len(config.channels)
    settings: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": config.channels,
        "layers_per_block": 1,
        "latent_channels": config.latent_channels,
        "norm_num_groups": 1,
        "sample_size": images.pairs.before.shape[1],
        "mid_block_add_attention": False,
    }
    network: Any = AutoencoderKL(**settings)
    network.to(device)

    def loss(network: Any, generator: torch.Generator) -> Tensor:
        target = images.draw(generator, config.fit.batch_size, config.crop).to(device)
        posterior = network.encode(target).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator).to(target)
        latents = posterior.mean + posterior.std * noise
        if torch.rand((), generator=generator) < config.equivariance:
            rows = int(torch.randint(latents.shape[-1] // 2, latents.shape[-1], (), generator=generator))
            latents = F.interpolate(latents, size=(rows, rows), mode="bilinear", antialias=True)
            side = rows * config.crop // posterior.mean.shape[-1]
            target = F.interpolate(target, size=(side, side), mode="bilinear", antialias=True)
        divergence = posterior.kl().mean() / latents[0].numel()
        return pixel_error(network.decode(latents).sample, target) + config.kl_weight * divergence

    network = fit(network, loss, config.fit, checkpoint, "autoencoder")
    with torch.no_grad():
        deviation = network.encode(images.sample(256).to(device)).latent_dist.mean.std().item()
    network.register_to_config(scaling_factor=1 / deviation)
    return network


def fit_decoder(network: Any, config: AutoencoderConfig, images: TrainingImages, checkpoint: Path, device: str) -> None:
    """Teaches the decoder to see through disturbed latents; the encoder, and so all latents, stay as they are."""
    trained = nn.ModuleDict({"post_quant_conv": network.post_quant_conv, "decoder": network.decoder}).train()
    deviation = 1 / network.config["scaling_factor"]

    def loss(trained: Any, generator: torch.Generator) -> Tensor:
        target = images.draw(generator, config.decoder_fit.batch_size, config.decoder_crop).to(device)
        with torch.no_grad():
            latents = network.encode(target).latent_dist.mean.float()
        latents = disturb(latents, config.disturbance * deviation, generator)
        return pixel_error(trained["decoder"](trained["post_quant_conv"](latents)), target)

    fitted = fit(trained, loss, config.decoder_fit, checkpoint, "decoder")
    trained.load_state_dict(fitted.state_dict())
    network.eval()


def disturb(
    latents: Float[Tensor, "images channels rows columns"], most: float, generator: torch.Generator
) -> Float[Tensor, "images channels rows columns"]:
    """Latents as a scene might render them: a third as they are, the others blurred at times, and with errors.

    Args:
        latents: Of an encoder.
        most: Standard deviation of the largest errors, which spread over one, two or four cells.
        generator: Draws everything.
    """
    size = latents.shape[-2:]
    untouched, blurred = (torch.rand(2, generator=generator) < torch.tensor([0.35, 0.5])).tolist()
    if untouched:
        return latents
    if blurred:
        rows = int(torch.randint(size[0] // 2, size[0], (), generator=generator))
        latents = F.interpolate(latents, size=(rows, rows), mode="bilinear", antialias=True)
        latents = F.interpolate(latents, size=size, mode="bilinear")
    reach = 2 ** int(torch.randint(3, (), generator=generator))
    cells = max(1, size[0] // reach), max(1, size[1] // reach)
    errors = torch.randn(*latents.shape[:2], *cells, generator=generator)
    strength = most * torch.rand(len(latents), 1, 1, 1, generator=generator)
    return latents + (strength * F.interpolate(errors, size=size, mode="bilinear")).to(latents)


def pixel_error(images: Tensor, target: Tensor) -> Tensor:
    """Half the mean absolute and twice the mean squared error."""
    return 0.5 * F.l1_loss(images, target) + 2 * F.mse_loss(images, target)
