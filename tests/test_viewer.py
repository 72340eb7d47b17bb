"""The viewer of an edited run, as somebody sees it who opens it in a browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
START_SECONDS = 400
"""Importing nerfstudio takes a while on a busy machine."""
COMMAND = "from nerfstudio.scripts.viewer.run_viewer import entrypoint; entrypoint()"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def viewer(edited_run, tmp_path):
    """The port of a running ns-viewer, and its log."""
    port, log = free_port(), tmp_path / "viewer.log"
    arguments = ["--load-config", str(edited_run.base_dir / "config.yml")]
    arguments += ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=Path(__file__).parents[1],
            start_new_session=True,
        )
        try:
            give_up = time.monotonic() + START_SECONDS
            while not answers(port):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < give_up, log.read_text()
                time.sleep(0.5)
            yield port, log
            assert process.poll() is None, log.read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def screenshot(port: int, folder: Path) -> np.ndarray:
    """What a browser shows of the page after its first renders."""
    assert CHROMIUM is not None
    path = folder / "viewer.png"
    subprocess.run(
        [
            CHROMIUM,
            *FLAGS,
            "--window-size=1000,640",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=20000",
            "--timeout=60000",
            f"--screenshot={path}",
            f"http://127.0.0.1:{port}/",
        ],
        capture_output=True,
        check=True,
        timeout=300,
    )
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the path")
def test_a_browser_shows_the_edited_scene_and_the_server_complains_of_nothing(viewer, tmp_path):
    port, log = viewer
    for attempt in range(3):  # A busy machine may be slower than the browser's patience.
        shown = screenshot(port, tmp_path)
        scene = shown[100:540, 100:600].reshape(-1, 3)
        rendered = (scene.min(axis=1) < 240).mean()
        if rendered > 0.5 or attempt == 2:
            break
    assert rendered > 0.5, f"only {rendered:.0%} of the scene is not white"
    assert len(np.unique(scene, axis=0)) > 50
    complaints = [line for line in log.read_text().splitlines() if "Traceback" in line or "Error" in line]
    assert not complaints, log.read_text()
