"""Autoencoders in the layout of TAESD: two state dicts without a config, whose tensors alone say what they are.

TAESD and its kin (github.com/madebyollin/taesd) are published so: `taef2_encoder.pth` and `taef2_decoder.pth` are the
small autoencoder of FLUX.2. A state dict's keys begin with a layer's place in the network: a block of three
convolutions, or one convolution; what has no weights, the decoder's other layers, follows from the places left free.
"""

import math
import pickle
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from latenteditor.networks.models import why_unread

SUFFIXES = (".pth", ".safetensors")
"""Files that state dicts are looked for in; of the same name, the last of these is read."""
POOL_GROUPS = 4
"""Groups of the branch's normalisation, which no tensor's shape shows. As in TAESD's own code."""
SQUASHED_TO = 3.0
"""Bound of what the decoder's convolutions are given, which keeps outliers from them. As in TAESD's own code."""
REASON_LENGTH = 160
"""Characters at most of why a file is refused; torch lists every key."""


class StateDictFiles(NamedTuple):
    """An autoencoder's two files."""

    encoder: Path
    """The state dict of what makes latents."""
    decoder: Path
    """The state dict of what makes images."""


class Encoded(NamedTuple):
    """What encoding returns, under diffusers' name."""

    latents: Float[Tensor, "views channels rows columns"]
    """The latents, unscaled."""


class Decoded(NamedTuple):
    """What decoding returns, under diffusers' name."""

    sample: Float[Tensor, "views 3 height width"]
    """Images in [-1, 1] or a little beyond."""


class Block(nn.Module):
    """Three convolutions around which the input is added; before them, perhaps a branch over all channels."""

    def __init__(self, width: int, branch_width: int) -> None:
        """Builds a block of `width` channels; without a branch if `branch_width` is 0."""
        super().__init__()
        first, second, third = (nn.Conv2d(width, width, kernel_size=3, padding=1) for _ in range(3))
        self.conv = nn.Sequential(first, nn.ReLU(), second, nn.ReLU(), third)
        self.pool = None
        if branch_width:
            self.pool = nn.Sequential(
                nn.Conv2d(width, branch_width, kernel_size=1, bias=False),
                nn.GroupNorm(POOL_GROUPS, branch_width),
                nn.ReLU(),
                nn.Conv2d(branch_width, width, kernel_size=1, bias=False),
            )

    def forward(self, features: Float[Tensor, "views width rows columns"]) -> Float[Tensor, "views width rows columns"]:
        if self.pool is not None:
            features = features + self.pool(features)
        return torch.relu(self.conv(features) + features)


