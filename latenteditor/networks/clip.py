"""CLIP, which puts images and captions into one space (arXiv 2103.00020), to measure edits with.

Images are preprocessed in torch as the model's own preprocessor config says: resized without aliasing, cropped at the
centre, normalised. InstructPix2Pix' own metric instead squeezes a view into a square, nothing cropped and aliased, so
its figures differ a little.
"""

import pickle
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.networks.models import read_model_file, resolve_model, why_unread

INTERPOLATIONS: dict[int, Literal["bilinear", "bicubic"]] = {2: "bilinear", 3: "bicubic"}
"""How to resize, by the number that preprocessor configs have from Pillow."""


class Preprocessing(NamedTuple):
    """What an image undergoes before CLIP sees it; sizes in pixels."""

    short_side: int | None
    """The shorter side after resizing, the aspect ratio kept; None for `size`."""
    size: tuple[int, int] | None
    """(height, width) after resizing; None for `short_side`, or for no resizing where both are None."""
    crop: tuple[int, int] | None
    """(height, width) of the part at the centre that is kept; None keeps all."""
    interpolation: Literal["bilinear", "bicubic"]
    """How pixels are interpolated."""
    mean: tuple[float, ...]
    """Subtracted from each channel of an image in [0, 1]."""
    std: tuple[float, ...]
    """Divides each channel then."""

    def apply(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images 3 rows columns"]:
        """Resizes, crops and normalises images in [0, 1].

        Raises:
            ValueError: The images are smaller than the crop.
        """
        size = self._resized(images.shape[-2], images.shape[-1])
        if size != tuple(images.shape[-2:]):
            # Bicubic interpolation overshoots.
            images = F.interpolate(images, size, mode=self.interpolation, antialias=True).clamp(0, 1)
        if self.crop is not None:
            images = self._cropped(images)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return (images - mean) / std

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) after resizing, rounded down as CLIP's own preprocessing does."""
        if self.short_side is None:
            return self.size or (height, width)
        short = min(height, width)
        return self.short_side * height // short, self.short_side * width // short

    def _cropped(self, images: Tensor) -> Tensor:
        assert self.crop is not None
        height, width = self.crop
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        if top < 0 or left < 0:
            raise ValueError(
                f"Cannot crop {width}x{height} pixels for CLIP out of {images.shape[-1]}x{images.shape[-2]}: its "
                "preprocessor config resizes to less than it crops; pass another CLIP."
            )
        return images[..., top : top + height, left : left + width]


class Clip:
    """A frozen CLIP. Not an nn.Module: whoever holds it neither trains nor saves it."""

    def __init__(self, tokenizer: Any, network: nn.Module, preprocessing: Preprocessing) -> None:
        """Freezes `network`, a CLIPModel of transformers."""
        self.preprocessing = preprocessing
        self._tokenizer = tokenizer
        self._network: Any = network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self._network.parameters()).device

    @torch.no_grad()
    def embed_images(self, images: Float[Tensor, "images 3 height width"]) -> Float[Tensor, "images dimensions"]:
        """The unit-length embeddings of images in [0, 1]."""
        pixels = self.preprocessing.apply(images.to(self.device).float())
        pooled = self._network.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self._network.visual_projection(pooled), dim=1)

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Float[Tensor, "texts dimensions"]:
        """The unit-length embeddings of captions.

        Raises:
            ValueError: A caption is longer than CLIP reads.
        """
        limit = self._network.config.text_config.max_position_embeddings
        for text in texts:
            count = len(self._tokenizer(text).input_ids)
            if count > limit:
                raise ValueError(
                    f"The caption {text!r} has {count} tokens, start and end marks included, and CLIP reads {limit}: "
                    "shorten it."
                )
        tokens = self._tokenizer(texts, padding=True, return_tensors="pt").to(self.device)
        pooled = self._network.text_model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).pooler_output
        return F.normalize(self._network.text_projection(pooled), dim=1)


def load_clip(model: str, device: torch.device | str) -> Clip:
    """Loads a CLIP with its tokenizer.

    Args:
        model: A hub id, as "openai/clip-vit-large-patch14", or a local folder in transformers' format.
        device: Where it computes.

    Raises:
        ValueError: There is no such model, it is no CLIP, or something of it is missing.
    """
    config = read_model_file(model, "config.json")
    if config is None or config.get("model_type") != "clip":
        found = "no config.json" if config is None else f"a model of type {config.get('model_type')!r}"
        raise ValueError(
            f"There is no CLIP in '{model}' but {found}: pass a folder or hub id in transformers' format, such as "
            "openai/clip-vit-large-patch14."
        )
    preprocessing = read_preprocessing(model)
    from transformers import CLIPModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(resolve_model(model))
        network: Any = CLIPModel.from_pretrained(resolve_model(model))
    except (OSError, TypeError, pickle.UnpicklingError) as error:
        reason = why_unread(error)
        raise ValueError(
            f"The CLIP '{model}' could not be read ({reason}): download the model again or pass another local folder."
        ) from error
    return Clip(tokenizer, network.to(device).float(), preprocessing)


def read_preprocessing(model: str) -> Preprocessing:
    """Reads how a CLIP's images are preprocessed.

    Raises:
        ValueError: There is no such model, or no preprocessor config in it that can be followed.
    """
    found = read_model_file(model, "preprocessor_config.json")
    if found is None:
        # Where newer releases of transformers write it when they save a whole processor.
        found = (read_model_file(model, "processor_config.json") or {}).get("image_processor")
    if found is None:
        raise ValueError(
            f"The CLIP '{model}' has no preprocessor_config.json, which says how its images are resized: "
            "download the model again or pass another local folder."
        )
    try:
        return _preprocessing(found)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The preprocessor_config.json of '{model}' cannot be followed ({error!r}): expected size, crop_size, "
            "resample (2 or 3), image_mean and image_std, as in openai/clip-vit-large-patch14."
        ) from error


def _preprocessing(found: dict[str, Any]) -> Preprocessing:
    """A preprocessor config; old ones give sizes as plain numbers."""
    size = found["size"] if found.get("do_resize", True) else {}
    if isinstance(size, int):
        size = {"shortest_edge": size}
    crop = found["crop_size"] if found.get("do_center_crop", True) else None
    if isinstance(crop, int):
        crop = {"height": crop, "width": crop}
    short_side = size.get("shortest_edge")
    normalises = found.get("do_normalize", True)
    return Preprocessing(
        short_side=short_side,
        size=(size["height"], size["width"]) if size and short_side is None else None,
        crop=None if crop is None else (crop["height"], crop["width"]),
        interpolation=INTERPOLATIONS[found.get("resample", 3)],
        mean=tuple(found["image_mean"]) if normalises else (0.0,) * 3,
        std=tuple(found["image_std"]) if normalises else (1.0,) * 3,
    )
