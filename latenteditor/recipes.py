"""Recipes of reproducible edits: a scene, a prompt, and the settings that differ from a method's defaults.

A recipe is a YAML file of ``configs/``. Its settings mirror the config of the method that edits, and every one of
them is looked up in that config before anything runs: what is misspelt, left over or of the wrong type is refused.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

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


class Setting(NamedTuple):
    """One option of a config."""

    names: tuple[str, ...]
    """The way to it through the config, outermost first."""
    value: Any
    """What it is set to."""

    @property
    def dotted(self) -> str:
        """Its name as errors and messages write it."""
        return ".".join(self.names)

    @property
    def words(self) -> list[str]:
        """It on the command line."""
        values = self.value if isinstance(self.value, list) else [self.value]
        return ["--" + self.dotted.replace("_", "-"), *map(str, values)]


class Plan(NamedTuple):
    """What of a recipe reaches the commands."""

    method: str
    """The method that edits."""
    settings: list[Setting]
    """Its settings, without the prompt and without numbers of steps."""
    iterations: int
    """Its training steps."""
    reconstruction: str
    """The method that reconstructs."""
    reconstruction_settings: list[Setting]
    """Its settings: those of the scene, which the edit must share."""
    reconstruction_iterations: int
    """Its training steps."""
    dataparser: list[str]
    """The last words of either command: the dataparser and its options."""
    skipped: list[Setting]
    """Settings of the recipe that the method, which is not the recipe's, does not have."""


SCENE_GROUPS = ("datamanager", "model", "autoencoder")
"""Parts of a pipeline that describe the scene: what a recipe sets there goes for its reconstruction too."""

ITERATIONS = ("max_num_iterations",)
"""Training steps of the edit."""
RECONSTRUCTION_STEPS = ("pipeline", "reconstruction_steps")
"""Training steps of the reconstruction, which is a run of its own here: the edit, which loads it, is not told."""

ELSEWHERE = {
    "pipeline.edit.prompt": "it is the recipe's own `prompt`",
    "pipeline.datamanager.dataparser": "it is the scene's `dataparser`",
    "pipeline.datamanager.data": "it is --data",
    "data": "it is --data",
    "output_dir": "it is --output-dir",
    "machine.device_type": "it is --device",
    **dict.fromkeys(
        ("method_name", "experiment_name", "timestamp", "vis", "load_dir", "load_step", "load_config"),
        "the script chooses it",
    ),
}
"""Options that a recipe does not set, and where they come from."""


class _Loader(yaml.SafeLoader):
    """Reads YAML, and refuses a key that stands twice, where PyYAML would forget the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [key for index, key in enumerate(keys) if key in keys[:index]]
        if twice:
            raise ValueError(f"the key {twice[0]!r} stands twice in one group, line {node.start_mark.line + 1}: merge.")
        return super().construct_mapping(node, deep)


def read_recipe(path: Path) -> Recipe:
    """Reads a recipe; its settings are checked by `make_plan`, which knows the methods.

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


def make_plan(recipe: Recipe, method: str | None = None) -> Plan:
    """Looks up a recipe in the configs of nerfstudio's methods, of which importing takes seconds.

    Args:
        recipe: The edit. It has to fit its own method.
        method: The method to edit with instead. Settings that it does not have are skipped.

    Raises:
        ValueError: A method, a dataparser or a setting does not exist, or a value does not fit.
    """
    from nerfstudio.configs.dataparser_configs import all_dataparsers
    from nerfstudio.configs.method_configs import all_methods

    settings = flatten(recipe.settings)
    own = _editing_method(all_methods, recipe.method)
    for setting in settings:
        require_setting(own, setting, recipe.method)
    method = method or recipe.method
    config = _editing_method(all_methods, method)
    known = [setting for setting in settings if has_setting(config, setting)]
    for setting in known:
        require_setting(config, setting, method)

    reconstruction = config.pipeline._target.reconstruction
    if recipe.reconstruction is not None and method == recipe.method:
        _require_reconstruction(all_methods, method, recipe.reconstruction, reconstruction)
        reconstruction = recipe.reconstruction
    base = all_methods[reconstruction]

    parser = recipe.scene.dataparser
    if parser not in all_dataparsers:
        raise ValueError(f"There is no dataparser {parser!r}: choose one of {', '.join(sorted(all_dataparsers))}.")
    parser_settings = flatten(recipe.scene.dataparser_settings)
    for setting in parser_settings:
        require_setting(all_dataparsers[parser], setting, parser)

    values = {setting.names: setting.value for setting in known}
    return Plan(
        method=method,
        settings=[setting for setting in known if setting.names not in (ITERATIONS, RECONSTRUCTION_STEPS)],
        iterations=values.get(ITERATIONS, config.max_num_iterations),
        reconstruction=reconstruction,
        reconstruction_settings=_scene_settings(known, config, base),
        reconstruction_iterations=values.get(RECONSTRUCTION_STEPS, base.max_num_iterations),
        dataparser=[parser, *words_of(parser_settings)],
        skipped=[setting for setting in settings if setting not in known],
    )


def flatten(settings: Mapping[str, Any], outer: tuple[str, ...] = ()) -> list[Setting]:
    """The single settings of nested groups, in the order of the file."""
    found = []
    for name, value in settings.items():
        names = (*outer, str(name))
        found.extend(flatten(value, names) if isinstance(value, Mapping) else [Setting(names, value)])
    return found


