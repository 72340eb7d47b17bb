"""Runs that are killed at random moments, in processes of their own: as users' runs are, without the tests' checks."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/kill_runs.py"


def test_runs_that_are_killed_and_resumed_end_as_one_that_was_let_alone(tiny_instruct_pix2pix_folder):
    words = ["--times", "4", "--mask", "field", "--editor", str(tiny_instruct_pix2pix_folder)]
    finished = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr[-2000:]
    assert finished.stdout.splitlines()[-1] == "4 of 4 runs ended as the uninterrupted one, bit for bit."
