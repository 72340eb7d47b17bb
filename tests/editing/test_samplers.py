"""Whole runs against those of diffusers, which counts its steps itself, and what only we say of them."""

import math

import numpy as np
import pytest
import torch

from latenteditor.editing.editor import EditConfig, edit_from, edit_from_noise
from latenteditor.editing.guidance import Guidance, denoise
from latenteditor.editing.noise_schedule import CLEAN, DiffusionSchedule, FlowSchedule, sigma_schedule
from latenteditor.editing.samplers import Taken, correct, require_sampler, sample_step, sampler_timesteps
from tests.editing.denoisers import KnownEdit, noise_schedule

PREDICTION_TYPES = ["epsilon", "v_prediction", "sample"]
SOLVERS = ["dpm++", "unipc"]
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
STARTS = {"from noise": 999, "from the middle": 480}


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(seed))


class Fixed:
    """A network of fixed random weights, neither linear in the latent nor in the timestep."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(7)
        self.first, self.second = (torch.randn(4, 4, generator=generator) / 2 for _ in range(2))

    def __call__(self, noisy: torch.Tensor, timestep: float) -> torch.Tensor:
        hidden = torch.einsum("ij,vjrc->virc", self.first.to(noisy), noisy) + math.sin(timestep / 150)
        return torch.einsum("ij,vjrc->virc", self.second.to(noisy), hidden.tanh())


def theirs(sampler: str, prediction_type: str, final: str, timesteps: list[int]):
    """A scheduler of diffusers for these timesteps, which ends with DDIM however many there are, as it does by default
    where no noise is left."""
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    options = STABLE_DIFFUSION | {"prediction_type": prediction_type, "final_sigmas_type": final}
    if sampler == "dpm++":
        scheduler = DPMSolverMultistepScheduler(**options, euler_at_final=True)
        scheduler.set_timesteps(timesteps=timesteps)
        return scheduler
    scheduler = UniPCMultistepScheduler(**options)
    scheduler.set_timesteps(len(timesteps))  # It takes no timesteps of others, so it is given their sigmas by hand.
    sigmas = ((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod).sqrt().numpy()
    last = sigmas[0] if final == "sigma_min" else 0.0
    scheduler.sigmas = torch.from_numpy(np.append(sigmas[timesteps], last).astype(np.float32))
    scheduler.timesteps = torch.tensor(timesteps)
    return scheduler


def run(sampler, schedule, network, latents, timesteps) -> list[torch.Tensor]:
    """The latents after each step."""
    found, history = [], ()
    for timestep, after in zip(timesteps, [*timesteps[1:], CLEAN], strict=True):
        latents, history = sample_step(sampler, schedule, latents, network(latents, timestep), timestep, after, history)
        found.append(latents)
    return found


@pytest.mark.parametrize("final", ["zero", "sigma_min"])
@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 8, 20])
@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("sampler", SOLVERS)
def test_every_step_is_that_of_diffusers(sampler, prediction_type, num_steps, start, final):
    shares = noise_schedule().alphas_cumprod
    last = shares[0].item() if final == "sigma_min" else 1.0
    schedule = DiffusionSchedule(shares, prediction_type, last, first_timestep=1)
    timesteps = list(sampler_timesteps(sampler, schedule, start, num_steps))
    scheduler, network, latents = theirs(sampler, prediction_type, final, timesteps), Fixed(), draw(0)
    ours = run(sampler, schedule, network, latents, timesteps)
    for timestep, found in zip(timesteps, ours, strict=True):
        latents = scheduler.step(network(latents, timestep), timestep, latents).prev_sample
        torch.testing.assert_close(found, latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_steps", [1, 4, 7, 20])
def test_the_solvers_timesteps_are_those_of_diffusers(num_steps):
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

    schedule = noise_schedule(first_timestep=1)
    for sampler, kind in zip(SOLVERS, (DPMSolverMultistepScheduler, UniPCMultistepScheduler), strict=True):
        scheduler = kind()
        scheduler.set_timesteps(num_steps)
        assert sampler_timesteps(sampler, schedule, 999, num_steps) == scheduler.timesteps.tolist()


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("sampler", ["ddim", *SOLVERS])
def test_timesteps_fall_to_the_first_of_the_schedule_however_little_room_there_is(sampler, first):
    schedule = noise_schedule(first_timestep=first)
    assert sampler_timesteps(sampler, schedule, 19 + first, 20) == list(range(19 + first, first - 1, -1))
    with pytest.raises(ValueError, match="Cannot fit 21 denoising steps between timestep .* take 1 to 20 steps"):
        sampler_timesteps(sampler, schedule, 19 + first, 21)
    assert sampler_timesteps("ddim", FlowSchedule(), 999, 5) == FlowSchedule().descending_timesteps(999, 5)


@pytest.mark.parametrize("sampler", ["ddim", *SOLVERS])
@pytest.mark.parametrize("start", [20, 333, 980])
def test_samplers_that_are_told_the_truth_arrive_at_it(sampler, start):
    schedule, clean, noise = noise_schedule(), draw(0), draw(1)
    latents = schedule.add_noise(clean, noise, start)
    (*_, found) = run(sampler, schedule, lambda *_: noise, latents, schedule.descending_timesteps(start, 7))
    torch.testing.assert_close(found, clean, atol=1e-4, rtol=1e-4)


def smooth_run(sampler: str, num_steps: int) -> torch.Tensor:
    """Where a run arrives that follows a smooth prediction, in double precision."""
    schedule = sigma_schedule(lambda fraction: 0.05 * 400**fraction, "sample")
    timesteps = schedule.descending_timesteps(999, num_steps)

    def network(noisy: torch.Tensor, timestep: float) -> torch.Tensor:
        return 0.5 * torch.tanh(noisy + timestep / 500)

    return run(sampler, schedule, network, draw(0).double(), timesteps)[-1]


@pytest.mark.parametrize(("sampler", "order"), [("ddim", 1), ("dpm++", 2), ("unipc", 3)])
def test_twice_as_many_steps_divide_the_error_as_the_order_says(sampler, order):
    errors = [(smooth_run(sampler, steps) - smooth_run("unipc", 2049)).norm().item() for steps in (129, 257)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.35)


def level_of(schedule: DiffusionSchedule, timestep: int) -> float:
    signal, spread = schedule.signal_and_spread(timestep)
    return math.log(signal / spread)


def test_a_parabola_in_lambda_is_integrated_exactly():
    """M of the corrector is the weighted mean of the parabola, here by the midpoint rule."""
    schedule, (before, start, end) = noise_schedule(), (700, 500, 250)
    levels = [level_of(schedule, timestep) for timestep in (before, start, end)]

    def parabola(level: float) -> float:
        return 0.3 + 0.7 * level - 1.1 * level**2

    cells = (np.arange(100_000) + 0.5) / 100_000 * (levels[2] - levels[1]) + levels[1]
    mean = np.average(parabola(cells), weights=np.exp(cells))
    ones = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    history = (Taken(ones, parabola(levels[0]) * ones, before), Taken(ones, parabola(levels[1]) * ones, start))
    found = correct(schedule, parabola(levels[2]) * ones, end, history)
    signal, spread = schedule.signal_and_spread(end)
    first_signal, first_spread = schedule.signal_and_spread(start)
    expected = spread / first_spread + (signal - first_signal * spread / first_spread) * mean
    assert found.item() == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("sampler", SOLVERS)
def test_one_step_is_ddims(sampler):
    schedule, network = noise_schedule("v_prediction"), Fixed()
    (found,) = run(sampler, schedule, network, draw(0), [700])
    (expected,) = run("ddim", schedule, network, draw(0), [700])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_a_history_holds_the_last_two_steps_and_is_not_changed():
    schedule, network, latents, history = noise_schedule(), Fixed(), draw(0), ()
    for timestep, after in [(900, 600), (600, 300), (300, 100)]:
        known = history
        kept = [taken.clean.clone() for taken in known]
        latents, history = sample_step("unipc", schedule, latents, network(latents, timestep), timestep, after, history)
        assert all(torch.equal(*pair) for pair in zip([taken.clean for taken in known], kept, strict=True))
    assert [taken.timestep for taken in history] == [600, 300]
    assert sample_step("ddim", schedule, latents, network(latents, 100), 100, CLEAN)[1] == ()


@pytest.mark.parametrize("sampler", SOLVERS)
def test_a_schedule_that_begins_without_signal_is_sampled(sampler):
    shares = noise_schedule().alphas_cumprod.clone()
    shares[-1] = 0.0
    schedule = DiffusionSchedule(shares, "v_prediction")
    *_, found = run(sampler, schedule, Fixed(), draw(0), schedule.descending_timesteps(999, 5))
    assert found.isfinite().all()


def test_a_flow_is_sampled_by_eulers_steps_alone():
    require_sampler("ddim", FlowSchedule())
    flow = KnownEdit(torch.ones(4, 5, 7))
    flow.noise_schedule = FlowSchedule()  # type: ignore[assignment]
    for sampler in SOLVERS:
        with pytest.raises(ValueError, match=rf"sampler {sampler[:3]}.* is for diffusion models.* take ddim"):
            edit_from_noise(flow, draw(0), draw(0), EditConfig("paint it", sampler=sampler))


def test_a_sampler_that_nobody_knows_is_refused():
    with pytest.raises(ValueError, match=r"Unknown sampler 'heun': one of ddim, dpm\+\+, unipc fits"):
        require_sampler("heun", noise_schedule())


@pytest.mark.parametrize("sampler", SOLVERS)
@pytest.mark.parametrize("blending", ["final", "per-step"])
def test_what_lies_outside_the_mask_is_kept_and_nothing_to_the_inside(sampler, blending):
    """The network is of one cell, so that the inside of a masked edit is that of one without a mask."""

    class Alone(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            return Fixed()(noisy, timestep)

    change, mask = torch.zeros(4, 5, 7), torch.zeros(2, 1, 5, 7, dtype=torch.bool)
    mask[..., 1:3, 2:5] = True
    config = EditConfig(
        prompt="paint it", guidance=Guidance(1.0, 1.0), denoising_steps=6, sampler=sampler, blending=blending
    )
    masked = edit_from(Alone(change), draw(1), draw(2), config, 800, draw(3), mask)
    whole = edit_from(Alone(change), draw(1), draw(2), config, 800, draw(3), torch.ones_like(mask))
    torch.testing.assert_close(masked.where(mask, 0.0), whole.where(mask, 0.0))
    assert torch.equal(masked.where(~mask, 0.0), draw(2).where(~mask, 0.0))


@pytest.mark.parametrize("sampler", SOLVERS)
def test_the_loop_hands_the_history_on(sampler):
    class Alone(KnownEdit):
        def predict_noise(self, noisy, image_condition, timestep, prompts):
            return Fixed()(noisy, timestep)

    denoiser, timesteps = Alone(torch.ones(4, 5, 7)), [900, 600, 300, 10]
    found = denoise(denoiser, draw(0), draw(1), timesteps, "paint it", Guidance(1.0, 1.0), sampler=sampler)
    *_, expected = run(sampler, denoiser.noise_schedule, Fixed(), draw(0), timesteps)
    assert torch.equal(found, expected)
