"""What a comparison of methods refuses; that it runs is shown by ``tests/commands/test_benchmark.py``."""

from pathlib import Path
from typing import Any

import pytest

from latenteditor.benchmark.comparison import ComparisonConfig, prompts, require_sizes
from latenteditor.benchmark.world_runs import WorldFolder


def test_numbers_that_compare_nothing_are_refused():
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"methods": ()}, "not nothing"),
        ({"methods": ("in2n", "in2n")}, "each method once"),
        ({"kinds": ()}, "--kinds must name each kind once, not nothing"),
        ({"kinds": ("shape", "shape")}, "not shape shape"),
        ({"steps_per_point": 0}, "--steps-per-point must be 1 or more, not 0"),
        ({"lpips_weights": Path("absent.pth")}, "no weights of LPIPS absent.pth"),
    )
    for wrong, message in refused:
        with pytest.raises(ValueError, match=message):
            require_sizes(ComparisonConfig(**wrong))


def test_every_kind_is_asked_for_as_often():
    config = ComparisonConfig(kinds=("recolour", "removal"), num_prompts=2)
    asked = prompts(config, WorldFolder(Path("world"), 3_000_600, config, "cpu"))
    assert asked == [
        "make the cyan torus red", "make the purple cone yellow", "remove the cyan torus", "remove the purple cone",
    ]  # fmt: skip
