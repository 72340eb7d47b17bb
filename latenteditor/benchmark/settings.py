"""What is compared, at which sizes, and the config of every run."""

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from nerfstudio.engine.trainer import TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipelineConfig

from latenteditor import methods
from latenteditor.benchmark.world_runs import WorldConfig
from latenteditor.editing.editor import EditConfig
from latenteditor.handoff.write import SETTLE_NOISE
from latenteditor.miniature.settings import EDIT
from latenteditor.nerf.dense_scene import DenseIn2nModelConfig
from latenteditor.nerf.latent_field import Encoding
from latenteditor.options import set_options

Representation = Literal["latents", "colours"]
"""What a scene is made of."""
Loop = Literal["none", "short", "whole"]
"""How long a scene of latents is edited before its finish: hardly, for `sharp_edit_steps`, or for `edit_steps`."""
Mask = Literal["per-view", "field", "none"]
FinishOf = Literal["edit", "pictures", "photographs", "truth"]
"""What a scene of colours is finished on: what a scene of latents was edited to, what a black box makes of the
photographs, these as they are, or what they should become."""
MethodName = Literal[
    "latenteditor-sharp",
    "latenteditor-once",
    "latenteditor-settled",
    "latenteditor",
    "latenteditor-eager",
    "latenteditor-field",
    "in2n",
    "in2n-mask",
    "in2n-mask-waits",
    "black-box",
    "black-box-repainting",
    "alone",
    "refit",
    "truth",
]


class Method(NamedTuple):
    """One of the contestants that edit a scene."""

    representation: Representation
    """What its scene is made of."""
    mask: Mask
    """Where it may change a view."""
    waits: bool
    """Whether what waits for its edit is kept out of training."""
    finish: FinishOf | None = None
    """What its scene of colours is finished on; None where it is edited itself."""
    loop: Loop = "short"
    """How long that scene is edited first. After all of an edit, views settle: see `SETTLE_NOISE`."""
    black_box: str = ""
    """Which of `latenteditor.benchmark.black_boxes` makes the pictures."""


METHODS: dict[MethodName, Method | None] = {
    "latenteditor-sharp": Method("colours", "per-view", waits=True, finish="edit"),
    "latenteditor-once": Method("colours", "per-view", waits=True, finish="edit", loop="none"),
    "latenteditor-settled": Method("colours", "per-view", waits=True, finish="edit", loop="whole"),
    "latenteditor": Method("latents", "per-view", waits=True),
    "latenteditor-eager": Method("latents", "per-view", waits=False),
    "latenteditor-field": Method("latents", "field", waits=True),
    "in2n": Method("colours", "none", waits=False),
    "in2n-mask": Method("colours", "per-view", waits=False),
    "in2n-mask-waits": Method("colours", "per-view", waits=True),
    "black-box": Method("colours", "per-view", waits=True, finish="pictures", black_box="miniature"),
    "black-box-repainting": Method("colours", "per-view", waits=True, finish="pictures", black_box="repainting"),
    "alone": None,
    "refit": Method("colours", "none", waits=False, finish="photographs"),
    "truth": Method("colours", "none", waits=False, finish="truth"),
}
"""By name. `latenteditor-once` edits each view once, from noise; `latenteditor-settled` edits again and again, and then
lets views settle from less noise, as `latenteditor edit` does. `black-box` is the same editor without a scene of
latents, whole photographs in and out, and `black-box-repainting` repaints each at random besides. `alone` has no scene:
each held-out photograph is edited by itself, from noise. `refit` and `truth` edit nothing: a finish on the photographs
as they are says what a finish by itself changes, and one on the true photographs what it could come to at best."""

NEVER = 1 << 30
"""Steps between things that no run of the benchmark should spend time on."""
ENDLESS = 1 << 20
"""Training steps of a run that ends by the clock."""
DENSE_GROUPS = ("tables", "proposal_networks", "fields")
"""What of a scene of colours on dense grids has the learning rates of latent-nerfacto."""
RECONSTRUCTED = "reconstruction"
EDITED = "edit"


