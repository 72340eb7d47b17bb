"""Masks of each view and of the field, compared on a world of few pixels."""

import json

import imageio.v3 as iio
import pytest

from latenteditor.cli import main
from latenteditor.pictures import LINE

SEED = 3_000_010
ROW, COLUMN = 32 + 2 * LINE, 32 + 2 * LINE


@pytest.fixture
def words(small_world, tmp_path) -> list[str]:
    return ["masks", "--output", str(tmp_path), "--num-worlds", "1", "--least-region", "0", *small_world]


def test_masks_and_edits_are_measured_and_what_is_measured_is_kept(words, performed, tmp_path, capsys):
    main([*words, "--plain"])
    runs = ["latenteditor-edits-none", "latenteditor-edits-per-view", "latenteditor-edits-field"]
    assert performed == ["latent-nerfacto", *runs]
    content = json.loads((tmp_path / "edits.json").read_text())
    (world,) = content["worlds"]
    assert world["seed"] == SEED
    assert world["costs"].keys() == {"none", "per-view", "field"} == content["mean_costs"].keys()
    for costs in world["costs"].values():
        assert costs["memory_bytes"] == 10**9
        assert costs["command_seconds"] >= 0
    for view in world["views"]:
        assert view["mask_iou"].keys() == {"per-view", "field"}
        assert view["psnr_outside"].keys() == {"none", "per-view", "field", "unedited", "composite"}
        assert view["composite_difference"] < 1e-6
    assert content["summaries"]["all"]["views"] == len(world["views"]) == 2
    assert iio.imread(tmp_path / str(SEED) / "edits.png").shape == (6 * ROW, 2 * COLUMN, 3)
    said = capsys.readouterr().out
    assert "field over none" in said and f"All figures: {tmp_path / 'edits.json'}" in said

    performed.clear()
    main([*words, "--plain"])
    assert performed == []
    assert json.loads((tmp_path / "edits.json").read_text()) == content


def test_masks_alone_are_measured_after_the_first_view(words, performed, tmp_path):
    main([*words, "--masks-only"])
    assert performed == ["latent-nerfacto", "latenteditor-masks-per-view", "latenteditor-masks-field"]
    (world,) = json.loads((tmp_path / "masks.json").read_text())["worlds"]
    assert all(view["psnr_inside"] == {} for view in world["views"])
    assert iio.imread(tmp_path / str(SEED) / "masks.png").shape == (4 * ROW, 2 * COLUMN, 3)
    config = (tmp_path / str(SEED) / "runs/world/latenteditor/masks-field/config.yml").read_text()
    assert "max_num_iterations: 1\n" in config


def test_what_is_mistyped_gets_one_sentence(words):
    for wrong, message in (("--num-worlds 0", "1 or more worlds"), ("--edit.model /nowhere", "'/nowhere' is neither")):
        with pytest.raises(SystemExit, match=f"Error: .*{message}"):
            main([*words, *wrong.split()])
