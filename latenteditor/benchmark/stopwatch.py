"""Seconds, rays and memory of a piece of work, without what it costs to look at it."""

import os
import re
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nerfstudio.model_components.scene_colliders import SceneCollider
from torch import nn

MIB = 1 << 20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Makes Linux forget a process's highest memory, see proc(5)."""


class Stopwatch:
    """Counts while it runs. Made standing still."""

    def __init__(self, device: torch.device) -> None:
        """Waits for this device before it reads a clock, and counts its memory where it is a GPU."""
        self._device = device
        self._on_gpu = torch.empty(0, device=device).is_cuda
        self.seconds = 0.0
        """On the wall."""
        self.cpu_seconds = 0.0
        """Of all cores together."""
        self.rays = 0
        """Rays that any scene has traced."""
        self.peak_memory = 0.0
        """Highest resident memory of the process, in MiB, its libraries and networks included."""
        self.peak_gpu_memory = 0.0
        """Highest memory of tensors on the GPU, in MiB; 0 without one."""
        self._started: tuple[float, float] | None = None
        self._hook: Any = None

    def start(self) -> None:
        """Goes on counting."""
        assert self._started is None
        self._hook = nn.modules.module.register_module_forward_pre_hook(self._count_rays)
        _forget_peak_memory()
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        self._started = time.perf_counter(), time.process_time()

    @property
    def elapsed(self) -> float:
        """Seconds on the wall, up to now where it runs."""
        return self.seconds + (time.perf_counter() - self._started[0] if self._started else 0.0)

    def stop(self) -> None:
        """Stands still, if it did not before."""
        if self._started is None:
            return
        if self._on_gpu:
            torch.cuda.synchronize(self._device)
            self.peak_gpu_memory = max(self.peak_gpu_memory, torch.cuda.max_memory_allocated(self._device) / MIB)
        self.seconds += time.perf_counter() - self._started[0]
        self.cpu_seconds += time.process_time() - self._started[1]
        self.peak_memory = max(self.peak_memory, _peak_memory())
        self._hook.remove()
        self._started = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Counts in the block."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stands still in the block, and afterwards goes on if it ran before."""
        was_running = self._started is not None
        if was_running:
            self.stop()
        try:
            yield
        finally:
            if was_running:
                self.start()

    def _count_rays(self, module: nn.Module, arguments: Any) -> None:
        """Every ray of every scene passes its collider."""
        if isinstance(module, SceneCollider):
            self.rays += len(arguments[0])


def _forget_peak_memory() -> None:
    """Makes the present memory the highest so far, where the system can."""
    if CLEAR.exists() and os.access(CLEAR, os.W_OK):
        CLEAR.write_text(RESET_PEAK)


def _peak_memory() -> float:
    """Highest resident memory in MiB: since it was forgotten on Linux, since the process began elsewhere."""
    if STATUS.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
        if found:
            return int(found[1]) / 1024
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / MIB if sys.platform == "darwin" else highest / 1024
