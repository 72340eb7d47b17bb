"""Latents of the training views, rays through the centers of their cells, and whole views for the adapter."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from latenteditor.nerf.editable_views import LEAST_VIEWS, EditableDataManager, EditableViews
from latenteditor.nerf.latent_cache import EncodedView, ViewStatistics, encode_photographs, view_statistics
from latenteditor.nerf.photographs import ResizedPhotographs, camera_sizes, resize_cameras
from latenteditor.networks.autoencoder import Autoencoder


@dataclass
class LatentDataManagerConfig(VanillaDataManagerConfig):
    """Latents of the training photographs, and rays through the centers of their cells."""

    _target: type = field(default_factory=lambda: LatentDataManager)
    image_size: int | None = 512
    """Pixels along the long side of a photograph when it is encoded; None keeps the native size. Both sides
    are then rounded to multiples of the autoencoder's factor. InstructPix2Pix edits best at 512; the rest is
    our choice."""
    train_num_rays_per_batch: int = 4096
    """Rays per training step, drawn from all views. As in nerfacto."""
    max_num_rays_on_cpu: int = 512
    """Rays per training step at most on a CPU, where many small steps learn faster than few large ones.
    Measured by us."""
    eval_num_rays_per_batch: int = 1024
    """Rays per evaluation batch."""
    steps_per_view: int = 1
    """A whole view goes through the adapter every this many steps. Our choice."""
    min_steps_per_view_on_cpu: int = 4
    """On a CPU, whole views come every this many steps at most. Our choice: they take half of the time."""
    latent_cache_dir: Path | None = None
    """Folder in which the latents are kept from run to run. None: `.latents` inside the output folder of
    ns-train. Only training reads it; ns-eval, ns-render, ns-viewer and ns-export need no latents of training
    views."""


class CellSampler:
    """Draws latent cells from all views, which may differ in size, and whole views in shuffled order."""

    def __init__(self, valid: Sequence[Bool[Tensor, "_ _"]]) -> None:
        """Draws from the cells that are `valid`, given per view."""
        self._cells = torch.cat([F.pad(mask.nonzero(), (1, 0), value=index) for index, mask in enumerate(valid)])
        self._num_views = len(valid)
        self._open, self._open_since = self._cells, 0
        self._order: list[int] = []
        if len(self._cells) == 0:
            raise ValueError(
                "The masks of this capture leave no latent cell to train on: use masks that keep something."
            )

    def sample(self, num_rays: int) -> Int[Tensor, "rays 3"]:
        """Returns random cells as (view, row, column)."""
        return self._cells[torch.randint(len(self._cells), (num_rays,))]

    def sample_open(self, num_rays: int, views: EditableViews) -> Int[Tensor, "rays 3"]:
        """Returns random cells of which none is kept out of training; of all, where that leaves none."""
        if self._open_since != views.kept_out_changes:
            left = self._cells[~views.are_kept_out(self._cells)]
            self._open, self._open_since = left if len(left) else self._cells, views.kept_out_changes
        return self._open[torch.randint(len(self._open), (num_rays,))]

    def next_view(self) -> int:
        """Returns a view; each is returned once before any is returned again."""
        if not self._order:
            self._order = torch.randperm(self._num_views).tolist()
        return self._order.pop()

    def moment(self) -> dict[str, Any]:
        """The order of the views that are still to come."""
        return {"views_to_come": list(self._order)}

    def load_moment(self, moment: dict[str, Any]) -> None:
        """Goes on with that order."""
        self._order = list(moment["views_to_come"])


class WholeView(NamedTuple):
    """A view in full, from which the adapter learns."""

    rays: RayBundle
    """One ray for each latent cell, of shape (rows, columns)."""
    latents: Float[Tensor, "channels rows columns"]
    """The view's target."""
    valid: Bool[Tensor, "rows columns"]
    """The cells that no mask hides, and that do not wait for an edit."""


