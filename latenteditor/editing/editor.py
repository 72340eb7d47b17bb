"""How one view is edited: noise its rendering, denoise it by the prompt, keep what lies in the mask."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import (
    DeltaMaskConfig,
    blend,
    delta_mask,
    delta_score,
    gated_relevance,
    relevance_mask,
    require_usable,
    scene_shows,
)
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.failures import MOST_FAILURES, mark_constants, report_scores, require_finite
from latenteditor.editing.guidance import Guidance, denoise, require_batch
from latenteditor.editing.noise_schedule import NoiseSchedule, Timestep
from latenteditor.editing.samplers import Sampler, require_sampler, sampler_timesteps

SURVEY_BATCH = 8
"""Views that are scored together when all are surveyed; our choice. `max_batch` limits what passes the denoiser."""

Agreement = Callable[[str, list[Tensor]], list[Tensor]]
"""Takes an instruction and the relevance of all views, in [0, 1] and of shape (1, rows, columns), and returns the same
as all views agree on it."""


class Edit(NamedTuple):
    """A batch of edited views, and where they were edited."""

    edited: Float[Tensor, "views channels rows columns"]
    """What the instruction makes of the views: in its layer, it is laid over their bases. A view that could not be
    edited holds numbers that are not finite: it stays as it was, and is tried again."""
    mask: Bool[Tensor, "views 1 rows columns"]
    """Where a view was allowed to change."""
    score: Float[Tensor, "views 1 rows columns"] | None
    """The raw delta score the mask was cut from; None where the mask did not come from one."""


@runtime_checkable
class Editor(Protocol):
    """Whatever can edit views; one with `state_dict` and `load_state_dict` is saved with the edit."""

    def edit(
        self,
        rendered: Float[Tensor, "views channels rows columns"],
        bases: Float[Tensor, "views channels rows columns"],
        views: Sequence[int],
        instruction: str,
    ) -> Edit:
        """Edits what the scene shows now, `rendered`.

        Args:
            rendered: The views as the scene renders them.
            bases: The views as earlier prompts left them: what the edit is conditioned on, and blended into.
            views: Their indices among the training views.
            instruction: The one thing to change.
        """
        ...


@runtime_checkable
class Surveyor(Protocol):
    """An editor that looks at all views before it edits any: it knows then whether there is anything to edit."""

    def surveyed(self, instruction: str) -> bool:
        """Whether all views were looked at for this instruction, by the present settings."""
        ...

    def survey(self, bases: Sequence[Float[Tensor, "channels _ _"]], instruction: str) -> list[Bool[Tensor, "1 _ _"]]:
        """The masks of all views, in their order, or one cell that stands for all where nothing restricts the edit.

        `bases` may be empty where they were surveyed.
        """
        ...

    def forget(self) -> None:
        """Drops what it knows of the views, because they have changed."""
        ...


@dataclass
class EditConfig:
    """What to change, and how."""

    prompt: str = ""
    """What to change, for example "make the sphere red". Editing without one is refused."""
    model: str = "timbrooks/instruct-pix2pix"
    """What edits: the hub id or folder of an InstructPix2Pix, FLUX.1-Kontext, FLUX.2-klein or Qwen-Image-Edit in the
    diffusers format, or "miniature" for the built-in one. `latenteditor editors` lists them."""
    half_precision: bool = False
    """Runs the denoiser in 16-bit numbers: half the memory, faster, and usually as good. A CPU without instructions for
    them computes in 32 bits all the same, and says so."""
    cpu_offload: bool = False
    """Keeps the denoiser's weights in main memory and moves each part over when it is needed: least memory,
    slowest."""
    max_batch: int | None = None
    """Most latents that pass the denoiser at once; an edit needs one to three for each view, by its family. Lower it
    when memory runs out; None sets no limit."""
    guidance: Guidance = field(default_factory=Guidance)
    """How strongly the edit follows the prompt and keeps to the view as it was before it."""
    min_noise: float = 0.02
    """Least noise an edit starts from, as a fraction of the schedule. Higher lets every edit change more.
    From Instruct-NeRF2NeRF."""
    max_noise: float = 0.98
    """Most noise an edit starts from, as a fraction of the schedule. Lower keeps every edit closer to what
    the scene shows now. From Instruct-NeRF2NeRF."""
    denoising_steps: int = 20
    """Steps of one edit, however much noise it starts from. From Instruct-NeRF2NeRF, where they are DDIM's."""
    sampler: Sampler = "ddim"
    """Whose steps they are: DDIM's, or those of DPM-Solver++(2M) or UniPC, which remember the steps before and come as
    far in fewer. A flow model is sampled by Euler's, which "ddim" means there. From Instruct-NeRF2NeRF."""
    mask: Literal["per-view", "field", "none"] = "per-view"
    """Where a view may change: in the mask the delta module finds in that view, as in the paper; in the region on
    which the scores of all views agree in 3D, rendered from the relevance head of the field (latenteditor only); or
    everywhere."""
    delta_mask: DeltaMaskConfig = field(default_factory=DeltaMaskConfig)
    """How the mask is found."""
    blending: Literal["final", "per-step"] = "final"
    """When what lies outside the mask is put back: once, after the last denoising step, as the paper draws
    it, or after every step as well, which lets the inside fit its surroundings (Watch Your Steps)."""
    seed: int = 0
    """Seed of the noise that edits start from and masks are measured with."""


