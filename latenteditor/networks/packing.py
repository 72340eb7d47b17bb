"""Latents as the tokens of a transformer, and back: each token holds a square of cells, channel by channel."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from latenteditor.editing.noise_schedule import Size


def pack(
    latents: Float[Tensor, "batch channels rows columns"], side: int
) -> Float[Tensor, "batch tokens packed_channels"]:
    """The tokens of latents, row by row; sides are filled up with their last cells to multiples of `side`."""
    rows, columns = latents.shape[-2:]
    filled = functional.pad(latents, (0, -columns % side, 0, -rows % side), mode="replicate")
    return functional.pixel_unshuffle(filled, side).flatten(2).transpose(1, 2)


def unpack(
    tokens: Float[Tensor, "batch tokens packed_channels"], size: Size, side: int
) -> Float[Tensor, "batch channels rows columns"]:
    """The latents of tokens, of the (rows, columns) that they had before they were filled up."""
    squares = tokens.transpose(1, 2).unflatten(2, token_grid(size, side))
    return functional.pixel_shuffle(squares, side)[..., : size[0], : size[1]]


def token_grid(size: Size, side: int) -> Size:
    """How many tokens stand above and beside each other."""
    return -(-size[0] // side), -(-size[1] // side)


def count_tokens(size: Size, side: int) -> int:
    """How many tokens latents of this size have."""
    rows, columns = token_grid(size, side)
    return rows * columns


def token_places(size: Size, side: int) -> Float[Tensor, "tokens 2"]:
    """Row and column of each token, in their order."""
    rows, columns = (torch.arange(count, dtype=torch.float32) for count in token_grid(size, side))
    return torch.cartesian_prod(rows, columns)
