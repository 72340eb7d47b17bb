"""What of a recipe reaches the commands, looked up in the configs of nerfstudio's methods."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_type_hints

from latenteditor.options import Option, flatten, has_option, member, members, words_of
from latenteditor.recipes.recipe import Recipe, Scene
from latenteditor.recipes.values import describe, fits


class Plan(NamedTuple):
    """What of a recipe reaches the commands."""

    method: str
    """The method that edits."""
    settings: list[Option]
    """Its settings, without the prompt and without numbers of steps."""
    iterations: int
    """Its training steps."""
    reconstruction: str
    """The method that reconstructs."""
    reconstruction_settings: list[Option]
    """Its settings: those of the scene, which the edit must share."""
    reconstruction_iterations: int
    """Its training steps."""
    dataparser: list[str]
    """The last words of either command: the dataparser and its options."""
    skipped: list[Option]
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
        "the command chooses it",
    ),
}
"""Options that a recipe does not set, and where they come from."""


def make_plan(recipe: Recipe, method: str | None = None) -> Plan:
    """Looks up a recipe in the configs of nerfstudio's methods, of which importing takes seconds.

    Args:
        recipe: The edit. It has to fit its own method.
        method: The method to edit with instead. Settings that it does not have are skipped.

    Raises:
        ValueError: A method, a dataparser or a setting does not exist, or a value does not fit.
    """
    from nerfstudio.configs.method_configs import all_methods

    settings = flatten(recipe.settings)
    _require_settings(_editing_method(all_methods, recipe.method), settings, recipe.method)
    method = method or recipe.method
    config = _editing_method(all_methods, method)
    known = [setting for setting in settings if has_option(config, setting.names)]
    _require_settings(config, known, method)
    reconstruction = _reconstruction(all_methods, recipe, method)
    base = all_methods[reconstruction]
    values = {setting.names: setting.value for setting in known}
    return Plan(
        method=method,
        settings=[setting for setting in known if setting.names not in (ITERATIONS, RECONSTRUCTION_STEPS)],
        iterations=values.get(ITERATIONS, config.max_num_iterations),
        reconstruction=reconstruction,
        reconstruction_settings=_scene_settings(known, config, base),
        reconstruction_iterations=values.get(RECONSTRUCTION_STEPS, base.max_num_iterations),
        dataparser=_dataparser_words(recipe.scene),
        skipped=[setting for setting in settings if setting not in known],
    )


def require_setting(config: Any, setting: Option, method: str) -> None:
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
        allowed = members(owner)
        if not allowed:
            raise ValueError(
                f"{group} of {method} is one value, not a group that has {name!r}: write {group}: <value>."
            )
        if name not in allowed:
            raise ValueError(
                f"{setting.dotted}: unknown key {name!r}; allowed in {group} of {method} are {', '.join(allowed)}."
            )
        expected = _hint(owner, name)
        owner = member(owner, name)
    if members(owner):
        raise ValueError(
            f"{setting.dotted} of {method} is a group, not one value such as {setting.value!r}: "
            f"set one of {', '.join(members(owner))} in it."
        )
    if not fits(setting.value, expected):
        raise ValueError(f"{setting.dotted} of {method} is {describe(expected)}, not {setting.value!r}.")


def _require_settings(config: Any, settings: Sequence[Option], method: str) -> None:
    """Requires each of some settings."""
    for setting in settings:
        require_setting(config, setting, method)


def _dataparser_words(scene: Scene) -> list[str]:
    """The dataparser and its options on a command line."""
    from nerfstudio.configs.dataparser_configs import all_dataparsers

    parser, settings = scene.dataparser, flatten(scene.dataparser_settings)
    if parser not in all_dataparsers:
        raise ValueError(f"There is no dataparser {parser!r}: choose one of {', '.join(sorted(all_dataparsers))}.")
    _require_settings(all_dataparsers[parser], settings, parser)
    return [parser, *words_of(settings)]


def _hint(config: Any, name: str) -> Any:
    """The annotation of a field, or the type of a dictionary's entry."""
    return type(config[name]) if isinstance(config, dict) else get_type_hints(type(config), include_extras=True)[name]


def _editing_method(methods: Mapping[str, Any], name: str) -> Any:
    """The config of a method that edits."""
    editing = [key for key, config in methods.items() if hasattr(getattr(config, "pipeline", None), "edit")]
    if name not in editing:
        raise ValueError(f"{name!r} is no method that edits: choose one of {', '.join(editing)}.")
    return methods[name]


def _reconstruction(methods: Mapping[str, Any], recipe: Recipe, method: str) -> str:
    """The method whose run is edited: the recipe's, if it edits with its own method, else the one that this names."""
    named = methods[method].pipeline._target.reconstruction
    if recipe.reconstruction is None or method != recipe.method:
        return named
    _require_reconstruction(methods, method, recipe.reconstruction, named)
    return recipe.reconstruction


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


def _scene_settings(settings: Sequence[Option], config: Any, base: Any) -> list[Option]:
    """What the reconstruction shares with the edit, its autoencoder included."""
    shared = [
        setting
        for setting in settings
        if setting.names[0] == "pipeline" and setting.names[1] in SCENE_GROUPS and has_option(base, setting.names)
    ]
    autoencoder = ("pipeline", "autoencoder")
    if any(setting.names == autoencoder for setting in shared) or not hasattr(base.pipeline, "autoencoder"):
        return shared
    if config.pipeline.autoencoder == base.pipeline.autoencoder:
        return shared
    return [*shared, Option(autoencoder, config.pipeline.autoencoder)]
