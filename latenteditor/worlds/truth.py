"""What a view of a built-in world looks like after an instruction, and where it changes."""

import numpy as np
from jaxtyping import Bool, Float

from latenteditor.worlds.instructions import Instruction
from latenteditor.worlds.render import Hits, Tracer

VISIBLE_CHANGE = 0.04
"""Of a channel in [0, 1]: less than this, as in the faintest shadows, does not count as changed."""


def follow(
    instruction: Instruction, hits: Hits
) -> tuple[Float[np.ndarray, "height width 3"], Bool[np.ndarray, "height width"]]:
    """The picture after an instruction, and the region: where it changes the picture."""
    world = instruction.apply(hits.world)
    new_hits = Tracer(world).trace(hits.camera) if instruction.moves_surfaces else hits
    after = instruction.finish(new_hits.shade(world))
    if instruction.look == "snow":
        return after, hits.floor
    if instruction.look:
        return after, np.ones(hits.ids.shape, dtype=bool)
    region = np.isin(hits.ids, [index + 1 for index in instruction.solids])
    if instruction.moves_surfaces:
        region = region | (np.abs(after - hits.shade(hits.world)).max(axis=-1) > VISIBLE_CHANGE)
    return after, region
