"""A whole benchmark of few pixels."""

import csv
import json
from pathlib import Path

import imageio.v3 as iio
import pytest
import torch
from PIL import Image, ImageOps

from latenteditor.benchmark import black_boxes, runs
from latenteditor.benchmark.jobs import Job
from latenteditor.cli import main
from latenteditor.pictures import LINE


def small(model: Path) -> list[str]:
    """Options with which a benchmark takes seconds, with an editor whose edits mean nothing."""
    editor = f"--edit.model {model} --edit.no-half-precision --edit.denoising-steps 2 --edit.max-noise 0.98"
    editor += " --edit.delta-mask.draws 1 --edit.delta-mask.gate 0.0"
    sizes = "--size 32 --num-views 4 --num-held-out 2 --max-res 24 --reconstruction-steps 2 --edit-steps 4"
    in2n = "--in2n-rays 64 --in2n-levels 2 --in2n-max-res 24 --in2n-proposal-samples 8 --in2n-samples 8"
    methods = "--methods latenteditor in2n refit truth --sharp-finish-steps 2 --sharp-steps-per-point 2"
    rest = "--steps-per-edit 2 --steps-per-point 2 --device cpu"
    return f"{editor} {sizes} {in2n} {methods} {rest}".split()


@pytest.fixture
def performed(monkeypatch) -> list[str]:
    """Lets runs be done in this process, because each in its own would import for ten seconds; names them."""
    done = []

    def perform(job: Job, folder: Path) -> None:
        done.append(folder.name)
        runs.perform(job, folder)

    monkeypatch.setattr(runs, "_in_own_process", perform)
    return done


def test_an_editor_of_whole_pictures_needs_no_scene_of_latents(
    tiny_instruct_pix2pix_folder, tmp_path, monkeypatch, performed
):
    def invert(image: Image.Image, prompt: str, seed: int = 0) -> Image.Image:
        """A corner inverted."""
        corner = (image.width // 2, image.height // 2, image.width, image.height)
        edited = image.copy()
        edited.paste(ImageOps.invert(image.crop(corner)), corner)
        return edited

    monkeypatch.setattr(black_boxes, "miniature", invert)
    sizes = "--size 64 --methods black-box --max-res 24"
    main(["benchmark", "--output", str(tmp_path), *small(tiny_instruct_pix2pix_folder), *sizes.split()])
    assert performed == ["colours", "black-box"]
    (run,) = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert run["points"][-1]["view_edits"] == 4 and run["points"][-1]["mask_iou"] is not None
    (dataset,) = tmp_path.glob("*/make-*/black-box/dataset")
    assert (dataset / "transforms.json").is_file() and any((dataset.parent / "pictures").rglob("*.png"))


def test_a_benchmark_measures_every_method_and_goes_on_where_it_was(
    tiny_instruct_pix2pix_folder, tmp_path, monkeypatch, performed
):
    words = ["benchmark", "--output", str(tmp_path), *small(tiny_instruct_pix2pix_folder)]
    main(words)
    assert performed == ["latents", "latenteditor", "colours", "in2n", "refit", "truth"]
    results = json.loads((tmp_path / "results.json").read_text())
    latent, colours, *finished = results["runs"]
    for run in finished:
        assert [point["steps"] for point in run["points"]] == [0, 2] and run["points"][-1]["view_edits"] == 0
    for run in (latent, colours):
        assert [point["steps"] for point in run["points"]] == [0, 2, 4]
        assert [point["view_edits"] for point in run["points"]] == [0, 1, 2]
        seconds = [point["seconds"] for point in run["points"]]
        assert seconds[0] == 0 < seconds[1] < seconds[2]
        assert run["peak_memory_mib"] > 100
        assert run["reconstruction"]["steps"] == 2
    # Rays of training, of the views that were edited and, every four steps, of the adapter's view of 4x4 cells.
    assert colours["points"][-1]["rays"] == 4 * 64 + 2 * 32 * 32
    assert latent["points"][-1]["rays"] == 4 * 512 + 2 * 16 + 16
    assert latent["points"][-1]["mask_iou"] is not None
    assert colours["points"][-1]["mask_iou"] is None
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert len(rows) == 6 + 4
    table = (tmp_path / "table.md").read_text()
    assert "no LPIPS" in table
    assert "- Command: `latenteditor benchmark" in table
    (pictures,) = tmp_path.glob("*/make-*/held-out.png")
    assert iio.imread(pictures).shape == (6 * (32 + 2 * LINE), 2 * 32 + 2 * LINE, 3)
    assert results["machine"]["torch"] == torch.__version__
    assert (tmp_path / "curves.png").exists()

    monkeypatch.setattr(runs, "_in_own_process", lambda job, folder: pytest.fail(f"{folder} was run again"))
    with pytest.raises(SystemExit, match="Error: .* is not empty: pass --resume"):
        main(words)
    main([*words, "--resume"])
    assert (tmp_path / "table.md").read_text() == table