class Squash(nn.Module):
    """Bends what lies far from zero towards it, and leaves the rest nearly as it is."""

    def forward(self, latents: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return SQUASHED_TO * torch.tanh(latents / SQUASHED_TO)


class TinyAutoencoder(nn.Module):
    """An encoder and a decoder, called as diffusers' autoencoders are; latents have no scale of their own."""

    def __init__(self, encoder: nn.Sequential, decoder: nn.Sequential) -> None:
        """Joins two networks that work on images in [0, 1]."""
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.config: dict[str, Any] = {}

    @property
    def factor(self) -> int:
        """Pixels along each side of a latent cell: each strided convolution halves the sides."""
        return math.prod(layer.stride[0] for layer in self.encoder if isinstance(layer, nn.Conv2d))

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        *_, last = self.encoder.parameters()
        return len(last)

    def encode(self, images: Float[Tensor, "views 3 height width"]) -> Encoded:
        """Returns the latents of images in [-1, 1]."""
        return Encoded(self.encoder((images + 1) / 2))

    def decode(self, latents: Float[Tensor, "views channels rows columns"]) -> Decoded:
        """Returns the images of latents."""
        return Decoded(2 * self.decoder(latents) - 1)


def find_state_dicts(folder: Path) -> StateDictFiles | None:
    """Returns the two files of a folder that holds an encoder and a decoder, or None where it holds neither.

    Raises:
        ValueError: There is only one of them, or there are several.
    """
    found = {part: _files_named(folder, part) for part in StateDictFiles._fields}
    if not any(found.values()):
        return None
    for part, files in found.items():
        if len(files) != 1:
            names = ", ".join(file.name for files in found.values() for file in files)
            raise ValueError(
                f"There is {'more than one' if files else 'no'} {part} among the state dicts in {folder} ({names}): an "
                f"autoencoder in the layout of TAESD is one pair, such as taef2_encoder.pth and taef2_decoder.pth."
            )
    return StateDictFiles(*(files[0] for files in found.values()))


def load_tiny_autoencoder(files: StateDictFiles) -> TinyAutoencoder:
    """Loads an autoencoder, in single precision.

    Raises:
        ValueError: A file cannot be read, holds something else, or both do not belong together.
    """
    encoder = _load_network(files.encoder, _encoder_layer)
    decoder = _load_network(files.decoder, _decoder_layer)
    network = TinyAutoencoder(encoder, decoder).float()
    _require_images_back(network, files)
    return network


def _files_named(folder: Path, part: str) -> list[Path]:
    """The files that the folder has for a part, one of each name."""
    files = [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{part}*{suffix}")) if path.is_file()]
    return list({path.stem: path for path in files}.values())


def _load_network(file: Path, make_layer: Callable[[int, Mapping[str, Tensor]], nn.Module]) -> nn.Sequential:
    """The network that a state dict belongs to, with its weights."""
    state = _read(file)
    try:
        places = [int(name.partition(".")[0]) for name in state]
        with torch.device("meta"):
            network = nn.Sequential(*(make_layer(place, _within(state, place)) for place in range(max(places) + 1)))
        network.load_state_dict(state, assign=True)
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise ValueError(_other_layout(file, _shortened(error))) from error
    return network


def _read(file: Path) -> dict[str, Tensor]:
    try:
        state: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"The weights in {file} could not be read ({why_unread(error)}): download the file again or pass another "
            f"folder."
        ) from error
    named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
    if not named or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(_other_layout(file, "it holds something else than named tensors"))
    return state


def _within(state: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    """The tensors of one layer."""
    prefix = f"{place}."
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def _encoder_layer(place: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A block, or a convolution: those without a bias halve the sides."""
    return _layer(tensors, stride=1 if "bias" in tensors else 2)


def _decoder_layer(place: int, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A block or a convolution; where there are no tensors, what stands between them."""
    if tensors:
        return _layer(tensors, stride=1)
    return {0: Squash(), 2: nn.ReLU()}.get(place) or nn.Upsample(scale_factor=2)


def _layer(tensors: Mapping[str, Tensor], stride: int) -> nn.Module:
    if "conv.0.weight" in tensors:
        branch = tensors.get("pool.0.weight", ())
        return Block(len(tensors["conv.0.weight"]), len(branch))
    leaving, entering = tensors["weight"].shape[:2]
    return nn.Conv2d(entering, leaving, kernel_size=3, stride=stride, padding=1, bias="bias" in tensors)


@torch.no_grad()
def _require_images_back(network: TinyAutoencoder, files: StateDictFiles) -> None:
    """Refuses networks that do not fit each other, by sending a small image through both."""
    side = 2 * network.factor  # Of a single cell, the branch's normalisation might have too few numbers.
    try:
        returned = network.decode(network.encode(torch.zeros(1, 3, side, side)).latents).sample.shape[-1]
        reason = None if returned == side else f"an image of {side} pixels comes back with {returned}"
    except (RuntimeError, ValueError) as error:
        reason = _shortened(error)
    if reason is not None:
        raise ValueError(
            f"{files.encoder.name} and {files.decoder.name} in {files.encoder.parent} are no autoencoder together "
            f"({reason}): pass the folder of one pair, such as taef2_encoder.pth and taef2_decoder.pth."
        )


def _other_layout(file: Path, reason: str) -> str:
    """The sentence for a file that holds some other network."""
    return (
        f"{file} holds no network in the layout of TAESD ({reason}): expected an encoder's or a decoder's state dict, "
        f"such as taef2_encoder.pth and taef2_decoder.pth."
    )


def _shortened(error: Exception) -> str:
    """What an error says, in one line."""
    said = f"there is no {error.args[0]}" if isinstance(error, KeyError) else str(error)
    return textwrap.shorten(said, REASON_LENGTH)
