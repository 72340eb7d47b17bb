"""Which family of editors a model belongs to, by its own `model_index.json`, and how it is loaded."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from latenteditor.editing.noise_schedule import NoiseSchedule
from latenteditor.networks import flux2_klein, flux_kontext, instruct_pix2pix, qwen_image_edit, sdxl
from latenteditor.networks.models import read_model_file


class Family(NamedTuple):
    """Editors that share one kind of network and are loaded alike."""

    title: str
    """What people call it."""
    pipelines: tuple[str, ...]
    """The classes of diffusers that its models' `model_index.json` may name."""
    load: Callable[..., Any]
    """Loads one: model, device, half precision, offload to the CPU."""
    load_noise_schedule: Callable[[str], NoiseSchedule]
    """Reads the schedule of one, and nothing heavy."""


FAMILIES = (
    Family(
        "Stable Diffusion InstructPix2Pix",
        ("StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"),
        instruct_pix2pix.load_instruct_pix2pix,
        instruct_pix2pix.load_noise_schedule,
    ),
    Family(
        "SDXL InstructPix2Pix and CosXL-Edit",
        ("StableDiffusionXLInstructPix2PixPipeline",),
        sdxl.load_instruct_pix2pix_xl,
        sdxl.load_noise_schedule,
    ),
    Family(
        "FLUX.1-Kontext",
        ("FluxKontextPipeline",),
        flux_kontext.load_flux_kontext,
        flux_kontext.load_noise_schedule,
    ),
    Family(
        "FLUX.2-klein",
        ("Flux2KleinPipeline",),
        flux2_klein.load_flux2_klein,
        flux2_klein.load_noise_schedule,
    ),
    Family(
        "Qwen-Image-Edit",
        tuple(qwen_image_edit.SIGHTS),
        qwen_image_edit.load_qwen_image_edit,
        qwen_image_edit.load_noise_schedule,
    ),
)
"""All that share the loop of latents; a model without a `model_index.json` is taken for the first."""


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
    return family_of(model).load(model, device, half_precision, cpu_offload)


def load_noise_schedule(model: str) -> NoiseSchedule:
    """Reads an editor's noise schedule and nothing heavy: whether there is such an editor is known at once.

    Raises:
        ValueError: If there is no such model, it belongs to no family, or it has no scheduler.
    """
    return family_of(model).load_noise_schedule(model)
