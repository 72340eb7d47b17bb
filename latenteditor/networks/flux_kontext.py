"""FLUX.1-Kontext as a denoiser: a transformer that flows from noise to the edited view, which reads the view as tokens.

Guidance is distilled into it: one branch, and the text guidance is a number that it is told.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.denoiser import Conditions
from latenteditor.editing.noise_schedule import FlowSchedule, Timestep
from latenteditor.networks.flow import load_flow_schedule
from latenteditor.networks.packing import pack, token_places, unpack
from latenteditor.networks.parts import (
    load_part,
    place,
    precision,
    require_file,
    require_latent_channels,
    require_length,
)

KIND = "FLUX.1-Kontext"
PACKING = 2
MOST_TOKENS = 512
"""Tokens of a prompt that T5 is given."""


class Reading(NamedTuple):
    """What the text encoders make of a prompt."""

    words: Float[Tensor, "tokens width"]
    """T5's."""
    pooled: Float[Tensor, " pooled_width"]
    """CLIP's vector for the whole prompt."""


class FluxKontext:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

    def __init__(
        self,
        tokenizers: tuple[Any, Any],
        text_encoders: tuple[nn.Module, nn.Module],
        transformer: nn.Module,
        noise_schedule: FlowSchedule,
        device: torch.device | str | None = None,
    ) -> None:
        """Freezes the networks, CLIP's and T5's text encoder among them; None is the transformer's device."""
        self.noise_schedule = noise_schedule
        self.device = torch.device(device if device is not None else next(transformer.parameters()).device)
        self.conditions = Conditions(1, "tokens", PACKING, ("pooled text", "guidance"), usual_guidance=2.5)
        self._config: Any = transformer.config
        if not self._config.guidance_embeds:
            self.conditions = replace(self.conditions, extras=("pooled text",))
        self._tokenizers, self._text_encoders = tokenizers, text_encoders
        for network in (*text_encoders, transformer):
            network.eval().requires_grad_(False)
        self._transformer = transformer
        self._readings: dict[str, Reading] = {}

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which the transformer computes; predictions come out in that of the latents."""
        return next(self._transformer.parameters()).dtype

    def require_channels(self, channels: int) -> None:
        """Refuses latents of an autoencoder other than its own, as far as the number of channels tells.

        Raises:
            ValueError: If the transformer edits latents with another number of channels.
        """
        require_latent_channels(channels, self._config.in_channels // PACKING**2, KIND)

    @torch.no_grad()
    def predict_noise(
        self,
        noisy: Float[Tensor, "batch channels rows columns"],
        image_condition: Float[Tensor, "batch channels rows columns"],
        timestep: Timestep,
        prompts: Sequence[str],
        guidance: float | None = None,
    ) -> Float[Tensor, "batch channels rows columns"]:
        """The velocity for each row of the batch; without a `guidance`, that by the usual one."""
        readings = [self.embed(prompt) for prompt in prompts]
        words = torch.stack([reading.words for reading in readings])
        tokens = pack(noisy, PACKING)
        told = self.conditions.usual_guidance if guidance is None else guidance
        predicted = self._transformer(
            hidden_states=torch.cat([tokens, pack(image_condition, PACKING)], dim=1).to(words),
            timestep=torch.full((len(noisy),), self.noise_schedule.level(timestep)).to(words),
            guidance=torch.full((len(noisy),), told, device=self.device) if self.conditions.embeds_guidance else None,
            pooled_projections=torch.stack([reading.pooled for reading in readings]),
            encoder_hidden_states=words,
            txt_ids=words.new_zeros(words.shape[1], 3),
            img_ids=self._places((noisy.shape[-2], noisy.shape[-1])).to(words),
            return_dict=False,
        )[0]
        return unpack(predicted[:, : tokens.shape[1]], (noisy.shape[-2], noisy.shape[-1]), PACKING).to(noisy)

    @torch.no_grad()
    def embed(self, prompt: str) -> Reading:
        """What the text encoders make of a prompt, made once and kept; CLIP reads as much of it as it can.

        Raises:
            ValueError: If the prompt is longer than T5 is given.
        """
        if prompt not in self._readings:
            require_length(len(self._tokenizers[1](prompt).input_ids), MOST_TOKENS)
            clip, t5 = self._text_encoders
            clip_limit = self._tokenizers[0].model_max_length
            pooled = clip(self._ids(0, prompt, clip_limit)).pooler_output[0]
            words = t5(self._ids(1, prompt, MOST_TOKENS))[0][0]
            self._readings[prompt] = Reading(words.to(self.device, self.dtype), pooled.to(self.device, self.dtype))
        return self._readings[prompt]

    def _ids(self, which: int, prompt: str, length: int) -> Tensor:
        """The prompt's ids, filled up or cut to a length."""
        tokenizer = self._tokenizers[which]
        made = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return made.input_ids.to(self.device)

    def _places(self, size: tuple[int, int]) -> Float[Tensor, "tokens 3"]:
        """Which of the two pictures, row and column of each token: of the noisy latents, then of the image."""
        places = token_places(size, PACKING)
        return torch.cat([nn.functional.pad(places, (1, 0), value=picture) for picture in (0.0, 1.0)])


def load_denoiser(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> FluxKontext:
    """Loads the part of a FLUX.1-Kontext pipeline that edits.

    Args:
        model: A hub id or a local folder in the diffusers format.
        device: Where it computes.
        half_precision: Compute in bfloat16, as it was trained.
        cpu_offload: Keep the weights in main memory and move each layer's over when it is needed.

    Raises:
        ValueError: If there is no such model, it is no such pipeline, or its weights are missing.
    """
    for part in ("transformer", "text_encoder", "text_encoder_2"):
        require_file(model, f"{part}/config.json", KIND)
    noise_schedule = load_noise_schedule(model)

    from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
    from transformers import AutoTokenizer, CLIPTextModel, T5EncoderModel

    device = torch.device(device)
    dtype = precision(device, half_precision, overflows_in_half=True)

    def network(network_class: Any, part: str) -> nn.Module:
        return place(load_part(network_class, model, part, torch_dtype=dtype), device, cpu_offload)

    tokenizers = (load_part(AutoTokenizer, model, "tokenizer"), load_part(AutoTokenizer, model, "tokenizer_2"))
    text_encoders = (network(CLIPTextModel, "text_encoder"), network(T5EncoderModel, "text_encoder_2"))
    transformer = network(FluxTransformer2DModel, "transformer")
    return FluxKontext(tokenizers, text_encoders, transformer, noise_schedule, device)


def load_noise_schedule(model: str) -> FlowSchedule:
    """Reads the pipeline's flow schedule.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    return load_flow_schedule(model, KIND, PACKING)
