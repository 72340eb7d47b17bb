"""Samplers against each other, on few and small views."""

import json

import pytest

from latenteditor.cli import main

SETTINGS = ["--samplers", "ddim", "unipc", "--steps", "2", "6", "--most-guided", "0.8", "1.0"]
SIZES = ["--num-cases", "2", "--size", "64", "--reference-steps", "12"]


def test_every_setting_is_measured_in_the_order_it_was_asked_for(tmp_path, capsys):
    main(["editor", "samplers", "--output", str(tmp_path / "samplers.json"), *SETTINGS, *SIZES])
    rows = json.loads((tmp_path / "samplers.json").read_text())["settings"]
    assert [(row["most_guided"], row["sampler"], row["steps"]) for row in rows] == [
        (most, sampler, steps) for most in (0.8, 1.0) for sampler in ("ddim", "unipc") for steps in (2, 6)
    ]
    nearness = {(row["most_guided"], row["sampler"], row["steps"]): row["to_reference"] for row in rows}
    for sampler in ("ddim", "unipc"):
        assert nearness[1.0, sampler, 6] > nearness[1.0, sampler, 2], "more steps come nearer to what they tend to"
    assert all(0 <= row["recognised"] <= 1 and row["cpu_seconds"] > 0 for row in rows)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 8 + 1 and shown[0].startswith("sampler ddim   steps 2")


def test_what_is_mistyped_gets_one_sentence(tmp_path):
    for wrong, message in (("--num-cases 0", "1 or more worlds"), ("--edit.model /nowhere", "'/nowhere' is neither")):
        with pytest.raises(SystemExit, match=f"Error: .*{message}"):
            main(["editor", "samplers", "--output", str(tmp_path / "s.json"), *SETTINGS, *SIZES, *wrong.split()])
    assert not (tmp_path / "s.json").exists()
