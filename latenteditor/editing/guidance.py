"""How a denoiser's predictions under different conditions become one, and the sampling by them.

Notation as in `denoiser.py`: e(z, I, C) is the prediction under the image condition I and the prompt C.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from latenteditor.editing.denoiser import EMPTY_PROMPT, Denoiser
from latenteditor.editing.failures import CannotEdit
from latenteditor.editing.noise_schedule import CLEAN, NoiseSchedule, Timestep
from latenteditor.editing.samplers import History, Sampler, require_sampler, sample_step

LOGGER = logging.getLogger(__name__)

LIMIT = "most_rows"
"""Attribute of a denoiser that says how many rows its memory holds, once it did not hold more."""


class NoisePrediction(NamedTuple):
    """The predictions for the same noised latents under the three conditions of InstructPix2Pix."""

    text: Float[Tensor, "views channels rows columns"]
    """e(z, I, C): under the image and the prompt."""
    image: Float[Tensor, "views channels rows columns"]
    """e(z, I, -): under the image alone."""
    uncond: Float[Tensor, "views channels rows columns"]
    """e(z, -, -): under neither."""


@dataclass
class Guidance:
    """How far a prediction is pushed towards the prompt and towards the image."""

    text: float = 7.5
    """How strongly the edit follows the prompt; 2 to 12 is usual. Too high burns colours in. From
    InstructPix2Pix."""
    image: float = 1.5
    """How strongly the edit keeps to the view as it was before the edit; 1 to 2 is usual. From InstructPix2Pix."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Least and most noise at which guidance acts, as fractions of the schedule. At other levels both scales are 1,
    and a step takes a single prediction, which is faster. Guidance is said to do harm where there is most noise, and
    little where there is least (Kynkäänniemi et al. 2024): `0 0.8` leaves out the noisiest fifth. The default,
    everywhere, is InstructPix2Pix's."""

    def at(self, timestep: Timestep, schedule: NoiseSchedule) -> "Guidance":
        """These scales within the interval, and 1 outside it (arXiv 2404.07724).

        Raises:
            ValueError: It is no interval of the schedule.
        """
        low, high = self.interval
        if low > high:
            raise ValueError(f"Guidance begins to act at the noise level {low} and ends at {high}: swap.")
        if schedule.timestep_at(low) <= max(timestep, 0) <= schedule.timestep_at(high):
            return self
        return Guidance(1.0, 1.0)

    def combine(self, prediction: NoisePrediction) -> Float[Tensor, "views channels rows columns"]:
        """e(z,-,-) + s_I (e(z,I,-) - e(z,-,-)) + s_T (e(z,I,C) - e(z,I,-)): InstructPix2Pix, equation 3."""
        text, image, uncond = prediction
        return uncond + self.image * (image - uncond) + self.text * (text - image)


def predict_for_guidance(
    denoiser: Denoiser,
    noisy: Float[Tensor, "views channels rows columns"],
    image_condition: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    prompt: str,
    max_batch: int | None = None,
) -> NoisePrediction:
    """The three predictions that guidance combines, from one call with a batch of three per view."""
    no_image = torch.zeros_like(image_condition)
    prompts = [prompt] * len(noisy) + [EMPTY_PROMPT] * 2 * len(noisy)
    conditions = torch.cat([image_condition, image_condition, no_image])
    predicted = predict_in_batches(denoiser, noisy.repeat(3, 1, 1, 1), conditions, timestep, prompts, max_batch)
    return NoisePrediction(*predicted.chunk(3))


def predict_guided(
    denoiser: Denoiser,
    noisy: Float[Tensor, "views channels rows columns"],
    image_condition: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    prompt: str,
    guidance: Guidance,
    max_batch: int | None = None,
) -> Float[Tensor, "views channels rows columns"]:
    """The combined prediction, of as many branches as the denoiser is asked under.

    What an image guidance of 1 weighs by zero, e(z,-,-), is then not asked for; nor is e(z,I,-) where that of the text
    is 1 as well, as it is outside the interval in which guidance acts.
    """
    guidance = guidance.at(timestep, denoiser.noise_schedule)
    if denoiser.conditions.branches < 3:
        return _predict_without_image_guidance(
            denoiser, noisy, image_condition, timestep, prompt, guidance.text, max_batch
        )
    if guidance.image == 1 == guidance.text:
        return predict_in_batches(denoiser, noisy, image_condition, timestep, [prompt] * len(noisy), max_batch)
    if guidance.image == 1:
        text, image = predict_with_and_without_prompt(denoiser, noisy, image_condition, timestep, prompt, max_batch)
        return guidance.combine(NoisePrediction(text, image, image))
    prediction = predict_for_guidance(denoiser, noisy, image_condition, timestep, prompt, max_batch)
    return guidance.combine(prediction)


