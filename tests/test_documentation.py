"""What README and guide tell people to type can be typed, and what they link to is there."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from latenteditor import cli, methods
from latenteditor.options import has_option

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/guide.md")
ALL_PAGES = (*PAGES, "docs/design.md", "docs/measurements.md", "docs/benchmark.md", "CONTRIBUTING.md")

ELSEWHERE = {
    "bash scripts/demo.sh": "runs `latenteditor demo`, see tests/commands/test_demo.py",
    "bash scripts/test.sh": "runs these tests",
    "pip install": "has installed what is tested",
    "ns-process-data": "is nerfstudio's, and needs COLMAP",
}
"""Beginnings of commands that are not run here, and why."""


class Documented(NamedTuple):
    page: str
    line: int
    words: list[str]


def documented_commands() -> list[Documented]:
    """Every command in a block of bash, without comments."""
    found = []
    for page in PAGES:
        in_block = False
        for number, line in enumerate((ROOT / page).read_text("utf8").splitlines(), start=1):
            if line.startswith("```"):
                in_block = line == "```bash"
            elif in_block and (words := shlex.split(line, comments=True)):
                found.append(Documented(page, number, words))
    return found


COMMANDS = documented_commands()


def is_elsewhere(command: Documented) -> bool:
    return any(" ".join(command.words).startswith(beginning) for beginning in ELSEWHERE)


def name_of(command: Documented) -> str:
    return f"{command.page}:{command.line}"


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, tiny_world_folder, tiny_instruct_pix2pix_folder) -> dict[str, str]:
    """What came of each command, all in one folder, in the order of the pages."""
    folder = tmp_path_factory.mktemp("documented")
    for name in ("data", "fox"):
        shutil.copytree(tiny_world_folder, folder / name)
    (folder / "editor").symlink_to(tiny_instruct_pix2pix_folder, target_is_directory=True)
    shutil.copytree(tiny_world_folder / "ids", folder / "masks")
    (folder / "configs").symlink_to(ROOT / "configs", target_is_directory=True)
    write_lpips(folder / "lpips.pth")
    put_ffmpeg_on_path(folder / "bin")
    commands = [command for command in COMMANDS if not is_elsewhere(command)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TORCHDYNAMO_DISABLE": "1", "HF_HUB_OFFLINE": "1"}
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tests/documented_commands.py"],
        input=json.dumps([command.words for command in commands]),
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    found = json.loads(finished.stdout.splitlines()[-1])
    return {name_of(command): outcome for command, outcome in zip(commands, found, strict=True)}


def write_lpips(file: Path) -> None:
    """Weights of LPIPS at random, which measure nothing."""
    import lpips

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).state_dict(), file)


def put_ffmpeg_on_path(folder: Path) -> None:
    """The program that ns-render calls, from its Python package."""
    import imageio_ffmpeg

    folder.mkdir()
    (folder / "ffmpeg").symlink_to(imageio_ffmpeg.get_ffmpeg_exe())


def test_commands_are_found_where_they_are_written():
    assert len(COMMANDS) > 20
    assert {command.words[0] for command in COMMANDS} >= {"bash", "pip", "ns-train", "ns-viewer", "latenteditor"}


@pytest.mark.parametrize("command", [one for one in COMMANDS if not is_elsewhere(one)], ids=name_of)
def test_every_command_can_be_typed(command, outcomes):
    outcome = outcomes[name_of(command)]
    if outcome.startswith("skipped"):
        pytest.skip(outcome)
    assert outcome in ("ran", "read"), f"{shlex.join(command.words)}\n{outcome}"


def test_every_subcommand_is_documented():
    written = {cli.split(command.words[1:])[0] for command in COMMANDS if command.words[0] == "latenteditor"}
    assert written == set(cli.COMMANDS)


@pytest.mark.parametrize("page", PAGES)
def test_every_pipeline_option_that_is_named_exists(page):
    configs = [getattr(methods, name).config for name in ("latent_nerfacto", "latenteditor", "in2n")]
    named = set(re.findall(r"--(pipeline\.[\w.*-]*[\w*])", (ROOT / page).read_text("utf8")))
    assert named
    for name in named - {"pipeline.edit.*"}:
        names = name.replace("-", "_").split(".")
        assert any(has_option(config, names) for config in configs), name


@pytest.mark.parametrize("page", ALL_PAGES)
def test_every_link_within_the_project_leads_somewhere(page):
    text = (ROOT / page).read_text("utf8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = target.partition("#")
        if file.startswith("http"):
            continue
        assert (ROOT / page).parent.joinpath(file).exists() if file else True, target
        if anchor and not file:
            heads = [re.sub(r"[^\w -]", "", head.lower()).strip().replace(" ", "-") for head in headings(text)]
            assert anchor in heads, target


def test_the_editor_that_the_design_shows_is_complete():
    from latenteditor.editing.editor import Edit, Editor

    source, _ = re.findall(r"```python\n(.*?)```", (ROOT / "docs/design.md").read_text("utf8"), re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "Edit": Edit}
    exec(source, names)  # noqa: S102
    editor, views = names["Invert"](), torch.rand(2, 3, 4, 5)
    assert isinstance(editor, Editor)
    edited, mask, score = editor.edit(views, views, [0, 1], "invert the colours")
    assert torch.equal(edited, 1 - views) and mask.shape == (2, 1, 4, 5) and mask.all() and score is None


def test_the_denoiser_that_the_design_shows_is_complete():
    from latenteditor.editing.denoiser import Conditions, Denoiser
    from latenteditor.editing.editor import EditConfig, LatentEditor
    from latenteditor.editing.guidance import Guidance
    from latenteditor.editing.noise_schedule import FlowSchedule

    _, source = re.findall(r"```python\n(.*?)```", (ROOT / "docs/design.md").read_text("utf8"), re.DOTALL)
    names: dict[str, Any] = {"torch": torch, "Conditions": Conditions, "FlowSchedule": FlowSchedule}
    exec(source, names)  # noqa: S102
    denoiser, views = names["load_denoiser"]("anything", "cpu"), torch.rand(2, 3, 4, 5)
    assert isinstance(denoiser, Denoiser)
    editor = LatentEditor(denoiser, EditConfig(guidance=Guidance(text=2.0)))
    edited, mask, score = editor.edit(views, views, [0, 1], "brighten it")
    assert score is not None and mask.all()
    torch.testing.assert_close(edited, views + 2 * 0.5)


def headings(text: str) -> list[str]:
    return [line.lstrip("#") for line in text.splitlines() if line.startswith("#")]


def test_the_readme_is_a_front_door():
    assert len((ROOT / "README.md").read_text("utf8").splitlines()) <= 90
