"""An edited picture laid back over its photograph: the motion that its editor added is found, undone and doubted.

Editors of whole pictures shift, zoom, crop and light anew. What the photograph shows outside the change is still there,
so its structure tells the motion: guesses from features and from phase correlation, refined by robust least squares
that leave aside what changed. Whether that went well is asked of others than who found it: small neighbourhoods, all
over the picture, are looked for around the place where they should be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from latenteditor.networks.autoencoder import resize

MOST_SHIFT = 0.15
"""Share of the picture's long side by which any pixel may have moved. Our choice."""
TRUSTED_ERROR = 1.0
"""Pixels by which what is looked for may be off where it should be."""
LEAST_POINTS = 6
"""Neighbourhoods that must be found for a registration to be believed. Our choice."""
LEAST_FOUND = 0.35
"""Share of the neighbourhoods that must be found in their place; what changed is found nowhere. Measured by us."""
PASSES = ((4.0, 1.0, 20), (2.0, 0.7, 15), (1.0, 0.5, 10))
"""Blur in pixels, difference from which a pixel counts little, and steps of each refinement. Measured by us."""
STILL = 0.01
"""Pixels below which a step of the refinement is the last."""
MOST_POINTS = 200
"""Neighbourhoods that are looked for, at most."""
WINDOW = 15
"""Pixels along each side of a neighbourhood."""
UNMOVED = 1.25
"""Pixels of the least-squares motion below which a picture is taken for unmoved. Measured by us."""
SURE = 0.9
"""Share of them that ends the search for something better."""
ALIKE = 0.7
"""Correlation from which two neighbourhoods show the same."""

Gray = Float[np.ndarray, "height width"]
Matrix = Float[np.ndarray, "2 3"]


@dataclass(frozen=True)
class Registration:
    """An edited picture over its photograph."""

    picture: Float[Tensor, "3 height width"]
    """The edited picture at the photograph's size, its motion undone."""
    seen: Bool[Tensor, "1 height width"]
    """Which pixels it shows: what was shifted out of it is gone."""
    matrix: Matrix
    """Where a pixel of the photograph lies in the edited picture at the photograph's size."""
    moved: float
    """Pixels by which the editor had moved the corner that it moved most."""
    error: float
    """Pixels by which nine in ten neighbourhoods are off at most, as far as they were found."""
    found: float
    """Share of the neighbourhoods outside the change that lie where they should."""
    fault: str | None = None
    """Why it is not to be used; None where it is."""


def register(photograph: Float[Tensor, "3 height width"], edited: Float[Tensor, "3 rows columns"]) -> Registration:
    """Finds by what an editor moved a picture, and undoes it.

    Args:
        photograph: What the editor was given, in [0, 1].
        edited: What came back, of any size.
    """
    size = (int(photograph.shape[1]), int(photograph.shape[2]))
    edited = resize(edited[None].float().cpu(), size)[0].clamp(0, 1)
    wanted, shown = _structure(photograph), _structure(edited)
    guesses = _guesses(photograph, edited, wanted, shown)
    # Editors hardly turn pictures, and where there is little to see by a turn is easily imagined.
    best = _best(wanted, shown, guesses, turns=False)
    if best is None or best.fault is not None:
        best = _best(wanted, shown, guesses, turns=True) or best
    if best is None:
        return _refused(edited, "its picture is moved, turned or zoomed too far")
    picture, seen = _warped(edited, best.matrix)
    return Registration(picture, seen, best.matrix, _moved(best.matrix, size), best.error, best.found, best.fault)


