"""The ns-* commands that reconstruct, edit and render a built-in world, run stage by stage.

A world has a folder of its own::

    world/                  its photographs and truth, see ``worlds/dataset.py``
    runs/world/METHOD/NAME  runs of ns-train
    prompt.txt              the instruction it was begun with
    seconds.json            the stages that are done, and how long each took
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

Say = Callable[[str], object]
"""Tells whoever waits what has been done."""
say: Say = partial(print, flush=True)
"""Prints a line that is seen at once, also where the output goes to a file."""


@dataclass(frozen=True)
class Run:
    """A run of ns-train, on the world of a folder or on another scene: where it lies, and how far it has come."""

    folder: Path
    """The world's folder, absolute: the host keeps paths as given, and reads them from anywhere."""
    method: str
    """The registered method that trains."""
    name: str = "run"
    """Tells runs of one method apart."""
    experiment: str = "world"
    """The scene, as --experiment-name says."""
    outputs: str = "runs"
    """What in the folder --output-dir names; "." for the folder itself."""

    @property
    def output_dir(self) -> Path:
        """Where all runs lie."""
        return self.folder / self.outputs

    @property
    def path(self) -> Path:
        """Where ns-train writes it."""
        return self.output_dir / self.experiment / self.method / self.name

    @property
    def label(self) -> str:
        """What files about it are called in the world's folder."""
        return self.method if self.name == "run" else f"{self.method}-{self.name}"

    @property
    def config(self) -> Path:
        """What other commands load it by."""
        return self.path / "config.yml"

    @property
    def checkpoints(self) -> Path:
        """What a further run goes on from."""
        return self.path / "nerfstudio_models"

    @property
    def newest_step(self) -> int | None:
        """The step of its newest checkpoint; None where there is none."""
        return max((int(path.stem.split("-")[1]) for path in self.checkpoints.glob("step-*.ckpt")), default=None)

    def is_finished(self, last_step: int) -> bool:
        """Whether it has come to a step, and can be loaded."""
        return self.newest_step is not None and self.newest_step >= last_step and self.config.is_file()


def words_to_finish(run: Run, first_step: int, last_step: int, base: Run | None = None) -> list[str]:
    """Words that let ns-train train what remains of a run.

    Args:
        run: It goes on from its newest checkpoint.
        first_step: Of the whole run.
        last_step: Of the whole run.
        base: The run whose newest checkpoint it begins from; None begins from nothing.
    """
    newest = run.newest_step
    source, reached = (base, first_step - 1) if newest is None else (run, newest)
    load = [] if source is None else ["--load-dir", str(source.checkpoints)]
    return ["--max-num-iterations", str(last_step - reached), *load]


def render_command(run: Run, what: str, *flags: object) -> list[str]:
    """Renders a run: "dataset", "interpolate" or another subcommand of ns-render."""
    return command_line("ns-render", what, "--load-config", run.config, *flags)


def command_line(*words: object) -> list[str]:
    """Words as a process takes them."""
    return [str(word) for word in words]


def find_ffmpeg() -> str | None:
    """The ffmpeg on the PATH, else the one that came as a Python package, if it has one for this machine."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    import imageio_ffmpeg

    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        return None


def run_command(command: list[str], log: Path) -> None:
    """Runs a command of this environment, its output kept in a log.

    Raises:
        ValueError: It failed; the error shows the end of the log.
    """
    _run(installed(command), log, " ".join(command[:2]))


def run_measured(command: list[str], log: Path) -> int:
    """Runs a command as `run_command` does, and returns the most main memory it held, in bytes.

    Raises:
        ValueError: It failed; the error shows the end of the log.
    """
    file = log.with_suffix(".peak")
    words = [sys.executable, "-m", "latenteditor.peak_memory", str(file), *installed(command)]
    _run(words, log, " ".join(command[:2]))
    peak = int(file.read_text())
    file.unlink()
    return peak


def run_stages(stages: Mapping[str, Callable[[], object]], log: Path, last: str, say: Say) -> dict[str, float]:
    """Runs the stages that an interrupted run did not finish.

    Args:
        stages: What is to be done, by name and in its order.
        log: JSON of the seconds that each finished stage took.
        last: The stage after which to stop.
        say: Is told of each stage as it ends.

    Returns:
        The seconds of each stage up to the last that are done, now or before.

    Raises:
        ValueError: There is no stage of the name `last`.
    """
    if last not in stages:
        raise ValueError(f"There is no stage {last!r} to stop after: one of {', '.join(stages)} fits.")
    seconds = json.loads(log.read_text()) if log.exists() else {}
    for name, stage in stages.items():
        if name not in seconds:
            started = time.perf_counter()
            stage()
            seconds[name] = round(time.perf_counter() - started, 1)
            log.write_text(json.dumps(seconds, indent=2) + "\n")
            say(f"{name}: {seconds[name]} s")
        if name == last:
            break
    return seconds


def keep_to_prompt(folder: Path, prompt: str) -> None:
    """Refuses to go on with a world's folder that was begun with another prompt, and notes the prompt of a new one.

    Raises:
        ValueError: The folder holds stages of another prompt.
    """
    file = folder / "prompt.txt"
    if file.exists() and file.read_text() != prompt:
        raise ValueError(f"{folder} was begun with {file.read_text()!r}, not {prompt!r}: choose another --output.")
    file.write_text(prompt)


def installed(command: list[str]) -> list[str]:
    """A command of this environment, by its path.

    Raises:
        ValueError: It is not installed.
    """
    executable = Path(sys.executable).with_name(command[0])
    if not executable.exists():
        raise ValueError(f"There is no {executable}: install nerfstudio and latenteditor into this environment.")
    return [str(executable), *command[1:]]


def _run(words: list[str], log: Path, title: str) -> None:
    """Runs words as they are."""
    # Nothing here compiles; 3 s of imports are saved.
    with log.open("w") as output, command_environment(TORCHDYNAMO_DISABLE="1") as environment:
        result = subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False)
    if result.returncode:
        last = "\n".join(log.read_text().splitlines()[-5:])
        raise ValueError(f"{title} failed; the end of {log}:\n{last}")


@contextmanager
def command_environment(**defaults: str) -> Iterator[dict[str, str]]:
    """The variables of a command; it finds ffmpeg by its name, as ns-render asks for it, wherever there is one.

    Args:
        defaults: Variables that are set unless they are already.
    """
    environment = {**defaults, **os.environ}
    ffmpeg = None if shutil.which("ffmpeg") else find_ffmpeg()
    with TemporaryDirectory(prefix="ffmpeg-") as folder:
        if ffmpeg is not None:
            (Path(folder) / "ffmpeg").symlink_to(ffmpeg)
            environment["PATH"] = os.pathsep.join([folder, environment.get("PATH", "")])
        yield environment