def _predict_without_image_guidance(
    denoiser: Denoiser,
    noisy: Float[Tensor, "views channels rows columns"],
    image_condition: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    prompt: str,
    scale: float,
    max_batch: int | None,
) -> Float[Tensor, "views channels rows columns"]:
    """e(z, I, -) + s (e(z, I, C) - e(z, I, -)), or e(z, I, C) alone of one branch, which may read s itself."""
    conditions = denoiser.conditions
    if conditions.branches == 1 or scale == 1:
        embedded = scale if conditions.embeds_guidance else None
        prompts = [prompt] * len(noisy)
        return predict_in_batches(denoiser, noisy, image_condition, timestep, prompts, max_batch, embedded)
    text, image = predict_with_and_without_prompt(denoiser, noisy, image_condition, timestep, prompt, max_batch)
    combined = image + scale * (text - image)
    return combined if conditions.restore is None else conditions.restore(combined, text)


def predict_with_and_without_prompt(
    denoiser: Denoiser,
    noisy: Float[Tensor, "views channels rows columns"],
    image_condition: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    prompt: str,
    max_batch: int | None = None,
) -> tuple[Float[Tensor, "views channels rows columns"], Float[Tensor, "views channels rows columns"]]:
    """e(z, I, C) and e(z, I, -), from one call with a batch of two per view."""
    prompts = [prompt] * len(noisy) + [EMPTY_PROMPT] * len(noisy)
    conditions = image_condition.repeat(2, 1, 1, 1)
    predicted = predict_in_batches(denoiser, noisy.repeat(2, 1, 1, 1), conditions, timestep, prompts, max_batch)
    with_prompt, without = predicted.chunk(2)
    return with_prompt, without


def predict_in_batches(
    denoiser: Denoiser,
    noisy: Float[Tensor, "batch channels rows columns"],
    image_condition: Float[Tensor, "batch channels rows columns"],
    timestep: Timestep,
    prompts: Sequence[str],
    max_batch: int | None = None,
    embedded_guidance: float | None = None,
) -> Float[Tensor, "batch channels rows columns"]:
    """The denoiser's predictions, asked for at most `max_batch` rows at a time; None asks for all at once.

    A denoiser that reads the text guidance is given `embedded_guidance`; None leaves it at the usual one. Where the
    GPU's memory runs out, half as many rows are asked for from then on.

    Raises:
        CannotEdit: The memory does not hold a single row.
    """
    require_batch(max_batch)
    limited: Any = denoiser
    options = {} if embedded_guidance is None else {"guidance": embedded_guidance}
    while True:
        size = min(max_batch or len(noisy), getattr(limited, LIMIT, len(noisy)), len(noisy))
        try:
            return torch.cat(
                [
                    limited.predict_noise(
                        noisy[first : first + size],
                        image_condition[first : first + size],
                        timestep,
                        prompts[first : first + size],
                        **options,
                    )
                    for first in range(0, len(noisy), size)
                ]
            )
        except torch.cuda.OutOfMemoryError:
            pass  # What is left of the attempt can be freed only when the error is gone.
        setattr(limited, LIMIT, _half(size))


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    noisy: Float[Tensor, "views channels rows columns"],
    bases: Float[Tensor, "views channels rows columns"],
    timesteps: Sequence[Timestep],
    prompt: str,
    guidance: Guidance,
    after_step: Callable[[Tensor, Timestep], Tensor] | None = None,
    max_batch: int | None = None,
    sampler: Sampler = "ddim",
) -> Float[Tensor, "views channels rows columns"]:
    """Guided steps along `timesteps`, conditioned on the `bases`, down to clean latents.

    `after_step` may change the latents after each step; it is told the timestep they have reached. "unipc"
    corrects them in the next step as if they were its own, so what is to stay must be put in place after every step.

    Raises:
        ValueError: The sampler is not for the denoiser's schedule.
    """
    schedule, history = denoiser.noise_schedule, History()
    require_sampler(sampler, schedule)
    for timestep, next_timestep in zip(timesteps, [*timesteps[1:], CLEAN], strict=True):
        prediction = predict_guided(denoiser, noisy, bases, timestep, prompt, guidance, max_batch)
        noisy, history = sample_step(sampler, schedule, noisy, prediction, timestep, next_timestep, history)
        if after_step is not None:
            noisy = after_step(noisy, next_timestep)
    return noisy


def _half(size: int) -> int:
    """Half of a batch that the GPU's memory did not hold."""
    torch.cuda.empty_cache()
    if size == 1:
        raise CannotEdit(
            "The GPU's memory does not hold an edit of a single latent: take latenteditor-tiny, "
            "--pipeline.edit.half-precision True, --pipeline.edit.cpu-offload True, or a smaller "
            "--pipeline.datamanager.image-size."
        )
    LOGGER.warning(
        "The GPU's memory did not hold %d latents at once: from now on %d pass the denoiser. Where that is known "
        "before, --pipeline.edit.max-batch %d saves the attempt.",
        size,
        size // 2,
        size // 2,
    )
    return size // 2


def require_batch(max_batch: int | None) -> None:
    """Refuses a limit below one."""
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"A batch of {max_batch} holds nothing: take 1 or more, or None for no limit.")
