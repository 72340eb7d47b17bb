"""A prompt tried on one photograph: which settings are tried, what came of them, and what to say about it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from latenteditor.editing.delta_mask import peak, reaches_gate, require_usable
from latenteditor.editing.denoiser import Denoiser
from latenteditor.editing.editor import EditConfig
from latenteditor.editing.guidance import Guidance
from latenteditor.editing.preview import Preview, preview
from latenteditor.networks.autoencoder import load_autoencoder, read_autoencoder_config, resize, working_size
from latenteditor.networks.editors import load_denoiser, require_autoencoder


@dataclass(frozen=True)
class Trials:
    """What a prompt is tried with."""

    edit: EditConfig
    """The edit, prompt included."""
    thresholds: tuple[float | None, ...]
    """Of the mask, lowest first; None edits the whole view."""
    guidances: list[Guidance]
    """How strongly prompt and photograph are followed."""


@dataclass(frozen=True)
class PhotographPreview:
    """What the trials made of one photograph."""

    trials: Trials
    """With what."""
    photograph: Float[Tensor, "1 3 height width"]
    """At the size at which it was edited."""
    decoded: Float[Tensor, "1 3 height width"]
    """The photograph through the autoencoder and back."""
    edited: Float[Tensor, "guidances thresholds 3 height width"]
    """The edits, decoded."""
    found: Preview
    """Score, masks and edits in latents."""
    seconds: float
    """That scores and edits took."""


def find_thresholds(edit: EditConfig, chosen: Sequence[float | None]) -> tuple[float | None, ...]:
    """The thresholds to try, lowest first, and last none: those chosen, or some around the edit's own.

    Raises:
        ValueError: A threshold cannot be used, or there is no mask to cut.
    """
    own = edit.delta_mask.threshold
    if edit.mask == "none":
        if chosen:
            raise ValueError("With --edit.mask none there is no mask to cut: leave --thresholds out.")
        return (None,)
    if not chosen:
        chosen = (None,) if own is None else (max(own - 0.2, 0.0), own, min(own + 0.2, 1.0), None)
    for threshold in chosen:
        require_usable(replace(edit.delta_mask, threshold=threshold))
    unique = {None if threshold is None else round(threshold, 6) for threshold in chosen}
    return tuple(sorted(unique, key=lambda threshold: float("inf") if threshold is None else threshold))


def find_guidances(own: Guidance, texts: Sequence[float], images: Sequence[float]) -> list[Guidance]:
    """The guidance scales to try: every one for the text with every one for the image, or some around the own."""
    texts = texts or tuple(float(f"{own.text * share:.3g}") for share in (2 / 3, 1, 4 / 3))
    return [replace(own, text=text, image=image) for image in images or (own.image,) for text in texts]


def preview_photograph(
    photograph: Float[Tensor, "1 3 rows columns"],
    trials: Trials,
    autoencoder: str,
    image_size: int | None,
    device: str,
) -> PhotographPreview:
    """Edits a photograph under all settings, and shows how far it is.

    Args:
        photograph: In [0, 1].
        trials: What is tried.
        autoencoder: Hub id or local folder of the autoencoder.
        image_size: Pixels along the long side while it is edited; None keeps its own.
        device: Any torch device.

    Raises:
        ValueError: A network is missing or does not fit, or the prompt is too long.
    """
    edit = trials.edit
    height, width = photograph.shape[-2:]
    size = working_size(height, width, image_size, read_autoencoder_config(autoencoder).factor)
    photograph = resize(photograph, size).clamp(0, 1).to(device)
    coder = load_autoencoder(autoencoder, device)
    denoiser = load_denoiser(edit.model, device, edit.half_precision, edit.cpu_offload)
    denoiser.require_channels(coder.channels)
    require_autoencoder(edit.model, coder)
    denoiser.embed(edit.prompt)
    original = coder.encode(photograph)
    started = time.perf_counter()
    found = _preview(denoiser, original, trials)
    seconds = time.perf_counter() - started
    decoded = coder.decode(torch.cat([original, found.edits.flatten(0, 1)])).cpu()
    edited = decoded[1:].unflatten(0, (len(trials.guidances), len(trials.thresholds)))
    return PhotographPreview(trials, photograph.cpu(), decoded[:1], edited, found, seconds)


def preview_figures(shown: PhotographPreview) -> dict[str, Any]:
    """What can be said in numbers, in what JSON knows."""
    trials, found, gate = shown.trials, shown.found, shown.trials.edit.delta_mask.gate
    height, width = shown.photograph.shape[-2:]
    return {
        "pixels": {"height": height, "width": width},
        "found": verdict(shown),
        "score": {
            "peak": peak(found.score).item(),
            "gate": gate,
            "reaches_gate": bool(reaches_gate(found.score, gate)),
        },
        "masks": [
            {"threshold": threshold, "coverage": mask.float().mean().item()}
            for threshold, mask in zip(trials.thresholds, found.masks, strict=True)
        ],
        "guidances": [asdict(guidance) for guidance in trials.guidances],
        "seconds": round(shown.seconds, 2),
    }


def verdict(shown: PhotographPreview) -> str:
    """One line that says whether the prompt applies, and to how much of the view."""
    found, gate = shown.found, shown.trials.edit.delta_mask.gate
    highest = f"score peak {peak(found.score).item():.3g}"
    if not reaches_gate(found.score, gate):
        return f"Nothing in this view answers to the prompt: {highest} stays below the gate {gate:g}."
    covered = [
        f"{percent(mask)} at threshold {threshold:g}"
        for threshold, mask in zip(shown.trials.thresholds, found.masks, strict=True)
        if threshold is not None
    ]
    covers = f"of this view the mask covers {', '.join(covered)}" if covered else "there is no mask"
    return f"{highest.capitalize()} reaches the gate {gate:g}; {covers}."


def percent(mask: Tensor) -> str:
    """How much of the view a mask covers."""
    share = 100 * mask.float().mean().item()
    return f"{share:.0f} %" if share >= 10 or share == 0 else f"{share:.2g} %"


def _preview(denoiser: Denoiser, original: Tensor, trials: Trials) -> Preview:
    """Edits the latents of a view under all settings, and shows how far it is."""
    with tqdm(desc="delta score") as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.set_description("denoising steps", refresh=False)
            bar.update(done - bar.n)

        return preview(denoiser, original, original, trials.edit, trials.thresholds, trials.guidances, show)