@torch.no_grad()
def edit_from(
    denoiser: Denoiser,
    rendered: Float[Tensor, "views channels rows columns"],
    bases: Float[Tensor, "views channels rows columns"],
    config: EditConfig,
    start: int,
    noise: Float[Tensor, "views channels rows columns"],
    mask: Bool[Tensor, "views 1 rows columns"],
    on_step: Callable[[], object] | None = None,
) -> Float[Tensor, "views channels rows columns"]:
    """Noises the rendered views to timestep `start`, denoises them by the prompt, blends by the mask.

    `on_step` is called after each denoising step.

    Raises:
        ValueError: A number is not finite in what comes in. What comes out is for the caller to look at.
    """
    require_finite(rendered, "The scene renders numbers that are not finite: go back to a checkpoint.")
    schedule, size = denoiser.noise_schedule, (rendered.shape[-2], rendered.shape[-1])

    def after_step(latents: Tensor, timestep: Timestep) -> Tensor:
        if on_step is not None:
            on_step()
        if config.blending == "final":
            return latents
        return blend(mask, latents, schedule.add_noise(bases, noise, timestep))

    edited = denoise(
        denoiser,
        schedule.add_noise(rendered, noise, start),
        bases,
        sampler_timesteps(config.sampler, schedule, start, config.denoising_steps, size),
        config.prompt,
        config.guidance,
        after_step,
        config.max_batch,
        config.sampler,
    )
    return blend(mask, edited, bases)


def edit_from_noise(
    denoiser: Denoiser,
    rendered: Float[Tensor, "views channels rows columns"],
    bases: Float[Tensor, "views channels rows columns"],
    config: EditConfig,
    mask: Bool[Tensor, "views 1 rows columns"] | None = None,
    on_step: Callable[[], object] | None = None,
) -> Float[Tensor, "views channels rows columns"]:
    """What the editor makes of views when it starts from the most noise allowed; without a mask, everywhere.

    Raises:
        ValueError: A number is not finite in what comes in, or in what comes out.
    """
    _, start = noise_range(config, denoiser.noise_schedule)
    noise = torch.randn(rendered.shape, generator=torch.Generator().manual_seed(config.seed)).to(rendered)
    if mask is None:
        mask = torch.ones_like(rendered[:, :1], dtype=torch.bool)
    edited = edit_from(denoiser, rendered, bases, config, start, noise, mask, on_step)
    require_finite(edited, "The denoiser's result is not finite: try full precision or less guidance.")
    return edited


