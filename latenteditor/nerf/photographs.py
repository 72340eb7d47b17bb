"""The photographs of a capture, and their cameras, at the size at which they are worked on."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from torch import Tensor

from latenteditor.networks.autoencoder import resize, working_size


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


def without_alpha(image: Float[Tensor, "height width channels"]) -> Float[Tensor, "height width 3"]:
    """Returns an image with transparent pixels on black, as nerfacto sees them."""
    return image[..., :3] if image.shape[-1] == 3 else image[..., :3] * image[..., 3:]


def require_photographs(dataset: InputDataset, source: Path) -> None:
    """Refuses a capture at `source` that lists photographs which do not exist.

    Raises:
        ValueError: Some are missing.
    """
    missing = [path for path in dataset.image_filenames if not path.is_file()]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(dataset)} photographs that {source} lists do not exist "
            f"({_some(missing)}): remove them from its transforms.json, or use the parser "
            f"instant-ngp-data, "
            f"which skips them."
        )


def _some(paths: Sequence[Path], limit: int = 5) -> str:
    return ", ".join(path.name for path in paths[:limit]) + (", ..." if len(paths) > limit else "")
