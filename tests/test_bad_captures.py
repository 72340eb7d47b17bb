"""Captures and photographs that nothing can be learned from, and the one line that each is answered with."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.engine.callbacks import TrainingCallbackAttributes
from PIL import Image

from latenteditor.nerf.datamanager import LatentDataManager, LatentDataManagerConfig
from latenteditor.nerf.image_datamanager import ImageDataManager, ImageDataManagerConfig
from latenteditor.networks.autoencoder import Autoencoder, AutoencoderConfig

NUM_VIEWS = 6
WIDTH, HEIGHT = 48, 40


def cells() -> Autoencoder:
    """An autoencoder, as far as reading a capture needs one."""
    network: Any = torch.nn.Identity()
    network.config = {}
    return Autoencoder(network, AutoencoderConfig("Identity", "", channels=4, factor=8, overflows_in_half=False))


class Capture:
    """A small capture in nerfstudio's format, to get one thing wrong in."""

    def __init__(self, folder: Path) -> None:
        """Writes what is right: six photographs from a circle, the last of them held out."""
        self.folder = folder
        (folder / "images").mkdir(parents=True)
        self.names = [f"images/{index}.png" for index in range(NUM_VIEWS)]
        for index, name in enumerate(self.names):
            self.photograph(index).save(folder / name)
        self.described: dict[str, Any] = {
            "w": WIDTH,
            "h": HEIGHT,
            "fl_x": 50.0,
            "fl_y": 50.0,
            "cx": WIDTH / 2,
            "cy": HEIGHT / 2,
            "frames": [{"file_path": name, "transform_matrix": pose(index)} for index, name in enumerate(self.names)],
            "train_filenames": self.names[:-1],
            "val_filenames": self.names[-1:],
            "test_filenames": self.names[-1:],
        }
        self.write()

    @staticmethod
    def photograph(index: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
        """A colourful picture."""
        pixels = np.random.default_rng(index).random((4, 5, 3))
        return Image.fromarray((255 * pixels).astype("uint8")).resize(size)

    def write(self, **changes: Any) -> "Capture":
        """Writes the cameras down, some of what is said of them changed."""
        self.described |= changes
        (self.folder / "transforms.json").write_text(json.dumps(self.described))
        return self

    def frame(self, index: int, **changes: Any) -> "Capture":
        """Changes what is said of one photograph; None takes it away."""
        frame = self.described["frames"][index]
        frame |= changes
        for name in [name for name, value in changes.items() if value is None]:
            del frame[name]
        return self.write()

    def without(self, name: str) -> "Capture":
        """Takes away what is said of all cameras."""
        del self.described[name]
        return self.write()

    def file(self, index: int, content: bytes | Image.Image, **options: Any) -> "Capture":
        """Replaces one photograph, whatever its ending."""
        path = self.folder / self.names[index]
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, **({"format": "PNG"} | options))
        return self

    def only(self, count: int) -> "Capture":
        """Keeps the first few photographs, of which none is held out."""
        for split in ("train", "val", "test"):
            del self.described[f"{split}_filenames"]
        return self.write(frames=self.described["frames"][:count])

    def masks(self, make: Callable[[int], Image.Image | None]) -> "Capture":
        """Gives each photograph a mask; None leaves the file out."""
        (self.folder / "masks").mkdir()
        for index, frame in enumerate(self.described["frames"]):
            frame["mask_path"] = f"masks/{index}.png"
            mask = make(index)
            if mask is not None:
                mask.save(self.folder / frame["mask_path"])
        return self.write()

    def read(self) -> LatentDataManager:
        """Reads it, as far as before the photographs are encoded."""
        return data_manager(self.folder)

    def train(self) -> None:
        """Reads it up to where training would begin."""
        manager = self.read()
        for index in range(len(manager.train_photographs)):
            manager.train_photographs[index]
        manager.load_views = lambda: cast(Any, None)
        manager.get_training_callbacks(TrainingCallbackAttributes(None, None, None, None))


def data_manager(data: Path, parser: Any = None) -> LatentDataManager:
    config = LatentDataManagerConfig(data=data, dataparser=parser or NerfstudioDataParserConfig(), image_size=32)
    return config.setup(device="cpu", test_mode="val", autoencoder=cells())


def pose(index: int) -> list[list[float]]:
    """A camera on a circle, which looks inwards."""
    sine, cosine = math.sin(index), math.cos(index)
    return [[cosine, 0, sine, 2 * sine], [0, 1, 0, 0], [-sine, 0, cosine, 2 * cosine], [0, 0, 0, 1]]


