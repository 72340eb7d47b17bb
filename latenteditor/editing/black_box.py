"""Editors that are a black box: a picture and an instruction in, a picture out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


class NoPicture(Exception):
    """An editor gave nothing that can be used, and may do so by another seed."""


@runtime_checkable
class BlackBox(Protocol):
    """Whatever edits a picture by an instruction, and says nothing about how."""

    @property
    def identity(self) -> str:
        """What decides the result beside pictures, instruction and seed: a part of the key of what is kept."""
        ...

    @property
    def most_references(self) -> int:
        """How many finished pictures of other views it looks at beside the one that it edits; 0 for one picture."""
        ...

    def edit_picture(
        self,
        picture: Float[Tensor, "3 height width"],
        instruction: str,
        seed: int,
        references: Sequence[Float[Tensor, "3 _ _"]],
    ) -> Float[Tensor, "3 _ _"]:
        """The whole picture as the instruction has it, in [0, 1] and of any size.

        Raises:
            NoPicture: It gave none this time.
            ValueError: It will give none at all.
        """
        ...


@dataclass
class Calls:
    """How often an editor was asked, and how often it may be."""

    most: int | None = None
    """Calls after which no further one is made; None sets no limit."""
    made: int = 0
    """Calls so far, those that failed among them."""

    def spend(self) -> None:
        """Counts a call before it is made.

        Raises:
            ValueError: There are none left.
        """
        if self.most is not None and self.made >= self.most:
            raise ValueError(
                f"The editor was called {self.made} times, and {self.most} calls are allowed: raise "
                "--black-box.most-calls and run the same command again; what came back is kept."
            )
        self.made += 1


def is_address(model: str) -> bool:
    """Whether a model is reached by http."""
    return re.match(r"https?://", model) is not None


def is_function_name(model: str) -> bool:
    """Whether a model is a function of Python, `package.module:function`."""
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*", model) is not None


def with_references(instruction: str, count: int) -> str:
    """An instruction that says what further pictures are for."""
    if not count:
        return instruction
    others = "second picture shows" if count == 1 else "other pictures show"
    return (
        f"{instruction}. Change the first picture only. The {others} the same scene from elsewhere, where this is done "
        "already: make what changes look the same, and keep everything else, the framing included, as it is."
    )
