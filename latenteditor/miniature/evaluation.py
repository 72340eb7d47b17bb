"""How well an editor edits single views of worlds it never saw, where the truth is known.

Of one case: is it recognised, how near is it, does its outline fit, are the other solids kept, does the mask fit.
"""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from latenteditor.editing.delta_mask import blend, delta_mask, delta_score
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig, edit_from_noise
from latenteditor.editing.metrics import mask_iou, mean_over, psnr
from latenteditor.miniature.outline import boundary_f, changed
from latenteditor.miniature.recognition import (
    TRUTH,
    Candidates,
    hue_candidates,
    interval,
    look_candidates,
    nearest_candidate,
    region_camera,
    world_candidates,
)
from latenteditor.networks.autoencoder import Autoencoder
from latenteditor.networks.perceptual import PerceptualDistance
from latenteditor.pictures import to_bytes
from latenteditor.worlds.instructions import (
    KIND_SHARES,
    LOOK_TEMPLATES,
    Instruction,
    idle_wording,
    random_instruction,
    random_kind,
)
from latenteditor.worlds.looks import LOOKS, hue_share, recolour_hue
from latenteditor.worlds.render import Hits, Tracer, dome_camera
from latenteditor.worlds.truth import VISIBLE_CHANGE, follow
from latenteditor.worlds.world import COLOURS, random_world

SMALLEST_REGION = 0.01
"""Of a view: a solid that is hardly seen tells nothing about an editor."""
SMALLEST_OTHER = 0.005
"""Of a view: the least of a solid from which it can be told whether it kept its colour."""

SMALLEST_HUE = 0.05
"""Of a photograph: the least of a hue for an instruction about it."""


class OtherSolid(NamedTuple):
    """A solid that an instruction does not name, and what it would look like in other colours."""

    pixels: Bool[Tensor, "height width"]
    """Which pixels of the view it fills."""
    candidates: Float[Tensor, "colours pixels 3"]
    """Those pixels, with the solid in each of ``COLOURS``."""
    own: int
    """Which of ``COLOURS`` is its own."""


@dataclass(frozen=True)
class Case:
    """One view and one instruction about it."""

    kind: str
    """What sort of instruction it is, a key of ``KIND_SHARES``, or "hue"."""
    prompt: str
    idle_prompt: str
    """An instruction about a solid that is not there."""
    before: Float[Tensor, "1 3 height width"]
    after: Float[Tensor, "1 3 height width"]
    region: Bool[Tensor, "1 1 height width"]
    candidates: Candidates
    """What the region should show, and what else might have been made of it."""
    others: tuple[OtherSolid, ...]
    """The solids that should stay as they are and are seen well enough to tell."""


def draw_case(seed: int, size: int, kind: str | None = None) -> Case:
    """A view of a world in which an instruction changes something.

    Args:
        seed: Of the world, the view and the words.
        size: Pixels of either side.
        kind: Of instruction, a key of ``KIND_SHARES``; any that is about solids where absent.
    """
    world, rng = random_world(seed), np.random.default_rng((seed, 3))
    tracer = Tracer(world)
    while True:
        hits = tracer.trace(dome_camera(rng, size))
        drawn = kind or random_kind(rng, KIND_SHARES)
        instruction, prompt = random_instruction(world, rng, drawn)
        after, region = follow(instruction, hits)
        if region.mean() >= SMALLEST_REGION and (kind or instruction.solids):
            break
    return Case(
        kind=drawn,
        prompt=prompt,
        idle_prompt=idle_wording(world, rng),
        before=_image(hits.shade(world)),
        after=_image(after),
        region=torch.from_numpy(region)[None, None],
        candidates=world_candidates(instruction, hits, region, after),
        others=() if instruction.look else other_solids(hits, instruction, region),
    )


def photograph_cases(photograph: UInt8[np.ndarray, "height width 3"], seed: int) -> list[Case]:
    """An instruction for each hue that a photograph shows, and each look that it has not; rules give the truth.

    Args:
        photograph: sRGB.
        seed: Of the new hues and the words.
    """
    rng = np.random.default_rng((seed, 6))
    picture = photograph / 255
    shares = {colour: hue_share(picture, colour) for colour in COLOURS}
    absent = min(shares, key=lambda colour: shares[colour].mean())

    def case(kind: str, prompt: str, idle_colour: str, after: np.ndarray, region: np.ndarray, old: str = "") -> Case:
        found = hue_candidates(picture, old, after, region) if old else look_candidates(picture, after)
        return Case(
            kind=kind,
            prompt=prompt,
            idle_prompt=f"make the {absent} things {idle_colour}",
            before=_image(picture),
            after=_image(after),
            region=torch.from_numpy(region)[None, None],
            candidates=found,
            others=(),
        )

    cases = []
    for old, share in ((old, share) for old, share in shares.items() if (share > 0.5).mean() >= SMALLEST_HUE):
        new, idle_new = (list(COLOURS)[index] for index in rng.permutation(len(COLOURS))[:2])
        if new == old:
            new = idle_new
        after = recolour_hue(picture, old, new)
        idle = new if new != absent else old
        cases.append(case("hue", f"make the {old} things {new}", idle, after, share > 0.5, old))
    present = next(colour for colour in COLOURS if colour != absent)
    for look, change in LOOKS.items():
        after, templates = change(picture), LOOK_TEMPLATES[look]
        if np.abs(after - picture).mean() >= VISIBLE_CHANGE:
            prompt = templates[rng.integers(len(templates))]
            cases.append(case("look", prompt, present, after, np.ones(picture.shape[:2], dtype=bool)))
    return cases


