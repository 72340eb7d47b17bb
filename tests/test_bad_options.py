"""Options out of their range, contradictory ones, and prompts: refused before anything is built, in one line each."""

import copy
import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from latenteditor import methods
from latenteditor.language.prompts import MAX_INSTRUCTIONS, PromptSplitConfig
from latenteditor.language.rules import MAX_CHARACTERS
from latenteditor.nerf.option_ranges import RANGES, Range, require_consistent, require_in_range
from latenteditor.nerf.prompt_reader import PromptReader
from latenteditor.options import has_option, set_options

METHODS = {
    name: specification.config
    for name, specification in vars(methods).items()
    if isinstance(specification, methods.MethodSpecification)
}


def build(method: str = "latenteditor", **options: Any) -> Any:
    """Builds a trainer and its pipeline of data that are not there; a double underscore stands for a dot."""
    config = copy.deepcopy(METHODS[method])
    settings = {"machine__device_type": "cpu", "pipeline__edit__prompt": "make it red"} | options
    if method == "latent_nerfacto":
        del settings["pipeline__edit__prompt"]
    set_options(config, {name.replace("__", "."): value for name, value in settings.items()})
    trainer: Any = config.setup(local_rank=0, world_size=1)
    return trainer.setup()


def read(prompt: str, whole: bool = False, **split: Any) -> list[str]:
    return PromptReader(PromptSplitConfig(**split)).instructions(prompt, whole)


