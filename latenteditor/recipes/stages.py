"""The commands that a recipe becomes, run one after the other; what exists is kept."""

import hashlib
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latenteditor.options import words_of
from latenteditor.recipes.plan import Plan
from latenteditor.recipes.recipe import Captions, Recipe
from latenteditor.runs import Run, command_environment, installed, words_to_finish

INTERRUPTED = 130
"""The exit code of a command that was stopped from the keyboard."""
VIEWS = Path("test/rgb")
"""Where ns-render puts the pictures of held-out views."""

Show = Callable[[str], object]
"""Shows a line."""


class StageFailed(Exception):
    """A stage's command failed."""

    def __init__(self, stage: str, program: str, code: int) -> None:
        """Of the stage of this name, the program ended with an exit code."""
        super().__init__(f"{stage}: {program} ended with exit code {code}. Run this again to go on.")
        self.code = code


@dataclass(frozen=True)
class Training:
    """A run of ns-train."""

    name: str
    words: list[str]
    """What makes the run what it is; its folder is named after these."""
    run: Run
    iterations: int
    """How many steps it trains."""
    dataparser: list[str]
    device: str
    base: "Training | None" = None
    """The run it starts from."""

    @property
    def first_step(self) -> int:
        """Steps are counted on from those of the base."""
        return self.base.last_step + 1 if self.base else 0

    @property
    def last_step(self) -> int:
        """The step of its last checkpoint once it is done."""
        return self.first_step + self.iterations - 1

    @property
    def is_done(self) -> bool:
        """Whether its last checkpoint is there."""
        return self.run.is_finished(self.last_step)

    @property
    def state(self) -> str:
        """What a reader should know before it runs."""
        reached = self.run.newest_step
        return "" if reached is None else f"goes on after step {reached} of {self.last_step}"

    @property
    def result(self) -> Path:
        """Its folder."""
        return self.run.path

    @property
    def command(self) -> list[str]:
        """Trains what remains to be trained."""
        return [
            *self.words, "--timestamp", self.run.name,
            "--machine.device-type", self.device, "--vis", "tensorboard",
            *words_to_finish(self.run, self.first_step, self.last_step, self.base and self.base.run),
            *self.dataparser,
        ]  # fmt: skip

    def begin(self) -> None:
        """A run that begins anew or goes on needs nothing prepared."""

    def end(self) -> None:
        """Refuses a run that ended before its last step, though it said nothing."""
        if not self.is_done:
            raise ValueError(
                f"{self.name} ended without a checkpoint of step {self.last_step} in {self.run.checkpoints}."
            )


@dataclass(frozen=True)
class Output:
    """A command that looks at a run and writes one file or folder."""

    name: str
    command: list[str]
    result: Path

    @property
    def mark(self) -> Path:
        """Stands beside the result from when the command begins until it ends well."""
        return self.result.with_name(f"{self.result.name}.unfinished")

    @property
    def is_done(self) -> bool:
        """Whether the result is there, and whole."""
        return self.result.exists() and not self.mark.exists()

    @property
    def state(self) -> str:
        """What a reader should know before it runs."""
        return "was interrupted: begins again" if self.mark.exists() else ""

    def begin(self) -> None:
        """Clears what an interrupted command left, which the mark says is ours."""
        if self.mark.exists() and self.result.is_dir():
            shutil.rmtree(self.result)
        elif self.mark.exists():
            self.result.unlink(missing_ok=True)
        self.mark.parent.mkdir(parents=True, exist_ok=True)
        self.mark.touch()

    def end(self) -> None:
        """Declares the result whole."""
        if not self.result.exists():
            raise ValueError(f"{self.name} ended without {self.result}.")
        self.mark.unlink()


Stage = Training | Output