def other_solids(
    hits: Hits, instruction: Instruction, region: Bool[np.ndarray, "height width"]
) -> tuple[OtherSolid, ...]:
    """The solids that an instruction does not name, as far as they are seen outside its region.

    A new shape may hide a part of another solid, or cast a shadow on it.
    """
    others, tracer = [], Tracer(hits.world)
    for index, solid in enumerate(hits.world.solids):
        pixels = (hits.ids == index + 1) & ~region
        if index not in instruction.solids and pixels.mean() >= SMALLEST_OTHER:
            there = tracer.trace(region_camera(hits.camera, pixels))
            worlds = [Instruction((index,), colour=colour).apply(hits.world) for colour in COLOURS]
            candidates = np.stack([there.shade(world).reshape(-1, 3)[: pixels.sum()] for world in worlds])
            own = list(COLOURS).index(solid.colour)
            others.append(OtherSolid(torch.from_numpy(pixels), torch.from_numpy(candidates).float(), own))
    return tuple(others)


@torch.no_grad()
def evaluate_case(
    case: Case,
    autoencoder: Autoencoder,
    denoiser: Denoiser,
    config: EditConfig,
    perceptual: PerceptualDistance | None = None,
) -> dict[str, float]:
    """Figures of one case: its mask, and its edit from pure noise, without the mask's help and, as masked, with it.

    PSNR is against the truth; as *decoded*, against what the autoencoder makes of the truth, so that what is lost there
    does not count as the editor's. LPIPS is left out without a network for it.
    """
    original = autoencoder.encode(case.before.to(autoencoder.device))
    score = delta_score(denoiser, original, case.prompt, config.delta_mask, config.seed)
    idle_score = delta_score(denoiser, original, case.idle_prompt, config.delta_mask, config.seed)
    found = delta_mask(score, config.delta_mask)
    latents = edit_from_noise(denoiser, original, original, replace(config, prompt=case.prompt))
    edited, masked = (autoencoder.decode(view).cpu() for view in (latents, blend(found, latents, original)))
    pixels = F.interpolate(found.float(), case.region.shape[-2:], mode="nearest-exact").bool().cpu()
    unedited, ceiling = (
        autoencoder.decode(autoencoder.encode(view.to(autoencoder.device))).cpu() for view in (case.before, case.after)
    )
    views = {"": edited, "_masked": masked, "_unedited": case.before, "_ceiling": ceiling}
    return _against_truth(case, views, perceptual) | {
        "psnr_inside_decoded": psnr(edited, ceiling, case.region).item(),
        "psnr_inside_decoded_unedited": psnr(unedited, ceiling, case.region).item(),
        "outline": boundary_f(changed(edited, unedited), changed(ceiling, unedited)).item(),
        "mask_iou": mask_iou(pixels, case.region).item(),
        "score_peak": score.max().item(),
        "idle_score_peak": idle_score.max().item(),
        "idle_mask_empty": float(not delta_mask(idle_score, config.delta_mask).any()),
    }


def _against_truth(
    case: Case, views: dict[str, Float[Tensor, "1 3 height width"]], perceptual: PerceptualDistance | None
) -> dict[str, float]:
    """Figures of the edit, whose name is empty, and of what it is compared with, all against the truth."""
    figures = judge(case, views[""])
    figures |= {f"recognised{name}": judge(case, views[name])["recognised"] for name in ("_masked", "_ceiling")}
    figures |= {f"psnr_inside{name}": psnr(view, case.after, case.region).item() for name, view in views.items()}
    for name in ("", "_masked", "_ceiling"):
        figures[f"psnr_outside{name}"] = psnr(views[name], case.after, ~case.region).item()
    if perceptual is not None:
        figures |= {
            f"lpips_inside{name}": mean_over(perceptual.distance_map(view, case.after), case.region).item()
            for name, view in views.items()
        }
    return figures


def judge(case: Case, edited: Float[Tensor, "1 3 height width"]) -> dict[str, float]:
    """Whether an edit does what it is asked, each figure 0 or 1.

    Returns:
        ``recognised``: the region is nearer to the truth than to any alternative. ``others_kept``: every other solid
        is nearer to itself in its own colour than to itself in any other.
    """
    others_kept = all(_nearest_colour(edited, other) == other.own for other in case.others)
    recognised = nearest_candidate(edited, case.region, case.candidates) == TRUTH
    return {"recognised": float(recognised), "others_kept": float(others_kept)}


def summarise(figures: list[dict[str, float]]) -> dict[str, Any]:
    """Mean and median of every figure over all cases in which it is defined; of what is recognised the interval too."""
    defined = {name: [row[name] for row in figures if not np.isnan(row[name])] for name in figures[0]}
    summary: dict[str, Any] = {
        name: {"mean": float(np.mean(values)), "median": float(np.median(values))}
        for name, values in defined.items()
        if values
    }
    for name, values in summary.items():
        if name.startswith("recognised"):
            values["interval"] = interval(int(sum(defined[name])), len(defined[name]))
    return summary


def _nearest_colour(image: Float[Tensor, "1 3 height width"], other: OtherSolid) -> int:
    """Which of ``COLOURS`` a solid seems to have."""
    seen = image[0].movedim(0, -1)[other.pixels]
    return int((other.candidates - seen).square().mean(dim=(1, 2)).argmin())


def _image(picture: np.ndarray) -> Float[Tensor, "1 3 height width"]:
    """A rendered picture as photographs come: eight bits, channels first."""
    return torch.from_numpy(to_bytes(picture)).movedim(-1, 0)[None] / 255
