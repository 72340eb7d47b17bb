"""A checkpoint is whole or it is not there, and what cannot be read is passed over with a line."""

import os
import random
import resource
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from latenteditor.nerf import run_folder
from latenteditor.nerf.checkpoints import (
    FORMAT,
    PARTIAL,
    Damaged,
    NotSaved,
    checkpoint_path,
    checkpoint_paths,
    keep_newest,
    read_checkpoint,
    read_newest,
    step_of,
    write_checkpoint,
)


def state(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    scene = {f"layer {layer}": torch.randn(50, 60, generator=generator) for layer in range(4)}
    return {"step": step, "pipeline": scene, "optimizers": {}, "schedulers": {}, "scalers": {}}


def same(one: dict, other: dict) -> bool:
    names = one["pipeline"].keys()
    equal = names == other["pipeline"].keys() and one["step"] == other["step"]
    return equal and all(torch.equal(one["pipeline"][name], other["pipeline"][name]) for name in names)


@pytest.fixture
def folder(tmp_path) -> Path:
    """The checkpoints of a run that was saved at the steps 160 and 170."""
    models = tmp_path / "nerfstudio_models"
    for step in (160, 170):
        write_checkpoint(state(step), checkpoint_path(models, step))
    return models


def test_what_is_written_is_read(folder):
    assert [step_of(path) for path in checkpoint_paths(folder)] == [170, 160]
    found, path = read_newest(folder, pytest.fail)
    assert path.name == "step-000000170.ckpt" and same(found, state(170)) and found["format"] == FORMAT
    assert os.listdir(folder.parent) == ["nerfstudio_models"], "nothing is left beside it"


def cut(share: float) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def flip(*shares: float) -> Callable[[Path], object]:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        for share in shares:
            content[int(share * len(content))] ^= 1
        path.write_bytes(content)

    return damage


DAMAGES = {
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "a byte long": (lambda path: path.write_bytes(b"P"), "cut off, or no checkpoint"),
    "cut in the middle": (cut(0.5), "cut off, or no checkpoint"),
    "cut at its end": (cut(0.999), "cut off, or no checkpoint"),
    "text": (lambda path: path.write_text("ceci n'est pas\n"), "cut off, or no checkpoint"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "cut off, or no checkpoint"),
    "one byte flipped": (flip(0.5), "is not as it was written"),
    "four bytes flipped": (flip(0.3, 0.5, 0.6, 0.8), "is not as it was written"),
    "of something else": (lambda path: torch.save({"weights": torch.zeros(2)}, path), "holds no 'step'"),
    "of code": (lambda path: torch.save({"step": Path("x")}, path), "cannot be read, UnpicklingError"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "cannot be read, IsADirectoryError"),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_the_one_before_a_damaged_checkpoint_is_taken_with_a_line(folder, damage, reason):
    damage(folder / "step-000000170.ckpt")
    said = []
    found, path = read_newest(folder, said.append)
    assert path.name == "step-000000160.ckpt" and same(found, state(160))
    (line,) = said
    assert "step-000000170.ckpt is damaged" in line and reason in line and "the one before it is taken" in line
    assert "\n" not in line


def test_a_flipped_bit_anywhere_is_found_or_changes_nothing(folder):
    path, whole, draw = folder / "step-000000170.ckpt", state(170), random.Random(0)
    content = path.read_bytes()
    found = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        try:
            assert same(read_checkpoint(path), whole)
        except Damaged:
            found += 1
    assert found > 250


def test_where_all_are_damaged_each_is_named(folder):
    for path in checkpoint_paths(folder):
        path.write_bytes(b"")
    with pytest.raises(
        ValueError, match=r"step-000000170\.ckpt: it is empty; step-000000160\.ckpt: it is empty\): load"
    ):
        read_newest(folder, lambda line: None)


@pytest.mark.parametrize("name", [".partial", ".DS_Store", "step-000000180.ckpt.partial", "notes.txt", "step-.ckpt"])
def test_what_else_lies_there_is_passed_over(folder, name):
    (folder / name).write_bytes(b"")
    assert read_newest(folder, pytest.fail)[1].name == "step-000000170.ckpt"


def test_a_newer_format_is_refused_and_an_older_one_is_read(folder):
    path = folder / "step-000000170.ckpt"
    torch.save(state(170), path)
    assert same(read_checkpoint(path), state(170))
    torch.save(state(170) | {"format": FORMAT + 1}, path)
    with pytest.raises(ValueError, match=f"is of format {FORMAT + 1} and .* up to {FORMAT}: update latenteditor"):
        read_newest(folder, pytest.fail)


def test_the_newest_two_are_kept(folder):
    write_checkpoint(state(180), checkpoint_path(folder, 180))
    (folder / "notes.txt").touch()
    keep_newest(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["notes.txt", "step-000000170.ckpt", "step-000000180.ckpt"]


@contextmanager
def disk_with(room: int):
    """Lets no file grow beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 0.999])
def test_a_full_disk_is_named_and_leaves_what_was_there(folder, share):
    size = (folder / "step-000000170.ckpt").stat().st_size
    with disk_with(int(share * size)), pytest.raises(NotSaved, match="^File too large$"):
        write_checkpoint(state(180), checkpoint_path(folder, 180))
    assert [step_of(path) for path in checkpoint_paths(folder)] == [170, 160]
    assert same(read_newest(folder, pytest.fail)[0], state(170))
    assert not (folder.parent / PARTIAL).exists()
    write_checkpoint(state(180), checkpoint_path(folder, 180))
    assert same(read_newest(folder, pytest.fail)[0], state(180)), "and the next one is saved"


def in_another_process(act: Callable[[], object]) -> str:
    """What an action says in a process of its own: its error, or nothing."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            act()
        except ValueError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return said.read()


def test_a_second_run_in_a_folder_is_refused_until_the_first_has_ended(tmp_path):
    def second():
        run_folder._claimed.clear()
        run_folder.claim(tmp_path, [])

    run_folder.claim(tmp_path, [])
    run_folder.claim(tmp_path, [])  # The same run, again.
    assert f"Another run is in {tmp_path}: wait" in in_another_process(second)
    run_folder.release(tmp_path)
    assert in_another_process(second) == ""


def test_a_finished_run_is_not_trained_over_unless_it_is_what_is_loaded(folder):
    run = folder.parent
    with pytest.raises(ValueError, match=rf"holds a run already, .*: go on with it by --load-dir {folder}, or choose"):
        run_folder.claim(run, [])
    for loaded in (folder, folder / "step-000000170.ckpt"):
        run_folder.claim(run, [loaded])
        run_folder.release(run)
    assert len(checkpoint_paths(folder)) == 2
