import json
import math
from pathlib import Path

from latenteditor.figures import markdown_table, read_figures, write_figures


def test_figures_are_strict_json_and_are_read_back(tmp_path):
    path = tmp_path / "new" / "figures.json"
    write_figures(path, {"psnr": math.nan, "best": math.inf, "worst": -math.inf, "iou": 0.5, "file": Path("a")})
    content = json.loads(path.read_text(), parse_constant=lambda name: 1 / 0)
    assert content == {"psnr": None, "best": "Infinity", "worst": "-Infinity", "iou": 0.5, "file": "a"}
    read = read_figures(path)
    assert math.isnan(read["psnr"])
    assert read["iou"] == 0.5


def test_nested_figures_are_strict_too(tmp_path):
    write_figures(tmp_path / "f.json", [{"cases": ({"x": math.nan}, [math.inf])}])
    assert json.loads((tmp_path / "f.json").read_text()) == [{"cases": [{"x": None}, ["Infinity"]]}]


def test_the_columns_of_a_table_are_aligned():
    lines = markdown_table(["a", "long head"], [["longer", "1"], ["b", "2"]])
    assert lines[0] == "| a      | long head |"
    assert len({len(line) for line in lines}) == 1
