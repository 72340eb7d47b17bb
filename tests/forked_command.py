"""The whole life of a command in a process that ``tests/forked.py`` forks, which runs this file with `WORK` set."""

import importlib
import os
import resource
import sys
from pathlib import Path

from latenteditor.peak_memory import UNIT

WRAPPED = ["-m", "latenteditor.peak_memory"]
"""Words after Python's with which a command's memory is measured."""


def perform(words: list[str], target: dict[str, str], log: str, environment: dict[str, str]) -> None:
    """Calls what an installed command calls, its output in a log."""
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.environ.clear()
    os.environ.update(environment)
    peak = None
    if words[1:3] == WRAPPED:
        peak, words = Path(words[3]), words[4:]
    sys.argv = words
    module, function = target[Path(words[0]).name].split(":")
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        if peak is not None:
            peak.write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT))


perform(*globals()["WORK"])
