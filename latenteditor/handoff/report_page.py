"""One page about an edited scene that opens in any browser, offline: all it shows lies inside the file.

What it says comes from data, and is escaped by the template. A policy in its head keeps browsers from fetching anything
from elsewhere, and from running any script but the page's own.
"""

import base64
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from latenteditor import __version__
from latenteditor.handoff.page_pictures import (
    AMPLIFICATION,
    RAMP,
    Pair,
    data_uri,
    require_pictures,
    show_pair,
    thumbnail,
)
from latenteditor.handoff.wording import duration, figure_rows, mean_change, memory
from latenteditor.pictures import evenly_spread

__all__ = ["Page", "Pair", "Stage", "Unused", "write_page"]

PARTS = Path(__file__).parent / "page"
"""Template, style and script."""
LARGEST_VIDEO = 20_000_000
"""Bytes of a video that is put into the page; a larger one stays where it is."""
POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; media-src data: 'self'; "
    "style-src 'unsafe-inline'; script-src 'sha256-{script}'"
)
"""The page's content security policy."""


@dataclass(frozen=True)
class Stage:
    """A piece of the work."""

    name: str
    """What was done."""
    seconds: float
    """That it took."""
    memory_mib: float | None = None
    """At its peak. None where it was not measured."""


@dataclass(frozen=True)
class Unused:
    """A result of an editor that was not used."""

    view: str
    """The photograph that it was made of."""
    fault: str
    """Why."""
    file: Path | None = None
    """The picture, where there is one."""


@dataclass(frozen=True)
class Page:
    """What a page says about an edited scene."""

    prompt: str
    """What was asked for."""
    pairs: Sequence[Pair]
    """Held-out views."""
    stages: Sequence[Stage]
    """What was done, in order."""
    settings: Mapping[str, Any]
    """Dotted options and their values."""
    figures: Mapping[str, Any]
    """What came of it; figures may be nested under a name. None and NaN are shown as not measured."""
    commands: Sequence[str] = ()
    """What was typed, and what can be typed next."""
    video: Path | None = None
    """An mp4. It is put into the page or, where it is large, played from where it lies."""
    files: Mapping[str, str] = field(default_factory=dict)
    """What lies where, seen from the page's folder."""
    rejected: Sequence[Unused] = ()
    """Results of the editor that were not used."""
    most_pairs: int = 8
    """Of the pairs at most so many are shown, evenly spread."""


class Bar(NamedTuple):
    """A figure with its share of the largest of its kind, in percent."""

    text: str
    share: float


class Costs(NamedTuple):
    """What a stage took, as bars."""

    name: str
    time: Bar
    memory: Bar


class Link(NamedTuple):
    """A file that lies somewhere else."""

    name: str
    place: str
    """As it is written on the page."""
    address: str


class Video(NamedTuple):
    """A film of the scene."""

    source: str
    """The film itself or, where it is large, its address."""
    address: str


def write_page(file: Path, page: Page) -> None:
    """Writes the page whole or not at all.

    Raises:
        ValueError: A picture or the video is missing or cannot be used.
    """
    content = render_page(page, file.parent)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    try:
        # Names of files may hold bytes that are no text; they are shown with a question mark.
        partial.write_text(content, encoding="utf8", errors="replace", newline="\n")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)


def render_page(page: Page, folder: Path) -> str:
    """The page as text, to be written into a folder."""
    chosen = [page.pairs[index] for index in evenly_spread(len(page.pairs), page.most_pairs)]
    require_pictures(chosen)
    video = None if page.video is None else _video(page.video, folder)
    environment = Environment(
        loader=FileSystemLoader(PARTS, encoding="utf8"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["mean_change"] = mean_change
    script = (PARTS / "report.js").read_text("utf8")
    return environment.get_template("report.html").render(
        page=page,
        pairs=[show_pair(pair) for pair in chosen],
        summary=_summary(page),
        stages=_stages(page.stages),
        total=duration(sum(_finite(stage.seconds for stage in page.stages), 0.0)),
        figures=list(figure_rows(page.figures)),
        rejected=[(each, thumbnail(each.file) if each.file else "") for each in page.rejected],
        files=[Link(name, place, _address(folder / place, folder)) for name, place in page.files.items()],
        video=video,
        amplification=AMPLIFICATION,
        ramp=Markup(", ".join(f"rgb{colour}" for colour in RAMP)),
        style=Markup((PARTS / "report.css").read_text("utf8")),
        script=Markup(script),
        policy=POLICY.format(script=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()),
        version=__version__,
    )


def _summary(page: Page) -> list[str]:
    """What the page's head says below its title."""
    views = len(page.pairs)
    seconds, peaks = _finite(stage.seconds for stage in page.stages), _finite(stage.memory_mib for stage in page.stages)
    return [
        *([f"{views} held-out {'view' if views == 1 else 'views'}"] if views else []),
        *([duration(sum(seconds))] if seconds else []),
        *([f"{memory(max(peaks))} at the peak"] if peaks else []),
    ]


def _stages(stages: Sequence[Stage]) -> list[Costs]:
    """Name, time and memory of each stage."""
    longest = max(_finite(stage.seconds for stage in stages), default=0.0)
    most = max(_finite(stage.memory_mib for stage in stages), default=0.0)
    return [
        Costs(
            stage.name,
            Bar(duration(stage.seconds), _share(stage.seconds, longest)),
            Bar(memory(stage.memory_mib), _share(stage.memory_mib or 0.0, most)),
        )
        for stage in stages
    ]


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _share(value: float, largest: float) -> float:
    """In percent; 0 where there is nothing to compare, NaN included."""
    return round(100 * value / largest, 1) if 0 < value <= largest else 0.0


def _video(file: Path, folder: Path) -> Video:
    if not file.is_file():
        raise ValueError(f"The video for the page cannot be found: {file}.")
    address = _address(file, folder)
    small = file.stat().st_size <= LARGEST_VIDEO
    return Video(data_uri("video/mp4", file.read_bytes()) if small else address, address)


def _address(file: Path, folder: Path) -> str:
    """How a page in a folder reaches a file, whatever its name holds: never another scheme or host."""
    return "./" + quote(os.fsencode(Path(os.path.relpath(file, folder)).as_posix()))
