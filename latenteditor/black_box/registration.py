"""An edited picture laid back over its photograph: the motion that its editor added is found, undone and doubted.

Editors of whole pictures shift, zoom, crop and light anew. What the photograph shows outside the change is still there:
small neighbourhoods, all over the picture, are looked for around the place where a guess says that they are, and the
shift and zoom that most of those found agree on is the next guess. What changed is found nowhere, or elsewhere without
agreeing on anything; neither speaks against a motion on which enough of them, spread over the picture, agree.
"""

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
MOST_ZOOM = 0.2
"""Share by which a picture may have been zoomed. Our choice."""
TRUSTED_ERROR = 1.0
"""Pixels by which what is looked for may be off where it should be."""
LEAST_POINTS = 8
"""Neighbourhoods that must be found in their place for a registration to be believed. Measured by us."""
LEAST_PLACES = 5
"""Of the `PLACES` x `PLACES` places of a picture, those in which they must be. Measured by us."""
PLACES = 8
"""Places along each side of a picture."""
LEAST_FOUND = 0.35
"""Share of the neighbourhoods found anywhere that must be found in their place. Measured by us."""
TOLERANCES = (3.0, 1.0, 0.5)
"""Pixels within which neighbourhoods agree on a motion, one round of looking for them each. Measured by us."""
MOST_FEATURES = 2000
"""Features of SIFT in each picture, at most: what compares them grows with the square."""
MOST_PAIRS = 3000
"""Pairs of neighbourhoods that propose a motion, at most."""
REFITS = 5
"""Least-squares fits to those that agree, each to those that agree with the last."""
UNMOVED = 0.75
"""Pixels of motion below which a picture is taken for unmoved, and its pixels stay as they are. Our choice."""
STILL, AS_NEAR = 0.8, 2.5
"""Share of what the best motion finds in its place from which a picture is taken for unmoved, too, and by how much
farther from its place that may lie. Measured by us."""
MOST_POINTS = 300
"""Neighbourhoods that are looked for, at most."""
WINDOW = 15
"""Pixels along each side of a neighbourhood."""
SURE = 0.9
"""Share of them that ends the search for something better."""
ALIKE = 0.7
"""Correlation from which two neighbourhoods show the same."""

Gray = Float[np.ndarray, "height width"]
Matrix = Float[np.ndarray, "2 3"]
Points = Float[np.ndarray, "points 2"]


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
    """Pixels by which half of the neighbourhoods that lie where they should are off at most."""
    found: float
    """Share of the neighbourhoods that lie where they should."""
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
    matches = _features(photograph, edited)
    # Editors hardly turn pictures, and where there is little to see by a turn is easily imagined.
    best = _best(wanted, shown, matches, turns=False)
    if best is None or best.fault is not None:
        best = _best(wanted, shown, matches, turns=True) or best
    if best is None:
        return _refused(edited, "its picture is moved, turned or zoomed too far, or there is too little to see by")
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


def _features(photograph: Tensor, edited: Tensor) -> tuple[Points, Points]:
    """Where features of SIFT lie in both pictures."""
    finder: Any = cv2.SIFT_create(nfeatures=MOST_FEATURES, contrastThreshold=0.01)  # type: ignore[attr-defined]
    (points, described), (other_points, other_described) = (
        finder.detectAndCompute((_gray(image) * 255).astype(np.uint8), None) for image in (photograph, edited)
    )
    if described is None or other_described is None:
        return np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32)
    pairs = [pair for pair in cv2.BFMatcher().knnMatch(described, other_described, k=2) if len(pair) == 2]
    chosen = [first for first, second in pairs if first.distance < 0.85 * second.distance]
    source = [points[match.queryIdx].pt for match in chosen]
    target = [other_points[match.trainIdx].pt for match in chosen]
    return np.array(source, np.float32).reshape(-1, 2), np.array(target, np.float32).reshape(-1, 2)


def _guesses(wanted: Gray, shown: Gray, matches: tuple[Points, Points], turns: bool) -> list[Matrix]:
    """Motions to start from: what features say, none, and a shift."""
    # OpenCV multiplies the very arrays that it is given by the window.
    window = cv2.createHanningWindow(wanted.shape[::-1], cv2.CV_32F)
    (across, down), _ = cv2.phaseCorrelate(wanted.copy(), shown.copy(), window)
    guesses = [_agreed(*matches, TOLERANCES[0], turns), np.eye(2, 3), np.array([[1, 0, across], [0, 1, down]])]
    return [guess.astype(np.float32) for guess in guesses if guess is not None]


def _best(wanted: Gray, shown: Gray, matches: tuple[Points, Points], turns: bool) -> _Judgement | None:
    """The motion near one of the guesses by which most is found; None where all lead too far."""
    judged: list[_Judgement] = []
    for guess in _guesses(wanted, shown, matches, turns):
        matrix = _fit(wanted, shown, guess, turns)
        if matrix is None:
            continue
        judged.append(_judge(wanted, shown, matrix))
        if judged[-1].fault is None and judged[-1].found > SURE:
            break
    best = max(judged, key=lambda each: (each.fault is None, each.found, -each.error), default=None)
    if best is None:
        return None
    # Most pictures have not moved, and where an edit is blurred, a little motion is easily imagined.
    still = _judge(wanted, shown, np.eye(2, 3, dtype=np.float32), of_motion=False)
    as_well = best.fault is not None or still.error <= AS_NEAR * best.error
    unmoved = _moved(best.matrix, wanted.shape) <= UNMOVED or (still.found >= STILL * best.found and as_well)
    return still if still.fault is None and unmoved else best


