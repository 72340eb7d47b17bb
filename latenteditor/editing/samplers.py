"""How predictions become the latent of the next timestep: DDIM, DPM-Solver++(2M) and UniPC.

Notation: x_t = alpha x + sigma e is the latent at a timestep t of a diffusion schedule, lambda = log(alpha / sigma),
h = lambda_t - lambda_s says how far a step goes from s to t, m_s is the clean latent that the prediction at s implies,
and m_r that of the step before, at r = (lambda_r - lambda_s) / h < 0. The way from s to t is

    x_t = (sigma_t / sigma_s) x_s + alpha_t (1 - exp(-h)) M        (arXiv 2211.01095, proposition 4.1)

with M the mean of m over the step, weighted by exp(lambda). The samplers differ in M alone: DDIM takes m_s, and
DPM-Solver++(2M) the middle of the straight line through m_r and m_s. UniPC predicts by the same line, which is its
order 2 with B(h) = exp(-h) - 1 ("bh2"), and once m_t is known it corrects x_t by the parabola through all three.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

from jaxtyping import Float
from torch import Tensor

from latenteditor.editing.noise_schedule import CLEAN, DiffusionSchedule, NoiseSchedule, Size, Timestep

Sampler = Literal["ddim", "dpm++", "unipc"]


class Taken(NamedTuple):
    """A step that was taken, as the next ones remember it."""

    noisy: Float[Tensor, "views channels rows columns"]
    """x_s: the latent that it started from, corrected if there was a corrector."""
    clean: Float[Tensor, "views channels rows columns"]
    """m_s."""
    timestep: Timestep
    """s."""


History = tuple[Taken, ...]
"""The last steps of a run, the newest last: none before the first, and never more than two."""


def require_sampler(sampler: str, schedule: NoiseSchedule) -> None:
    """Refuses a sampler that nobody knows, or that a schedule is not for.

    Raises:
        ValueError: One of both.
    """
    if sampler not in get_args(Sampler):
        raise ValueError(f"Unknown sampler {sampler!r}: one of {', '.join(get_args(Sampler))} fits.")
    if sampler != "ddim" and not isinstance(schedule, DiffusionSchedule):
        raise ValueError(
            f"The sampler {sampler} is for diffusion models, and this editor is a flow model, which is sampled by "
            "Euler's steps: take ddim, which means them there."
        )


def sampler_timesteps(
    sampler: Sampler, schedule: NoiseSchedule, start: int, num_steps: int, size: Size | None = None
) -> Sequence[Timestep]:
    """`num_steps` timesteps from `start` down, the last before `CLEAN`, for latents of a size.

    DDIM asks the denoiser even where hardly any noise is left, as in Instruct-NeRF2NeRF. The solvers do not, as in
    diffusers: few steps are better spent where there is more of it.

    Raises:
        ValueError: So many steps do not fit.
    """
    if sampler == "ddim" or not isinstance(schedule, DiffusionSchedule):
        return schedule.descending_timesteps(start, num_steps, size)
    return schedule.descending_timesteps(start, num_steps, size, to_clean=True)


def sample_step(
    sampler: Sampler,
    schedule: NoiseSchedule,
    noisy: Float[Tensor, "views channels rows columns"],
    prediction: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    next_timestep: Timestep,
    history: History = (),
) -> tuple[Float[Tensor, "views channels rows columns"], History]:
    """The latent at the next timestep, and the history to give with it; `CLEAN` is after the last.

    A run begins with an empty history, wherever in the schedule it begins. What is put in place of some cells between
    two steps is nothing to the others: every formula is of one cell.
    """
    if sampler == "ddim":
        return schedule.step(noisy, prediction, timestep, next_timestep), ()
    assert isinstance(schedule, DiffusionSchedule)
    clean = schedule.predict_clean(noisy, prediction, timestep)
    if sampler == "unipc" and history:
        noisy = correct(schedule, clean, timestep, history)
    history = (*history, Taken(noisy, clean, timestep))[-2:]
    return predict(schedule, next_timestep, history), history


def predict(
    schedule: DiffusionSchedule, timestep: Timestep, history: History
) -> Float[Tensor, "views channels rows columns"]:
    """x_t with M = m_s + (m_r - m_s) / 2r: DPM-Solver++(2M), arXiv 2211.01095, algorithm 2; UniP-2, arXiv 2302.04867.

    The first step and the last are DDIM's, M = m_s: before the one nothing is known, and the other may go infinitely
    far in lambda.
    """
    *before, last = history
    mean = last.clean
    if before and timestep != CLEAN:
        slope = (before[-1].clean - last.clean) / _ratio(schedule, before[-1].timestep, last.timestep, timestep)
        mean = mean + 0.5 * slope
    return _integrate(schedule, last, timestep, mean)


def correct(
    schedule: DiffusionSchedule,
    clean: Float[Tensor, "views channels rows columns"],
    timestep: Timestep,
    history: History,
) -> Float[Tensor, "views channels rows columns"]:
    """x_t with M = m_s + a (m_r - m_s) / r + b (m_t - m_s), m_t being `clean`: UniC, arXiv 2302.04867, algorithm 1.

    With u from 0 at s to 1 at t, a + b is the mean of u over the step, and r a + b that of u^2, so that every parabola
    is integrated exactly. Without m_r, a is 0 and b is 1/2.
    """
    *before, last = history
    mean, of_this = last.clean, 0.5
    if before:
        ratio = _ratio(schedule, before[-1].timestep, last.timestep, timestep)
        linear, square = _mean_powers(_log_ratio(schedule, timestep) - _log_ratio(schedule, last.timestep))
        of_before = (linear - square) / (1.0 - ratio)
        of_this = linear - of_before
        mean = mean + of_before * ((before[-1].clean - last.clean) / ratio)
    return _integrate(schedule, last, timestep, mean + of_this * (clean - last.clean))


def _integrate(
    schedule: DiffusionSchedule, start: Taken, timestep: Timestep, mean: Float[Tensor, "views channels rows columns"]
) -> Float[Tensor, "views channels rows columns"]:
    """(sigma_t / sigma_s) x_s + alpha_t (1 - exp(-h)) M, without a logarithm that may be infinite."""
    signal, spread = schedule.signal_and_spread(timestep)
    start_signal, start_spread = schedule.signal_and_spread(start.timestep)
    kept = spread / start_spread
    return kept * start.noisy + (signal - start_signal * kept) * mean


def _mean_powers(span: float) -> tuple[float, float]:
    """The means of u and of u^2 over u from 0 to 1, weighted by exp(h u)."""
    end = -1.0 / math.expm1(-span)
    linear = end - 1.0 / span
    return linear, end - 2.0 * linear / span


def _ratio(schedule: DiffusionSchedule, before: Timestep, start: Timestep, end: Timestep) -> float:
    """r: where the step before started, if this one goes from 0 to 1 in lambda."""
    of_before, of_start, of_end = (_log_ratio(schedule, timestep) for timestep in (before, start, end))
    return (of_before - of_start) / (of_end - of_start)


def _log_ratio(schedule: DiffusionSchedule, timestep: Timestep) -> float:
    """Lambda, infinite where there is no signal."""
    signal, spread = schedule.signal_and_spread(timestep)
    return math.log(signal / spread) if signal > 0 else -math.inf