def words_of(settings: Sequence[Setting]) -> list[str]:
    """Settings on a command line."""
    return [word for setting in settings for word in setting.words]


def has_setting(config: Any, setting: Setting) -> bool:
    """Whether a config has an option of this name."""
    for name in setting.names:
        if name not in _members(config):
            return False
        config = _member(config, name)
    return not _members(config)


def require_setting(config: Any, setting: Setting, method: str) -> None:
    """Walks to a setting through a method's config.

    Raises:
        ValueError: There is no such option, it does not belong into a recipe, or its value does not fit.
    """
    owner, expected = config, None
    for depth, name in enumerate(setting.names):
        way = ".".join(setting.names[: depth + 1])
        if way in ELSEWHERE:
            raise ValueError(f"{way} is no setting of a recipe: {ELSEWHERE[way]}.")
        group = ".".join(setting.names[:depth]) or "settings"
        allowed = _members(owner)
        if not allowed:
            raise ValueError(
                f"{group} of {method} is one value, not a group that has {name!r}: write {group}: <value>."
            )
        if name not in allowed:
            raise ValueError(
                f"{setting.dotted}: unknown key {name!r}; allowed in {group} of {method} are {', '.join(allowed)}."
            )
        expected = _hint(owner, name)
        owner = _member(owner, name)
    if _members(owner):
        raise ValueError(
            f"{setting.dotted} of {method} is a group, not one value such as {setting.value!r}: "
            f"set one of {', '.join(_members(owner))} in it."
        )
    if not fits(setting.value, expected):
        raise ValueError(f"{setting.dotted} of {method} is {_described(expected)}, not {setting.value!r}.")


def fits(value: Any, expected: Any) -> bool:
    """Whether a value of a YAML file is of the type that a field is annotated with."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return fits(value, arguments[0])
    if origin in (Union, UnionType):
        return any(fits(value, option) for option in arguments)
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in arguments)
    if isinstance(value, list):
        return origin in (list, tuple) and _items_fit(value, origin, arguments)
    if expected in (None, NoneType):
        return value is None
    if expected is float:
        return type(value) in (int, float)
    return type(value) is (str if expected is Path else expected)


def _items_fit(values: list[Any], origin: type, arguments: tuple[Any, ...]) -> bool:
    """Whether each item fits its place in a list, a tuple of fixed length or one of any length."""
    if origin is tuple and Ellipsis not in arguments:
        return len(values) == len(arguments) and all(map(fits, values, arguments))
    return all(fits(value, arguments[0]) for value in values)


def _described(expected: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return _described(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(_described, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path as text"}
    return "null" if expected is NoneType else names.get(expected, str(expected))


def _members(config: Any) -> list[str]:
    """Names of what a group of options holds; none where it is no group."""
    if dataclasses.is_dataclass(config):
        return [one.name for one in dataclasses.fields(config) if not one.name.startswith("_")]
    return [str(key) for key in config] if isinstance(config, dict) else []


def _member(config: Any, name: str) -> Any:
    return config[name] if isinstance(config, dict) else getattr(config, name)


def _hint(config: Any, name: str) -> Any:
    """The annotation of a field, or the type of a dictionary's entry."""
    return type(config[name]) if isinstance(config, dict) else get_type_hints(type(config), include_extras=True)[name]


def _editing_method(methods: Mapping[str, Any], name: str) -> Any:
    """The config of a method that edits."""
    editing = [key for key, config in methods.items() if hasattr(getattr(config, "pipeline", None), "edit")]
    if name not in editing:
        raise ValueError(f"{name!r} is no method that edits: choose one of {', '.join(editing)}.")
    return methods[name]


def _require_reconstruction(methods: Mapping[str, Any], method: str, name: str, named: str) -> None:
    """Refuses a reconstruction whose runs the editing method cannot load."""
    kind = methods[named].pipeline.model._target
    fitting = [
        key
        for key, config in methods.items()
        if hasattr(config, "pipeline")
        and config.pipeline.model._target is kind
        and not hasattr(config.pipeline, "edit")
    ]
    if name not in fitting:
        raise ValueError(f"{method} edits no run of {name!r}: choose one of {', '.join(fitting)} as reconstruction.")


def _scene_settings(settings: Sequence[Setting], config: Any, base: Any) -> list[Setting]:
    """What the reconstruction shares with the edit, its autoencoder included."""
    shared = [
        setting
        for setting in settings
        if setting.names[0] == "pipeline" and setting.names[1] in SCENE_GROUPS and has_setting(base, setting)
    ]
    autoencoder = ("pipeline", "autoencoder")
    if any(setting.names == autoencoder for setting in shared) or not hasattr(base.pipeline, "autoencoder"):
        return shared
    if config.pipeline.autoencoder == base.pipeline.autoencoder:
        return shared
    return [*shared, Setting(autoencoder, config.pipeline.autoencoder)]


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
        raise ValueError(f"{name} of {where} is {_described(expected)}, not {value!r}.")
    elif isinstance(value, str) and not value.strip():
        raise ValueError(f"{name} of {where} is empty: write it, or leave the key out where it may be absent.")
    return value
