"""Measures an edit: compares an edited scene to the unedited one, on held-out views or along a camera path.

Takes two folders of frames, as ns-render writes them with `dataset`, or with `camera-path --output-format images`; or
the two runs' config.yml, which it renders itself, with depth, so that frames can be re-projected into their neighbours.
Writes figures.json, with every figure of every frame and every setting, and frames.png to look at.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from latenteditor.devices import default_device
from latenteditor.evaluation.comparison import load_lpips
from latenteditor.evaluation.directions import try_clip
from latenteditor.evaluation.frames import read_frames
from latenteditor.evaluation.regions import read_masks, region_of_masks, region_of_polygons, region_of_training
from latenteditor.evaluation.report import Evidence, Instruments, measure, picture, report
from latenteditor.evaluation.scenes import read_scenes, render_scenes
from latenteditor.evaluation.table import table
from latenteditor.figures import write_figures
from latenteditor.pictures import write_picture


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
    device: str = default_device()
    """Where CLIP and LPIPS compute: any torch device. Runs are rendered where nerfstudio decides."""


def main(args: Args) -> None:
    """Measures, prints the table and writes everything."""
    _require_together(args)
    _require_there(args)
    device = torch.device(args.device)
    lpips = load_lpips(args.lpips_weights, device)
    evidence = _read(args)
    captions = (args.source_caption, args.target_caption) if args.source_caption else None
    follows_path = args.consecutive or args.camera_path is not None
    clip = try_clip(args.clip, device)
    instruments = Instruments(lpips, clip, captions, follows_path, args.depth_tolerance)
    figures = measure(evidence, instruments)

    write_figures(args.output / "figures.json", report(evidence, instruments, figures, asdict(args)))
    write_picture(args.output / "frames.png", picture(evidence))
    region = evidence.region
    print(f"\n{len(evidence.scenes.names)} frames; region: {'none' if region is None else region.source}")
    print("\n".join(table(figures)))
    print(f"Figures: {args.output / 'figures.json'}\nPicture: {args.output / 'frames.png'}")


def _require_together(args: Args) -> None:
    """Refuses options that do not go together, before anything is rendered."""
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
    if args.camera_path is not None and args.original.is_dir():
        raise ValueError("A camera path can be rendered of two config.yml only: of folders, pass --consecutive.")


def _require_there(args: Args) -> None:
    """Refuses what does not exist, before anything is rendered."""
    for path in (args.original, args.edited):
        if not path.exists():
            raise ValueError(f"There is no {path}: pass a folder of frames or a run's config.yml.")
    if args.original.is_dir() != args.edited.is_dir():
        raise ValueError("One scene is a folder and the other a file: pass two folders of frames or two config.yml.")
    for option in ("region_dir", "training_mask_dir", "truth_dir"):
        folder = getattr(args, option)
        if folder is not None and not folder.is_dir():
            what = f"--{option.replace('_', '-')}"
            raise ValueError(f"There is no folder {folder}: {what} is one with an image for each frame, by its name.")
    if args.polygon is not None and not args.polygon.is_file():
        raise ValueError(f"There is no file {args.polygon} of polygons: correct or drop --polygon.")
    if args.camera_path is not None and not args.camera_path.is_file():
        raise ValueError(f"There is no camera path {args.camera_path}: export one from the viewer.")
    if args.lpips_weights is not None and not args.lpips_weights.is_file():
        raise ValueError(f"There is no file {args.lpips_weights} of LPIPS weights: correct or drop --lpips-weights.")


def _read(args: Args) -> Evidence:
    """Both scenes, read or rendered, and what is known of the edit."""
    if args.original.is_dir():
        scenes = read_scenes(args.original, args.edited)
    else:
        scenes = render_scenes(args.original, args.edited, args.camera_path, args.output / "renders")
    training = None if args.training_mask_dir is None else read_masks(args.training_mask_dir, scenes)
    region = None
    if args.region_dir is not None:
        region = region_of_masks(args.region_dir, scenes)
    elif args.polygon is not None:
        region = region_of_polygons(args.polygon, scenes)
    elif args.training_mask_dir is not None and training is not None:
        region = region_of_training(args.training_mask_dir, training)
    truth = None if args.truth_dir is None else read_frames(args.truth_dir, scenes.names, scenes.original)
    return Evidence(scenes, region, training, truth)