class LatentDataManager(EditableDataManager):
    """Serves rays through latent cells, and the views' originals and targets."""

    config: LatentDataManagerConfig

    def __init__(self, config: LatentDataManagerConfig, *args: Any, autoencoder: Any = None, **kwargs: Any) -> None:
        """Reads the capture. Nothing is encoded before training starts.

        Args:
            config: The options.
            *args: What the host passes on.
            autoencoder: The pipeline's autoencoder; may be missing where only the datasets are wanted.
            **kwargs: What the host passes on.
        """
        self.autoencoder: Autoencoder | None = autoencoder
        self.cache_dir: Path | None = config.latent_cache_dir
        self._statistics: ViewStatistics | None = None
        super().__init__(config, *args, **kwargs)

    def setup_train(self) -> None:
        """Lays rays through the latent cells of the training views; encodes nothing."""
        self._require_capture(self.train_dataset, LEAST_VIEWS, self._lent_autoencoder().factor)
        self.train_photographs, self.train_cameras = self._at_working_size(self.train_dataset)
        rays, self.steps_per_view = self.config.train_num_rays_per_batch, self.config.steps_per_view
        if torch.device(self.device).type == "cpu":
            rays = min(rays, self.config.max_num_rays_on_cpu)
            self.steps_per_view = max(self.steps_per_view, self.config.min_steps_per_view_on_cpu)
        # The host sets the number of rays on this sampler, of which nothing else is used.
        self.train_pixel_sampler = self._get_pixel_sampler(self.train_dataset, rays)
        self.train_ray_generator = RayGenerator(self.train_cameras.to(self.device))
        self._train_valid = self._valid_cells(self.train_photographs, self.train_cameras)
        self._train_cells = CellSampler(self._train_valid)

    def setup_eval(self) -> None:
        """Lays rays through the held-out views, and serves their photographs at working size."""
        self._require_capture(self.eval_dataset, 1, self._lent_autoencoder().factor)
        self.eval_photographs, self.eval_cameras = self._at_working_size(self.eval_dataset)
        self.eval_pixel_sampler = self._get_pixel_sampler(self.eval_dataset, self.config.eval_num_rays_per_batch)
        self.eval_ray_generator = RayGenerator(self.eval_cameras.to(self.device))
        self._eval_cells = CellSampler(self._valid_cells(self.eval_photographs, self.eval_cameras))
        self._serve_held_out(self.eval_photographs)

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Encodes the photographs, now that training will follow and the output folder is known."""
        trainer = training_callback_attributes.trainer
        if self.cache_dir is None and trainer is not None:
            self.cache_dir = Path(trainer.config.output_dir) / ".latents"
        self.load_views()
        return super().get_training_callbacks(training_callback_attributes)

    def load_views(self) -> EditableViews:
        """Encodes the training photographs, or reads them from the cache, unless that was done before."""
        if self.views is None:
            encoded = self._encode(self.train_photographs, self.train_dataset)
            self.views = EditableViews([view.latents for view in encoded])
            self._statistics = view_statistics(encoded, self.train_photographs.cameras)
        return self.views

    def statistics(self) -> ViewStatistics:
        """What the model has to know of all training latents together."""
        self.load_views()
        assert self._statistics is not None
        return self._statistics

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Returns random rays and, once latents are encoded, their targets, and now and then a whole view."""
        self.train_count += 1
        assert self.train_pixel_sampler is not None
        num_rays = self.train_pixel_sampler.num_rays_per_batch
        if self.views is None:
            cells, rays = self.sample_rays(num_rays)
            return rays, {"indices": cells}
        cells = self._train_cells.sample_open(num_rays, self.views)
        batch: dict[str, Any] = {"indices": cells, "latents": self.views.at(cells)}
        if step % self.steps_per_view == 0:
            batch["view"] = self._whole_view(self._train_cells.next_view())
        return self.train_ray_generator(cells.to(self.device)), batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Returns random rays of the held-out views and their latents."""
        self.eval_count += 1
        if self._eval_views is None:
            encoded = self._encode(self.eval_photographs, self.eval_dataset)
            self._eval_views = EditableViews([view.latents for view in encoded])
        assert self.eval_pixel_sampler is not None
        cells = self._eval_cells.sample(self.eval_pixel_sampler.num_rays_per_batch)
        rays = self.eval_ray_generator(cells.to(self.device))
        return rays, {"indices": cells, "latents": self._eval_views.at(cells)}

    def sample_rays(self, num_rays: int) -> tuple[Int[Tensor, "rays 3"], RayBundle]:
        """Returns random cells of the training views as (view, row, column), and the rays through them."""
        cells = self._train_cells.sample(num_rays)
        return cells, self.train_ray_generator(cells.to(self.device))

    def moment(self) -> dict[str, Any]:
        """The order of the whole views that are still to come."""
        return self._train_cells.moment()

    def load_moment(self, moment: dict[str, Any]) -> None:
        """Goes on with that order."""
        self._train_cells.load_moment(moment)

    def _whole_view(self, index: int) -> WholeView:
        assert self.views is not None
        rays = self.train_ray_generator.cameras.generate_rays(camera_indices=index, keep_shape=True)
        target = self.views.replaced.get(index, self.views.originals[index])
        valid = self._train_valid[index] & ~self.views.kept_out_of(index)
        return WholeView(rays, target, valid.to(target.device))

    def _lent_autoencoder(self) -> Autoencoder:
        if self.autoencoder is None:
            raise ValueError("This data manager was made without an autoencoder: use LatentNerfactoPipeline.")
        return self.autoencoder

    def _at_working_size(self, dataset: InputDataset) -> tuple[ResizedPhotographs, Cameras]:
        factor = self._lent_autoencoder().factor
        photographs = ResizedPhotographs(dataset, self.config.image_size, factor)
        latent_sizes = [(height // factor, width // factor) for height, width in camera_sizes(photographs.cameras)]
        return photographs, resize_cameras(dataset.cameras, latent_sizes)

    def _valid_cells(self, photographs: ResizedPhotographs, cameras: Cameras) -> list[Bool[Tensor, "_ _"]]:
        sizes = camera_sizes(cameras)
        outputs = photographs.parser_outputs
        if outputs.mask_filenames is None:
            return [torch.ones(size, dtype=torch.bool) for size in sizes]
        masks = (photographs[index]["mask"].permute(2, 0, 1)[:1].float() for index in range(len(photographs)))
        # A cell of which a single pixel is hidden holds latents of what is hidden.
        return [F.adaptive_avg_pool2d(mask, size)[0] == 1 for mask, size in zip(masks, sizes, strict=True)]

    def _encode(self, photographs: ResizedPhotographs, dataset: InputDataset) -> list[EncodedView]:
        return encode_photographs(photographs, dataset, self._lent_autoencoder(), self.device, self.cache_dir)
