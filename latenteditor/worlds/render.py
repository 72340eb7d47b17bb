"""Ray traces a world: colour, which solid is seen where, and depth.

Cameras are pinholes in the OpenGL convention nerfstudio uses: x right, y up, looking along -z.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import trimesh
from jaxtyping import Bool, Float, Int, UInt8

from latenteditor.worlds.world import Floor, Solid, World

AMBIENT = 0.45
MIRROR, HIGHLIGHT, SHARPNESS = 0.22, 0.65, 24
"""Of shiny solids: the share of the sky they reflect, how bright and how small the light's reflection is."""
SUPERSAMPLING = 2
FLOOR, SKY = -1, -2
"""What a ray meets besides a solid, whose index is 0 or more."""
FOG_DISTANCE = 9.0
"""Where the floor has faded into the horizon by 63 %."""


@dataclass(frozen=True)
class Camera:
    """A square pinhole picture of a world."""

    camera_to_world: Float[np.ndarray, "4 4"]
    field_of_view: float
    """Whole angle, in radians, of either side."""
    size: int
    """Pixels of either side."""

    @property
    def focal_length(self) -> float:
        """In pixels."""
        return self.size / (2 * np.tan(self.field_of_view / 2))

    def rays(self, samples: int) -> tuple[Float[np.ndarray, "rays 3"], Float[np.ndarray, "rays 3"]]:
        """Origins and unit directions of ``samples`` x ``samples`` rays in each pixel, row by row."""
        offsets = (np.arange(self.size * samples) + 0.5) / samples
        x, y = np.meshgrid(offsets - self.size / 2, self.size / 2 - offsets)
        directions = np.stack([x, y, np.full_like(x, -self.focal_length)], axis=-1).reshape(-1, 3)
        directions = directions @ self.camera_to_world[:3, :3].T
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        return np.broadcast_to(self.camera_to_world[:3, 3], directions.shape).copy(), directions


def look_at(eye: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"]) -> Float[np.ndarray, "4 4"]:
    """The pose of a camera at ``eye`` that sees ``target`` in its middle and the vertical upright."""
    backward = (eye - target) / np.linalg.norm(eye - target)
    right = np.cross((0.0, 0.0, 1.0), backward)
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(backward, right), backward, eye], axis=-1)
    return pose


@dataclass(frozen=True)
class Hits:
    """What the rays of one camera meet; shading it again in other colours and materials costs little."""

    world: World
    camera: Camera
    met: Int[np.ndarray, "rays"]
    """A solid's index, ``FLOOR`` or ``SKY``."""
    distance: Float[np.ndarray, "rays"]
    """Along the ray; infinite for the sky."""
    light: Float[np.ndarray, "rays"]
    """How much of its colour a surface shows, in [0, 1]."""
    normals: Float[np.ndarray, "rays 3"]
    """Of the surface that is met; upwards for floor and sky."""

    @cached_property
    def ids(self) -> UInt8[np.ndarray, "height width"]:
        """Per pixel the solid that fills most of it, counted from 1; 0 where there is none."""
        count = max(1, len(self.world.solids))
        seen = np.stack([self._pixels(self.met == index) for index in range(count)], axis=-1)
        best = seen.argmax(axis=-1)
        return np.where(seen.max(axis=-1) >= 0.5, best + 1, 0).astype(np.uint8)

    @cached_property
    def floor(self) -> Bool[np.ndarray, "height width"]:
        """The pixels of which the floor fills at least half."""
        return self._pixels(self.met == FLOOR) >= 0.5

    @cached_property
    def depth(self) -> Float[np.ndarray, "height width"]:
        """Along the optical axis to what each pixel's first ray meets; infinite for the sky."""
        origins, directions = self.camera.rays(SUPERSAMPLING)
        depth = self.distance * (directions @ -self.camera.camera_to_world[:3, 2])
        side = self.camera.size * SUPERSAMPLING
        return depth.reshape(side, side)[::SUPERSAMPLING, ::SUPERSAMPLING]

    def shade(self, world: World) -> Float[np.ndarray, "height width 3"]:
        """The picture, with colours and materials taken from ``world``, whose solids have the same surfaces."""
        origins, directions = self.camera.rays(SUPERSAMPLING)
        points = origins + directions * np.where(np.isfinite(self.distance), self.distance, 0)[:, None]
        surface = floor_colours(world.floor, points) * self.light[:, None]
        for index, solid in enumerate(world.solids):
            own = self.met == index
            surface[own] = self._shade_solid(solid, world, own, points[own], directions[own])
        fog = np.where(self.met == FLOOR, 1 - np.exp(-((self.distance / FOG_DISTANCE) ** 2)), 0.0)[:, None]
        sky = sky_colours(world, directions)
        shaded = np.where((self.met == SKY)[:, None], sky, surface * (1 - fog) + np.array(world.horizon) * fog)
        return np.clip(self._pixels(shaded), 0, 1)

    def _shade_solid(
        self, solid: Solid, world: World, own: np.ndarray, points: np.ndarray, directions: np.ndarray
    ) -> Float[np.ndarray, "own 3"]:
        """One solid's colour along the rays that meet it."""
        surface = solid.paint(points) * self.light[own, None]
        if solid.material == "shiny":
            normals = self.normals[own]
            mirrored = directions - 2 * (directions * normals).sum(-1, keepdims=True) * normals
            towards_light = np.clip(mirrored @ np.array(world.light), 0, None)[:, None]
            lit = self.light[own, None] > AMBIENT
            surface = surface * (1 - MIRROR) + MIRROR * sky_colours(world, mirrored) * (mirrored[:, 2:] > 0)
            surface = surface + HIGHLIGHT * lit * towards_light**SHARPNESS
        return surface

    def _pixels(self, values: np.ndarray) -> np.ndarray:
        """Means over the rays of each pixel."""
        side, samples = self.camera.size, SUPERSAMPLING
        return values.reshape(side, samples, side, samples, *values.shape[1:]).mean(axis=(1, 3))