def _fit(wanted: Gray, shown: Gray, guess: Matrix, turns: bool) -> Matrix | None:
    """The motion near a guess that most neighbourhoods agree on; None where they agree on none, or it leads too far."""
    matrix = guess
    for tolerance in TOLERANCES:
        there, inside = _undo(shown, matrix)
        corners = _corners(wanted, inside)
        if len(corners) < LEAST_POINTS:
            return None
        offsets, alike = _track(wanted, there, corners)
        step = _agreed(corners[alike], (corners + offsets)[alike], tolerance, turns)
        if step is None:
            return None
        matrix = (matrix.astype(np.float64) @ np.vstack([step, (0, 0, 1)])).astype(np.float32)
        if not _is_small(matrix, wanted.shape):
            return None
    return matrix


def _agreed(points: Points, places: Points, tolerance: float, turns: bool) -> Float[np.ndarray, "2 3"] | None:
    """The similarity from points to their places that most of them agree on; None where no two do.

    Every pair of points proposes one, and every single point a shift; where points are crowded each counts less. In
    complex numbers, a similarity is a product and a sum.
    """
    if len(points) < 2:
        return None
    source, target = (each.astype(np.float64) @ (1, 1j) for each in (points, places))
    factors, shifts = _proposals(source, target, turns)
    close = 1 - (np.abs(factors[:, None] * source + shifts[:, None] - target) / tolerance) ** 2
    chosen = int((close.clip(min=0) * _uncrowded(points)).sum(axis=1).argmax())
    near = close[chosen] > 0
    for _ in range(REFITS):
        if near.sum() < 2:
            return None
        from_middle, to_middle = source[near] - source[near].mean(), target[near] - target[near].mean()
        product = (to_middle * from_middle.conj()).sum() / max((np.abs(from_middle) ** 2).sum(), 1e-6)
        factor = product if turns else product.real
        shift = target[near].mean() - factor * source[near].mean()
        near = np.abs(factor * source + shift - target) < tolerance
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def _proposals(source: np.ndarray, target: np.ndarray, turns: bool) -> tuple[np.ndarray, np.ndarray]:
    """Factors and shifts of the similarities that pairs of points propose, and of the shifts of single ones."""
    first, second = np.triu_indices(len(source), 1)
    if len(first) > MOST_PAIRS:
        chosen = np.random.default_rng(0).choice(len(first), MOST_PAIRS, replace=False)
        first, second = first[chosen], second[chosen]
    apart = np.abs(source[second] - source[first]) > WINDOW
    first, second = first[apart], second[apart]
    factors = (target[second] - target[first]) / (source[second] - source[first])
    factors = factors if turns else factors.real
    usual = np.abs(np.abs(factors) - 1) < MOST_ZOOM
    factors, first, second = factors[usual], first[usual], second[usual]
    shifts = (target[first] + target[second] - factors * (source[first] + source[second])) / 2
    return np.concatenate([factors, np.ones(len(source))]), np.concatenate([shifts, target - source])


def _uncrowded(points: Points) -> Float[np.ndarray, " points"]:
    """What each of some points counts."""
    places = points * PLACES // max(float(points.max()), 1.0)
    _, inverse, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    return 1 / np.sqrt(counts[inverse.reshape(-1)])


def _judge(wanted: Gray, shown: Gray, matrix: Matrix, of_motion: bool = True) -> _Judgement:
    """Looks for neighbourhoods of the photograph around where a motion says that they are."""
    there, inside = _undo(shown, matrix)
    corners = _corners(wanted, inside)
    if len(corners) < LEAST_POINTS:
        return _Judgement(matrix, np.inf, 0.0, f"there is too little to see by: {len(corners)} points")
    offsets, alike = _track(wanted, there, corners)
    distances = np.linalg.norm(offsets, axis=1)
    near = alike & (distances <= TRUSTED_ERROR)
    error = float(np.median(distances[near])) if near.any() else np.inf
    places = len(np.unique(corners[near] * PLACES // max(wanted.shape), axis=0))
    fault = None
    if near.sum() < LEAST_POINTS or places < LEAST_PLACES or near.sum() < LEAST_FOUND * alike.sum():
        fault = f"only {near.sum()} of {len(corners)} points lie where they should, in {places} places"
    elif of_motion and _doubt(corners[near], offsets[near], wanted.shape) > TRUSTED_ERROR:
        fault = "what there is to see by does not tell where all of it lies"
    return _Judgement(matrix, error, float(near.mean()), fault)


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
    apart = max(wanted.shape) / 48
    found = cv2.goodFeaturesToTrack(scaled, MOST_POINTS, 0.01, apart, mask=(inside * 255).astype(np.uint8), blockSize=5)
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
