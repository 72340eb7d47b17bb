"""Measures an edit: compares an edited scene to the unedited one, on held-out views or along a camera path.

Takes two folders of frames, as ns-render writes them with `dataset`, or with `camera-path --output-format images`; or
the two runs' config.yml, which it renders itself, with depth, so that frames can be re-projected into their neighbours.
Writes figures.json, with every figure of every frame and every setting, and frames.png to look at.
"""

import hashlib
import json
import math
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import torch
import torch.nn.functional as F
import tyro
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm.auto import tqdm

import latenteditor
from latenteditor.editing.metrics import (
    CONSISTENCIES,
    RegionFigures,
    coverage,
    direction_similarity,
    mask_iou,
    region_means,
    region_psnr,
    ssim_map,
)
from latenteditor.evaluation.reprojection import Frame, reprojection_error
from latenteditor.figures import write_figures
from latenteditor.networks.clip import Clip, load_clip
from latenteditor.networks.perceptual import SMALLEST_IMAGE, PerceptualDistance, load_perceptual_distance

SUFFIXES = (".png", ".jpg", ".jpeg")
PICTURE_COLUMNS = 6
OUTLINE = (1.0, 0.0, 1.0)
"""The colour of the region's outline, which few scenes have."""
NO_REGION = "no region: pass --region-dir or --polygon"


@dataclass
class Args:
    """What to compare, and where the edit belongs."""

    original: Path
    """The unedited scene: a folder of its frames, as renders/test/rgb, or its run's config.yml."""
    edited: Path
    """The edited scene: a folder with frames of the same names, or its run's config.yml."""
    output: Path
    """Folder for figures.json and frames.png; of two runs, it also gets the renders."""
    source_caption: str = ""
    """What the original shows, as in "a photo of a bear". CLIP's direction similarity needs both captions."""
    target_caption: str = ""
    """What the edit should show, as in "a photo of a panda"."""
    camera_path: Path | None = None
    """A camera path that the viewer exported, to render of two runs instead of their held-out views."""
    consecutive: bool = False
    """Whether the frames of two folders follow one camera path. Held-out views do not: then there is no direction
    consistency. A --camera-path always does."""
    region_dir: Path | None = None
    """Folder of one mask per frame, by the frame's name: PNG, above 0 where the edit belongs; other frames' masks may
    lie there too. Independent of the edit: drawn by hand, by a segmenter, or known."""
    polygon: Path | None = None
    """Instead of --region-dir: JSON of each frame's name and its list of polygons [[x, y], ...] in pixels from the top
    left corner; an empty list where the region is not seen."""
    training_mask_dir: Path | None = None
    """Folder of the masks that the edit was trained with, like --region-dir: their coverage and their overlap with the
    region are measured. Without a region they take its place, and every figure says that they are not independent."""
    truth_dir: Path | None = None
    """Folder of what the edit should look like, one image per frame by the frame's name, where that is known."""
    clip: str = "openai/clip-vit-large-patch14"
    """Hub id or local folder of a CLIP in transformers' format; "none" leaves its figures out. The default is the
    ViT-L/14 that InstructPix2Pix and Instruct-NeRF2NeRF are measured with; figures of two models do not compare."""
    lpips_weights: Path | None = None
    """A file with the state dict of lpips.LPIPS(net="alex"), AlexNet included. Without it LPIPS is left out."""
    depth_tolerance: float = 0.02
    """By which share of its distance a point may miss the depth that a neighbouring frame sees, and still count as the
    same surface. Our choice; higher compares more pixels, some of them of different surfaces."""
    device: str = "cuda" if torch.cuda.is_available() else "cpu"
    """Where CLIP and LPIPS compute: any torch device. Runs are rendered where nerfstudio decides."""


@dataclass
class Figure:
    """One row of the table."""

    name: str
    definition: str
    """The formula, or what is compared to what."""
    values: list[float] = field(default_factory=list)
    """Of each frame; of each neighbouring pair where `pairs`. NaN where nothing is compared."""
    missing: str = ""
    """Why there are no values."""
    pairs: bool = False
    model: str = ""
    """The network that measures."""

    @property
    def mean(self) -> float:
        """Over the frames in which there is something to compare."""
        known = [value for value in self.values if not math.isnan(value)]
        return sum(known) / len(known) if known else math.nan


