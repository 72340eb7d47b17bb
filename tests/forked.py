"""Processes of their own without the seconds that each spends on imports: forked from one that has them already.

What runs in them runs as it does for users: pytest and its checks of types are not there.
"""

import runpy
import subprocess
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from latenteditor import runs, watched

COMMAND = Path(__file__).with_name("forked_command.py")
"""What runs in them."""
COMMANDS = {
    "ns-train": "nerfstudio.scripts.train:entrypoint",
    "ns-render": "nerfstudio.scripts.render:entrypoint",
    "latenteditor": "latenteditor.cli:main",
}
"""The installed commands by name, and what they call."""


class Forked(subprocess.Popen):
    """What is used of its base class, for an installed command."""

    _child_created = False
    """The base class has nothing to look after."""

    def __init__(self, words: list[str], stdout: Any, stderr: int, env: dict[str, str]) -> None:
        """Starts it; its output goes to the file `stdout`."""
        assert stderr == subprocess.STDOUT
        self._words = words
        work = words, COMMANDS, stdout.name, dict(env)
        self._process = _context().Process(target=runpy.run_path, args=(str(COMMAND), {"WORK": work}))
        self._process.start()

    @property
    def returncode(self) -> int | None:  # type: ignore[override]
        """What it ended with; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Waits for its end."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0)
        return self.returncode

    def terminate(self) -> None:
        """Asks it to end."""
        self._process.terminate()


def fork_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the package's commands start so, while a test runs."""
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")

    def run(words: list[str], check: bool, **options: Any) -> Forked:
        process = Forked(words, **options)
        process.wait()
        return process

    forking = SimpleNamespace(run=run, Popen=Forked, STDOUT=subprocess.STDOUT, TimeoutExpired=subprocess.TimeoutExpired)
    for module in (runs, watched):
        monkeypatch.setattr(module, "subprocess", forking)


def _context() -> Any:
    """The server that forks, one for each process of pytest."""
    context = get_context("forkserver")
    context.set_forkserver_preload([target.split(":")[0] for target in COMMANDS.values()] + ["latenteditor.methods"])
    return context
