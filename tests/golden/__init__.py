"""Runs as the package saved them once, so that no later version leaves them behind: see ``test_saved_runs.py``.

Each folder holds a method's ``config.yml`` and ``checkpoint.txt``, what its checkpoint consists of: containers and
numbers as they are, tensors as `SavedTensor` describes them. Paths are relative to the folder the run was made in.
"""

import ast
import math
import pprint
from pathlib import Path
from typing import Any, NamedTuple

import torch

FOLDER = Path(__file__).parent
METHODS = tuple(sorted(path.name for path in FOLDER.iterdir() if (path / "config.yml").is_file()))
KEPT = 16
"""Values of tensors with no more elements are written down: bounds, statistics, counters."""


class SavedTensor(NamedTuple):
    """What is kept of a tensor."""

    dtype: str
    shape: tuple[int, ...]
    values: list[Any] | None
    """All of them, or None where there are too many."""


def describe(state: Any) -> Any:
    """What a checkpoint consists of, in Python's own literals."""
    if isinstance(state, dict):
        return {key: describe(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(describe(value) for value in state)
    if isinstance(state, torch.Tensor):
        values = state.flatten().tolist() if state.numel() <= KEPT else None
        return {"dtype": str(state.dtype).removeprefix("torch."), "shape": tuple(state.shape), "values": values}
    return state.item() if hasattr(state, "item") else state


def rebuild(state: Any) -> Any:
    """A checkpoint of that kind; where a tensor's values are not known, others stand for them."""
    if isinstance(state, dict) and set(state) == set(SavedTensor._fields):
        return _tensor(SavedTensor(**state))
    if isinstance(state, dict):
        return {key: rebuild(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(rebuild(value) for value in state)
    return state


def write(folder: Path, checkpoint: dict[str, Any]) -> None:
    """Writes down what a checkpoint consists of."""
    (folder / "checkpoint.txt").write_text(pprint.pformat(describe(checkpoint), width=200, compact=True) + "\n")


def read(method: str) -> dict[str, Any]:
    """A checkpoint like the one that a method saved."""
    return rebuild(ast.literal_eval((FOLDER / method / "checkpoint.txt").read_text()))


def _tensor(saved: SavedTensor) -> torch.Tensor:
    dtype = getattr(torch, saved.dtype)
    if saved.values is not None:
        return torch.tensor(saved.values, dtype=dtype).reshape(saved.shape)
    generator = torch.Generator().manual_seed(0)
    if dtype == torch.uint8:  # The state of a generator.
        return generator.get_state()
    noise = torch.randn(saved.shape, generator=generator) / math.prod(saved.shape) ** 0.25
    return noise.abs().to(dtype) if dtype.is_floating_point else noise > 0
