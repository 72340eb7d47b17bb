"""Qwen-Image-Edit as a denoiser: a flow of two branches, whose prompt is read by a model that sees the view beside it.

The picture that it sees is decoded from the image condition, by the pipeline's own autoencoder.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.denoiser import EMPTY_PROMPT, Conditions
from latenteditor.editing.noise_schedule import FlowSchedule, Timestep
from latenteditor.networks.autoencoder import load_autoencoder, resize
from latenteditor.networks.flow import load_flow_schedule
from latenteditor.networks.models import read_model_file
from latenteditor.networks.packing import pack, token_grid, unpack
from latenteditor.networks.parts import (
    load_part,
    place,
    precision,
    require_file,
    require_latent_channels,
    require_length,
)

if TYPE_CHECKING:
    from PIL.Image import Image

KIND = "Qwen-Image-Edit"
PACKING = 2
MOST_TOKENS = 1024
"""Tokens of a prompt, without the picture's."""
DROPPED = 64
"""Tokens of the request that stand before what the transformer reads."""
KEPT = 16
"""Readings that are kept; they are large, and belong to a view each."""
NOTHING = " "
"""What stands for the empty prompt, as on the model's card."""

Decode = Callable[[Tensor], Tensor]
"""Images in [0, 1] of scaled latents."""

REQUEST = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, "
    "background), then explain how the user's text instruction should alter or modify the image. Generate a new image "
    "that meets the user's requirements while maintaining consistency with the original input where appropriate."
    "<|im_end|>\n<|im_start|>user\n{picture}{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
"""What the model was trained to be asked."""


class Sight(NamedTuple):
    """How a version of the model is shown the view."""

    mark: str
    """What stands for the picture in the request."""
    area: int
    """Pixels of the picture, about."""


SIGHTS = {
    "QwenImageEditPipeline": Sight("<|vision_start|><|image_pad|><|vision_end|>", 1024 * 1024),
    "QwenImageEditPlusPipeline": Sight("Picture 1: <|vision_start|><|image_pad|><|vision_end|>", 384 * 384),
}
"""By the class that the model's `model_index.json` names."""
SIDE = 32
"""The sides of the picture are multiples of this."""


