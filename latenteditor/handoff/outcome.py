"""What a whole edit came to, to look at: held-out views before and after, a flight, a report."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.pipelines.base_pipeline import Pipeline

from latenteditor.handoff.dataset import EDIT, IMAGES
from latenteditor.handoff.region_rays import edit_mask_of
from latenteditor.handoff.report_page import Page, Pair, Stage, Unused, write_page
from latenteditor.handoff.whole_edit import (
    EDITING,
    LOGS,
    MEMORY,
    PICTURES,
    REPORT,
    SECONDS,
    VIDEO,
    WholeEdit,
    dataset_command,
    edit_command,
    finish_command,
    note_memory,
)
from latenteditor.nerf.latent_display import evaluation
from latenteditor.nerf.loaded_run import load_run
from latenteditor.nerf.photographs import camera_sizes, resize_cameras
from latenteditor.networks.autoencoder import resize
from latenteditor.options import all_options
from latenteditor.pictures import evenly_spread, read_image, to_picture, write_picture
from latenteditor.runs import Run, Say, find_ffmpeg, render_command
from latenteditor.watched import run_watched

BEFORE, AFTER = "before", "after"
FRAME_RATE = 16


def render_pictures(whole: WholeEdit, say: Say) -> None:
    """Renders some held-out views of the unedited and of the finished scene; without the first, takes photographs."""
    pipeline = load_run(whole.finished).pipeline
    dataset: Any = pipeline.datamanager.eval_dataset  # type: ignore[union-attr]
    chosen = evenly_spread(len(dataset), whole.config.num_pictures)
    cameras = _small_enough(dataset.cameras[torch.tensor(chosen)], whole.config.picture_size)
    files = [Path(dataset.image_filenames[index]) for index in chosen]
    names = [_name(file, whole.dataset) for file in files]
    _render(pipeline, cameras, [whole.folder / PICTURES / AFTER / name for name in names], say)
    before = [whole.folder / PICTURES / BEFORE / name for name in names]
    if whole.base_config is not None:
        _render(load_run(whole.base_config).pipeline, cameras, before, say)
        return
    note = json.loads((whole.dataset / EDIT).read_text())
    photographs = {view["file"]: Path(view["from"]) for view in note["views"]}
    for file, picture, size in zip(files, before, camera_sizes(cameras), strict=True):
        own = photographs[file.relative_to(whole.dataset).as_posix()]
        write_picture(picture, to_picture(resize(read_image(own)[None], size)[0]))


def render_video(whole: WholeEdit, say: Say) -> None:
    """A flight through the held-out cameras of the finished scene."""
    if find_ffmpeg() is None:
        say("No video: ns-render needs ffmpeg, and imageio-ffmpeg has none for this machine; install it.")
        return
    description = json.loads((whole.dataset / "transforms.json").read_text("utf8"))
    views = len(description["test_filenames"])
    steps = whole.config.video_frames // max(views, 1)
    if views < 2 or steps < 1:
        say(f"No video: {views} held-out views make no flight of {whole.config.video_frames} frames.")
        return
    frames = [description, *description["frames"]]
    side = max(frame.get(name, 0) for frame in frames for name in ("w", "h"))
    partial = whole.folder / f"{Path(VIDEO).stem}.partial.mp4"
    run = Run(whole.folder, whole.method)
    words = render_command(run, "interpolate")[:2]
    command = [
        *words, "--load-config", str(whole.finished), "--pose-source", "eval", "--interpolation-steps", str(steps),
        "--frame-rate", str(FRAME_RATE), "--rendered-output-names", "rgb", "--output-path", str(partial),
        "--downscale-factor", str(max(1.0, side / whole.config.picture_size)),
    ]  # fmt: skip
    note_memory(whole, "video", run_watched(command, whole.folder / LOGS / "video.log", "video", say))
    partial.rename(whole.folder / VIDEO)


def write_report(whole: WholeEdit) -> None:
    """Writes the page that shows all of it."""
    folder, note = whole.folder, json.loads((whole.dataset / EDIT).read_text())
    seconds = json.loads((folder / SECONDS).read_text())
    memory = json.loads((folder / MEMORY).read_text())
    after = sorted((folder / PICTURES / AFTER).rglob("*.png"))
    names = [file.relative_to(folder / PICTURES / AFTER) for file in after]
    pairs = [
        Pair(str(name.with_suffix("")), folder / PICTURES / BEFORE / name, file, _mask(whole, name))
        for name, file in zip(names, after, strict=True)
    ]
    settings = {option.dotted: option.value for option in all_options(whole.config) if option.dotted != "edit.prompt"}
    video = folder / VIDEO
    made = [] if whole.by_black_box else [edit_command(whole)]
    commands = [" ".join(command) for command in (*made, dataset_command(whole), finish_command(whole))]
    page = Page(
        prompt=whole.prompt,
        pairs=pairs,
        stages=[Stage(name, float(taken), _mib(memory.get(name))) for name, taken in seconds.items()],
        settings={"method": whole.method, "device": whole.device, **settings},
        figures={
            "photographs": note["photographs"],
            "photographs edited": note["edited"],
            "instructions": "; ".join(layer["instruction"] for layer in note["layers"]),
            "seconds in all": sum(seconds.values()),
            **_of_black_box(note),
        },
        commands=[
            f"ns-viewer --load-config {whole.finished}",
            *commands,
        ],
        video=video if video.is_file() else None,
        files={
            "finished scene": str(whole.finished.relative_to(folder)),
            "edited photographs": str(whole.dataset.relative_to(folder)),
            **_scene_of_latents(whole),
        },
        most_pairs=whole.config.num_pictures,
        rejected=[_rejected(whole, each) for each in note.get("rejected", [])],
    )
    write_page(folder / REPORT, page)


def _of_black_box(note: dict[str, Any]) -> dict[str, Any]:
    """What an edit of whole pictures cost, and how much of it was of no use."""
    if "rejected" not in note:
        return {}
    rejected = {"results rejected": len(note["rejected"])}
    return {"calls of the editor": note["calls"], "results found on the disk": note["found on the disk"], **rejected}


def _scene_of_latents(whole: WholeEdit) -> dict[str, str]:
    """Where that lies, if there is one."""
    if whole.by_black_box:
        return {}
    return {"edited scene of latents": str(whole.run(EDITING).config.relative_to(whole.folder))}


def _rejected(whole: WholeEdit, each: dict[str, Any]) -> Unused:
    """A result that was not used, as the page shows it."""
    return Unused(each["view"], each["fault"], whole.dataset / each["file"] if each["file"] else None)


def _render(pipeline: Pipeline, cameras: Cameras, files: Sequence[Path], say: Say) -> None:
    """Renders views to files."""
    model: Any = pipeline.model
    for index, file in enumerate(files):
        with torch.no_grad(), evaluation(model):
            image = model.get_outputs_for_camera(cameras[index : index + 1].to(model.device))["rgb"]
        write_picture(file, to_picture(image.permute(2, 0, 1).cpu()))
        say(f"  pictures: {file}")


def _small_enough(cameras: Cameras, longest: int) -> Cameras:
    """The cameras with images of at most so many pixels along their long side."""
    sizes = camera_sizes(cameras)
    scales = [min(1.0, longest / max(size)) for size in sizes]
    return resize_cameras(
        cameras, [(round(size[0] * scale), round(size[1] * scale)) for size, scale in zip(sizes, scales, strict=True)]
    )


def _name(file: Path, dataset: Path) -> Path:
    """A photograph's picture, in a folder of pictures."""
    return file.relative_to(dataset / IMAGES).with_suffix(".png")


def _mask(whole: WholeEdit, name: Path) -> Path | None:
    return edit_mask_of(whole.dataset / IMAGES / name, whole.dataset)


def _mib(held: int | None) -> float | None:
    return None if held is None else held / (1 << 20)