MISTAKES: list[tuple[str, Callable[[], Any], str]] = [
    # Training.
    ("no iterations", lambda: build(max_num_iterations=0), "--max-num-iterations is 0: a whole number of 1 or more"),
    ("no save", lambda: build(steps_per_save=0), "--steps-per-save is 0: a whole number of 1 or more fits"),
    ("negative evaluation", lambda: build(steps_per_eval_image=-1), "--steps-per-eval-image is -1: .* of 0 or more"),
    (
        "no learning",
        lambda: build(optimizers__fields__optimizer__lr=0.0),
        r"--optimizers\.fields\.optimizer\.lr is 0\.0: a number above 0 fits",
    ),
    (
        "endless schedule",
        lambda: build(optimizers__adapter__scheduler__max_steps=0),
        r"--optimizers\.adapter\.scheduler\.max-steps is 0",
    ),
    ("no reconstruction", lambda: build(pipeline__reconstruction_steps=-1), "--pipeline.reconstruction-steps is -1"),
    # The edit.
    (
        "guidance that is NaN",
        lambda: build(pipeline__edit__guidance__text=math.nan),
        r"--pipeline\.edit\.guidance\.text is nan: a number from 0 to 100 fits",
    ),
    (
        "endless guidance",
        lambda: build(pipeline__edit__guidance__text=1e30),
        "guidance.text is 1e[+]30: a number from 0",
    ),
    ("negative guidance", lambda: build(pipeline__edit__guidance__image=-1.5), r"guidance\.image is -1\.5: a number"),
    (
        "guidance beyond the schedule",
        lambda: build(pipeline__edit__guidance__interval=(0.0, 1.2)),
        r"guidance\.interval is \(0\.0, 1\.2\): a number from 0 to 1 fits",
    ),
    (
        "guidance that ends before it begins",
        lambda: build(pipeline__edit__guidance__interval=(0.8, 0.2)),
        r"begins to act at the noise level 0\.8 and ends at 0\.2: swap",
    ),
    ("too much noise", lambda: build(pipeline__edit__max_noise=1.5), r"max-noise is 1\.5: a number from 0 to 1 fits"),
    ("negative noise", lambda: build(pipeline__edit__min_noise=-0.1), r"min-noise is -0\.1: a number from 0 to 1 fits"),
    (
        "least noise above most",
        lambda: build(pipeline__edit__min_noise=0.9, pipeline__edit__max_noise=0.5),
        r"least noise of an edit, 0\.9, exceeds the most, 0\.5: swap",
    ),
    ("no denoising", lambda: build(pipeline__edit__denoising_steps=0), "denoising-steps is 0: a whole number from 1"),
    ("half a step", lambda: build(pipeline__edit__denoising_steps=2.5), r"denoising-steps is 2\.5: a whole number"),
    ("empty batch", lambda: build(pipeline__edit__max_batch=0), "max-batch is 0: .* of 1 or more, or None, fits"),
    ("negative seed", lambda: build(pipeline__edit__seed=-1), r"edit\.seed is -1: a whole number from 0"),
    ("no draws", lambda: build(pipeline__edit__delta_mask__draws=0), r"delta-mask\.draws is 0: .* of 1 or more"),
    ("noise of the mask", lambda: build(pipeline__edit__delta_mask__noise_level=1.2), r"noise-level is 1\.2"),
    ("threshold in percent", lambda: build(pipeline__edit__delta_mask__threshold=50.0), r"threshold is 50\.0: .* None"),
    ("shrinking dilation", lambda: build(pipeline__edit__delta_mask__dilation=-1), "dilation is -1: a whole number"),
    ("more than all views", lambda: build(pipeline__edit__delta_mask__least_views=1.5), r"least-views is 1\.5"),
    ("infinite gate", lambda: build(pipeline__edit__delta_mask__gate=math.inf), "gate is inf: a number of 0 or more"),
    ("no steps per edit", lambda: build(pipeline__schedule__steps_per_edit=0), "steps-per-edit is 0"),
    ("no views per edit", lambda: build(pipeline__schedule__views_per_edit=-1), "views-per-edit is -1"),
    ("no edits per picture", lambda: build(pipeline__edits_per_picture=0), "edits-per-picture is 0"),
    ("layer before the first", lambda: build(pipeline__hide_layers=(-1,)), r"hide-layers is \(-1,\)"),
    (
        "a layer hidden and shown",
        lambda: build(pipeline__hide_layers=(1, 2), pipeline__show_layers=(2,)),
        "Layer 2 cannot be in both hide_layers and show_layers",
    ),
    (
        "composite without a field",
        lambda: build(pipeline__model__composite=True),
        "composite True .* there is none with --pipeline.edit.mask per-view: take the mask field, or composite False",
    ),
    # Data and scene.
    (
        "size of zero",
        lambda: build(pipeline__datamanager__image_size=0),
        "image-size is 0: .* from 1 to 16384, or None",
    ),
    ("negative size", lambda: build(pipeline__datamanager__image_size=-64), "image-size is -64"),
    ("no rays", lambda: build(pipeline__datamanager__train_num_rays_per_batch=0), "train-num-rays-per-batch is 0"),
    ("no whole view", lambda: build(pipeline__datamanager__steps_per_view=0), "steps-per-view is 0"),
    ("no patch", lambda: build("in2n", pipeline__datamanager__patch_size=0), "patch-size is 0: a whole number of 1"),
    ("negative LPIPS", lambda: build("in2n", pipeline__model__lpips_loss_mult=-1.0), r"lpips-loss-mult is -1\.0"),
    ("no levels", lambda: build("latent_nerfacto", pipeline__model__num_levels=0), "num-levels is 0"),
    ("no heads", lambda: build(pipeline__model__adapter_heads=0), "adapter-heads is 0: a whole number of 1 or more"),
    ("no width", lambda: build(pipeline__model__adapter_width=0), "adapter-width is 0: a whole number of 1 or more"),
    ("no samples", lambda: build(pipeline__model__num_proposal_samples_per_ray=(0,)), r"samples-per-ray is \(0,\)"),
    (
        "samples for one of two",
        lambda: build(pipeline__model__num_proposal_iterations=2),
        "2 proposal networks and samples for 1 of them: pass a number for each",
    ),
    ("no fit", lambda: build(pipeline__model__relevance__steps=0), r"relevance\.steps is 0: a whole number of 1"),
    ("negative prior", lambda: build(pipeline__model__relevance__prior=-0.1), r"relevance\.prior is -0\.1: a number"),
    (
        "relevance inside out",
        lambda: build(pipeline__model__relevance__base_res=100),
        r"coarsest grid, --pipeline.model.relevance.base-res 100, is finer than the finest.* 64: swap",
    ),
    (
        "scene that ends before it begins",
        lambda: build(pipeline__model__near_plane=5.0, pipeline__model__far_plane=2.0),
        "begins at --pipeline.model.near-plane 5 and ends at --pipeline.model.far-plane 2",
    ),
    (
        "grids beyond all memory",
        lambda: build(pipeline__model__max_res=4096),
        "dense grid of 4096 cells along each side .*take --pipeline.model.encoding hash",
    ),
    # Prompts.
    ("empty prompt", lambda: read(""), "There is nothing to edit by"),
    ("prompt of signs", lambda: read("?!, ..."), "There is nothing to edit by"),
    ("enormous prompt", lambda: read("red " * 300_000), "has 1200000 characters, and 10000 are read at most"),
    ("enormous prompt kept whole", lambda: read("red " * 300_000, splitter="none"), "has 1200000 characters"),
    (
        "one thing over and over",
        lambda: read("make it red; " * 100),
        "asks for 100 things, and each would be a layer of its own: ask for up to 8 at once",
    ),
]


