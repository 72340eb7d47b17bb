import pytest
import torch

from latenteditor.editing.noise_schedule import CLEAN, DiffusionSchedule, FlowSchedule, NoiseSchedule, sigma_schedule
from tests.editing.denoisers import noise_schedule

PREDICTION_TYPES = ["epsilon", "v_prediction", "sample"]


def draw(seed: int) -> torch.Tensor:
    return torch.randn(2, 4, 5, 7, generator=torch.Generator().manual_seed(seed))


def true_prediction(schedule: DiffusionSchedule, clean, noise, timestep: int) -> torch.Tensor:
    share = schedule.alphas_cumprod[timestep]
    return {
        "epsilon": noise,
        "v_prediction": share.sqrt() * noise - (1 - share).sqrt() * clean,
        "sample": clean,
    }[schedule.prediction_type]


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("timestep", [20, 500, 980])
def test_predict_clean_and_epsilon_invert_add_noise(prediction_type, timestep):
    schedule = noise_schedule(prediction_type)
    clean, noise = draw(0), draw(1)
    noisy = schedule.add_noise(clean, noise, timestep)
    prediction = true_prediction(schedule, clean, noise, timestep)
    torch.testing.assert_close(schedule.predict_clean(noisy, prediction, timestep), clean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(schedule.predict_epsilon(noisy, prediction, timestep), noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
@pytest.mark.parametrize("set_alpha_to_one", [True, False])
def test_ddim_steps_match_diffusers(prediction_type, set_alpha_to_one):
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=set_alpha_to_one,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    theirs.set_timesteps(20)
    ours = DiffusionSchedule(
        theirs.alphas_cumprod, prediction_type, theirs.final_alpha_cumprod.item(), first_timestep=1
    )
    timesteps = ours.descending_timesteps(951, 20)
    assert timesteps == theirs.timesteps.tolist()
    our_latents = their_latents = draw(0)
    for index, timestep in enumerate(timesteps):
        prediction = draw(index + 1)
        their_latents = theirs.step(prediction, timestep, their_latents).prev_sample
        next_timestep = [*timesteps, CLEAN][index + 1]
        our_latents = ours.step(our_latents, prediction, timestep, next_timestep)
        torch.testing.assert_close(our_latents, their_latents, atol=1e-4, rtol=1e-4)


def test_add_noise_matches_diffusers():
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler

    theirs = DDIMScheduler()
    ours = DiffusionSchedule(theirs.alphas_cumprod)
    expected = theirs.add_noise(draw(0), draw(1), torch.tensor([300, 300]))
    torch.testing.assert_close(ours.add_noise(draw(0), draw(1), 300), expected)


@pytest.mark.parametrize("start", [20, 333, 980])
def test_ddim_that_is_told_the_truth_arrives_at_it(start):
    schedule = noise_schedule()
    clean, noise = draw(0), draw(1)
    latents = schedule.add_noise(clean, noise, start)
    timesteps = schedule.descending_timesteps(start, 20)
    for timestep, next_timestep in zip(timesteps, [*timesteps[1:], CLEAN], strict=True):
        latents = schedule.step(latents, noise, timestep, next_timestep)
    torch.testing.assert_close(latents, clean, atol=1e-4, rtol=1e-4)


def test_clean_is_without_noise_unless_the_schedule_ends_earlier():
    clean, noise = draw(0), draw(1)
    assert torch.equal(noise_schedule().add_noise(clean, noise, CLEAN), clean)
    ends_early = noise_schedule(final_alpha_cumprod=0.25)
    expected = 0.5 * clean + 0.75**0.5 * noise
    torch.testing.assert_close(ends_early.add_noise(clean, noise, CLEAN), expected)


@pytest.mark.parametrize(("start", "num_steps"), [(19, 20), (980, 20), (500, 1), (0, 1), (37, 20)])
def test_timesteps_fall_strictly_from_the_start(start, num_steps):
    timesteps = noise_schedule().descending_timesteps(start, num_steps)
    assert len(timesteps) == num_steps
    assert timesteps[0] == start
    assert timesteps == sorted(set(timesteps), reverse=True)
    assert timesteps[-1] >= 0


def test_steps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="Cannot fit 20 denoising steps between timestep 10 and 0: take 1 to 11"):
        noise_schedule().descending_timesteps(10, 20)
    with pytest.raises(ValueError, match="Cannot fit 0 denoising steps"):
        noise_schedule().descending_timesteps(10, 0)


def test_fractions_span_the_schedule():
    schedule = noise_schedule()
    assert schedule.timestep_at(0.0) == 0
    assert schedule.timestep_at(1.0) == 999
    with pytest.raises(ValueError, match=r"between 0 and 1, not 1\.2"):
        schedule.timestep_at(1.2)


@pytest.mark.parametrize("timestep", [-2, 1000])
def test_timesteps_outside_the_schedule_are_refused(timestep):
    with pytest.raises(ValueError, match="outside the schedule's 1000 timesteps"):
        noise_schedule().add_noise(draw(0), draw(1), timestep)


def test_an_unknown_prediction_type_is_refused():
    with pytest.raises(ValueError, match="Unknown prediction type 'flow': one of epsilon, v_prediction, sample fits"):
        DiffusionSchedule(torch.ones(10), prediction_type="flow")


@pytest.mark.parametrize("timestep", [0, 333, 998])
def test_a_flows_predictions_invert_its_noise(timestep):
    schedule, clean, noise = FlowSchedule(), draw(0), draw(1)
    noisy = schedule.add_noise(clean, noise, timestep)
    torch.testing.assert_close(schedule.predict_clean(noisy, noise - clean, timestep), clean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(schedule.predict_epsilon(noisy, noise - clean, timestep), noise, atol=1e-5, rtol=1e-4)


def test_a_flow_goes_from_noise_alone_to_latents_alone():
    schedule, clean, noise = FlowSchedule(), draw(0), draw(1)
    assert torch.equal(schedule.add_noise(clean, noise, schedule.timestep_at(1.0)), noise)
    assert torch.equal(schedule.add_noise(clean, noise, CLEAN), clean)


@pytest.mark.parametrize(("shift", "last_level"), [(1.0, None), (3.0, None), (3.0, 0.02)])
@pytest.mark.parametrize("start", [100, 700, 999])
def test_flow_steps_that_are_told_the_truth_arrive_at_it(start, shift, last_level):
    schedule = FlowSchedule(lambda _size, _num_steps: shift, last_level)
    clean, noise = draw(0), draw(1)
    latents = schedule.add_noise(clean, noise, start)
    timesteps = schedule.descending_timesteps(start, 7, (5, 7))
    assert timesteps[0] == start and list(timesteps) == sorted(set(timesteps), reverse=True) and timesteps[-1] > CLEAN
    assert last_level is None or schedule.level(timesteps[-1]) == pytest.approx(last_level)
    for timestep, next_timestep in zip(timesteps, [*timesteps[1:], CLEAN], strict=True):
        latents = schedule.step(latents, noise - clean, timestep, next_timestep)
    torch.testing.assert_close(latents, clean, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"shift_terminal": 0.02}])
