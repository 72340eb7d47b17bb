from dataclasses import replace

import numpy as np
import pytest
import torch

from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Guidance
from latenteditor.miniature.evaluation import (
    SMALLEST_OTHER,
    SMALLEST_REGION,
    Case,
    draw_case,
    evaluate_case,
    judge,
    other_solids,
    photograph_cases,
    summarise,
)
from latenteditor.miniature.recognition import interval
from latenteditor.networks.autoencoder import Autoencoder
from latenteditor.worlds.instructions import KIND_SHARES, Instruction, parse
from latenteditor.worlds.looks import LOOKS
from latenteditor.worlds.render import Tracer, dome_camera
from latenteditor.worlds.world import COLOURS, random_world
from tests.editing.denoisers import KnownEdit

SEED, SIZE = 1, 40
DONE = {"recognised": 1.0, "others_kept": 1.0}
LEFT = {"recognised": 0.0, "others_kept": 1.0}


class Identity(Autoencoder):
    """Latents that are the pictures themselves."""

    device = torch.device("cpu")  # type: ignore[assignment]

    def __init__(self) -> None:
        """Needs no network."""

    def encode(self, images):
        return images

    def decode(self, latents):
        return latents


@pytest.fixture(scope="module")
def case() -> Case:
    """A case with other solids, which are well seen."""
    return next(case for case in (draw_case(seed, SIZE, "colour") for seed in range(20)) if len(case.others) > 1)


def painted(picture: torch.Tensor, pixels: torch.Tensor, colour: str, share: float = 1.0) -> torch.Tensor:
    """A picture with some pixels, or a share of each, in one flat colour, half in shadow."""
    flat = 0.7 * torch.tensor(COLOURS[colour])[:, None, None]
    return torch.where(pixels, (1 - share) * picture + share * flat, picture)


@pytest.mark.parametrize("seed", range(6))
def test_a_case_is_one_well_seen_solid_in_another_colour(seed):
    world, case = random_world(seed), draw_case(seed, 32, "colour")
    instruction = parse(case.prompt, world)
    assert instruction == Instruction(instruction.solids, colour=instruction.colour)
    assert len(instruction.solids) == 1
    assert case.region.float().mean() >= SMALLEST_REGION
    changed = (case.before != case.after).any(dim=1, keepdim=True)
    assert changed[case.region].float().mean() > 0.4  # White stripes stay as they are.
    assert changed.sum() < 3 * case.region.sum()
    for other in case.others:
        assert not (other.pixels & case.region[0, 0]).any()
    with pytest.raises(ValueError, match="Cannot tell"):
        parse(case.idle_prompt, world)


def test_cases_of_a_seed_are_the_same():
    one, other = draw_case(SEED, 24), draw_case(SEED, 24)
    assert one.prompt == other.prompt
    assert torch.equal(one.before, other.before)


def test_the_others_are_all_solids_that_are_seen_and_not_named():
    world = random_world(3, num_solids=4)
    tracer, rng = Tracer(world), np.random.default_rng(0)
    counts = set()
    for _ in range(8):
        hits = tracer.trace(dome_camera(rng, 24, field_of_view=0.5, aim=0.6))
        for named in ((0,), (1, 2), ()):
            others = other_solids(hits, Instruction(named, colour="red"), np.zeros((24, 24), dtype=bool))
            expected = [
                index for index in range(4) if index not in named and (hits.ids == index + 1).mean() >= SMALLEST_OTHER
            ]
            assert [torch.unique(torch.from_numpy(hits.ids)[other.pixels]).tolist() for other in others] == [
                [index + 1] for index in expected
            ]
            assert [list(COLOURS)[other.own] for other in others] == [world.solids[index].colour for index in expected]
            counts.add(len(others))
    assert {0, 4} <= counts or len(counts) > 2


def test_a_candidate_is_the_solid_in_that_colour(case):
    picture = case.before[0].movedim(0, -1)
    for other in case.others:
        assert len(other.candidates) == len(COLOURS)
        errors = (other.candidates - picture[other.pixels]).abs().amax(dim=(1, 2))
        assert errors[other.own] <= 0.51 / 255
        assert errors[torch.arange(len(COLOURS)) != other.own].min() > 0.1


def test_pixels_in_the_region_are_not_the_others(world):
    hits = Tracer(world).trace(dome_camera(np.random.default_rng(0), 24))
    region = np.zeros((24, 24), dtype=bool)
    region[:, :12] = True
    for other in other_solids(hits, Instruction((0,), shape="cone"), region):
        assert not other.pixels[:, :12].any()
        assert other.candidates.shape == (len(COLOURS), other.pixels.sum(), 3)


@pytest.mark.parametrize("kind", KIND_SHARES)
@pytest.mark.parametrize("seed", [3, 18])
def test_of_every_kind_the_truth_is_recognised_and_the_original_is_not(kind, seed):
    """In the view of seed 18 a new shape hides most of what was seen of another solid."""
    case = draw_case(seed, 48, kind)
    assert case.kind == kind
    assert judge(case, case.after) == DONE
    assert judge(case, case.before) == LEFT


def test_a_drawn_case_is_about_solids_unless_told():
    kinds = {draw_case(seed, 24).kind for seed in range(12)}
    assert len(kinds) > 1
    assert kinds <= set(KIND_SHARES) - {"look"}


