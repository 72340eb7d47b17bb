"""Configs, stopwatch and results of the benchmark's runs."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import SceneBox
from nerfstudio.model_components.scene_colliders import NearFarCollider

from latenteditor import methods
from latenteditor.benchmark import runs
from latenteditor.benchmark.jobs import Job
from latenteditor.benchmark.quality import quality
from latenteditor.benchmark.runs import run_job
from latenteditor.benchmark.settings import METHODS, BenchmarkConfig, edit_config, reconstruction_config
from latenteditor.benchmark.stopwatch import Stopwatch
from latenteditor.nerf.dense_scene import DenseIn2nModel, DenseIn2nModelConfig
from latenteditor.options import set_options
from latenteditor.worlds.held_out import HeldOut

PLACES = Path("world"), Path("output")


@pytest.fixture
def tiny_world_of_colours() -> DenseIn2nModel:
    """A scene of colours that was never trained."""
    box = SceneBox(torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]))
    args = copy.deepcopy(methods.latent_nerfacto.config.pipeline.model.proposal_net_args_list)
    config = DenseIn2nModelConfig(num_levels=2, max_res=24, num_proposal_iterations=1, proposal_net_args_list=args)
    config.camera_optimizer.mode, config.use_appearance_embedding = "off", False
    config.num_proposal_samples_per_ray, config.implementation = (8,), "torch"
    return DenseIn2nModel(config, scene_box=box, num_train_data=3)


def rays(count: int) -> RayBundle:
    """Rays from the origin."""
    return RayBundle(torch.zeros(count, 3), torch.ones(count, 3), torch.ones(count, 1))


def test_an_option_that_does_not_exist_is_refused():
    config = copy.deepcopy(methods.in2n.config)
    set_options(config, {"optimizers.fields.scheduler.max_steps": 7})
    assert config.optimizers["fields"]["scheduler"].max_steps == 7
    for name in ("pipeline.model.levels", "pipeline.models.num_levels", "optimizers.tables.scheduler.max_steps"):
        with pytest.raises(ValueError, match=f"no option '{name}'"):
            set_options(config, {name: 7})


def test_methods_share_editor_schedule_and_scene():
    settings = BenchmarkConfig()
    configs = {
        name: edit_config(method, "make it so", settings, *PLACES, Path("base"), "cpu")
        for name, method in METHODS.items()
        if method is not None and method.finish in (None, "edit")
    }
    assert len({config.pipeline.schedule.steps_per_edit for config in configs.values()}) == 1
    edits = {name: replace(config.pipeline.edit, mask="none") for name, config in configs.items()}
    sharp, once, settled = (edits.pop(f"latenteditor-{name}") for name in ("sharp", "once", "settled"))
    assert sharp == once == settled
    steps = [configs[f"latenteditor-{name}"].max_num_iterations for name in ("once", "sharp", "settled")]
    assert steps == [1, settings.sharp_edit_steps, settings.edit_steps]
    assert len({repr(edit) for edit in edits.values()}) == 1
    same_draws = replace(sharp, delta_mask=replace(sharp.delta_mask, draws=settings.edit.delta_mask.draws))
    assert same_draws == edits["latenteditor"] and sharp.delta_mask.draws == settings.sharp_draws
    masks = {name: config.pipeline.edit.mask for name, config in configs.items()}
    fields, whole_views = {"latenteditor-field"}, {"in2n"}
    assert {name for name, mask in masks.items() if mask == "field"} == fields
    assert {name for name, mask in masks.items() if mask == "none"} == whole_views
    waiting = {name for name, config in configs.items() if config.pipeline.keep_waiting_out}
    finished = {f"latenteditor-{name}" for name in ("sharp", "once", "settled")}
    assert waiting == finished | {"latenteditor", "latenteditor-field", "in2n-mask-waits"}
    assert len({config.pipeline.model.near_plane for config in configs.values()}) == 1
    assert methods.in2n.config.pipeline.edit.prompt == ""


def test_lpips_comes_with_its_weights_and_only_with_the_edit():
    settings = BenchmarkConfig(lpips_weights=Path("lpips.pth"))
    assert METHODS["in2n"] is not None
    edit = edit_config(METHODS["in2n"], "make it so", settings, *PLACES, Path("base"), "cpu").pipeline
    assert (edit.model.lpips_loss_mult, edit.datamanager.patch_size) == (1.0, 32)
    without = edit_config(METHODS["in2n"], "make it so", BenchmarkConfig(), *PLACES, Path("base"), "cpu").pipeline
    assert (without.model.lpips_loss_mult, without.datamanager.patch_size) == (0.0, 1)
    base: Any = reconstruction_config("colours", settings, *PLACES, "cpu").pipeline
    assert (base.model.lpips_loss_mult, base.datamanager.patch_size) == (0.0, 1)


def test_a_scene_of_colours_is_stored_as_one_of_latents_or_as_published():
    dense, hashed = (
        edit_config(METHODS["in2n"], "make it so", settings, *PLACES, Path("base"), "cpu")
        for settings in (
            BenchmarkConfig(),
            BenchmarkConfig(
                in2n_encoding="hash",
                in2n_proposal_samples=(256, 96),
                in2n_samples=48,
                in2n_levels=16,
                in2n_max_res=2048,
            ),
        )
    )
    latents = edit_config(METHODS["latenteditor"], "make it so", BenchmarkConfig(), *PLACES, Path("base"), "cpu")
    own, other, published = (config.pipeline.model for config in (dense, latents, hashed))
    shared = ("num_proposal_iterations", "num_proposal_samples_per_ray", "proposal_net_args_list", "hidden_dim")
    shared += ("num_nerf_samples_per_ray", "average_init_density", "base_res", "features_per_level", "near_plane")
    assert [getattr(own, name) for name in shared] == [getattr(other, name) for name in shared]
    assert dense.optimizers == {name: latents.optimizers[name] for name in ("tables", "proposal_networks", "fields")}
    original = methods.in2n.config.pipeline.model
    shared += ("num_levels", "max_res", "log2_hashmap_size")
    shared = tuple(name for name in shared if name != "near_plane")
    assert [getattr(published, name) for name in shared] == [getattr(original, name) for name in shared]
    assert type(published) is type(original)


def test_dense_colours_have_no_hash_table(tiny_world_of_colours):
    parameters = dict(tiny_world_of_colours.named_parameters())
    assert sum(".grids." in name for name in parameters) == 2 + 3
    assert not any("hash_table" in name for name in parameters)
    grouped = {id(parameter) for group in tiny_world_of_colours.get_param_groups().values() for parameter in group}
    assert {name for name, value in parameters.items() if id(value) not in grouped} == {"device_indicator_param"}


def test_the_budget_says_whether_colours_train_by_steps_or_by_the_clock():
    by_steps = BenchmarkConfig(reconstruction_steps=70)
    by_clock = replace(by_steps, budget="seconds")
    assert reconstruction_config("colours", by_steps, *PLACES, "cpu").max_num_iterations == 70
    assert reconstruction_config("latents", by_clock, *PLACES, "cpu").max_num_iterations == 70
    longer = reconstruction_config("colours", replace(by_steps, in2n_reconstruction_steps=90), *PLACES, "cpu")
    assert longer.max_num_iterations == 90
    assert longer.optimizers["fields"]["scheduler"].max_steps == 90 + by_steps.edit_steps
    assert reconstruction_config("colours", by_clock, *PLACES, "cpu").max_num_iterations > 70000


def test_a_stopwatch_counts_while_it_runs_and_not_in_pauses():
    watch, collider = Stopwatch(torch.device("cpu")), NearFarCollider(0.1, 1.0)
    collider(rays(1))
    with watch.running():
        collider(rays(10))
        with watch.paused():
            before = watch.elapsed
            collider(rays(100))
            held = torch.ones(64 << 20, dtype=torch.uint8).clone()
            assert watch.elapsed == before > 0
            del held
        collider(rays(1000))
    collider(rays(10000))
    assert watch.rays == 1010
    assert watch.seconds == watch.elapsed < 60
    assert watch.cpu_seconds > 0
    assert watch.peak_memory > 50


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux forgets its highest memory")
def test_memory_of_a_pause_is_not_counted():
    watch, paused = Stopwatch(torch.device("cpu")), Stopwatch(torch.device("cpu"))
    with watch.running(), watch.paused(), paused.running():
        torch.ones(512 << 20, dtype=torch.uint8)
    assert paused.peak_memory - watch.peak_memory > 400


def test_quality_is_measured_where_the_region_is_seen():
    truth = torch.zeros(2, 3, 4, 4)
    region = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    region[0, :, :2] = True
    images = truth + 0.1
    images[0, :, :2] = 0.01
    images[1] = 1.0
    found = quality(images, HeldOut(["a", "b"], truth + 0.5, truth, region))
    assert found.inside == pytest.approx(40, abs=1e-3)
    assert found.outside == pytest.approx(20, abs=1e-3)
    assert found.change == pytest.approx(0.98)


def test_the_change_counts_blur_as_changed_and_other_colours_not():
    before, truth = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    before[:, 0], truth[:, 2] = 1.0, 1.0
    region = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    views = HeldOut(["a"], before, truth, region)
    assert quality(before, views).change == 0
    assert quality(truth, views).change == 1
    assert quality((before + truth) / 2, views).change == pytest.approx(0.5)
    green = before.clone()
    green[:, 1] = 1.0
    assert quality(green, views).change == 0
    blurred = truth + 0.3 * torch.tensor([1.0, -1.0]).repeat(2)
    assert quality(blurred, views).change == pytest.approx(1)
    assert quality(blurred, views).inside < 11


def test_a_run_that_ended_is_not_run_again(tmp_path, monkeypatch):
    asked = []

    def write_result(job: Job, folder: Path) -> None:
        """A run that takes no time."""
        asked.append(folder)
        (folder / "result.json").write_text(json.dumps({"request": job.request, "seconds": 1.0}))

    monkeypatch.setattr(runs, "_in_own_process", write_result)
    job = Job(tmp_path / "7/world", "cpu", BenchmarkConfig(), reconstruct="latents")
    interrupted = tmp_path / "run" / "runs"
    interrupted.mkdir(parents=True)
    assert run_job(job, tmp_path / "run")["seconds"] == 1.0
    assert not interrupted.exists()
    assert run_job(job, tmp_path / "run")["seconds"] == 1.0
    assert asked == [tmp_path / "run"]
    other = replace(job, settings=replace(job.settings, edit=replace(job.settings.edit, denoising_steps=3)))
    with pytest.raises(ValueError, match="begun with other settings.edit.denoising_steps: choose another --output"):
        run_job(other, tmp_path / "run")


def test_a_run_that_fails_says_how(tmp_path):
    job = Job(tmp_path / "7/world", "cpu", BenchmarkConfig(), method="alone", prompt="make the cone blue")
    with pytest.raises(ValueError, match="(?s)The run in .*failed; the end of its log.txt:.*transforms.json"):
        run_job(job, tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()
