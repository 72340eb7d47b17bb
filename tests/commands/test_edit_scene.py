"""`latenteditor edit-scene`: recipes become commands that nerfstudio reads, and are run stage by stage."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from latenteditor import cli
from latenteditor.recipes import stages
from latenteditor.recipes.plan import make_plan
from latenteditor.recipes.recipe import read_recipe
from latenteditor.recipes.stages import make_stages
from tests.recipes.examples import FILES, RIGHT, ROOT

DEVICE = "cpu"


def commands_of(path: Path, method: str | None, output: Path) -> list[list[str]]:
    read = read_recipe(path)
    planned = make_stages(read, make_plan(read, method), path.stem, Path("data"), output, DEVICE)
    return [stage.command for stage in planned]


PARSE = """
import json, sys
import tyro
from nerfstudio.configs.method_configs import AnnotatedBaseConfigUnion
from nerfstudio.scripts.eval import ComputePSNR
from nerfstudio.scripts.render import Commands

def value_of(config, names):
    for name in names:
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config

from latenteditor.commands.evaluate import Args as Measures

kinds = {"ns-train": AnnotatedBaseConfigUnion, "ns-render": Commands, "ns-eval": ComputePSNR}
for command, asked in json.load(sys.stdin):
    kind, words = (Measures, command[2:]) if command[0] == "latenteditor" else (kinds[command[0]], command[1:])
    parsed = tyro.cli(kind, args=words)
    print(json.dumps([value_of(parsed, names) for names in asked], default=str))
"""
"""Nerfstudio's own command lines, in a process of their own: its configs do not pass the checks of types here."""


def test_every_command_is_one_that_nerfstudio_reads_as_meant(tmp_path):
    asked = {}
    per_parser = {read_recipe(path).scene.dataparser: path for path in FILES}
    for path, method in [*((path, None) for path in FILES), *((path, "in2n") for path in per_parser.values())]:
        scene, edit, *outputs = commands_of(path, method, tmp_path)
        plan = make_plan(read_recipe(path), method)
        asked[tuple(scene)] = [(s.names, s.value) for s in plan.reconstruction_settings]
        asked[tuple(edit)] = [(s.names, s.value) for s in plan.settings]
        asked[tuple(edit)].append((("pipeline", "edit", "prompt"), read_recipe(path).prompt))
        if path == FILES[0]:
            for command in outputs:
                name, flag = (
                    ("edited", "--edited") if command[0] == "latenteditor" else ("load_config", "--load-config")
                )
                asked[tuple(command)] = [((name,), word_after(command, flag))]
    work = [(shlex.split(shlex.join(command)), [names for names, _ in wanted]) for command, wanted in asked.items()]
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PARSE],
        input=json.dumps(work), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-2000:] + finished.stderr[-2000:]
    read = [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("[")]
    assert read == [[value for _, value in wanted] for wanted in asked.values()]
    assert len(read) > len(FILES) + len(per_parser)


FAKE = """#!{python}
import json, pathlib, sys
words = sys.argv[1:]
def after(flag):
    return words[words.index(flag) + 1]
with open({log!r}, "a") as log:
    log.write(json.dumps([pathlib.Path(sys.argv[0]).name, *words]) + "\\n")
fail = pathlib.Path({fail!r})
kind = words[0] if words[0] in ("dataset", "interpolate") else pathlib.Path(sys.argv[0]).name
if kind == "ns-train":
    run = pathlib.Path(after("--output-dir"), after("--experiment-name"), words[0], after("--timestamp"))
    checkpoints = run / "nerfstudio_models"
    checkpoints.mkdir(parents=True, exist_ok=True)
    (run / "config.yml").touch()
    first = 0
    if "--load-dir" in words:
        loaded = pathlib.Path(after("--load-dir")).glob("step-*.ckpt")
        first = max(int(path.stem.split("-")[1]) for path in loaded) + 1
    last = first + int(after("--max-num-iterations")) - 1
    stop = fail.exists() and fail.read_text() == words[0]
    for path in checkpoints.iterdir():
        path.unlink()
    (checkpoints / f"step-{{last - 10 * stop:09d}}.ckpt").touch()
    sys.exit(7 * stop)
output = pathlib.Path(after("--output" if kind == "latenteditor" else "--output-path"))
if output.exists():
    sys.exit("would write over " + str(output))
stop = fail.exists() and fail.read_text() == kind
if kind in ("dataset", "latenteditor"):
    output.mkdir()
    (output / "half.png").touch()
else:
    output.touch()
sys.exit(9 * stop)
"""
"""Stands for ns-train, ns-render and ns-eval: counts steps as they do, fails where it is told to."""


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """An environment whose ns-* commands are stand-ins."""

    class Workshop:
        fail = tmp_path / "fail"
        log = tmp_path / "log"
        recipe = tmp_path / "try.yaml"
        data = tmp_path / "data"

        def run(self, *options):
            self.log.write_text("")
            words = ["edit-scene", self.recipe, "--data", self.data, "--output-dir", tmp_path / "out"]
            cli.main([*map(str, words), "--device", DEVICE, *options])
            return self.calls()

        def calls(self):
            return [json.loads(line) for line in self.log.read_text().splitlines()]

        def change(self, **settings):
            self.recipe.write_text(yaml.safe_dump(RIGHT | {"settings": settings}))

    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ns-train", "ns-render", "ns-eval", "latenteditor"):
        script = FAKE.format(python=sys.executable, log=str(Workshop.log), fail=str(Workshop.fail))
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    Workshop.data.mkdir()
    shop = Workshop()
    shop.change(max_num_iterations=30)
    return shop