@dataclass
class BenchmarkConfig(WorldConfig):
    """How worlds are photographed, reconstructed, edited and measured."""

    size: int = 256
    """Pixels of either side of a view. At 128, a scene of latents has too few cells to show solids well."""
    num_views: int = 32
    """Training views."""
    num_held_out: int = 4
    """Views on which the edit is measured."""
    reconstruction_steps: int = 1000
    """Training steps of the unedited scene of latents."""
    edit_steps: int = 288
    """Training steps of every edit: every view is edited, and half of them once more."""
    edit: EditConfig = field(default_factory=lambda: replace(EDIT, half_precision=True))
    """How views are edited, the same by all methods; the default is what suits the built-in editor, in 16 bits as in
    latenteditor-small and in2n-small, in which its U-Net takes two thirds of the time."""
    budget: Literal["steps", "seconds"] = "steps"
    """What the reconstruction of colours gets as much of as that of latents. A step of colours is the slower one, so
    `steps` favours in2n; with `seconds` it often starts from a worse scene. Either way, the time is reported apart."""
    in2n_reconstruction_steps: int | None = None
    """Training steps of the unedited scene of colours where the budget is `steps`; None takes as many as latents get.
    The table shows how well either scene came out: too few steps make in2n's edit worse than it is."""
    max_edit_seconds: float | None = None
    """Ends every edit after that long, whatever its steps; None never does."""
    sharp_edit_steps: int = 96
    """Training steps of the edit in latents that `latenteditor-sharp` finishes."""
    sharp_views: int | None = None
    """Training views that it edits for its finish; None edits all. On one world 8 views, with 1 step of edits before
    them, showed 95 % of in2n's change after 35 s of CPU where all of them took 95, and ended 1.8 dB lower inside."""
    sharp_noise: float = 0.98
    """What it edits them from, as a fraction of the noise schedule: anew, because few views were edited before."""
    sharp_draws: int = 1
    """Noise draws that its delta scores are averaged over."""
    sharp_finish_steps: int = 240
    """Training steps of the finish."""
    sharp_steps_per_point: int = 20
    """Training steps of the finish from one measurement to the next."""
    steps_per_point: int = 48
    """Training steps from one measurement to the next. The clock stands still meanwhile."""
    seed: int = 0
    """Of the networks' weights and of the rays."""
    threads: int | None = None
    """Threads of each run; None takes torch's own choice."""
    in2n_rays: int = 1024
    """Rays per training step of a scene of colours; 16,384 in Instruct-NeRF2NeRF, which takes a GPU."""
    in2n_encoding: Encoding = "dense"
    """What a scene of colours is stored in. Dense grids are what scenes of latents have: several times faster on a CPU
    than the hash tables of nerfacto, which Instruct-NeRF2NeRF has. The defaults below are for dense grids."""
    in2n_proposal_samples: tuple[int, ...] = (40,)
    """Samples per ray of each of its proposal networks; (256, 96) in nerfacto, (40,) in scenes of latents."""
    in2n_samples: int = 20
    """Samples per ray of its field; 48 in nerfacto, 20 in scenes of latents."""
    in2n_levels: int = 6
    """Grids of its field; 16 in nerfacto, 5 in scenes of latents."""
    in2n_max_res: int = 160
    """Cells along each side of its finest grid; 2,048 in nerfacto, for photographs of thousands of pixels; 96 in scenes
    of latents. Measured on a world of 256 pixels: 26.2 dB with 5 grids up to 128 after 1,000 steps, 26.8 dB with these
    after 750."""
    in2n_log2_hashmap_size: int = 19
    """Entries of each of its hash tables, as a power of two, where it has some. As in nerfacto."""
    in2n_patch_size: int = 32
    """Pixels along each side of the patches that LPIPS compares. Without LPIPS rays are single pixels, as in
    in2n-tiny."""
    lpips_weights: Path | None = None
    """File with the weights of LPIPS, see in2n's --pipeline.model.lpips-weights. None: in2n trains without LPIPS,
    as in2n-tiny does."""
    rays_per_chunk: int = 4096
    """Rays rendered at once when not training, by every method."""


def reconstruction_steps(representation: Representation, settings: BenchmarkConfig) -> int:
    """Training steps of an unedited scene, where no clock ends it."""
    latents, colours = settings.reconstruction_steps, settings.in2n_reconstruction_steps
    return latents if representation == "latents" or colours is None else colours


def reconstruction_config(
    representation: Representation, settings: BenchmarkConfig, world: Path, output: Path, device: str
) -> TrainerConfig:
    """A run that learns an unedited scene: latent-nerfacto, or a nerfacto with in2n's data manager and L1 loss."""
    by_clock = representation == "colours" and settings.budget == "seconds"
    steps = ENDLESS if by_clock else reconstruction_steps(representation, settings)
    if representation == "latents":
        config = copy.deepcopy(methods.latent_nerfacto.config)
        options = _latent_options(settings)
    else:
        config = _in2n_config(settings)
        edited: Any = config.pipeline
        # LPIPS comes with the edit: Instruct-NeRF2NeRF starts from a nerfacto, which is trained without.
        config.pipeline = VanillaPipelineConfig(datamanager=edited.datamanager, model=edited.model)
        config.method_name = "dense-nerfacto"
        options = _colour_options(replace(settings, lpips_weights=None))
    options |= _run_options(settings, world, output, RECONSTRUCTED, device, steps)
    set_options(config, {**options, **_decay(config, representation, settings)})
    return config


