"""The training views as an edit sees them: what each of them was, and what the scene is trained towards.

Views are numbered as in the dataset, and may differ in size. The datasets stay what the host expects, photographs at
full resolution; beside them an editable data manager keeps, for each training view, its original and its target, which
an edit may replace: latents in ``datamanager``, images in ``image_datamanager``.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from latenteditor.nerf.photographs import ResizedPhotographs


class EditableViews:
    """Latents or images of some views: what they were, and what the scene is trained towards."""

    def __init__(self, originals: Sequence[Float[Tensor, "channels _ _"]], kind: str = "latents") -> None:
        """Starts with every target at its original; `kind` is what error messages call them."""
        self.originals = list(originals)
        self.kind = kind
        self.replaced: dict[int, Float[Tensor, "channels rows columns"]] = {}
        # All cells of all views, one after the other, whatever the size of a view: rays pick their targets
        # from here.
        self._cells = torch.cat([original.flatten(start_dim=1).T for original in self.originals])
        self._columns = torch.tensor([original.shape[2] for original in self.originals])
        num_cells = torch.tensor([original.shape[1] * original.shape[2] for original in self.originals])
        self._first_cell = num_cells.cumsum(0) - num_cells

    @property
    def targets(self) -> list[Float[Tensor, "channels _ _"]]:
        """What the scene is trained towards."""
        return [self.replaced.get(index, original) for index, original in enumerate(self.originals)]

    def replace(self, index: int, target: Float[Tensor, "channels rows columns"]) -> None:
        """Trains view `index` towards `target` from now on.

        Raises:
            ValueError: If the target does not have the view's shape.
        """
        original = self.originals[index]
        if target.shape != original.shape:
            raise ValueError(
                f"View {index} holds {self.kind} of shape {tuple(original.shape)} and cannot be replaced by "
                f"{self.kind} of shape {tuple(target.shape)}."
            )
        self.replaced[index] = target.detach().to(original).clone()
        self._write(index, self.replaced[index])

    def reset(self) -> None:
        """Trains every view towards its original again."""
        for index in self.replaced:
            self._write(index, self.originals[index])
        self.replaced = {}

    def at(self, cells: Int[Tensor, "rays 3"]) -> Float[Tensor, "rays channels"]:
        """Returns the targets of cells given as (view, row, column)."""
        views, rows, columns = cells.cpu().unbind(dim=-1)
        return self._cells[(self._first_cell[views] + rows * self._columns[views] + columns).to(self._cells.device)]

    def _write(self, index: int, target: Tensor) -> None:
        first = int(self._first_cell[index])
        self._cells[first : first + target[0].numel()] = target.flatten(start_dim=1).T


class EditableDataManager(VanillaDataManager[InputDataset]):
    """Keeps, beside the datasets, the originals and targets of the training views, as soon as training needs them."""

    train_ray_generator: RayGenerator
    """Its cameras are those of the training views at the size of their originals."""

    def __init__(self, config: VanillaDataManagerConfig, *args: Any, **kwargs: Any) -> None:
        """Reads the capture, but no view of it yet; the arguments are the host's.

        Raises:
            ValueError: The folder of the data lacks a file, or lists photographs that do not exist.
        """
        self.views: EditableViews | None = None
        self._eval_views: EditableViews | None = None
        try:
            super().__init__(config, *args, **kwargs)
        except FileNotFoundError as error:
            raise ValueError(
                f"The capture cannot be read, because {error.filename} does not exist: make its folder from "
                f"photographs with ns-process-data, or name the parser of another format, as in "
                f"`ns-train <method> blender-data`."
            ) from error

    def load_views(self) -> EditableViews:
        """Makes the originals of the training views, unless that was done before."""
        raise NotImplementedError

    @property
    def originals(self) -> list[Float[Tensor, "channels _ _"]]:
        """The training views as they were photographed; empty until `load_views` was called."""
        # Not loaded on demand: the viewer reads every attribute of every module when it starts.
        return [] if self.views is None else self.views.originals

    @property
    def targets(self) -> list[Float[Tensor, "channels _ _"]]:
        """What the scene is trained towards; empty as `originals` is."""
        return [] if self.views is None else self.views.targets

    def replace_view(self, index: int, target: Float[Tensor, "channels rows columns"]) -> None:
        """Trains the view of dataset index `index` towards `target` from now on."""
        self.load_views().replace(index, target)

    def reset_views(self) -> None:
        """Trains every view towards its original again."""
        self.load_views().reset()

    def camera(self, index: int) -> Cameras:
        """Returns the camera of training view `index` at the size of its original, as a batch of one."""
        return self.train_ray_generator.cameras[index : index + 1]

    def _serve_held_out(self, photographs: ResizedPhotographs) -> None:
        """Lets the host evaluate on these photographs."""
        served: Any = photographs
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(served, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(served, device=self.device)
