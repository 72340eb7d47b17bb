"""How editors that are a black box are used."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from latenteditor.networks.image_endpoint import EndpointConfig


@dataclass
class BlackBoxConfig:
    """For an --edit.model that is a function, an address, or a pipeline that edits whole pictures."""

    reference: Annotated[Path | None, tyro.conf.arg(aliases=["--edit.reference"])] = None
    """A photograph of the capture, edited by yourself: the first view, which the others are to look like."""
    key_view: str | None = None
    """The name of the photograph that is edited first, or that --edit.reference was made of. None takes the one in the
    middle, or the one that the reference fits."""
    most_calls: int | None = None
    """Calls of the editor after which none is made, tries that failed among them. None sets no limit."""
    attempts: int = 3
    """How often a view is tried, each time with another seed, where what comes back cannot be laid over its
    photograph. Our choice."""
    num_references: int = 2
    """Finished neighbours that an editor of several pictures is shown; 0 edits each view by itself. Our choice."""
    warp: bool = False
    """Whether an editor of one picture is given each photograph with the edits of its finished neighbours laid in by
    the scene's depth, so that it goes on from them."""
    agreement: float = 0.35
    """Share of the views that see a place, beyond what they change everywhere, which must have changed it for it to be
    part of the edit. Higher leaves out what few views show, lower lets in what an editor repaints. Measured by us."""
    steps: int | None = None
    """Denoising steps of a pipeline; None takes its own number."""
    kept: Path | None = None
    """The folder in which everything that an editor made is kept, so that nothing is paid twice. None takes
    latenteditor/pictures among the caches of your account."""
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)
    """How a server is asked."""


def require_usable(config: BlackBoxConfig) -> None:
    """Refuses settings that cannot be meant.

    Raises:
        ValueError: One of them lies outside its range, or the reference is missing.
    """
    if config.attempts < 1:
        raise ValueError(f"A view is tried 1 or more times, not {config.attempts}: choose --black-box.attempts.")
    if config.most_calls is not None and config.most_calls < 0:
        raise ValueError(
            f"An editor is called 0 or more times, not {config.most_calls}: choose --black-box.most-calls."
        )
    if config.num_references < 0:
        raise ValueError(f"An editor is shown 0 or more views, not {config.num_references}.")
    if not 0 < config.agreement < 1:
        raise ValueError(f"The share of views that agree lies between 0 and 1, not at {config.agreement}.")
    if config.reference is not None and not config.reference.is_file():
        raise ValueError(f"There is no picture {config.reference}: pass an edited photograph with --edit.reference.")


def folder_of_pictures(config: BlackBoxConfig) -> Path:
    """Where what editors made is kept."""
    if config.kept is not None:
        return config.kept.expanduser().absolute()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(caches).expanduser() / "latenteditor" / "pictures"
