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


@dataclass
class Layer:
    """One instruction, and what it made of the views."""

    number: int
    """Which layer it is, counted from 1; a number is never given twice."""
    prompt: str
    """The instruction, for one thing."""
    request: str
    """The whole prompt it is a part of, as the user wrote it."""
    request_number: int
    """Which request, counted from 1: layers of one request are edited together."""
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
        self._last_request = 0

    def add(self, prompts: Sequence[str], request: str) -> list[Layer]:
        """Puts a layer for each of a request's instructions on top."""
        self._last_request += 1
        for prompt in prompts:
            self._last_number += 1
            self.layers.append(Layer(self._last_number, prompt, request, self._last_request))
        return self.latest

    @property
    def latest(self) -> list[Layer]:
        """The layers of the last request that are still there."""
        return [layer for layer in self.layers if layer.request_number == self._last_request]

    @property
    def top(self) -> list[Layer]:
        """The highest layers: those of the last request of which any is still there."""
        return [layer for layer in self.layers if layer.request_number == self.layers[-1].request_number]

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
        self, view: int, original: Float[Tensor, "channels rows columns"], below_request: int | None = None
    ) -> Float[Tensor, "channels rows columns"]:
        """A view as its layers make it: the original, and what each active layer changes, one over the other.

        Args:
            view: Its index.
            original: The unedited view.
            below_request: Leaves out the layers of this request and later ones.
        """
        for layer in self.layers:
            if below_request is None or layer.request_number < below_request:
                original = layer.over(view, original)
        return original

    def listing(self) -> str:
        """The layers in one line."""
        return ", ".join(
            f"layer {layer.number} '{layer.prompt}' ({'on' if layer.active else 'off'})" for layer in self.layers
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything, in plain containers and CPU tensors."""
        return {
            "last_number": self._last_number,
            "last_request": self._last_request,
            "layers": [
                {
                    **vars(layer),
                    "edited": {view: edited.cpu().clone() for view, edited in layer.edited.items()},
                    "masks": {view: mask.cpu().clone() for view, mask in layer.masks.items()},
                }
                for layer in self.layers
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores everything."""
        self._last_number, self._last_request = state["last_number"], state["last_request"]
        self.layers = [Layer(**layer) for layer in state["layers"]]
