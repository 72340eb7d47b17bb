"""Edits as layers: what each instruction made of each view, laid over the unedited views.

What a scene is trained towards always follows from the originals and the layers that are switched on, so that a layer
can be switched off, or taken away, and the scene goes back to what it was there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import blend

# Checkpoints are older than these names: on disk an instruction is a prompt, and a prompt a request.
SAVED_AS = {"instruction": "prompt", "prompt": "request", "prompt_number": "request_number"}


@dataclass
class Layer:
    """One instruction, and what it made of the views."""

    number: int
    """Which layer it is, counted from 1; a number is never given twice."""
    instruction: str
    """What it stands for: one thing to change."""
    prompt: str
    """The whole prompt that the instruction is a part of, as somebody typed it."""
    prompt_number: int
    """Which prompt, counted from 1: layers of one prompt are edited together."""
    active: bool = True
    """Whether it is switched on."""
    edited: dict[int, Float[Tensor, "channels rows columns"]] = field(default_factory=dict)
    """The edited views, by index."""
    masks: dict[int, Bool[Tensor, "1 rows columns"]] = field(default_factory=dict)
    """Where each edited view was allowed to change."""

    def over(self, view: int, below: Float[Tensor, "channels rows columns"]) -> Float[Tensor, "channels rows columns"]:
        """M edited + (1 - M) below, or what is below where the layer is off or has not edited the view.

        Raises:
            ValueError: The view was edited at another size.
        """
        if not self.active or view not in self.edited:
            return below
        if self.edited[view].shape != below.shape:
            raise ValueError(
                f"View {view} was edited at the shape {tuple(self.edited[view].shape)} and has the shape "
                f"{tuple(below.shape)} now: load the run with the image size it was edited at."
            )
        return blend(self.masks[view].to(below.device), self.edited[view].to(below), below)


class LayerStack:
    """The layers of a scene from the lowest to the highest; where masks overlap, the later layer shows."""

    def __init__(self) -> None:
        """Starts without a layer."""
        self.layers: list[Layer] = []
        self._last_number = 0
        self._last_prompt_number = 0

    def add(self, instructions: Sequence[str], prompt: str) -> list[Layer]:
        """Puts a layer for each of a prompt's instructions on top."""
        self._last_prompt_number += 1
        for instruction in instructions:
            self._last_number += 1
            self.layers.append(Layer(self._last_number, instruction, prompt, self._last_prompt_number))
        return self.latest

    def take_back(self) -> None:
        """Undoes the last `add`, which no view was edited by, so that the prompt before it is the latest again."""
        taken = self.latest
        self.layers = [layer for layer in self.layers if layer not in taken]
        self._last_number, self._last_prompt_number = taken[0].number - 1, self._last_prompt_number - 1

    @property
    def latest(self) -> list[Layer]:
        """The layers of the last prompt that are still there."""
        return [layer for layer in self.layers if layer.prompt_number == self._last_prompt_number]

    @property
    def top(self) -> list[Layer]:
        """The highest layers: those of the last prompt of which any is still there."""
        return [layer for layer in self.layers if layer.prompt_number == self.layers[-1].prompt_number]

    @property
    def active(self) -> list[Layer]:
        """The layers that are switched on."""
        return [layer for layer in self.layers if layer.active]

    def numbered(self, number: int) -> Layer:
        """The layer with a number.

        Raises:
            ValueError: There is none.
        """
        for layer in self.layers:
            if layer.number == number:
                return layer
        raise ValueError(f"There is no layer {number}: {self.listing() or 'the scene has none'}.")

    def remove(self, number: int) -> Layer:
        """Takes a layer away for good.

        Raises:
            ValueError: There is none with this number.
        """
        layer = self.numbered(number)
        self.layers.remove(layer)
        return layer

    def compose(
        self, view: int, original: Float[Tensor, "channels rows columns"], below_prompt: int | None = None
    ) -> Float[Tensor, "channels rows columns"]:
        """A view as its layers make it: the original, and what each active layer changes, one over the other.

        Args:
            view: Its index.
            original: The unedited view.
            below_prompt: Leaves out the layers of this prompt and later ones.
        """
        composed = original
        for layer in self.layers:
            if below_prompt is None or layer.prompt_number < below_prompt:
                composed = layer.over(view, composed)
        return composed

    def listing(self) -> str:
        """The layers in one line."""
        return ", ".join(
            f"layer {layer.number} '{layer.instruction}' ({'on' if layer.active else 'off'})" for layer in self.layers
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything, in plain containers and CPU tensors."""
        return {
            "last_number": self._last_number,
            "last_request": self._last_prompt_number,
            "layers": [
                {
                    **{SAVED_AS.get(name, name): value for name, value in vars(layer).items()},
                    "edited": {view: edited.cpu().clone() for view, edited in layer.edited.items()},
                    "masks": {view: mask.cpu().clone() for view, mask in layer.masks.items()},
                }
                for layer in self.layers
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores everything."""
        self._last_number, self._last_prompt_number = state["last_number"], state["last_request"]
        self.layers = [_read_layer(layer) for layer in state["layers"]]


def _read_layer(saved: dict[str, Any]) -> Layer:
    """A layer as a checkpoint holds it."""
    names = {on_disk: name for name, on_disk in SAVED_AS.items()}
    content: dict[str, Any] = {names.get(key, key): value for key, value in saved.items()}
    return Layer(**content)
