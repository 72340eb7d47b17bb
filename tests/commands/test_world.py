"""A built-in world and its truth from the command line."""

import json

import imageio.v3 as iio
import numpy as np
import pytest

from latenteditor.cli import main
from latenteditor.worlds.dataset import read_world, write_dataset
from latenteditor.worlds.world import random_world

SIZES = ["--seed", "3", "--num-views", "3", "--num-held-out", "2", "--size", "16"]


def test_a_world_is_the_one_of_its_seed_and_has_the_truth_that_was_asked_for(tmp_path, capsys):
    solid = random_world(3).solids[0]
    prompt = f"remove the {solid.colour} {solid.shape}"
    main(["world", "--output", str(tmp_path / "world"), *SIZES, "--prompt", prompt])
    write_dataset(tmp_path / "same", random_world(3), 3, 2, 16, 3)
    for file in (tmp_path / "same").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "world" / file.relative_to(tmp_path / "same")).read_bytes()
    assert read_world(tmp_path / "world") == random_world(3)
    (truth,) = (tmp_path / "world/truth").iterdir()
    assert json.loads((truth / "instruction.json").read_text())["prompt"] == prompt
    photograph, after, region = (
        iio.imread(folder / "00000.png") for folder in (tmp_path / "world/images", truth / "images", truth / "region")
    )
    assert (np.abs(photograph.astype(int) - after).max(axis=-1) > 0)[region == 0].mean() < 0.2
    said = capsys.readouterr().out
    assert f"the {solid.colour} {solid.shape}" in said and str(truth) in said


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--prompt", "make the wine blue"], "Cannot tell what 'make the wine blue' does"),
        (["--num-held-out", "1"], "at least 2 training and 2 held-out views, not 3 and 1"),
        (["--output", "."], "is not empty"),
    ],
)
def test_what_is_mistyped_gets_one_sentence_and_leaves_nothing(wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=f"Error: .*{message}"):
        main(["world", "--output", "world", *SIZES, *wrong])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
