import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from latenteditor.nerf import latent_cache
from latenteditor.networks.autoencoder import Autoencoder


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def break_a_number(path: Path) -> None:
    """As an earlier version may have kept it: without a sum."""
    view = {name: value.clone() for name, value in load_file(path).items()}
    view["latents"][0, 0, 0] = torch.nan
    save_file(view, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "a flipped bit": flip,
    "not a number": break_a_number,
    "of another size": lambda path: save_file(
        {name: value[..., :2].clone() for name, value in load_file(path).items()}, path
    ),
    "of something else": lambda path: save_file({"weights": torch.zeros(2)}, path),
    "text": lambda path: path.write_text("ceci n'est pas"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_view_is_encoded_again_with_a_line_and_mended(make_datamanager, tmp_path, damage, capsys):
    first = make_datamanager(latent_cache_dir=tmp_path)
    first.load_views()
    file = sorted(tmp_path.iterdir())[3]
    whole = {name: value.clone() for name, value in load_file(file).items()}
    damage(file)
    second = make_datamanager(latent_cache_dir=tmp_path)
    second.load_views()
    assert all(map(torch.equal, first.originals, second.originals))
    said = "".join(capsys.readouterr().out.split())  # Long paths are broken anywhere.
    assert file.name in said and "aredamaged:thephotographisencodedagain." in said
    mended = load_file(file)
    assert all(torch.equal(mended[name], value) for name, value in whole.items())


def test_a_view_that_was_read_outlives_its_file(make_datamanager, tmp_path):
    make_datamanager(latent_cache_dir=tmp_path).load_views()
    data, other = (make_datamanager(latent_cache_dir=tmp_path) for _ in range(2))
    data.load_views()
    other.load_views()
    before = [view.clone() for view in other.originals]
    for file in tmp_path.iterdir():
        with file.open("r+b") as opened:
            opened.write(b"\xff" * file.stat().st_size)
    assert all(map(torch.equal, data.originals, before))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("step", ["save_file", "os.replace", "a file in its place"])
def test_a_cache_that_cannot_be_written_is_done_without_and_said_once(
    make_datamanager, tmp_path, step, monkeypatch, capsys
):
    folder = tmp_path / "cache"
    if step == "save_file":
        monkeypatch.setattr(latent_cache, "save_file", full)
    elif step == "os.replace":
        monkeypatch.setattr(latent_cache.os, "replace", full)
    else:
        folder.touch()  # As good as a folder that may not be written.
    data, without = make_datamanager(latent_cache_dir=folder), make_datamanager()
    data.load_views()
    without.load_views()
    assert all(map(torch.equal, data.originals, without.originals))
    said = " ".join(capsys.readouterr().out.split())
    assert said.count("the run goes on without") == 1 and "cannot be kept in" in said
    assert not folder.is_dir() or list(folder.iterdir()) == [], "and nothing is left there"


def test_latents_that_are_not_finite_are_neither_trained_on_nor_kept(make_datamanager, tmp_path, monkeypatch):
    encode = Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda *args: encode(*args) * torch.nan)
    with pytest.raises(ValueError, match=r"latents of .*00\.png are not finite: encode in full precision"):
        make_datamanager(latent_cache_dir=tmp_path).load_views()
    assert list(tmp_path.iterdir()) == []


def test_a_second_run_reads_the_cache_and_a_damaged_one_is_rebuilt(make_datamanager, tmp_path, monkeypatch):
    first = make_datamanager(latent_cache_dir=tmp_path)
    first.load_views()
    files = sorted(tmp_path.iterdir())
    assert len(files) == len(first.originals)
    assert all(path.suffix == ".safetensors" for path in files)

    files[0].write_bytes(files[0].read_bytes()[:100])
    encoded = []
    encode = Autoencoder.encode
    monkeypatch.setattr(Autoencoder, "encode", lambda *args: encoded.append(1) or encode(*args))
    second = make_datamanager(latent_cache_dir=tmp_path)
    second.load_views()
    assert len(encoded) == 1
    assert all(map(torch.equal, first.originals, second.originals))
    torch.testing.assert_close(first.statistics(), second.statistics())

    make_datamanager(latent_cache_dir=tmp_path, image_size=24).load_views()
    assert len(encoded) == 1 + len(first.originals)


def test_linear_colors_are_the_least_squares_fit(make_datamanager):
    data = make_datamanager()
    mean, std, linear_rgb, image_size = data.statistics()
    assert image_size == 32
    latents = torch.cat([view.flatten(1).T for view in data.originals])
    torch.testing.assert_close(latents.mean(0), mean)
    torch.testing.assert_close(latents.std(0), std)
    colors = torch.cat(
        [
            torch.nn.functional.avg_pool2d(data.train_photographs[index]["image"].permute(2, 0, 1), 4).flatten(1).T
            for index in range(len(data.originals))
        ]
    )
    with_one = torch.nn.functional.pad(latents, (0, 1), value=1.0)
    fitted = (with_one @ linear_rgb - colors).square().mean()
    best = (with_one @ torch.linalg.lstsq(with_one, colors).solution - colors).square().mean()
    torch.testing.assert_close(fitted, best, rtol=1e-3, atol=1e-6)


def test_originals_are_the_latents_of_the_resized_photographs(make_datamanager, autoencoder):
    data = make_datamanager()
    data.load_views()
    for index in (0, 1):
        image = data.train_photographs[index]["image"].permute(2, 0, 1)[None]
        assert max(image.shape[-2:]) == 32
        torch.testing.assert_close(data.originals[index], autoencoder.encode(image)[0])
