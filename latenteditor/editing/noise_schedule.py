"""The noise schedules of diffusion and of flow models, as functions of a timestep.

Notation: x is the clean latent and e the noise. A diffusion model's noised latent is
x_t = sqrt(a) x + sqrt(1 - a) e with a = `alphas_cumprod[t]`; a flow model's is x_t = (1 - s) x + s e, where s falls
from 1 to 0 with the timestep.
Nothing here has a cursor: every step is told where it starts and where it ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
"""What a diffusion model may predict: the noise e, the velocity sqrt(a) e - sqrt(1 - a) x, or the clean latent x."""

FLOW = "flow"
"""What a flow model predicts: the velocity e - x."""

CLEAN = -1
"""The timestep after the last: no noise is left."""

Timestep = int | float
"""Where in a schedule a latent is: edits start at whole numbers, and some schedules go on between them."""

Size = tuple[int, int]
"""Rows and columns of latents."""


@runtime_checkable
class NoiseSchedule(Protocol):
    """How latents are noised and denoised: `DiffusionSchedule` or `FlowSchedule`."""

    @property
    def prediction_type(self) -> str:
        """What the denoiser predicts, one of `PREDICTION_TYPES` or `FLOW`."""
        ...

    @property
    def num_timesteps(self) -> int:
        """How many whole timesteps there are."""
        ...

    def timestep_at(self, fraction: float) -> int:
        """The timestep that lies this far into the schedule: 0 is nearly clean, 1 is pure noise or nearly so."""
        ...

    def descending_timesteps(self, start: int, num_steps: int, size: Size | None = None) -> Sequence[Timestep]:
        """`num_steps` timesteps from `start` down, the last before `CLEAN`.

        `size` is that of the latents, for schedules that depend on it.
        """
        ...

    def add_noise(
        self,
        clean: Float[Tensor, "views channels rows columns"],
        noise: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """x_t."""
        ...

    def predict_clean(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The x that the prediction implies."""
        ...

    def predict_epsilon(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The e that the prediction implies."""
        ...

    def step(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
        next_timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The latent at the next timestep, along the way that the prediction points."""
        ...


@dataclass(frozen=True, eq=False)
class DiffusionSchedule:
    """How much of a diffusion model's noised latent is signal, for each timestep; DDIM is its step."""

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
        return _timestep_at(fraction, self.num_timesteps)

    def descending_timesteps(
        self, start: int, num_steps: int, size: Size | None = None, to_clean: bool = False
    ) -> Sequence[Timestep]:
        """`num_steps` evenly spaced timesteps from `start` down, whatever the size.

        The last of them is the first of the schedule, or, `to_clean`, as far above that as they lie apart.
        """
        if num_steps < 1 or start - self.first_timestep + 1 < num_steps:
            raise ValueError(
                f"Cannot fit {num_steps} denoising steps between timestep {start} and {self.first_timestep}: "
                f"take 1 to {max(start - self.first_timestep + 1, 1)} steps, or more noise."
            )
        if to_clean:
            spaced = torch.linspace(start, self.first_timestep - 1, num_steps + 1, dtype=torch.float64)[:-1]
        else:
            spaced = torch.linspace(start, self.first_timestep, num_steps, dtype=torch.float64)
        return spaced.round().int().tolist()

    def add_noise(
        self,
        clean: Float[Tensor, "views channels rows columns"],
        noise: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """x_t = sqrt(a) x + sqrt(1 - a) e."""
        signal, spread = self.signal_and_spread(timestep)
        return signal * clean + spread * noise

    def predict_clean(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The clean latent that the prediction implies. Latents are unbounded, so nothing is clipped."""
        signal, spread = self.signal_and_spread(timestep)
        if self.prediction_type == "epsilon":
            return (noisy - spread * prediction) / signal
        if self.prediction_type == "v_prediction":
            return signal * noisy - spread * prediction
        return prediction

    def predict_epsilon(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The noise that the denoiser's prediction implies."""
        signal, spread = self.signal_and_spread(timestep)
        if self.prediction_type == "epsilon":
            return prediction
        if self.prediction_type == "v_prediction":
            return signal * prediction + spread * noisy
        return (noisy - signal * prediction) / spread

    def step(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
        next_timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """DDIM's step without noise (arXiv 2010.02502, equation 12, sigma 0); `CLEAN` is after the last."""
        clean = self.predict_clean(noisy, prediction, timestep)
        epsilon = self.predict_epsilon(noisy, prediction, timestep)
        return self.add_noise(clean, epsilon, next_timestep)

    def share_at(self, timestep: Timestep) -> float:
        """a, at a timestep before `CLEAN`."""
        return self.alphas_cumprod[int(timestep)].item()

    def signal_and_spread(self, timestep: Timestep) -> tuple[float, float]:
        """sqrt(a) and sqrt(1 - a), the shares of x and e in x_t."""
        _require_timestep(timestep, self.num_timesteps)
        share = self.final_alpha_cumprod if timestep == CLEAN else self.share_at(timestep)
        return share**0.5, (1.0 - share) ** 0.5


@dataclass(frozen=True, eq=False)
class SigmaSchedule(DiffusionSchedule):
    """A diffusion schedule between whole timesteps: its levels are functions of how far into it a timestep lies.

    Models with sigmas in the way of EDM noise by x + sigma e. Divided by sqrt(1 + sigma^2), which is what their
    networks see, that is the latent of a diffusion schedule with a = 1 / (1 + sigma^2), and Euler's step in sigma is
    DDIM's.
    """

    sigma_at: Callable[[float], float] | None = None
    """Sigma as a function of the fraction of the schedule."""

    def descending_timesteps(
        self, start: int, num_steps: int, size: Size | None = None, to_clean: bool = False
    ) -> Sequence[Timestep]:
        """`num_steps` evenly spaced timesteps, from `start` down to the first, which is all but clean in any case."""
        _require_steps(start, num_steps)
        return torch.linspace(start, self.first_timestep, num_steps, dtype=torch.float64).tolist()

    def share_at(self, timestep: Timestep) -> float:
        """A = 1 / (1 + sigma^2)."""
        return 1.0 / (1.0 + self.sigma(timestep) ** 2)

    def sigma(self, timestep: Timestep) -> float:
        """Sigma at a timestep."""
        assert self.sigma_at is not None
        return self.sigma_at(timestep / (self.num_timesteps - 1))


def sigma_schedule(
    sigma_at: Callable[[float], float], prediction_type: str, num_timesteps: int = 1000
) -> SigmaSchedule:
    """The schedule whose sigma is a function of the fraction of it, from the least at 0 to the most at 1."""
    levels = torch.linspace(0, 1, num_timesteps, dtype=torch.float64).tolist()
    shares = torch.tensor([1.0 / (1.0 + sigma_at(level) ** 2) for level in levels])
    return SigmaSchedule(shares, prediction_type, sigma_at=sigma_at)


@dataclass(frozen=True, eq=False)
class FlowSchedule:
    """The straight ways of a flow model from noise to latents; Euler's is its step.

    s is (t + 1) / `num_timesteps`, so that `CLEAN` is without noise and the last timestep without signal.
    """

    shift: Callable[[Size | None, int], float] = lambda _size, _num_steps: 1.0
    """How much longer steps stay where there is much noise, as a factor on s / (1 - s): by the size of the latents,
    None where it is not known, and the number of steps."""
    last_level: float | None = None
    """The s of the last step before `CLEAN`, where the model's steps are stretched to end there."""
    num_timesteps: int = 1000
    """How many whole timesteps there are."""

    @property
    def prediction_type(self) -> str:
        """E - x."""
        return FLOW

    def timestep_at(self, fraction: float) -> int:
        """The timestep that lies this far into the schedule: 0 is nearly clean, 1 is pure noise."""
        return _timestep_at(fraction, self.num_timesteps)

    def level(self, timestep: Timestep) -> float:
        """s, the share of noise at a timestep."""
        _require_timestep(timestep, self.num_timesteps)
        return (timestep + 1) / self.num_timesteps

    def descending_timesteps(self, start: int, num_steps: int, size: Size | None = None) -> Sequence[Timestep]:
        """`num_steps` timesteps from `start` down, evenly spaced before the shift."""
        _require_steps(start, num_steps)
        first, shift = self.level(start), self.shift(size, num_steps)
        unshifted = _shifted(first, 1.0 / shift)
        rest = (_shifted(unshifted * left / num_steps, shift) for left in range(num_steps - 1, 0, -1))
        return [start, *(level * self.num_timesteps - 1 for level in self._stretched([first, *rest])[1:])]

    def add_noise(
        self,
        clean: Float[Tensor, "views channels rows columns"],
        noise: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """x_t = (1 - s) x + s e."""
        level = self.level(timestep)
        return (1.0 - level) * clean + level * noise

    def predict_clean(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """X = x_t - s (e - x)."""
        return noisy - self.level(timestep) * prediction

    def predict_epsilon(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """E = x_t + (1 - s) (e - x)."""
        return noisy + (1.0 - self.level(timestep)) * prediction

    def step(
        self,
        noisy: Float[Tensor, "views channels rows columns"],
        prediction: Float[Tensor, "views channels rows columns"],
        timestep: Timestep,
        next_timestep: Timestep,
    ) -> Float[Tensor, "views channels rows columns"]:
        """Euler's step along the velocity; `CLEAN` is after the last."""
        return noisy + (self.level(next_timestep) - self.level(timestep)) * prediction

    def _stretched(self, levels: list[float]) -> list[float]:
        """The levels, drawn out or together so that the last is `last_level`; the first stays."""
        first, last = levels[0], levels[-1]
        if self.last_level is None or not last < first or self.last_level >= first:
            return levels
        factor = (first - self.last_level) / (first - last)
        return [first - (first - level) * factor for level in levels]


def _shifted(level: float, shift: float) -> float:
    """The s whose s / (1 - s) is `shift` times that of `level`."""
    return shift * level / (1.0 + (shift - 1.0) * level)


def _timestep_at(fraction: float, num_timesteps: int) -> int:
    """The timestep a fraction into a schedule."""
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"A noise level is a fraction of the schedule between 0 and 1, not {fraction}.")
    return round(fraction * (num_timesteps - 1))


def _require_timestep(timestep: Timestep, num_timesteps: int) -> None:
    """Refuses a timestep that is neither in the schedule nor `CLEAN`."""
    if not CLEAN <= timestep <= num_timesteps - 1:
        raise ValueError(f"Timestep {timestep} lies outside the schedule's {num_timesteps} timesteps.")


def _require_steps(start: int, num_steps: int) -> None:
    """Refuses to denoise in no step; between whole timesteps there is room for any number of them."""
    if num_steps < 1:
        raise ValueError(f"Cannot fit {num_steps} denoising steps between timestep {start} and 0: take 1 or more.")
