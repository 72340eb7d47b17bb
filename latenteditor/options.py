"""Options of nested configs, by dotted names and as words of a command line.

A config is a dataclass, and so are the groups of options in it; a dictionary is a group too, as nerfstudio's
optimizers are.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Option(NamedTuple):
    """One option, and what it is set to."""

    names: tuple[str, ...]
    """The way to it through the config, outermost first."""
    value: Any

    @property
    def dotted(self) -> str:
        """Its name as errors and messages write it."""
        return ".".join(self.names)

    @property
    def words(self) -> list[str]:
        """It on a command line of nerfstudio, where booleans are written out."""
        many = isinstance(self.value, list | tuple)
        return ["--" + self.dotted.replace("_", "-"), *map(str, self.value if many else [self.value])]


def members(group: Any) -> list[str]:
    """Names of what a group of options holds; none where it is no group."""
    if dataclasses.is_dataclass(group):
        return [field.name for field in dataclasses.fields(group) if not field.name.startswith("_")]
    return [str(key) for key in group] if isinstance(group, dict) else []


def member(group: Any, name: str) -> Any:
    """What a group holds under a name."""
    return group[name] if isinstance(group, dict) else getattr(group, name)


def all_options(config: Any, outer: Sequence[str] = ()) -> list[Option]:
    """Every option of a config as it is set, in the order of its fields."""
    if not members(config):
        return [Option(tuple(outer), config)]
    return [option for name in members(config) for option in all_options(member(config, name), (*outer, name))]


def flatten(settings: Mapping[str, Any], outer: tuple[str, ...] = ()) -> list[Option]:
    """The single options of nested mappings, as files hold them, in their order."""
    found = []
    for name, value in settings.items():
        names = (*outer, str(name))
        found.extend(flatten(value, names) if isinstance(value, Mapping) else [Option(names, value)])
    return found


def words_of(options: Sequence[Option]) -> list[str]:
    """Options on a command line."""
    return [word for option in options for word in option.words]


def has_option(config: Any, names: Sequence[str]) -> bool:
    """Whether a config has a single option of this name."""
    for name in names:
        if name not in members(config):
            return False
        config = member(config, name)
    return not members(config)


def set_options(config: Any, values: Mapping[str, Any]) -> None:
    """Sets options, or whole groups, by their dotted names.

    Raises:
        ValueError: The config has no such option; the error names those that the group has.
    """
    for dotted, value in values.items():
        *owners, last = dotted.split(".")
        group = config
        for depth, name in enumerate([*owners, last]):
            if name not in members(group):
                place = ".".join(owners[:depth]) or type(config).__name__
                raise ValueError(
                    f"There is no option {dotted!r}: {place} has {', '.join(members(group)) or 'no options'}."
                )
            if depth < len(owners):
                group = member(group, name)
        if isinstance(group, dict):
            group[last] = value
        else:
            setattr(group, last, value)


def differences(config: Any, other: Any) -> list[str]:
    """Dotted names of the options in which two configs of one type differ."""
    found = {option.names: option.value for option in all_options(other)}
    return [option.dotted for option in all_options(config) if found.get(option.names, ...) != option.value]