def test_a_photograph_gives_a_case_for_each_hue_that_it_shows_enough_of():
    photograph = np.full((20, 20, 3), 100, dtype=np.uint8)
    photograph[:8], photograph[8:10], photograph[10, :10] = (200, 30, 30), (30, 60, 210), (240, 220, 40)
    cases = [case for case in photograph_cases(photograph, 0) if case.kind == "hue"]
    assert [case.region.float().mean().item() for case in cases] == pytest.approx([0.4, 0.1])
    for case, old in zip(cases, ("red", "blue"), strict=True):
        new = case.prompt.removeprefix(f"make the {old} things ")
        assert new in COLOURS
        assert new != old
        changed = (case.before != case.after).any(dim=1, keepdim=True)
        assert torch.equal(changed, case.region)
        idle = case.idle_prompt.split()[2]
        assert idle in set(COLOURS) - {"red", "blue", "yellow"}
        assert judge(case, case.after) == DONE
        assert judge(case, case.before)["recognised"] == 0


def test_a_photograph_gives_a_case_for_each_look_that_it_has_not():
    photograph = np.full((8, 8, 3), 100, dtype=np.uint8)
    assert {parse(case.prompt, random_world(0)).look for case in photograph_cases(photograph, 0)} == (
        set(LOOKS) - {"black and white"}
    )
    for case in photograph_cases(photograph, 0):
        assert case.kind == "look"
        assert case.region.all()
        picture = case.before[0].movedim(0, -1).double().numpy()
        truth = LOOKS[parse(case.prompt, random_world(0)).look](picture)
        assert np.abs(case.after[0].movedim(0, -1).numpy() - truth).max() < 0.003
        assert judge(case, case.after) == DONE


def test_the_truth_is_recognised_and_the_original_is_not(case):
    assert judge(case, case.after) == DONE
    assert judge(case, case.before) == LEFT


@pytest.mark.parametrize("which", [0, 1])
def test_an_edit_that_recolours_another_solid_too_does_not_keep_it(case, which):
    other = case.others[which]
    wrong = list(COLOURS)[(other.own + 3) % len(COLOURS)]
    verdict = {"recognised": 1.0, "others_kept": 0.0}
    assert judge(case, painted(case.after, other.pixels, wrong)) == verdict
    rendered = case.after.clone()
    rendered[0, :, other.pixels] = other.candidates[list(COLOURS).index(wrong)].T
    assert judge(case, rendered) == verdict


def test_a_faint_change_of_another_solid_is_allowed(case):
    other = case.others[0]
    wrong = list(COLOURS)[(other.own + 3) % len(COLOURS)]
    assert judge(case, painted(case.after, other.pixels, wrong, share=0.2)) == DONE
    assert judge(case, (case.after + 0.05 * torch.randn(case.after.shape, generator=torch.manual_seed(0)))) == DONE


def test_the_floor_is_not_judged(case):
    covered = case.region[0, 0] | torch.stack([other.pixels for other in case.others]).any(dim=0)
    assert judge(case, painted(case.after, ~covered, "red")) == DONE


def test_without_others_the_region_decides(case):
    alone = replace(case, others=())
    repainted = painted(case.after, case.others[0].pixels, "cyan")
    assert judge(alone, repainted) == DONE
    assert judge(alone, case.before) == LEFT


def evaluate(case: Case, change: torch.Tensor) -> dict[str, float]:
    """The figures of an editor that makes a known change where it is asked for the case's own instruction."""
    config = EditConfig(guidance=Guidance(text=1.0, image=1.0), denoising_steps=3)
    return evaluate_case(case, Identity(), KnownEdit(change, case.prompt), config)


def test_a_perfect_editor_is_recognised(case):
    figures = evaluate(case, case.after - case.before)
    assert DONE.items() <= figures.items()
    assert figures["psnr_inside"] > 40
    assert figures["psnr_outside"] > 40
    assert figures["outline"] == 1
    assert figures["recognised_ceiling"] == 1
    assert figures["mask_iou"] > 0.5
    assert figures["score_peak"] > 0.1
    assert (figures["idle_score_peak"], figures["idle_mask_empty"]) == (pytest.approx(0, abs=1e-3), 1.0)


def test_an_editor_that_does_nothing_is_not_recognised(case):
    figures = evaluate(case, torch.zeros_like(case.before))
    assert LEFT.items() <= figures.items()
    assert np.isnan(figures["outline"]) or figures["outline"] == 0
    assert figures["psnr_inside"] == pytest.approx(figures["psnr_inside_unedited"], abs=0.1)


def test_an_editor_that_paints_everything_keeps_nothing(case):
    colour = next(word for word in COLOURS if word in case.prompt.split()[-2:])
    others = torch.stack([other.pixels for other in case.others]).any(dim=0)
    figures = evaluate(case, painted(case.after, others, colour) - case.before)
    assert {"recognised": 1.0, "others_kept": 0.0}.items() <= figures.items()


def test_figures_are_summarised():
    rows = [{"recognised": 1.0}, {"recognised": 0.0}, {"recognised": 1.0}, {"recognised": 1.0}]
    expected = {"mean": 0.75, "median": 1.0, "interval": interval(3, 4)}
    assert summarise(rows) == {"recognised": expected}


def test_figures_that_are_not_defined_are_left_out_of_the_summary():
    rows = [{"kept": 1.0, "psnr": np.nan, "iou": np.nan}, {"kept": 1.0, "psnr": 20.0, "iou": np.nan}]
    kept = {"mean": 1.0, "median": 1.0}
    assert summarise(rows) == {"kept": kept, "psnr": {"mean": 20.0, "median": 20.0}}