@dataclass
class Scenes:
    """What is compared: lists in the order of the frames' names."""

    names: list[str]
    original: list[Tensor]
    """Images of shape (3, height, width), in [0, 1]; frames may differ in size."""
    edited: list[Tensor]
    frames: dict[str, list[Frame]]
    """Of `original` and of `edited`: images with depth and cameras."""
    no_depth: str
    """Why there are no such frames."""
    runs: dict[str, Any]
    """Which methods' runs were rendered."""


@dataclass
class Region:
    """Where the edit belongs."""

    masks: list[Tensor]
    """Of shape (height, width), one per frame."""
    source: str
    """Where it comes from."""
    caveat: str = ""
    """Goes with every figure of the region."""


def main(args: Args) -> None:
    """Measures, prints the table and writes everything."""
    check(args)
    device = torch.device(args.device)
    distance = load_lpips(args.lpips_weights, device)
    scenes = read_scenes(args)
    region, training_masks = read_regions(args, scenes)
    truth = read_images(args.truth_dir, scenes.names, scenes.original) if args.truth_dir else None
    # A CLIP that cannot be had leaves its rows empty, and the rest is measured.
    clip, no_clip = try_clip(args.clip, device)

    lpips_model = "" if args.lpips_weights is None else f"LPIPS, AlexNet, {args.lpips_weights.name}"
    figures = compare("edit", "edited against original", scenes.edited, scenes.original, region, distance, lpips_model)
    figures += clip_figures(args, scenes, clip, no_clip)
    figures += reprojection_figures(scenes, args.depth_tolerance)
    figures += mask_figures(region, training_masks)
    if truth is not None:
        figures += compare("truth_edited", "edited against truth", scenes.edited, truth, region, distance, lpips_model)
        figures += compare(
            "truth_unedited", "original against truth", scenes.original, truth, region, distance, lpips_model
        )

    args.output.mkdir(parents=True, exist_ok=True)
    content = report(args, scenes, region, figures, clip)
    write_figures(args.output / "figures.json", content)
    iio.imwrite(args.output / "frames.png", picture(scenes, truth, region))
    print_table(figures, len(scenes.names), region)
    print(f"Figures: {args.output / 'figures.json'}\nPicture: {args.output / 'frames.png'}")


def check(args: Args) -> None:
    """Refuses what does not go together, before anything is rendered."""
    if bool(args.source_caption.strip()) != bool(args.target_caption.strip()):
        raise ValueError("Only one caption is given: pass both --source-caption and --target-caption, or neither.")
    if args.source_caption and args.source_caption == args.target_caption:
        raise ValueError(
            f"Both captions are {args.source_caption!r}: --target-caption should say what the edit changes."
        )
    if args.region_dir is not None and args.polygon is not None:
        raise ValueError("The region is given twice: pass either --region-dir or --polygon.")
    if not 0 < args.depth_tolerance < 1:
        raise ValueError(f"--depth-tolerance is a share of the distance, between 0 and 1, not {args.depth_tolerance}.")
    for path in (args.original, args.edited):
        if not path.exists():
            raise ValueError(f"There is no {path}: pass a folder of frames or a run's config.yml.")
    if args.original.is_dir() != args.edited.is_dir():
        raise ValueError("One scene is a folder and the other a file: pass two folders of frames or two config.yml.")
    if args.camera_path is not None and args.original.is_dir():
        raise ValueError("A camera path can be rendered of two config.yml only: of folders, pass --consecutive.")
    if args.lpips_weights is not None and not args.lpips_weights.is_file():
        raise ValueError(f"There is no file {args.lpips_weights} of LPIPS weights: correct or drop --lpips-weights.")


def read_scenes(args: Args) -> Scenes:
    """Both scenes' frames, read or rendered."""
    if args.original.is_dir():
        names = frame_names(args.original)
        if names != frame_names(args.edited):
            odd = sorted(set(names) ^ set(frame_names(args.edited)))
            raise ValueError(
                f"The folders {args.original} and {args.edited} hold different frames (such as {odd[0]}): render both "
                "scenes from the same cameras."
            )
        original = read_images(args.original, names)
        edited = read_images(args.edited, names, original)
        return Scenes(names, original, edited, {}, "folders have no depth: pass two config.yml", {})

    # The host takes seconds to import, and folders do not need it.
    from latenteditor.evaluation.renders import render_run, require_same_cameras

    runs = {name: render_run(getattr(args, name), args.camera_path) for name in ("original", "edited")}
    require_same_cameras(runs["original"], runs["edited"])
    for name, run in runs.items():
        for frame, image in zip(run.names, run.images, strict=True):
            file = args.output / "renders" / name / f"{frame}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            iio.imwrite(file, to_bytes(image))
    return Scenes(
        names=runs["original"].names,
        original=runs["original"].images,
        edited=runs["edited"].images,
        frames={name: run.frames for name, run in runs.items()},
        no_depth=runs["original"].no_depth or runs["edited"].no_depth,
        runs={name: {"method": run.method, "step": run.step} for name, run in runs.items()},
    )