def test_flow_steps_are_spaced_as_diffusers_spaces_them(options):
    from diffusers import FlowMatchEulerDiscreteScheduler

    theirs = FlowMatchEulerDiscreteScheduler(shift=3.0, **options)
    theirs.set_timesteps(sigmas=torch.linspace(1, 1 / 6, 6).tolist())
    ours = FlowSchedule(lambda _size, _num_steps: 3.0, options.get("shift_terminal"))
    levels = [ours.level(timestep) for timestep in ours.descending_timesteps(999, 6)]
    torch.testing.assert_close(torch.tensor(levels), theirs.sigmas[:-1], atol=1e-6, rtol=1e-6)


def test_a_schedule_between_whole_timesteps_has_its_sigmas_where_it_says():
    schedule = sigma_schedule(lambda fraction: 0.01 * 1000**fraction, "v_prediction")
    timesteps = schedule.descending_timesteps(999, 4)
    assert [schedule.sigma(timestep) for timestep in timesteps] == pytest.approx([10.0, 1.0, 0.1, 0.01])
    clean, noise = draw(0), draw(1)
    expected = (clean + noise) / 2**0.5
    torch.testing.assert_close(schedule.add_noise(clean, noise, timesteps[1]), expected)


@pytest.mark.parametrize("schedule", [FlowSchedule(), noise_schedule()])
def test_both_kinds_are_noise_schedules(schedule):
    assert isinstance(schedule, NoiseSchedule)