def changed_pose(row: int, column: int, value: Any) -> list[list[Any]]:
    changed: list[list[Any]] = pose(2)
    changed[row][column] = value
    return changed


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def truncated(index: int = 0, file_format: str = "JPEG") -> bytes:
    """Half of a picture."""
    from io import BytesIO

    whole = BytesIO()
    noise = np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(noise).save(whole, file_format)
    return whole.getvalue()[: len(whole.getvalue()) // 2]


def blender(at: Capture) -> None:
    """Reads a capture in nerfstudio's format by the parser of another."""
    data_manager(at.folder, BlenderDataParserConfig())


MISTAKES: list[tuple[str, Callable[[Capture], Any], str]] = [
    # Where it lies, and its cameras.
    ("no such data", lambda at: data_manager(at.folder / "typo"), r"no capture .*typo: pass the folder .* --data"),
    (
        "no such data of another format",
        lambda at: data_manager(at.folder / "typo", BlenderDataParserConfig()),
        "no capture .*typo",
    ),
    (
        "no cameras",
        lambda at: data_manager(at.folder / "images"),
        r"transforms\.json does not exist: make its folder .* with ns-process-data",
    ),
    ("another parser", blender, "cannot be read by the parser of Blender .*name the parser of its format"),
    (
        "broken JSON",
        lambda at: ((at.folder / "transforms.json").write_text('{"frames": ['), at.read()),
        r"transforms\.json is damaged, it is no JSON \(.*\): make it",
    ),
    (
        "binary cameras",
        lambda at: ((at.folder / "transforms.json").write_bytes(b"\xff\xfe\x00"), at.read()),
        "is damaged, it is no JSON",
    ),
    (
        "a list of cameras",
        lambda at: ((at.folder / "transforms.json").write_text("[1]"), at.read()),
        "holds a list, not cameras",
    ),
    ("no list of frames", lambda at: at.without("frames").read(), "has no list of frames"),
    ("no frames", lambda at: at.write(frames=[]).read(), "lists no photograph"),
    ("nameless photograph", lambda at: at.frame(2, file_path=None).read(), "Frame 2 .* names no photograph"),
    (
        "no pose",
        lambda at: at.frame(2, transform_matrix=None).read(),
        r"no transform_matrix in .* for images/2\.png, so nobody knows",
    ),
    (
        "pose that is NaN",
        lambda at: at.frame(2, transform_matrix=changed_pose(0, 3, math.nan)).read(),
        r"for images/2\.png holds numbers that are not finite",
    ),
    (
        "infinite pose",
        lambda at: at.frame(2, transform_matrix=changed_pose(1, 3, math.inf)).read(),
        r"for images/2\.png holds numbers that are not finite",
    ),
    (
        "pose of words",
        lambda at: at.frame(2, transform_matrix=changed_pose(1, 3, "far")).read(),
        "something else than numbers",
    ),
    ("pose of one row", lambda at: at.frame(2, transform_matrix=[1, 2, 3]).read(), "has 3 numbers, not 4x4"),
    (
        "flat pose",
        lambda at: at.frame(2, transform_matrix=[[0.0] * 4] * 3 + [[0, 0, 0, 1]]).read(),
        "its rotation is flat",
    ),
    ("no focal length", lambda at: at.without("fl_x").read(), r"no fl_x in .* for images/0\.png: cameras need fl_x"),
    ("focal length of 0", lambda at: at.write(fl_y=0).read(), "The fl_y in .* is 0: a number above 0 fits"),
    ("focal length that is NaN", lambda at: at.write(fl_x=math.nan).read(), "The fl_x in .* is nan: a number above 0"),
    ("center in words", lambda at: at.write(cx="middle").read(), "The cx in .* is 'middle': a finite number fits"),
    (
        "all from one place",
        lambda at: at.write(frames=[frame | {"transform_matrix": pose(0)} for frame in at.described["frames"]]).read(),
        "All 6 cameras .* stand at one place, from which no depth can be seen",
    ),
    ("one photograph", lambda at: at.only(1).read(), "The one camera .* stands at one place"),
    ("two photographs", lambda at: at.only(2).read(), "learned from 4 or more training views, and .* has 2"),
    ("three photographs", lambda at: at.only(3).read(), "learned from 4 or more training views, and .* has 3"),
    (
        "a name twice",
        lambda at: at.frame(2, file_path="images/1.png").read(),
        r"lists 1 photographs more than once \(images/1\.png\)",
    ),
    (
        "a split of strangers",
        lambda at: at.write(train_filenames=["images/9.png"]).read(),
        r"cannot be read by the parser of Nerfstudio \(Some filenames for split train were not found",
    ),
    # Photographs.
    (
        "missing first photograph",
        lambda at: ((at.folder / "images/0.png").unlink(), at.read()),
        r"1 of 6 photographs .* do not exist \(0\.png\)",
    ),
    (
        "missing photograph",
        lambda at: ((at.folder / "images/3.png").unlink(), at.read()),
        r"1 of 5 photographs .* do not exist \(3\.png\)",
    ),
    (
        "missing held-out photograph",
        lambda at: ((at.folder / "images/5.png").unlink(), at.read()),
        r"1 of 1 photographs .* do not exist \(5\.png\)",
    ),
    ("empty first photograph", lambda at: at.file(0, b"").read(), r"0\.png is no picture .* because it is empty"),
    (
        "empty photographs",
        lambda at: at.file(1, b"").file(2, b"").read(),
        r"2 of 5 .* are empty files \(1.png, 2.png\)",
    ),
    ("empty held-out photograph", lambda at: at.file(5, b"").read(), r"1 of 1 .* are empty files \(5.png\)"),
    ("text", lambda at: at.file(3, b"not a picture").read(), r"are no pictures .*\(not a known format\) \(3\.png\)"),
    ("text first", lambda at: at.file(0, b"not a picture").read(), r"0\.png is no picture .*\(not a known format\)"),
    ("truncated JPEG", lambda at: at.file(3, truncated()).train(), r"3\.png cannot be read to its end \(.*truncated"),
    ("truncated PNG", lambda at: at.file(3, truncated(0, "PNG")).train(), r"3\.png cannot be read to its end"),
    ("truncated held-out JPEG", lambda at: at.file(5, truncated()).train(), r"5\.png cannot be read to its end"),
    (
        "32-bit photograph",
        lambda at: at.file(2, Image.new("I", (WIDTH, HEIGHT), 70000), format="TIFF").read(),
        r"1 of 5 .* hold pixels of the kind 'I'.* \(2\.png\): save them as PNG or JPEG",
    ),
    (
        "photograph of fractions",
        lambda at: at.file(2, Image.new("F", (WIDTH, HEIGHT), 0.5), format="TIFF").read(),
        "pixels of the kind 'F', of which nobody knows what is white",
    ),
    (
        "photograph in Lab",
        lambda at: at.file(2, Image.new("LAB", (WIDTH, HEIGHT)), format="TIFF").read(),
        "pixels of the kind 'LAB'",
    ),
    (
        "photographs of two sizes with one camera",
        lambda at: at.file(1, at.photograph(1, (64, 40))).file(4, at.photograph(4, (64, 40))).read(),
        r"2 of 5 .* are 64x40 pixels where their camera has 48x40 pixels \(1\.png, 4\.png\): give each frame its own w",
    ),
    (
        "upside down, perhaps",
        lambda at: at.file(2, at.photograph(2), exif=turned(3)).read(),
        r"to be turned \(EXIF orientation 3\), and their size does not tell .*mogrify -auto-orient",
    ),
    (
        "photographs smaller than a cell",
        lambda at: (
            [at.file(index, at.photograph(index, (9, 7))) for index in range(NUM_VIEWS)] and at.write(w=9, h=7).read()
        ),
        r"5 of 5 .* are 9x7 pixels, and one latent cell alone takes 8x8 pixels",
    ),
    # Masks.
    (
        "missing masks",
        lambda at: at.masks(lambda index: Image.new("L", (WIDTH, HEIGHT), 255) if index else None).read(),
        r"1 of 5 masks that .* lists do not exist \(0\.png\): .* make a mask for each photograph",
    ),
    (
        "masks for some",
        lambda at: at.frame(0, mask_path="masks/0.png").read(),
        r"cannot be read by the parser of Nerfstudio \(Different number of image and mask filenames",
    ),
    (
        "masks of another size",
        lambda at: at.masks(lambda index: Image.new("L", (24, 20), 255)).read(),
        "5 of 5 masks .* are 24x20 pixels where their photographs are 48x40 pixels",
    ),
    (
        "coloured masks",
        lambda at: at.masks(lambda index: Image.new("RGB", (WIDTH, HEIGHT), "white")).read(),
        "5 of 5 masks .* hold pixels of the kind 'RGB' .*: save them with one grey channel",
    ),
    (
        "masks that hide everything",
        lambda at: at.masks(lambda index: Image.new("L", (WIDTH, HEIGHT), 0)).read(),
        "masks of this capture leave no latent cell",
    ),
]


@pytest.fixture
def capture(tmp_path) -> Capture:
    # Spaces and letters of other scripts are nothing special.
    return Capture(tmp_path / "my photographs, фото 写真")


@pytest.mark.parametrize(("provoke", "expected"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES])
def test_a_capture_nothing_can_be_learned_from_is_answered_with_one_clear_line(capture, provoke, expected):
    with pytest.raises(ValueError, match=expected) as answer:
        provoke(capture)
    assert type(answer.value) is ValueError
    assert "\n" not in str(answer.value)


def test_the_table_is_long_and_says_nothing_twice():
    assert len({row[0] for row in MISTAKES}) == len(MISTAKES) >= 40


def test_the_capture_mistakes_are_made_in_is_right_itself(capture):
    capture.train()


def test_a_capture_may_hold_nothing_out(capture):
    assert len(capture.only(4).read().train_dataset) == 4


def test_the_baseline_reads_captures_by_the_same_rules(capture):
    capture.file(3, b"")
    parser = NerfstudioDataParserConfig()
    config = ImageDataManagerConfig(data=capture.folder, dataparser=parser, image_size=32, patch_size=8)
    with pytest.raises(ValueError, match=re.escape("are empty files (3.png)")):
        config.setup(device="cpu", test_mode="val")
    capture.file(3, capture.photograph(3))
    assert isinstance(config.setup(device="cpu", test_mode="val"), ImageDataManager)
