"""From photographs to a report where the editor is a function, which only an edit that is asked for imports."""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from nerfstudio.utils.eval_utils import eval_setup
from PIL import Image

from latenteditor.cli import main
from latenteditor.nerf.loaded_run import load_run
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import random_world
from tests.forked import fork_commands

SIZE = 96
NAME = "painter_of_whole_edits"
IMPORTED = "imported.txt"
MODULE = f"""
from pathlib import Path
from PIL import ImageDraw

with Path(__file__).with_name({IMPORTED!r}).open("a") as file:
    file.write("imported\\n")

def paint(image, prompt):
    painted = image.copy()
    ImageDraw.Draw(painted).rectangle((40, 30, 55, 45), fill=(230, 20, 20))
    return painted
"""


class Painted(NamedTuple):
    """A whole edit by a function."""

    here: Path
    """Where the command was typed, and the function lies."""
    world: Path
    """The photographs."""
    output: Path
    """What came of it."""
    words: list[str]
    """The command."""


@pytest.fixture(scope="module")
def painted(tmp_path_factory) -> Painted:
    here = tmp_path_factory.mktemp("by_function")
    world, output = here / "world", here / "edit"
    write_dataset(world, random_world(0), num_views=4, num_held_out=2, size=SIZE, seed=0)
    (here / f"{NAME}.py").write_text(MODULE)
    words = [
        "edit", "--data", str(world), "--prompt", "paint it", "--output-dir", str(output),
        "--edit.model", f"{NAME}:paint", "--edit.mask", "none", "--black-box.kept", str(here / "kept"),
        "--method", "dense-nerfacto", "--device", "cpu", "--image-size", "None", "--base-steps", "3",
        "--finish-steps", "3", "--num-pictures", "1", "--picture-size", "48", "--video-frames", "3",
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        fork_commands(patch)
        patch.chdir(here)
        main(words)
    return Painted(here, world, output, words)


def test_it_goes_from_photographs_to_a_report_by_a_function(painted, monkeypatch, capsys):
    seconds = json.loads((painted.output / "seconds.json").read_text())
    assert list(seconds) == ["colours", "photographs", "finish", "pictures", "video", "report"]
    dataset = painted.output / "finished/dataset"
    note = json.loads((dataset / "edit.json").read_text())
    assert note["calls"] == 4 and not note["rejected"]
    for name in json.loads((painted.world / "transforms.json").read_text())["train_filenames"]:
        pixels = np.array(Image.open(dataset / name)).astype(int)
        assert np.abs(pixels[34:42, 44:52] - [230, 20, 20]).max() <= 8
    page = (painted.output / "report.html").read_text()
    assert "paint it" in page and "edit-photographs" in page and "video/mp4" in page
    monkeypatch.chdir(painted.here)
    main(painted.words)
    assert "photographs:" not in capsys.readouterr().out


def test_who_looks_at_it_never_imports_the_function(painted, tmp_path, monkeypatch):
    imports = (painted.here / IMPORTED).read_text()
    assert imports
    monkeypatch.delitem(sys.modules, NAME, raising=False)
    monkeypatch.chdir(painted.here)
    finished = painted.output / "finished/dense-nerfacto/run/config.yml"
    base = painted.output / "runs/scene/dense-nerfacto/run/config.yml"
    assert load_run(finished).step > 0
    eval_setup(finished, test_mode="inference")  # As ns-viewer does.
    figures = tmp_path / "figures"
    main(["evaluate", "--original", str(base), "--edited", str(finished), "--output", str(figures), "--clip", "none"])
    assert (figures / "figures.json").is_file()
    assert NAME not in sys.modules and (painted.here / IMPORTED).read_text() == imports
