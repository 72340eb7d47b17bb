"""The registration guard against known answers: ``python -m latenteditor.benchmark.guard_check --output guard.json``.

What a perfect editor makes of a photograph of a built-in world is displaced by up to 5 per cent and relit, or left
where it is; beside that there are pictures that lie over their photograph nowhere. Of each the motion is found as for a
black box, once as it is and once with a background that is painted over at random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from latenteditor.benchmark.black_boxes import painted_over, random_motion, relit
from latenteditor.black_box.registration import move, register
from latenteditor.figures import write_figures
from latenteditor.pictures import eight_bits, to_bytes
from latenteditor.runs import say
from latenteditor.worlds.instructions import KIND_SHARES, Instruction, random_instruction, random_kind
from latenteditor.worlds.render import Camera, Hits, Tracer, dome_camera
from latenteditor.worlds.truth import follow
from latenteditor.worlds.variants import SOLID_TRAITS, TRAITS, paint_variant, trace_variant
from latenteditor.worlds.world import World, random_world

GOOD = ("displaced", "still", "displaced", "relit")
"""What is done to edits that must pass, in turns."""
STRANGE = ("other view", "mirrored", "turned", "other world")
"""What is done to those that must not, in turns."""
LEAST_REGION = 0.01
"""Of a view: what an edit changes at least."""
DISAGREEMENT = 0.25
"""By how much every second edit differs from the truth, as `variants` counts."""
TURN = 20.0
"""Degrees."""
OTHER_WORLD = 500_000
"""From a world's seed to that of another."""
RIGHT = 1.0
"""Pixels by which a motion that is right may be off in any corner."""


@dataclass
class GuardCheckConfig:
    """Which pictures, and how many."""

    output: Path
    """The file of the figures, JSON."""
    first_seed: int = 3_100_000
    """Of the first world. Settings were chosen on those from 3,200,000 on."""
    num_edits: int = 100
    """Edits that must pass: every second one is displaced and relit, every fourth relit where it is."""
    num_strange: int = 20
    """Pictures that must not pass: other views, mirrored, turned, of other worlds, in turns."""
    size: int = 256
    """Pixels of either side."""


class Edit(NamedTuple):
    """A photograph, and what a perfect editor makes of it."""

    world: World
    camera: Camera
    instruction: Instruction
    photograph: Float[np.ndarray, "height width 3"]
    edited: Float[np.ndarray, "height width 3"]


class Made(NamedTuple):
    """What came back from an editor."""

    picture: Float[Tensor, "3 height width"]
    motion: Float[np.ndarray, "2 3"] | None
    """How it is displaced; None where it lies over its photograph nowhere."""


def main(config: GuardCheckConfig) -> None:
    """Measures, and says what came of it.

    Raises:
        ValueError: There is nothing to measure.
    """
    if config.num_edits < 1 or config.num_strange < 0:
        raise ValueError(f"There must be 1 or more edits, not {config.num_edits}, and no negative number of others.")
    rows = measure(config)
    summary = {background: summarise(of_it) for background, of_it in rows.items()}
    write_figures(config.output, {"summary": summary, "pictures": rows})
    for background, counts in summary.items():
        say(f"Background {background}: " + ", ".join(f"{name} {count}" for name, count in counts.items()))
    say(f"All figures: {config.output}")


def measure(config: GuardCheckConfig) -> dict[str, list[dict[str, Any]]]:
    """A row for each picture, by what its background is."""
    rows: dict[str, list[dict[str, Any]]] = {"kept": [], "painted over": []}
    kinds = [GOOD[number % len(GOOD)] for number in range(config.num_edits)]
    kinds += [STRANGE[number % len(STRANGE)] for number in range(config.num_strange)]
    for seed, kind in enumerate(kinds, start=config.first_seed):
        edit = draw_edit(seed, config.size, exact=seed % 8 < 4)
        for background, of_it in rows.items():
            made = make(edit, kind, seed, paint=background != "kept")
            of_it.append({"seed": seed, "kind": kind, **judge(edit, made)})
    return rows