def sky_colours(world: World, directions: Float[np.ndarray, "rays 3"]) -> Float[np.ndarray, "rays 3"]:
    """The sky in some directions, darker towards the zenith."""
    horizon, zenith = np.array(world.horizon), np.array(world.zenith)
    return horizon + (zenith - horizon) * np.clip(directions[:, 2:] * 1.5, 0, 1)


def floor_colours(floor: Floor, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
    """The floor's own colour at points on it."""
    tiles = np.floor(points[:, :2] / floor.period).astype(int)
    if floor.pattern == "plain":
        second = np.zeros(len(points), dtype=bool)
    elif floor.pattern == "striped":
        second = tiles[:, 0] % 2 == 1
    else:
        second = tiles.sum(axis=-1) % 2 == 1
    return np.where(second[:, None], *np.array(floor.colours)[::-1])


class Tracer:
    """Traces rays through one world; building it costs more than a view, so keep it for several."""

    def __init__(self, world: World) -> None:
        """Builds the search tree over all solids' faces."""
        point = trimesh.Trimesh(np.zeros((3, 3)), [(0, 1, 2)], process=False)
        meshes = [solid.mesh() for solid in world.solids] or [point]  # No ray meets a point: the world is empty.
        self.world = world
        self._mesh: trimesh.Trimesh = trimesh.util.concatenate(meshes)  # type: ignore[assignment]
        self._solid_of_face = np.repeat(np.arange(len(meshes)), [len(mesh.faces) for mesh in meshes])

    def trace(self, camera: Camera) -> Hits:
        """What every ray of ``camera`` meets, and how it is lit."""
        origins, directions = camera.rays(SUPERSAMPLING)
        faces = self._mesh.ray.intersects_first(origins, directions)
        on_solid = faces >= 0
        with np.errstate(divide="ignore", invalid="ignore"):
            to_floor = np.where(directions[:, 2] < 0, -origins[:, 2] / directions[:, 2], np.inf)
            corners = self._mesh.triangles[faces, 0]
            normals = np.where(on_solid[:, None], self._mesh.face_normals[faces], (0.0, 0.0, 1.0))
            to_face = ((corners - origins) * normals).sum(-1) / (directions * normals).sum(-1)
        met = np.where(on_solid, self._solid_of_face[faces], np.where(np.isfinite(to_floor), FLOOR, SKY))
        distance = np.where(on_solid, to_face, to_floor)
        light = self._light(origins, directions, distance, normals)
        return Hits(self.world, camera, met, distance, light, normals)

    def lit_as_here(self, hits: Hits) -> Hits:
        """What the rays meet in another world, under the shadows of this one."""
        origins, directions = hits.camera.rays(SUPERSAMPLING)
        return replace(hits, light=self._light(origins, directions, hits.distance, hits.normals))

    def _light(
        self, origins: np.ndarray, directions: np.ndarray, distance: np.ndarray, normals: np.ndarray
    ) -> Float[np.ndarray, "rays"]:
        """Ambient light plus the distant light's cosine where nothing stands in between."""
        towards_light = np.array(self.world.light)
        cosine = np.clip(normals @ towards_light, 0, None)
        lit = np.isfinite(distance) & (cosine > 0)
        points = origins[lit] + directions[lit] * distance[lit, None] + normals[lit] * 1e-3
        shadowed = self._mesh.ray.intersects_any(points, np.broadcast_to(towards_light, points.shape))
        light = np.full(len(distance), AMBIENT)
        light[lit] += (1 - AMBIENT) * cosine[lit] * ~shadowed
        return light


def dome_camera(
    rng: np.random.Generator,
    size: int,
    azimuth: float | None = None,
    field_of_view: float = np.radians(50),
    aim: float = 0.15,
) -> Camera:
    """A camera on a dome around the world that looks near its middle.

    Args:
        rng: Draws what is not given: elevation in [0.25, 0.9], distance in [2.4, 3.4], the aim.
        size: Pixels of either side.
        azimuth: In radians; drawn where absent.
        field_of_view: Whole angle of either side, in radians.
        aim: How far from the middle the camera may look.
    """
    azimuth = rng.uniform(0, 2 * np.pi) if azimuth is None else azimuth
    elevation, distance = rng.uniform(0.25, 0.9), rng.uniform(2.4, 3.4)
    flat = np.cos(elevation)
    eye = distance * np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
    target = np.array([*rng.uniform(-aim, aim, 2), rng.uniform(0.1, 0.35)])
    return Camera(look_at(eye, target), float(field_of_view), size)
