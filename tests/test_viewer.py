"""The viewer, as somebody uses it who opens it in a browser: of a run in training, and of an edited one."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latenteditor.worlds.dataset import write_dataset
from latenteditor.worlds.world import random_world
from tests import runs
from tests.browser import CHROMIUM, Page, browser, wait_for

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the path"
)
START_SECONDS = 400
"""Importing nerfstudio takes a while on a busy machine."""
VIEWER = "from nerfstudio.scripts.viewer.run_viewer import entrypoint; entrypoint()"
TRAIN = "from nerfstudio.scripts.train import entrypoint; entrypoint()"
PREVIEW = "document.querySelector('img[alt=preview]')"
TRAINING = {
    "machine.device-type": "cpu",
    "vis": "viewer",
    "viewer.quit-on-train-completion": "True",
    "max-num-iterations": "1000000",
    "experiment-name": "world",
    "timestamp": "now",
    "pipeline.autoencoder": "miniature",
    "pipeline.reconstruction-steps": "40",
    "pipeline.schedule.steps-per-edit": "4",
    "pipeline.edit.model": "miniature",
    "pipeline.edit.mask": "field",
    "pipeline.edit.denoising-steps": "4",
    "pipeline.edit.delta-mask.draws": "1",
    "pipeline.model.relevance.steps": "60",
    "pipeline.model.relevance.rays": "512",
    "pipeline.datamanager.image-size": "128",
    "pipeline.datamanager.train-num-rays-per-batch": "256",
    "pipeline.model.num-levels": "3",
    "pipeline.model.max-res": "48",
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(command: str, arguments: Sequence[str], log: Path) -> Iterator[str]:
    """The address of a viewer, whose process must live as long as it is looked at and complain of nothing."""
    port = free_port()
    where = ["--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1"]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", command, *arguments, *where],
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
            yield f"http://127.0.0.1:{port}/"
            assert process.poll() is None, log.read_text()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    complaints = [line for line in log.read_text().splitlines() if "Traceback" in line or "Error" in line]
    assert not complaints, log.read_text()


def scene(page: Page, name: str) -> np.ndarray:
    """The pixels of a screenshot that show the scene and nothing of the controls."""
    shown = np.asarray(Image.open(page.screenshot(name)).convert("RGB"))
    return shown[150:700, 50:600].reshape(-1, 3).astype(int)


def shows_a_scene(page: Page, name: str) -> bool:
    """Whether more is to be seen than an empty page, which is of one color but for the axes."""
    _, counts = np.unique(scene(page, name), axis=0, return_counts=True)
    return bool(counts.max() < 0.5 * counts.sum())


def choose_panes(page: Page, name: str) -> None:
    """Looks at what the viewer can show of an edited scene beside the scene.

    Relevance alone has a color map, which the host chooses when it has rendered it; so it comes before each other pane.
    """
    for pane in ("relevance", "original", "relevance", "mask_overlay"):
        before = scene(page, name)
        page.choose("Output type", pane)
        color_map = "turbo" if pane == "relevance" else "default"
        wait_for(f"the colors of {pane}", partial(shows_value, page, "Colormap", color_map))
        wait_for(f"the pane {pane}", partial(differs, page, f"{name}_{pane}", before))


def shows_value(page: Page, label: str, value: str) -> bool:
    """Whether a box or a list shows this."""
    return page.value(label) == value


def differs(page: Page, name: str, before: np.ndarray) -> bool:
    """Whether much of the scene is of another color than before."""
    return bool((abs(scene(page, name) - before).max(axis=1) > 20).mean() > 0.2)


def sees_a_preview(page: Page) -> None:
    """Waits for the picture of the view's edit, below the view as it is and its mask."""
    wait_for("the preview", lambda: page.run(f"({PREVIEW} || {{}}).naturalWidth > 0"))
    page.run(f"{PREVIEW}.scrollIntoView({{block: 'center'}})")


@pytest.fixture
def page(tmp_path):
    with browser(tmp_path) as page:
        yield page
        assert not page.complaints


def test_an_edit_is_previewed_started_paused_and_switched_off_in_a_browser(page, tmp_path):
    world = tmp_path / "world"
    write_dataset(world, random_world(0), num_views=8, num_held_out=2, size=128, seed=0)
    options = TRAINING | {"data": str(world), "output-dir": str(tmp_path), "pipeline.edit.prompt": "make the cone blue"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    log = tmp_path / "train.log"
    with serving(TRAIN, ["latenteditor", *words], log) as address:
        page.open(address)
        page.sees("Type a prompt, preview it on this view, then start.")
        wait_for("the scene", lambda: shows_a_scene(page, "1_opened"))
        wait_for("the first layer", lambda: page.value("layer") == "1 on: make the cone blue")

        page.type("prompt", "make the sphere green")
        page.press("Preview on this view")
        page.sees("'make the sphere green' changes")
        sees_a_preview(page)
        page.screenshot("2_preview")

        page.press("Start")
        layers = ["1 on: make the cone blue", "2 on: make the sphere green"]
        wait_for("the second layer", lambda: page.options("layer") == layers)
        page.choose("layer", layers[1])
        page.screenshot("3_started")

        page.press("Pause editing")
        page.sees("Editing is paused")
        page.screenshot("4_paused")

        choose_panes(page, "5")

        page.press("Switch layer on / off")
        page.sees("Layer 2 is off.")
        wait_for("the layer's state", lambda: page.value("layer") == "2 off: make the sphere green")
        page.screenshot("6_switched")


def test_an_edited_run_is_looked_at_in_a_browser_and_loads_its_editor_for_a_preview_only(
    page, tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path
):
    options = {"pipeline.edit.mask": "field", "pipeline.model.relevance.steps": 20}
    run = runs.edit(tiny_world_folder, tiny_instruct_pix2pix_folder, tmp_path, steps=8, **options)
    runs.train(run)
    unet, away = tiny_instruct_pix2pix_folder / "unet", tiny_instruct_pix2pix_folder / "away"
    unet.rename(away)
    try:
        config = str(run.get_base_dir() / "config.yml")
        with serving(VIEWER, ["--load-config", config], tmp_path / "viewer.log") as address:
            page.open(address)
            page.sees("Type a prompt, preview it on this view, then start.")
            wait_for("the scene", lambda: shows_a_scene(page, "7_looked_at"))
            assert page.value("layer") == "1 on: make the cone blue"
            choose_panes(page, "8")
            page.press("Switch layer on / off")
            page.sees("Layer 1 is off.")
            wait_for("the layer's state", lambda: page.value("layer") == "1 off: make the cone blue")
            page.press("Start")
            page.sees("This scene is only looked at")

            page.press("Preview on this view")
            page.sees("it has no unet/config.json")
            away.rename(unet)
            page.press("Preview on this view")
            page.sees("'make the cone blue' changes")
            sees_a_preview(page)
            page.screenshot("9_preview_of_a_run")
    finally:
        if away.exists():
            away.rename(unet)
