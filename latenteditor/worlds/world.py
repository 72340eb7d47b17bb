"""What a built-in world is made of: solids in named colours on a floor under a sky, drawn from a seed.

The world's unit is one: a solid is about half a unit wide, the ground is the plane z = 0, and z points up.
Colours are RGB in [0, 1].
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import trimesh
from jaxtyping import Float

Shape = Literal["sphere", "cube", "cylinder", "cone", "torus"]
Material = Literal["matte", "shiny", "striped"]
Pattern = Literal["checked", "striped", "plain"]
Colour = tuple[float, float, float]

SHAPES: tuple[Shape, ...] = get_args(Shape)
MATERIALS: tuple[Material, ...] = get_args(Material)
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)
COLOURS: dict[str, Colour] = {
    "red": (0.85, 0.10, 0.10),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.93, 0.86, 0.15),
    "green": (0.15, 0.62, 0.18),
    "cyan": (0.15, 0.78, 0.80),
    "blue": (0.12, 0.22, 0.85),
    "purple": (0.50, 0.14, 0.70),
    "pink": (0.96, 0.52, 0.72),
}
NUM_STRIPES = 5
"""Bands around a striped solid, from its foot to its top; the second and the fourth are white."""
STRIPE_COLOUR = (0.93, 0.93, 0.93)
_HEIGHTS = {"sphere": 2.0, "cube": 1.7, "cylinder": 2.0, "cone": 2.2, "torus": 0.66}
_MATERIAL_SHARES = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Solid:
    """One thing on the floor."""

    shape: Shape
    colour: str
    """A name in ``COLOURS``."""
    position: tuple[float, float]
    """Where its axis meets the floor."""
    size: float
    """Half its width."""
    heading: float
    """Its turn around the vertical, in radians."""
    material: Material = "matte"
    """``shiny`` reflects light and sky, ``striped`` has white bands around it."""

    @property
    def height(self) -> float:
        """From the floor to the highest point."""
        return _HEIGHTS[self.shape] * self.size

    def mesh(self) -> trimesh.Trimesh:
        """The solid's surface, standing on the floor."""
        size, height = self.size, self.height
        if self.shape == "sphere":
            mesh = trimesh.creation.icosphere(subdivisions=4, radius=size)
        elif self.shape == "cube":
            mesh = trimesh.creation.box(extents=(height,) * 3)
        elif self.shape == "cylinder":
            mesh = trimesh.creation.cylinder(radius=0.8 * size, height=height, sections=64)
        elif self.shape == "cone":
            mesh = trimesh.creation.cone(radius=size, height=height, sections=64)
        else:
            mesh = trimesh.creation.torus(
                major_radius=0.75 * size, minor_radius=height / 2, major_sections=64, minor_sections=48
            )
        mesh.apply_transform(trimesh.transformations.rotation_matrix(self.heading, (0, 0, 1)))
        mesh.apply_translation((*self.position, -mesh.bounds[0][2]))
        return mesh

    def paint(self, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """Its own colours at points of its surface, before any light falls on it."""
        plain = np.broadcast_to(COLOURS[self.colour], points.shape)
        if self.material != "striped":
            return plain
        white = np.floor(NUM_STRIPES * np.minimum(points[:, 2:] / self.height, 0.99)) % 2 == 1
        return np.where(white, STRIPE_COLOUR, plain)


@dataclass(frozen=True)
class Floor:
    """The ground plane's look."""

    pattern: Pattern
    colours: tuple[Colour, Colour]
    period: float
    """Width of one tile or stripe."""


@dataclass(frozen=True)
class World:
    """A whole scene; equal worlds render to equal pictures."""

    solids: tuple[Solid, ...]
    floor: Floor
    horizon: Colour
    zenith: Colour
    light: tuple[float, float, float]
    """Unit vector towards the one distant light."""


def random_world(seed: int, num_solids: int | None = None) -> World:
    """Draws a world of two to four solids, no two of one shape or of one colour."""
    rng = np.random.default_rng(seed)
    if num_solids is None:
        num_solids = int(rng.integers(2, 5))
    if not 1 <= num_solids <= len(SHAPES):
        raise ValueError(f"A world has 1 to {len(SHAPES)} solids of different shapes, not {num_solids}.")
    shapes = rng.permutation(len(SHAPES))[:num_solids]
    colours = rng.permutation(len(COLOURS))[:num_solids]
    sizes = rng.uniform(0.26, 0.38, num_solids)
    solids = [
        Solid(SHAPES[shape], list(COLOURS)[colour], position, float(size), float(rng.uniform(0, 2 * np.pi)))
        for shape, colour, size, position in zip(shapes, colours, sizes, _positions(sizes, rng), strict=True)
    ]
    azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(0.7, 1.2)
    sky = rng.uniform(0.0, 0.25)
    floor = Floor(
        PATTERNS[rng.integers(len(PATTERNS))],
        (_muted(rng, 0.55, 0.85), _muted(rng, 0.25, 0.5)),
        float(rng.uniform(0.4, 0.7)),
    )
    materials = rng.choice(len(MATERIALS), num_solids, p=_MATERIAL_SHARES)
    return World(
        solids=tuple(replace(solid, material=MATERIALS[kind]) for solid, kind in zip(solids, materials, strict=True)),
        floor=floor,
        horizon=(0.78 + sky / 2, 0.83 + sky / 2, 0.9 + sky / 3),
        zenith=(0.30 + sky, 0.50 + sky, 0.80 + sky / 2),
        light=(
            float(np.cos(elevation) * np.cos(azimuth)),
            float(np.cos(elevation) * np.sin(azimuth)),
            float(np.sin(elevation)),
        ),
    )


def _positions(sizes: np.ndarray, rng: np.random.Generator) -> list[tuple[float, float]]:
    """Places on the floor, around the middle, at which solids of these sizes do not touch."""
    while True:
        places = rng.uniform(-0.75, 0.75, (len(sizes), 2))
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1) - 1.2 * (sizes[:, None] + sizes[None])
        if (gaps[np.triu_indices(len(sizes), 1)] > 0).all():
            return [(float(x), float(y)) for x, y in places]


def _muted(rng: np.random.Generator, darkest: float, brightest: float) -> Colour:
    """A greyish colour, so that the floor is never taken for a solid."""
    red, green, blue = rng.uniform(darkest, brightest) + rng.uniform(-0.07, 0.07, 3)
    return float(red), float(green), float(blue)
