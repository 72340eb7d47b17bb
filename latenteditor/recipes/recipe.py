"""Recipes of reproducible edits: a scene, a prompt, and the settings that differ from a method's defaults.

A recipe is a YAML file of ``configs/``. Its settings mirror the config of the method that edits, and every one of
them is looked up in that config before anything runs: what is misspelt, left over or of the wrong type is refused.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_origin, get_type_hints

import yaml

from latenteditor.recipes.values import describe, fits

T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """A published capture."""

    name: str
    """Its short name, under which its runs are kept: letters, digits, dots, dashes and underscores."""
    source: str
    """Address that it comes from."""
    download: str
    """How to get from that address to the folder that --data names."""
    licence: str = "none found"
    """What is known of its licence."""
    dataparser: str = "nerfstudio-data"
    """Nerfstudio's dataparser that reads it, as on the command line of ns-train."""
    dataparser_settings: dict[str, Any] = field(default_factory=dict)
    """Options of the dataparser that differ from its defaults."""


@dataclass(frozen=True)
class Captions:
    """What CLIP compares: the direction from one caption to the other, and the edit's direction between images."""

    source: str
    """Describes the scene before the edit."""
    target: str
    """Describes the scene after the edit."""


@dataclass(frozen=True)
class Recipe:
    """One edit of one scene."""

    scene: Scene
    """What is edited."""
    prompt: str
    """The instruction."""
    captions: Captions
    """Descriptions of the scene before and after."""
    method: str = "latenteditor"
    """The registered method that edits."""
    reconstruction: str | None = None
    """The registered method whose run is edited; absent, the one that the editing method names."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Where the method's config takes other values than its defaults, nested as that config is."""


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that stands twice, where PyYAML would forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            raise ValueError(f"the key {twice[0]!r} stands twice in one group, line {node.start_mark.line + 1}: merge.")
        return super().construct_mapping(node, deep)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe; its settings are checked by `plan.make_plan`, which knows the methods.

    Raises:
        ValueError: There is no such file, or it does not hold a recipe.
    """
    if not path.is_file():
        raise ValueError(f"There is no recipe {path}: pass a YAML file, such as those of configs/.")
    try:
        recipe = _build(Recipe, yaml.load(path.read_text("utf8"), Loader=_Loader), "the recipe")
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None
    if not re.fullmatch(r"\w[\w.-]*", recipe.scene.name):
        raise ValueError(
            f"{path}: the scene's name becomes a folder and cannot be {recipe.scene.name!r}: "
            "use letters, digits, dots, dashes and underscores."
        )
    return recipe


def _build(kind: type[T], content: Any, where: str) -> T:
    """A dataclass from a mapping that has its keys and no others."""
    fields = {one.name: one for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    allowed = ", ".join(fields)
    if not isinstance(content, dict):
        raise ValueError(f"{where} is a group of {allowed}, not {content!r}.")
    for key in content:
        if key not in fields:
            raise ValueError(f"unknown key {key!r} in {where}; allowed are {allowed}.")
    hints, values = get_type_hints(kind), {}
    for name, one in fields.items():
        if name in content:
            values[name] = _value(content[name], hints[name], name, where)
        elif one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING:
            raise ValueError(f"{where} lacks {name!r}; its keys are {allowed}.")
    return kind(**values)


def _value(value: Any, expected: Any, name: str, where: str) -> Any:
    """One field's value, built or checked."""
    if dataclasses.is_dataclass(expected):
        return _build(expected, value, name)  # type: ignore[arg-type]
    if get_origin(expected) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{name} of {where} is a group of options, not {value!r}.")
    elif not fits(value, expected):
        raise ValueError(f"{name} of {where} is {describe(expected)}, not {value!r}.")
    elif isinstance(value, str) and not value.strip():
        raise ValueError(f"{name} of {where} is empty: write it, or leave the key out where it may be absent.")
    return value
