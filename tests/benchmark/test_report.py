import csv
import math
from dataclasses import replace

import imageio.v3 as iio
import pytest

from latenteditor.benchmark import plots
from latenteditor.benchmark.curves import Point
from latenteditor.benchmark.plots import compared, write_overview, write_plot
from latenteditor.benchmark.report import Edit, markdown, reach, summarise, write_points


def edit(method: str, *rows: tuple[float, ...], seed: int = 0, **figures: float) -> Edit:
    """An edit of points (seconds, inside, outside, and the change where it matters)."""
    points = tuple(
        Point(float(seconds), 2.0 * seconds, 10 * index, index, 1000 * index, *(float(value) for value in quality))
        for index, (seconds, *quality) in enumerate(rows)
    )
    costs = {"setup_seconds": 1.0, "seconds_per_view_edit": 0.5, "peak_memory_mib": 900.0, "peak_gpu_memory_mib": 0.0}
    return Edit(method, seed, "make the cone blue", points, **{**costs, **figures})


EDITS = [
    edit("latenteditor", (0, 10, 25, 0), (10, 20, 25, 1), reconstruction_seconds=30.0, reconstruction_psnr=22.04),
    edit("in2n", (0, 10, 26, 0), (40, 18, 25.2, 1), reconstruction_seconds=60.0),
    edit("latenteditor", (0, 10, 20, 0), (10, 20, 20, 1), seed=1, reconstruction_seconds=32.0),
    edit("in2n", (0, 10, 26, 0), (40, 14, 25.2, 1), seed=1, reconstruction_seconds=66.0),
    edit("alone", (3, 22, 21, 1), seed=1),
]


def test_an_edit_is_compared_with_the_baseline_of_its_own_world():
    inside = [reach(one, EDITS, "inside", tolerance=0.5, clock="seconds") for one in EDITS]
    assert inside[0] == pytest.approx((8, 5))
    assert inside[1] == pytest.approx((40, 1))
    assert inside[2] == pytest.approx((4, 10))
    assert inside[4].time == 3
    assert math.isnan(reach(EDITS[0], EDITS[:1], "inside", tolerance=0.5, clock="seconds").time)


def test_damage_counts_from_each_ones_own_unedited_scene():
    baseline = edit("in2n", (0, 10, 30), (40, 18, 29))
    blurred, damaged = edit("latenteditor", (0, 10, 20), (10, 20, 19)), edit("in2n-mask", (0, 10, 30), (10, 20, 26))
    for one, time in ((blurred, 8), (damaged, math.inf)):
        found = reach(one, [baseline, one], "inside", tolerance=0.5, clock="seconds")
        assert found == pytest.approx((time, 40 / time))


def test_most_of_the_baselines_change_is_enough():
    baseline, other = edit("in2n", (0, 10, 30, 0), (40, 18, 30, 0.8)), edit("alone", (10, 12, 30, 0.77))
    assert reach(other, [baseline, other], "inside", 0.5, "seconds") == (math.inf, 0)
    assert reach(other, [baseline, other], "change", 0.5, "seconds") == pytest.approx((10, 3.8))
    assert reach(edit("alone", (10, 12, 30, 0.75)), [baseline], "change", 0.5, "seconds") == (math.inf, 0)


def test_a_row_holds_the_medians_of_a_method():
    latent, in2n, alone = summarise(EDITS, tolerance=0.5)
    assert [row["method"] for row in (latent, in2n, alone)] == ["latenteditor", "in2n", "alone"]
    assert latent["reconstruction_seconds"] == 31
    assert latent["reached"]["inside"] == pytest.approx({"time": 6, "times_sooner": 7.5, "edits": 2})
    assert in2n["reached"]["inside"] == pytest.approx({"time": 40, "times_sooner": 1, "edits": 2})
    assert latent["edits"] == 2
    assert in2n["inside_unedited"] == 10
    assert in2n["inside"] == 16
    assert math.isnan(alone["reconstruction_seconds"])
    assert math.isnan(alone["inside_unedited"])
    assert summarise(EDITS, 0.5, "cpu_seconds")[0]["reached"]["inside"]["time"] == pytest.approx(12)


def test_the_tables_name_machine_and_command_and_say_never():
    slow = [edit("latenteditor", (0, 10, 30), (10, 12, 30)), edit("in2n", (0, 10, 26), (40, 18, 25.2))]
    rows = summarise([replace(slow[0], reconstruction_psnr=22.04), slow[1]], tolerance=0.5)
    text = markdown(rows, {"cpu": "Z80", "gpu": "none"}, "latenteditor benchmark", ["A note."], 0.5)
    lines = text.splitlines()
    quality, final, costs = (
        [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[first : first + 4]]
        for first in (0, 5, 10)
    )
    for table in (quality, final, costs):
        assert len({len(row) for row in table}) == 1
    latent = dict(zip(quality[0], quality[2], strict=True))
    assert latent["inside, dB"] == "10.0 -> 12.0"
    assert latent["to in2n's inside, s"] == "never"
    latent = dict(zip(final[0], final[2], strict=True))
    assert latent["outside, dB against its unedited scene"] == "+0.00"
    assert latent["LPIPS inside"] == latent["leaks to, pixels"] == ""
    latent = dict(zip(costs[0], costs[2], strict=True))
    assert latent["reconstructed, dB"] == "22.0"
    assert latent["GPU memory, MiB"] == ""
    assert "- A note." in lines
    assert "- Machine: cpu Z80, gpu none." in lines
    assert "- Command: `latenteditor benchmark`" in lines


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
    write_overview(tmp_path / "one.png", EDITS[:2])
    everything, one = (iio.imread(tmp_path / name) for name in ("all.png", "one.png"))
    assert everything.shape == one.shape
    assert (everything != one).any()
    figure, axes = plots._figure(1, "seconds")
    axes[0][0].plot([0, 40], [0, 1])
    plots._save(figure, tmp_path / "axes.png")
    low, high = axes[0][0].get_xlim()
    assert low == 0
    assert high >= 40
    ends = {(0, "make the cone blue", None): 18.0}
    assert compared(EDITS[0], "inside", ends, "seconds") == ([0, 10], [-8, 2])
    assert compared(EDITS[1], "outside", ends, "cpu_seconds") == ([0, 80], pytest.approx([0, -0.8]))
