"""Changes of a whole picture, or of one hue in it, by rules that hold for any photograph and so give the truth.

Pictures are sRGB in [0, 1]. Hues are compared in OKLab (B. Ottosson, 2020), where equal distances look alike.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from latenteditor.worlds.world import COLOURS

Picture = Float[np.ndarray, "height width 3"]

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
HUE_SPREAD = np.radians(9)
"""How gradually one named hue passes into the next."""
GREY_CHROMA, VIVID_CHROMA = 0.035, 0.08
"""Below the first a pixel has no hue to speak of; from the second on it has nothing but its hue."""


def to_oklab(picture: Picture) -> Picture:
    """Lightness in [0, 1], then the green-red and the blue-yellow axis."""
    linear = np.where(picture <= 0.04045, picture / 12.92, ((np.maximum(picture, 0) + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T


def from_oklab(lab: Picture) -> Picture:
    """The inverse of ``to_oklab``; what a screen cannot show is clipped."""
    cones = (lab @ np.linalg.inv(_TO_LAB).T) ** 3
    linear = np.clip(cones @ np.linalg.inv(_TO_CONES).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def hue_share(picture: Picture, colour: str) -> Float[np.ndarray, "height width"]:
    """How much of each pixel passes for a colour by name, in [0, 1]: hues fade into each other and into grey."""
    lab = to_oklab(picture)
    hues = np.arctan2(lab[..., 2], lab[..., 1])
    distances = _turn(hues[..., None] - np.array(list(_HUES.values())))
    nearness = np.exp(-0.5 * (distances / HUE_SPREAD) ** 2) + 1e-12
    share = nearness[..., list(_HUES).index(colour)] / nearness.sum(axis=-1)
    ramp = np.clip((np.hypot(lab[..., 1], lab[..., 2]) - GREY_CHROMA) / (VIVID_CHROMA - GREY_CHROMA), 0, 1)
    return share * ramp * ramp * (3 - 2 * ramp)


def recolour_hue(picture: Picture, old: str, new: str) -> Picture:
    """Gives everything of one named hue another.

    Hue is turned, lightness moved half the way between the two names, and chroma lowered where the new name has less:
    a screen cannot show it at every hue, and clipping would turn the hue further.
    """
    lab = to_oklab(picture)
    share = hue_share(picture, old)
    angle = _HUES[new] - _HUES[old]
    chroma = min(1.0, _CHROMA[new] / _CHROMA[old])
    cosine, sine = chroma * np.cos(angle), chroma * np.sin(angle)
    turned = np.stack(
        [
            np.clip(lab[..., 0] + 0.5 * (_LIGHTNESS[new] - _LIGHTNESS[old]), 0, 1),
            cosine * lab[..., 1] - sine * lab[..., 2],
            sine * lab[..., 1] + cosine * lab[..., 2],
        ],
        axis=-1,
    )
    return from_oklab(lab + share[..., None] * (turned - lab))


def night(picture: Picture) -> Picture:
    """Moonlight: dark, bluish, little colour."""
    lab = to_oklab(picture)
    return from_oklab(lab * (0.48, 0.4, 0.4) + (0.0, -0.008, -0.045))


def black_and_white(picture: Picture) -> Picture:
    """Lightness alone."""
    return from_oklab(to_oklab(picture) * (1, 0, 0))


def sepia(picture: Picture) -> Picture:
    """The brown of old prints."""
    return from_oklab(to_oklab(picture) * (0.92, 0, 0) + (0.04, 0.018, 0.062))


def pencil(picture: Picture) -> Picture:
    """Dark strokes where lightness changes, on white paper with a trace of the tones."""
    lightness = to_oklab(picture)[..., 0]
    down, right = np.gradient(lightness)
    tone = 0.8 + 0.2 * lightness - np.clip(4 * np.hypot(down, right), 0, 0.75)
    return from_oklab(np.stack([tone, 0 * tone, 0 * tone], axis=-1))


LOOKS: dict[str, Callable[[Picture], Picture]] = {
    "night": night,
    "black and white": black_and_white,
    "sepia": sepia,
    "pencil": pencil,
}


def _turn(angle: np.ndarray) -> np.ndarray:
    """An angle's equal in [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi


_PALETTE = {name: to_oklab(np.array([[colour]]))[0, 0] for name, colour in COLOURS.items()}
_HUES = {name: float(np.arctan2(lab[2], lab[1])) for name, lab in _PALETTE.items()}
_HUES["orange"] += np.radians(9)  # So that it reaches to the browns of fur and wood, which have no name of their own.
_LIGHTNESS = {name: float(lab[0]) for name, lab in _PALETTE.items()}
_CHROMA = {name: float(np.hypot(lab[1], lab[2])) for name, lab in _PALETTE.items()}
