from dataclasses import dataclass, field
from typing import Any

import pytest

from latenteditor.options import Option, all_options, differences, flatten, has_option, set_options, words_of


@dataclass
class Inner:
    share: float = 0.5
    levels: tuple[int, ...] = (1, 2)
    _target: type = int


@dataclass
class Outer:
    name: str = "a name"
    inner: Inner = field(default_factory=Inner)
    groups: dict[str, Any] = field(default_factory=lambda: {"fields": Inner()})


def test_all_options_are_found_in_groups_and_dictionaries():
    names = [option.dotted for option in all_options(Outer())]
    assert names == ["name", "inner.share", "inner.levels", "groups.fields.share", "groups.fields.levels"]


def test_setting_every_option_to_those_of_another_config_makes_the_configs_equal():
    config, other = Outer(), Outer("other", Inner(0.7, (3,)), {"fields": Inner(0.1, ())})
    assert differences(config, other) == [option.dotted for option in all_options(other)]
    set_options(config, {option.dotted: option.value for option in all_options(other)})
    assert config == other and not differences(config, other)


def test_a_whole_group_is_set_at_once():
    config = Outer()
    set_options(config, {"inner": Inner(0.9), "groups.fields": Inner(0.8)})
    assert config.inner.share == 0.9 and config.groups["fields"].share == 0.8


@pytest.mark.parametrize("name", ["nothing", "inner.nothing", "name.nothing", "groups.nothing.share", "inner._target"])
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(name):
    with pytest.raises(ValueError, match=rf"no option '{name}': .* has "):
        set_options(Outer(), {name: 1})


def test_words_are_those_of_a_command_line():
    options = [Option(("inner", "some_levels"), (1, 2)), Option(("on",), False), Option(("none",), None)]
    assert words_of(options) == ["--inner.some-levels", "1", "2", "--on", "False", "--none", "None"]
    assert Option(("a_b", "c_d"), [1, 2]).words == ["--a-b.c-d", "1", "2"]
    assert Option(("pipeline", "edit", "min_noise"), 0.5).words == ["--pipeline.edit.min-noise", "0.5"]


def test_files_hold_options_in_groups():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == [
        Option(("a", "b"), 1),
        Option(("a", "c", "d"), [2]),
        Option(("e",), None),
    ]


def test_a_group_is_no_option():
    assert has_option(Outer(), ("inner", "share")) and not has_option(Outer(), ("inner",))
    assert has_option(Outer(), ("groups", "fields", "levels")) and not has_option(Outer(), ("inner", "x"))