def draw_edit(seed: int, size: int, exact: bool) -> Edit:
    """An edit of solids that is seen, or a variant of what it should be."""
    world, rng = random_world(seed), np.random.default_rng((seed, 7))
    tracer = Tracer(world)
    shares = {kind: share for kind, share in KIND_SHARES.items() if kind != "look"}
    total = sum(shares.values())
    while True:
        hits = tracer.trace(dome_camera(rng, size))
        kind = random_kind(rng, {name: share / total for name, share in shares.items()})
        instruction, _ = random_instruction(world, rng, kind)
        truth, region = follow(instruction, hits)
        if region.mean() >= LEAST_REGION:
            break
    edited = truth if exact else _variant(instruction, hits, rng)
    return Edit(world, hits.camera, instruction, hits.shade(world), edited)


def make(edit: Edit, kind: str, seed: int, paint: bool) -> Made:
    """What an editor with faults returns for an edit."""
    rng = np.random.default_rng((seed, 8))
    shown = to_bytes(_strange(edit, kind, seed, rng))
    shown = painted_over(shown, rng) if paint else shown
    picture = torch.from_numpy(shown).permute(2, 0, 1).float() / 255
    size, motion = (edit.camera.size, edit.camera.size), np.eye(2, 3, dtype=np.float32)
    if kind not in ("still", "mirrored"):
        picture = relit(picture, rng)
    if kind == "displaced":
        motion = random_motion(rng, size)
        picture = move(picture, motion)
    return Made(eight_bits(picture[None])[0], None if kind in STRANGE else motion)


def judge(edit: Edit, made: Made) -> dict[str, Any]:
    """What the guard says of it, and by how many pixels it is wrong."""
    found = register(_image(edit.photograph), made.picture)
    error = None if made.motion is None else furthest(found.matrix - made.motion, edit.camera.size)
    return {"error": error, "found": found.found, "moved": found.moved, "fault": found.fault}


def furthest(difference: Float[np.ndarray, "2 3"], size: int) -> float:
    """Pixels by which two motions differ at most, which they do in a corner of the picture."""
    corners = np.array([[x, y, 1] for x in (0, size) for y in (0, size)], np.float64)
    return float(np.linalg.norm(corners @ difference.astype(np.float64).T, axis=1).max())


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many came out how."""
    good = [row for row in rows if row["kind"] not in STRANGE]
    strange = [row for row in rows if row["kind"] in STRANGE]
    passed = [row for row in good if row["fault"] is None]
    right = [row for row in passed if row["error"] <= RIGHT]
    return {
        "edits": len(good),
        "right": len(right),
        "displaced": sum(row["kind"] == "displaced" for row in good),
        "put right": sum(row["kind"] == "displaced" for row in right),
        "passed wrong": len(passed) - len(right),
        "refused": len(good) - len(passed),
        "strange": len(strange),
        "strange passed": sum(row["fault"] is None for row in strange),
    }


def _variant(instruction: Instruction, hits: Hits, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """The edit as it might be drawn by an editor that does not quite agree."""
    numbers = np.zeros(len(TRAITS))
    numbers[: len(SOLID_TRAITS)] = rng.uniform(-DISAGREEMENT, DISAGREEMENT, len(SOLID_TRAITS))
    traced = trace_variant(hits.world, instruction, hits.camera, numbers)
    return paint_variant(hits.world, instruction, traced, numbers)


def _strange(edit: Edit, kind: str, seed: int, rng: np.random.Generator) -> Float[np.ndarray, "height width 3"]:
    """The edited picture, or one that takes its place."""
    size = edit.camera.size
    if kind == "other view":
        other = follow(edit.instruction, Tracer(edit.world).trace(dome_camera(rng, size)))
        return other[0]
    if kind == "mirrored":
        return edit.edited[:, ::-1].copy()
    if kind == "turned":
        angle, middle = np.radians(TURN), (size - 1) / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = np.c_[turn, middle - turn @ (middle, middle)].astype(np.float32)
        return move(_image(edit.edited), matrix).permute(1, 2, 0).numpy()
    if kind == "other world":
        other_world = random_world(seed + OTHER_WORLD)
        return Tracer(other_world).trace(edit.camera).shade(other_world)
    return edit.edited


def _image(picture: Float[np.ndarray, "height width 3"]) -> Float[Tensor, "3 height width"]:
    """A picture as files hold it."""
    return torch.from_numpy(to_bytes(picture)).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    import tyro

    main(tyro.cli(GuardCheckConfig, description=__doc__))
