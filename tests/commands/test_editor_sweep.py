"""Settings of the mask against each other, on few and small views."""

import json

import pytest

from latenteditor.cli import main

SETTINGS = ["--noise-levels", "0.5", "0.8", "--draws", "1", "--thresholds", "0.3", "0.6", "--gates", "0", "1000"]
SIZES = ["--num-cases", "2", "--size", "64"]


def test_every_setting_is_measured_and_the_best_comes_first(tmp_path, capsys):
    main(["editor", "sweep", "--output", str(tmp_path / "sweep.json"), *SETTINGS, *SIZES])
    content = json.loads((tmp_path / "sweep.json").read_text())
    rows = content["settings"]
    assert len(rows) == len({(row["noise_level"], row["clamp"], row["threshold"], row["gate"]) for row in rows})
    assert {row["noise_level"] for row in rows} == {0.5, 0.8}
    ranks = [row["iou"] + min(row["idle_empty"], 0.9) for row in rows]
    assert ranks == sorted(ranks, reverse=True)
    for row in rows:
        assert 0 <= row["iou"] <= 1
        if row["gate"] == 1000:
            assert (row["iou"], row["idle_empty"]) == (0, 1), "nothing passes such a gate"
    assert any(row["iou"] > 0 for row in rows)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 15 + 1
    assert shown[0].startswith(f"noise_level {rows[0]['noise_level']}")


def test_what_is_mistyped_gets_one_sentence(tmp_path):
    for wrong, message in (("--num-cases 0", "1 or more worlds"), ("--model /nowhere", "'/nowhere' is neither")):
        with pytest.raises(SystemExit, match=f"Error: .*{message}"):
            main(["editor", "sweep", "--output", str(tmp_path / "sweep.json"), *SETTINGS, *SIZES, *wrong.split()])
    assert not (tmp_path / "sweep.json").exists()
