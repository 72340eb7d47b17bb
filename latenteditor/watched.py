"""A command that takes long, and how far it has come: read from its log, told to whoever waits."""

import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from latenteditor.runs import Say, command_environment, installed

TAIL = 8192
"""Bytes at the end of a log in which the last sign of progress is looked for."""
PATIENCE = 2.0
"""Seconds from one look to the next."""
STEP = 0.1
"""Share of the work from one line to the next."""
SIGNS = (re.compile(r"^\d+ \((\d+(?:\.\d+)?)%\)", re.MULTILINE), re.compile(r"(\d+) of (\d+)\b"))
"""How the host and this package say how far they are."""


@dataclass
class Progress:
    """How far a command has come, and when it says so next."""

    title: str
    """What it does."""
    say: Say
    """Is told."""
    began: float
    """When it did, in seconds of a clock."""
    first: float | None = None
    """The first share of the work that was heard of: a run that goes on does not begin at none."""
    told: float = 0.0
    """The share that was told last."""

    def look(self, share: float | None, now: float) -> None:
        """Tells how far it is and how long it will take, where there is news."""
        if share is None:
            return
        if self.first is None:
            self.first = self.told = share
        if share - self.told < STEP or share <= self.first or share >= 1:
            return
        self.told = share
        left = (now - self.began) * (1 - share) / (share - self.first)
        self.say(f"  {self.title}: {share:.0%}, about {spoken(left)} left")


def run_watched(command: list[str], log: Path, title: str, say: Say) -> int:
    """Runs a command of this environment, tells how far it is, and returns the most main memory it held, in bytes.

    Raises:
        ValueError: It failed; the error shows the end of the log.
    """
    peak = log.with_suffix(".peak")
    words = [sys.executable, "-m", "latenteditor.peak_memory", str(peak), *installed(command)]
    progress = Progress(title, say, time.monotonic())
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as output, command_environment(TORCHDYNAMO_DISABLE="1") as environment:
        process = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            _wait(process, lambda: progress.look(share_done(log), time.monotonic()))
        except BaseException:
            process.terminate()  # It saves what it has, and leaves.
            process.wait()
            raise
    if process.returncode:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-5:])
        raise ValueError(f"{' '.join(command[:2])} failed; the end of {log}:\n{last}")
    held = int(peak.read_text())
    peak.unlink()
    return held


def share_done(log: Path) -> float | None:
    """The share of the work that a log speaks of last; None where it speaks of none."""
    with log.open("rb") as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - TAIL))
        tail = file.read().decode(errors="replace")
    found = [sign for pattern in SIGNS for sign in pattern.finditer(tail)]
    if not found:
        return None
    last = max(found, key=lambda sign: sign.start())
    numbers = [float(number) for number in last.groups()]
    share = numbers[0] / 100 if len(numbers) == 1 else numbers[0] / max(numbers[1], 1.0)
    return min(share, 1.0)


def spoken(seconds: float) -> str:
    """A duration as somebody would say it."""
    minutes = round(seconds / 60)
    return (
        f"{max(1, round(seconds))} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
    )


def _wait(process: "subprocess.Popen[bytes]", look: Callable[[], object]) -> None:
    while True:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            look()
        else:
            return