@dataclass(frozen=True)
class Workplace:
    """Where the runs of a scene lie; absolute, because nerfstudio keeps paths as given and reads them from anywhere."""

    output_dir: Path
    data: Path
    scene: str
    device: str
    dataparser: list[str]

    def training(
        self, name: str, run: str, method: str, iterations: int, words: Sequence[str], base: Training | None = None
    ) -> Training:
        """A run whose folder's name tells it from runs with other settings, other data or another base."""
        command = [
            "ns-train", method, "--data", str(self.data), "--output-dir", str(self.output_dir),
            "--experiment-name", self.scene, *words,
        ]  # fmt: skip
        identity = [*command[:4], *command[6:], str(iterations), *self.dataparser, base.run.name if base else ""]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
        place = Run(self.output_dir, method, f"{run}-{digest}", self.scene, outputs=".")
        return Training(name, command, place, iterations, self.dataparser, self.device, base)


def make_stages(recipe: Recipe, plan: Plan, name: str, data: Path, output_dir: Path, device: str) -> list[Stage]:
    """What happens, in its order.

    Args:
        recipe: The edit.
        plan: What of it reaches the commands.
        name: The recipe's; its edit's folder begins with it.
        data: The capture's folder.
        output_dir: Where runs land.
        device: Any device nerfstudio knows.
    """
    place = Workplace(output_dir.resolve(), data.resolve(), recipe.scene.name, device, plan.dataparser)
    words = words_of(plan.reconstruction_settings)
    scene = place.training(
        "reconstruction", "reconstruction", plan.reconstruction, plan.reconstruction_iterations, words
    )
    words = ["--pipeline.edit.prompt", recipe.prompt, *words_of(plan.settings)]
    edit = place.training("edit", name, plan.method, plan.iterations, words, scene)
    video, figures = edit.result / "edit.mp4", edit.result / "figures.json"
    unedited_views, edited_views = _held_out_views("unedited views", scene), _held_out_views("edited views", edit)
    return [
        scene,
        edit,
        unedited_views,
        edited_views,
        _measures(unedited_views, edited_views, edit.result / "measures", recipe.captions),
        Output("video", _ns("ns-render", "interpolate", edit, video, "--rendered-output-names", "rgb"), video),
        Output("evaluation", _ns("ns-eval", "", edit, figures), figures),
    ]


def run_stages(stages: Sequence[Stage], show: Show) -> None:
    """Runs what of some stages is not there yet.

    Raises:
        StageFailed: A command failed.
        ValueError: A command is not installed, or ended well without its result.
    """
    with command_environment() as environment:
        for stage in stages:
            if not show_stage(stage, show):
                _run(stage, environment)


def show_stage(stage: Stage, show: Show) -> bool:
    """Shows a stage's command as it can be pasted into a shell, and returns whether its result exists already."""
    if stage.is_done:
        show(f"# {stage.name}: exists, kept: {stage.result}")
        return True
    show(f"# {stage.name}: {stage.state}" if stage.state else f"# {stage.name}")
    show(shlex.join(stage.command))
    return False


def call(command: Sequence[str], environment: Mapping[str, str]) -> int:
    """The exit code of a command, as a shell would state it."""
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


def _run(stage: Stage, environment: Mapping[str, str]) -> None:
    """Runs a stage, and shows its output."""
    command = stage.command
    executable = installed(command)
    stage.begin()
    code = call(executable, environment)
    if code:
        raise StageFailed(stage.name, command[0], code)
    stage.end()


def _held_out_views(name: str, training: Training) -> Output:
    """Pictures of the held-out views, which are compared between two runs."""
    views = training.result / "views"
    flags = ["--split", "test", "--rendered-output-names", "rgb", "--image-format", "png"]
    return Output(name, _ns("ns-render", "dataset", training, views, *flags), views)


def _measures(unedited: Output, edited: Output, folder: Path, captions: Captions) -> Output:
    """What the edit changed on the held-out views, by CLIP among others where it can be had."""
    command = [
        "latenteditor", "evaluate",
        "--original", str(unedited.result / VIEWS), "--edited", str(edited.result / VIEWS), "--output", str(folder),
        "--source-caption", captions.source, "--target-caption", captions.target,
    ]  # fmt: skip
    return Output("measures", command, folder)


def _ns(command: str, subcommand: str, training: Training, output: Path, *flags: str) -> list[str]:
    """A command that loads a run and writes something."""
    words = [command, *([subcommand] if subcommand else []), "--load-config", str(training.run.config)]
    return [*words, "--output-path", str(output), *flags]
