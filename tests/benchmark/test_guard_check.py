"""The guard's measurement: its pictures are displaced as it says, and its counts follow from its rows."""

import json

import numpy as np
import pytest

from latenteditor.benchmark.guard_check import GuardCheckConfig, draw_edit, furthest, main, make, summarise

SIZE = 96


def test_motions_are_undone_and_strangers_refused(tmp_path, capsys):
    file = tmp_path / "guard.json"
    main(GuardCheckConfig(file, first_seed=3_200_100, num_edits=2, num_strange=2, size=SIZE))
    figures = json.loads(file.read_text())
    kinds = [row["kind"] for row in figures["pictures"]["kept"]]
    assert kinds == ["displaced", "still", "other view", "mirrored"]
    for background in ("kept", "painted over"):
        counts = figures["summary"][background]
        assert counts["edits"] == 2 and counts["strange"] == 2
        assert counts["passed wrong"] == 0 and counts["strange passed"] == 0
    assert figures["summary"]["kept"]["right"] == 2
    assert "Background painted over: edits 2" in capsys.readouterr().out


def test_the_same_seed_makes_the_same_picture_and_paint_covers_a_part_of_it():
    edit = draw_edit(3_200_101, SIZE, exact=True)
    still, again, painted = (make(edit, "still", 3_200_101, paint) for paint in (False, False, True))
    assert (still.picture == again.picture).all()
    assert still.motion is not None and np.array_equal(still.motion, np.eye(2, 3))
    changed = (still.picture != painted.picture).any(dim=0)
    assert 0.02 < changed.float().mean() < 0.4
    assert make(edit, "mirrored", 3_200_101, False).motion is None


def test_motions_differ_most_in_a_corner():
    assert furthest(np.array([[0, 0, 3.0], [0, 0, 4]]), SIZE) == pytest.approx(5)
    assert furthest(np.array([[0.01, 0, 0], [0, 0.01, 0]]), 100) == pytest.approx(2**0.5)


def test_what_is_off_by_more_than_a_pixel_is_not_right():
    rows = [
        {"kind": "displaced", "error": 0.5, "fault": None},
        {"kind": "displaced", "error": 1.5, "fault": None},
        {"kind": "still", "error": 0.0, "fault": "too plain"},
        {"kind": "mirrored", "error": None, "fault": None},
        {"kind": "turned", "error": None, "fault": "turned"},
    ]
    assert summarise(rows) == {
        "edits": 3, "right": 1, "displaced": 2, "put right": 1, "passed wrong": 1, "refused": 1,
        "strange": 2, "strange passed": 1,
    }  # fmt: skip
