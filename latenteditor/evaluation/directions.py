"""CLIP's figures of an edit: its direction against that between two captions, and from frame to frame."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.metrics import CONSISTENCIES, direction_similarity
from latenteditor.evaluation.scenes import Scenes
from latenteditor.evaluation.table import Figure
from latenteditor.networks.clip import Clip, load_clip


class ClipModel(NamedTuple):
    """A CLIP that was asked for."""

    name: str
    """Its hub id or folder."""
    clip: Clip | None
    missing: str
    """Why it cannot measure."""

    @property
    def about(self) -> dict[str, Any] | None:
        """What somebody needs to measure with the same."""
        return self.clip and {"model": self.name, "preprocessing": self.clip.preprocessing._asdict()}


def try_clip(name: str, device: torch.device) -> ClipModel:
    """Loads CLIP; one that cannot be had leaves its figures empty, and the rest can be measured."""
    if name == "none":
        return ClipModel(name, None, "no CLIP model")
    try:
        return ClipModel(name, load_clip(name, device), "")
    except ValueError as error:
        return ClipModel(name, None, f"no CLIP model: {error}")


def direction_figures(
    scenes: Scenes, model: ClipModel, captions: tuple[str, str] | None, follows_path: bool
) -> list[Figure]:
    """Direction similarity, and direction consistency in each of its formulas.

    Args:
        scenes: Both scenes' frames.
        model: The CLIP to measure with.
        captions: What the original shows, and what the edit should show; similarity needs both.
        follows_path: Whether the frames follow one camera path; consistency needs neighbours.
    """
    name = "" if model.clip is None else model.name
    similarity = Figure(
        "clip_direction_similarity",
        "cos(C(e) - C(o), T(target caption) - T(source caption))",
        missing=model.missing or ("" if captions else "no captions"),
        model=name,
    )
    no_path = "" if follows_path else "no camera path: pass --consecutive if it is one"
    if len(scenes.names) < 2:
        no_path = "needs two frames"
    consistencies = {
        key: Figure(f"clip_direction_consistency_{key}", each.formula, [], model.missing or no_path, True, name)
        for key, each in CONSISTENCIES.items()
    }
    if model.clip is not None:
        original, edited = (_embed(model.clip, images) for images in (scenes.original, scenes.edited))
        if captions is not None:
            source, target = model.clip.embed_texts(list(captions)).cpu()
            similarity.values = direction_similarity(original, edited, source, target).tolist()
        for key, figure in consistencies.items():
            if not figure.missing:
                figure.values = CONSISTENCIES[key].measure(original, edited).tolist()
    return [similarity, *consistencies.values()]


def _embed(clip: Clip, images: Sequence[Tensor]) -> Tensor:
    """Embeddings of images that may differ in size."""
    return torch.cat([clip.embed_images(image[None]) for image in tqdm(images, desc="CLIP")]).cpu()