def frame_names(folder: Path) -> list[str]:
    """The names of a folder's images without suffix, in order."""
    names = sorted(file.stem for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    if not names:
        raise ValueError(f"{folder} holds no frames ({', '.join(SUFFIXES)}): pass the folder of RGB, as test/rgb.")
    if len(names) != len(set(names)):
        raise ValueError(f"{folder} holds two images of one name: keep one of each.")
    return names


def find_file(folder: Path, name: str) -> Path:
    """A frame's image in a folder."""
    for suffix in SUFFIXES:
        for file in (folder / f"{name}{suffix}", folder / f"{name}{suffix.upper()}"):
            if file.is_file():
                return file
    raise ValueError(f"{folder} has no image of the frame {name}: there should be one of each frame, by its name.")


def read_images(folder: Path, names: Sequence[str], like: Sequence[Tensor] | None = None) -> list[Tensor]:
    """Images of a folder in [0, 1], of the sizes of others."""
    images = []
    for index, name in enumerate(names):
        file = find_file(folder, name)
        image = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).movedim(-1, 0).float() / 255
        if like is not None:
            require_size(file, image.shape[-2:], like[index].shape[-2:])
        images.append(image)
    return images


def require_size(file: Path, found: Sequence[int], expected: Sequence[int]) -> None:
    """Refuses an image of another size than the frame it belongs to."""
    if tuple(found) != tuple(expected):
        raise ValueError(
            f"{file} has {found[1]}x{found[0]} pixels and its frame {expected[1]}x{expected[0]}: make them one size."
        )


def read_regions(args: Args, scenes: Scenes) -> tuple[Region | None, list[Tensor] | None]:
    """The region, if there is one, and the training masks, if they are given."""
    training = None if args.training_mask_dir is None else read_masks(args.training_mask_dir, scenes)
    if args.region_dir is not None:
        return Region(read_masks(args.region_dir, scenes), f"masks of {args.region_dir}"), training
    if args.polygon is not None:
        return Region(read_polygons(args.polygon, scenes), f"polygons of {args.polygon}"), training
    if training is not None:
        source = f"masks of {args.training_mask_dir}: training mask, not independent"
        return Region(training, source, " (training mask, not independent)"), training
    return None, None


def read_masks(folder: Path, scenes: Scenes) -> list[Tensor]:
    """One mask per frame, true above 0 in any channel but alpha."""
    masks = []
    for name, image in zip(scenes.names, scenes.original, strict=True):
        file = find_file(folder, name)
        values = iio.imread(file)
        values = values if values.ndim == 2 else values[..., : 1 if values.shape[-1] == 2 else 3].max(axis=-1)
        require_size(file, values.shape, image.shape[-2:])
        masks.append(torch.from_numpy(values > 0))
    return masks


def read_polygons(file: Path, scenes: Scenes) -> list[Tensor]:
    """One mask per frame, true inside any of its polygons."""
    try:
        content = json.loads(file.read_text("utf8"))
        polygons = {
            name: [[(float(x), float(y)) for x, y in polygon] for polygon in found] for name, found in content.items()
        }
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{file} cannot be read ({error}): expected JSON such as {{"00000": [[[10, 10], [90, 10], [50, 80]]]}}.'
        ) from error
    masks = []
    for name, image in zip(scenes.names, scenes.original, strict=True):
        if name not in polygons:
            raise ValueError(f"{file} has no polygons of the frame {name}: give [] where the region is not seen.")
        canvas = Image.new("L", (image.shape[-1], image.shape[-2]))
        for polygon in polygons[name]:
            if len(polygon) < 3:
                raise ValueError(f"A polygon of the frame {name} in {file} has {len(polygon)} corners: 3 are needed.")
            ImageDraw.Draw(canvas).polygon(polygon, fill=255)
        masks.append(torch.from_numpy(np.array(canvas) > 0))
    return masks


def load_lpips(weights: Path | None, device: torch.device) -> PerceptualDistance | None:
    """LPIPS, where there are weights."""
    return None if weights is None else load_perceptual_distance(weights, device)


