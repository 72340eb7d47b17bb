"""The photographs themselves as what is edited: images per view, and patches of rays to go with them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Int
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManagerConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PatchPixelSamplerConfig, PixelSampler
from nerfstudio.data.utils.pixel_sampling_utils import erode_mask
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes
from nerfstudio.model_components.ray_generators import RayGenerator
from torch import Tensor

from latenteditor.nerf.editable_views import LEAST_VIEWS, EditableDataManager, EditableViews
from latenteditor.nerf.photographs import ResizedPhotographs, camera_sizes


@dataclass
class ImageDataManagerConfig(VanillaDataManagerConfig):
    """Images of the training views, and patches of rays through their pixels."""

    _target: type = field(default_factory=lambda: ImageDataManager)
    image_size: int | None = 512
    """Pixels along the long side of a photograph when it is trained on and edited; None keeps the native size.
    InstructPix2Pix edits best at 512, as Instruct-NeRF2NeRF's README says; that resizing is ours."""
    train_num_rays_per_batch: int = 16384
    """Rays per training step, in whole patches: 16 of 32x32 pixels. From Instruct-NeRF2NeRF."""
    eval_num_rays_per_batch: int = 4096
    """Rays per evaluation batch. From Instruct-NeRF2NeRF."""
    patch_size: int = 32
    """Pixels along each side of the patches that rays are drawn in, which LPIPS compares; 1 draws single
    pixels. From Instruct-NeRF2NeRF."""


class PatchesOfViews:
    """Draws pixels of views that may differ in size.

    Each batch is from views of one size, because the host's sampler of patches cannot mix them.
    """

    def __init__(
        self, sizes: Sequence[tuple[int, int]], masks: Sequence[Bool[Tensor, "_ _ 1"]] | None, patch_size: int
    ) -> None:
        """Draws patches inside views of (height, width) `sizes`, and inside their `masks` where there are any.

        Raises:
            ValueError: There is a view that a patch does not fit into, or no patch that the masks keep.
        """
        smallest = min(min(size) for size in sizes)
        if patch_size > smallest:
            raise ValueError(
                f"Patches of {patch_size}x{patch_size} pixels do not fit into a view that is {smallest} pixels wide or "
                "high: lower --pipeline.datamanager.patch-size or raise --pipeline.datamanager.image-size."
            )
        views = [view for view in range(len(sizes)) if masks is None or _leaves_a_patch(masks[view], patch_size)]
        if not views:
            raise ValueError(
                f"The masks of this capture leave no patch of {patch_size}x{patch_size} pixels to train on: use masks "
                "that keep more, or lower --pipeline.datamanager.patch-size."
            )
        self._sizes = sizes
        self._views = torch.tensor(views)
        self._masks = masks

    def sample(self, sampler: PixelSampler) -> Int[Tensor, "rays 3"]:
        """Returns pixels as (view, row, column), patch after patch, each row by row."""
        size = self._sizes[int(self._views[torch.randint(len(self._views), ())])]
        views = [view for view in self._views.tolist() if self._sizes[view] == size]
        # Where the host draws within masks it loses count of views if there is but one.
        views = views * 2 if len(views) == 1 else views
        mask = None if self._masks is None else torch.stack([self._masks[view] for view in views])
        pixels = sampler.sample_method(sampler.num_rays_per_batch, len(views), *size, mask=mask)
        pixels[:, 0] = torch.tensor(views)[pixels[:, 0]]
        return pixels


