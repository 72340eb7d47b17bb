"""Values of YAML files against the types that dataclasses are annotated with."""

from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


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


def describe(expected: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is Annotated:
        return describe(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(map(describe, arguments))
    if origin is Literal:
        return f"one of {', '.join(map(repr, arguments))}"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path as text"}
    return "null" if expected is NoneType else names.get(expected, str(expected))
