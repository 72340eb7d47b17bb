"""Shows what a prompt does to one photograph, or to one view of a dataset, before a scene is edited by it.

Writes one picture (the view, the delta score, and for every threshold the mask and the edits for a range of
guidance scales) and, beside it, a JSON file with all settings and figures.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import tyro
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import CLAMPS, DeltaMaskConfig, peak, reaches_gate, require_usable
from latenteditor.editing.editor import EditConfig, require_instruction
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.preview import Preview, preview
from latenteditor.figures import write_figures
from latenteditor.miniature.settings import EDIT
from latenteditor.networks.autoencoder import load_autoencoder, read_autoencoder_config, resize, working_size
from latenteditor.networks.instruct_pix2pix import load_instruct_pix2pix
from latenteditor.networks.models import MINIATURE

NARROWEST_PANE = 320
"""Pixels: views that are narrower are shown enlarged, so that labels fit."""
OUTSIDE_BRIGHTNESS = 0.3
"""Of what the mask leaves out, where the mask is shown."""
COLOUR_MAP = "turbo"
"""As in the pictures that an edit leaves in tensorboard."""


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
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Any torch device."""
    overwrite: bool = False
    """Replaces a picture and figures of that name."""


class Pane(NamedTuple):
    """A picture with a label."""

    label: str
    picture: Image.Image


def parse(words: Sequence[str]) -> Args:
    """The arguments of a command line; those of the edit default to what suits its model."""
    args = tyro.cli(Args, args=words, description=__doc__)
    if args.edit.model != MINIATURE:
        return args
    return tyro.cli(Args, args=words, description=__doc__, default=Args(output=tyro.MISSING, edit=EDIT))


def main(args: Args) -> None:
    """Edits the view, writes picture and figures, and says what was found."""
    file = find_photograph(args)
    require_free(args, file)
    require_instruction(args.edit.prompt)
    thresholds, guidances = find_thresholds(args), find_guidances(args)
    photograph = read_photograph(file, upright=args.image is not None)
    model = args.autoencoder or args.edit.model
    height, width = photograph.shape[-2:]
    size = working_size(height, width, args.image_size, read_autoencoder_config(model).factor)
    photograph = resize(photograph, size).clamp(0, 1).to(args.device)

    autoencoder = load_autoencoder(model, args.device)
    denoiser = load_instruct_pix2pix(args.edit.model, args.device, args.edit.half_precision, args.edit.cpu_offload)
    denoiser.require_channels(autoencoder.channels)
    denoiser.embed(args.edit.prompt)
    original = autoencoder.encode(photograph)
    started = time.perf_counter()
    with tqdm(desc="delta score") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.set_description("denoising steps", refresh=False)
            bar.update(done - bar.n)

        found = preview(denoiser, original, original, args.edit, thresholds, guidances, show)
    seconds = time.perf_counter() - started

    mask_config = args.edit.delta_mask
    line = verdict(found, thresholds, mask_config)
    figures = {
        "photograph": str(file),
        "pixels": {"height": size[0], "width": size[1]},
        "found": line,
        "score": {
            "peak": peak(found.score).item(),
            "gate": mask_config.gate,
            "reaches_gate": bool(reaches_gate(found.score, mask_config.gate)),
        },
        "masks": [
            {"threshold": threshold, "coverage": mask.float().mean().item()}
            for threshold, mask in zip(thresholds, found.masks, strict=True)
        ],
        "guidances": [asdict(guidance) for guidance in guidances],
        "seconds": round(seconds, 2),
        "settings": asdict(args) | {"autoencoder": model, "view": None if args.data is None else args.view},
    }
    decoded = autoencoder.decode(torch.cat([original, found.edits.flatten(0, 1)])).cpu()
    panes = lay_out(photograph.cpu(), decoded, found, thresholds, guidances, mask_config)
    lines = (f"{args.edit.prompt} ({file.name})", line, settings_line(args, size))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    draw(panes, lines).save(args.output)
    write_figures(args.output.with_suffix(".json"), figures)
    print(f"Picture: {args.output}")
    print(line)