def try_clip(model: str, device: torch.device) -> tuple[Clip | None, str]:
    """CLIP, or why there is none."""
    if model == "none":
        return None, "no CLIP model"
    try:
        return load_clip(model, device), ""
    except ValueError as error:
        return None, f"no CLIP model: {error}"


def compare(
    prefix: str,
    what: str,
    images: list[Tensor],
    reference: list[Tensor],
    region: Region | None,
    distance: PerceptualDistance | None,
    lpips_model: str,
) -> list[Figure]:
    """PSNR, SSIM and LPIPS of frames: over all, inside and outside the region."""
    small = min(min(image.shape[-2:]) for image in images) < SMALLEST_IMAGE
    no_lpips = "no LPIPS weights" if distance is None else ""
    if distance is not None and small:
        no_lpips = f"LPIPS needs {SMALLEST_IMAGE} or more pixels along each side"
    missing = {"psnr": "", "ssim": "", "lpips": no_lpips}
    measured: dict[str, list[RegionFigures]] = {name: [] for name in missing}
    for index, views in enumerate(zip(tqdm(images, desc=what), reference, strict=True)):
        pair = views[0][None], views[1][None]
        nothing = torch.zeros(1, 1, *views[0].shape[-2:], dtype=torch.bool)
        mask = nothing if region is None else region.masks[index][None, None]
        measured["psnr"].append(region_psnr(*pair, mask))
        measured["ssim"].append(region_means(ssim_map(*pair), mask))
        if distance is not None and not no_lpips:
            pair = pair[0].to(distance.device), pair[1].to(distance.device)
            means = region_means(distance.distance_map(*pair).cpu(), mask)
            # Over the whole frame it is LPIPS as everybody reports it.
            measured["lpips"].append(means._replace(overall=distance(*pair).cpu()))
    figures = []
    for name, rows in measured.items():
        for part in RegionFigures._fields:
            where = "" if part == "overall" else f", {part} the region" + (region.caveat if region else "")
            figures.append(
                Figure(
                    name=f"{prefix}_{name}" + ("" if part == "overall" else f"_{part}"),
                    definition=f"{name.upper()}, {what}{where}",
                    missing=missing[name] or (NO_REGION if region is None and part != "overall" else ""),
                    model=lpips_model if name == "lpips" else "",
                )
            )
            if not figures[-1].missing:
                figures[-1].values = [getattr(row, part).item() for row in rows]
    return figures


def clip_figures(args: Args, scenes: Scenes, clip: Clip | None, no_clip: str) -> list[Figure]:
    """Direction similarity, and direction consistency in each of its formulas."""
    model = "" if clip is None else args.clip
    similarity = Figure(
        "clip_direction_similarity", "cos(C(e) - C(o), T(target caption) - T(source caption))", model=model
    )
    consistencies = [
        Figure(f"clip_direction_consistency_{name}", consistency.formula, pairs=True, model=model)
        for name, consistency in CONSISTENCIES.items()
    ]
    similarity.missing = no_clip or ("" if args.source_caption else "no captions")
    no_path = "" if args.consecutive or args.camera_path else "no camera path: pass --consecutive if it is one"
    if len(scenes.names) < 2:
        no_path = "needs two frames"
    for figure in consistencies:
        figure.missing = no_clip or no_path
    if clip is None:
        return [similarity, *consistencies]
    original, edited = (
        torch.cat([clip.embed_images(image[None]) for image in tqdm(images, desc="CLIP")]).cpu()
        for images in (scenes.original, scenes.edited)
    )
    if not similarity.missing:
        source, target = clip.embed_texts([args.source_caption, args.target_caption]).cpu()
        similarity.values = direction_similarity(original, edited, source, target).tolist()
    if not no_path:
        for figure, consistency in zip(consistencies, CONSISTENCIES.values(), strict=True):
            figure.values = consistency.measure(original, edited).tolist()
    return [similarity, *consistencies]


def reprojection_figures(scenes: Scenes, tolerance: float) -> list[Figure]:
    """How well each scene's frames agree with their neighbours, by the scene's own depth."""
    missing = scenes.no_depth or ("needs two frames" if len(scenes.names) < 2 else "")
    figures = []
    for scene in ("edited", "original"):
        frames = scenes.frames.get(scene, [])
        errors = [
            reprojection_error(frame, neighbour, tolerance)
            for frame, neighbour in ([] if missing else zip(frames, frames[1:], strict=False))
        ]
        for name, definition in (
            ("psnr", "PSNR of frame i, warped into frame i+1 by depth, where visible"),
            ("l1", "mean absolute difference of the same"),
            ("visible", f"share of frame i+1 visible in frame i, depth within {tolerance:g}"),
        ):
            values = [getattr(error, name) for error in errors]
            figures.append(
                Figure(f"reprojection_{name}_{scene}", f"{scene}: {definition}", values, missing, pairs=True)
            )
    return figures