def move(picture: Float[Tensor, "3 height width"], matrix: Matrix) -> Float[Tensor, "3 height width"]:
    """A picture in which what lay at a pixel lies where the matrix says; its border is repeated outwards."""
    flags = cv2.INTER_CUBIC
    moved = cv2.warpAffine(
        _channels_last(picture), matrix, _width_height(picture), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return torch.from_numpy(np.clip(moved, 0, 1)).permute(2, 0, 1)


@dataclass(frozen=True)
class _Judgement:
    """How well a motion explains what is seen."""

    matrix: Matrix
    error: float
    found: float
    fault: str | None


def _structure(image: Tensor) -> Gray:
    """Brightness relative to its neighbourhood, in its deviations: what light and colour casts leave as it is."""
    gray = cv2.cvtColor(_channels_last(image), cv2.COLOR_RGB2GRAY)
    spread = max(gray.shape) / 24
    mean = cv2.GaussianBlur(gray, (0, 0), spread)
    deviation = np.sqrt(cv2.GaussianBlur((gray - mean) ** 2, (0, 0), spread))
    return ((gray - mean) / (deviation + 0.05)).astype(np.float32)


def _guesses(photograph: Tensor, edited: Tensor, wanted: Gray, shown: Gray) -> list[Matrix]:
    """Motions to start from: none, a shift, and what features say."""
    (across, down), _ = cv2.phaseCorrelate(wanted, shown, cv2.createHanningWindow(wanted.shape[::-1], cv2.CV_32F))
    guesses = [np.eye(2, 3, dtype=np.float32), np.array([[1, 0, across], [0, 1, down]], np.float32)]
    features = _from_features(photograph, edited)
    return guesses if features is None else [features, *guesses]


def _from_features(photograph: Tensor, edited: Tensor) -> Matrix | None:
    """The similarity that most matches of SIFT agree on; None where there are too few."""
    finder: Any = cv2.SIFT_create(contrastThreshold=0.02)  # type: ignore[attr-defined]
    (points, described), (other_points, other_described) = (
        finder.detectAndCompute((_gray(image) * 255).astype(np.uint8), None) for image in (photograph, edited)
    )
    if described is None or other_described is None or min(len(points), len(other_points)) < 4:
        return None
    pairs = cv2.BFMatcher().knnMatch(described, other_described, k=2)
    chosen = [
        first for first, second in (pair for pair in pairs if len(pair) == 2) if first.distance < 0.85 * second.distance
    ]
    if len(chosen) < 4:
        return None
    source = np.array([points[match.queryIdx].pt for match in chosen], np.float32)
    target = np.array([other_points[match.trainIdx].pt for match in chosen], np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=2.0)
    return None if matrix is None else matrix.astype(np.float32)


def _best(wanted: Gray, shown: Gray, guesses: Sequence[Matrix], turns: bool) -> _Judgement | None:
    """The motion near one of the guesses by which most is found; None where all lead too far."""
    unmoved = np.eye(2, 3, dtype=np.float32)
    still = _judge(wanted, shown, unmoved, of_motion=False)
    if still.fault is None and _moved(_refine(wanted, shown, unmoved, turns=False), wanted.shape) <= UNMOVED:
        return still  # Both who looks at all pixels and who looks at neighbourhoods find it in place.
    judged: list[_Judgement] = []
    for guess in guesses:
        matrix = _refine(wanted, shown, guess, turns)
        if not _is_small(matrix, wanted.shape):
            continue
        judged.append(_judge(wanted, shown, matrix))
        if judged[-1].fault is None and judged[-1].found > SURE:
            break
    return max(judged, key=lambda each: (each.fault is None, each.found, -each.error), default=None)


def _refine(wanted: Gray, shown: Gray, guess: Matrix, turns: bool) -> Matrix:
    """The similarity near a guess by which the structures differ least, those pixels aside that differ anyway."""
    matrix = guess if turns else _without_turn(guess, wanted.shape)
    for blur, tolerance, steps in PASSES:
        first, second = (cv2.GaussianBlur(image, (0, 0), blur) for image in (wanted, shown))
        for _ in range(steps):
            step = _step(first, second, matrix, tolerance, turns)
            matrix = (matrix.astype(np.float64) @ step).astype(np.float32)
            if not np.isfinite(matrix).all() or _moved(step[:2], wanted.shape) < STILL:
                break
    return matrix


def _without_turn(matrix: Matrix, size: tuple[int, int]) -> Matrix:
    """A similarity without its turn, which moves the middle of the picture as it did."""
    middle = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
    zoom = float(np.sqrt(max(np.linalg.det(matrix[:, :2].astype(np.float64)), 1e-6)))
    shift = matrix[:, :2] @ middle + matrix[:, 2] - zoom * middle
    return np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]], np.float32)


