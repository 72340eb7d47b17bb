"""`latenteditor evaluate` from folders of PNGs, and from two runs, to its figures."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from latenteditor import cli
from latenteditor.commands import evaluate as command

SCRIPT = Path(__file__).parents[2] / "scripts" / "evaluate_edit.py"
NAMES = ["00000", "00001", "00002"]
HEIGHT, WIDTH = 36, 40


def write(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for name, image in zip(NAMES, images, strict=True):
        iio.imwrite(folder / f"{name}.png", image)
    return folder


@pytest.fixture
def folders(tmp_path) -> dict[str, Path]:
    """Three frames; the edit brightens the left half by 51 of 255, which is what it should do but for the last row."""
    original = np.random.default_rng(0).integers(0, 200, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    region = np.zeros((3, HEIGHT, WIDTH), dtype=np.uint8)
    region[..., : WIDTH // 2] = 7
    edited = original + 51 * (region > 0)[..., None].astype(np.uint8)
    truth = edited.copy()
    truth[:, -1] = original[:, -1]
    mask = np.zeros_like(region)
    mask[..., : WIDTH // 4] = 255
    arrays = {"original": original, "edited": edited, "region": region, "truth": truth, "mask": mask}
    return {name: write(tmp_path / name, array) for name, array in arrays.items()}


@pytest.fixture
def evaluate(folders, tmp_path):
    """Runs the command on the folders and reads its figures."""

    def run(**options: Any) -> dict[str, Any]:
        paths = {"original": folders["original"], "edited": folders["edited"], "output": tmp_path / "figures"}
        command.main(command.Args(**({"clip": "none", "device": "cpu"} | paths | options)))
        return json.loads((tmp_path / "figures" / "figures.json").read_text())

    return run


def mean(content: dict[str, Any], name: str) -> Any:
    return content["figures"][name]["mean"]


def test_figures_in_and_outside_a_region_are_those_known_by_construction(evaluate, folders, tmp_path, capsys):
    content = evaluate(region_dir=folders["region"], truth_dir=folders["truth"], training_mask_dir=folders["mask"])
    assert content["frames"] == NAMES
    assert mean(content, "edit_psnr_inside") == pytest.approx(-20 * math.log10(0.2), abs=1e-3)
    assert mean(content, "edit_psnr") == pytest.approx(-20 * math.log10(0.2) + 10 * math.log10(2), abs=1e-3)
    assert mean(content, "edit_psnr_outside") == "Infinity"
    assert mean(content, "edit_ssim_inside") < mean(content, "edit_ssim_outside") < 1
    assert mean(content, "region_coverage") == pytest.approx(0.5)
    assert mean(content, "training_mask_coverage") == pytest.approx(0.25)
    assert mean(content, "training_mask_iou") == pytest.approx(0.5)
    row = -20 * math.log10(0.2) + 10 * math.log10(HEIGHT)
    assert mean(content, "truth_edited_psnr_inside") == pytest.approx(row, abs=1e-3)
    assert mean(content, "truth_edited_psnr_outside") == "Infinity"
    assert mean(content, "truth_unedited_psnr_inside") == pytest.approx(
        -20 * math.log10(0.2) - 10 * math.log10(1 - 1 / HEIGHT), abs=1e-3
    )
    assert len(content["figures"]["edit_psnr"]["per_frame"]) == 3
    for name in ("clip_direction_similarity", "clip_direction_consistency_wys"):
        assert content["figures"][name]["missing"] == "no CLIP model"
    assert content["figures"]["edit_lpips"]["missing"] == "no LPIPS weights"
    assert "two config.yml" in content["figures"]["reprojection_psnr_edited"]["missing"]
    picture = iio.imread(tmp_path / "figures" / "frames.png")
    assert picture.shape == (4 * (HEIGHT + 4), 3 * (WIDTH + 4), 3)
    np.testing.assert_array_equal(picture[2 : 2 + HEIGHT, 2 : 2 + WIDTH], iio.imread(folders["original"] / "00000.png"))
    outlined = (picture[3 * (HEIGHT + 4) :] == (255, 0, 255)).all(axis=-1)
    assert outlined.sum() == 3 * HEIGHT
    shown = capsys.readouterr().out
    assert "no CLIP model" in shown
    assert "edit_psnr_outside" in shown


def test_polygons_and_masks_of_one_region_give_the_same_figures(evaluate, folders, tmp_path):
    by_mask = evaluate(region_dir=folders["region"])
    left = [[0, 0], [WIDTH // 2 - 1, 0], [WIDTH // 2 - 1, HEIGHT - 1], [0, HEIGHT - 1]]
    polygon = tmp_path / "polygons.json"
    polygon.write_text(json.dumps({name: [left] for name in NAMES}))
    assert evaluate(polygon=polygon)["figures"] == by_mask["figures"]
    polygon.write_text(json.dumps(dict.fromkeys(NAMES, [])))
    nowhere = evaluate(polygon=polygon)
    assert mean(nowhere, "edit_psnr_inside") is None
    assert mean(nowhere, "edit_psnr_outside") == mean(nowhere, "edit_psnr")


def test_a_training_mask_in_the_regions_place_is_called_what_it_is(evaluate, folders):
    content = evaluate(training_mask_dir=folders["mask"])
    assert content["region"].endswith("training mask, not independent")
    for name in ("edit_psnr_outside", "edit_ssim_inside"):
        assert content["figures"][name]["definition"].endswith("(training mask, not independent)")
    assert mean(content, "training_mask_coverage") == pytest.approx(0.25)
    assert content["figures"]["training_mask_iou"]["missing"]


def test_clip_figures_are_their_formulas_on_the_models_embeddings(evaluate, folders, tiny_clip_folder):
    from latenteditor.editing.metrics import CONSISTENCIES
    from latenteditor.networks.clip import load_clip

    captions = {"source_caption": "a bear", "target_caption": "a panda"}
    content = evaluate(clip=str(tiny_clip_folder), consecutive=True, **captions)
    clip = load_clip(str(tiny_clip_folder), "cpu")
    original, edited = (
        clip.embed_images(
            torch.stack([torch.from_numpy(iio.imread(folders[name] / f"{frame}.png")) for frame in NAMES])
            .movedim(-1, 1)
            .float()
            / 255
        )
        for name in ("original", "edited")
    )
    source, target = clip.embed_texts(list(captions.values()))
    expected = torch.cosine_similarity(edited - original, (target - source)[None])
    figure = content["figures"]["clip_direction_similarity"]
    assert figure["model"] == str(tiny_clip_folder)
    assert figure["per_frame"] == pytest.approx(expected.tolist(), abs=1e-4)
    for name, consistency in CONSISTENCIES.items():
        figure = content["figures"][f"clip_direction_consistency_{name}"]
        assert figure["definition"] == consistency.formula
        assert figure["per_pair"] == pytest.approx(consistency.measure(original, edited).tolist(), abs=1e-4)


def test_held_out_views_have_no_direction_consistency_and_no_caption_no_similarity(evaluate, tiny_clip_folder):
    content = evaluate(clip=str(tiny_clip_folder))
    assert content["figures"]["clip_direction_similarity"]["missing"] == "no captions"
    assert "pass --consecutive" in content["figures"]["clip_direction_consistency_in2n"]["missing"]


def test_a_clip_that_cannot_be_loaded_leaves_the_rest(evaluate, tmp_path):
    content = evaluate(clip=str(tmp_path))
    assert content["figures"]["clip_direction_similarity"]["missing"].startswith("no CLIP model: There is no CLIP in")
    assert mean(content, "edit_psnr") > 0


def test_lpips_is_measured_in_and_outside_the_region(evaluate, folders, tmp_path):
    import lpips

    weights = tmp_path / "lpips.pth"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).state_dict(), weights)
    content = evaluate(lpips_weights=weights, region_dir=folders["region"])
    assert mean(content, "edit_lpips_inside") > mean(content, "edit_lpips_outside") > 0
    assert content["figures"]["edit_lpips"]["model"] == "LPIPS, AlexNet, lpips.pth"
    assert len(content["models"]["lpips"]["sha256"]) == 64
    same = evaluate(lpips_weights=weights, edited=folders["original"])
    assert mean(same, "edit_lpips") == 0


def test_mistakes_are_answered_with_one_line(evaluate, folders, tmp_path):
    missing, fewer = tmp_path / "missing", tmp_path / "fewer"
    write(fewer, np.zeros((3, HEIGHT, WIDTH, 3), dtype=np.uint8))
    (fewer / "00001.png").unlink()
    small = write(tmp_path / "small", np.zeros((3, 6, 8), dtype=np.uint8))
    polygon = tmp_path / "polygon.json"
    polygon.write_text('{"00000": [[[1, 2], [3, 4]]]}')
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"original": missing}, "There is no .*missing: pass a folder of frames"),
        ({"edited": fewer}, r"hold different frames \(such as 00001\)"),
        ({"edited": polygon}, "One scene is a folder and the other a file"),
        ({"truth_dir": fewer}, "has no image of the frame 00001"),
        ({"region_dir": small}, "has 8x6 pixels and its frame 40x36"),
        ({"region_dir": small, "polygon": polygon}, "given twice"),
        ({"polygon": polygon}, "has 2 corners: 3 are needed"),
        ({"polygon": missing}, "There is no file .*missing of polygons: correct or drop --polygon"),
        ({"polygon": small / "00000.png"}, "cannot be read .*: expected JSON"),
        ({"region_dir": missing}, "There is no folder .*missing: --region-dir is one with an image for each frame"),
        ({"training_mask_dir": missing}, "There is no folder .*missing: --training-mask-dir is one with"),
        ({"truth_dir": missing}, "There is no folder .*missing: --truth-dir is one with an image for each frame"),
        ({"source_caption": "a bear"}, "Only one caption is given"),
        ({"source_caption": "a bear", "target_caption": "a bear"}, "Both captions are 'a bear'"),
        ({"camera_path": polygon}, "of folders, pass --consecutive"),
        ({"lpips_weights": missing}, "There is no file .*missing of LPIPS weights"),
        ({"depth_tolerance": 1.5}, "between 0 and 1, not 1.5"),
    ]
    for options, answer in mistakes:
        with pytest.raises(ValueError, match=answer) as raised:
            evaluate(**options)
        assert "\n" not in str(raised.value)
    run = polygon
    with pytest.raises(ValueError, match=r"There is no camera path .*missing: export one from the viewer"):
        evaluate(original=run, edited=run, camera_path=missing)


def test_the_command_line_is_read_and_answered(folders, tmp_path, capsys):
    words = ["evaluate", "--original", str(folders["original"]), "--edited", str(folders["edited"])]
    words += ["--output", str(tmp_path / "figures"), "--region-dir", str(folders["region"]), "--clip", "none"]
    cli.main([*words, "--device", "cpu"])
    shown = capsys.readouterr().out.splitlines()
    assert f"3 frames; region: masks of {folders['region']}" in shown
    assert shown[-2:] == [f"Figures: {tmp_path}/figures/figures.json", f"Picture: {tmp_path}/figures/frames.png"]
    assert mean(json.loads((tmp_path / "figures/figures.json").read_text()), "region_coverage") == pytest.approx(0.5)


def test_the_old_name_says_the_new_one_and_what_is_wrong_and_nothing_else(folders, tmp_path):
    words = [sys.executable, str(SCRIPT), "--original", str(tmp_path / "missing"), "--edited"]
    words += [str(folders["edited"]), "--output", str(tmp_path / "figures")]
    finished = subprocess.run(words, capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1])
    assert finished.returncode == 1
    new_name, error = finished.stderr.splitlines()
    assert new_name.startswith("scripts/evaluate_edit.py is now `latenteditor evaluate`;")
    assert error.startswith("Error: There is no")


def test_two_runs_are_rendered_and_re_projected(evaluate, edited_run, reconstructed_run, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    configs = {
        name: run.config.get_base_dir() / "config.yml"
        for name, run in {"original": reconstructed_run, "edited": edited_run}.items()
    }
    content = evaluate(**configs)
    assert content["runs"]["edited"]["method"] == "latenteditor"
    assert len(content["frames"]) == 2
    for scene in ("original", "edited"):
        assert sorted(file.stem for file in (tmp_path / "figures/renders" / scene).iterdir()) == content["frames"]
        (visible,) = content["figures"][f"reprojection_visible_{scene}"]["per_pair"]
        assert 0 <= visible <= 1
    # What was saved is what was measured.
    again = evaluate(**{name: tmp_path / "figures/renders" / name for name in configs})
    assert again["figures"]["edit_psnr"]["per_frame"] == content["figures"]["edit_psnr"]["per_frame"]

    pose = [0.0] * 16
    pose[0] = pose[5] = pose[10] = pose[15] = 1.0
    poses = [[*pose[:3], x, *pose[4:11], 0.8, *pose[12:]] for x in (0.0, 0.0, 0.05)]
    path = tmp_path / "camera_path.json"
    path.write_text(
        json.dumps(
            {
                "render_height": 32,
                "render_width": 40,
                "camera_type": "perspective",
                "camera_path": [{"camera_to_world": pose, "fov": 50.0, "aspect": 1.25} for pose in poses],
            }
        )
    )
    content = evaluate(camera_path=path, **configs)
    assert content["frames"] == NAMES
    assert iio.imread(tmp_path / "figures/renders/edited/00000.png").shape == (32, 40, 3)
    still, moved = content["figures"]["reprojection_visible_original"]["per_pair"]
    assert still > 0.95
    assert content["figures"]["reprojection_l1_original"]["per_pair"][0] < 1e-3
    assert moved < still
