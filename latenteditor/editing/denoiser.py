"""What a denoiser is, and what it says of itself.

Notation of InstructPix2Pix: e(z, I, C) is the prediction for the noised latent z under the image condition I
and the prompt C; the empty image condition is all zeros and the empty prompt is "". What a denoiser calls a prompt is
any text that it reads: an instruction, or none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from latenteditor.editing.noise_schedule import NoiseSchedule, Timestep

EMPTY_PROMPT = ""

Extra = Literal["sizes", "pooled text", "guidance", "picture"]
"""What a denoiser may want beside the image and the prompt: the sizes of the view in pixels, one vector for the whole
prompt, the text guidance as a number, the decoded view beside the words of the prompt."""


@dataclass(frozen=True)
class Conditions:
    """What a denoiser is asked under."""

    branches: Literal[1, 2, 3] = 3
    """Predictions that guidance combines: under prompt and image, under the image alone, under neither (3); the first
    two (2); or the first alone, where guidance was distilled into the network (1). Without the prompt it can be asked
    in any case: delta masks need that."""
    image: Literal["channels", "tokens"] = "channels"
    """Where the image condition comes: beside the noisy latents as channels, or after them as tokens."""
    packing: int = 1
    """Latent cells along each side of what the network takes for one token. Sides are filled up to multiples of it."""
    extras: tuple[Extra, ...] = ()
    """What else it wants, and makes by itself of what it is given."""
    usual_guidance: float = 7.5
    """The text guidance that its authors sample with."""
    restore: Callable[[Tensor, Tensor], Tensor] | None = None
    """Corrects a combined prediction by the one under prompt and image, where its authors sample so."""

    @property
    def embeds_guidance(self) -> bool:
        """Whether `predict_noise` takes a further `guidance`, the text guidance as a number."""
        return "guidance" in self.extras


@runtime_checkable
class Denoiser(Protocol):
    """A frozen network that predicts the noise in a latent, given an image and a prompt."""

    noise_schedule: NoiseSchedule
    """The schedule it was trained on, what its predictions mean, and how its steps follow from the size of a view."""

    @property
    def conditions(self) -> Conditions:
        """What it is asked under."""
        ...

    def predict_noise(
        self,
        noisy: Float[Tensor, "batch channels rows columns"],
        image_condition: Float[Tensor, "batch channels rows columns"],
        timestep: Timestep,
        prompts: Sequence[str],
    ) -> Float[Tensor, "batch channels rows columns"]:
        """One prediction per row of the batch, of the kind that `noise_schedule.prediction_type` names.

        `image_condition` holds scaled latents of the image to edit, the base of a view, or exact zeros for "no
        image", which a denoiser of three branches is asked under; one that was trained on unscaled ones unscales them
        itself. One that embeds guidance takes it as a further argument, `guidance`, with the usual one as its default.
        """
        ...
