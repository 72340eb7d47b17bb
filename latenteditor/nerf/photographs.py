"""The photographs of a capture, and their cameras, at the size at which they are worked on."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from PIL import Image
from torch import Tensor

from latenteditor.nerf.photograph_files import (
    Fault,
    is_turned,
    mask_fault,
    photograph_fault,
    read_header,
    read_picture,
    some,
)
from latenteditor.nerf.projection import PerspectiveCamera
from latenteditor.networks.autoencoder import resize, working_size

KEY_LENGTH = 32
"""Hexadecimal digits of a content key."""


class Photographs(InputDataset):
    """The photographs of a capture as a picture viewer would show them, and as their cameras saw them."""

    def get_numpy_image(self, image_idx: int) -> npt.NDArray[np.uint8]:
        """Returns a photograph of shape (height, width, 3), or 4 where some of it may be transparent.

        Raises:
            ValueError: It is damaged.
        """
        file = self.image_filenames[image_idx]
        cameras = self._dataparser_outputs.cameras
        size = int(cameras.height[image_idx]), int(cameras.width[image_idx])
        picture = read_picture(file, turn=is_turned(read_header(file), size))
        if self.scale_factor != 1.0:
            width, height = (int(side * self.scale_factor) for side in picture.size)
            picture = picture.resize((width, height), resample=Image.Resampling.BILINEAR)
        return np.array(picture)

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """Returns a photograph, and its mask where it has one.

        Raises:
            ValueError: One of them is damaged.
        """
        try:
            return super().get_data(image_idx, image_type)
        except OSError as error:
            masks = self._dataparser_outputs.mask_filenames or self.image_filenames
            raise ValueError(f"The mask {masks[image_idx]} cannot be read to its end ({error}): replace it.") from error


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


def perspective_camera(camera: Cameras) -> PerspectiveCamera:
    """A batch of one perspective camera of nerfstudio's."""
    distortion = camera.distortion_params
    return PerspectiveCamera(
        focal=torch.stack([camera.fx.flatten()[0], camera.fy.flatten()[0]]),
        centre=torch.stack([camera.cx.flatten()[0], camera.cy.flatten()[0]]),
        camera_to_world=camera.camera_to_worlds[0, :3],
        distortion=torch.zeros(6, device=camera.device) if distortion is None else distortion.reshape(-1)[:6],
    )


def without_alpha(image: Float[Tensor, "height width channels"]) -> Float[Tensor, "height width 3"]:
    """Returns an image with transparent pixels on black, as nerfacto sees them."""
    return image[..., :3] if image.shape[-1] == 3 else image[..., :3] * image[..., 3:]


def require_photographs(dataset: InputDataset, source: Path, smallest: int = 1) -> None:
    """Refuses a capture at `source` whose photographs or masks cannot be read as its cameras saw them.

    Args:
        dataset: What the capture lists.
        source: Where it lies.
        smallest: Pixels that each side of a photograph has at least.

    Raises:
        ValueError: Some are missing, listed twice, damaged, of another size than their camera, or hold pixels that
            cannot be shown.
    """
    outputs = dataset._dataparser_outputs
    photographs, masks = dataset.image_filenames, outputs.mask_filenames or []
    sizes = camera_sizes(outputs.cameras)
    _require_files(photographs, "photographs", source)
    _require_files(masks, "masks", source)
    twice = [path for path, count in Counter(photographs).items() if count > 1]
    if twice:
        raise ValueError(
            f"{source} lists {len(twice)} photographs more than once ({some(twice)}): give each a name of its own."
        )
    faults = [photograph_fault(path, size, smallest) for path, size in zip(photographs, sizes, strict=True)]
    _require_none(faults, photographs, "photographs", source)
    faults = [mask_fault(path, size) for path, size in zip(masks, sizes, strict=bool(masks))]
    _require_none(faults, masks, "masks", source)


def content_keys(photographs: Sequence[Path]) -> list[str]:
    """What tells photographs apart, whatever their files are called and wherever they lie."""
    return [hashlib.sha256(path.read_bytes()).hexdigest()[:KEY_LENGTH] for path in photographs]


def require_same_photographs(known: Sequence[str], photographs: Sequence[Path], source: Path) -> None:
    """Refuses to go on with a run on other photographs than it was made on: views are known by their order.

    Args:
        known: Content keys of the training photographs of the run.
        photographs: Those of the present data.
        source: Where these lie.

    Raises:
        ValueError: They are not the same.
    """
    remedy = "pass the --data of that run, or reconstruct a scene from these photographs"
    if len(known) != len(photographs):
        raise ValueError(
            f"The loaded run was trained on {len(known)} photographs and {source} has {len(photographs)}: {remedy}."
        )
    keys = content_keys(photographs)
    other = [path for path, key, expected in zip(photographs, keys, known, strict=True) if key != expected]
    if other and sorted(keys) == sorted(known):
        raise ValueError(f"{source} lists the photographs of the loaded run in another order: {remedy}.")
    if other:
        raise ValueError(
            f"{len(other)} of {len(keys)} photographs of {source} are not those that the loaded run was trained on "
            f"({some(other)}): {remedy}."
        )


def _require_files(paths: Sequence[Path], kind: str, source: Path) -> None:
    missing = [path for path in paths if not path.is_file()]
    if missing:
        remedy = (
            ", or use the parser instant-ngp-data, which skips them"
            if kind == "photographs"
            else ", or make a mask for each photograph"
        )
        raise ValueError(
            f"{len(missing)} of {len(paths)} {kind} that {source} lists do not exist ({some(missing)}): remove them "
            f"from its transforms.json{remedy}."
        )


def _require_none(faults: Sequence[Fault | None], paths: Sequence[Path], kind: str, source: Path) -> None:
    """Refuses files by the first fault there is, and names all that have it."""
    first = next((fault for fault in faults if fault is not None), None)
    if first is not None:
        faulty = [path for path, fault in zip(paths, faults, strict=True) if fault == first]
        raise ValueError(
            f"{len(faulty)} of {len(paths)} {kind} of {source} {first.what} ({some(faulty)}): {first.remedy}."
        )
