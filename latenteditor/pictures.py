"""Images as 8-bit pictures, alone and in grids."""

import numpy as np
from jaxtyping import UInt8


def to_bytes(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """A picture in [0, 1] as bytes."""
    return (image * 255).round().astype(np.uint8)
