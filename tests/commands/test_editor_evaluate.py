"""The editor's evaluation from end to end with the built-in editor, on few and small views."""

import json
from time import sleep

import imageio.v3 as iio
import numpy as np
import pytest

from latenteditor.cli import main
from latenteditor.miniature import editor_evaluation
from latenteditor.miniature.settings import EDIT
from latenteditor.miniature.sheet import BLOCKS, CELL, LINE
from latenteditor.worlds.instructions import KIND_SHARES

CASES, LOOKS, SIZE = 3, 1, 64
SECONDS = 0.3
"""How much slower a step is made: far longer than it takes."""


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """The folder that is filled, and its figures."""
    folder, photographs = tmp_path_factory.mktemp("figures"), tmp_path_factory.mktemp("bears") / "images"
    photographs.mkdir()
    halves = np.zeros((SIZE, 2 * SIZE, 3), dtype=np.uint8)
    halves[:, :SIZE], halves[:, SIZE:] = (230, 120, 20), (90, 90, 90)
    iio.imwrite(photographs / "orange.png", halves)
    sizes = ["--num-cases", CASES, "--num-looks", LOOKS, "--size", SIZE, "--photograph-size", 2 * SIZE]
    words = [*map(str, sizes), "--sheet-columns", "1"]
    main(["editor", "evaluate", "--output", str(folder), "--photographs", str(photographs), *words])
    return folder, json.loads((folder / "figures.json").read_text())


def test_every_group_has_its_figures(evaluated):
    _, figures = evaluated
    assert len(figures["solids"]["cases"]) == CASES
    assert len(figures["looks"]["cases"]) == LOOKS
    (photographs,) = figures.keys() - {"edit", "first_seed", "size", "photograph_size", "speed", "solids", "looks"}
    assert photographs.startswith("bears"), "a folder named images is known by the one around it"
    assert any("orange" in case["prompt"] for case in figures[photographs]["cases"])
    for group in ("solids", "looks", photographs):
        content = figures[group]
        for figure in ("recognised", "psnr_inside", "mask_iou"):
            values = [case[figure] for case in content["cases"]]
            assert content["summary"][figure]["mean"] == pytest.approx(np.mean(values))
        kinds = {case["kind"] for case in content["cases"]}
        assert content["by_kind"].keys() == kinds


def test_pictures_show_original_edit_truth_and_mask(evaluated):
    folder, figures = evaluated
    shown = iio.imread(folder / "solids.png")
    assert shown.shape == (4 * SIZE, CASES * (SIZE + 2), 3)
    original, _, truth, mask = np.split(shown, 4)
    assert (mask <= original.astype(int) + 1).all()
    assert (original != truth).any()
    assert figures["size"] == SIZE


def test_the_sheet_shows_every_kind(evaluated):
    folder, _ = evaluated
    height, width, _ = iio.imread(folder / "sheet.png").shape
    blocks = -(-len(KIND_SHARES) // BLOCKS)
    assert height == blocks * (3 * CELL + 4 * LINE)
    assert width >= BLOCKS * CELL


def test_loading_and_a_denoising_step_are_timed_apart(evaluated, monkeypatch):
    _, figures = evaluated
    assert figures["speed"].keys() == {"load_seconds", "denoising_step_seconds", "view_edit_seconds"}
    load, predict = editor_evaluation.load_autoencoder, editor_evaluation.predict_guided
    monkeypatch.setattr(editor_evaluation, "load_autoencoder", lambda *args: sleep(5 * SECONDS) or load(*args))
    monkeypatch.setattr(editor_evaluation, "predict_guided", lambda *args: sleep(SECONDS) or predict(*args))
    monkeypatch.setattr(editor_evaluation, "SPEED_STEPS", 2)
    speed = editor_evaluation.measure_speed(EDIT, "cpu")
    assert speed["load_seconds"] > 5 * SECONDS > speed["denoising_step_seconds"] > SECONDS


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(ValueError, match="holds no photographs"):
        editor_evaluation.read_photographs(tmp_path, 4, 64)


def test_what_is_mistyped_gets_one_sentence(tmp_path):
    for wrong, message in (
        (["--photographs", "/nowhere"], "no folder of photographs /nowhere"),
        (["--edit.model", "/nowhere"], "'/nowhere' is neither"),
        (["--num-cases", "-1"], "must be 0 or more"),
    ):
        with pytest.raises(SystemExit, match=f"Error: .*{message}"):
            main(["editor", "evaluate", "--output", str(tmp_path / "figures"), *wrong])
    assert not list(tmp_path.iterdir())
