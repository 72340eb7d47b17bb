"""What is known of the held-out views of a built-in world."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.pictures import read_images, read_regions
from latenteditor.worlds.dataset import truth_folder


@dataclass(frozen=True)
class HeldOut:
    """The held-out views of one world, in one order throughout."""

    names: list[str]
    """Their files."""
    photographs: Float[Tensor, "views 3 height width"]
    """The world as it was."""
    truth: Float[Tensor, "views 3 height width"]
    """The world as it should become."""
    region: Bool[Tensor, "views 1 height width"]
    """Where the two differ."""


def held_out_names(dataset: Path) -> list[str]:
    """The files of the held-out views, in the order of the dataset."""
    content = json.loads((dataset / "transforms.json").read_text())
    return [Path(name).name for name in content["test_filenames"]]


def read_held_out(dataset: Path, prompt: str) -> HeldOut:
    """Reads photographs and truth of the held-out views; without a prompt, the truth is that nothing changes."""
    names = held_out_names(dataset)
    photographs = read_images(dataset / "images", names)
    if not prompt:
        return HeldOut(names, photographs, photographs, torch.ones_like(photographs[:, :1], dtype=torch.bool))
    truth = truth_folder(dataset, prompt)
    return HeldOut(names, photographs, read_images(truth / "images", names), read_regions(truth / "region", names))