class QwenImageEdit:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

    def __init__(
        self,
        processor: Any,
        text_encoder: nn.Module,
        transformer: nn.Module,
        noise_schedule: FlowSchedule,
        decode: Decode,
        sight: Sight,
        device: torch.device | str | None = None,
    ) -> None:
        """Freezes the networks, which compute on `device`; `decode` makes the picture of a view that is shown."""
        self.noise_schedule = noise_schedule
        self.device = torch.device(device if device is not None else next(transformer.parameters()).device)
        self.conditions = Conditions(
            2, "tokens", PACKING, ("picture",), usual_guidance=4.0, restore=restore_token_lengths
        )
        self.decode = decode
        self.sight = sight
        self._processor = processor
        self._text_encoder = text_encoder.eval().requires_grad_(False)
        self._transformer = transformer.eval().requires_grad_(False)
        self._readings: dict[str, Tensor] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the transformer computes; predictions come out in that of the latents."""
        return next(self._transformer.parameters()).dtype

    def require_channels(self, channels: int) -> None:
        """Refuses latents of an autoencoder other than its own, as far as the number of channels tells.

        Raises:
            ValueError: If the transformer edits latents with another number of channels.
        """
        config: Any = self._transformer.config
        require_latent_channels(channels, config.in_channels // PACKING**2, KIND)

    @torch.no_grad()
    def predict_noise(
        self,
        noisy: Float[Tensor, "batch channels rows columns"],
        image_condition: Float[Tensor, "batch channels rows columns"],
        timestep: Timestep,
        prompts: Sequence[str],
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The velocity for each row of the batch; rows whose requests are equally long pass together."""
        readings = [self.read(prompt, image) for prompt, image in zip(prompts, image_condition, strict=True)]
        predicted = torch.empty_like(noisy)
        for length in sorted({len(reading) for reading in readings}):
            rows = [row for row, reading in enumerate(readings) if len(reading) == length]
            words = torch.stack([readings[row] for row in rows])
            predicted[rows] = self._velocity(noisy[rows], image_condition[rows], timestep, words).to(noisy)
        return predicted

    def embed(self, prompt: str) -> None:
        """Refuses a prompt that is too long; it is read when there is a view to read it with.

        Raises:
            ValueError: It is longer than the text encoder is given.
        """
        require_length(len(self._processor.tokenizer(prompt).input_ids), MOST_TOKENS)

    @torch.no_grad()
    def read(self, prompt: str, image: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "tokens width"]:
        """The text encoder's last states for a prompt beside a view, kept while the view is edited.

        Raises:
            ValueError: The prompt is longer than the text encoder is given.
        """
        seen = image.detach().float().cpu().contiguous()
        key = hashlib.sha256(seen.numpy().tobytes() + prompt.encode()).hexdigest()
        if key not in self._readings:
            self.embed(prompt)
            while len(self._readings) >= KEPT:
                self._readings.pop(next(iter(self._readings)))
            request = REQUEST.format(picture=self.sight.mark, prompt=NOTHING if prompt == EMPTY_PROMPT else prompt)
            asked = self._processor(text=[request], images=[self._picture(image)], return_tensors="pt").to(self.device)
            made = self._text_encoder(**asked, output_hidden_states=True).hidden_states[-1][0]
            self._readings[key] = made[DROPPED:].to(self.device, self.dtype)
        return self._readings[key]

    def _velocity(self, noisy: Tensor, image_condition: Tensor, timestep: Timestep, words: Tensor) -> Tensor:
        """What the transformer predicts for rows whose readings are equally long."""
        size = (noisy.shape[-2], noisy.shape[-1])
        tokens, grid = pack(noisy, PACKING), (1, *token_grid(size, PACKING))
        predicted = self._transformer(
            hidden_states=torch.cat([tokens, pack(image_condition, PACKING)], dim=1).to(words),
            timestep=torch.full((len(noisy),), self.noise_schedule.level(timestep)).to(words),
            guidance=None,
            encoder_hidden_states_mask=None,
            encoder_hidden_states=words,
            img_shapes=[[grid, grid]] * len(noisy),
            return_dict=False,
        )[0]
        return unpack(predicted[:, : tokens.shape[1]], size, PACKING)

    def _picture(self, image: Float[Tensor, "channels rows columns"]) -> "Image":
        """The view as the text encoder is shown it."""
        from PIL import Image

        decoded = self.decode(image[None])
        height, width = decoded.shape[-2:]
        scale = (self.sight.area / (height * width)) ** 0.5
        size = tuple(max(SIDE, round(side * scale / SIDE) * SIDE) for side in (height, width))
        pixels = resize(decoded, (size[0], size[1]))[0].clamp(0, 1).permute(1, 2, 0)
        return Image.fromarray((255 * pixels).round().byte().cpu().numpy())


def restore_token_lengths(
    combined: Float[Tensor, "views channels rows columns"], text: Float[Tensor, "views channels rows columns"]
) -> Float[Tensor, "views channels rows columns"]:
    """The combined prediction with each token as long as under prompt and image: guidance turns it and no more."""
    tokens, lengths = pack(combined, PACKING), pack(text, PACKING).norm(dim=-1, keepdim=True)
    restored = tokens * (lengths / tokens.norm(dim=-1, keepdim=True))
    return unpack(restored, (combined.shape[-2], combined.shape[-1]), PACKING)


def load_denoiser(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> QwenImageEdit:
    """Loads the part of a Qwen-Image-Edit pipeline that edits, and its autoencoder.

    Args:
        model: A hub id or a local folder in the diffusers format.
        device: Where it computes.
        half_precision: Compute in bfloat16, as it was trained.
        cpu_offload: Keep the weights in main memory and move each layer's over when it is needed.

    Raises:
        ValueError: If there is no such model, it is no such pipeline, or its weights are missing.
    """
    for part in ("transformer", "text_encoder"):
        require_file(model, f"{part}/config.json", KIND)
    noise_schedule = load_noise_schedule(model)

    from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2VLProcessor

    device = torch.device(device)
    dtype = precision(device, half_precision, overflows_in_half=True)
    processor = load_part(Qwen2VLProcessor, model, "processor")
    text_encoder, transformer = (
        place(load_part(network_class, model, part, torch_dtype=dtype), device, cpu_offload)
        for network_class, part in (
            (Qwen2_5_VLForConditionalGeneration, "text_encoder"),
            (QwenImageTransformer2DModel, "transformer"),
        )
    )
    decode = load_autoencoder(model, device, half_precision).decode
    sight = SIGHTS[(read_model_file(model, "model_index.json") or {})["_class_name"]]
    return QwenImageEdit(processor, text_encoder, transformer, noise_schedule, decode, sight, device)


def load_noise_schedule(model: str) -> FlowSchedule:
    """Reads the pipeline's flow schedule.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    return load_flow_schedule(model, KIND, PACKING)