class ImageDataManager(EditableDataManager):
    """Serves patches of rays, and the views' originals and targets as images in [0, 1]."""

    config: ImageDataManagerConfig

    def setup_train(self) -> None:
        """Lays rays through the pixels of the training views."""
        self.train_photographs, self._train_patches, self.train_pixel_sampler, self.train_ray_generator = self._setup(
            self.train_dataset, self.config.train_num_rays_per_batch
        )

    def setup_eval(self) -> None:
        """Lays rays through the held-out views, and serves their photographs at working size."""
        self.eval_photographs, self._eval_patches, self.eval_pixel_sampler, self.eval_ray_generator = self._setup(
            self.eval_dataset, self.config.eval_num_rays_per_batch
        )
        self._serve_held_out(self.eval_photographs)

    @property
    def patch_size(self) -> int:
        """Pixels along each side of a patch; 1 where nothing trains: who only looks wants pixels from everywhere."""
        return self.config.patch_size if self.test_mode == "val" else 1

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Reads the photographs, now that training will follow."""
        self.load_views()
        return super().get_training_callbacks(training_callback_attributes)

    def load_views(self) -> EditableViews:
        """Reads the training photographs, unless that was done before."""
        if self.views is None:
            self.views = self._read(self.train_photographs)
        return self.views

    def next_train(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Returns patches of rays and, once photographs are read, the colors they should have."""
        self.train_count += 1
        assert self.train_pixel_sampler is not None
        pixels = self._train_patches.sample(self.train_pixel_sampler)
        batch = self._batch(pixels, self.views)
        if self.views is not None and self.views.kept_out_changes:
            batch["kept_out"] = self.views.are_kept_out(pixels)
        return self.train_ray_generator(pixels.to(self.device)), batch

    def next_eval(self, step: int) -> tuple[RayBundle, dict[str, Any]]:
        """Returns patches of rays of the held-out views and their colors."""
        self.eval_count += 1
        if self._eval_views is None:
            self._eval_views = self._read(self.eval_photographs)
        assert self.eval_pixel_sampler is not None
        pixels = self._eval_patches.sample(self.eval_pixel_sampler)
        return self.eval_ray_generator(pixels.to(self.device)), self._batch(pixels, self._eval_views)

    def _setup(
        self, dataset: InputDataset, num_rays: int
    ) -> tuple[ResizedPhotographs, PatchesOfViews, PixelSampler, RayGenerator]:
        """What rays through the photographs of a dataset need; reads their masks, but not the photographs."""
        self._require_capture(dataset, LEAST_VIEWS if dataset is self.train_dataset else 1)
        image_size = self.config.image_size
        if image_size is not None and image_size < 1:
            raise ValueError(
                f"A photograph is 1 or more pixels long, not {image_size}: choose --pipeline.datamanager.image-size."
            )
        photographs = ResizedPhotographs(dataset, image_size, factor=1)
        masks = None
        if photographs.parser_outputs.mask_filenames is not None:
            masks = [photographs[index]["mask"].bool() for index in range(len(photographs))]
        patches = PatchesOfViews(camera_sizes(photographs.cameras), masks, self.patch_size)
        return photographs, patches, self._sampler(num_rays), RayGenerator(photographs.cameras.to(self.device))

    def _sampler(self, num_rays: int) -> PixelSampler:
        """The host's sampler of patches or of single pixels."""
        size = self.patch_size
        if size < 1:
            raise ValueError(f"A patch is 1 or more pixels wide, not {size}: choose --pipeline.datamanager.patch-size.")
        if num_rays < size**2:
            raise ValueError(
                f"A batch of {num_rays} rays holds no patch of {size}x{size} pixels: take {size**2} rays or more, or "
                "lower --pipeline.datamanager.patch-size."
            )
        if size == 1:
            return self.config.pixel_sampler.setup(num_rays_per_batch=num_rays)
        # Given to setup() instead, the patch size would come too late to round the number of rays by.
        return PatchPixelSamplerConfig(patch_size=size, num_rays_per_batch=num_rays).setup()

    def _read(self, photographs: ResizedPhotographs) -> EditableViews:
        """The photographs, where --pipeline.datamanager.images-on-gpu wants them."""
        device = self.device if self.config.images_on_gpu else "cpu"
        images = (photographs[index]["image"].permute(2, 0, 1) for index in range(len(photographs)))
        return EditableViews([image.to(device) for image in images], kind="images")

    def _batch(self, pixels: Int[Tensor, "rays 3"], views: EditableViews | None) -> dict[str, Any]:
        """The host's batch for these pixels."""
        batch: dict[str, Any] = {"indices": pixels, "patch_size": self.patch_size}
        if views is not None:
            batch["image"] = views.at(pixels).to(self.device)
        return batch


def _leaves_a_patch(mask: Bool[Tensor, "height width 1"], patch_size: int) -> bool:
    """Whether there is a patch whose pixels a mask keeps, where the host looks for patches."""
    if patch_size == 1:
        return bool(mask.any())
    return bool(erode_mask(mask.permute(2, 0, 1)[None].float(), pixel_radius=patch_size // 2).any())