def _step(wanted: Gray, shown: Gray, matrix: Matrix, tolerance: float, turns: bool) -> Float[np.ndarray, "3 3"]:
    """One step of Gauss and Newton towards the similarity, in the photograph's pixels; outliers weigh little."""
    there, inside = _undo(shown, matrix)
    residual = there - wanted
    weights = inside / (1 + (residual / tolerance) ** 2) ** 2
    slopes = np.gradient(there)
    (down, across), (y, x) = slopes, np.mgrid[: wanted.shape[0], : wanted.shape[1]]
    middle = np.array([(wanted.shape[1] - 1) / 2, (wanted.shape[0] - 1) / 2])
    x, y = x - middle[0], y - middle[1]
    columns = np.stack([across * x + down * y, (down * x - across * y) * turns, across, down], axis=-1).reshape(-1, 4)
    weighted = columns * weights.reshape(-1, 1)
    damping = (1e-6 * np.trace(weighted.T @ columns) + 1e-9) * np.eye(4)
    zoom, turn, right, below = np.linalg.solve(weighted.T @ columns + damping, -weighted.T @ residual.reshape(-1))
    linear = np.array([[1 + zoom, -turn], [turn, 1 + zoom]])
    return np.vstack([np.c_[linear, middle - linear @ middle + (right, below)], (0.0, 0.0, 1.0)])


def _judge(wanted: Gray, shown: Gray, matrix: Matrix, of_motion: bool = True) -> _Judgement:
    """Looks for neighbourhoods of the photograph around where a motion says that they are."""
    there, inside = _undo(shown, matrix)
    corners = _corners(wanted, inside)
    if len(corners) < LEAST_POINTS:
        return _Judgement(matrix, np.inf, 0.0, f"there is too little to see by: {len(corners)} points")
    offsets, alike = _track(wanted, there, corners)
    distances = np.linalg.norm(offsets, axis=1)
    near = alike & (distances <= TRUSTED_ERROR)
    found = float(near.mean())
    error = float(np.quantile(distances[alike], 0.9)) if alike.any() else np.inf
    fault = None
    if near.sum() < LEAST_POINTS or found < LEAST_FOUND:
        fault = f"only {found:.0%} of {len(corners)} points lie where they should"
    elif of_motion and _doubt(corners[near], offsets[near], wanted.shape) > TRUSTED_ERROR:
        fault = "what there is to see by does not tell where all of it lies"
    return _Judgement(matrix, error, found, fault)


def _doubt(
    points: Float[np.ndarray, "points 2"], offsets: Float[np.ndarray, "points 2"], size: tuple[int, int]
) -> float:
    """Pixels by which the corner of the picture that is known least may be off: mean and two deviations of a fit."""
    middle = np.array([size[1], size[0]]) / 2
    places = (points - middle).astype(np.float64)
    corners = np.array([[x, y] for x in (-1, 1) for y in (-1, 1)]) * middle
    columns, at_corners = _zoom_and_shift(places), _zoom_and_shift(corners)
    # Even where points agree by chance they are known to a tenth of a pixel or so.
    solved = np.linalg.lstsq(columns, offsets.reshape(-1), rcond=None)[0]
    spread = max(float((offsets.reshape(-1) - columns @ solved).std()), 0.1)
    covariance = np.linalg.pinv(columns.T @ columns) * spread**2
    mean = (at_corners @ solved).reshape(-1, 2)
    variance = np.einsum("ij,jk,ik->i", at_corners, covariance, at_corners).reshape(-1, 2)
    return float((np.linalg.norm(mean, axis=1) + 2 * np.sqrt(variance.sum(axis=1))).max())


def _zoom_and_shift(places: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "coordinates 3"]:
    """What a zoom and a shift add to each coordinate of places."""
    ones = np.tile(np.eye(2), (len(places), 1))
    return np.c_[places.reshape(-1), ones]


def _corners(wanted: Gray, inside: Bool[np.ndarray, "height width"]) -> Float[np.ndarray, "points 2"]:
    """Pixels whose neighbourhoods can be told from those beside them."""
    scaled = cv2.normalize(wanted, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)  # type: ignore[call-overload]
    apart = max(wanted.shape) / 32
    found = cv2.goodFeaturesToTrack(scaled, MOST_POINTS, 0.02, apart, mask=(inside * 255).astype(np.uint8), blockSize=5)
    return np.zeros((0, 2), np.float32) if found is None else found[:, 0]


