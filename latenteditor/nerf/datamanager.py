"""Every photograph once through the encoder: latents per view, and cameras and rays to go with them.

The datasets stay what the host expects, photographs at full resolution. Beside them an editable data manager
keeps, for each training view, what it was (`originals`) and what the scene is trained towards (`targets`), which
an edit may replace: latents here, images in ``image_datamanager``. Views are numbered as in the dataset, and may
differ in size.
"""

import hashlib
import os
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.dataloaders import FixedIndicesEvalDataloader, RandIndicesEvalDataloader
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.model_components.ray_generators import RayGenerator
from nerfstudio.utils.rich_utils import get_progress
from safetensors.torch import load_file, save_file
from torch import Tensor

from latenteditor.networks.autoencoder import Autoencoder, resize, working_size


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


class ViewStatistics(NamedTuple):
    """What a model has to know of all training latents together."""

    mean: Float[Tensor, "channels"]
    """Mean of each channel."""
    std: Float[Tensor, "channels"]
    """Standard deviation of each channel."""
    preview: Float[Tensor, "channels_and_one 3"]
    """Takes a latent, followed by a one, to the mean color of its cell: a least-squares fit to the
    photographs."""
    image_size: int
    """Pixels along the long side of the largest encoded photograph."""


class EncodedView(NamedTuple):
    """What the cache keeps of one photograph."""

    latents: Float[Tensor, "channels rows columns"]
    """The scaled latents."""
    colors: Float[Tensor, "3 rows columns"]
    """Mean color of the pixels of each latent cell."""


class Views:
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


class CellSampler:
    """Draws latent cells from all views, which may differ in size, and whole views in shuffled order."""

    def __init__(self, valid: Sequence[Bool[Tensor, "_ _"]]) -> None:
        """Draws from the cells that are `valid`, given per view."""
        self._cells = torch.cat([F.pad(mask.nonzero(), (1, 0), value=index) for index, mask in enumerate(valid)])
        self._num_views = len(valid)
        self._order: list[int] = []
        if len(self._cells) == 0:
            raise ValueError(
                "The masks of this capture leave no latent cell to train on: use masks that keep something."
            )

    def sample(self, num_rays: int) -> Int[Tensor, "rays 3"]:
        """Returns random cells as (view, row, column)."""
        return self._cells[torch.randint(len(self._cells), (num_rays,))]

    def next_view(self) -> int:
        """Returns a view; each is returned once before any is returned again."""
        if not self._order:
            self._order = torch.randperm(self._num_views).tolist()
        return self._order.pop()


class ResizedPhotographs(torch.utils.data.Dataset[dict[str, Any]]):
    """A dataset's photographs and cameras at working size."""

    def __init__(self, dataset: InputDataset, image_size: int | None, factor: int) -> None:
        """Resizes each photograph, and its camera with it, to its `working_size`."""
        sizes = [working_size(height, width, image_size, factor) for height, width in camera_sizes(dataset.cameras)]
        self._dataset = dataset
        self.cameras = resize_cameras(dataset.cameras, sizes)
        self.parser_outputs: DataparserOutputs = dataset._dataparser_outputs

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        data = dict(self._dataset[index])
        size = int(self.cameras.height[index]), int(self.cameras.width[index])
        data["image"] = resize(without_alpha(data["image"]).permute(2, 0, 1)[None], size)[0].permute(1, 2, 0)
        if "mask" in data:
            mask = data["mask"].float().permute(2, 0, 1)[None]
            data["mask"] = (F.interpolate(mask, size, mode="area") > 0.5)[0].permute(1, 2, 0)
        return data


class WholeView(NamedTuple):
    """A view in full, from which the adapter learns."""

    rays: RayBundle
    """One ray for each latent cell, of shape (rows, columns)."""
    latents: Float[Tensor, "channels rows columns"]
    """The view's target."""
    valid: Bool[Tensor, "rows columns"]
    """The cells that no mask hides."""


