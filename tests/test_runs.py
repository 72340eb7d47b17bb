"""Commands on built-in worlds: nerfstudio reads them as they are meant, and what is done is not done again."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from latenteditor.benchmark.world_runs import WorldConfig, decay_flags, edit_flags, train_command
from latenteditor.options import all_options, differences
from latenteditor.runs import Run, render_command, require_prompt, run_command, run_measured, run_stages

FOLDER = Path("/worlds/7")
DEVICE = "cpu"


def value_after(command: list[str], flag: str) -> str:
    assert command.count(flag) == 1
    return command[command.index(flag) + 1]


def test_runs_of_one_method_lie_in_folders_of_their_own():
    one, other = Run(FOLDER, "latenteditor", "field"), Run(FOLDER, "latenteditor", "per-view")
    assert one.path != other.path
    for run in (one, other):
        assert run.config.parent == run.checkpoints.parent == run.path


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
            assert edit == dataclasses.asdict(dataclasses.replace(wanted_edit, prompt=prompt))
            assert schedule["steps_per_edit"] == 2


def test_renders_load_the_run():
    run = Run(FOLDER, "latenteditor")
    command = render_command(run, "dataset", "--split", "test")
    assert command == ["ns-render", "dataset", "--load-config", str(run.config), "--split", "test"]


def recorder(done: list[str], *names: str):
    return {name: lambda name=name: done.append(name) for name in names}


def test_stages_run_in_order_up_to_the_last(tmp_path):
    done, said = [], []
    seconds = run_stages(recorder(done, "first", "second", "third"), tmp_path / "log.json", "second", said.append)
    assert done == list(seconds) == ["first", "second"]
    assert [line.split(":")[0] for line in said] == done


def test_an_interrupted_run_goes_on_with_the_stage_that_failed(tmp_path):
    done: list[str] = []
    stages = recorder(done, "first", "second", "third")

    def fail() -> None:
        raise KeyboardInterrupt

    log = tmp_path / "log.json"
    with pytest.raises(KeyboardInterrupt):
        run_stages({**stages, "second": fail}, log, "third", str)
    assert list(json.loads(log.read_text())) == ["first"]
    seconds = run_stages(stages, log, "third", str)
    assert done == ["first", "second", "third"] == list(seconds)
    assert run_stages(stages, log, "third", str) == seconds
    assert done == ["first", "second", "third"]


def test_an_unknown_last_stage_is_refused_before_anything_runs(tmp_path):
    done: list[str] = []
    with pytest.raises(ValueError, match=r"no stage 'thrid'.*first, third"):
        run_stages(recorder(done, "first", "third"), tmp_path / "log.json", "thrid", str)
    assert done == []


def test_a_folder_keeps_to_the_prompt_it_was_begun_with(tmp_path):
    require_prompt(tmp_path, "make the cone blue")
    require_prompt(tmp_path, "make the cone blue")
    with pytest.raises(ValueError, match="begun with 'make the cone blue', not 'make the cone red'"):
        require_prompt(tmp_path, "make the cone red")


def test_a_command_leaves_its_output_in_the_log(tmp_path):
    run_command(
        [Path(sys.executable).name, "-c", "import sys; print('out'); print('err', file=sys.stderr)"], tmp_path / "log"
    )
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_a_failed_command_shows_the_end_of_its_log(tmp_path):
    script = "print(*range(9), sep='\\n'); raise SystemExit(3)"
    with pytest.raises(ValueError, match=r"(?s)-c failed; the end of .*log:\n4\n5\n6\n7\n8$"):
        run_command([Path(sys.executable).name, "-c", script], tmp_path / "log")


def test_a_command_that_is_not_installed_is_named(tmp_path):
    with pytest.raises(ValueError, match="There is no .*ns-nothing"):
        run_command(["ns-nothing", "at-all"], tmp_path / "log")


def test_the_memory_of_a_command_is_its_own_and_not_that_of_who_runs_it(tmp_path):
    held = bytearray(600_000_000)  # Zeros that are never read take no memory, so they are written.
    held[::4096] = b"1" * len(held[::4096])
    script = "held = b'1' * 200_000_000; print(len(held))"
    peak = run_measured([Path(sys.executable).name, "-c", script], tmp_path / "log.txt")
    assert 200_000_000 < peak < 400_000_000
    assert (tmp_path / "log.txt").read_text() == "200000000\n"
    assert [path.name for path in tmp_path.iterdir()] == ["log.txt"]
    del held


def test_a_measured_command_fails_as_any_other(tmp_path):
    with pytest.raises(ValueError, match=r"(?s)-c failed; the end of .*log.txt:\nwrong$"):
        run_measured([Path(sys.executable).name, "-c", "print('wrong'); raise SystemExit(3)"], tmp_path / "log.txt")
