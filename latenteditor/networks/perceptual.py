"""LPIPS, how different two images look to a network (arXiv 1801.03924): AlexNet's features under learned weights."""

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

SMALLEST_IMAGE = 31
"""Pixels along each side of the smallest image that AlexNet's last features leave something of."""


class PerceptualDistance:
    """A frozen LPIPS. Not an nn.Module: whoever holds it neither trains nor saves it."""

    def __init__(self, network: nn.Module) -> None:
        """Freezes `network`, an LPIPS of the package lpips."""
        self._network = network.eval().requires_grad_(False)

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return next(self._network.parameters()).device

    def __call__(
        self, images: Float[Tensor, "images 3 height width"], references: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, " images"]:
        """The distance of each pair of images in [0, 1]. Gradients flow to images that ask for them."""
        return self._network(2 * images.clamp(0, 1) - 1, 2 * references.clamp(0, 1) - 1).flatten()

    def distance_map(
        self, images: Float[Tensor, "images 3 height width"], references: Float[Tensor, "images 3 height width"]
    ) -> Float[Tensor, "images 1 height width"]:
        """The distance around each pixel, of which the package lpips makes its spatial LPIPS.

        Each of AlexNet's layers is enlarged to the images' size, so the mean is near, not equal, to the distance, and
        what lies beyond a region's border counts for some way into it.
        """
        # A shallow copy: the same weights under another switch of the package.
        spatial: Any = copy.copy(self._network)
        spatial.spatial = True
        return spatial(2 * images.clamp(0, 1) - 1, 2 * references.clamp(0, 1) - 1)


def load_perceptual_distance(weights: Path | None, device: torch.device | str) -> PerceptualDistance:
    """Loads LPIPS with AlexNet.

    Args:
        weights: A file with the state dict of `lpips.LPIPS(net="alex")`, AlexNet included; None takes AlexNet
            from torch's hub, which downloads it once.
        device: Where it computes.

    Raises:
        ValueError: The file is missing or holds something else, or the hub cannot be reached.
    """
    import lpips

    with warnings.catch_warnings():
        # lpips asks torchvision for AlexNet in a way that is deprecated.
        warnings.simplefilter("ignore")
        try:
            network = lpips.LPIPS(net="alex", pnet_rand=weights is not None, verbose=False)
        except OSError as error:
            raise ValueError(
                f"LPIPS needs AlexNet's weights, and torch's hub has none on this machine and cannot be reached "
                f"({error}): connect once, or pass a file with them by --pipeline.model.lpips-weights."
            ) from error
    if weights is not None:
        _load_weights(network, weights)
    return PerceptualDistance(network.to(device))


def _load_weights(network: nn.Module, path: Path) -> None:
    """Reads a whole LPIPS, AlexNet included, from a file."""
    if not path.is_file():
        raise ValueError(
            f"There is no file {path} of LPIPS weights: pass one by --pipeline.model.lpips-weights, or None to take "
            "them from torch's hub."
        )
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"{path} holds no LPIPS weights ({reason}): expected the state dict of "
            'lpips.LPIPS(net="alex"), AlexNet included.'
        ) from error
