"""`latenteditor edit-photographs`: a function edits a capture, under guard, and a dataset comes of it."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latenteditor import methods
from latenteditor.cli import main
from latenteditor.options import set_options
from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import random_world
from tests import runs

SIZE = 96
MODULE = """
from PIL import Image, ImageDraw

def paint(image, prompt, seed):
    painted = image.copy()
    ImageDraw.Draw(painted).rectangle((40, 30, 55, 45), fill=(230, 20, 20))
    return painted

def turn(image, prompt):
    return image.transpose(Image.Transpose.ROTATE_180)

def follow(image, prompt, seed, references):
    painted = image.copy()
    colour = references[0].getpixel((48, 38)) if references else (seed % 200, 255, 0)
    ImageDraw.Draw(painted).rectangle((40, 30, 55, 45), fill=colour)
    return painted

def turn_one(image, prompt, seen=[]):
    seen.append(image.tobytes())
    return turn(image, prompt) if image.tobytes() == seen[0] else paint(image, prompt, 0)
"""


@pytest.fixture(scope="module")
def capture(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photographed") / "world"
    write_dataset(folder, random_world(0), num_views=4, num_held_out=2, size=SIZE, seed=0)
    return folder


@pytest.fixture(scope="module")
def unedited(capture, tmp_path_factory) -> Path:
    """The config.yml of a run of dense-nerfacto of two steps."""
    config = copy.deepcopy(methods.dense_nerfacto.config)
    small = {
        "data": capture,
        "pipeline.datamanager.data": capture,
        "output_dir": tmp_path_factory.mktemp("unedited"),
        "vis": "tensorboard",
        "machine.device_type": "cpu",
        "max_num_iterations": 2,
        "pipeline.datamanager.train_num_rays_per_batch": 64,
        "pipeline.model.num_levels": 2,
        "pipeline.model.max_res": 24,
    }
    set_options(config, small)
    return runs.train(config).config.get_base_dir() / "config.yml"


@pytest.fixture
def words(unedited, tmp_path, monkeypatch) -> list[str]:
    """The command, typed in the folder where the editor lies, without where to write."""
    monkeypatch.chdir(tmp_path)
    module = f"painter_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{module}.py").write_text(MODULE)
    return [
        "edit-photographs", "--load-config", str(unedited), "--edit.prompt", "paint it", "--edit.mask", "none",
        "--image-size", "None", "--black-box.kept", str(tmp_path / "kept"),
        "--edit.model", f"{module}:paint", "--output-dir",
    ]  # fmt: skip


def test_every_photograph_is_edited_once_and_never_paid_for_twice(words, capture, tmp_path, capsys):
    main([*words, "painted"])
    said = capsys.readouterr().out
    assert "6 photographs, 4 of them edited, 0 results rejected" in said
    train = json.loads((capture / "transforms.json").read_text())["train_filenames"]
    for name in train:
        before, after = (np.array(Image.open(folder / name)).astype(int) for folder in (capture, tmp_path / "painted"))
        assert np.abs(after[34:42, 44:52] - [230, 20, 20]).max() <= 8
        outside = np.ones((SIZE, SIZE), dtype=bool)
        outside[26:50, 36:60] = False
        assert np.array_equal(after[outside], before[outside])
    held_out = set(json.loads((capture / "transforms.json").read_text())["test_filenames"])
    assert held_out and all(
        (tmp_path / "painted" / name).read_bytes() == (capture / name).read_bytes() for name in held_out
    )
    note = json.loads((tmp_path / "painted/edit.json").read_text())
    assert note["calls"] == 4 and note["found on the disk"] == 0
    main([*words, "again"])
    again = json.loads((tmp_path / "again/edit.json").read_text())
    assert again["calls"] == 0 and again["found on the disk"] == 4
    with pytest.raises(SystemExit, match="painted"):
        main([*words, "painted"])


def test_what_cannot_be_laid_over_its_photograph_is_kept_beside_the_dataset(words, tmp_path, capsys):
    words[words.index("--edit.model") + 1] = words[words.index("--edit.model") + 1].replace(":paint", ":turn_one")
    main([*words, "turned", "--black-box.attempts", "2"])
    assert "3 of them edited, 2 results rejected" in capsys.readouterr().out
    rejected = json.loads((tmp_path / "turned/edit.json").read_text())["rejected"]
    assert len(rejected) == 2 and len({each["view"] for each in rejected}) == 1
    assert all(each["fault"] and (tmp_path / "turned" / each["file"]).is_file() for each in rejected)


def test_an_editor_of_which_nothing_can_be_used_is_told_with_the_reason(words, tmp_path):
    words[words.index("--edit.model") + 1] = words[words.index("--edit.model") + 1].replace(":paint", ":turn")
    with pytest.raises(SystemExit, match=r"Nothing that the editor made .* as .*\.png: "):
        main([*words, "turned", "--black-box.attempts", "1"])
    assert not (tmp_path / "turned").exists()


def test_views_look_like_the_picture_that_the_user_made_of_one(words, capture, tmp_path):
    words[words.index("--edit.model") + 1] = words[words.index("--edit.model") + 1].replace(":paint", ":follow")
    train = json.loads((capture / "transforms.json").read_text())["train_filenames"]
    own = np.array(Image.open(capture / train[1]))
    own[30:46, 40:56] = (20, 40, 220)
    Image.fromarray(own).save(tmp_path / "own.png")
    main([*words, "blue", "--edit.reference", str(tmp_path / "own.png")])
    for name in train:
        assert np.abs(np.array(Image.open(tmp_path / "blue" / name))[38, 48].astype(int) - (20, 40, 220)).max() <= 8
    assert json.loads((tmp_path / "blue/edit.json").read_text())["calls"] == 3
    main([*words, "own", "--black-box.key-view", Path(train[2]).stem])
    colours = {tuple(np.array(Image.open(tmp_path / "own" / name))[38, 48]) for name in train}
    assert len(colours) == 1 and next(iter(colours))[1] > 200, "the key view's own colour is the others' too"
    main([*words, "alone", "--black-box.num-references", "0"])
    assert len({tuple(np.array(Image.open(tmp_path / "alone" / name))[38, 48]) for name in train}) > 1
    with pytest.raises(SystemExit, match=r"own.png cannot be laid over any photograph|cannot be laid over"):
        own = Image.fromarray(own).rotate(180)
        own.save(tmp_path / "own.png")
        main([*words, "turned", "--edit.reference", str(tmp_path / "own.png")])


def test_what_cannot_be_done_is_refused_before_a_call(words, tmp_path):
    for more, complaint in (
        (["--edit.prompt", " "], "instruction|prompt"),
        (["--black-box.most-calls", "3"], "4 photographs need a call each, at least, and 3 of 3 are left"),
        (["--edit.model", "nowhere.at_all:edit"], "cannot be imported"),
        (["--black-box.key-view", "nobody"], "No training photograph is called 'nobody'"),
        (["--black-box.attempts", "0"], "1 or more times"),
    ):
        with pytest.raises(SystemExit, match=complaint):
            main([*words, "refused", *more])
        assert not (tmp_path / "refused").exists() and not (tmp_path / "kept").exists()
