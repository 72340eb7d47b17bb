"""Shows what a prompt does to one photograph, or to one view of a dataset, before a scene is edited by it.

Writes one picture (the view, the delta score, and for every threshold the mask and the edits for a range of
guidance scales) and, beside it, a JSON file with all settings and figures.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import tyro
from jaxtyping import Float
from torch import Tensor

from latenteditor.black_box.settings import BlackBoxConfig, require_usable
from latenteditor.devices import default_device
from latenteditor.editing.editor import EditConfig, require_instruction
from latenteditor.evaluation.black_box_preview import preview_black_box
from latenteditor.evaluation.photograph import find_view, read_photograph, read_view, transforms_file
from latenteditor.evaluation.photograph_preview import (
    PhotographPreview,
    Trials,
    find_guidances,
    find_thresholds,
    preview_figures,
    preview_photograph,
)
from latenteditor.evaluation.preview_picture import preview_picture
from latenteditor.figures import write_figures
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.black_boxes import is_black_box
from latenteditor.networks.models import MINIATURE


@dataclass
class Args:
    """What to edit, how, and where to show it."""

    output: Path
    """The picture to write, a PNG; the figures lie beside it with the ending .json. Neither may exist yet."""
    image: Path | None = None
    """A photograph. Either this or --data."""
    data: Path | None = None
    """A dataset in nerfstudio's format: a folder with a transforms.json, or that file."""
    view: int | str = 0
    """Which view of --data: the name of its file, or its number from 0 on, in the order of the names."""
    edit: EditConfig = field(default_factory=EditConfig)
    """The edit, as in --pipeline.edit of ns-train. With --edit.model miniature, the defaults are those that suit the
    built-in editor."""
    black_box: BlackBoxConfig = field(default_factory=BlackBoxConfig)
    """How an --edit.model is used that is a function, an address, or a pipeline that edits whole pictures."""
    text_guidance: tuple[float, ...] = ()
    """Scales that are tried, a column each. Default: two thirds, once and four thirds of --edit.guidance.text."""
    image_guidance: tuple[float, ...] = ()
    """Scales that are tried with each of those. Default: --edit.guidance.image alone."""
    thresholds: tuple[float | None, ...] = ()
    """Of the mask, a row each; None edits the whole view. Default: --edit.delta-mask.threshold, 0.2 below and above,
    and None."""
    autoencoder: str | None = None
    """Hub id or local folder of an autoencoder, if not that of --edit.model."""
    image_size: int | None = 512
    """Pixels along the long side of the view when it is edited; None keeps its own. InstructPix2Pix edits best at
    512."""
    device: str = default_device()
    """Any torch device."""
    overwrite: bool = False
    """Replaces a picture and figures of that name."""


def parse_args(words: Sequence[str]) -> Args:
    """The arguments of a command line; those of the edit default to what suits its model."""
    read = partial(tyro.cli, Args, args=words, description=__doc__, prog="latenteditor preview")
    args = read()
    return args if args.edit.model != MINIATURE else read(default=replace(args, edit=EDIT))


def main(args: Args) -> None:
    """Edits the view, writes picture and figures, and says what was found."""
    file = _find_photograph(args)
    _require_free(args, file)
    require_instruction(args.edit.prompt)
    if is_black_box(args.edit.model):
        _show_black_box(args, file)
        return
    thresholds = find_thresholds(args.edit, args.thresholds)
    guidances = find_guidances(args.edit.guidance, args.text_guidance, args.image_guidance)
    photograph = _read(args, file)
    autoencoder = args.autoencoder or args.edit.model
    trials = Trials(args.edit, thresholds, guidances)
    shown = preview_photograph(photograph, trials, autoencoder, args.image_size, args.device)
    figures = preview_figures(shown)
    lines = (f"{args.edit.prompt} ({file.name})", figures["found"], _settings_line(args, shown))
    settings = asdict(args) | {"autoencoder": autoencoder, "view": None if args.data is None else args.view}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    preview_picture(shown, lines).save(args.output)
    write_figures(args.output.with_suffix(".json"), {"photograph": str(file), **figures, "settings": settings})
    print(f"Picture: {args.output}")
    print(figures["found"])


def _show_black_box(args: Args, file: Path) -> None:
    """Writes what a black box makes of the view."""
    require_usable(args.black_box)
    picture, figures = preview_black_box(_read(args, file), args.edit, args.black_box, args.image_size, args.device)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(args.output)
    settings = {"edit": asdict(args.edit), "black_box": asdict(args.black_box), "image_size": args.image_size}
    content = json.loads(json.dumps({"photograph": file, **figures, "settings": settings}, default=str))
    write_figures(args.output.with_suffix(".json"), content)
    print(f"Picture: {args.output}")
    print(figures["found"])


def _read(args: Args, file: Path) -> Float[Tensor, "1 3 height width"]:
    """The view in [0, 1]."""
    return read_photograph(file, upright=True) if args.data is None else read_view(args.data, file)


def _find_photograph(args: Args) -> Path:
    """The file of the view that is asked for."""
    if (args.image is None) == (args.data is None):
        found = "neither" if args.image is None else "both"
        raise ValueError(f"Pass a photograph with --image or a dataset with --data: one of them, not {found}.")
    if args.image is not None:
        return args.image
    assert args.data is not None
    return find_view(args.data, args.view)


def _require_free(args: Args, photograph: Path) -> None:
    """Refuses to write where something lies that was not meant to be replaced."""
    if args.output.suffix.lower() != ".png":
        raise ValueError(f"The picture is a PNG: --output ends in .png, not as {args.output.name!r} does.")
    inputs = {photograph.resolve(), *([] if args.data is None else [transforms_file(args.data).resolve()])}
    for file in (args.output, args.output.with_suffix(".json")):
        if file.resolve() in inputs or file.is_dir():
            raise ValueError(f"{file} is not to be written over: choose another --output.")
        if file.exists() and not args.overwrite:
            raise ValueError(f"{file} exists: choose another --output, or pass --overwrite to replace it.")


def _settings_line(args: Args, shown: PhotographPreview) -> str:
    """The settings that all panes share."""
    edit = args.edit
    height, width = shown.photograph.shape[-2:]
    model = edit.model if args.autoencoder is None else f"{edit.model}, autoencoder {args.autoencoder}"
    return (
        f"{model}, {width}x{height} pixels, from noise {edit.max_noise:g} in {edit.denoising_steps} steps, "
        f"blending {edit.blending}, seed {edit.seed}"
    )
