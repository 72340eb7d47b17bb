"""The page that is handed over: one file, harmless whatever the data hold, and usable by mouse and keyboard."""

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image

from latenteditor.handoff import page_pictures, report_page
from latenteditor.handoff.page_pictures import LONGEST_SIDE, data_uri, mean_difference, measure_change
from latenteditor.handoff.report_page import Page, Pair, Stage, write_page
from latenteditor.handoff.wording import NOTHING, duration, in_words, memory
from tests.browser import CHROMIUM, browser, wait_for

HOSTILE = """</title></style><script>alert(1)</script>"'><img src=x onerror=alert(1)>&amp;{{ 7 * 7 }}"""
BYTES_A_PAGE = 10_000_000
"""Of a page with eight views, film aside."""


class Parsed(HTMLParser):
    """A page as a browser's parser sees it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, {name: value or "" for name, value in attributes}))
        self.texts.setdefault(tag, []).append("")
        self._open = tag

    def handle_data(self, data):
        if self._open:
            self.texts[self._open][-1] += data

    def handle_endtag(self, tag):
        self._open = ""

    def all(self, wanted: str, **attributes: str) -> list[dict[str, str]]:
        return [
            found
            for tag, found in self.tags
            if tag == wanted and all(found.get(name.rstrip("_")) == value for name, value in attributes.items())
        ]


def picture(address: str) -> Image.Image:
    kind, content = address.split(",", 1)
    assert kind.startswith("data:image/") and kind.endswith(";base64")
    return Image.open(BytesIO(base64.b64decode(content)))


def photograph(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture with detail of every size, as photographs have."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for octave in range(2, 10):
        noise = Image.fromarray(generator.integers(0, 256, (2**octave, 2**octave, 3), dtype=np.uint8))
        total += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), dtype=float) / 1.6**octave
    return (255 * (total - total.min()) / np.ptp(total)).astype(np.uint8)


def make_pair(folder: Path, name: str = "frame_1.png", height: int = 48, width: int = 64, masked: bool = True) -> Pair:
    """A view that changed by 40 in its left half, and by 2 elsewhere."""
    folder.mkdir(parents=True, exist_ok=True)
    before = photograph(height, width) // 2
    inside = np.arange(width)[None] < width // 2
    after = before + np.where(inside, 40, 2)[..., None].astype(np.uint8)
    mask = np.broadcast_to(inside, (height, width))
    paths = [folder / f"{kind}_{name}" for kind in ("before", "after", "mask")]
    for path, content in zip(paths, (before, after, mask), strict=True):
        Image.fromarray(content).save(path, "PNG")
    return Pair(name, paths[0], paths[1], paths[2] if masked else None)


@pytest.fixture
def page(tmp_path) -> Page:
    return Page(
        prompt="make the cone blue",
        pairs=[make_pair(tmp_path / "views", f"frame_{number}.png") for number in range(2)],
        stages=[Stage("learn the scene", 754.2, 2048.0), Stage("edit", 65.0)],
        settings={"pipeline.edit.prompt": "make the cone blue", "machine.seed": 42},
        figures={"outside, dB": 41.2, "clip": {"direction": 0.1875}},
        commands=["ns-viewer --load-config config.yml"],
        files={"the run": "outputs/run"},
    )


def written(folder: Path, page: Page) -> str:
    write_page(folder / "report.html", page)
    return (folder / "report.html").read_text("utf8")


def test_a_page_refers_to_nothing_outside_its_folder(tmp_path, page):
    text = written(tmp_path, page)
    for _, attributes in Parsed(text).tags:
        for name in ("src", "href", "poster", "srcset", "action"):
            assert attributes.get(name, "./").startswith(("data:", "./")), attributes
    assert not re.search(r"https?:|//www|@import|url\(|fetch\(|XMLHttp", text)


def test_the_policy_allows_what_the_page_holds_and_nothing_else(tmp_path, page):
    text = written(tmp_path, page)
    parsed = Parsed(text)
    (policy,) = (meta["content"] for meta in parsed.all("meta", **{"http-equiv": "Content-Security-Policy"}))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    (script,) = parsed.texts["script"]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert rules["default-src"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == f"'sha256-{own}'"
    assert rules["img-src"] == "data:"
    assert text.index("Content-Security-Policy") < text.index("<style>")


def test_whatever_the_data_hold_is_shown_as_text(tmp_path, page):
    harmless = Parsed(written(tmp_path, page))
    hostile = replace(
        page,
        prompt=HOSTILE,
        pairs=[replace(pair, name=HOSTILE) for pair in page.pairs],
        stages=[replace(stage, name=HOSTILE) for stage in page.stages],
        settings={HOSTILE: HOSTILE, "list": [HOSTILE]},
        figures={HOSTILE: HOSTILE, "group": {HOSTILE: [HOSTILE]}},
        commands=[HOSTILE],
        files={HOSTILE: HOSTILE},
    )
    parsed = Parsed(written(tmp_path, hostile))
    assert [tag for tag, _ in parsed.tags] == [tag for tag, _ in harmless.tags]
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert parsed.texts["h1"] == [HOSTILE]
    assert HOSTILE in parsed.texts["code"]
    assert parsed.texts["h3"] == [HOSTILE, HOSTILE]


def test_names_of_files_may_hold_quotes_and_spaces(tmp_path, page):
    name = """a "b" 'c' <d> #é?%41.png"""
    video = tmp_path / """film "x" #1.mp4"""
    video.write_bytes(b"film")
    text = written(tmp_path, replace(page, pairs=[make_pair(tmp_path / "o'clock", name)], video=video))
    parsed = Parsed(text)
    assert parsed.texts["h3"] == [name]
    (link,) = (link["href"] for link in parsed.all("a") if "film" in link["href"])
    assert unquote(link) == f"./{video.name}"
    assert not set("\"'<># ") & set(link)


