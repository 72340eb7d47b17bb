"""Black boxes by name: functions of somebody's own, pipelines of diffusers, and what is none."""

import sys

import pytest
import torch

from latenteditor.editing.black_box import Calls, NoPicture
from latenteditor.networks.black_boxes import PicturePipeline, is_black_box, load_black_box
from latenteditor.networks.black_boxes import _load_pipeline as load_pipeline
from latenteditor.networks.image_endpoint import EndpointConfig

PICTURE = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(0))
MODULE = """
from PIL import ImageOps

def plain(image, prompt):
    return ImageOps.invert(image)

def all_of_it(image, prompt, seed, references):
    return references[0] if seed == 5 else image

def broken(image, prompt):
    raise RuntimeError("out of ink")

def text(image, prompt):
    return prompt

def other(picture, prompt, strength):
    return picture
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"own_editor_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


def load(name: str, calls: Calls | None = None):
    return load_black_box(name, calls or Calls(), EndpointConfig(), "cpu")


def test_a_function_in_the_folder_of_the_command_edits_and_its_calls_are_counted(module):
    calls = Calls()
    made = load(f"{module}:plain", calls).edit_picture(PICTURE, "invert", 0, [])
    assert torch.allclose(made, 1 - PICTURE, atol=1 / 255)
    assert calls.made == 1


def test_a_function_gets_seed_and_references_where_it_takes_them(module):
    editor = load(f"{module}:all_of_it")
    assert editor.most_references > 0 and load(f"{module}:plain").most_references == 0
    other = PICTURE.flip(1)
    assert torch.allclose(editor.edit_picture(PICTURE, "", 5, [other]), other, atol=1 / 255)


def test_what_is_no_editor_is_said_in_a_sentence(module):
    for name, complaint in (
        ("nowhere.at_all:edit", "cannot be imported"),
        (f"{module}:missing", "has no function 'missing'"),
        (f"{module}:other", "cannot be called as function"),
    ):
        with pytest.raises(ValueError, match=complaint):
            load(name)
    for name, complaint in (("broken", "RuntimeError: out of ink"), ("text", "returned a str")):
        with pytest.raises(ValueError, match=complaint):
            load(f"{module}:{name}").edit_picture(PICTURE, "", 0, [])


def test_a_name_alone_imports_nothing(module):
    assert is_black_box(f"{module}:plain") and is_black_box("https://host/v1")
    assert not is_black_box("miniature")
    assert module not in sys.modules


def test_a_changed_function_is_another_editor(module, tmp_path):
    before = load(f"{module}:plain").identity
    (tmp_path / f"{module}.py").write_text(MODULE + "\n# changed\n")
    assert load(f"{module}:plain").identity != before


def test_a_pipeline_with_image_and_prompt_edits_by_its_seed(tiny_instruct_pix2pix_folder):
    calls = Calls()
    editor = load_black_box(str(tiny_instruct_pix2pix_folder), calls, EndpointConfig(), "cpu", steps=2)
    picture = torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(1))
    first, again, other = (editor.edit_picture(picture, "red", seed, []) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other) and calls.made == 3


def test_a_constant_picture_is_none(tiny_instruct_pix2pix_folder):
    class Black:
        def __call__(self, image, prompt, generator, output_type):
            return type("Made", (), {"images": [image.point(lambda _: 0)]})

    with pytest.raises(NoPicture):
        PicturePipeline("black", Black(), Calls()).edit_picture(PICTURE, "", 0, [])
    with pytest.raises(ValueError, match="no pipeline in the diffusers format"):
        load_pipeline(str(tiny_instruct_pix2pix_folder / "vae"), "cpu", False, False)
