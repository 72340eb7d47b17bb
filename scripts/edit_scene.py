"""Runs a recipe of configs/: reconstruction, edit, held-out views of both, a video and figures, all by ns-* commands.

Every command is printed as it can be pasted into a shell. Run it again to go on where it was interrupted: what exists
is kept, and runs with other settings lie in other folders, so nothing is written over.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro

from latenteditor.recipes import Captions, Plan, Recipe, make_plan, read_recipe, words_of

INTERRUPTED = 130
"""The exit code of a command that was stopped from the keyboard."""


@dataclass
class Args:
    """Which recipe, and on what."""

    recipe: tyro.conf.Positional[Path]
    """A YAML file, such as configs/bear_panda.yaml."""
    data: Path
    """The capture's folder; the recipe says where to get it."""
    method: str | None = None
    """Edits with this method instead of the recipe's, as latenteditor-tiny or in2n."""
    output_dir: Path = Path("outputs")
    """Runs land in it, under the scene's name. Recipes with the same reconstruction share it."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where to train: any device nerfstudio knows."""
    dry_run: bool = False
    """Prints the commands and runs none of them."""


@dataclass(frozen=True)
class Training:
    """A run of ns-train."""

    name: str
    words: list[str]
    """What makes the run what it is; its folder is named after these."""
    folder: Path
    """Its config and its checkpoints."""
    iterations: int
    """How many steps it trains."""
    dataparser: list[str]
    device: str
    base: "Training | None" = None
    """The run it starts from."""

    @property
    def checkpoints(self) -> Path:
        """The folder that --load-dir takes."""
        return self.folder / "nerfstudio_models"

    @property
    def config(self) -> Path:
        """The file that --load-config takes."""
        return self.folder / "config.yml"

    @property
    def last_step(self) -> int:
        """The step of its last checkpoint once it is done. Steps are counted on from those of the base."""
        return self.iterations - 1 + (self.base.last_step + 1 if self.base else 0)

    @property
    def reached(self) -> int | None:
        """The step of the last checkpoint there is."""
        return max((int(path.stem.split("-")[1]) for path in self.checkpoints.glob("step-*.ckpt")), default=None)

    @property
    def is_done(self) -> bool:
        return self.reached is not None and self.reached >= self.last_step and self.config.is_file()

    @property
    def state(self) -> str:
        """What a reader should know before it runs."""
        return "" if self.reached is None else f"goes on after step {self.reached} of {self.last_step}"

    @property
    def result(self) -> Path:
        return self.folder

    @property
    def command(self) -> list[str]:
        """Trains what remains to be trained."""
        load, remaining = self.base and self.base.checkpoints, self.iterations
        if self.reached is not None:
            load, remaining = self.checkpoints, self.last_step - self.reached
        return [
            *self.words, "--timestamp", self.folder.name,
            "--machine.device-type", self.device, "--vis", "tensorboard",
            "--max-num-iterations", str(remaining),
            *(["--load-dir", str(load)] if load else []),
            *self.dataparser,
        ]  # fmt: skip

    def begin(self) -> None:
        """A run that begins anew or goes on needs nothing prepared."""

    def end(self) -> None:
        """Refuses a run that ended before its last step, though it said nothing."""
        if not self.is_done:
            raise ValueError(f"{self.name} ended without a checkpoint of step {self.last_step} in {self.checkpoints}.")


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

VIEWS = Path("test/rgb")
"""Where ns-render puts the pictures of held-out views."""


@dataclass
class Folders:
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
        identity = [*command[:4], *command[6:], str(iterations), *self.dataparser, base.folder.name if base else ""]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:8]
        folder = self.output_dir / self.scene / method / f"{run}-{digest}"
        return Training(name, command, folder, iterations, self.dataparser, self.device, base)


def main(args: Args) -> None:
    """Prints the plan, then runs what of it is not there yet."""
    recipe = read_recipe(args.recipe)
    try:
        plan = make_plan(recipe, args.method)
    except ValueError as error:
        raise ValueError(f"{args.recipe}: {error}") from None
    if not args.dry_run and not args.data.exists():
        raise ValueError(
            f"There is no {args.data}. {recipe.scene.name}: {recipe.scene.source}, {recipe.scene.download}"
        )
    say(f"{args.recipe.stem}: {recipe.prompt!r} on {recipe.scene.name}, by {plan.method} on {plan.reconstruction}")
    say(f'captions: "{recipe.captions.source}" to "{recipe.captions.target}"')
    for setting in plan.skipped:
        say(f"skipped: {plan.method} has no {setting.dotted}, which {recipe.method} sets to {setting.value!r}")
    if shutil.which("ffmpeg") is None:
        say("no ffmpeg on the PATH: pasted commands need it for the video, this script takes that of imageio-ffmpeg")
    stages = make_stages(args, recipe, plan)
    if args.dry_run:
        for stage in stages:
            run(stage, None)
        return
    with environment_with_ffmpeg() as environment:
        for stage in stages:
            run(stage, environment)
    say(f"everything about this edit lies in {stages[1].result}")


