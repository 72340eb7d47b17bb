"""An editor that knows the world: what it returns is ray traced, and how far its views disagree is one number.

With u(noise) numbers in [-1, 1] that the noise decides, d the disagreement, s the timestep that the edit starts from as
a fraction of the schedule, v(n) the picture of the variant of numbers n (``variants.py``), and r the rendered view::

    n_now = the numbers, up to d, whose variant is nearest to r
    n     = n_now + s (d u - n_now)
    w     = (1 - s)^2
    edit  = (1 - w) v(n) + w r

From pure noise, s = 1, the view becomes a variant of its own; from little it stays what the scene shows, as with a
diffusion model. Where d is 0, every view becomes the truth. ``n_now`` is searched in small pictures, a trait after the
other, with a step of two thirds of d and then of one. How whole pictures are shifted, zoomed and lit is not searched,
and n_now is 0 there.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.editing.delta_mask import blend, dilate
from latenteditor.editing.editor import EditConfig, LatentEditor
from latenteditor.editing.guidance import Denoiser
from latenteditor.editing.pixel_editor import ImageAutoencoder
from latenteditor.worlds.instructions import parse
from latenteditor.worlds.render import Camera, Hits, Tracer
from latenteditor.worlds.truth import follow
from latenteditor.worlds.variants import (
    NUM_SHADES,
    SOLID_TRAITS,
    TRAITS,
    Numbers,
    paint_variant,
    trace_variant,
)
from latenteditor.worlds.world import World

SEARCH_STEPS = (2 / 3, 1 / 3)
"""Of the disagreement: by how much each number is tried to be changed, one round for each."""
SEARCH_SHARE = 4
"""By how much smaller than the view the pictures are in which is searched."""
WIDENED = 1
"""Latent cells by which a mask goes beyond the true region, as masks from a delta score do."""


@dataclass
class OracleConfig:
    """How far the views of an edit disagree."""

    disagreement: float = 0.0
    """0 to 1: at 1 a solid's hue is off by up to 120 degrees, its size and its place by up to 40 per cent of its size,
    its heading by up to 45 degrees, and waves lighten and darken it by up to 60 per cent; in proportion below."""
    whole_picture: bool = False
    """Whether whole pictures are off too, as those of editors that see a picture as tokens: at 1 shifted by up to 5
    per cent of their side, zoomed by 8 and lit by 25."""


def require_disagreement(config: OracleConfig) -> None:
    """Refuses a disagreement outside its range.

    Raises:
        ValueError: It lies outside.
    """
    if not 0.0 <= config.disagreement <= 1.0:
        raise ValueError(f"Views disagree by 0 (not at all) to 1, not by {config.disagreement}.")


class Pixels:
    """The autoencoder of who edits images: none."""

    factor = 1

    def encode(self, images: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views 3 height width"]:
        """The images."""
        return images

    def decode(self, latents: Float[Tensor, "views 3 height width"]) -> Float[Tensor, "views 3 height width"]:
        """The images."""
        return latents


class OracleEditor(LatentEditor):
    """Draws a view as the instruction has it, from the world itself, as differently from view to view as asked."""

    def __init__(
        self,
        denoiser: Denoiser,
        config: EditConfig,
        world: World,
        cameras: Sequence[Camera],
        autoencoder: ImageAutoencoder,
        factor: int,
        oracle: OracleConfig,
    ) -> None:
        """Draws nothing yet.

        Args:
            denoiser: Its noise schedule says how much noise a timestep is; it is asked for nothing.
            config: How edits start, and whether there are masks.
            world: The world as it was.
            cameras: Of the training views, in their order.
            autoencoder: Between what is edited and images; `Pixels` where images are edited.
            factor: Pixels along each side of a cell of its masks.
            oracle: How far its views disagree.

        Raises:
            ValueError: A setting lies outside its range.
        """
        super().__init__(denoiser, replace(config, mask="per-view") if config.mask == "field" else config)
        require_disagreement(oracle)
        self.world, self.cameras, self.oracle = world, cameras, oracle
        self.autoencoder, self.factor = autoencoder, factor
        self._regions: dict[tuple[int, str], Tensor] = {}

    def find_mask(
        self, bases: Float[Tensor, "views channels rows columns"], views: Sequence[int], instruction: str
    ) -> tuple[None, Bool[Tensor, "views 1 rows columns"]]:
        """No score, and the cells that the true region touches, a little widened; or everything."""
        if self.config.mask == "none":
            return None, torch.ones_like(bases[:, :1], dtype=torch.bool)
        cells = torch.cat([self.region(view, instruction)[None] for view in views])
        mask = F.interpolate(cells.float(), bases.shape[-2:], mode="nearest-exact") > 0
        return None, mask.to(bases.device)

    def surveyed(self, instruction: str) -> bool:
        """It knows all views."""
        return True

    def survey(self, bases: Sequence[Float[Tensor, "channels _ _"]], instruction: str) -> list[Bool[Tensor, "1 _ _"]]:
        """The masks of all views, one cell for everything where nothing restricts the edit."""
        if self.config.mask == "none":
            return [torch.ones(1, 1, 1, dtype=torch.bool)]
        return [self.region(view, instruction) for view in range(len(self.cameras))]

    def region(self, view: int, instruction: str) -> Bool[Tensor, "1 rows columns"]:
        """The cells of a view that the true region touches, widened."""
        if (view, instruction) not in self._regions:
            hits = Tracer(self.world).trace(self.cameras[view])
            region = torch.from_numpy(follow(parse(instruction, self.world), hits)[1])[None, None]
            touched = F.max_pool2d(region.float(), self.factor) > 0
            self._regions[view, instruction] = dilate(touched, WIDENED)[0]
        return self._regions[view, instruction]

    @torch.no_grad()
    def edit_at(
        self,
        start: int,
        rendered: Float[Tensor, "views channels rows columns"],
        bases: Float[Tensor, "views channels rows columns"],
        views: Sequence[int],
        noise: Float[Tensor, "views channels rows columns"],
        mask: Bool[Tensor, "views 1 rows columns"],
        instruction: str,
    ) -> Float[Tensor, "views channels rows columns"]:
        """The views as they are drawn, in the mask; the bases elsewhere."""
        share = start / (self.denoiser.noise_schedule.num_timesteps - 1)
        shown = self.autoencoder.decode(rendered).float().cpu()
        drawn = [
            self.draw(view, instruction, image, share, own_noise)
            for view, image, own_noise in zip(views, shown, noise, strict=True)
        ]
        edited = self.autoencoder.encode(torch.stack(drawn).to(rendered))
        return blend(mask, edited.to(rendered), bases)

    def draw(
        self,
        view: int,
        instruction: str,
        shown: Float[Tensor, "3 height width"],
        share: float,
        noise: Float[Tensor, "channels rows columns"],
    ) -> Float[Tensor, "3 height width"]:
        """A view of which the scene shows this now, as it is drawn from a share of noise."""
        world, parsed = self.world, parse(instruction, self.world)
        camera = replace(self.cameras[view], size=shown.shape[-1])
        numbers = self._draw_numbers(noise)
        if self.oracle.disagreement and share < 1:
            present = self.recognise(view, instruction, shown)
            numbers = present + share * (numbers - present)
        picture = paint_variant(world, parsed, trace_variant(world, parsed, camera, numbers), numbers)
        weight = (1 - share) ** 2
        return (1 - weight) * torch.from_numpy(picture).float().movedim(-1, 0) + weight * shown

    def recognise(self, view: int, instruction: str, shown: Float[Tensor, "3 height width"]) -> Numbers:
        """The numbers of the variant that looks most like what the scene shows now."""
        world, parsed = self.world, parse(instruction, self.world)
        camera = replace(self.cameras[view], size=max(1, shown.shape[-1] // SEARCH_SHARE))
        small = F.interpolate(shown[None], (camera.size, camera.size), mode="area")[0].movedim(0, -1).numpy()

        @lru_cache(maxsize=2)
        def trace(surfaces: tuple[float, ...]) -> Hits:
            return trace_variant(world, parsed, camera, np.array([*[0.0] * NUM_SHADES, *surfaces]))

        def error(numbers: Numbers) -> float:
            hits = trace(tuple(numbers[NUM_SHADES:].tolist()))
            return float(((paint_variant(world, parsed, hits, numbers) - small) ** 2).mean())

        return search(error, self.oracle.disagreement)

    def _draw_numbers(self, noise: Float[Tensor, "channels rows columns"]) -> Numbers:
        """Those that this noise decides, up to the disagreement."""
        rng = np.random.default_rng(zlib.crc32(noise.float().cpu().numpy().tobytes()))
        numbers = self.oracle.disagreement * rng.uniform(-1, 1, len(TRAITS))
        if not self.oracle.whole_picture:
            numbers[len(SOLID_TRAITS) :] = 0
        return numbers


def search(error: Callable[[Numbers], float], reach: float) -> Numbers:
    """The numbers of a solid's traits within a reach whose error is least, found trait by trait."""
    best = np.zeros(len(TRAITS))
    least = error(best)
    for step in SEARCH_STEPS:
        for trait in range(len(SOLID_TRAITS)):
            for change in (-step * reach, step * reach):
                tried = best.copy()
                tried[trait] = np.clip(best[trait] + change, -reach, reach)
                found = error(tried)
                if found < least:
                    best, least = tried, found
    return best
