"""Which values each option takes, and which options contradict each other: one table, and a sentence for who misses it.

A config is checked where a pipeline is built from it and where somebody changes it by hand, not where it is made:
nerfstudio reads a saved one, and the viewer writes into one, without calling its constructor.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from latenteditor.options import all_options

DENSE_LIMIT = 1024
"""Cells along each side of the finest dense grid that still fits a machine: it stores them all, 8 GB of them."""


class Range(NamedTuple):
    """The numbers that an option takes; all of them finite."""

    least: float = 0
    most: float = math.inf
    whole: bool = False
    above: bool = False
    """Whether `least` itself does not fit."""
    none: bool = False
    """Whether None fits too."""

    def fits(self, value: Any) -> bool:
        """Whether a number, each of several, or None is allowed."""
        if value is None:
            return self.none
        if isinstance(value, list | tuple):
            return all(self.fits(number) for number in value)
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.least <= value <= self.most and abs(value) < math.inf and not (self.above and value == self.least)

    def __str__(self) -> str:
        """What fits, in words."""
        kind = "a whole number" if self.whole else "a number"
        if self.most < math.inf:
            extent = f"from {self.least:g} to {self.most:g}"
        else:
            extent = f"above {self.least:g}" if self.above else f"of {self.least:g} or more"
        return f"{kind} {extent}{', or None,' if self.none else ''}"


SHARE = Range(0, 1)
COUNT = Range(1, whole=True)
COUNT_OR_NONE = Range(1, whole=True, none=True)
COUNT_OR_ZERO = Range(0, whole=True)
WEIGHT = Range(0)
ABOVE_ZERO = Range(0, above=True)
SEED = Range(0, 2**63 - 1, whole=True)

RANGES: dict[str, Range] = {
    "max_num_iterations": COUNT,
    "steps_per_save": COUNT,
    "steps_per_eval_batch": COUNT_OR_ZERO,
    "steps_per_eval_image": COUNT_OR_ZERO,
    "steps_per_eval_all_images": COUNT_OR_ZERO,
    # The optimizers, whatever they are called.
    "optimizers.*.optimizer.lr": ABOVE_ZERO,
    "optimizers.*.optimizer.eps": ABOVE_ZERO,
    "optimizers.*.optimizer.weight_decay": WEIGHT,
    "optimizers.*.optimizer.max_norm": Range(0, above=True, none=True),
    "optimizers.*.scheduler.lr_pre_warmup": WEIGHT,
    "optimizers.*.scheduler.lr_final": Range(0, none=True),
    "optimizers.*.scheduler.warmup_steps": COUNT_OR_ZERO,
    "optimizers.*.scheduler.max_steps": COUNT,
    # The edit.
    "pipeline.reconstruction_steps": COUNT_OR_ZERO,
    "pipeline.edits_per_picture": COUNT,
    "pipeline.hide_layers": COUNT_OR_ZERO,
    "pipeline.show_layers": COUNT_OR_ZERO,
    "pipeline.remove_layers": COUNT_OR_ZERO,
    "pipeline.schedule.steps_per_edit": COUNT,
    "pipeline.schedule.views_per_edit": COUNT,
    "pipeline.schedule.seed": SEED,
    "pipeline.split.timeout_seconds": ABOVE_ZERO,
    "pipeline.edit.max_batch": COUNT_OR_NONE,
    "pipeline.edit.guidance.text": Range(0, 100),
    "pipeline.edit.guidance.image": Range(0, 100),
    "pipeline.edit.guidance.interval": SHARE,
    "pipeline.edit.min_noise": SHARE,
    "pipeline.edit.max_noise": SHARE,
    "pipeline.edit.denoising_steps": Range(1, 1000, whole=True),
    "pipeline.edit.seed": SEED,
    "pipeline.edit.delta_mask.noise_level": SHARE,
    "pipeline.edit.delta_mask.draws": COUNT,
    "pipeline.edit.delta_mask.threshold": Range(0, 1, none=True),
    "pipeline.edit.delta_mask.gate": WEIGHT,
    "pipeline.edit.delta_mask.least_views": SHARE,
    "pipeline.edit.delta_mask.dilation": Range(0, 512, whole=True),
    # The data.
    "pipeline.datamanager.image_size": Range(1, 16384, whole=True, none=True),
    "pipeline.datamanager.train_num_rays_per_batch": COUNT,
    "pipeline.datamanager.eval_num_rays_per_batch": COUNT,
    "pipeline.datamanager.max_num_rays_on_cpu": COUNT,
    "pipeline.datamanager.steps_per_view": COUNT,
    "pipeline.datamanager.min_steps_per_view_on_cpu": COUNT,
    "pipeline.datamanager.patch_size": COUNT,
    "pipeline.datamanager.camera_res_scale_factor": ABOVE_ZERO,
    # The scene.
    "pipeline.model.near_plane": WEIGHT,
    "pipeline.model.far_plane": ABOVE_ZERO,
    "pipeline.model.hidden_dim": COUNT,
    "pipeline.model.hidden_dim_color": COUNT,
    "pipeline.model.num_levels": COUNT,
    "pipeline.model.base_res": COUNT,
    "pipeline.model.max_res": COUNT,
    "pipeline.model.log2_hashmap_size": Range(1, 30, whole=True),
    "pipeline.model.features_per_level": COUNT,
    "pipeline.model.num_proposal_iterations": COUNT,
    "pipeline.model.num_proposal_samples_per_ray": COUNT,
    "pipeline.model.num_nerf_samples_per_ray": COUNT,
    "pipeline.model.proposal_update_every": COUNT_OR_ZERO,
    "pipeline.model.proposal_warmup": COUNT_OR_ZERO,
    "pipeline.model.proposal_weights_anneal_slope": ABOVE_ZERO,
    "pipeline.model.proposal_weights_anneal_max_num_iters": COUNT,
    "pipeline.model.interlevel_loss_mult": WEIGHT,
    "pipeline.model.distortion_loss_mult": WEIGHT,
    "pipeline.model.orientation_loss_mult": WEIGHT,
    "pipeline.model.pred_normal_loss_mult": WEIGHT,
    "pipeline.model.appearance_embed_dim": COUNT,
    "pipeline.model.average_init_density": ABOVE_ZERO,
    "pipeline.model.eval_num_rays_per_chunk": COUNT,
    "pipeline.model.adapter_width": COUNT,
    "pipeline.model.adapter_heads": COUNT,
    "pipeline.model.adapter_loss_mult": WEIGHT,
    "pipeline.model.decoded_loss_mult": WEIGHT,
    "pipeline.model.decoded_crop": COUNT,
    "pipeline.model.lpips_loss_mult": WEIGHT,
    "pipeline.model.relevance.steps": COUNT,
    "pipeline.model.relevance.rays": COUNT,
    "pipeline.model.relevance.num_levels": COUNT,
    "pipeline.model.relevance.base_res": COUNT,
    "pipeline.model.relevance.max_res": COUNT,
    "pipeline.model.relevance.grid_lr": ABOVE_ZERO,
    "pipeline.model.relevance.network_lr": ABOVE_ZERO,
    "pipeline.model.relevance.prior": WEIGHT,
}
"""What every number among the options may be, by the option's name on nerfstudio's command line."""


def require_in_range(config: Any, outer: Sequence[str] = ()) -> None:
    """Refuses a config with a number outside its range.

    Args:
        config: A whole config of a method, or a group of options in it.
        outer: Where in the whole config that group lies.

    Raises:
        ValueError: In one sentence, which option, what it is set to, and what fits.
    """
    for option in all_options(config, outer):
        names = list(option.names)
        if names[0] == "optimizers":
            names[1:2] = "*"
        fitting = RANGES.get(".".join(names))
        if fitting is not None and not fitting.fits(option.value):
            raise ValueError(f"{option.words[0]} is {option.value}: {fitting} fits.")


def require_consistent(pipeline: Any) -> None:
    """Refuses a pipeline's options that contradict each other.

    Raises:
        ValueError: In one sentence, which do, and what fits.
    """
    model = getattr(pipeline, "model", None)
    for contradiction in (*(_of_model(model) if model is not None else ()), *_of_edit(pipeline)):
        raise ValueError(contradiction)


def _of_model(model: Any) -> Iterator[str]:
    """What in a scene's options does not go together."""
    if model.near_plane >= model.far_plane:
        yield (
            f"The scene begins at --pipeline.model.near-plane {model.near_plane:g} and ends at "
            f"--pipeline.model.far-plane {model.far_plane:g}: the second is to be farther away."
        )
    groups = {"model": model, "model.relevance": getattr(model, "relevance", None)}
    for name, grids in groups.items():
        if grids is not None and grids.base_res > grids.max_res:
            yield (
                f"The coarsest grid, --pipeline.{name}.base-res {grids.base_res}, is finer than the finest, "
                f"--pipeline.{name}.max-res {grids.max_res}: swap them."
            )
    if getattr(model, "encoding", None) == "dense" and model.max_res > DENSE_LIMIT:
        yield (
            f"A dense grid of {model.max_res} cells along each side stores them all: lower --pipeline.model.max-res to "
            f"{DENSE_LIMIT} or less, or take --pipeline.model.encoding hash."
        )
    if len(model.num_proposal_samples_per_ray) < model.num_proposal_iterations:
        yield (
            f"There are {model.num_proposal_iterations} proposal networks and samples for "
            f"{len(model.num_proposal_samples_per_ray)} of them: pass a number for each by "
            "--pipeline.model.num-proposal-samples-per-ray."
        )


def _of_edit(pipeline: Any) -> Iterator[str]:
    """What in an edit's options does not go together; nothing where the pipeline edits nothing."""
    edit = getattr(pipeline, "edit", None)
    if edit is None:
        return
    if edit.min_noise > edit.max_noise:
        yield f"The least noise of an edit, {edit.min_noise}, exceeds the most, {edit.max_noise}: swap."
    low, high = edit.guidance.interval
    if low > high:
        yield f"Guidance begins to act at the noise level {low} and ends at {high}: swap."
    if getattr(getattr(pipeline, "model", None), "composite", False) and edit.mask != "field":
        yield (
            "--pipeline.model.composite True shows the edit within the region that all views agree on, and there is "
            f"none with --pipeline.edit.mask {edit.mask}: take the mask field, or composite False."
        )
    named: dict[int, str] = {}
    for asked in ("hide", "show", "remove"):
        for number in getattr(pipeline, f"{asked}_layers"):
            if named.setdefault(number, asked) != asked:
                yield f"Layer {number} cannot be in both {named[number]}_layers and {asked}_layers: choose one."
