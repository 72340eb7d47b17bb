"""FLUX.2-klein as a denoiser: a flow whose transformer reads the view as tokens and the prompt through Qwen3.

A distilled one is asked under one branch, the base model under two; its `model_index.json` says which it is.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from latenteditor.editing.denoiser import Conditions
from latenteditor.editing.noise_schedule import FlowSchedule, Timestep
from latenteditor.networks.flow import load_flow_schedule
from latenteditor.networks.models import read_model_file
from latenteditor.networks.packing import pack, token_places, unpack
from latenteditor.networks.parts import (
    load_part,
    place,
    precision,
    require_file,
    require_latent_channels,
    require_length,
)

KIND = "FLUX.2-klein"
PACKING = 2
MOST_TOKENS = 512
"""Tokens of a prompt, with the marks around it, that the text encoder is given."""
LAYERS = (9, 18, 27)
"""Layers of the text encoder whose states the transformer reads, side by side."""
IMAGE_TIME = 10.0
"""Where the tokens of the image stand on the axis on which those of the noisy latents stand at zero."""
MANY_TOKENS = 4300
"""Tokens of a view above which the shift no longer depends on the number of steps."""


class Flux2Klein:
    """A `Denoiser` that follows instructions. Not an nn.Module: its holder neither trains nor saves it."""

    def __init__(
        self,
        tokenizer: Any,
        text_encoder: nn.Module,
        transformer: nn.Module,
        noise_schedule: FlowSchedule,
        distilled: bool,
        device: torch.device | str | None = None,
    ) -> None:
        """Freezes the networks, which compute on `device`; None is where the transformer lies."""
        self.noise_schedule = noise_schedule
        self.device = torch.device(device if device is not None else next(transformer.parameters()).device)
        usual_guidance = 1.0 if distilled else 4.0
        self.conditions = Conditions(1 if distilled else 2, "tokens", PACKING, usual_guidance=usual_guidance)
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder.eval().requires_grad_(False)
        self._transformer = transformer.eval().requires_grad_(False)
        self._embeddings: dict[str, Tensor] = {}

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
        """The velocity for each row of the batch under its image condition and its prompt."""
        words = torch.stack([self.embed(prompt) for prompt in prompts])
        size = (noisy.shape[-2], noisy.shape[-1])
        tokens = pack(noisy, PACKING)
        predicted = self._transformer(
            hidden_states=torch.cat([tokens, pack(image_condition, PACKING)], dim=1).to(words),
            timestep=torch.full((len(noisy),), self.noise_schedule.level(timestep)).to(words),
            guidance=None,
            encoder_hidden_states=words,
            txt_ids=_word_places(words).expand(len(noisy), -1, -1),
            img_ids=_cell_places(size).to(self.device).expand(len(noisy), -1, -1),
            return_dict=False,
        )[0]
        return unpack(predicted[:, : tokens.shape[1]], size, PACKING).to(noisy)

    @torch.no_grad()
    def embed(self, prompt: str) -> Float[Tensor, "tokens width"]:
        """The text encoder's states for a prompt, made once and kept.

        Raises:
            ValueError: If the prompt is longer than the text encoder is given.
        """
        if prompt not in self._embeddings:
            made = self._text_encoder(**self._tokenize(prompt), output_hidden_states=True, use_cache=False)
            layers = torch.cat([made.hidden_states[layer][0] for layer in LAYERS], dim=-1)
            self._embeddings[prompt] = layers.to(self.device, self.dtype)
        return self._embeddings[prompt]

    def _tokenize(self, prompt: str) -> dict[str, Tensor]:
        """The prompt's ids as a request to an assistant, filled up, and which of them are read."""
        request = [{"role": "user", "content": prompt}]
        text = self._tokenizer.apply_chat_template(
            request, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        require_length(len(self._tokenizer(text).input_ids), MOST_TOKENS)
        made = self._tokenizer(text, return_tensors="pt", padding="max_length", max_length=MOST_TOKENS)
        return {name: made[name].to(self.device) for name in ("input_ids", "attention_mask")}


def load_denoiser(
    model: str, device: torch.device | str, half_precision: bool = False, cpu_offload: bool = False
) -> Flux2Klein:
    """Loads the part of a FLUX.2-klein pipeline that edits.

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

    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
    from transformers import AutoTokenizer, Qwen3ForCausalLM

    device = torch.device(device)
    dtype = precision(device, half_precision, overflows_in_half=True)
    tokenizer = load_part(AutoTokenizer, model, "tokenizer")
    text_encoder, transformer = (
        place(load_part(network_class, model, part, torch_dtype=dtype), device, cpu_offload)
        for network_class, part in ((Qwen3ForCausalLM, "text_encoder"), (Flux2Transformer2DModel, "transformer"))
    )
    distilled = (read_model_file(model, "model_index.json") or {}).get("is_distilled", False)
    return Flux2Klein(tokenizer, text_encoder, transformer, noise_schedule, distilled, device)


def load_noise_schedule(model: str) -> FlowSchedule:
    """Reads the pipeline's flow schedule.

    Raises:
        ValueError: If there is no such model, or no scheduler in it.
    """
    return load_flow_schedule(model, KIND, PACKING, _log_shift)


def _log_shift(_config: Mapping[str, Any], tokens: int, num_steps: int) -> float:
    """FLUX.2's: between lines that its authors fitted for 10 and for 200 steps; of many tokens, on the latter."""
    for_200 = 0.00016927 * tokens + 0.45666666
    if tokens > MANY_TOKENS:
        return for_200
    for_10 = 8.73809524e-05 * tokens + 1.89833333
    return for_200 + (for_200 - for_10) * (num_steps - 200) / (200 - 10)


def _word_places(words: Float[Tensor, "batch tokens width"]) -> Float[Tensor, "tokens 4"]:
    """Where words stand: in a line on the last axis."""
    places = torch.arange(words.shape[1], dtype=torch.float32, device=words.device)[:, None]
    return nn.functional.pad(places, (3, 0))


def _cell_places(size: tuple[int, int]) -> Float[Tensor, "tokens 4"]:
    """Where the tokens of the noisy latents stand, and then those of the image: picture, row and column."""
    places = nn.functional.pad(token_places(size, PACKING), (1, 1))
    image = places + torch.tensor([IMAGE_TIME, 0.0, 0.0, 0.0])
    return torch.cat([places, image])
