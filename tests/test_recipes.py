"""The recipes of configs/: each fits the methods, becomes commands that nerfstudio reads, and is run stage by stage."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from latenteditor.recipes import Captions, Recipe, Scene, Setting, fits, flatten, make_plan, read_recipe
from scripts import edit_scene

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
DEVICE = "cpu"


@pytest.fixture(scope="module")
def methods():
    from nerfstudio.configs.method_configs import all_methods

    return all_methods


def value_of(config, names):
    for name in names:
        config = config[name] if isinstance(config, dict) else getattr(config, name)
    return config


def recipe(**changes) -> Recipe:
    scene = Scene("bear", "https://example.org/bear", "unpack it")
    return Recipe(**{"scene": scene, "prompt": "make it red", "captions": Captions("a", "a red"), **changes})


def commands_of(path: Path, method: str | None, output: Path) -> list[list[str]]:
    args = edit_scene.Args(path, Path("data"), method, output, DEVICE, dry_run=True)
    read = read_recipe(path)
    return [stage.command for stage in edit_scene.make_stages(args, read, make_plan(read, method))]


def test_there_are_recipes_for_every_scene():
    scenes = {read_recipe(path).scene.name for path in FILES}
    assert scenes >= {"bear", "face", "fangzhou", "person", "farm", "campsite", "flower", "horns", "fox"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_recipe_fits_its_method_and_sets_only_what_differs(path, methods):
    read = read_recipe(path)
    plan = make_plan(read)
    assert plan.skipped == []
    assert plan.settings == flatten(read.settings)
    for setting in plan.settings:
        assert value_of(methods[plan.method], setting.names) != setting.value, setting.dotted
    assert path.stem.startswith(read.scene.name)
    assert read.scene.source.startswith("https://")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("method", ["in2n", "latenteditor-tiny"])
def test_every_recipe_goes_with_another_method_but_for_what_that_does_not_have(path, method, methods):
    read = read_recipe(path)
    plan = make_plan(read, method)
    assert plan.method == method
    assert sorted([*plan.settings, *plan.skipped]) == sorted(flatten(read.settings))
    assert plan.reconstruction == ("nerfacto" if method == "in2n" else "latent-nerfacto")
    for setting in plan.skipped:
        with pytest.raises(AttributeError):
            value_of(methods[method], setting.names)


def test_every_source_line_of_a_prompt_is_there():
    for path in FILES:
        lines = path.read_text("utf8").splitlines()
        above = lines[[line.startswith("prompt:") for line in lines].index(True) - 1]
        assert above.startswith(("# From ", "# Ours")), path.name


def test_the_reconstruction_shares_the_scene_and_the_autoencoder_of_the_edit():
    settings = {"pipeline": {"model": {"near_plane": 0.3}, "edit": {"guidance": {"text": 6.5}}}}
    plan = make_plan(recipe(settings=settings), "latenteditor-tiny")
    assert plan.reconstruction_settings == [
        Setting(("pipeline", "model", "near_plane"), 0.3),
        Setting(("pipeline", "autoencoder"), "madebyollin/taesd"),
    ]
    assert make_plan(recipe(settings=settings)).reconstruction_settings == plan.reconstruction_settings[:1]
    chosen = {"pipeline": {"autoencoder": "somewhere"}}
    shared = make_plan(recipe(settings=chosen), "latenteditor-tiny").reconstruction_settings
    assert shared == [Setting(("pipeline", "autoencoder"), "somewhere")]


def test_steps_are_the_methods_own_unless_the_recipe_sets_them(methods):
    plan = make_plan(recipe())
    assert plan.iterations == methods["latenteditor"].max_num_iterations
    assert plan.reconstruction_iterations == methods["latent-nerfacto"].max_num_iterations
    settings = {"max_num_iterations": 11, "pipeline": {"reconstruction_steps": 7}}
    plan = make_plan(recipe(settings=settings))
    assert (plan.iterations, plan.reconstruction_iterations) == (11, 7)
    assert plan.settings == []


def test_settings_become_words():
    assert Setting(("pipeline", "edit", "min_noise"), 0.5).words == ["--pipeline.edit.min-noise", "0.5"]
    assert Setting(("a",), None).words == ["--a", "None"]
    assert Setting(("a",), False).words == ["--a", "False"]
    assert Setting(("a_b", "c_d"), [1, 2]).words == ["--a-b.c-d", "1", "2"]


def test_values_fit_types():
    assert fits(1, float) and fits(1, int) and fits(None, int | None) and fits("x", Path)
    assert fits([1, 2], tuple[int, ...]) and fits([1, 2], tuple[int, int]) and fits([1.5], list[float])
    assert not fits(True, int) and not fits(True, float) and not fits("1", float) and not fits(1.5, int)
    assert not fits([1, 2, 3], tuple[int, int]) and not fits([1], int) and not fits(None, str)


def edit(**group) -> dict:
    return {"pipeline": {"edit": group}}


WRONG_PLANS = [
    ("misspelt", {"settings": edit(guidanc={"text": 1.0})}, "'guidanc'; allowed in pipeline.edit of .*guidance"),
    ("left over", {"settings": {"pipelin": 1}}, "'pipelin'; allowed in settings of .*pipeline"),
    ("too deep", {"settings": edit(min_noise={"low": 0.1})}, r"pipeline\.edit\.min_noise of latenteditor is one value"),
    ("too shallow", {"settings": edit(guidance=6.5)}, r"is a group, not .* 6\.5: set one of text, image"),
    ("text for a number", {"settings": edit(min_noise="1e-1")}, r"min_noise of latenteditor is a number, not '1e-1'"),
    ("a fraction of a step", {"settings": {"max_num_iterations": 1.5}}, "is a whole number, not 1.5"),
    ("unknown choice", {"settings": edit(mask="round")}, "mask of latenteditor is one of 'per-view', .*not 'round'"),
    ("prompt as a setting", {"settings": edit(prompt="x")}, "is no setting of .*: it is the recipe's own `prompt`"),
    ("data as a setting", {"settings": {"data": "x"}}, "data is no setting of a recipe: it is --data"),
    ("private", {"settings": {"_target": "x"}}, "unknown key '_target'"),
    ("unknown method", {"method": "latent-editor"}, "'latent-editor' is no method that edits: .*latenteditor"),
    ("reconstruction as method", {"method": "nerfacto"}, "'nerfacto' is no method that edits: choose one of"),
    ("alien reconstruction", {"reconstruction": "nerfacto"}, "no run of 'nerfacto': choose one of latent-nerfacto"),
    ("unknown parser", {"scene": Scene("a", "b", "c", dataparser="llff")}, "no dataparser 'llff': .*colmap"),
    (
        "unknown option of a parser",
        {"scene": Scene("a", "b", "c", dataparser="colmap", dataparser_settings={"colmap": "x"})},
        "unknown key 'colmap'; allowed in settings of colmap are .*colmap_path",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "expected"), [row[1:] for row in WRONG_PLANS], ids=[row[0] for row in WRONG_PLANS])
def test_a_recipe_that_does_not_fit_is_answered_with_one_line(changes, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        make_plan(recipe(**changes))
    assert "\n" not in str(answer.value)


def test_a_setting_that_not_even_the_recipes_own_method_has_is_refused_for_every_method():
    with pytest.raises(ValueError, match="unknown key 'lpips_loss_mult'"):
        make_plan(recipe(settings={"pipeline": {"model": {"lpips_loss_mult": 0.5}}}), "in2n")


RIGHT = {
    "scene": {"name": "bear", "source": "https://example.org", "download": "unpack it"},
    "prompt": "make it red",
    "captions": {"source": "a bear", "target": "a red bear"},
}
WRONG_FILES = [
    ("unknown key", RIGHT | {"promt": "x"}, r"unknown key 'promt' in the recipe; allowed are scene, prompt, captions"),
    ("unknown key inside", RIGHT | {"captions": {"from": "a"}}, "unknown key 'from' in captions; allowed are source"),
    ("missing key", {"scene": RIGHT["scene"]}, "the recipe lacks 'prompt'"),
    ("missing key inside", RIGHT | {"captions": {"source": "a"}}, "captions lacks 'target'"),
    ("no group", RIGHT | {"scene": "bear"}, "scene is a group of name, source, .*, not 'bear'"),
    ("no settings", RIGHT | {"settings": 6.5}, r"settings of the recipe is a group of options, not 6\.5"),
    ("number for text", RIGHT | {"prompt": 7}, "prompt of the recipe is text, not 7"),
    ("blank prompt", RIGHT | {"prompt": " "}, "prompt of the recipe is empty"),
    ("a path as name", RIGHT | {"scene": RIGHT["scene"] | {"name": "../bear"}}, "cannot be '../bear': use letters"),
    ("a list", [RIGHT], "the recipe is a group of scene"),
    ("nothing", None, "the recipe is a group of scene"),
]


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in WRONG_FILES], ids=[row[0] for row in WRONG_FILES])
def test_a_file_that_is_no_recipe_is_answered_with_one_line(content, expected, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=expected) as answer:
        read_recipe(path)
    assert str(answer.value).startswith(str(path)) and "\n" not in str(answer.value)


def test_broken_files_are_answered_with_one_line(tmp_path):
    path = tmp_path / "recipe.yaml"
    for text, expected in (("scene: {a: 1, a: 2}", "the key 'a' stands twice"), ("scene: [", "while parsing")):
        path.write_text(text)
        with pytest.raises(ValueError, match=expected) as answer:
            read_recipe(path)
        assert "\n" not in str(answer.value)
    with pytest.raises(ValueError, match="There is no recipe"):
        read_recipe(tmp_path / "none.yaml")


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
    kind, words = (Measures, command[2:]) if command[0] == "python" else (kinds[command[0]], command[1:])
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
                name, flag = ("edited", "--edited") if command[0] == "python" else ("load_config", "--load-config")
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
output = pathlib.Path(after("--output" if kind == "python" else "--output-path"))
if output.exists():
    sys.exit("would write over " + str(output))
stop = fail.exists() and fail.read_text() == kind
if kind in ("dataset", "python"):
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

        def run(self, **options):
            self.log.write_text("")
            edit_scene.main(edit_scene.Args(self.recipe, self.data, None, tmp_path / "out", DEVICE, **options))
            return self.calls()

        def calls(self):
            return [json.loads(line) for line in self.log.read_text().splitlines()]

        def change(self, **settings):
            self.recipe.write_text(yaml.safe_dump(RIGHT | {"settings": settings}))

    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ns-train", "ns-render", "ns-eval", "python"):
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
    assert [call[0] for call in calls] == ["ns-train"] * 2 + ["ns-render"] * 2 + ["python", "ns-render", "ns-eval"]
    assert [call[1] for call in calls[:2]] == ["latent-nerfacto", "latenteditor"]
    assert word_after(calls[1], "--max-num-iterations") == "30"
    assert Path(word_after(calls[1], "--load-dir")).parent.name == word_after(calls[0], "--timestamp")
    shown = capsys.readouterr().out
    assert all(shlex.join(call) in shown.splitlines() for call in calls)
    assert workshop.run() == []
    assert capsys.readouterr().out.count(": exists, kept: ") == len(calls)


def test_a_dry_run_prints_the_same_commands_and_touches_nothing(workshop, capsys, tmp_path):
    workshop.data.rmdir()
    assert workshop.run(dry_run=True) == []
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
    monkeypatch.setattr(edit_scene, "call", lambda command, environment: 0)
    with pytest.raises(ValueError, match="reconstruction ended without a checkpoint of step 2999"):
        workshop.run()


def test_data_that_is_not_there_is_answered_with_where_to_get_it(workshop):
    workshop.data.rmdir()
    with pytest.raises(ValueError, match=r"There is no .*data\. bear: https://example\.org, unpack it"):
        workshop.run()
