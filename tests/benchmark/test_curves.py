import math

import pytest

from latenteditor.benchmark.curves import Point, crossing


def curve(*rows: tuple[float, float, float]) -> list[Point]:
    """Points from (seconds, inside, outside); every second takes two of the cores."""
    return [Point(float(time), 2.0 * time, 0, 0, 0, float(inside), float(outside)) for time, inside, outside in rows]


def test_crossing_is_interpolated_between_points():
    points = curve((0, 10, 30), (10, 10, 30), (20, 20, 30))
    assert crossing(points, {"inside": 15.0}) == pytest.approx(15)
    assert crossing(points, {"inside": 20.0}) == pytest.approx(20)
    assert crossing(points, {"inside": 15.0}, clock="cpu_seconds") == pytest.approx(30)


def test_what_is_never_reached_takes_forever():
    assert crossing(curve((0, 10, 30), (20, 20, 30)), {"inside": 20.1}) == math.inf
    assert crossing(curve((0, 10, 30), (20, 20, 30)), {"inside": 15.0, "outside": 30.1}) == math.inf
    assert crossing([], {"inside": 0.0}) == math.inf


def test_what_is_there_at_first_takes_until_the_first_point():
    assert crossing(curve((0, 10, 30), (20, 20, 30)), {"inside": 9.0}) == 0
    assert crossing(curve((7, 10, 30)), {"inside": 10.0}) == 7


def test_the_first_of_several_crossings_counts():
    assert crossing(curve((0, 0, 30), (10, 10, 30), (20, 0, 30), (30, 20, 30)), {"inside": 5.0}) == pytest.approx(5)


def test_both_figures_must_hold_at_one_time():
    # Inside is high when outside is low, and the other way round: from 10 to 20 they pass each other.
    apart = curve((0, 0, 30), (10, 20, 20), (20, 10, 30))
    assert crossing(apart, {"inside": 12.0, "outside": 20.0}) == pytest.approx(6)
    assert crossing(apart, {"inside": 14.0, "outside": 26.0}) == pytest.approx(16)
    assert crossing(apart, {"inside": 16.0, "outside": 27.0}) == math.inf
    # The rest is damaged first, and recovers while the region stays right.
    assert crossing(curve((0, 0, 30), (10, 20, 20), (20, 20, 30)), {"inside": 15.0, "outside": 28.0}) == pytest.approx(
        18
    )


def test_what_was_not_measured_reaches_nothing():
    assert crossing(curve((0, 0, 30), (10, math.nan, 30), (20, 20, 30)), {"inside": 5.0}) == math.inf
