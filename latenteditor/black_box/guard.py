"""A black box under guard: what it makes is laid over its photograph, or rejected and tried again with another seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.black_box.change import change, match_colours
from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.black_box.registration import Registration, register
from latenteditor.editing.black_box import Calls, NoPicture

SEEDS = 1 << 31
"""Seeds are drawn below this: what every library takes."""


@dataclass(frozen=True)
class Rejected:
    """A result that was not used."""

    seed: int
    """By which it was made."""
    fault: str
    """Why."""
    file: Path | None = None
    """Where it is kept; None where there was no picture."""


@dataclass(frozen=True)
class GuardedEdit:
    """What came of one photograph."""

    picture: Float[Tensor, "3 height width"] | None
    """The edited picture over its photograph, in its light; None where nothing could be used."""
    seen: Bool[Tensor, "1 height width"]
    """Which pixels of it there are."""
    change: Float[Tensor, "1 height width"]
    """By how much each pixel changed, in [0, 1]."""
    registration: Registration | None
    """How it was laid over its photograph."""
    rejected: tuple[Rejected, ...]
    """What was not used, in order."""
    seconds: float
    """That editor and guard took."""


class Guard:
    """Edits photographs by a black box, and lets nothing through that does not lie over its photograph."""

    def __init__(
        self, kept: KeptPictures, attempts: int, seed: int, match: bool = True, neighbours: bool = False
    ) -> None:
        """Asks nothing yet.

        Args:
            kept: The editor, with what it has made.
            attempts: Tries for each photograph.
            seed: All seeds follow from it.
            match: Whether the photograph's light is put back. Not where light is what is edited.
            neighbours: Whether views are edited with others that are finished.
        """
        self._kept, self._attempts, self._seed, self._match = kept, attempts, seed, match
        self.neighbours = neighbours

    def edit(
        self,
        photograph: Float[Tensor, "3 height width"],
        view: int,
        instruction: str,
        references: Sequence[Float[Tensor, "3 _ _"]] = (),
        start: Float[Tensor, "3 height width"] | None = None,
    ) -> GuardedEdit:
        """The first result that can be laid over the photograph.

        Args:
            photograph: In [0, 1].
            view: Its number, from which its seeds follow.
            instruction: What to change.
            references: Finished pictures of other views, nearest first.
            start: What the editor is given in the photograph's place, which lies over it.

        Raises:
            ValueError: The editor will give nothing at all.
        """
        started, rejected = perf_counter(), []
        given = photograph if start is None else start
        for attempt in range(self._attempts):
            seed = self.seed_of(view, attempt)
            try:
                made = self._kept.edit_picture(given, instruction, seed, references)
            except NoPicture as nothing:
                rejected.append(Rejected(seed, str(nothing)))
                continue
            found = self.accept(photograph, made)
            if found.picture is not None:
                return _with(found, rejected, started)
            assert found.registration is not None
            file = self._kept.file(given, instruction, seed, references)
            rejected.append(Rejected(seed, found.registration.fault or "", file))
        return _with(_nothing(photograph), rejected, started)

    def accept(self, photograph: Float[Tensor, "3 height width"], made: Float[Tensor, "3 rows columns"]) -> GuardedEdit:
        """A picture that somebody made of a photograph, laid over it; without a picture where that cannot be."""
        registration = register(photograph, made)
        if registration.fault is not None:
            return _nothing(photograph, registration)
        picture, seen = registration.picture, registration.seen
        if self._match:
            picture = match_colours(picture, photograph, seen)
        return GuardedEdit(picture, seen, change(picture, photograph, seen), registration, (), 0.0)

    def require_calls(self, photographs: Sequence[Float[Tensor, "3 _ _"]], instruction: str, calls: Calls) -> None:
        """Refuses, before the first call, what needs more calls than are allowed.

        Raises:
            ValueError: There are fewer calls left than photographs whose first try is not kept.
        """
        if calls.most is None:
            return
        asked = [
            view
            for view, photograph in enumerate(photographs)
            if not self._kept.file(photograph, instruction, self.seed_of(view, 0)).is_file()
        ]
        # A first try that has neighbours beside it, or in it, is kept by another name.
        needed = max(0, len(asked) - (calls.made if self.neighbours else 0))
        if calls.made + needed > calls.most:
            raise ValueError(
                f"{needed} photographs need a call each, at least, and {calls.most - calls.made} of {calls.most} are "
                "left: raise --black-box.most-calls."
            )

    def seed_of(self, view: int, attempt: int) -> int:
        """The seed of a view's try."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + view) * 101 + attempt)
        return int(torch.randint(SEEDS, (), generator=generator))


def _nothing(photograph: Tensor, registration: Registration | None = None) -> GuardedEdit:
    """A photograph of which nothing came."""
    seen = torch.zeros_like(photograph[:1], dtype=torch.bool)
    return GuardedEdit(None, seen, torch.zeros_like(photograph[:1]), registration, (), 0.0)


def _with(found: GuardedEdit, rejected: Sequence[Rejected], started: float) -> GuardedEdit:
    """The same with what was rejected before it."""
    seconds = perf_counter() - started
    return GuardedEdit(found.picture, found.seen, found.change, found.registration, tuple(rejected), seconds)