def edit_config(
    method: Method, prompt: str, settings: BenchmarkConfig, world: Path, output: Path, base: Path, device: str
) -> TrainerConfig:
    """A run that edits the scene whose checkpoints are in `base`: one of latents where it is finished in colours."""
    representation, edit, steps = method.representation, settings.edit, settings.edit_steps
    if method.finish is not None:
        draws = replace(edit.delta_mask, draws=settings.sharp_draws)
        representation, edit, steps = "latents", replace(edit, delta_mask=draws), _loop_steps(method, settings)
    if representation == "latents":
        config, options = copy.deepcopy(methods.latenteditor.config), _latent_options(settings)
    else:
        config, options = _in2n_config(settings), _colour_options(settings)
    set_options(
        config,
        {
            **options,
            **_run_options(settings, world, output, EDITED, device, steps),
            **_decay(config, representation, settings),
            "load_dir": base,
            "pipeline.edit": replace(edit, prompt=prompt, mask=method.mask),
            "pipeline.schedule.steps_per_edit": settings.steps_per_edit,
            "pipeline.keep_waiting_out": method.waits,
            "pipeline.edits_per_picture": NEVER,
        },
    )
    return config


def finish_noise(method: Method, settings: BenchmarkConfig) -> float:
    """What a method edits views from for its finish, as a fraction of the noise schedule."""
    return SETTLE_NOISE if method.loop == "whole" else settings.sharp_noise


def _loop_steps(method: Method, settings: BenchmarkConfig) -> int:
    """Training steps of the edit in latents before a finish; the first is what finds out where to edit."""
    return {"none": 1, "short": settings.sharp_edit_steps, "whole": settings.edit_steps}[method.loop]


def _run_options(
    settings: BenchmarkConfig, world: Path, output: Path, name: str, device: str, steps: int
) -> dict[str, Any]:
    """What all runs share: where they are, how long they train, and that they do nothing beside."""
    return {
        "data": world,
        "pipeline.datamanager.data": world,
        "output_dir": output,
        "experiment_name": "world",
        "timestamp": name,
        "machine.device_type": device,
        "machine.seed": settings.seed,
        "vis": "tensorboard",
        "max_num_iterations": steps,
        "steps_per_save": NEVER,
        "steps_per_eval_batch": NEVER,
        "steps_per_eval_image": NEVER,
        "steps_per_eval_all_images": NEVER,
        "pipeline.datamanager.image_size": settings.size,
        "pipeline.model.near_plane": settings.near_plane,
        "pipeline.model.eval_num_rays_per_chunk": settings.rays_per_chunk,
    }


def _latent_options(settings: BenchmarkConfig) -> dict[str, Any]:
    """A scene of latents, as the demo has it."""
    return {
        "pipeline.autoencoder": settings.edit.model,
        "pipeline.model.max_res": settings.max_res,
        "pipeline.model.num_levels": 5,
        "pipeline.datamanager.latent_cache_dir": None,
    }


def _in2n_config(settings: BenchmarkConfig) -> TrainerConfig:
    """In2n, on the dense grids of a scene of latents if asked, which then learn as fast as there."""
    config = copy.deepcopy(methods.in2n.config)
    pipeline: Any = config.pipeline
    if settings.in2n_encoding == "dense":
        latents = copy.deepcopy(methods.latent_nerfacto.config)
        model: Any = latents.pipeline.model
        pipeline.model = DenseIn2nModelConfig(proposal_net_args_list=model.proposal_net_args_list)
        config.optimizers = {name: latents.optimizers[name] for name in DENSE_GROUPS}
    else:
        pipeline.model.log2_hashmap_size = settings.in2n_log2_hashmap_size
    return config


def _colour_options(settings: BenchmarkConfig) -> dict[str, Any]:
    """A scene of colours. Poses and exposures of a rendered world are exact: neither is there to be learnt."""
    with_lpips = settings.lpips_weights is not None
    return {
        "pipeline.datamanager.train_num_rays_per_batch": settings.in2n_rays,
        "pipeline.datamanager.patch_size": settings.in2n_patch_size if with_lpips else 1,
        "pipeline.model.lpips_loss_mult": 1.0 if with_lpips else 0.0,
        "pipeline.model.lpips_weights": settings.lpips_weights,
        "pipeline.model.num_proposal_samples_per_ray": settings.in2n_proposal_samples,
        "pipeline.model.num_proposal_iterations": len(settings.in2n_proposal_samples),
        "pipeline.model.num_nerf_samples_per_ray": settings.in2n_samples,
        "pipeline.model.num_levels": settings.in2n_levels,
        "pipeline.model.max_res": settings.in2n_max_res,
        "pipeline.model.use_appearance_embedding": False,
        "pipeline.model.camera_optimizer.mode": "off",
    }


def _decay(config: TrainerConfig, representation: Representation, settings: BenchmarkConfig) -> dict[str, Any]:
    """Lets every learning rate decay over the whole of a short run."""
    steps = reconstruction_steps(representation, settings) + settings.edit_steps
    return {f"optimizers.{group}.scheduler.max_steps": steps for group in config.optimizers}