@pytest.mark.parametrize(("provoke", "expected"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_built(provoke, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        provoke()
    assert type(answer.value) is ValueError
    assert "\n" not in str(answer.value)
    assert len(str(answer.value)) < 400


def test_the_table_is_long_and_says_nothing_twice():
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 40


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_within_its_ranges(name):
    require_in_range(METHODS[name])
    require_consistent(METHODS[name].pipeline)


def own_numbers(group: Any, outer: tuple[str, ...] = ()) -> list[str]:
    """Dotted names of the numbers that dataclasses of this package bring into a config."""
    found = []
    for field in (field for field in dataclasses.fields(group) if not field.name.startswith("_")):
        value, names = getattr(group, field.name), (*outer, field.name)
        owners = [owner for owner in type(group).__mro__ if field.name in getattr(owner, "__annotations__", {})]
        if dataclasses.is_dataclass(value):
            found += own_numbers(value, names)
        elif owners[0].__module__.startswith("latenteditor") and re.search(r"\b(int|float)\b", str(field.type)):
            found.append(".".join(names))
    return found


def test_every_number_of_this_package_has_a_range():
    numbers = {name for config in METHODS.values() for name in own_numbers(config)}
    assert {"pipeline.edit.guidance.text", "pipeline.model.relevance.prior", "pipeline.hide_layers"} <= numbers
    assert len(numbers) > 40
    assert numbers - RANGES.keys() == {"pipeline.model.proposal_net_args_list"} & numbers


def test_every_range_is_of_an_option_that_exists():
    def exists(name: str) -> bool:
        return any(
            has_option(config, [group if part == "*" else part for part in name.split(".")])
            for config in METHODS.values()
            for group in config.optimizers
        )

    assert [name for name in RANGES if not exists(name)] == []


@pytest.mark.parametrize(
    ("fitting", "inside", "outside"),
    [
        (Range(0, 1), [0, 0.5, 1, 1.0], [-0.1, 1.1, math.nan, math.inf, None, "1", True]),
        (Range(1, whole=True), [1, 10**12], [0, 1.0, None, math.inf]),
        (Range(0, above=True), [1e-30, 5], [0, 0.0, -1, math.inf, math.nan]),
        (Range(1, whole=True, none=True), [None, 1], [0]),
        (Range(1, whole=True), [(1, 2), []], [(1, 0)]),
    ],
)
def test_a_range_holds_finite_numbers_alone(fitting, inside, outside):
    assert [value for value in inside if not fitting.fits(value)] == []
    assert [value for value in outside if fitting.fits(value)] == []


@pytest.mark.parametrize(
    "prompt", ["把球变成红色", "сделай шар красным", "اجعل الكرة حمراء", "ボールを赤く🔴", "rendre la sphère rouge"]
)
def test_prompts_in_other_scripts_stay_whole(prompt):
    assert read(prompt) == [prompt]


def test_prompts_are_read_up_to_the_limits():
    assert len(read("; ".join(f"make the cone {colour}" for colour in "abcdefgh"))) == MAX_INSTRUCTIONS
    assert len(read("x" * MAX_CHARACTERS, whole=True)) == 1
