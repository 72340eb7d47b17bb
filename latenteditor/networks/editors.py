"""Which family of editors a model belongs to, by its own `model_index.json`, and how it is loaded."""

from types import ModuleType
from typing import Any, NamedTuple

import torch

from latenteditor.editing.noise_schedule import NoiseSchedule
from latenteditor.networks import flux2_klein, flux_kontext, instruct_pix2pix, qwen_image_edit, sdxl
from latenteditor.networks.autoencoder import Autoencoder, read_autoencoder_config
from latenteditor.networks.models import read_model_file

FULL = ("AutoencoderKL", "AutoencoderKLFlux2", "AutoencoderKLQwenImage")
"""Autoencoders that editors were trained with."""


class Published(NamedTuple):
    """Weights that somebody publishes on the hub."""

    model: str
    """Their hub id."""
    gigabytes: int
    """What the editor's weights take in 16 bits, text encoders included, by the parameters that its authors state."""
    licence: str
    """As the card on the hub says."""


class Family(NamedTuple):
    """Editors that share one kind of network and are loaded alike."""

    title: str
    """What people call it."""
    pipelines: tuple[str, ...]
    """The classes of diffusers that its models' `model_index.json` may name."""
    module: ModuleType
    """Its file, which loads one and reads its schedule."""
    branches: str
    """Predictions that a guided step takes."""
    usual_guidance: str
    """Text guidance that its authors sample with."""
    published: tuple[Published, ...]
    """What there is of it."""


FAMILIES = (
    Family(
        "Stable Diffusion InstructPix2Pix",
        ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"),
        instruct_pix2pix,
        "3",
        "7.5",
        (Published("timbrooks/instruct-pix2pix", 2, "MIT"),),
    ),
    Family(
        "SDXL InstructPix2Pix and CosXL-Edit",
        ("StableDiffusionXLInstructPix2PixPipeline",),
        sdxl,
        "3",
        "3 to 7",
        (
            Published("diffusers/sdxl-instructpix2pix-768", 7, "OpenRAIL++"),
            Published("stabilityai/cosxl", 7, "Stability AI, non-commercial"),
        ),
    ),
    Family(
        "FLUX.1-Kontext",
        ("FluxKontextPipeline",),
        flux_kontext,
        "1",
        "2.5",
        (Published("black-forest-labs/FLUX.1-Kontext-dev", 34, "FLUX.1 dev, non-commercial"),),
    ),
    Family(
        "FLUX.2-klein",
        ("Flux2KleinPipeline",),
        flux2_klein,
        "1, base 2",
        "none, base 4",
        (
            Published("black-forest-labs/FLUX.2-klein-4B", 16, "Apache 2.0"),
            Published("black-forest-labs/FLUX.2-klein-9B", 34, "FLUX, non-commercial"),
        ),
    ),
    Family(
        "Qwen-Image-Edit",
        tuple(qwen_image_edit.SIGHTS),
        qwen_image_edit,
        "2",
        "4",
        (
            Published("Qwen/Qwen-Image-Edit", 58, "Apache 2.0"),
            Published("Qwen/Qwen-Image-Edit-2509", 58, "Apache 2.0"),
        ),
    ),
)
"""All that share the loop of latents; a model without a `model_index.json` is taken for the first."""


def at_hand(model: str) -> bool:
    """Whether a model of the hub lies in its cache on this machine, as far as its index tells."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "model_index.json"), str)


def family_of(model: str) -> Family:
    """The family of a model.

    Raises:
        ValueError: There is no such model, or it belongs to none of them.
    """
    index = read_model_file(model, "model_index.json")
    if index is None:
        return FAMILIES[0]
    for family in FAMILIES:
        if index.get("_class_name") in family.pipelines:
            return family
    known = ", ".join(family.title for family in FAMILIES)
    raise ValueError(
        f"'{model}' is a {index.get('_class_name')}, and the editors whose latents are edited here are {known}: "
        "pass one of these."
    )


def load_denoiser(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> Any:
    """Loads the part of a pipeline that edits, of whichever family it is: a `Denoiser`.

    Beyond that it has `embed`, which refuses a prompt that it cannot read, and `require_channels`, which refuses
    latents that are not its own.

    Args:
        model: A hub id, a local folder in the diffusers format, or "miniature".
        device: Where it computes.
        half_precision: Compute in 16-bit numbers.
        cpu_offload: Keep the weights in main memory and move each layer's over when it is needed.

    Raises:
        ValueError: If there is no such model, it belongs to no family, or its weights are missing.
    """
    return family_of(model).module.load_denoiser(model, device, half_precision, cpu_offload)


def load_noise_schedule(model: str) -> NoiseSchedule:
    """Reads an editor's noise schedule and nothing heavy: whether there is such an editor is known at once.

    Raises:
        ValueError: If there is no such model, it belongs to no family, or it has no scheduler.
    """
    return family_of(model).module.load_noise_schedule(model)


def require_autoencoder(model: str, autoencoder: Autoencoder) -> None:
    """Refuses a scene's autoencoder whose latents are not the editor's, though they may have as many channels.

    Small autoencoders made to stand in for others do not say for which; they are believed.

    Raises:
        ValueError: Its class or its scale is another than that of the editor's own.
    """
    own, found = read_autoencoder_config(model), autoencoder.config
    if own.class_name not in FULL or found.class_name not in FULL:
        return
    scale = (read_model_file(model, f"{own.subfolder}/config.json".lstrip("/")) or {}).get("scaling_factor")
    if own.class_name == found.class_name and (scale is None or autoencoder.scaled_by in (None, scale)):
        return
    raise ValueError(
        f"The scene's latents are those of a {found.class_name} scaled by {autoencoder.scaled_by}, and '{model}' edits "
        f"those of a {own.class_name} scaled by {scale}: reconstruct the scene with --pipeline.autoencoder {model}."
    )
