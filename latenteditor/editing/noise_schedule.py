"""The noise schedule of a diffusion model, as functions of a timestep.

Notation: x is the clean latent, e the noise, a = `alphas_cumprod[t]`, and x_t = sqrt(a) x + sqrt(1 - a) e.
Nothing here has a cursor: every step is told where it starts and where it ends.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
"""What a denoiser may predict: the noise e, the velocity sqrt(a) e - sqrt(1 - a) x, or the clean latent x."""

CLEAN = -1
"""The timestep after the last: no noise is left."""


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """How much of a noised latent is signal, for each timestep."""

    alphas_cumprod: Float[Tensor, " timesteps"]
    """Share of the signal's variance at each timestep, falling from nearly 1 to nearly 0."""
    prediction_type: str = "epsilon"
    """What the denoiser predicts, one of `PREDICTION_TYPES`."""
    final_alpha_cumprod: float = 1.0
    """Share of the signal after the last step; Stable Diffusion was sampled with its first `alphas_cumprod`
    here."""
    first_timestep: int = 0
    """The least noisy timestep a denoiser is asked about; Stable Diffusion's configuration calls it
    `steps_offset`."""

    def __post_init__(self) -> None:
        """Refuses a kind of prediction that nobody here can read."""
        if self.prediction_type not in PREDICTION_TYPES:
            known = ", ".join(PREDICTION_TYPES)
            raise ValueError(f"Unknown prediction type {self.prediction_type!r}: one of {known} fits.")

    @property
    def num_timesteps(self) -> int:
        return len(self.alphas_cumprod)

    def timestep_at(self, fraction: float) -> int:
        """The timestep that lies this far into the schedule: 0 is nearly clean, 1 is nearly pure noise."""
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"A noise level is a fraction of the schedule between 0 and 1, not {fraction}.")
        return round(fraction * (self.num_timesteps - 1))

    def descending_timesteps(self, start: int, num_steps: int) -> list[int]:
        """`num_steps` evenly spaced timesteps, from `start` down to the first of the schedule."""
        if num_steps < 1 or start - self.first_timestep + 1 < num_steps:
            raise ValueError(
                f"Cannot fit {num_steps} denoising steps between timestep {start} and {self.first_timestep}: "
                f"take 1 to {max(start - self.first_timestep + 1, 1)} steps, or more noise."
            )
        return torch.linspace(start, self.first_timestep, num_steps, dtype=torch.float64).round().int().tolist()

    def add_noise(
        self,
        clean: Float[Tensor, "views channels rows columns"],
        noise: Float[Tensor, "views channels rows columns"],
        timestep: int,
    ) -> Float[Tensor, "views channels rows columns"]:
        """x_t = sqrt(a) x + sqrt(1 - a) e."""
        signal, spread = self._signal_and_spread(timestep)
        return signal * clean + spread * noise

    def predict_clean(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: int,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The clean latent that the prediction implies. Latents are unbounded, so nothing is clipped."""
        signal, spread = self._signal_and_spread(timestep)
        if self.prediction_type == "epsilon":
            return (noisy - spread * prediction) / signal
        if self.prediction_type == "v_prediction":
            return signal * noisy - spread * prediction
        return prediction

    def predict_epsilon(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: int,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The noise that the denoiser's prediction implies."""
        signal, spread = self._signal_and_spread(timestep)
        if self.prediction_type == "epsilon":
            return prediction
        if self.prediction_type == "v_prediction":
            return signal * prediction + spread * noisy
        return (noisy - signal * prediction) / spread

    def ddim_step(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: int,
        next_timestep: int,
    ) -> Float[Tensor, "views channels rows columns"]:
        """DDIM's step without noise (arXiv 2010.02502, equation 12, sigma 0); `CLEAN` is after the last."""
        clean = self.predict_clean(noisy, prediction, timestep)
        epsilon = self.predict_epsilon(noisy, prediction, timestep)
        return self.add_noise(clean, epsilon, next_timestep)

    def _signal_and_spread(self, timestep: int) -> tuple[float, float]:
        """sqrt(a) and sqrt(1 - a)."""
        if not CLEAN <= timestep < self.num_timesteps:
            raise ValueError(f"Timestep {timestep} lies outside the schedule's {self.num_timesteps} timesteps.")
        share = self.final_alpha_cumprod if timestep == CLEAN else self.alphas_cumprod[timestep].item()
        return share**0.5, (1.0 - share) ** 0.5
