"""Recipe files are read; what is no recipe is answered with one line."""

from pathlib import Path

import pytest
import yaml

from latenteditor.recipes.recipe import read_recipe
from latenteditor.recipes.values import fits
from tests.recipes.examples import FILES, RIGHT


def test_there_are_recipes_for_every_scene():
    scenes = {read_recipe(path).scene.name for path in FILES}
    assert scenes >= {"bear", "face", "fangzhou", "person", "farm", "campsite", "flower", "horns", "fox"}


def test_every_source_line_of_a_prompt_is_there():
    for path in FILES:
        lines = path.read_text("utf8").splitlines()
        above = lines[[line.startswith("prompt:") for line in lines].index(True) - 1]
        assert above.startswith(("# From ", "# Ours")), path.name


def test_values_fit_types():
    assert fits(1, float) and fits(1, int) and fits(None, int | None) and fits("x", Path)
    assert fits([1, 2], tuple[int, ...]) and fits([1, 2], tuple[int, int]) and fits([1.5], list[float])
    assert not fits(True, int) and not fits(True, float) and not fits("1", float) and not fits(1.5, int)
    assert not fits([1, 2, 3], tuple[int, int]) and not fits([1], int) and not fits(None, str)


WRONG_FILES = [
    ("unknown key", RIGHT | {"promt": "x"}, r"unknown key 'promt' in the recipe; allowed are scene, prompt, captions"),
    ("unknown key inside", RIGHT | {"captions": {"from": "a"}}, "unknown key 'from' in captions; allowed are source"),
    ("missing key", {"scene": RIGHT["scene"]}, "the recipe lacks 'prompt'"),
    ("missing key inside", RIGHT | {"captions": {"source": "a"}}, "captions lacks 'target'"),
    ("no group", RIGHT | {"scene": "bear"}, "scene is a group of name, source, .*, not 'bear'"),
    ("no settings", RIGHT | {"settings": 6.5}, r"settings of the recipe is a group of options, not 6\.5"),
    ("number for text", RIGHT | {"prompt": 7}, "prompt of the recipe is text, not 7"),
    ("blank prompt", RIGHT | {"prompt": " "}, "prompt of the recipe is empty"),
    ("a path as name", RIGHT | {"scene": RIGHT["scene"] | {"name": "../bear"}}, "cannot be '../bear': use letters"),
    ("a list", [RIGHT], "the recipe is a group of scene"),
    ("nothing", None, "the recipe is a group of scene"),
]


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in WRONG_FILES], ids=[row[0] for row in WRONG_FILES])
def test_a_file_that_is_no_recipe_is_answered_with_one_line(content, expected, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=expected) as answer:
        read_recipe(path)
    assert str(answer.value).startswith(str(path)) and "\n" not in str(answer.value)


def test_broken_files_are_answered_with_one_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, expected in (("scene: {a: 1, a: 2}", "the key 'a' stands twice"), ("scene: [", "while parsing")):
        path.write_text(text)
        with pytest.raises(ValueError, match=expected) as answer:
            read_recipe(path)
        assert "\n" not in str(answer.value)
    with pytest.raises(ValueError, match="There is no recipe"):
        read_recipe(tmp_path / "none.yaml")
