"""Data manager and model together, as the scene that the iterative dataset update edits."""

from jaxtyping import Float
from torch import Tensor

from latenteditor.nerf.datamanager import LatentDataManager
from latenteditor.nerf.latent_nerfacto import LatentNerfactoModel


class LatentScene:
    """An ``EditableScene`` over a latent nerfacto in training."""

    def __init__(self, datamanager: LatentDataManager, model: LatentNerfactoModel) -> None:
        """Reads and writes the data manager's training views."""
        self.datamanager = datamanager
        self.model = model

    @property
    def num_views(self) -> int:
        """How many views it trains on."""
        return len(self.datamanager.originals)

    def original(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The latents of the photograph."""
        return self.datamanager.originals[view]

    def target(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The latents the scene is trained towards now."""
        return self.datamanager.targets[view]

    def render(self, view: int) -> Float[Tensor, "channels rows columns"]:
        """The adapted latents the scene shows now from the view's camera."""
        return self.model.render_latents(self.datamanager.camera(view))

    def replace(self, view: int, latents: Float[Tensor, "channels rows columns"]) -> None:
        """Trains on these latents from now on."""
        self.datamanager.replace_view(view, latents)
