"""Commands that reconstruct and edit built-in worlds: nerfstudio reads them as they are meant."""

import dataclasses
import json
import subprocess
import sys
from itertools import starmap
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from latenteditor.benchmark.world_runs import WorldConfig, decay_flags, edit_flags, train_command
from latenteditor.options import all_options, differences
from latenteditor.runs import Run

FOLDER = Path("/worlds/7")
DEVICE = "cpu"


def value_after(command: list[str], flag: str) -> str:
    assert command.count(flag) == 1
    return command[command.index(flag) + 1]


def test_training_writes_where_its_run_is_looked_for():
    run = Run(FOLDER, "latent-nerfacto", "base")
    command = train_command(run, WorldConfig(), DEVICE, 30)
    names = [value_after(command, flag) for flag in ("--output-dir", "--experiment-name")]
    assert Path(*names, command[1], value_after(command, "--timestamp")) == run.path
    assert all(isinstance(word, str) for word in command)


def test_every_learning_rate_decays_over_reconstruction_and_edit_together():
    config = WorldConfig(reconstruction_steps=100, edit_steps=23)
    command = train_command(Run(FOLDER, "latent-nerfacto"), config, DEVICE, 100)
    words = [str(word) for word in decay_flags(123)]
    assert words[1::2] == ["123"] * len(words[::2])
    assert [value_after(command, flag) for flag in words[::2]] == words[1::2]


PARSE = """
import dataclasses, json, sys
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion

for command in json.load(sys.stdin):
    read = tyro.cli(AnnotatedBaseConfigUnion, args=command[1:])
    pipeline = dataclasses.asdict(read.pipeline)
    print(json.dumps([
        pipeline.get("edit"), pipeline.get("schedule"), pipeline["model"], pipeline["datamanager"]["image_size"],
        read.get_base_dir(), read.load_dir, read.data, read.max_num_iterations,
    ], default=str))
"""
"""Nerfstudio's own command line, in a process of its own: its configs do not pass the checks of types here."""


def parse(commands: list[list[str]]) -> list[Any]:
    """What nerfstudio makes of its commands."""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input=json.dumps(commands), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("[")]


def other_value(kind: Any, value: Any) -> Any:
    """A value of an option's type that it is not set to; None where it may be and is not."""
    kinds = get_args(kind)
    if get_origin(kind) is Literal:
        return next(choice for choice in kinds if choice != value)
    if type(None) in kinds:
        return kinds[0](7) if value is None else None
    if get_origin(kind) is tuple:
        return tuple(starmap(other_value, zip(kinds, value, strict=True)))
    if dataclasses.is_dataclass(value):
        return other_values(value)
    changed = {bool: lambda: not value, int: lambda: value + 3, float: lambda: value / 3 + 0.01, str: lambda: "a 'b' c"}
    return changed[kind]()


def other_values(config: Any) -> Any:
    """A config of which every option is set to something else."""
    kinds = get_type_hints(type(config))
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return type(config)(**{name: other_value(kinds[name], value) for name, value in values.items()})


def test_nerfstudio_reads_training_commands_as_they_are_meant():
    config = WorldConfig(size=64, edit_steps=5, steps_per_edit=2, near_plane=0.2, max_res=40)
    base, run = Run(FOLDER, "latent-nerfacto"), Run(FOLDER, "latenteditor", "field")
    prompt = "make the cone blue"
    changed = other_values(config.edit)
    assert differences(changed, config.edit) == [option.dotted for option in all_options(config.edit)]
    edits = [changed, other_values(changed)]
    configs = [dataclasses.replace(config, edit=edit) for edit in edits]
    finished = parse(
        [
            train_command(base, config, DEVICE, 9),
            *(train_command(run, each, DEVICE, 5, *edit_flags(each, prompt, base)) for each in configs),
        ]
    )
    asked = [(base, None, None, 9), *((run, base.checkpoints, edit, 5) for edit in edits)]
    for (edit, schedule, model, size, path, load_dir, data, steps), wanted in zip(finished, asked, strict=True):
        wanted_run, wanted_load_dir, wanted_edit, wanted_steps = wanted
        assert (path, data) == (str(wanted_run.path), str(FOLDER / "world"))
        assert load_dir == (wanted_load_dir and str(wanted_load_dir))
        assert (model["near_plane"], model["max_res"], size, steps) == (0.2, 40, 64, wanted_steps)
        if wanted_edit is not None:
            asked_for = dataclasses.asdict(dataclasses.replace(wanted_edit, prompt=prompt))
            assert edit == json.loads(json.dumps(asked_for))
            assert schedule["steps_per_edit"] == 2