def word_after(command, flag):
    return command[command.index(flag) + 1]


def test_a_run_goes_through_every_stage_once_and_never_again(workshop, capsys):
    calls = workshop.run()
    assert [call[0] for call in calls] == ["ns-train"] * 2 + ["ns-render"] * 2 + [
        "latenteditor",
        "ns-render",
        "ns-eval",
    ]
    assert [call[1] for call in calls[:2]] == ["latent-nerfacto", "latenteditor"]
    assert word_after(calls[1], "--max-num-iterations") == "30"
    assert Path(word_after(calls[1], "--load-dir")).parent.name == word_after(calls[0], "--timestamp")
    shown = capsys.readouterr().out
    assert all(shlex.join(call) in shown.splitlines() for call in calls)
    assert workshop.run() == []
    assert capsys.readouterr().out.count(": exists, kept: ") == len(calls)


def test_a_dry_run_prints_the_same_commands_and_touches_nothing(workshop, capsys, tmp_path):
    workshop.data.rmdir()
    assert workshop.run("--dry-run") == []
    assert not (tmp_path / "out").exists()
    printed = [line for line in capsys.readouterr().out.splitlines() if not line.startswith("#")]
    workshop.data.mkdir()
    assert [shlex.split(line) for line in printed] == workshop.run()


def test_another_setting_makes_another_edit_of_the_same_reconstruction(workshop):
    first = workshop.run()
    workshop.change(max_num_iterations=30, pipeline={"edit": {"min_noise": 0.5}})
    calls = workshop.run()
    assert [call[1] for call in calls if call[0] == "ns-train"] == ["latenteditor"]
    assert word_after(calls[0], "--load-dir") == word_after(first[1], "--load-dir")
    assert word_after(calls[0], "--timestamp") != word_after(first[1], "--timestamp")
    workshop.change(max_num_iterations=30, pipeline={"model": {"near_plane": 0.3}})
    assert [call[1] for call in workshop.run() if call[0] == "ns-train"] == ["latent-nerfacto", "latenteditor"]


@pytest.mark.parametrize(
    ("kind", "code"), [("latent-nerfacto", 7), ("latenteditor", 7), ("dataset", 9), ("ns-eval", 9)]
)
def test_a_failing_command_stops_everything_and_the_next_run_goes_on(workshop, capsys, kind, code):
    workshop.fail.write_text(kind)
    with pytest.raises(SystemExit) as stopped:
        workshop.run()
    assert stopped.value.code == code
    last = workshop.calls()[-1]
    assert kind in last[:2]
    assert f"ended with exit code {code}" in capsys.readouterr().err
    workshop.fail.unlink()
    calls = workshop.run()
    assert calls[0][:2] == last[:2]
    if code == 7:
        assert word_after(calls[0], "--max-num-iterations") == "10"
        assert Path(word_after(calls[0], "--load-dir")).parent.name == word_after(calls[0], "--timestamp")
        assert "goes on after step" in capsys.readouterr().out
    else:
        assert calls[0] == last
        assert "was interrupted: begins again" in capsys.readouterr().out
    assert workshop.run() == []


def test_a_command_that_ends_early_without_a_word_is_noticed(workshop, monkeypatch):
    monkeypatch.setattr(stages, "call", lambda command, environment: 0)
    with pytest.raises(SystemExit, match="^Error: reconstruction ended without a checkpoint of step 2999"):
        workshop.run()


def test_data_that_is_not_there_is_answered_with_where_to_get_it(workshop):
    workshop.data.rmdir()
    with pytest.raises(SystemExit, match=r"^Error: There is no .*data\. bear: https://example\.org, unpack it"):
        workshop.run()


def test_a_command_that_is_not_installed_is_named(workshop, tmp_path):
    (tmp_path / "bin" / "ns-train").unlink()
    with pytest.raises(SystemExit, match=r"^Error: There is no .*ns-train: install nerfstudio and latenteditor"):
        workshop.run()


def test_the_old_name_says_the_new_one_and_what_is_wrong(tmp_path):
    finished = subprocess.run(
        [sys.executable, str(ROOT / "scripts/edit_scene.py"), str(tmp_path / "no.yaml"), "--data", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 1
    new_name, error = finished.stderr.splitlines()
    assert new_name.startswith("scripts/edit_scene.py is now `latenteditor edit-scene`;")
    assert error.startswith("Error: There is no recipe ")