class LatentEditor:
    """The editor of the paper: finds where the instruction applies, and denoises the rendered view there."""

    def __init__(self, denoiser: Denoiser, config: EditConfig, agree: Agreement | None = None) -> None:
        """Reads `config` anew at each edit, so that a viewer's boxes take effect.

        Args:
            denoiser: The InstructPix2Pix.
            config: How to edit; its prompt is not read here, each edit brings its own.
            agree: Makes the relevance of all views agree, for the mask "field".

        Raises:
            ValueError: A setting lies outside its range, which hours of training would else come before.
        """
        self.denoiser = denoiser
        self.config = config
        self.agree = agree
        self.track: Callable[[Sequence[list[int]]], Iterable[list[int]]] = iter
        """Passes on the batches of a survey; may show its progress."""
        self.generator = torch.Generator().manual_seed(config.seed)
        self._scores: dict[str, dict[int, Tensor]] = {}
        self._relevance: dict[str, list[Tensor]] = {}
        self._surveyed: set[str] = set()
        self._scored_with = self._score_settings()
        noise_range(config, denoiser.noise_schedule)
        require_usable(config.delta_mask)
        denoiser.noise_schedule.timestep_at(config.delta_mask.noise_level)
        require_batch(config.max_batch)
        if config.mask == "field" and agree is None:
            raise ValueError('This scene has no relevance head: take the mask "per-view" or "none".')

    @torch.no_grad()
    def edit(
        self,
        rendered: Float[Tensor, "views channels rows columns"],
        bases: Float[Tensor, "views channels rows columns"],
        views: Sequence[int],
        instruction: str,
    ) -> Edit:
        """z_e = M z'_e + (1 - M) z, where z'_e is the denoised rendering and z the base.

        A view that could not be edited is not finite; the others of its batch are none the worse.
        """
        score, mask = self.find_mask(bases, views, instruction)
        edited = bases.clone()
        chosen = [row for row, own in enumerate(mask) if own.any()]
        if chosen:
            named = [views[row] for row in chosen]
            low, high = noise_range(self.config, self.denoiser.noise_schedule)
            start = int(torch.randint(low, high + 1, (), generator=self.generator))
            noise = torch.randn(rendered[chosen].shape, generator=self.generator).to(rendered)
            inside = self.edit_at(start, rendered[chosen], bases[chosen], named, noise, mask[chosen], instruction)
            edited[chosen] = mark_constants(inside, mask[chosen], bases[chosen])
        return Edit(edited, mask, score)

    def find_mask(
        self, bases: Float[Tensor, "views channels rows columns"], views: Sequence[int], instruction: str
    ) -> tuple[Float[Tensor, "views 1 rows columns"] | None, Bool[Tensor, "views 1 rows columns"]]:
        """The raw delta score and the mask, or no score and a mask of everything.

        Raises:
            ValueError: The mask "field" is asked of views before all were surveyed.
        """
        if self.config.mask == "none":
            return None, torch.ones_like(bases[:, :1], dtype=torch.bool)
        score = self.score(bases, views, instruction)
        if self.config.mask == "per-view":
            return score, delta_mask(score, self.config.delta_mask)
        if instruction not in self._relevance:
            raise ValueError("The views must be surveyed together before any is masked by what they agree on.")
        relevance = torch.stack([self._relevance[instruction][view].to(bases) for view in views])
        return score, relevance_mask(relevance, self.config.delta_mask)

    def score(
        self, bases: Float[Tensor, "views channels rows columns"], views: Sequence[int], instruction: str
    ) -> Float[Tensor, "views 1 rows columns"]:
        """The raw delta score of each view, measured once for an instruction and kept.

        Raises:
            CannotEdit: A score is not finite, by whatever noise it is measured.
        """
        require_instruction(instruction)
        self._drop_stale()
        known = self._scores.setdefault(instruction, {})
        config = self.config
        for failures in range(MOST_FAILURES):
            missing = [row for row, view in enumerate(views) if view not in known]
            if not missing:
                break
            measured = delta_score(
                self.denoiser,
                bases[missing],
                instruction,
                config.delta_mask,
                config.seed + failures,  # Other noise may do where this one does not.
                config.max_batch,
            )
            scores = dict(zip((views[row] for row in missing), measured, strict=True))
            known.update({view: score for view, score in scores.items() if score.isfinite().all()})
            report_scores([view for view in scores if view not in known], instruction, failures + 1)
        return torch.stack([known[view].to(bases) for view in views])

    def surveyed(self, instruction: str) -> bool:
        """Whether `survey` would measure nothing."""
        self._drop_stale()
        agreed = self.config.mask != "field" or instruction in self._relevance
        return self.config.mask == "none" or (instruction in self._surveyed and agreed)

    @torch.no_grad()
    def survey(self, bases: Sequence[Float[Tensor, "channels _ _"]], instruction: str) -> list[Bool[Tensor, "1 _ _"]]:
        """Scores all views, and lets them agree if asked; the masks, one for each view."""
        if self.config.mask == "none":
            return [torch.ones(1, 1, 1, dtype=torch.bool)]
        if not self.surveyed(instruction):
            for batch in self.track(self._batches(bases)):
                self.score(torch.stack([bases[view] for view in batch]), batch, instruction)
            self._surveyed.add(instruction)
        scores = [self._scores[instruction][view] for view in sorted(self._scores[instruction])]
        config = self.config.delta_mask
        if config.threshold is not None and not scene_shows(scores, config):
            return [torch.zeros_like(score, dtype=torch.bool) for score in scores]
        if self.config.mask == "per-view":
            return [delta_mask(score[None], config)[0] for score in scores]
        if instruction not in self._relevance:
            assert self.agree is not None
            relevance = [gated_relevance(score[None], config)[0] for score in scores]
            anywhere = any(bool(view.any()) for view in relevance)
            self._relevance[instruction] = self.agree(instruction, relevance) if anywhere else relevance
        return [relevance_mask(relevance[None], config)[0] for relevance in self._relevance[instruction]]

    def forget(self) -> None:
        """Drops all scores."""
        self._scores, self._relevance, self._surveyed = {}, {}, set()

    def edit_at(
        self,
        start: int,
        rendered: Float[Tensor, "views channels rows columns"],
        bases: Float[Tensor, "views channels rows columns"],
        views: Sequence[int],
        noise: Float[Tensor, "views channels rows columns"],
        mask: Bool[Tensor, "views 1 rows columns"],
        instruction: str,
    ) -> Float[Tensor, "views channels rows columns"]:
        """Noises renderings of the views of these indices to timestep `start`, denoises them, blends by the mask."""
        require_instruction(instruction)
        return edit_from(self.denoiser, rendered, bases, replace(self.config, prompt=instruction), start, noise, mask)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed edit needs to go on as if it had never stopped."""
        return {
            "generator": self.generator.get_state(),
            "scores": {
                instruction: {view: score.cpu() for view, score in scores.items()}
                for instruction, scores in self._scores.items()
            },
            "relevance": {
                instruction: [view.cpu() for view in views] for instruction, views in self._relevance.items()
            },
            "surveyed": sorted(self._surveyed),
            "scored_with": self._scored_with,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there; what was measured by other settings than the present ones is measured again."""
        self.generator.set_state(state["generator"].cpu())
        self._scores = {instruction: dict(scores) for instruction, scores in state["scores"].items()}
        self._relevance, self._surveyed = dict(state["relevance"]), set(state["surveyed"])
        self._scored_with = state["scored_with"]

    def _score_settings(self) -> dict[str, Any]:
        """Everything in the config that a raw score depends on."""
        mask = self.config.delta_mask
        return {"noise_level": mask.noise_level, "draws": mask.draws, "seed": self.config.seed}

    def _drop_stale(self) -> None:
        """Drops what was measured by other settings."""
        if self._scored_with != self._score_settings():
            self.forget()
            self._scored_with = self._score_settings()

    def _batches(self, bases: Sequence[Tensor]) -> list[list[int]]:
        """The views in batches of one size each."""
        by_size: dict[torch.Size, list[int]] = {}
        for view, base in enumerate(bases):
            by_size.setdefault(base.shape, []).append(view)
        return [
            views[first : first + SURVEY_BATCH]
            for views in by_size.values()
            for first in range(0, len(views), SURVEY_BATCH)
        ]


def noise_range(config: EditConfig, schedule: NoiseSchedule) -> tuple[int, int]:
    """The timesteps between which an edit starts; even the least has room for the steps of the sampler.

    Raises:
        ValueError: There is no such timestep, no room, or no such sampler for the schedule.
    """
    require_sampler(config.sampler, schedule)
    if config.min_noise > config.max_noise:
        raise ValueError(f"The least noise of an edit, {config.min_noise}, exceeds the most, {config.max_noise}: swap.")
    low, high = schedule.timestep_at(config.min_noise), schedule.timestep_at(config.max_noise)
    sampler_timesteps(config.sampler, schedule, low, config.denoising_steps)
    return low, high


def require_instruction(instruction: str) -> None:
    """Refuses an instruction without words."""
    if not instruction.strip():
        raise ValueError('There is nothing to edit by: give a prompt, for example "make the sphere red".')