class EditableDataManager(VanillaDataManager[InputDataset]):
    """Keeps, beside the datasets, the originals and targets of the training views, as soon as training needs them."""

    train_ray_generator: RayGenerator
    """Its cameras are those of the training views at the size of their originals."""

    def __init__(self, config: VanillaDataManagerConfig, *args: Any, **kwargs: Any) -> None:
        """Reads the capture, but no view of it yet; the arguments are the host's.

        Raises:
            ValueError: The folder of the data lacks a file, or lists photographs that do not exist.
        """
        self.views: Views | None = None
        self._eval_views: Views | None = None
        try:
            super().__init__(config, *args, **kwargs)
        except FileNotFoundError as error:
            raise ValueError(
                f"The capture cannot be read, because {error.filename} does not exist: make its folder from "
                f"photographs with ns-process-data, or name the parser of another format, as in "
                f"`ns-train <method> blender-data`."
            ) from error

    def load_views(self) -> Views:
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

    def _check_photographs(self, dataset: InputDataset) -> None:
        missing = [path for path in dataset.image_filenames if not path.is_file()]
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(dataset)} photographs that {self.get_datapath()} lists do not exist "
                f"({_some(missing)}): remove them from its transforms.json, or use the parser "
                f"instant-ngp-data, "
                f"which skips them."
            )


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
        self._cache_dir: Path | None = config.latent_cache_dir
        self._statistics: ViewStatistics | None = None
        super().__init__(config, *args, **kwargs)

    def setup_train(self) -> None:
        """Lays rays through the latent cells of the training views; encodes nothing."""
        self._check_photographs(self.train_dataset)
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
        self._check_photographs(self.eval_dataset)
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
        if self._cache_dir is None and trainer is not None:
            self._cache_dir = Path(trainer.config.output_dir) / ".latents"
        self.load_views()
        return super().get_training_callbacks(training_callback_attributes)

    def load_views(self) -> Views:
        """Encodes the training photographs, or reads them from the cache, unless that was done before."""
        if self.views is None:
            encoded = self._encode(self.train_photographs, self.train_dataset)
            self.views = Views([view.latents for view in encoded])
            self._statistics = _statistics(encoded, self.train_photographs.cameras)
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
        cells, rays = self.sample_rays(self.train_pixel_sampler.num_rays_per_batch)
        batch: dict[str, Any] = {"indices": cells}
        if self.views is not None:
            batch["latents"] = self.views.at(cells)
            if step % self.steps_per_view == 0:
                batch["view"] = self._whole_view(self._train_cells.next_view())
        return rays, batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Returns random rays of the held-out views and their latents."""
        self.eval_count += 1
        if self._eval_views is None:
            encoded = self._encode(self.eval_photographs, self.eval_dataset)
            self._eval_views = Views([view.latents for view in encoded])
        assert self.eval_pixel_sampler is not None
        cells = self._eval_cells.sample(self.eval_pixel_sampler.num_rays_per_batch)
        rays = self.eval_ray_generator(cells.to(self.device))
        return rays, {"indices": cells, "latents": self._eval_views.at(cells)}

    def sample_rays(self, num_rays: int) -> tuple[Int[Tensor, "rays 3"], RayBundle]:
        """Returns random cells of the training views as (view, row, column), and the rays through them."""
        cells = self._train_cells.sample(num_rays)
        return cells, self.train_ray_generator(cells.to(self.device))

    def _whole_view(self, index: int) -> WholeView:
        assert self.views is not None
        rays = self.train_ray_generator.cameras.generate_rays(camera_indices=index, keep_shape=True)
        target = self.views.replaced.get(index, self.views.originals[index])
        return WholeView(rays, target, self._train_valid[index].to(target.device))

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
        autoencoder = self._lent_autoencoder()
        outputs = photographs.parser_outputs
        views = []
        with get_progress("Encoding photographs", suffix="views/s") as progress:
            for index in progress.track(range(len(photographs)), total=len(photographs)):
                size = int(photographs.cameras.height[index]), int(photographs.cameras.width[index])
                settings = (size, autoencoder.fingerprint, str(outputs.alpha_color), str(dataset.mask_color))
                content = hashlib.sha256(dataset.image_filenames[index].read_bytes() + repr(settings).encode())
                cached = None if self._cache_dir is None else self._cache_dir / f"{content.hexdigest()}.safetensors"
                shape = (autoencoder.channels, size[0] // autoencoder.factor, size[1] // autoencoder.factor)
                view = _read_view(cached, shape)
                if view is None:
                    image = photographs[index]["image"].permute(2, 0, 1)[None].to(autoencoder.device)
                    colors = F.avg_pool2d(image, autoencoder.factor)[0]
                    view = EncodedView(autoencoder.encode(image)[0].float(), colors)
                    _write_view(cached, view)
                views.append(EncodedView(view.latents.to(self.device), view.colors.to(self.device)))
        return views


def camera_sizes(cameras: Cameras) -> list[tuple[int, int]]:
    """Returns the (height, width) of each camera's images."""
    return [(int(height), int(width)) for height, width in zip(cameras.height, cameras.width, strict=True)]


def resize_cameras(cameras: Cameras, sizes: Sequence[tuple[int, int]]) -> Cameras:
    """Returns copies of cameras that see exactly the same in images of other (height, width)."""
    resized = deepcopy(cameras)
    height, width = (torch.tensor(side, device=cameras.device)[:, None] for side in zip(*sizes, strict=True))
    across, down = width / cameras.width, height / cameras.height
    resized.fx, resized.cx = cameras.fx * across, cameras.cx * across
    resized.fy, resized.cy = cameras.fy * down, cameras.cy * down
    resized.height, resized.width = height, width
    return resized


def without_alpha(image: Float[Tensor, "height width channels"]) -> Float[Tensor, "height width 3"]:
    """Returns an image with transparent pixels on black, as nerfacto sees them."""
    return image[..., :3] if image.shape[-1] == 3 else image[..., :3] * image[..., 3:]


def _statistics(encoded: list[EncodedView], cameras: Cameras) -> ViewStatistics:
    latents = torch.cat([view.latents.flatten(start_dim=1).T for view in encoded])
    colors = torch.cat([view.colors.flatten(start_dim=1).T for view in encoded])
    with_one = F.pad(latents, (0, 1), value=1.0)
    # The normal equations with a trace of damping, so that a channel that never varies does no harm.
    gram = with_one.T @ with_one + 1e-6 * len(latents) * torch.eye(with_one.shape[1], device=latents.device)
    return ViewStatistics(
        mean=latents.mean(dim=0),
        std=latents.std(dim=0).clamp_min(1e-6),
        preview=torch.linalg.solve(gram, with_one.T @ colors),
        image_size=int(torch.maximum(cameras.height, cameras.width).max()),
    )


def _read_view(path: Path | None, shape: tuple[int, int, int]) -> EncodedView | None:
    """Returns a cached view, or None where there is none, or one that is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        view = EncodedView(**load_file(path))
    except Exception:  # Whatever is wrong with a cache file, encoding again is right.
        return None
    return view if view.latents.shape == shape and view.colors.shape[1:] == shape[1:] else None


def _write_view(path: Path | None, view: EncodedView) -> None:
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    save_file({name: value.cpu().contiguous() for name, value in view._asdict().items()}, partial)
    os.replace(partial, path)


def _some(paths: Sequence[Path], limit: int = 5) -> str:
    return ", ".join(path.name for path in paths[:limit]) + (", ..." if len(paths) > limit else "")
