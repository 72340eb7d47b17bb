"""Denoisers whose answers are known in closed form."""

import torch
from torch import Tensor

from latenteditor.editing.denoiser import Conditions
from latenteditor.editing.noise_schedule import DiffusionSchedule


def noise_schedule(prediction_type="epsilon", **options) -> DiffusionSchedule:
    """Stable Diffusion's schedule."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return DiffusionSchedule(torch.cumprod(1.0 - betas, dim=0), prediction_type, **options)


class KnownEdit:
    """Knows the clean latents: the image condition, plus `change` where there is one and the prompt fits."""

    conditions = Conditions()

    def __init__(self, change: Tensor, prompt: str = "paint it", schedule: DiffusionSchedule | None = None) -> None:
        self.noise_schedule = schedule or noise_schedule()
        self.change = change
        self.prompt = prompt
        self.batch_sizes: list[int] = []

    def predict_noise(self, noisy, image_condition, timestep, prompts):
        self.batch_sizes.append(len(noisy))
        asked = torch.tensor([prompt == self.prompt for prompt in prompts])[:, None, None, None]
        present = image_condition.flatten(1).any(dim=1)[:, None, None, None]
        clean = image_condition + (asked & present) * self.change
        # From "this is clean" to the noise it implies.
        knows_clean = DiffusionSchedule(self.noise_schedule.alphas_cumprod, "sample")
        return knows_clean.predict_epsilon(noisy, clean, timestep)
