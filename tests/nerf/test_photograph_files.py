"""What a photograph's file holds becomes the picture that a viewer would show, whatever the kind of its pixels."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image, ImageOps

from latenteditor.nerf.photograph_files import is_turned, read_header, read_picture

HEIGHT, WIDTH = 30, 40


def grey_ramp() -> Image.Image:
    """From black to white, across."""
    return Image.fromarray(np.tile(np.linspace(0, 255, WIDTH).astype("uint8"), (HEIGHT, 1)))


def colours() -> Image.Image:
    """A smooth picture whose corners all differ."""
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    pixels = np.stack([across * 6, down * 8, 255 - across * 3], axis=-1)
    return Image.fromarray(pixels.astype("uint8"))


def deep() -> Image.Image:
    """The grey ramp in 16 bits."""
    return Image.fromarray(np.asarray(grey_ramp()).astype(np.uint16) * 257)


def faded() -> Image.Image:
    """Greys of which the lower half is transparent."""
    alpha = Image.new("L", (WIDTH, HEIGHT), 255)
    alpha.paste(0, (0, HEIGHT // 2, WIDTH, HEIGHT))
    return Image.merge("LA", [grey_ramp(), alpha])


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize(
    ("picture", "expected", "ending", "tolerance"),
    [
        (grey_ramp(), grey_ramp(), "png", 0),
        (deep(), grey_ramp(), "png", 0),
        (deep(), grey_ramp(), "tif", 0),
        (colours(), colours(), "png", 0),
        (colours(), colours(), "jpg", 12),
        (colours().quantize(256), colours(), "png", 24),
        (colours().quantize(256), colours(), "gif", 24),
        (colours().convert("CMYK"), colours(), "tif", 2),
        (colours().convert("CMYK"), colours(), "jpg", 24),
        (colours().convert("YCbCr"), colours(), "tif", 3),
        (grey_ramp().point(lambda value: 255 * (value > 127)).convert("1"), None, "png", 0),
    ],
    ids=lambda value: getattr(value, "mode", None) or str(value),
)
def test_pixels_of_every_kind_become_the_colours_that_were_saved(picture, expected, ending, tolerance, tmp_path):
    picture.save(tmp_path / f"picture.{ending}")
    read = read_picture(tmp_path / f"picture.{ending}")
    expected = picture if expected is None else expected
    assert read.mode == "RGB"
    assert np.abs(pixels(read) - pixels(expected.convert("RGB"))).max() <= tolerance


def test_sixteen_bits_are_not_taken_modulo_256(tmp_path):
    deep().save(tmp_path / "deep.png")
    ramp = pixels(read_picture(tmp_path / "deep.png"))[0, :, 0]
    assert (ramp[0], ramp[-1]) == (0, 255)
    assert (np.diff(ramp) > 0).all()


def test_what_is_transparent_stays_so(tmp_path):
    faded().save(tmp_path / "grey.png")
    palette = colours().quantize(8)
    palette.save(tmp_path / "palette.png", transparency=0)
    for name in ("grey", "palette"):
        read = read_picture(tmp_path / f"{name}.png")
        assert read.mode == "RGBA"
        assert set(np.unique(pixels(read)[..., 3])) == {0, 255}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_where_its_camera_was_found_upright(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned.jpg"
    colours().save(file, exif=exif, quality=95, subsampling=0)
    header = read_header(file)
    assert header.orientation == orientation
    on_its_side = orientation >= 5
    assert header.upright_size == ((WIDTH, HEIGHT) if on_its_side else (HEIGHT, WIDTH))
    assert is_turned(header, (WIDTH, HEIGHT)) == on_its_side
    assert not is_turned(header, (HEIGHT, WIDTH))
    with Image.open(file) as image:
        upright, stored = ImageOps.exif_transpose(image).convert("RGB"), image.convert("RGB")
    np.testing.assert_array_equal(pixels(read_picture(file, turn=True)), pixels(upright))
    np.testing.assert_array_equal(pixels(read_picture(file)), pixels(stored))


def test_a_capture_of_photographs_on_their_side_is_read_as_its_cameras_saw_it(
    capture_folder, make_datamanager, tmp_path
):
    folder = tmp_path / "capture"
    shutil.copytree(capture_folder, folder)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = make_datamanager().train_dataset
    for path in (folder / "images").iterdir():
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_90).save(path.with_suffix(".tif"), exif=exif)
        path.unlink()
    described = json.loads((folder / "transforms.json").read_text())
    for frame in described["frames"]:
        frame["file_path"] = frame["file_path"].replace("png", "tif")
    (folder / "transforms.json").write_text(json.dumps(described))
    turned = make_datamanager(folder).train_dataset
    for index in range(len(upright)):
        np.testing.assert_array_equal(turned[index]["image"], upright[index]["image"])


def test_of_a_large_picture_only_the_header_is_read(tmp_path):
    whole = tmp_path / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(whole)
    (tmp_path / "head.png").write_bytes(whole.read_bytes()[:2000])
    assert read_header(tmp_path / "head.png").size == (200, 200)
    with pytest.raises(ValueError, match=r"head\.png cannot be read to its end"):
        read_picture(tmp_path / "head.png")