def find_photograph(args: Args) -> Path:
    """The file of the view that is asked for."""
    if (args.image is None) == (args.data is None):
        found = "neither" if args.image is None else "both"
        raise ValueError(f"Pass a photograph with --image or a dataset with --data: one of them, not {found}.")
    if args.image is not None:
        return args.image
    assert args.data is not None
    file = transforms_file(args.data)
    if not file.is_file():
        raise ValueError(f"There is no {file}: make it with ns-process-data, or pass a photograph with --image.")
    try:
        names = sorted(frame["file_path"] for frame in json.loads(file.read_text("utf8"))["frames"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file} does not list frames with a file_path each: make it with ns-process-data.") from error
    if isinstance(args.view, int):
        if not 0 <= args.view < len(names):
            raise ValueError(f"There is no view {args.view}: {file} has {len(names)} views, counted from 0.")
        return file.parent / names[args.view]
    fitting = [name for name in names if args.view in (name, Path(name).name, Path(name).stem)]
    if len(fitting) != 1:
        raise ValueError(
            f"{len(fitting)} of the {len(names)} views of {file} are named {args.view!r}: pass one of their names, "
            f"such as {names[0]!r}, or a number from 0 to {len(names) - 1}."
            if names
            else f"{file} lists no views."
        )
    return file.parent / fitting[0]


def transforms_file(data: Path) -> Path:
    """The file that describes a dataset in nerfstudio's format."""
    return data if data.suffix == ".json" else data / "transforms.json"


def require_free(args: Args, photograph: Path) -> None:
    """Refuses to write where something lies that was not meant to be replaced."""
    if args.output.suffix.lower() != ".png":
        raise ValueError(f"The picture is a PNG: --output ends in .png, not as {args.output.name!r} does.")
    inputs = {photograph.resolve(), *([] if args.data is None else [transforms_file(args.data).resolve()])}
    for file in (args.output, args.output.with_suffix(".json")):
        if file.resolve() in inputs or file.is_dir():
            raise ValueError(f"{file} is not to be written over: choose another --output.")
        if file.exists() and not args.overwrite:
            raise ValueError(f"{file} exists: choose another --output, or pass --overwrite to replace it.")


def find_thresholds(args: Args) -> tuple[float | None, ...]:
    """The thresholds to try, lowest first, and last none."""
    own = args.edit.delta_mask.threshold
    if args.edit.mask == "none":
        if args.thresholds:
            raise ValueError("With --edit.mask none there is no mask to cut: leave --thresholds out.")
        return (None,)
    chosen = args.thresholds
    if not chosen:
        chosen = (None,) if own is None else (max(own - 0.2, 0.0), own, min(own + 0.2, 1.0), None)
    for threshold in chosen:
        require_usable(replace(args.edit.delta_mask, threshold=threshold))
    unique = {None if threshold is None else round(threshold, 6) for threshold in chosen}
    return tuple(sorted(unique, key=lambda threshold: float("inf") if threshold is None else threshold))


def find_guidances(args: Args) -> list[Guidance]:
    """The guidance scales to try: every text guidance with every image guidance."""
    own = args.edit.guidance
    texts = args.text_guidance or tuple(float(f"{own.text * share:.3g}") for share in (2 / 3, 1, 4 / 3))
    return [Guidance(text, image) for image in args.image_guidance or (own.image,) for text in texts]


def read_photograph(file: Path, upright: bool) -> Float[Tensor, "1 3 height width"]:
    """A photograph in [0, 1], transparent pixels on black, as training reads it.

    Args:
        file: Any picture.
        upright: Turns it as its camera noted. A dataset's photographs are trained on as they lie in the file.
    """
    if not file.is_file():
        raise ValueError(f"There is no photograph {file}.")
    try:
        image = Image.open(file)
        image = (ImageOps.exif_transpose(image) if upright else image).convert("RGBA")
    except OSError as error:
        raise ValueError(f"{file} is not a picture that can be read ({error}): pass a JPEG or a PNG.") from error
    pixels = torch.from_numpy(np.array(image)).float() / 255
    return (pixels[..., :3] * pixels[..., 3:]).permute(2, 0, 1)[None]


def verdict(found: Preview, thresholds: Sequence[float | None], config: DeltaMaskConfig) -> str:
    """One line that says whether the prompt applies, and to how much of the view."""
    highest = f"score peak {peak(found.score).item():.3g}"
    if not reaches_gate(found.score, config.gate):
        return f"Nothing in this view answers to the prompt: {highest} stays below the gate {config.gate:g}."
    covered = [
        f"{percent(mask)} at threshold {threshold:g}"
        for threshold, mask in zip(thresholds, found.masks, strict=True)
        if threshold is not None
    ]
    covers = f"of this view the mask covers {', '.join(covered)}" if covered else "there is no mask"
    return f"{highest.capitalize()} reaches the gate {config.gate:g}; {covers}."


def settings_line(args: Args, size: tuple[int, int]) -> str:
    """The settings that all panes share."""
    edit = args.edit
    model = edit.model if args.autoencoder is None else f"{edit.model}, autoencoder {args.autoencoder}"
    return (
        f"{model}, {size[1]}x{size[0]} pixels, from noise {edit.max_noise:g} in {edit.denoising_steps} steps, "
        f"blending {edit.blending}, seed {edit.seed}"
    )


def lay_out(
    photograph: Float[Tensor, "1 3 height width"],
    decoded: Float[Tensor, "views 3 height width"],
    found: Preview,
    thresholds: Sequence[float | None],
    guidances: Sequence[Guidance],
    config: DeltaMaskConfig,
) -> list[list[Pane]]:
    """A row of the view and its score, then for each threshold one of the mask and the edits."""
    height, width = photograph.shape[-2:]
    scale = max(1.0, NARROWEST_PANE / width)
    size = round(width * scale), round(height * scale)

    def shown(image: Tensor) -> Image.Image:
        return Image.fromarray(to_bytes(image)).resize(size, Image.Resampling.BICUBIC)

    def cells(values: Tensor) -> Tensor:
        return F.interpolate(values.float().cpu(), (height, width), mode="nearest-exact")

    # Where nothing reaches the gate, a score that is divided by its own peak would look like one that does.
    applies = bool(reaches_gate(found.score, config.gate))
    whole = CLAMPS[config.clamp](found.score.flatten(1)).item() if applies else config.gate
    ticks = {f"1 (raw {whole:.3g})" if applies else f"gate (raw {whole:.3g})": 1.0, "0": 0.0}
    ticks |= {f"threshold {value:g}": value for value in thresholds if applies and value is not None}
    score = (cells(found.score)[0, 0] / whole).clamp(0, 1)
    coloured = torch.from_numpy(colormaps[COLOUR_MAP](score.numpy())[..., :3]).movedim(-1, 0)
    rows = [
        [
            Pane("original", shown(photograph[0])),
            Pane("through the autoencoder", shown(decoded[0])),
            Pane("delta score", shown(coloured)),
            Pane("", colour_bar(size, ticks)),
        ]
    ]
    edits = decoded[1:].unflatten(0, (len(guidances), len(thresholds)))
    several = len({guidance.image for guidance in guidances}) > 1
    for row, (threshold, mask) in enumerate(zip(thresholds, found.masks, strict=True)):
        name = "no mask" if threshold is None else f"threshold {threshold:g}"
        dimmed = photograph[0] * (OUTSIDE_BRIGHTNESS + (1 - OUTSIDE_BRIGHTNESS) * cells(mask[None])[0])
        panes = [Pane(f"{name}, covers {percent(mask)}", shown(dimmed))]
        for column, guidance in enumerate(guidances):
            label = f"text {guidance.text:g}" + several * f", image {guidance.image:g}"
            panes.append(Pane(label, shown(edits[column, row])))
        rows.append(panes)
    return rows


def colour_bar(size: tuple[int, int], ticks: dict[str, float]) -> Image.Image:
    """The colours of the score from 0 to 1, with labels beside them."""
    width, height = size
    picture = Image.new("RGB", size, "white")
    values = np.linspace(1, 0, height)[:, None]
    bar = Image.fromarray((colormaps[COLOUR_MAP](values)[..., :3] * 255).round().astype(np.uint8))
    picture.paste(bar.resize((width // 12, height)), (0, 0))
    drawing, font = ImageDraw.Draw(picture), label_font(size)
    for label, value in ticks.items():
        line = round((1 - value) * (height - 1))
        drawing.line([(width // 12, line), (width // 8, line)], fill="black", width=2)
        middle = min(max(line, font.size), height - font.size)
        drawing.text((width // 7, middle), label, fill="black", font=font, anchor="lm")
    return picture


def draw(rows: list[list[Pane]], lines: Sequence[str]) -> Image.Image:
    """All panes under the lines, of which the first is the title and the last the small print."""
    width, height = rows[0][0].picture.size
    font = label_font((width, height))
    gap, label_height = font.size // 2, 2 * font.size
    sheet_width = gap + max(len(row) for row in rows) * (width + gap)
    title: Any = ImageFont.load_default(1.5 * font.size)
    fonts = [title, *(font for _ in lines[1:])]
    colours = [*("black" for _ in lines[1:]), "dimgray"]
    wrapped = [
        (piece, line_font, colour)
        for line, line_font, colour in zip(lines, fonts, colours, strict=True)
        for piece in wrap(line, line_font, sheet_width - 2 * gap)
    ]
    top = gap + sum(round(1.5 * line_font.size) for _, line_font, _ in wrapped)
    sheet = Image.new("RGB", (sheet_width, top + len(rows) * (label_height + height + gap)), "white")
    drawing, y = ImageDraw.Draw(sheet), gap
    for line, line_font, colour in wrapped:
        drawing.text((gap, y), line, fill=colour, font=line_font)
        y += round(1.5 * line_font.size)
    for row, panes in enumerate(rows):
        y = top + row * (label_height + height + gap) + label_height
        for column, pane in enumerate(panes):
            x = gap + column * (width + gap)
            drawing.text((x, y - gap // 2), pane.label, fill="black", font=font, anchor="ld")
            sheet.paste(pane.picture, (x, y))
    return sheet


def wrap(line: str, font: Any, width: int) -> list[str]:
    """A line broken between words so that each piece is at most so many pixels wide."""
    pieces: list[str] = []
    for word in line.split():
        longer = f"{pieces[-1]} {word}" if pieces else word
        if pieces and font.getlength(longer) <= width:
            pieces[-1] = longer
        else:
            pieces.append(word)
    return pieces


def label_font(size: tuple[int, int]) -> Any:
    """A font that suits panes of this (width, height)."""
    return ImageFont.load_default(max(16, size[0] // 22))


def percent(mask: Tensor) -> str:
    """How much of the view a mask covers."""
    share = 100 * mask.float().mean().item()
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def to_bytes(image: Float[Tensor, "3 height width"]) -> UInt8[np.ndarray, "height width 3"]:
    """An image as files hold it."""
    return (image.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()


if __name__ == "__main__":
    try:
        main(parse(sys.argv[1:]))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
