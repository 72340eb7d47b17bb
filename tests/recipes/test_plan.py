"""Recipes against the configs of methods: each of configs/ fits, and what does not fit is refused."""

import pytest

from latenteditor.options import Option, flatten
from latenteditor.recipes.plan import make_plan
from latenteditor.recipes.recipe import Scene, read_recipe
from tests.recipes.examples import FILES, recipe


@pytest.fixture(scope="module")
def methods():
    from nerfstudio.configs.method_configs import all_methods

    return all_methods


def value_of(config, names):
    for name in names:
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_fits_its_method_and_sets_only_what_differs(path, methods):
    read = read_recipe(path)
    plan = make_plan(read)
    assert plan.skipped == []
    assert plan.settings == flatten(read.settings)
    for setting in plan.settings:
        assert value_of(methods[plan.method], setting.names) != setting.value, setting.dotted
    assert path.stem.startswith(read.scene.name)
    assert read.scene.source.startswith("https://")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", ["in2n", "latenteditor-tiny"])
def test_every_recipe_goes_with_another_method_but_for_what_that_does_not_have(path, method, methods):
    read = read_recipe(path)
    plan = make_plan(read, method)
    assert plan.method == method
    assert sorted([*plan.settings, *plan.skipped]) == sorted(flatten(read.settings))
    assert plan.reconstruction == ("nerfacto" if method == "in2n" else "latent-nerfacto")
    for setting in plan.skipped:
        with pytest.raises(AttributeError):
            value_of(methods[method], setting.names)


def test_the_reconstruction_shares_the_scene_and_the_autoencoder_of_the_edit():
    settings = {"pipeline": {"model": {"near_plane": 0.3}, "edit": {"guidance": {"text": 6.5}}}}
    plan = make_plan(recipe(settings=settings), "latenteditor-tiny")
    assert plan.reconstruction_settings == [
        Option(("pipeline", "model", "near_plane"), 0.3),
        Option(("pipeline", "autoencoder"), "madebyollin/taesd"),
    ]
    assert make_plan(recipe(settings=settings)).reconstruction_settings == plan.reconstruction_settings[:1]
    chosen = {"pipeline": {"autoencoder": "somewhere"}}
    shared = make_plan(recipe(settings=chosen), "latenteditor-tiny").reconstruction_settings
    assert shared == [Option(("pipeline", "autoencoder"), "somewhere")]


def test_steps_are_the_methods_own_unless_the_recipe_sets_them(methods):
    plan = make_plan(recipe())
    assert plan.iterations == methods["latenteditor"].max_num_iterations
    assert plan.reconstruction_iterations == methods["latent-nerfacto"].max_num_iterations
    settings = {"max_num_iterations": 11, "pipeline": {"reconstruction_steps": 7}}
    plan = make_plan(recipe(settings=settings))
    assert (plan.iterations, plan.reconstruction_iterations) == (11, 7)
    assert plan.settings == []


def edit(**group) -> dict:
    return {"pipeline": {"edit": group}}


WRONG_PLANS = [
    ("misspelt", {"settings": edit(guidanc={"text": 1.0})}, "'guidanc'; allowed in pipeline.edit of .*guidance"),
    ("left over", {"settings": {"pipelin": 1}}, "'pipelin'; allowed in settings of .*pipeline"),
    ("too deep", {"settings": edit(min_noise={"low": 0.1})}, r"pipeline\.edit\.min_noise of latenteditor is one value"),
    ("too shallow", {"settings": edit(guidance=6.5)}, r"is a group, not .* 6\.5: set one of text, image"),
    ("text for a number", {"settings": edit(min_noise="1e-1")}, r"min_noise of latenteditor is a number, not '1e-1'"),
    ("a fraction of a step", {"settings": {"max_num_iterations": 1.5}}, "is a whole number, not 1.5"),
    ("unknown choice", {"settings": edit(mask="round")}, "mask of latenteditor is one of 'per-view', .*not 'round'"),
    ("prompt as a setting", {"settings": edit(prompt="x")}, "is no setting of .*: it is the recipe's own `prompt`"),
    ("data as a setting", {"settings": {"data": "x"}}, "data is no setting of a recipe: it is --data"),
    ("private", {"settings": {"_target": "x"}}, "unknown key '_target'"),
    ("unknown method", {"method": "latent-editor"}, "'latent-editor' is no method that edits: .*latenteditor"),
    ("reconstruction as method", {"method": "nerfacto"}, "'nerfacto' is no method that edits: choose one of"),
    ("alien reconstruction", {"reconstruction": "nerfacto"}, "no run of 'nerfacto': choose one of latent-nerfacto"),
    ("unknown parser", {"scene": Scene("a", "b", "c", dataparser="llff")}, "no dataparser 'llff': .*colmap"),
    (
        "unknown option of a parser",
        {"scene": Scene("a", "b", "c", dataparser="colmap", dataparser_settings={"colmap": "x"})},
        "unknown key 'colmap'; allowed in settings of colmap are .*colmap_path",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in WRONG_PLANS], ids=[row[0] for row in WRONG_PLANS])
def test_a_recipe_that_does_not_fit_is_answered_with_one_line(changes, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        make_plan(recipe(**changes))
    assert "\n" not in str(answer.value)


def test_a_setting_that_not_even_the_recipes_own_method_has_is_refused_for_every_method():
    with pytest.raises(ValueError, match="unknown key 'lpips_loss_mult'"):
        make_plan(recipe(settings={"pipeline": {"model": {"lpips_loss_mult": 0.5}}}), "in2n")
