"""A run that edits view after view keeps of them what its layers hold, and no more."""

import runpy
from pathlib import Path

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "scripts/measure_memory.py"))
EDITS, SETTLED = 32, 16
"""View edits, and how many until every view was edited twice."""


def test_memory_does_not_grow_with_the_edits(tiny_instruct_pix2pix_folder, tmp_path):
    config = SCRIPT["MemoryConfig"](tmp_path / "memory.png", EDITS, str(tiny_instruct_pix2pix_folder))
    noted = SCRIPT["measure"](config)
    assert noted["edits"] == list(range(1, EDITS + 1)) and min(noted["resident_bytes"]) > 0
    middle = (SETTLED + EDITS) // 2
    before, after = (min(noted["tensors"][span]) for span in (slice(SETTLED, middle), slice(middle, None)))
    # What a whole view leaves for the adapter comes and goes; what is kept of an edit stays.
    assert after - before < (EDITS - middle) / 2, noted["tensors"]
    SCRIPT["draw"](config.output, noted)
    assert config.output.stat().st_size > 0
