"""Where the frozen networks come from: a hub id, a local folder, or the package's own miniature."""

import json
import pickle
from pathlib import Path
from typing import Any

MINIATURE = "miniature"
"""The name under which the small InstructPix2Pix that ships with this package can be asked for."""


def resolve_model(model: str) -> str:
    """Returns what diffusers can load: a local folder or hub id as it is, and the miniature's folder."""
    if model != MINIATURE:
        return str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model
    folder = Path(__file__).parent.parent / "miniature" / "instruct_pix2pix"
    if not folder.is_dir():
        raise ValueError(
            f"The model 'miniature' should lie in {folder}, but that folder does not exist: reinstall the package."
        )
    return str(folder)


def read_model_file(model: str, name: str) -> dict[str, Any] | None:
    """Returns one JSON file of a model, or None where the model has no such file.

    Args:
        model: A hub id, a local folder, or "miniature".
        name: The file's path inside the model, such as "vae/config.json".

    Raises:
        ValueError: If the model is neither a folder nor to be had from the hub.
    """
    folder = Path(resolve_model(model))
    path = folder / name if folder.is_dir() else _fetch(model, name)
    if path is None or not path.is_file():
        return None
    try:
        return json.loads(path.read_text("utf8"))
    except ValueError as error:
        raise ValueError(
            f"The file {name} of '{model}' is damaged ({error}): download the model again or pass another."
        ) from error


def _fetch(model: str, name: str) -> Path | None:
    """A file of a model of the hub, from the cache where it is there; None where the model has no such file."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(model, name))
    # LocalEntryNotFoundError is an EntryNotFoundError too, but means that the hub was not reached.
    except EntryNotFoundError as error:
        if isinstance(error, FileNotFoundError):
            raise ValueError(unreachable(model)) from error
        return None
    except HFValidationError as error:
        raise ValueError(
            f"'{model}' is neither an existing folder nor a hub id: pass a local folder, an id such as "
            "'timbrooks/instruct-pix2pix', or 'miniature'."
        ) from error
    except HfHubHTTPError as error:
        if error.response is None:
            raise ValueError(unreachable(model)) from error
        raise ValueError(
            f"The hub has no model '{model}' for you (status {error.response.status_code}): check the id, log in with "
            "`hf auth login` if it is gated, or pass a local folder."
        ) from error
    except OSError as error:
        raise ValueError(unreachable(model)) from error


def why_unread(error: Exception) -> str:
    """Why weights could not be read, in one line; torch advises to read by executing them, which is never done."""
    if isinstance(error, pickle.UnpicklingError):
        return "it holds more than weights, which is not executed"
    return (str(error) or type(error).__name__).splitlines()[0]


def unreachable(model: str) -> str:
    """The sentence for a hub model that is not on this machine while the hub cannot be reached."""
    return (
        f"'{model}' is no local folder, is not in the hub's cache on this machine, and the hub cannot be reached: "
        "pass a local folder or 'miniature', or connect once."
    )
