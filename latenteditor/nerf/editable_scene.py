"""Data manager and model together, as the scene that the iterative dataset update edits."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from latenteditor.nerf.datamanager import EditableDataManager


class TrainingScene:
    """An ``EditableScene`` over a data manager's training views and whatever renders them."""

    def __init__(self, datamanager: EditableDataManager, render: Callable[[int], Tensor]) -> None:
        """Reads and writes the data manager's views; `render` shows one of them, of the shape of its original."""
        self.datamanager = datamanager
        self._render = render

    @property
    def num_views(self) -> int:
        """How many views it trains on."""
        return len(self.datamanager.originals)

    def original(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The photograph, or its latents."""
        return self.datamanager.originals[view]

    def render(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """What the scene shows now from the view's camera."""
        return self._render(view)

    def replace(self, view: int, target: Float[Tensor, "channels rows columns"]) -> None:
        """Trains the view towards this from now on."""
        self.datamanager.replace_view(view, target)
