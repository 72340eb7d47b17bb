"""Commands on built-in worlds of few pixels, with an editor whose edits mean nothing."""

import ast
import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from latenteditor import methods
from latenteditor.benchmark import world_runs
from latenteditor.options import set_options
from latenteditor.pictures import to_picture, write_picture
from tests import runs

PATHS = ("data", "output_dir", "load_dir")


@pytest.fixture
def small_world(tiny_instruct_pix2pix_folder) -> list[str]:
    """Options with which a world takes seconds."""
    sizes = "--size 32 --num-views 4 --num-held-out 2 --max-res 24 --reconstruction-steps 2 --edit-steps 2"
    editor = "--edit.denoising-steps 2 --edit.delta-mask.draws 1 --edit.delta-mask.gate 0 --edit.seed 5"
    finish = "--colour-steps 2 --finish-steps 2"
    rest = f"--steps-per-edit 1 --device cpu --edit.model {tiny_instruct_pix2pix_folder}"
    return f"{sizes} {finish} {editor} {rest}".split()


@pytest.fixture
def performed(monkeypatch) -> list[str]:
    """Lets ns-* commands run in this process, because each in its own would import for ten seconds; names them."""
    done: list[str] = []

    def perform(command: list[str], log: Path) -> int:
        done.append(log.stem)
        train(command) if command[0] == "ns-train" else render(command)
        return 10**9

    monkeypatch.setattr(world_runs, "run_command", perform)
    monkeypatch.setattr(world_runs, "run_measured", perform)
    return done


def train(command: list[str]) -> None:
    """What ns-train does; that it reads the words so is shown by ``tests/benchmark/test_world_runs.py``."""
    config = copy.deepcopy(getattr(methods, command[1].replace("-", "_")).config)
    for dotted, values in options_of(command[2:]).items():
        set_options(config, {dotted: value_like(config, dotted, values)})
    config.pipeline.datamanager.data = config.data
    if command[1] == "latenteditor":
        config.pipeline.model.relevance.steps = 3
    runs.train(config)


def render(command: list[str]) -> None:
    """What ns-render does with held-out views."""
    from nerfstudio.utils.eval_utils import eval_setup

    words = options_of(command[2:])
    _, loaded, _, _ = eval_setup(Path(words["load_config"][0]), test_mode="test")
    pipeline: Any = loaded
    data = pipeline.datamanager.eval_dataset
    for row, name in enumerate(data.image_filenames):
        with torch.no_grad():
            outputs = pipeline.model.get_outputs_for_camera(data.cameras[row : row + 1].to(pipeline.device))
        file = Path(words["output_path"][0]) / "test/rgb" / name.name
        write_picture(file, to_picture(outputs["rgb"].permute(2, 0, 1)))


def options_of(words: list[str]) -> dict[str, list[str]]:
    """The words after each option; the last of its name counts."""
    found: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("--"):
            name = word[2:].replace("-", "_")
            found[name] = []
        else:
            found[name].append(word)
    return found


def value_like(config: Any, dotted: str, words: list[str]) -> Any:
    """The value that words give an option, as Python writes it, or a text where that is none."""
    present = config
    for name in dotted.split("."):
        present = present[name] if isinstance(present, dict) else getattr(present, name)
    if dotted in PATHS:
        return Path(words[0])
    if isinstance(present, str):
        return words[0]
    values = []
    for word in words:
        try:
            values.append(ast.literal_eval(word))
        except (SyntaxError, ValueError):
            values.append(word)
    return tuple(values) if isinstance(present, tuple) else values[0]
