"""The photographs of an unedited run, edited by a black box, as a dataset: loaded, edited under guard, written."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nerfstudio.pipelines.base_pipeline import Pipeline

from latenteditor.black_box.guard import Guard
from latenteditor.black_box.kept_pictures import KeptPictures
from latenteditor.black_box.settings import BlackBoxConfig, folder_of_pictures
from latenteditor.editing.black_box import Calls
from latenteditor.editing.editor import EditConfig
from latenteditor.handoff.capture_views import read_capture
from latenteditor.handoff.dataset import (
    EDIT,
    WrittenView,
    describe_written,
    new_folder,
    write_note,
    write_photographs,
    write_transforms,
)
from latenteditor.handoff.picture_edits import PictureEdits, View, edit_views, rejections, working_views
from latenteditor.nerf.change_agreement import camera_of_cells, look
from latenteditor.nerf.loaded_run import load_run
from latenteditor.networks.black_boxes import load_black_box

CALLS = "calls.json"
"""How often an editor was called for a dataset, counted before each call: it outlives an interruption."""
REJECTED = "rejected"
"""The folder of what was not used."""


@dataclass
class PictureConfig:
    """How photographs are edited by a black box."""

    edit: EditConfig = field(default_factory=EditConfig)
    """The edit: of it count model, seed, half-precision, cpu-offload, and mask: with none, all of a picture is the edit
    and its light stays as it came."""
    black_box: BlackBoxConfig = field(default_factory=BlackBoxConfig)
    """How the editor is used."""
    image_size: int | None = 512
    """Pixels along the long side of a photograph when it is edited; None keeps its own."""


@dataclass
class CountedCalls(Calls):
    """Calls that are counted in a file too."""

    file: Path = Path(CALLS)
    """Holds the number of calls; it need not be there."""

    def __post_init__(self) -> None:
        """Goes on from the calls of an interrupted edit."""
        if self.file.is_file():
            self.made = int(json.loads(self.file.read_text())["calls"])

    def spend(self) -> None:
        """Counts a call, and notes it before it is made."""
        super().spend()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(json.dumps({"calls": self.made}) + "\n")


def write_edited_pictures(config: Path, folder: Path, how: PictureConfig, command: str = "") -> list[WrittenView]:
    """Writes the photographs of an unedited run's capture as a black box edits them.

    Args:
        config: The run's config.yml, of dense-nerfacto or nerfacto.
        folder: Where the dataset is going to be; nothing is there yet.
        how: What to change, by which editor.
        command: What was typed, for whoever finds the dataset.

    Raises:
        ValueError: The run or the editor cannot be loaded, no call is left, or nothing came that can be used.
    """
    calls = CountedCalls(most=how.black_box.most_calls, file=folder.with_name(f"{folder.name}-{CALLS}"))
    with new_folder(folder) as partial:
        run = load_run(config)
        about = {"method": run.config.method_name, "run": str(config), "step": run.step, "command": command}
        return write_pictures_of(run.pipeline, partial, how, calls, about)


def write_pictures_of(
    pipeline: Pipeline, folder: Path, how: PictureConfig, calls: Calls, about: Mapping[str, Any]
) -> list[WrittenView]:
    """Writes the photographs of a scene, edited, into a folder that is there.

    Args:
        pipeline: The unedited scene.
        folder: The dataset's.
        how: What to change, by which editor.
        calls: Counts what is asked of it.
        about: What else the note about the edit is to say.

    Raises:
        ValueError: The editor cannot be loaded, no call is left, or nothing came that can be used.
    """
    datamanager: Any = pipeline.datamanager
    capture = read_capture(datamanager)
    kept = KeptPictures(_load(how, calls, pipeline.device), folder_of_pictures(how.black_box))
    everywhere = how.edit.mask == "none"
    warp = how.black_box.warp and kept.editor.most_references == 0 and how.black_box.num_references > 0
    neighbours = warp or kept.editor.most_references > 0
    guard = Guard(kept, how.black_box.attempts, how.edit.seed, match=not everywhere, neighbours=neighbours)
    views = working_views(capture, how.image_size)
    guard.require_calls([view.image for view in views], how.edit.prompt, calls)
    model: Any = pipeline.model
    sights = None if everywhere else [look(model, camera_of_cells(view.camera)) for view in views]
    depths = [look(model, view.camera) for view in views] if warp else None
    edits = PictureEdits(views, edit_views(guard, views, how.edit.prompt, how.black_box, depths))
    edits.agree(sights, how.black_box.agreement)
    written = write_photographs(folder, capture, edits.overlay)
    write_transforms(folder, describe_written(folder, capture, written))
    layer = {"number": 1, "instruction": how.edit.prompt, "prompt": how.edit.prompt, "prompt_number": 1, "active": True}
    costs = {"calls": calls.made, "found on the disk": kept.found}
    note = {**about, **costs, "rejected": _keep_rejected(folder, views, edits), "settings": _settings(how)}
    write_note(folder, written, [layer], note)
    return written


def read_rejected(dataset: Path) -> list[dict[str, Any]]:
    """What was not used for a dataset; nothing where no black box wrote it."""
    return json.loads((dataset / EDIT).read_text()).get("rejected", [])


def _load(how: PictureConfig, calls: Calls, device: Any) -> Any:
    edit, black_box = how.edit, how.black_box
    return load_black_box(
        edit.model, calls, black_box.endpoint, device, edit.half_precision, edit.cpu_offload, black_box.steps
    )


def _keep_rejected(folder: Path, views: list[View], edits: PictureEdits) -> list[dict[str, Any]]:
    """Copies what was not used beside the dataset's photographs, and says why for each."""
    found = rejections(views, edits.edits)
    for number, each in enumerate(found):
        if each["file"]:
            (folder / REJECTED).mkdir(exist_ok=True)
            copy = folder / REJECTED / f"{number:03d}.png"
            shutil.copyfile(each["file"], copy)
            each["file"] = copy.relative_to(folder).as_posix()
    return found


def _settings(how: PictureConfig) -> dict[str, Any]:
    """What JSON can hold of the settings."""
    return json.loads(json.dumps(asdict(how), default=str))
