"""Prompts for several things and edits in a row, of few pixels."""

import json

import imageio.v3 as iio
import pytest

from latenteditor.benchmark.several_edits import RUNS
from latenteditor.cli import main
from latenteditor.pictures import LINE

READER = ["--edit.model", "miniature"]
"""An editor that reads longer prompts than the tiny one."""


@pytest.mark.parametrize("experiment", ["two", "sequence"])
def test_every_run_of_an_experiment_says_what_became_of_each_solid(
    experiment, small_world, performed, tmp_path, capsys
):
    words = ["prompts", "--experiment", experiment, "--output", str(tmp_path), *small_world, *READER]
    main(words)
    names = list(RUNS[experiment])
    trained = ["latent-nerfacto", *(f"latenteditor-{name}" for name in names)]
    assert performed == [*trained, *(f"render-{run}-dataset" for run in trained)]
    (world,) = json.loads((tmp_path / f"{experiment}.json").read_text())
    assert list(world["runs"]) == names
    folder = tmp_path / experiment / str(world["seed"])
    assert iio.imread(folder / "several.png").shape == ((2 + len(names)) * (32 + 2 * LINE), 2 * (32 + 2 * LINE), 3)
    said = capsys.readouterr().out
    for name, run in world["runs"].items():
        assert set(run["solids"]) <= set(clauses(world["prompt"]))
        for words_, solid in run["solids"].items():
            assert solid["right"] == float(solid["psnr_wanted"] > solid["psnr_other"])
            assert words_ in said
        assert f"{name}: all named solids right in" in said

    performed.clear()
    main(words)
    assert performed == []
    assert json.loads((tmp_path / f"{experiment}.json").read_text()) == [world]


def clauses(prompt: str) -> list[str]:
    """What one prompt asks for, each in its own words."""
    first, *others = prompt.split(" and ")
    return [first, *(f"make {words}" for words in others)]


def test_what_is_mistyped_gets_one_sentence(small_world, tmp_path):
    for wrong, message in (("--num-worlds=0", "1 or more worlds"), ("--edit.model=/nowhere", "'/nowhere' is neither")):
        with pytest.raises(SystemExit, match=f"Error: .*{message}"):
            main(["prompts", "--output", str(tmp_path), *small_world, *wrong.split("=")])
    assert not list(tmp_path.iterdir())
