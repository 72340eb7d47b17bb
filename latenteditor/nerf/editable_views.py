"""The training views as an edit sees them: what each of them was, and what the scene is trained towards.

Views are numbered as in the dataset, and may differ in size. The datasets stay what the host expects, photographs at
full resolution; beside them an editable data manager keeps, for each training view, its original and its target, which
an edit may replace: latents in ``datamanager``, images in ``image_datamanager``.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from latenteditor.nerf.capture import came_from_dataparser, require_capture, unreadable
from latenteditor.nerf.photographs import Photographs, ResizedPhotographs, require_photographs

LEAST_VIEWS = 4
"""Training views without which there is no depth to be found; our choice."""


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
        self._kept_out = torch.zeros(int(num_cells.sum()), dtype=torch.bool)
        self.kept_out_changes = 0
        """How often something was kept out of training, or put back."""

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

    def keep_out(self, index: int, cells: Bool[Tensor, "1 rows columns"] | None) -> None:
        """Learns nothing from these latent cells of view `index` from now on; None puts all of it back."""
        rows, columns = self.originals[index].shape[-2:]
        first = int(self._first_cell[index])
        kept_out = self._kept_out[first : first + rows * columns]
        kept_out[:] = False
        if cells is not None:
            kept_out |= F.interpolate(cells[None].float().cpu(), (rows, columns), mode="nearest-exact").flatten() > 0
        self.kept_out_changes += 1

    def kept_out_of(self, index: int) -> Bool[Tensor, "rows columns"]:
        """What of view `index` nothing is learnt from."""
        rows, columns = self.originals[index].shape[-2:]
        first = int(self._first_cell[index])
        return self._kept_out[first : first + rows * columns].view(rows, columns)

    def are_kept_out(self, cells: Int[Tensor, "rays 3"]) -> Bool[Tensor, " rays"]:
        """From which of the cells given as (view, row, column) nothing is learnt."""
        return self._kept_out[self._index(cells)]

    def at(self, cells: Int[Tensor, "rays 3"]) -> Float[Tensor, "rays channels"]:
        """Returns the targets of cells given as (view, row, column)."""
        return self._cells[self._index(cells).to(self._cells.device)]

    def _index(self, cells: Int[Tensor, "rays 3"]) -> Int[Tensor, " rays"]:
        views, rows, columns = cells.cpu().unbind(dim=-1)
        return self._first_cell[views] + rows * self._columns[views] + columns

    def _write(self, index: int, target: Tensor) -> None:
        first = int(self._first_cell[index])
        self._cells[first : first + target[0].numel()] = target.flatten(start_dim=1).T


class EditableDataManager(VanillaDataManager[Photographs]):
    """Keeps, beside the datasets, the originals and targets of the training views, as soon as training needs them."""

    train_ray_generator: RayGenerator
    """Its cameras are those of the training views at the size of their originals."""

    def __init__(self, config: VanillaDataManagerConfig, *args: Any, **kwargs: Any) -> None:
        """Reads the capture, but no view of it yet; the arguments are the host's.

        Raises:
            ValueError: The capture cannot be read, or not as its cameras saw it.
        """
        self.views: EditableViews | None = None
        self._eval_views: EditableViews | None = None
        require_capture(config.dataparser, config.data)
        try:
            super().__init__(config, *args, **kwargs)
        except Exception as error:
            if not came_from_dataparser(error):
                raise
            raise unreadable(self.get_datapath(), type(config.dataparser).__name__, error) from error

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Reads each held-out photograph once, now that training will follow: a damaged one would end it later.

        Raises:
            ValueError: One of them is damaged.
        """
        held_out: Any = self.eval_dataset
        for index in range(len(held_out)):
            held_out.get_data(index, "uint8")
        return super().get_training_callbacks(training_callback_attributes)

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

    def keep_out(self, index: int, cells: Bool[Tensor, "1 rows columns"] | None) -> None:
        """Learns nothing from these latent cells of view `index` from now on; None puts all of it back."""
        self.load_views().keep_out(index, cells)

    def reset_views(self) -> None:
        """Trains every view towards its original again."""
        self.load_views().reset()

    def camera(self, index: int) -> Cameras:
        """Returns the camera of training view `index` at the size of its original, as a batch of one."""
        return self.train_ray_generator.cameras[index : index + 1]

    def _require_capture(self, dataset: InputDataset, least_views: int, smallest: int = 1) -> None:
        """Refuses photographs that cannot be read as their cameras saw them, or are too few."""
        require_photographs(dataset, self.get_datapath(), smallest)
        if len(dataset) < least_views:
            raise ValueError(
                f"A scene is learned from {least_views} or more training views, and {self.get_datapath()} has "
                f"{len(dataset)}: photograph it from more places, twenty or more for a good scene."
            )

    def _serve_held_out(self, photographs: ResizedPhotographs) -> None:
        """Lets the host evaluate on these photographs."""
        served: Any = photographs
        self.fixed_indices_eval_dataloader = FixedIndicesEvalDataloader(served, device=self.device)
        self.eval_dataloader = RandIndicesEvalDataloader(served, device=self.device)
