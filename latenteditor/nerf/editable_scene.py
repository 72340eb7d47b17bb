"""Data manager and model together, as the scene that an edit changes and shows."""

from typing import Any

from jaxtyping import Bool, Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.nerfacto import NerfactoModel
from torch import Tensor

from latenteditor.nerf.editable_views import EditableDataManager

SceneView = Float[Tensor, "channels rows columns"]
"""A view in what the scene is made of: latents, or an image in [0, 1]."""


class TrainingScene:
    """An ``EditableScene`` over the views a model trains on; how it renders them is each method's own."""

    def __init__(self, datamanager: EditableDataManager, model: NerfactoModel) -> None:
        """Reads and writes the data manager's views; nothing is loaded or rendered before it is asked for."""
        self.datamanager: Any = datamanager
        self.model: Any = model

    @property
    def num_views(self) -> int:
        """How many views it trains on."""
        return len(self.datamanager.originals)

    @property
    def image_size(self) -> int:
        """Pixels along the long side of its views."""
        raise NotImplementedError

    def original(self, view: int) -> SceneView:
        """The photograph, or its latents."""
        return self.datamanager.originals[view]

    def render(self, view: int) -> SceneView:
        """What the scene shows now from the view's camera."""
        raise NotImplementedError

    def replace(self, view: int, target: SceneView) -> None:
        """Trains the view towards this from now on."""
        self.datamanager.replace_view(view, target)

    def keep_out(self, view: int, cells: Bool[Tensor, "1 rows columns"] | None) -> None:
        """Trains on none of these latent cells of the view from now on; None trains on all of it."""
        self.datamanager.keep_out(view, cells)

    def views_from(
        self, camera: Cameras
    ) -> tuple[Float[Tensor, "1 channels rows columns"], Float[Tensor, "1 channels rows columns"]]:
        """The scene before any edit, and as it is now, from a camera in pixels; the same twice where it keeps one."""
        raise NotImplementedError

    def images(self, views: Float[Tensor, "views channels rows columns"]) -> Float[Tensor, "views 3 height width"]:
        """The images in [0, 1] that its views stand for."""
        raise NotImplementedError

    def keep_original(self) -> None:
        """Keeps the unedited scene beside the edited one, where a method can show both."""

    def freeze_cameras(self) -> None:
        """Cameras do not train on edited views, which do not agree with each other yet."""
        self.model.camera_optimizer.requires_grad_(False)
