"""Checkpoints that are whole or not there: written aside and renamed, checked by their sums before they are read.

The host takes every name in a run's folder of checkpoints for a step's, and the newest for a good one. What is being
written therefore lies beside that folder, and what is read is the newest that is whole.
"""

import os
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

FORMAT = 1
"""Of what this version writes. Runs from before there was a number count as 0."""
KEPT = 2
"""Checkpoints that a run keeps where it keeps the latest only: the newest, and one to fall back on. Our choice."""
PARTIAL = ".checkpoint.partial"
"""What is being written, in the folder of the run."""
NEEDED = ("step", "pipeline", "optimizers", "scalers")
"""What every checkpoint holds, the host's own too."""
NAME = re.compile(r"step-(\d+)\.ckpt")


class Damaged(ValueError):
    """A checkpoint cannot be used; the text says why."""


class NotSaved(Exception):
    """A checkpoint could not be written; the text says why."""


def checkpoint_path(folder: Path, step: int) -> Path:
    """The file of one step, as the host names it."""
    return folder / f"step-{step:09d}.ckpt"


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, the newest first; what else lies there is passed over."""
    numbered = {path: NAME.fullmatch(path.name) for path in (folder.iterdir() if folder.is_dir() else ())}
    return sorted((path for path, name in numbered.items() if name), key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step that a checkpoint is named after."""
    name = NAME.fullmatch(path.name)
    assert name is not None, path
    return int(name[1])


def write_checkpoint(state: dict[str, Any], path: Path) -> None:
    """Writes a checkpoint beside its folder, and lets it appear there when it is whole and on the disk.

    Raises:
        NotSaved: It could not be written. Whatever lay at `path` still lies there.
    """
    partial = path.parent.parent / PARTIAL
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({"format": FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # torch wraps what the disk says into a RuntimeError.
        _remove(partial)
        raise NotSaved(_reason(error)) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint whose every record has the sum it was written with.

    Raises:
        Damaged: It is empty, cut off, changed, or no checkpoint.
        ValueError: A newer version of this package wrote it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
        if changed is not None:
            raise Damaged(f"its record {changed} is not as it was written")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Damaged:
        raise
    except Exception as error:  # Whatever is wrong with a file, another one may be good.
        raise Damaged(_damage(path, error)) from error
    missing = [name for name in NEEDED if not isinstance(state, dict) or name not in state]
    if missing:
        raise Damaged(f"it holds no {missing[0]!r}")
    require_format(state.get("format", 0), f"The checkpoint {path}")
    return state


def require_format(found: int, what: str) -> None:
    """Refuses what a newer version wrote.

    Raises:
        ValueError: The format is not known yet.
    """
    if found > FORMAT:
        raise ValueError(
            f"{what} is of format {found} and this version of latenteditor reads formats up to {FORMAT}: "
            "update latenteditor, or load a run of this version."
        )


def read_newest(folder: Path, say: Callable[[str], object]) -> tuple[dict[str, Any], Path]:
    """Reads the newest checkpoint of a folder that is whole.

    Args:
        folder: Holds at least one.
        say: Is told of each that is passed over.

    Raises:
        ValueError: None of them is whole, or a newer version wrote it.
    """
    reasons = []
    for path in checkpoint_paths(folder):
        try:
            return read_checkpoint(path), path
        except Damaged as damage:
            reasons.append(f"{path.name}: {damage}")
            say(f"The checkpoint {path} is damaged ({damage}): the one before it is taken.")
    raise ValueError(f"No checkpoint in {folder} can be read ({'; '.join(reasons)}): load another run.")


def is_whole(path: Path) -> bool:
    """Whether a checkpoint can be read."""
    try:
        read_checkpoint(path)
    except Damaged:
        return False
    return True


def step_to_look_at(folder: Path, say: Callable[[str], object]) -> int | None:
    """The step to be asked for where the host, left alone, would not find the newest checkpoint that is whole.

    The host takes the newest name, damaged or not, and every name for a step's.

    Args:
        folder: Of checkpoints.
        say: Is told of each that is passed over.

    Raises:
        ValueError: None of them is whole, or a newer version wrote it.
    """
    paths = checkpoint_paths(folder)
    if not paths:
        return None
    _, path = read_newest(folder, say)
    return step_of(path) if path != paths[0] or len(paths) < len(list(folder.iterdir())) else None


def keep_newest(folder: Path) -> None:
    """Deletes all checkpoints of a folder but the newest few."""
    for path in checkpoint_paths(folder)[KEPT:]:
        _remove(path)


def write_text(path: Path, text: str) -> None:
    """Writes a text so that the file holds either what it held or all of it."""
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("w", encoding="utf8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _sync_folder(folder: Path) -> None:
    """Brings a rename to the disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return  # It lies where nothing reads it, and is written over by the next.


def _reason(error: BaseException) -> str:
    """What the disk said, however deep it is wrapped."""
    inner: BaseException | None = error
    while inner is not None and not (isinstance(inner, OSError) and inner.strerror):
        inner = inner.__cause__ or inner.__context__
    return str(error).splitlines()[0] if inner is None else str(inner.strerror)  # type: ignore[attr-defined]


def _damage(path: Path, error: Exception) -> str:
    """What is wrong with a file, in words."""
    if not path.stat().st_size:
        return "it is empty"
    if isinstance(error, zipfile.BadZipFile):
        return "it is cut off, or no checkpoint"
    return f"it cannot be read, {type(error).__name__}: {(str(error) or 'unknown').splitlines()[0][:200]}"