@pytest.mark.parametrize("place", ["javascript:alert(1)", "https://example.org/x", "//example.org/x", "../x", "/etc/x"])
def test_links_lead_to_files_and_never_to_another_scheme_or_host(tmp_path, page, place):
    (link,) = Parsed(written(tmp_path, replace(page, files={"file": place}))).all("a")
    assert link["href"].startswith("./") and ":" not in link["href"]


@pytest.mark.parametrize("prompt", ["把杯子变成蓝色", "اجعل الكوب أزرق", "rends la tasse bleue 🫖", "a" * 2000])
def test_a_prompt_in_any_language_stands_in_the_title(tmp_path, page, prompt):
    parsed = Parsed(written(tmp_path, replace(page, prompt=prompt)))
    assert parsed.texts["h1"] == [prompt]
    assert parsed.all("h1", dir="auto")


def test_names_that_are_no_text_do_not_stop_a_page(tmp_path, page):
    assert "caf?" in written(tmp_path, replace(page, files={"file": "caf\udce9"}))


def test_eight_views_of_a_large_capture_make_a_page_that_can_be_sent(tmp_path, page):
    pair = make_pair(tmp_path / "large", height=1500, width=2000)
    write_page(tmp_path / "report.html", replace(page, pairs=[pair]))
    assert (tmp_path / "report.html").stat().st_size < BYTES_A_PAGE / 8
    parsed = Parsed((tmp_path / "report.html").read_text("utf8"))
    assert picture(parsed.all("img", class_="after")[0]["src"]).size == (LONGEST_SIDE, LONGEST_SIDE * 3 // 4)
    assert picture(parsed.all("img", class_="mask")[0]["src"]).size == (LONGEST_SIDE, LONGEST_SIDE * 3 // 4)


def test_small_pictures_keep_their_size_and_look(tmp_path, page):
    (before, *_), pair = Parsed(written(tmp_path, page)).all("img"), page.pairs[0]
    shown, original = (
        np.asarray(one.convert("RGB"), float) for one in (picture(before["src"]), Image.open(pair.before))
    )
    assert shown.shape == original.shape
    assert abs(shown - original).mean() < 8


def test_of_many_views_some_are_shown_evenly_spread(tmp_path, page):
    pair = page.pairs[0]
    pairs = [replace(pair, name=f"view {number}") for number in range(11)]
    text = written(tmp_path, replace(page, pairs=pairs, most_pairs=3))
    assert Parsed(text).texts["h3"] == ["view 0", "view 5", "view 10"]
    assert "3 of 11 held-out views are shown" in text


def test_a_mask_darkens_what_it_leaves_out(tmp_path, page):
    (mask, _) = Parsed(written(tmp_path, page)).all("img", class_="mask")
    alpha = np.asarray(picture(mask["src"]).convert("RGBA"))[..., 3]
    assert "hidden" in mask
    assert (alpha[:, :30] == 0).all()
    assert (alpha[:, 31] == 255).all(), "the outline"
    assert ((alpha[:, 32:] > 100) & (alpha[:, 32:] < 255)).all()


def test_change_is_averaged_on_both_sides_of_the_mask(tmp_path, page):
    text = written(tmp_path, page)
    assert "<dd>2.00<small> / 255</small></dd>" in text
    assert "<dd>40.00<small> / 255</small></dd>" in text


def test_change_has_no_average_where_there_is_nothing():
    zeros = np.zeros((4, 4, 3), dtype=np.uint8)
    difference = mean_difference(zeros, zeros + np.uint8(255))
    assert measure_change(difference, np.ones((4, 4), dtype=bool)) == (255.0, 255.0, None)
    assert measure_change(difference, np.zeros((4, 4), dtype=bool)) == (255.0, None, 255.0)
    assert measure_change(difference, None) == (255.0, None, None)


def test_a_view_without_mask_is_averaged_as_a_whole_and_has_nothing_to_toggle(tmp_path, page):
    text = written(tmp_path, replace(page, pairs=[make_pair(tmp_path / "views", masked=False)]))
    assert "<dd>21.00<small> / 255</small></dd>" in text
    assert not Parsed(text).all("input", type="checkbox")
    assert not Parsed(text).all("img", class_="mask")


def test_a_difference_is_dark_where_nothing_changed_and_brighter_where_more_did():
    steps = np.linspace(0, 255 / page_pictures.AMPLIFICATION, 9, dtype=np.float32)[None]
    brightness = page_pictures.heat(steps).astype(int).sum(axis=-1)[0]
    assert brightness[0] < 50
    assert (np.diff(brightness) > 0).all()


def test_a_photograph_larger_than_its_render_is_compared_at_the_render_s_size(tmp_path, page):
    pair = make_pair(tmp_path / "views")
    Image.open(pair.before).resize((640, 480)).save(pair.before)
    Image.open(pair.mask).resize((32, 24)).save(pair.mask)
    parsed = Parsed(written(tmp_path, replace(page, pairs=[pair])))
    assert {picture(image["src"]).size for image in parsed.all("img")} == {(64, 48)}


def test_pictures_of_different_shapes_are_refused(tmp_path, page):
    pair = make_pair(tmp_path / "views")
    Image.open(pair.before).rotate(90, expand=True).save(pair.before)
    with pytest.raises(ValueError, match="'frame_1.png' cannot lie over each other: 48 x 64 pixels before and 64 x 48"):
        write_page(tmp_path / "report.html", replace(page, pairs=[pair]))


def test_all_missing_pictures_are_named_in_one_error_and_nothing_is_written(tmp_path, page):
    page.pairs[0].before.unlink()
    (page.pairs[1].mask or Path()).unlink()
    with pytest.raises(ValueError, match=r"Of 6 pictures for the page 2 cannot be found: .*before_.*, .*mask_.*\.$"):
        write_page(tmp_path / "out" / "report.html", page)
    assert not (tmp_path / "out").exists()


def test_a_broken_picture_is_named(tmp_path, page):
    page.pairs[0].after.write_bytes(page.pairs[0].after.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"after_frame_0.png cannot be read as a picture"):
        write_page(tmp_path / "report.html", page)


def test_a_page_that_cannot_be_written_leaves_the_last_one(tmp_path, page, monkeypatch):
    file = tmp_path / "out" / "report.html"
    write_page(file, page)
    before = file.read_bytes()

    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(report_page.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_page(file, replace(page, prompt="another"))
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_the_same_data_make_the_same_bytes(tmp_path, page):
    assert written(tmp_path, page) == written(tmp_path, page)


def test_a_page_without_anything_says_so(tmp_path):
    text = written(tmp_path, Page("nothing", pairs=[], stages=[], settings={}, figures={}))
    assert "No held-out views were compared." in text
    assert not {"article", "table", "video", "details", "button"} & {tag for tag, _ in Parsed(text).tags}


def test_figures_that_could_not_be_had_are_shown_as_such(tmp_path, page):
    figures = {"none": None, "nan": math.nan, "group": {"deep": {"numpy": np.float32("nan"), "infinite": math.inf}}}
    stages = [Stage("first", math.nan, math.nan), Stage("second", 0.0, None), Stage("third", 3.0, 12.0)]
    text = written(tmp_path, replace(page, figures=figures, stages=stages))
    figures_shown, times_and_memories = [NOTHING, NOTHING, NOTHING, "∞"], [NOTHING, NOTHING, "0.0 s", NOTHING]
    values = re.findall(r'<td class="number">([^<]*)', text)
    assert values == [*figures_shown, *times_and_memories, "3.0 s", "12 MiB", "3.0 s"]
    assert re.findall("--share: ([^%]*)%", text) == ["0.0", "0.0", "0.0", "0.0", "100.0", "100.0"]


def test_a_small_film_lies_in_the_page_and_a_large_one_beside_it(tmp_path, page, monkeypatch):
    film = tmp_path / "films" / "path.mp4"
    film.parent.mkdir()
    film.write_bytes(b"film")
    page = replace(page, video=film)
    (video,) = Parsed(written(tmp_path, page)).all("video")
    assert video["src"] == data_uri("video/mp4", b"film")
    monkeypatch.setattr(report_page, "LARGEST_VIDEO", 3)
    (video,) = Parsed(written(tmp_path / "pages", page)).all("video")
    assert video["src"] == "./../films/path.mp4"
    film.unlink()
    with pytest.raises(ValueError, match="The video for the page cannot be found: .*path.mp4"):
        write_page(tmp_path / "report.html", page)


def test_settings_are_shown_to_the_last_digit(tmp_path, page):
    settings = {"lr": 0.00123456789, "mask": None, "flag": True}
    codes = Parsed(written(tmp_path, replace(page, settings=settings))).texts["code"]
    assert codes[-6:] == ["lr", "0.00123456789", "mask", "None", "flag", "True"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (754.2, "12 min 34 s"), (3599.6, "1 h 00 min")],
)
def test_durations_are_written_in_fitting_units(seconds, words):
    assert duration(seconds) == words


def test_figures_are_written_with_four_digits():
    assert [in_words(value) for value in (41.23456, 12345.6, 7, True, [1, 0.5], "a", np.int64(3), 1e-9)] == [
        *("41.23", "12346", "7", "yes", "1, 0.5", "a", "3", "1e-09")
    ]
    assert [memory(mib) for mib in (12.3, 2048.0, None)] == ["12 MiB", "2.0 GiB", NOTHING]


def test_what_the_page_is_made_of_is_installed_with_the_package():
    tomllib = pytest.importorskip("tomllib")
    project = Path(__file__).parents[2]
    patterns = tomllib.loads((project / "pyproject.toml").read_text("utf8"))["tool"]["setuptools"]["package-data"]
    folder = project / "latenteditor" / "handoff"
    installed = {path for pattern in patterns["latenteditor.handoff"] for path in folder.glob(pattern)}
    assert {path.name for path in installed} == {"report.html", "report.css", "report.js"}


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, chromium-browser or google-chrome on the path")
def test_a_view_is_compared_by_keyboard_and_mouse_in_a_browser(tmp_path, page):
    write_page(tmp_path / "report.html", replace(page, prompt=HOSTILE))
    with browser(tmp_path) as shown:
        shown.open((tmp_path / "report.html").as_uri())
        shown.sees("Before and after")
        clip = "getComputedStyle(document.querySelector('.after')).clipPath"
        wait_for("the slider", lambda: shown.run(clip) == "inset(0px 0px 0px 50%)")

        shown.key("Tab", 9)
        assert shown.run("document.activeElement.type") == "range"
        for _ in range(3):
            shown.key("ArrowRight", 39)
        wait_for("the keys", lambda: shown.run(clip) == "inset(0px 0px 0px 53%)")
        assert shown.run("document.activeElement.getAttribute('aria-valuetext')") == "53 % before"

        left, top, width = shown.run(
            "(box => [box.x, box.y, box.width])(document.querySelector('.frame').getBoundingClientRect())"
        )
        for kind, share in (("mousePressed", 0.5), ("mouseMoved", 0.75), ("mouseReleased", 0.75), ("mouseMoved", 0.1)):
            where = {"x": left + share * width, "y": top + 20}
            shown.command("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **where)
        wait_for("the mouse", lambda: shown.run(clip) == "inset(0px 0px 0px 75%)")

        hidden = "document.querySelector('.mask').hidden"
        assert shown.run(hidden)
        shown.run("document.querySelector('.switch').click()")
        assert not shown.run(hidden)

        shown.press("Copy")
        shown.sees("Copied")
        assert shown.run("[...document.images].every(image => image.naturalWidth > 0)")
        shown.screenshot("report")
        assert not shown.complaints
        assert not shown.logged
