"""`latenteditor preview`: what a prompt does to one view, from end to end with the built-in editor."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch
from PIL import Image

from latenteditor import cli
from latenteditor.commands import preview as command
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.metrics import mask_iou, psnr
from latenteditor.editing.preview import preview
from latenteditor.evaluation import photograph_preview, preview_picture
from latenteditor.evaluation.photograph_preview import find_guidances, find_thresholds, percent
from latenteditor.evaluation.preview_picture import NARROWEST_PANE
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import load_autoencoder
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.pictures import draw_sheet
from latenteditor.worlds.dataset import write_dataset, write_truth
from latenteditor.worlds.world import random_world

SEED, SIZE, VIEW = 3_000_012, 128, 1
PROMPT, IDLE_PROMPT = "make the purple cube pink", "make the cyan torus pink"
MINIATURE = ("--edit.model", "miniature", "--device", "cpu", "--image-size", str(SIZE))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    """A world of a purple cube and a red sphere."""
    folder = tmp_path_factory.mktemp("world") / "dataset"
    write_dataset(folder, random_world(SEED), num_views=3, num_held_out=2, size=SIZE, seed=SEED)
    return folder


def run(output: Path, *words: str | Path) -> dict[str, Any]:
    """What the command writes as JSON."""
    cli.main(["preview", *map(str, ("--output", output, *words))])
    return json.loads(output.with_suffix(".json").read_text())


def test_a_view_is_shown_under_every_setting(dataset, tmp_path, capsys):
    figures = run(
        tmp_path / "new" / "panda.png",
        *("--data", dataset, "--view", VIEW, "--edit.prompt", PROMPT, *MINIATURE),
        *("--text-guidance", "1.0", "1.5", "--image-guidance", "1.0", "1.2", "--thresholds", "None", "0.5", "0.2"),
    )
    picture = Image.open(tmp_path / "new" / "panda.png")
    assert picture.width > 5 * NARROWEST_PANE
    assert picture.height > 4 * NARROWEST_PANE
    assert figures["photograph"] == str(dataset / "images" / "00001.png")
    assert figures["pixels"] == {"height": SIZE, "width": SIZE}
    assert figures["score"]["peak"] > figures["score"]["gate"] == EDIT.delta_mask.gate
    assert figures["score"]["reaches_gate"] is True
    assert [mask["threshold"] for mask in figures["masks"]] == [0.2, 0.5, None]
    wide, narrow, whole = (mask["coverage"] for mask in figures["masks"])
    cube = iio.imread(dataset / "ids" / "00001.png") == 1 + [s.shape for s in random_world(SEED).solids].index("cube")
    assert 0.3 * cube.mean() < narrow < wide < 4 * cube.mean()
    assert whole == 1.0
    asked = [(text, image) for image in (1.0, 1.2) for text in (1.0, 1.5)]
    assert [(guidance["text"], guidance["image"]) for guidance in figures["guidances"]] == asked
    assert figures["settings"]["edit"]["prompt"] == PROMPT
    assert figures["settings"]["autoencoder"] == "miniature"
    assert figures["seconds"] > 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == figures["found"]
    assert last.startswith("Score peak ") and " reaches the gate 0.4; of this view the mask covers " in last
    assert f"{percent(torch.tensor(narrow))} at threshold 0.5." in last


@pytest.mark.parametrize("blending", ["final", "per-step"])
def test_the_built_in_editor_paints_the_cube_and_leaves_the_rest(dataset, blending):
    truth = write_truth(dataset, PROMPT)
    before, after = (
        torch.from_numpy(iio.imread(folder / "images" / "00001.png")).movedim(-1, 0)[None] / 255
        for folder in (dataset, truth)
    )
    region = torch.from_numpy(iio.imread(truth / "region" / "00001.png") > 0)[None, None]
    autoencoder, denoiser = load_autoencoder("miniature", "cpu"), load_instruct_pix2pix("miniature", "cpu")
    original = autoencoder.encode(before)
    asked = EditConfig(**{**vars(EDIT), "prompt": PROMPT, "blending": blending})
    thresholds = (0.1, 0.3, 0.5, 0.7)
    found = preview(denoiser, original, original, asked, thresholds)
    for wider, narrower in zip(found.masks, found.masks[1:], strict=False):
        assert (narrower <= wider).all()
        assert narrower.sum() < wider.sum()
    outside = ~found.masks.expand_as(found.edits[0])
    assert torch.equal(found.edits[0][outside], original.expand_as(found.edits[0])[outside])
    pixels = found.masks[1:2].repeat_interleave(autoencoder.factor, 2).repeat_interleave(autoencoder.factor, 3)
    assert mask_iou(pixels, region).item() > 0.4
    edited = autoencoder.decode(found.edits[0, 1:2])
    assert psnr(edited, after, region).item() > psnr(before, after, region).item() + 3
    # A pixel depends on the latents around it, and by the decoder's normalisation a trace on all others.
    reached = torch.nn.functional.max_pool2d(pixels.float(), 65, stride=1, padding=32) > 0
    unedited = autoencoder.decode(original)
    difference = (edited - unedited).abs().amax(dim=1, keepdim=True)
    assert difference[~reached].quantile(0.99) < 0.02 < difference[region].max()
    assert difference[~reached].max() < 0.1 * difference[region].max()


def test_a_prompt_about_what_is_not_there_leaves_every_pane_as_it_was(dataset, tmp_path, capsys, monkeypatch):
    drawn: list[Any] = []
    monkeypatch.setattr(
        preview_picture, "draw_sheet", lambda rows, lines: drawn.append(rows) or draw_sheet(rows, lines)
    )
    figures = run(
        tmp_path / "idle.png",
        *("--data", dataset, "--view", "00001.png", "--edit.prompt", IDLE_PROMPT, *MINIATURE),
        *("--thresholds", "0.1", "0.3"),
    )
    assert figures["score"]["reaches_gate"] is False
    assert figures["score"]["peak"] < figures["score"]["gate"]
    assert [mask["coverage"] for mask in figures["masks"]] == [0.0, 0.0]
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == figures["found"]
    assert last.startswith("Nothing in this view answers to the prompt: score peak ")
    assert last.endswith(" stays below the gate 0.4.")
    first, *rows = drawn[0]
    assert [len(row) for row in drawn[0]] == [4, 4, 4]
    for row in rows:
        for pane in row[1:]:
            # What is decoded in a batch may be rounded otherwise than what is decoded alone.
            shown, unedited = (np.asarray(picture, dtype=int) for picture in (pane.picture, first[1].picture))
            assert np.abs(shown - unedited).max() <= 1, pane.label


def test_a_photograph_of_any_shape_will_do(tmp_path):
    random = np.random.default_rng(0)
    file = tmp_path / "photograph.jpg"
    sideways = Image.fromarray(random.integers(0, 255, (60, 100, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways.save(file, exif=exif)
    figures = run(
        tmp_path / "seen.png",
        *("--image", file, "--edit.prompt", "make it look like night", "--edit.model", "miniature"),
        *("--device", "cpu", "--image-size", "64", "--text-guidance", "1", "--edit.mask", "none"),
    )
    assert figures["pixels"] == {"height": 64, "width": 40}, "the camera was held upright"
    assert figures["masks"] == [{"threshold": None, "coverage": 1.0}]
    assert figures["settings"]["view"] is None


def test_the_built_in_editor_comes_with_its_settings_and_what_is_typed_wins():
    words = ["--output", "a.png", "--edit.prompt", "make it red"]
    assert command.parse_args(words).edit == EditConfig(prompt="make it red")
    fitting = command.parse_args([*words, "--edit.model", "miniature"]).edit
    assert fitting == EditConfig(**{**vars(EDIT), "prompt": "make it red"})
    typed = ["--edit.model", "miniature", "--edit.delta-mask.threshold", "0.5", "--edit.guidance.text", "7.5"]
    edit = command.parse_args([*words, *typed]).edit
    assert (edit.delta_mask.threshold, edit.guidance.text) == (0.5, 7.5)
    assert (edit.delta_mask.gate, edit.denoising_steps) == (EDIT.delta_mask.gate, EDIT.denoising_steps)


def test_what_is_not_asked_for_lies_around_the_edits_own_settings():
    edit = command.parse_args(["--output", "a.png"]).edit
    assert find_thresholds(edit, ()) == (0.3, 0.5, 0.7, None)
    assert [(each.text, each.image) for each in find_guidances(edit.guidance, (), ())] == [
        (5, 1.5),
        (7.5, 1.5),
        (10, 1.5),
    ]
    own = Guidance(3.0, 2.0, (0.2, 0.8))
    assert find_guidances(own, (4.0,), ()) == [Guidance(4.0, 2.0, (0.2, 0.8))], "and act where its own do"
    low = command.parse_args(["--output", "a.png", "--edit.delta-mask.threshold", "0.1"]).edit
    assert find_thresholds(low, ()) == (0.0, 0.1, 0.3, None)


MISTAKES = {
    "no view at all": ([], r"--image or .* --data: one of them, not neither"),
    "two views": (["--image", "{data}/images/00001.png", "--data", "{data}"], "one of them, not both"),
    "missing photograph": (["--image", "{folder}/no.jpg"], r"There is no photograph .*no\.jpg"),
    "folder as photograph": (["--image", "{folder}"], "There is no photograph"),
    "no picture": (["--image", "{data}/world.json"], r"world\.json is no picture that can be read"),
    "folder without cameras": (["--data", "{folder}"], r"There is no .*transforms\.json: make it with ns-process-data"),
    "not a description": (["--data", "{data}/world.json"], "does not list frames"),
    "view beyond the last": (["--data", "{data}", "--view", "5"], r"no view 5: .* has 5 views, counted from 0"),
    "negative view": (["--data", "{data}", "--view", "-1"], "no view -1: .* has 5 views"),
    "view by a wrong name": (["--data", "{data}", "--view", "no.png"], "0 of the 5 views .* 'no.png': pass one of"),
    "no prompt": (["--data", "{data}", "--edit.prompt", " "], "nothing to edit by: give a prompt"),
    "threshold too high": (["--data", "{data}", "--thresholds", "0.5", "7"], r"between 0 and 1, not at 7\.0"),
    "threshold of no mask": (["--data", "{data}", "--edit.mask", "none", "--thresholds", "0.5"], "no mask to cut"),
    "size below a cell": (["--data", "{data}", "--image-size", "4"], "images of 4 pixels: a latent cell has 8"),
    "picture that is no PNG": (["--data", "{data}", "--output", "{folder}/a.jpg"], r"ends in \.png, not as 'a\.jpg'"),
    "picture that exists": (["--data", "{data}", "--output", "{folder}/old.png"], r"old\.png exists: .*--overwrite"),
    "figures that exist": (["--data", "{data}", "--output", "{folder}/older.png"], r"older\.json exists"),
    "photograph as output": (
        ["--image", "{data}/images/00001.png", "--output", "{data}/images/00001.png", "--overwrite"],
        r"00001\.png is not to be written over",
    ),
    "cameras as output": (
        ["--data", "{data}", "--output", "{data}/transforms.png", "--overwrite"],
        r"transforms\.json is not to be written over",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_one_clear_line_before_a_network_is_loaded(dataset, tmp_path, monkeypatch, mistake):
    def loaded(*_, **__):
        raise AssertionError("a network was loaded")

    monkeypatch.setattr(photograph_preview, "load_autoencoder", loaded)
    monkeypatch.setattr(photograph_preview, "load_denoiser", loaded)
    (tmp_path / "old.png").write_bytes(b"mine")
    (tmp_path / "older.json").write_bytes(b"mine")
    words, expected = MISTAKES[mistake]
    words = ["--output", "{folder}/new.png", "--edit.prompt", PROMPT, *MINIATURE, *words]
    before = {
        file: file.read_bytes() for folder in (dataset, tmp_path) for file in folder.rglob("*.*") if file.is_file()
    }
    with pytest.raises(ValueError, match=expected) as answer:
        command.main(command.parse_args([word.format(data=dataset, folder=tmp_path) for word in words]))
    assert "\n" not in str(answer.value)
    assert {file: file.read_bytes() for file in before} == before
    assert not (tmp_path / "new.png").exists()


def test_a_prompt_that_is_too_long_is_refused(dataset, tmp_path):
    with pytest.raises(SystemExit, match="^Error: .*prompt has .* tokens"):
        run(tmp_path / "long.png", "--data", dataset, "--edit.prompt", "word " * 200, *MINIATURE)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_preview_is_replaced_when_that_is_asked_for(dataset, tmp_path):
    words = ("--data", dataset, "--edit.prompt", IDLE_PROMPT, *MINIATURE, "--thresholds", "0.3", "--text-guidance", "1")
    run(tmp_path / "a.png", *words)
    with pytest.raises(SystemExit, match=r"^Error: .*a\.png exists"):
        run(tmp_path / "a.png", *words)
    assert run(tmp_path / "a.png", *words, "--view", "2", "--overwrite")["settings"]["view"] == 2


def test_the_old_name_says_the_new_one_and_what_is_wrong(tmp_path):
    script = Path(__file__).parents[2] / "scripts/preview_edit.py"
    finished = subprocess.run(
        [sys.executable, str(script), "--output", str(tmp_path / "a.png"), "--image", str(tmp_path / "no.jpg")],
        capture_output=True, text=True, check=False, cwd=script.parents[1],
    )  # fmt: skip
    assert finished.returncode == 1
    new_name, error = finished.stderr.splitlines()
    assert new_name.startswith("scripts/preview_edit.py is now `latenteditor preview`;")
    assert error.startswith("Error: There is nothing to edit by")
