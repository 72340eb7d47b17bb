"""The demo of few pixels, with nerfstudio's own commands; and what somebody can mistype."""

import json
import os
import re
import time

import imageio.v3 as iio
import pytest
import yaml

from latenteditor.benchmark import world_runs
from latenteditor.benchmark.world_edit import COLUMNS, medians, table
from latenteditor.cli import main
from latenteditor.pictures import LINE
from tests.forked import fork_commands

SEED = 3_000_028


def test_a_demo_goes_from_photographs_to_figures_and_is_not_done_again(small_world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path), prepend=None)
    fork_commands(monkeypatch)
    words = ["demo", *small_world, "--output", str(tmp_path / "demo"), "--prompt", "make the red cone pink"]
    main(words)
    folder = tmp_path / "demo" / str(SEED)
    said = capsys.readouterr().out
    assert str(folder / "edit.png") in said and str(folder / "edit.mp4") in said
    stages = ["photographs", "reconstruction", "colours", "truth", "edit", "finish", "renders", "video", "report"]
    assert list(json.loads((folder / "seconds.json").read_text())) == stages
    figures = json.loads((folder / "figures.json").read_text())
    assert figures.keys() == COLUMNS.keys()
    assert 0 <= figures["mask_iou"] <= 1
    assert iio.imread(folder / "edit.png").shape == (5 * (32 + 2 * LINE), 2 * (32 + 2 * LINE), 3)
    assert (folder / "edit.mp4").stat().st_size > 1000
    content = json.loads((tmp_path / "demo/worlds.json").read_text())
    assert content["medians"] == figures
    assert content["worlds"][0]["prompt"] == "make the red cone pink"
    config = yaml.load((folder / "runs/world/latenteditor/run/config.yml").read_text(), yaml.Loader)
    assert (config.pipeline.edit.seed, config.pipeline.edit.delta_mask.draws) == (5, 1)

    monkeypatch.setattr(world_runs, "run_command", lambda command, log: pytest.fail(f"{log} was run again"))
    main(words)
    assert json.loads((tmp_path / "demo/worlds.json").read_text()) == content
    with pytest.raises(SystemExit, match="begun with 'make the red cone pink', not 'make the red cone blue'"):
        main([*words[:-1], "make the red cone blue"])


def test_a_demo_without_an_output_makes_a_folder_where_one_is(small_world, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main(["demo", *small_world, "--last-stage", "photographs", "--num-worlds", "2"])
    (folder,) = (tmp_path / "demo").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}", folder.name)
    assert folder.name.startswith(time.strftime("%Y"))
    assert f"Everything goes to {folder}." in capsys.readouterr().out
    for seed in (SEED, SEED + 1):
        assert len(list((folder / str(seed) / "world/images").iterdir())) == 4 + 2
        assert not (folder / str(seed) / "runs").exists()


def test_photographs_that_were_interrupted_are_taken_again(small_world, tmp_path):
    half = tmp_path / str(SEED) / "world.partial/images"
    half.mkdir(parents=True)
    (half / "00000.png").write_bytes(b"half")
    main(["demo", *small_world, "--last-stage", "photographs", "--output", str(tmp_path)])
    assert iio.imread(tmp_path / str(SEED) / "world/images/00000.png").shape == (32, 32, 3)
    assert not half.parent.exists()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--prompt", "make the wine blue"], "names? one or more of its solids|Cannot tell"),
        (["--edit.model", "/nowhere/model"], "'/nowhere/model' is neither an existing folder nor a hub id"),
        (["--edit.delta-mask.draws", "0"], "at least 1 noise draw"),
        (["--num-worlds", "0"], "1 or more worlds"),
        (["--num-views", "1"], "at least 2 training"),
    ],
)
def test_what_is_mistyped_gets_one_sentence_before_anything_is_trained(wrong, message, small_world, tmp_path):
    with pytest.raises(SystemExit, match=message) as refused:
        main(["demo", *small_world, "--output", str(tmp_path / "demo"), *wrong])
    assert str(refused.value).startswith("Error: ") and "\n" not in str(refused.value)
    assert not list(tmp_path.glob("demo/*/seconds.json"))


def test_the_table_shows_medians_of_more_than_one_world():
    one, other = ({"seed": seed, "prompt": "p", **dict.fromkeys(COLUMNS, float(seed)), "seconds": {"edit": 2.0}}
                  for seed in (1, 2))  # fmt: skip
    assert medians([one, other]) == dict.fromkeys(COLUMNS, 1.5)
    lines = table([one, other]).splitlines()
    assert [line.split()[0] for line in lines] == ["world", "1", "2", "median", "PSNR", "1", "2"]
    assert lines[3].split()[1:] == ["1.50"] * len(COLUMNS)
    assert lines[-1].endswith("edit 2 s; 2 s in all")
    assert "median" not in table([one])


def test_the_demo_leaves_the_environment_as_it_is(small_world, tmp_path):
    before = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    main(["demo", *small_world, "--last-stage", "photographs", "--output", str(tmp_path)])
    assert {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} == before
