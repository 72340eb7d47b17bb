"""One run, one folder: a second run in it is refused, and what it holds is not trained over.

The lock is the kernel's and goes with the process, however that ends. Where there is none (Windows, some network
disks), nothing is locked; what a folder holds is still not trained over.
"""

from pathlib import Path
from typing import IO, Any

from nerfstudio.utils.rich_utils import CONSOLE

from latenteditor.nerf.checkpoints import checkpoint_paths

try:
    import fcntl
except ImportError:
    fcntl = None

LOCK = ".lock"
_claimed: dict[Path, IO[Any]] = {}


def claim(folder: Path, loaded: list[Path]) -> None:
    """Takes a folder for a run of this process, unless this process has it already.

    Args:
        folder: Of the run.
        loaded: Folders and files that the run goes on from.

    Raises:
        ValueError: Another run is in it, or it holds a run that would be trained over.
    """
    folder = folder.resolve()
    if folder in _claimed:
        return
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / LOCK).open("a")
    try:
        _lock(lock, folder)
        _require_room(folder, [path.resolve() for path in loaded])
    except ValueError:
        lock.close()
        raise
    _claimed[folder] = lock


def release(folder: Path) -> None:
    """Lets go of a folder whose run has ended."""
    lock = _claimed.pop(folder.resolve(), None)
    if lock is not None:
        lock.close()


def _lock(file: IO[Any], folder: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(
            f"Another run is in {folder}: wait for it to end, or choose another --timestamp or --output-dir."
        ) from error
    except OSError as error:
        CONSOLE.log(f"{folder} cannot be locked ({error.strerror}): do not start a second run in it.")


def _require_room(folder: Path, loaded: list[Path]) -> None:
    """Refuses a folder that holds a run, unless the run goes on from there."""
    held = [path for models in folder.glob("*") if models.is_dir() for path in checkpoint_paths(models)]
    if not held or any(path in loaded or path.parent in loaded for path in held):
        return
    newest = held[0]
    raise ValueError(
        f"{folder} holds a run already, which would be lost: go on with it by --load-dir {newest.parent}, or choose "
        "another --timestamp or --output-dir."
    )
