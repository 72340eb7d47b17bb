import csv
import math

import imageio.v3 as iio
import pytest

from latenteditor.benchmark.curves import Point
from latenteditor.benchmark.report import (
    Edit,
    Reached,
    _over_baseline,
    markdown,
    summarise,
    write_overview,
    write_plot,
    write_points,
)


def edit(method: str, *rows: tuple[float, float, float], seed: int = 0, **figures: float) -> Edit:
    """An edit of points (seconds, inside, outside)."""
    points = tuple(
        Point(float(seconds), 2.0 * seconds, 10 * index, index, 1000 * index, float(inside), float(outside))
        for index, (seconds, inside, outside) in enumerate(rows)
    )
    costs = {"setup_seconds": 1.0, "seconds_per_view_edit": 0.5, "peak_memory_mib": 900.0, "peak_gpu_memory_mib": 0.0}
    return Edit(method, seed, "make the cone blue", points, **{**costs, **figures})


EDITS = [
    edit("latenteditor", (0, 10, 25), (10, 20, 25), reconstruction_seconds=30.0, reconstruction_psnr=22.04),
    edit("in2n", (0, 10, 26), (40, 18, 25.2), reconstruction_seconds=60.0),
    edit("latenteditor", (0, 10, 20), (10, 20, 20), seed=1, reconstruction_seconds=32.0),
    edit("in2n", (0, 10, 26), (40, 14, 25.2), seed=1, reconstruction_seconds=66.0),
    edit("alone", (3, 22, 21), seed=1),
]


def test_an_edit_is_compared_with_the_baseline_of_its_own_world():
    reached = [Reached(one, EDITS, tolerance=0.5, clock="seconds") for one in EDITS]
    assert reached[0].inside == pytest.approx(8)
    assert reached[0].both == pytest.approx(8)
    assert reached[1].both == pytest.approx(40)
    assert reached[2].inside == pytest.approx(4)
    assert reached[2].both == math.inf
    assert reached[4].inside == 3
    assert math.isnan(Reached(EDITS[0], EDITS[:1], tolerance=0.5, clock="seconds").inside)


def test_a_row_holds_the_medians_of_a_method():
    latent, in2n, alone = summarise(EDITS, tolerance=0.5)
    assert [row["method"] for row in (latent, in2n, alone)] == ["latenteditor", "in2n", "alone"]
    assert latent["reconstruction_seconds"] == 31
    assert latent["to_inside"] == pytest.approx(6)
    assert latent["to_both"] == math.inf
    assert latent["times_sooner"] == pytest.approx((40 / 8 + 0) / 2)
    assert in2n["times_sooner"] == 1
    assert (latent["reached"], latent["edits"]) == (1, 2)
    assert in2n["inside_unedited"] == 10
    assert in2n["inside"] == 16
    assert math.isnan(alone["reconstruction_seconds"])
    assert math.isnan(alone["inside_unedited"])
    assert summarise(EDITS, 0.5, "cpu_seconds")[0]["to_inside"] == pytest.approx(12)


def test_the_table_names_machine_and_command_and_says_never():
    rows = summarise(EDITS, tolerance=0.5)
    text = markdown(rows, {"cpu": "Z80", "gpu": "none"}, "python scripts/benchmark.py", ["A note."], 0.5)
    lines = text.splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[:5]]
    assert len({len(row) for row in cells}) == 1
    latent = dict(zip(cells[0], cells[2], strict=True))
    assert latent["reconstructed, dB"] == "22.0"
    assert latent["inside, dB"] == "10.0 -> 20.0"
    assert latent["to in2n's inside, s"] == "6.0"
    assert latent["and outside within 0.5 dB, s"] == "never"
    assert latent["GPU memory, MiB"] == ""
    assert latent["reached"] == "1 of 2"
    assert "- A note." in lines
    assert "- Machine: cpu Z80, gpu none." in lines
    assert "- Command: `python scripts/benchmark.py`" in lines


def test_every_point_is_a_line(tmp_path):
    write_points(tmp_path / "points.csv", EDITS)
    rows = list(csv.DictReader((tmp_path / "points.csv").open()))
    assert len(rows) == sum(len(one.points) for one in EDITS)
    assert rows[1]["method"] == "latenteditor"
    assert (float(rows[1]["seconds"]), float(rows[1]["cpu_seconds"]), float(rows[1]["inside"])) == (10, 20, 20)


def test_the_plot_has_a_row_for_each_edit(tmp_path):
    write_plot(tmp_path / "two.png", EDITS, tolerance=0.5)
    write_plot(tmp_path / "one.png", EDITS[:2], tolerance=0.5)
    two, one = (iio.imread(tmp_path / name) for name in ("two.png", "one.png"))
    assert two.shape[1] == one.shape[1]
    assert two.shape[0] == pytest.approx(2 * one.shape[0], abs=2)
    assert two[..., :3].std() > 1


def test_the_overview_shows_all_edits_that_have_a_baseline(tmp_path):
    write_overview(tmp_path / "all.png", EDITS)
    write_overview(tmp_path / "worlds.png", EDITS[2:])
    everything, one = (iio.imread(tmp_path / name) for name in ("all.png", "worlds.png"))
    assert everything.shape == one.shape
    assert (everything != one).any()
    curves = _over_baseline(EDITS, "latenteditor", "inside", "seconds")
    assert curves == [([0, 10], [-8, 2]), ([0, 10], [-4, 6])]
    assert not _over_baseline(EDITS[:1], "latenteditor", "inside", "seconds")
