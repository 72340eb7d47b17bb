"""Where to compute, unless somebody says."""

import logging
from functools import cache
from time import perf_counter

import torch
from torch import nn

LOGGER = logging.getLogger(__name__)
SLOW = 3.0
"""By how much longer a layer takes in 16 bits where a processor has no instructions for them: measured at 8 to 50 times
there, and at most twice where it has."""


def default_device() -> str:
    """The accelerator of this machine, as torch names its kind; "cpu" where there is none that works."""
    # torch knows of an accelerator whose driver is missing, too.
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def is_cuda(device: torch.device | str) -> bool:
    """Whether a device is one that kernels written in CUDA run on, such as splatfacto's."""
    return torch.device(device).type == "cuda"


def half_dtype(device: torch.device | str, overflows_in_half: bool = False) -> torch.dtype:
    """The 16-bit numbers to compute in, or 32-bit ones where a CPU is slow in those; a line says so once.

    Args:
        device: Where.
        overflows_in_half: Whether a network leaves the range of float16.
    """
    if torch.device(device).type != "cpu":
        return torch.bfloat16 if overflows_in_half else torch.float16
    # float16 is slow or missing on a CPU.
    return torch.float32 if is_slow_in_half() else torch.bfloat16


@cache
def is_slow_in_half() -> bool:
    """Whether this CPU takes far longer in bfloat16 than in float32: measured once, on a small layer."""
    layer, image = nn.Conv2d(32, 32, 3, padding=1), torch.zeros(1, 32, 16, 16)
    full, half = (_seconds(layer.to(dtype), image.to(dtype)) for dtype in (torch.float32, torch.bfloat16))
    slow = half > SLOW * full
    if slow:
        LOGGER.warning(
            "This CPU has no instructions for 16-bit numbers: a layer takes %.0f times longer in them. Networks "
            "compute in 32 bits instead.",
            half / full,
        )
    return slow


@torch.no_grad()
def _seconds(layer: nn.Module, image: torch.Tensor) -> float:
    """The shortest of a few calls, after one that does not count."""
    layer(image)
    seconds = []
    for _ in range(5):
        begin = perf_counter()
        layer(image)
        seconds.append(perf_counter() - begin)
    return min(seconds)
