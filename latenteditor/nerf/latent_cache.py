"""Every photograph once through the encoder, and the latents kept from run to run."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.utils.rich_utils import CONSOLE, get_progress
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from latenteditor.nerf.photographs import ResizedPhotographs
from latenteditor.networks.autoencoder import Autoencoder

READING = "as shown"
"""How photographs are read; latents of photographs that were read otherwise are not used."""
SUM = "sha256"
"""Under which a cached view keeps the sum of its content."""


class ViewStatistics(NamedTuple):
    """What a model has to know of all training latents together."""

    mean: Float[Tensor, "channels"]
    """Mean of each channel."""
    std: Float[Tensor, "channels"]
    """Standard deviation of each channel."""
    linear_rgb: Float[Tensor, "channels_and_one 3"]
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


def encode_photographs(
    photographs: ResizedPhotographs,
    dataset: InputDataset,
    autoencoder: Autoencoder,
    device: str | torch.device,
    cache_dir: Path | None,
) -> list[EncodedView]:
    """Encodes photographs at working size, or reads what an earlier run has kept.

    Args:
        photographs: The photographs.
        dataset: The same at full resolution; their files are what a cached view goes by.
        autoencoder: Encodes them.
        device: Where the views are wanted.
        cache_dir: The folder that keeps them; None keeps none.
    """
    outputs = photographs.parser_outputs
    views = []
    keep_in = cache_dir
    with get_progress("Encoding photographs", suffix="views/s") as progress:
        for index in progress.track(range(len(photographs)), total=len(photographs)):
            size = int(photographs.cameras.height[index]), int(photographs.cameras.width[index])
            settings = (size, autoencoder.fingerprint, str(outputs.alpha_color), str(dataset.mask_color), READING)
            content = hashlib.sha256(dataset.image_filenames[index].read_bytes() + repr(settings).encode())
            cached = None if cache_dir is None else cache_dir / f"{content.hexdigest()}.safetensors"
            shape = (autoencoder.channels, size[0] // autoencoder.factor, size[1] // autoencoder.factor)
            view = _read_view(cached, shape)
            if view is None:
                image = photographs[index]["image"].permute(2, 0, 1)[None].to(autoencoder.device)
                colors = F.avg_pool2d(image, autoencoder.factor)[0]
                view = EncodedView(autoencoder.encode(image)[0].float(), colors)
                _require_finite(view, dataset.image_filenames[index])
                if keep_in is not None and cached is not None and not _write_view(cached, view):
                    keep_in = None  # What is full stays full.
            views.append(EncodedView(view.latents.to(device), view.colors.to(device)))
    return views


def view_statistics(encoded: list[EncodedView], cameras: Cameras) -> ViewStatistics:
    """What a model has to know of all the encoded views of these cameras together."""
    latents = torch.cat([view.latents.flatten(start_dim=1).T for view in encoded])
    colors = torch.cat([view.colors.flatten(start_dim=1).T for view in encoded])
    with_one = F.pad(latents, (0, 1), value=1.0)
    # The normal equations with a trace of damping, so that a channel that never varies does no harm.
    gram = with_one.T @ with_one + 1e-6 * len(latents) * torch.eye(with_one.shape[1], device=latents.device)
    return ViewStatistics(
        mean=latents.mean(dim=0),
        std=latents.std(dim=0).clamp_min(1e-6),
        linear_rgb=torch.linalg.solve(gram, with_one.T @ colors),
        image_size=int(torch.maximum(cameras.height, cameras.width).max()),
    )


def _read_view(path: Path | None, shape: tuple[int, int, int]) -> EncodedView | None:
    """Returns a cached view, or None where there is none, or one that is damaged."""
    if path is None or not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            # Copied: a file that is cut off under a tensor that maps it ends the process.
            view = EncodedView(**{name: file.get_tensor(name).clone() for name in file.keys()})  # noqa: SIM118
            known = (file.metadata() or {}).get(SUM)
        fits = view.latents.shape == shape and view.colors.shape[1:] == shape[1:]
        # Files of earlier versions have no sum.
        whole = known in (None, _sum(view)) and all(bool(value.isfinite().all()) for value in view)
    except Exception:  # Whatever is wrong with a cache file, encoding again is right.
        fits = whole = False
    if fits and whole:
        return view
    CONSOLE.log(f"The latents in {path} are damaged: the photograph is encoded again.")
    return None


def _write_view(path: Path, view: EncodedView) -> bool:
    """Keeps a view, and says whether that was possible; without a cache a run only starts later the next time."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    kept = EncodedView(*(value.cpu().contiguous() for value in view))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(kept._asdict(), partial, metadata={SUM: _sum(kept)})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        CONSOLE.log(f"Latents cannot be kept in {path.parent} ({error}): the run goes on without.")
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        return False
    return True


def _sum(view: EncodedView) -> str:
    """A sum over everything in a view."""
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in view)).hexdigest()


def _require_finite(view: EncodedView, photograph: Path) -> None:
    """Refuses latents that would spread through the scene.

    Raises:
        ValueError: A number is not finite.
    """
    if not all(bool(value.isfinite().all()) for value in view):
        raise ValueError(
            f"The latents of {photograph} are not finite: encode in full precision (--pipeline.half-precision False)."
        )
