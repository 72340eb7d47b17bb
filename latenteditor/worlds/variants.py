"""Variants of what a world becomes by an instruction: as different views of it might be drawn by an editor.

How a variant differs from the truth is a list of numbers in [-1, 1], named by ``TRAITS``, each a share of its own
scale: 0.25 of hue is 30 degrees, 0.25 of size 10 per cent. At 1 the truth can hardly be told any more.
"""

from dataclasses import dataclass, fields, replace

import numpy as np
from jaxtyping import Float

from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Camera, Hits, Tracer
from latenteditor.worlds.world import Solid, World

HUE = 120.0
"""Degrees around the circle of hues: from red to green or blue, or to any other hue."""
SIZE = 0.4
"""Of the solid's size: 40 per cent larger or smaller."""
POSITION = 0.4
"""Of the solid's size, along each axis of the floor."""
HEADING = 45.0
"""Degrees around the vertical."""
TEXTURE = 0.6
"""By how much waves over the solid lighten and darken its colour."""
WAVES = 2.0
"""Of these waves to each size of the solid."""
REMNANT = 1.0
"""Of its former size: what is left, at most, of a solid that was to be removed."""
SHIFT = 0.05
"""Of the picture's side, to the side and up."""
ZOOM = 0.08
"""Of the field of view."""
LIGHT = 0.25
"""Of the picture's brightness."""
SOLID_TRAITS = ("hue", "texture", "size", "east", "north", "heading")
"""In what variants of a solid differ. The first two move no surface."""
PICTURE_TRAITS = ("aside", "up", "zoom", "light")
"""In what whole pictures differ."""
TRAITS = SOLID_TRAITS + PICTURE_TRAITS
NUM_SHADES = 2
"""How many traits of a solid move no surface."""

Numbers = Float[np.ndarray, "traits"]


@dataclass(frozen=True)
class Repainted(Solid):
    """A solid in a colour that has no name."""

    hue: float = 0.0
    """Degrees by which its colours are turned around the greys."""
    texture: float = 0.0
    """By how much waves over it lighten and darken its colours; negative where they darken first."""

    def paint(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """Its own colours at points of its surface."""
        colours = super().paint(points) @ hue_rotation(self.hue).T
        waves = np.sin(2 * np.pi * WAVES / self.size * points.sum(axis=-1, keepdims=True))
        return np.clip(colours * (1 + self.texture * waves), 0, 1)


def hue_rotation(degrees: float) -> Float[np.ndarray, "3 3"]:
    """The matrix that turns colours around the greys; a third of the circle takes red to green, green to blue."""
    angle = np.radians(degrees)
    plain = (1 - np.cos(angle)) / 3
    aside = np.sin(angle) / np.sqrt(3)
    return np.array([np.roll([np.cos(angle) + plain, plain - aside, plain + aside], turn) for turn in range(3)])


def vary(solid: Solid, numbers: Numbers) -> Repainted:
    """A solid that differs from another by the first ``SOLID_TRAITS`` of these numbers."""
    hue, texture, size, east, north, heading = numbers[: len(SOLID_TRAITS)]
    known = {entry.name: getattr(solid, entry.name) for entry in fields(Solid)}
    known["position"] = (
        solid.position[0] + POSITION * solid.size * float(east),
        solid.position[1] + POSITION * solid.size * float(north),
    )
    known["size"] = solid.size * (1 + SIZE * float(size))
    known["heading"] = solid.heading + np.radians(HEADING) * float(heading)
    return Repainted(**known, hue=HUE * float(hue), texture=TEXTURE * float(texture))


def vary_world(world: World, instruction: Instruction, numbers: Numbers) -> World:
    """The world after an instruction, its edited solids varied; of a removed one a remnant, by its number of size."""
    after = instruction.apply(world)
    share = REMNANT * abs(float(numbers[SOLID_TRAITS.index("size")]))
    if instruction.removed and share:
        removed = [world.solids[index] for index in instruction.solids]
        left = tuple(replace(vary(solid, numbers), size=share * solid.size) for solid in removed)
        return replace(after, solids=after.solids + left)
    if instruction.removed:
        return after
    return replace(
        after,
        solids=tuple(
            vary(solid, numbers) if index in instruction.solids else solid for index, solid in enumerate(after.solids)
        ),
    )


def vary_camera(camera: Camera, numbers: Numbers) -> Camera:
    """A camera whose picture is shifted and zoomed by the ``PICTURE_TRAITS`` of these numbers."""
    aside, up, zoom, _ = numbers[len(SOLID_TRAITS) :]
    yaw, pitch = (np.arctan(SHIFT * share * camera.size / camera.focal_length) for share in (aside, up))
    turned = camera.camera_to_world.copy()
    turned[:3, :3] = turned[:3, :3] @ _turn(pitch, 0) @ _turn(yaw, 1)
    return replace(camera, camera_to_world=turned, field_of_view=camera.field_of_view * float(1 - ZOOM * zoom))


def trace_variant(world: World, instruction: Instruction, camera: Camera, numbers: Numbers) -> Hits:
    """What the rays of a camera meet in a variant; how it is painted plays no part."""
    return Tracer(vary_world(world, instruction, numbers)).trace(vary_camera(camera, numbers))


def paint_variant(
    world: World, instruction: Instruction, hits: Hits, numbers: Numbers
) -> Float[np.ndarray, "height width 3"]:
    """The picture of a variant, of what ``trace_variant`` met in one whose surfaces are the same."""
    picture = hits.shade(vary_world(world, instruction, numbers))
    return instruction.finish(np.clip(picture * (1 + LIGHT * numbers[-1]), 0, 1))


def _turn(angle: float, axis: int) -> Float[np.ndarray, "3 3"]:
    """A rotation around one axis of a camera."""
    cosine, sine = np.cos(angle), np.sin(angle)
    around = [[cosine, -sine], [sine, cosine]]
    turn = np.eye(3)
    others = [other for other in range(3) if other != axis]
    turn[np.ix_(others, others)] = around
    return turn
