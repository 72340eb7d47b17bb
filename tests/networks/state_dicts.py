"""Small random weights in the layout in which TAESD and its kin are published."""

from pathlib import Path

import torch
from torch import Tensor

State = dict[str, Tensor]
WIDTH = 8
"""Channels inside."""


def random_state_dicts(channels: int = 32, branch: bool = True, halvings: int = 2) -> tuple[State, State]:
    """An encoder's and a decoder's state dict, with one block at each size."""
    generator = torch.Generator().manual_seed(0)

    def weights(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator) / torch.tensor(shape[1:]).prod().sqrt()

    def convolution(entering: int, leaving: int, bias: bool = True) -> State:
        weight = weights(leaving, entering, 3, 3)
        return {"weight": weight, "bias": 0.1 * weights(leaving, 1)[:, 0]} if bias else {"weight": weight}

    def block(branch: bool = False) -> State:
        places = (f"conv.{place}.{name}" for place in (0, 2, 4) for name in ("weight", "bias"))
        tensors = [value for _ in range(3) for value in convolution(WIDTH, WIDTH).values()]
        pool = {
            "pool.0.weight": weights(4 * WIDTH, WIDTH, 1, 1),
            "pool.1.weight": weights(4 * WIDTH, 1)[:, 0],
            "pool.1.bias": weights(4 * WIDTH, 1)[:, 0],
            "pool.3.weight": weights(WIDTH, 4 * WIDTH, 1, 1),
        }
        return dict(zip(places, tensors, strict=True)) | (pool if branch else {})

    encoder = [convolution(3, WIDTH), block()]
    decoder = [{}, convolution(channels, WIDTH), {}, block(branch)]
    for halved in range(1, halvings + 1):
        encoder += [convolution(WIDTH, WIDTH, bias=False), block(branch and halved == halvings)]
        decoder += [{}, convolution(WIDTH, WIDTH, bias=False), block()]
    encoder.append(convolution(WIDTH, channels))
    decoder.append(convolution(WIDTH, 3))
    return _numbered(encoder), _numbered(decoder)


def save_state_dicts(folder: Path, encoder: State, decoder: State, name: str = "taef2") -> Path:
    """Saves both as they are published, and returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, state in (("encoder", encoder), ("decoder", decoder)):
        torch.save({key: value.half() for key, value in state.items()}, folder / f"{name}_{part}.pth")
    return folder


def _numbered(layers: list[State]) -> State:
    return {f"{place}.{name}": value for place, layer in enumerate(layers) for name, value in layer.items()}