def mask_figures(region: Region | None, training_masks: list[Tensor] | None) -> list[Figure]:
    """How much of the frames region and training masks cover, and how they overlap."""
    figures = [Figure("region_coverage", "share of the frame", missing="" if region else NO_REGION)]
    if region is not None:
        figures[0].values = [coverage(mask[None, None]).item() for mask in region.masks]
    if training_masks is not None and region is not None:
        pairs = [
            (mask[None, None], other[None, None]) for mask, other in zip(training_masks, region.masks, strict=True)
        ]
        independent = not region.caveat
        figures += [
            Figure("training_mask_coverage", "share of the frame", [coverage(mask).item() for mask, _ in pairs]),
            Figure(
                "training_mask_iou",
                "intersection over union of training mask and region",
                [mask_iou(*pair).item() for pair in pairs] if independent else [],
                "" if independent else NO_REGION,
            ),
        ]
    return figures


def report(args: Args, scenes: Scenes, region: Region | None, figures: list[Figure], clip: Clip | None) -> dict:
    """Everything that somebody needs to repeat the figures."""
    weights = args.lpips_weights
    lpips = (
        None if weights is None else {"file": str(weights), "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    )
    return {
        "settings": {name: value if isinstance(value, bool | float) else value and str(value)
                     for name, value in asdict(args).items()},
        "versions": {"latenteditor": latenteditor.__version__, "torch": str(torch.__version__),
                     "python": platform.python_version()},
        "models": {
            "clip": None if clip is None else {"model": args.clip, "preprocessing": clip.preprocessing._asdict()},
            "lpips": lpips,
        },
        "runs": scenes.runs,
        "region": None if region is None else region.source,
        "frames": scenes.names,
        "figures": {
            figure.name: {
                "definition": figure.definition,
                "model": figure.model or None,
                "missing": figure.missing or None,
                "mean": figure.mean,
                "per_pair" if figure.pairs else "per_frame": figure.values,
            }
            for figure in figures
        },
    }  # fmt: skip


def picture(scenes: Scenes, truth: list[Tensor] | None, region: Region | None) -> np.ndarray:
    """Rows: original, edited, truth, edited with the region's outline; columns: frames, evenly spread."""
    count = len(scenes.names)
    chosen = sorted({round(index) for index in np.linspace(0, count - 1, min(count, PICTURE_COLUMNS))})
    rows = [scenes.original, scenes.edited]
    if truth is not None:
        rows.append(truth)
    if region is not None:
        rows.append([outlined(image, mask) for image, mask in zip(scenes.edited, region.masks, strict=True)])
    height = max(scenes.original[index].shape[-2] for index in chosen)
    columns = []
    for index in chosen:
        cells = [F.pad(row[index], (2, 2, 2, 2 + height - row[index].shape[-2]), value=1.0) for row in rows]
        columns.append(torch.cat(cells, dim=1))
    return to_bytes(torch.cat(columns, dim=2))


def outlined(image: Tensor, mask: Tensor) -> Tensor:
    """An image with the region's inner border drawn in."""
    thickness = max(1, image.shape[-2] // 150)
    rest = F.max_pool2d((~mask)[None].float(), 2 * thickness + 1, stride=1, padding=thickness)[0] > 0
    colour = torch.tensor(OUTLINE)[:, None, None]
    return torch.where(mask & rest, colour, image)


def to_bytes(image: Tensor) -> np.ndarray:
    """An image in [0, 1] as files have it."""
    return (image.clamp(0, 1) * 255).round().byte().movedim(0, -1).numpy()


def print_table(figures: list[Figure], count: int, region: Region | None) -> None:
    """Means over the frames, or why there are none."""
    print(f"\n{count} frames; region: {'none' if region is None else region.source}")
    for figure in figures:
        mean = "-" if math.isnan(figure.mean) else f"{figure.mean:.4f}"
        note = figure.missing or figure.definition + (f" [{figure.model}]" if figure.model else "")
        print(f"{figure.name:36} {mean:>9}   {note}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Args, description=__doc__))
    except ValueError as error:
        raise SystemExit(f"Error: {error}") from None