def _track(
    wanted: Gray, there: Gray, corners: Float[np.ndarray, "points 2"]
) -> tuple[Float[np.ndarray, "points 2"], Bool[np.ndarray, " points"]]:
    """How far each neighbourhood lies from its place, and whether it was found at all."""
    low, high = np.quantile(wanted, (0.005, 0.995))
    first, second = (
        np.clip((image - low) / (high - low + 1e-6) * 255, 0, 255).astype(np.uint8) for image in (wanted, there)
    )
    options: Any = {"winSize": (WINDOW, WINDOW), "maxLevel": 2}
    points = corners[:, None].astype(np.float32)
    to, there_found, _ = cv2.calcOpticalFlowPyrLK(
        first, second, points, points.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
    )
    back, back_found, _ = cv2.calcOpticalFlowPyrLK(
        second, first, to, points.copy(), flags=cv2.OPTFLOW_USE_INITIAL_FLOW, **options
    )
    offsets = (to - points)[:, 0]
    same = (there_found[:, 0] > 0) & (back_found[:, 0] > 0) & (np.linalg.norm((back - points)[:, 0], axis=1) < 0.5)
    likeness = np.array([_likeness(wanted, there, *pair) for pair in zip(corners, to[:, 0], strict=True)])
    return offsets, same & (likeness > ALIKE)


def _likeness(wanted: Gray, there: Gray, at: np.ndarray, to: np.ndarray) -> float:
    """The correlation of two neighbourhoods."""
    first, second = (
        cv2.getRectSubPix(image, (WINDOW, WINDOW), tuple(map(float, place)))
        for image, place in ((wanted, at), (there, to))
    )
    first, second = first - first.mean(), second - second.mean()
    return float((first * second).sum() / (np.sqrt((first**2).sum() * (second**2).sum()) + 1e-6))


def _undo(image: np.ndarray, matrix: Matrix) -> tuple[np.ndarray, Bool[np.ndarray, "height width"]]:
    """An image as it was before a motion, and which pixels of it there are."""
    size = image.shape[1::-1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    back = cv2.warpAffine(image, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    ones = np.ones(image.shape[:2], np.float32)
    seen = cv2.warpAffine(ones, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return back, seen > 0.999


def _warped(edited: Tensor, matrix: Matrix) -> tuple[Tensor, Tensor]:
    """An edited picture over its photograph, and which pixels of it there are."""
    if np.abs(matrix - np.eye(2, 3)).max() == 0:
        return edited, torch.ones_like(edited[:1], dtype=torch.bool)
    back, seen = _undo(_channels_last(edited), matrix)
    return torch.from_numpy(np.clip(back, 0, 1)).permute(2, 0, 1), torch.from_numpy(seen)[None]


def _moved(matrix: Matrix, size: tuple[int, int]) -> float:
    """Pixels by which a motion moves the corner that it moves most."""
    height, width = size
    corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
    return float(np.linalg.norm(corners @ matrix.astype(np.float64).T - corners[:, :2], axis=1).max())


def _is_small(matrix: Matrix, size: tuple[int, int]) -> bool:
    """Whether a motion is one that an editor makes by mistake."""
    return bool(np.isfinite(matrix).all() and _moved(matrix, size) <= MOST_SHIFT * np.sqrt(2) * max(size))


def _refused(edited: Tensor, fault: str) -> Registration:
    """A picture as it came, with why it is not to be used."""
    return Registration(
        edited, torch.ones_like(edited[:1], dtype=torch.bool), np.eye(2, 3, dtype=np.float32), 0.0, np.inf, 0.0, fault
    )


def _channels_last(image: Tensor) -> Float[np.ndarray, "height width 3"]:
    return np.ascontiguousarray(image.float().cpu().permute(1, 2, 0).numpy())


def _gray(image: Tensor) -> Gray:
    return cv2.cvtColor(_channels_last(image), cv2.COLOR_RGB2GRAY)


def _width_height(image: Tensor) -> tuple[int, int]:
    return int(image.shape[2]), int(image.shape[1])
