"""Recipes to look at: those of configs/, and a small one."""

from pathlib import Path

from latenteditor.recipes.recipe import Captions, Recipe, Scene

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
RIGHT = {
    "scene": {"name": "bear", "source": "https://example.org", "download": "unpack it"},
    "prompt": "make it red",
    "captions": {"source": "a bear", "target": "a red bear"},
}
"""A recipe as a file holds it."""


def recipe(**changes) -> Recipe:
    scene = Scene("bear", "https://example.org/bear", "unpack it")
    return Recipe(**{"scene": scene, "prompt": "make it red", "captions": Captions("a", "a red"), **changes})
