"""What a comparison of methods refuses; that it runs is shown by ``tests/commands/test_benchmark.py``."""

from pathlib import Path

import pytest

from latenteditor.benchmark.comparison import ComparisonConfig, require_sizes


def test_numbers_that_compare_nothing_are_refused():
    for wrong, message in (
        ({"methods": ()}, "not nothing"),
        ({"methods": ("in2n", "in2n")}, "each method once"),
        ({"steps_per_point": 0}, "--steps-per-point must be 1 or more, not 0"),
        ({"lpips_weights": Path("absent.pth")}, "no weights of LPIPS absent.pth"),
    ):
        with pytest.raises(ValueError, match=message):
            require_sizes(ComparisonConfig(**wrong))