def make_stages(args: Args, recipe: Recipe, plan: Plan) -> list[Stage]:
    """What happens, in its order."""
    output_dir, data = args.output_dir.resolve(), args.data.resolve()
    folders = Folders(output_dir, data, recipe.scene.name, args.device, plan.dataparser)
    scene = folders.training(
        "reconstruction",
        "reconstruction",
        plan.reconstruction,
        plan.reconstruction_iterations,
        words_of(plan.reconstruction_settings),
    )
    words = ["--pipeline.edit.prompt", recipe.prompt, *words_of(plan.settings)]
    edit = folders.training("edit", args.recipe.stem, plan.method, plan.iterations, words, scene)
    video, figures = edit.folder / "edit.mp4", edit.folder / "figures.json"
    unedited_views, edited_views = held_out_views("unedited views", scene), held_out_views("edited views", edit)
    return [
        scene,
        edit,
        unedited_views,
        edited_views,
        measures(unedited_views, edited_views, edit.folder / "measures", recipe.captions),
        Output("video", ns("ns-render", "interpolate", edit, video, "--rendered-output-names", "rgb"), video),
        Output("evaluation", ns("ns-eval", "", edit, figures), figures),
    ]


def held_out_views(name: str, training: Training) -> Output:
    """Pictures of the held-out views, which are compared between two runs."""
    views = training.folder / "views"
    flags = ["--split", "test", "--rendered-output-names", "rgb", "--image-format", "png"]
    return Output(name, ns("ns-render", "dataset", training, views, *flags), views)


def measures(unedited: Output, edited: Output, folder: Path, captions: Captions) -> Output:
    """What the edit changed on the held-out views, by CLIP among others where it can be had."""
    command = [
        "python", str(Path(__file__).with_name("evaluate_edit.py")),
        "--original", str(unedited.result / VIEWS), "--edited", str(edited.result / VIEWS), "--output", str(folder),
        "--source-caption", captions.source, "--target-caption", captions.target,
    ]  # fmt: skip
    return Output("measures", command, folder)


def ns(command: str, subcommand: str, training: Training, output: Path, *flags: str) -> list[str]:
    """A command that loads a run and writes something."""
    words = [command, *([subcommand] if subcommand else []), "--load-config", str(training.config)]
    return [*words, "--output-path", str(output), *flags]


def run(stage: Stage, environment: dict[str, str] | None) -> None:
    """Runs a stage, unless its result exists, and shows its output; without an environment, prints it only.

    Raises:
        SystemExit: Its command failed, with the command's own exit code.
    """
    if stage.is_done:
        say(f"{stage.name}: exists, kept: {stage.result}")
        return
    say(f"{stage.name}: {stage.state}" if stage.state else stage.name)
    command = stage.command
    print(shlex.join(command), flush=True)
    if environment is None:
        return
    executable = Path(sys.executable).with_name(command[0])
    if not executable.exists():
        raise ValueError(f"There is no {executable}: install nerfstudio into this environment.")
    stage.begin()
    code = call([str(executable), *command[1:]], environment)
    if code:
        print(f"{stage.name}: {command[0]} ended with exit code {code}. Run this again to go on.", file=sys.stderr)
        raise SystemExit(code)
    stage.end()


def call(command: list[str], environment: dict[str, str]) -> int:
    """The exit code of a command, as a shell would state it."""
    try:
        code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        return INTERRUPTED
    return code if code >= 0 else 128 - code


@contextmanager
def environment_with_ffmpeg() -> Iterator[dict[str, str]]:
    """The environment; where ns-render would find no ffmpeg in it, with the one that came as a Python package."""
    if shutil.which("ffmpeg") is not None:
        yield dict(os.environ)
        return
    import imageio_ffmpeg

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())
        yield {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"}


def say(text: str) -> None:
    """A line that a shell takes for a comment."""
    print(f"# {text}", flush=True)


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
